//! What a sealed value is for: the binding, its scopes, and the target that it is compared with.
//!
//! Names are validated here, so that a binding has exactly one encoding. There are no secrets in
//! this file, and no cryptography: that nobody can change a binding is the header MAC's work.

use std::fmt;
use std::str::FromStr;

/// The tag of the binding stanza, which carries the version of the sealed format.
pub(crate) const TAG: &str = "bulla.dev/v1";

/// Stands where a scope does not bind a field. It is no DNS name, so it cannot be mistaken for one.
const UNBOUND: &str = "-";

/// Who may reuse a sealed value. The data key is bound in every scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Only the Secret of the given namespace and name.
    #[default]
    Strict,
    /// Any Secret of the given namespace.
    Namespace,
    /// Any Secret of the cluster.
    Cluster,
}

impl Scope {
    /// The word that stands in the binding stanza.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Namespace => "namespace",
            Self::Cluster => "cluster",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Says which part of a target is not a valid Kubernetes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// Not a DNS label: at most 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
    #[error("the namespace is not a DNS label")]
    Namespace,
    /// Not a DNS subdomain: labels joined by dots, at most 253 characters.
    #[error("the name is not a DNS subdomain")]
    Name,
    /// Not a Secret's data key: 1 to 253 of `a-z`, `A-Z`, `0-9`, `-`, `_`, `.`, not beginning with `..`.
    #[error("the key is not a valid data key of a Secret")]
    Key,
}

/// The place that a value is unsealed for: one data key of one Secret.
///
/// A reader takes it from the object that it unseals, never from the sealed value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    namespace: String,
    name: String,
    key: String,
}

impl Target {
    /// A target with valid names, or which of them is not valid.
    ///
    /// ```
    /// use bulla_sealing::{InvalidTarget, Target};
    /// assert!(Target::new("prod", "db.internal", "tls.crt").is_ok());
    /// assert_eq!(Target::new("Prod", "db", "password"), Err(InvalidTarget::Namespace));
    /// ```
    pub fn new(namespace: &str, name: &str, key: &str) -> Result<Self, InvalidTarget> {
        if !is_dns_label(namespace) {
            return Err(InvalidTarget::Namespace);
        }
        if !is_dns_subdomain(name) {
            return Err(InvalidTarget::Name);
        }
        if !is_data_key(key) {
            return Err(InvalidTarget::Key);
        }
        Ok(Self { namespace: namespace.into(), name: name.into(), key: key.into() })
    }

    /// The namespace of the Secret.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the Secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data key within the Secret.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of {}/{}", self.key, self.namespace, self.name)
    }
}

/// What ties a sealed value to scope, namespace, name and data key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// For one data key of one Secret.
    Strict(Target),
    /// For one data key of any Secret in a namespace.
    Namespace {
        /// The namespace.
        namespace: String,
        /// The data key.
        key: String,
    },
    /// For one data key of any Secret in the cluster.
    Cluster {
        /// The data key.
        key: String,
    },
}

impl Binding {
    /// The binding that permits `target` and what `scope` allows beyond it.
    pub fn new(scope: Scope, target: &Target) -> Self {
        let Target { namespace, key, .. } = target.clone();
        match scope {
            Scope::Strict => Self::Strict(target.clone()),
            Scope::Namespace => Self::Namespace { namespace, key },
            Scope::Cluster => Self::Cluster { key },
        }
    }

    /// Whether a value with this binding may be unsealed for `target`.
    ///
    /// ```
    /// use bulla_sealing::{Binding, Scope, Target};
    /// let binding = Binding::new(Scope::Namespace, &Target::new("prod", "db", "password")?);
    /// assert!(binding.permits(&Target::new("prod", "cache", "password")?));
    /// assert!(!binding.permits(&Target::new("dev", "db", "password")?));
    /// assert!(!binding.permits(&Target::new("prod", "db", "user")?));
    /// # Ok::<(), bulla_sealing::InvalidTarget>(())
    /// ```
    pub fn permits(&self, target: &Target) -> bool {
        match self {
            Self::Strict(bound) => bound == target,
            Self::Namespace { namespace, key } => {
                *namespace == target.namespace && *key == target.key
            }
            Self::Cluster { key } => *key == target.key,
        }
    }

    /// The scope.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Strict(_) => Scope::Strict,
            Self::Namespace { .. } => Scope::Namespace,
            Self::Cluster { .. } => Scope::Cluster,
        }
    }

    /// The namespace, where the scope binds one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Strict(target) => Some(target.namespace()),
            Self::Namespace { namespace, .. } => Some(namespace),
            Self::Cluster { .. } => None,
        }
    }

    /// The name, where the scope binds one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Strict(target) => Some(target.name()),
            Self::Namespace { .. } | Self::Cluster { .. } => None,
        }
    }

    /// The data key, which every scope binds.
    pub fn key(&self) -> &str {
        match self {
            Self::Strict(target) => target.key(),
            Self::Namespace { key, .. } | Self::Cluster { key } => key,
        }
    }

    /// The four arguments of the binding stanza.
    pub(crate) fn args(&self) -> [&str; 4] {
        [
            self.scope().as_str(),
            self.namespace().unwrap_or(UNBOUND),
            self.name().unwrap_or(UNBOUND),
            self.key(),
        ]
    }

    /// Reads the arguments of the binding stanza; the error says what is wrong with them.
    pub(crate) fn parse(args: &[&str]) -> Result<Self, &'static str> {
        let [scope, namespace, name, key] = *args else {
            return Err("the binding has not exactly four arguments");
        };
        let invalid = |error| match error {
            InvalidTarget::Namespace => "the namespace of the binding is not a DNS label",
            InvalidTarget::Name => "the name of the binding is not a DNS subdomain",
            InvalidTarget::Key => "the key of the binding is not a valid data key",
        };
        match (scope, namespace, name) {
            ("strict", ..) => Target::new(namespace, name, key).map(Self::Strict).map_err(invalid),
            ("namespace", _, UNBOUND) if !is_dns_label(namespace) => {
                Err(invalid(InvalidTarget::Namespace))
            }
            ("namespace" | "cluster", ..) if !is_data_key(key) => Err(invalid(InvalidTarget::Key)),
            ("namespace", _, UNBOUND) => {
                Ok(Self::Namespace { namespace: namespace.into(), key: key.into() })
            }
            ("cluster", UNBOUND, UNBOUND) => Ok(Self::Cluster { key: key.into() }),
            ("namespace" | "cluster", ..) => Err("the binding names what its scope does not bind"),
            _ => Err("the scope of the binding is unknown"),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict(target) => target.fmt(f),
            Self::Namespace { namespace, key } => {
                write!(f, "key {key} of any Secret in namespace {namespace}")
            }
            Self::Cluster { key } => write!(f, "key {key} of any Secret in the cluster"),
        }
    }
}

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Strict, Self::Namespace, Self::Cluster]
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or("a scope is strict, namespace or cluster")
    }
}

/// Whether `text` is a DNS label (RFC 1123), as a namespace's name must be.
pub fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

/// Whether `text` is a DNS subdomain as Kubernetes defines it for the names of objects.
pub fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether `text` may be a data key of a Secret.
pub fn is_data_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_has_one_encoding_that_parses_back() {
        let target = Target::new("prod", "db.internal", "tls.crt").unwrap();
        for scope in [Scope::Strict, Scope::Namespace, Scope::Cluster] {
            let binding = Binding::new(scope, &target);
            assert_eq!(Binding::parse(&binding.args()), Ok(binding.clone()));
            assert!(binding.permits(&target));
        }
    }

    #[test]
    fn malformed_bindings_are_refused() {
        for args in [
            &["strict", "prod", "db"][..],
            &["strict", "prod", "db", "password", "more"],
            &["Strict", "prod", "db", "password"],
            &["strict", "-", "db", "password"],
            &["strict", "prod", "-", "password"],
            &["strict", "prod", "db", ".."],
            &["strict", "prod", "db..internal", "password"],
            &["strict", "prod", "-db", "password"],
            &["namespace", "-", "-", "password"],
            &["namespace", "prod", "db", "password"],
            &["namespace", "prod", "-", "pass/word"],
            &["cluster", "prod", "-", "password"],
            &["cluster", "-", "db", "password"],
            &["cluster", "-", "-", ""],
        ] {
            assert!(Binding::parse(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn names_keep_to_the_limits_of_kubernetes() {
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)));
        assert!(is_dns_subdomain(&"a".repeat(253)) && !is_dns_subdomain(&"a".repeat(254)));
        assert!(is_data_key(&"A".repeat(253)) && !is_data_key(&"A".repeat(254)));
        assert!(is_data_key(".dockerconfigjson") && !is_data_key("..data") && !is_data_key("."));
    }
}
