//! What a sealed value is for: the binding, its scopes, and the address that it is compared with.
//!
//! Names are validated here, so that a binding has exactly one encoding. This file has no secrets
//! and no cryptography: the header MAC keeps a binding from being changed.

use std::fmt;
use std::str::FromStr;

use crate::address::{InvalidAddress, ValueAddress};
use crate::names::{is_data_key, is_dns_label};

/// The tag of the binding stanza, which carries the version of the sealed format.
pub(crate) const TAG: &str = "bulla.dev/v1";

/// Written for a field that the scope does not bind. It is not a DNS name, so it cannot be mistaken for one.
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
    /// The word written in the binding stanza.
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

impl FromStr for Scope {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Strict, Self::Namespace, Self::Cluster]
            .into_iter()
            .find(|scope| scope.as_str() == word)
            .ok_or("a scope is strict, namespace or cluster")
    }
}

/// What ties a sealed value to scope, namespace, name and data key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// For one data key of one Secret.
    Strict(ValueAddress),
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
    /// The binding that permits `address` and what `scope` allows beyond it.
    pub fn new(scope: Scope, address: &ValueAddress) -> Self {
        let (namespace, key) = (address.namespace().to_owned(), address.key().to_owned());
        match scope {
            Scope::Strict => Self::Strict(address.clone()),
            Scope::Namespace => Self::Namespace { namespace, key },
            Scope::Cluster => Self::Cluster { key },
        }
    }

    /// Whether a value with this binding may be unsealed for `address`.
    ///
    /// ```
    /// use bulla_sealing::{Binding, Scope, ValueAddress};
    /// let binding = Binding::new(Scope::Namespace, &ValueAddress::new("prod", "db", "password")?);
    /// assert!(binding.permits(&ValueAddress::new("prod", "cache", "password")?));
    /// assert!(!binding.permits(&ValueAddress::new("dev", "db", "password")?));
    /// assert!(!binding.permits(&ValueAddress::new("prod", "db", "user")?));
    /// # Ok::<(), bulla_sealing::InvalidAddress>(())
    /// ```
    pub fn permits(&self, address: &ValueAddress) -> bool {
        match self {
            Self::Strict(bound) => bound == address,
            Self::Namespace { namespace, key } => {
                namespace == address.namespace() && key == address.key()
            }
            Self::Cluster { key } => key == address.key(),
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

    /// The namespace, if the scope binds one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Strict(address) => Some(address.namespace()),
            Self::Namespace { namespace, .. } => Some(namespace),
            Self::Cluster { .. } => None,
        }
    }

    /// The name, if the scope binds one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Strict(address) => Some(address.name()),
            Self::Namespace { .. } | Self::Cluster { .. } => None,
        }
    }

    /// The data key, which every scope binds.
    pub fn key(&self) -> &str {
        match self {
            Self::Strict(address) => address.key(),
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
            return Err("the binding does not have exactly four arguments");
        };
        let invalid = |error| match error {
            InvalidAddress::Namespace => "the namespace of the binding is not a DNS label",
            InvalidAddress::Name => "the name of the binding is not a DNS subdomain",
            InvalidAddress::Key => "the key of the binding is not a valid data key",
        };
        match (scope, namespace, name) {
            ("strict", ..) => {
                ValueAddress::new(namespace, name, key).map(Self::Strict).map_err(invalid)
            }
            ("namespace", _, UNBOUND) if !is_dns_label(namespace) => {
                Err(invalid(InvalidAddress::Namespace))
            }
            ("namespace" | "cluster", ..) if !is_data_key(key) => Err(invalid(InvalidAddress::Key)),
            ("namespace", _, UNBOUND) => {
                Ok(Self::Namespace { namespace: namespace.into(), key: key.into() })
            }
            ("cluster", UNBOUND, UNBOUND) => Ok(Self::Cluster { key: key.into() }),
            ("namespace" | "cluster", ..) => {
                Err("the binding names a field that its scope does not bind")
            }
            _ => Err("the scope of the binding is unknown"),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict(address) => address.fmt(f),
            Self::Namespace { namespace, key } => {
                write!(f, "key {key} of any Secret in namespace {namespace}")
            }
            Self::Cluster { key } => write!(f, "key {key} of any Secret in the cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_only_from_its_own_word() {
        for scope in [Scope::Strict, Scope::Namespace, Scope::Cluster] {
            assert_eq!(scope.as_str().parse::<Scope>(), Ok(scope));
        }
        for word in ["", "Strict", "strict ", "global"] {
            assert!(word.parse::<Scope>().is_err(), "{word}");
        }
    }

    #[test]
    fn every_binding_has_one_encoding_that_parses_back() {
        let address = ValueAddress::new("prod", "db.internal", "tls.crt").unwrap();
        for scope in [Scope::Strict, Scope::Namespace, Scope::Cluster] {
            let binding = Binding::new(scope, &address);
            assert_eq!(Binding::parse(&binding.args()), Ok(binding.clone()));
            assert!(binding.permits(&address));
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
}
