//! One of Bitnami's SealedSecrets in its file, and messages about its fields.

use serde_json::{Map, Value};

use crate::commands::migrate::conversion::MigrationNote;
use crate::manifest::{self, Object, Step};
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::failure::Failure;

/// One of Bitnami's SealedSecrets.
pub(super) struct BitnamiObject<'a> {
    pub(super) object: &'a Object<'a>,
}

impl<'a> BitnamiObject<'a> {
    /// The place of the object, or of a field in it.
    pub(super) fn place(&self, path: &[Step<'_>], key: Option<&str>) -> Place {
        Place::new(self.object, path, key)
    }

    /// The reason why a field is not migrated.
    pub(super) fn refuse(&self, path: &[Step<'_>], what: impl std::fmt::Display) -> Diagnostic {
        self.place(path, None).diagnose(what, None)
    }

    /// A failure that already names its place.
    pub(super) fn failed(&self, failure: Failure) -> Diagnostic {
        Diagnostic::of(&self.object.position(&[]).file, failure)
    }

    /// A note about the object.
    pub(super) fn note(&self, message: &str) -> MigrationNote {
        MigrationNote { place: self.place(&[], None), message: message.to_owned() }
    }

    /// A mapping that may be null.
    pub(super) fn map(
        &self,
        value: &'a Value,
        path: &[Step<'_>],
    ) -> Result<Option<&'a Map<String, Value>>, Diagnostic> {
        match value {
            Value::Null => Ok(None),
            Value::Object(map) => Ok(Some(map)),
            _ => {
                Err(self
                    .refuse(path, format_args!("{} is not a mapping", manifest::path_text(path))))
            }
        }
    }

    pub(super) fn no_equivalent(&self, path: &[Step<'_>]) -> Diagnostic {
        self.refuse(path, format_args!("{} has no equivalent", manifest::path_text(path)))
    }
}
