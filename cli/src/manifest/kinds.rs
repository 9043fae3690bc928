//! The kinds of objects that this tool knows.

use bulla_manifests::{Kinds, Object};

/// The lists that this tool takes apart, and the objects that it reads strictly wherever they are.
pub(super) const KINDS: Kinds = Kinds {
    lists: &[("v1", "List"), ("v1", "SecretList"), (bulla_crds::API_VERSION, "SealedSecretList")],
    own_group: bulla_crds::GROUP,
};

/// What an object is, as far as this tool is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// `v1` Secret.
    Secret,
    /// Bulla's own kind, in the version that this tool knows.
    SealedSecret,
    /// Any other object of Bulla's API group.
    OtherOfOurs,
    /// Anything else.
    Other,
}

impl ObjectKind {
    pub(crate) fn of(object: &Object<'_>) -> Self {
        match (object.api_version(), object.kind()) {
            (Some("v1"), Some("Secret")) => Self::Secret,
            (Some(bulla_crds::API_VERSION), Some("SealedSecret")) => Self::SealedSecret,
            (Some(version), _)
                if version.split_once('/').is_some_and(|(group, _)| group == bulla_crds::GROUP) =>
            {
                Self::OtherOfOurs
            }
            _ => Self::Other,
        }
    }
}

/// Whether an object is a SealedSecret of a version that this tool does not know.
pub(crate) fn is_unknown_version(object: &Object<'_>) -> bool {
    ObjectKind::of(object) == ObjectKind::OtherOfOurs
        && object.api_version() != Some(bulla_crds::API_VERSION)
}
