//! Rules that need no key and no cluster. The CLI's `lint`, the controller and the schema share them.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Secret;
use serde::de::IgnoredAny;

use crate::{IDENTITY_SECRET_TYPE, SealedSecret, TemplateMetadata};

/// The most values in one SealedSecret.
pub const MAX_VALUES: usize = 256;

/// The most sealed data in one SealedSecret, in bytes of its age files.
pub const MAX_SEALED_BYTES: usize = 1024 * 1024;

/// How every sealed value begins: the base64 of `age-encryption.org/v1`, a new line and `-> bulla.dev/v1`,
/// as far as it does not depend on what follows.
pub const SEALED_PREFIX: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGJ1bGxhLmRldi92MS";

/// Types of Secrets that the cluster itself trusts, and our own identities.
pub const REFUSED_TYPES: [&str; 3] =
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", IDENTITY_SECRET_TYPE];

/// Whether a label or annotation is one by which Argo CD, Flux, kubectl or we track objects. Copied to a
/// target it would make the tool prune or overwrite what is not its own.
///
/// ```
/// assert!(bulla_crds::rules::is_tracking("argocd.argoproj.io/tracking-id"));
/// assert!(!bulla_crds::rules::is_tracking("app.kubernetes.io/name"));
/// ```
pub fn is_tracking(key: &str) -> bool {
    const PREFIXES: [&str; 6] = [
        "argocd.argoproj.io/",
        "kubectl.kubernetes.io/",
        "kustomize.toolkit.fluxcd.io/",
        "helm.toolkit.fluxcd.io/",
        "meta.helm.sh/",
        "bulla.dev/",
    ];
    key == "app.kubernetes.io/instance"
        || key == "app.kubernetes.io/managed-by"
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Whether `text` may be the key of a label or annotation: a name, and before it perhaps a DNS subdomain
/// and a slash.
pub fn is_mark_key(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, _)) if !bulla_sealing::is_dns_subdomain(prefix) => return false,
        Some((_, name)) => name,
        None => text,
    };
    !name.is_empty() && is_label_value(name)
}

/// Whether `text` may be the value of a label: at most 63 of letters, digits, `-`, `_` and `.`, a letter or
/// digit at either end; or nothing.
pub fn is_label_value(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && is_edge(text.as_bytes().first())
        && is_edge(text.as_bytes().last())
}

/// Labels or annotations less those by which tools track their objects.
pub(crate) fn untracked(marks: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = marks.iter().filter(|(key, _)| !is_tracking(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A rule that a SealedSecret breaks, and at which data key where it is about one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// There is nothing in it.
    #[error("sealedData is empty")]
    Empty,
    /// More than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values in one SealedSecret; split it")]
    TooManyValues,
    /// More than [`MAX_SEALED_BYTES`].
    #[error("more than 1 MiB of sealed data in one SealedSecret; split it")]
    TooLarge,
    /// The data key is not one that a Secret can have.
    #[error("{0} is not a valid data key of a Secret")]
    DataKey(String),
    /// The API server would not take this as the key of a label.
    #[error("{0} is not a valid label key")]
    LabelKey(String),
    /// The API server would not take the value of the label with this key.
    #[error("the value of label {0} is not a valid label value")]
    LabelValue(String),
    /// The API server would not take this as the key of an annotation.
    #[error("{0} is not a valid annotation key")]
    AnnotationKey(String),
    /// The cluster itself trusts Secrets of this type.
    #[error("Secrets of type {0} are refused: they are credentials that the cluster itself trusts")]
    TypeRefused(String),
    /// The type demands a key that is not there.
    #[error("type {type_} needs {key}")]
    KeyMissing {
        /// The Secret's type.
        type_: String,
        /// The data key that it demands.
        key: &'static str,
    },
}

/// What the schema's rules say about `sealed_secret`, said without an API server.
pub fn violations(sealed_secret: &SealedSecret) -> Vec<Violation> {
    let spec = &sealed_secret.spec;
    let mut violations = Vec::new();
    if spec.sealed_data.is_empty() {
        violations.push(Violation::Empty);
    }
    if spec.sealed_data.len() > MAX_VALUES {
        violations.push(Violation::TooManyValues);
    }
    if spec.sealed_data.values().map(|value| value.len() / 4 * 3).sum::<usize>() > MAX_SEALED_BYTES
    {
        violations.push(Violation::TooLarge);
    }
    let invalid = spec.sealed_data.keys().filter(|key| !bulla_sealing::is_data_key(key));
    violations.extend(invalid.map(|key| Violation::DataKey(key.clone())));
    let template = spec.template.as_ref();
    if let Some(type_) = template.and_then(|template| template.type_.as_deref()) {
        violations.extend(type_violations(type_, |key| spec.sealed_data.contains_key(key)));
    }
    if let Some(metadata) = template.and_then(|template| template.metadata.as_ref()) {
        violations.extend(mark_violations(metadata));
    }
    violations
}

fn mark_violations(metadata: &TemplateMetadata) -> impl Iterator<Item = Violation> {
    let labels = metadata.labels.iter().filter_map(|(key, value)| {
        match (is_mark_key(key), is_label_value(value)) {
            (false, _) => Some(Violation::LabelKey(key.clone())),
            (true, false) => Some(Violation::LabelValue(key.clone())),
            (true, true) => None,
        }
    });
    let annotations = metadata.annotations.keys().filter(|key| !is_mark_key(key));
    labels.chain(annotations.map(|key| Violation::AnnotationKey(key.clone())))
}

/// What a Secret type refuses, given which data keys there are.
///
/// ```
/// use bulla_crds::rules::{Violation, type_violations};
///
/// let violations = type_violations("kubernetes.io/tls", |key| key == "tls.crt");
/// assert_eq!(violations, [Violation::KeyMissing { type_: "kubernetes.io/tls".into(), key: "tls.key" }]);
/// ```
pub fn type_violations(type_: &str, has_key: impl Fn(&str) -> bool) -> Vec<Violation> {
    if REFUSED_TYPES.contains(&type_) {
        return vec![Violation::TypeRefused(type_.into())];
    }
    let needed: &[&'static str] = match type_ {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    let missing = needed.iter().filter(|key| !has_key(key));
    missing.map(|key| Violation::KeyMissing { type_: type_.into(), key }).collect()
}

/// The data key whose plaintext the API server would refuse for the Secret's type, if any.
///
/// The API server's own message spells the beginning of the value, so it must never see such a Secret.
pub fn unfit_value(secret: &Secret) -> Option<&'static str> {
    let key = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => ".dockerconfigjson",
        Some("kubernetes.io/dockercfg") => ".dockercfg",
        _ => return None,
    };
    let value =
        secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    let is_object = serde_json::from_slice::<HashMap<IgnoredKey, IgnoredAny>>(value).is_ok();
    (!is_object).then_some(key)
}

/// A key of a JSON object that is read only to see that it is one.
#[derive(PartialEq, Eq, Hash)]
struct IgnoredKey;

impl<'de> serde::Deserialize<'de> for IgnoredKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn the_prefix_is_what_a_sealed_value_begins_with() {
        use base64::Engine;
        let start = base64::prelude::BASE64_STANDARD
            .encode("age-encryption.org/v1\n-> bulla.dev/v1 strict");
        assert!(start.starts_with(SEALED_PREFIX));
    }

    #[test]
    fn a_docker_config_must_be_a_json_object() {
        let secret = |value: &str| Secret {
            type_: Some("kubernetes.io/dockerconfigjson".into()),
            data: Some([(".dockerconfigjson".to_owned(), ByteString(value.into()))].into()),
            ..Secret::default()
        };
        assert_eq!(unfit_value(&secret(r#"{"auths": {}}"#)), None);
        for value in ["", "hunter2", "[]", "1", "null", r#"{"auths""#, r#"{} {}"#] {
            assert_eq!(unfit_value(&secret(value)), Some(".dockerconfigjson"), "{value}");
        }
    }

    #[test]
    fn labels_and_annotations_keep_to_the_limits_of_kubernetes() {
        for key in ["team", "app.kubernetes.io/name", "A_b.c-1", &"a".repeat(63)] {
            assert!(is_mark_key(key), "{key}");
        }
        for key in ["", "/", "a/", "/a", "a/b/c", "A/b", "-a", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_mark_key(key), "{key}");
        }
        assert!(is_label_value("") && is_label_value("1.2_3-x") && !is_label_value("x-"));
    }

    #[test]
    fn tracking_marks_of_other_tools_are_known() {
        for key in [
            "argocd.argoproj.io/tracking-id",
            "app.kubernetes.io/instance",
            "kubectl.kubernetes.io/last-applied-configuration",
            "kustomize.toolkit.fluxcd.io/name",
            "bulla.dev/target",
        ] {
            assert!(is_tracking(key), "{key}");
        }
        assert!(!is_tracking("app.kubernetes.io/name"));
    }
}
