//! Who can open a value: the recipients that it is sealed to, the environments of `bulla.yaml` that pin them, and the
//! identities that open it.

pub(crate) mod config;
pub(crate) mod destination;
pub(crate) mod identities;
pub(crate) mod pinning;
pub(crate) mod recipients;
