//! Secret types in the cluster: which types it trusts, which keys it requires, and where it requires JSON.

use crate::well_known::{BACKUP_SECRET_TYPE, IDENTITY_SECRET_TYPE};

/// Types of Secrets that the cluster itself trusts, and those of Bulla's identities and their backups.
pub const REFUSED_TYPES: [&str; 4] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
    IDENTITY_SECRET_TYPE,
    BACKUP_SECRET_TYPE,
];

/// The data keys without which the API server refuses a Secret of this type.
pub(crate) fn needed_keys(type_: &str) -> &'static [&'static str] {
    match type_ {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    }
}

/// Data keys of which the API server requires at least one for this type, and what they are called together.
pub(crate) fn one_of(type_: &str) -> Option<(&'static [&'static str], &'static str)> {
    (type_ == "kubernetes.io/basic-auth")
        .then_some((&["username", "password"][..], "username or password"))
}

/// The data key that the API server requires to have a value that is not empty, and what it is called then.
pub(crate) fn filled_key(type_: &str) -> Option<(&'static str, &'static str)> {
    (type_ == "kubernetes.io/ssh-auth")
        .then_some(("ssh-privatekey", "an ssh-privatekey that is not empty"))
}

/// Types of Secrets with the data key under which the API server requires a JSON object.
pub(crate) const JSON_KEYS: [(&str, &str); 2] = [
    ("kubernetes.io/dockerconfigjson", ".dockerconfigjson"),
    ("kubernetes.io/dockercfg", ".dockercfg"),
];

/// The data key under which the API server requires a JSON object for this type, if any.
pub(crate) fn json_key(type_: &str) -> Option<&'static str> {
    JSON_KEYS.into_iter().find(|(json_type, _)| *json_type == type_).map(|(_, key)| key)
}
