//! What becomes of one object of another tool, whichever tool it is.

use bulla_sealing::Scope;
use serde_json::Value;

use crate::manifest::{Object, Patch};
use crate::report::diagnostic::Place;

/// An object that becomes a SealedSecret.
pub(super) struct Conversion {
    /// The number of its document, and of the item in a list.
    pub(super) position: (usize, Option<usize>),
    /// What changes in its file.
    pub(super) patches: Vec<Patch>,
    /// The whole SealedSecret, if nothing else may be left in the object.
    pub(super) expected: Option<Value>,
    pub(super) migrated: MigratedObject,
    pub(super) notes: Vec<MigrationNote>,
}

impl Conversion {
    /// Whether an object of the new file is what it is to be, as far as that is known as a whole.
    pub(super) fn is_met_by(&self, object: &Object<'_>) -> bool {
        self.expected.as_ref().is_none_or(|expected| expected == object.value)
    }
}

/// An object that was migrated.
pub(super) struct MigratedObject {
    pub(super) place: Place,
    /// The tool.
    pub(super) from: &'static str,
    pub(super) scope: Scope,
    pub(super) keys: Vec<String>,
}

/// Something that is good to know about an object.
#[derive(Clone)]
pub(super) struct MigrationNote {
    pub(super) place: Place,
    pub(super) message: String,
}
