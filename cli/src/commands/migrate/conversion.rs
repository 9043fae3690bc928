//! The result of migrating one object, from any tool.

use bulla_sealing::Scope;
use serde_json::Value;

use crate::manifest::Patch;
use crate::report::diagnostic::Place;

/// An object that becomes a SealedSecret.
pub(super) struct Conversion {
    /// The number of its document, and of its item if the document is a list.
    pub(super) position: (usize, Option<usize>),
    /// The changes to its file.
    pub(super) patches: Vec<Patch>,
    /// The whole SealedSecret, if nothing else may be left in the object.
    pub(super) expected: Option<Value>,
    pub(super) migrated: MigratedObject,
    pub(super) notes: Vec<MigrationNote>,
}

/// An object that was migrated.
pub(super) struct MigratedObject {
    pub(super) place: Place,
    /// The tool that it comes from.
    pub(super) from: &'static str,
    pub(super) scope: Scope,
    pub(super) keys: Vec<String>,
}

/// Something that people should know about an object.
#[derive(Clone)]
pub(super) struct MigrationNote {
    pub(super) place: Place,
    pub(super) message: String,
}
