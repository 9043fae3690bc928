//! Trouble in a file: what is wrong, where, and what to do about it. With many files, one does not stop the others, so
//! diagnostics are collected and printed at the end.

use std::fmt;

use anyhow::anyhow;
use bulla_crds::rules::Violation;
use bulla_crds::{SealError, UnsealSecretError, ValueError};
use bulla_sealing::{Keyring, UnsealError};
use serde_json::{Value, json};

use crate::manifest::{self, MistakeAt, Object, Position, Step};
use crate::report::failure::Failure;
use crate::report::output::{self, Label};

/// Something wrong in a file.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    pub(crate) file: String,
    pub(crate) place: Option<Box<Place>>,
    /// Without a `place`, it names the place itself.
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A place in a file, with the object and the key of the value that it is about, if any.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) position: Position,
    /// `namespace/name` of the object.
    pub(crate) object: Option<String>,
    pub(crate) key: Option<String>,
}

impl Place {
    /// The place of `path` in an object, which is about the value of `key` if there is one.
    pub(crate) fn new(object: &Object<'_>, path: &[Step<'_>], key: Option<&str>) -> Self {
        let (position, object) = (object.position(path), Some(object.title()));
        Self { position, object, key: key.map(str::to_owned) }
    }

    /// The place of a sealed value in an object.
    pub(crate) fn of_value(object: &Object<'_>, key: &str) -> Self {
        let position = object.position_of_value(&manifest::sealed_value_steps(key));
        Self { position, ..Self::new(object, &[], Some(key)) }
    }

    /// What is wrong there, and what to do.
    pub(crate) fn diagnose(self, message: impl fmt::Display, hint: Option<String>) -> Diagnostic {
        let file = self.position.file.clone();
        Diagnostic { file, place: Some(self.into()), message: message.to_string(), hint }
    }

    /// The trouble at this place.
    pub(crate) fn trouble(self, trouble: impl Into<Failure>) -> Diagnostic {
        let (message, hint) = trouble.into().into_parts();
        self.diagnose(message, hint)
    }

    /// `prod/db`, or nothing if there is no object.
    pub(crate) fn object(&self) -> &str {
        self.object.as_deref().unwrap_or_default()
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::unable(anyhow!(diagnostic.to_text())).maybe_hint(diagnostic.hint)
    }
}

pub(crate) fn unknown_version(object: &Object<'_>) -> Diagnostic {
    let place = Place::new(object, &[Step::Key("apiVersion")], None);
    let message = format!("unknown version; this bulla supports {}", bulla_crds::API_VERSION);
    place.diagnose(message, Some("a newer bulla may support it".into()))
}

impl Diagnostic {
    /// Adds what to do.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The trouble with a file, at its place if the error has one.
    pub(crate) fn of(file: &str, trouble: impl Into<Failure>) -> Self {
        let failure = trouble.into();
        let mistake = failure.error().downcast_ref::<MistakeAt>().cloned();
        let (message, hint) = failure.into_parts();
        let (message, place) = match mistake {
            Some(MistakeAt { position, what }) => {
                (what, Some(Place { position, object: None, key: None }.into()))
            }
            None => (message, None),
        };
        Self { file: file.to_owned(), place, message, hint }
    }

    fn to_text(&self) -> String {
        let Some(place) = self.place.as_deref() else { return self.message.clone() };
        let Place { position, object, key } = place;
        let key = key.as_ref().map(|key| format!("key {key}"));
        let parts = [Some(position.to_string()), object.clone(), key, Some(self.message.clone())];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    }

    pub(crate) fn to_json(&self) -> Value {
        let place = self.place.as_ref();
        json!({
            "file": self.file,
            "document": place.map(|place| place.position.document),
            "item": place.and_then(|place| place.position.item),
            "line": place.map(|place| place.position.line),
            "object": place.and_then(|place| place.object.as_ref()),
            "key": place.and_then(|place| place.key.as_ref()),
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// Prints one line for each. A hint that several in a row share is printed once, after the last of them.
pub(crate) fn report(diagnostics: &[Diagnostic]) {
    let mut text = String::new();
    for (index, one) in diagnostics.iter().enumerate() {
        text.push_str(&Label::Error.line(&one.to_text()));
        let next = diagnostics.get(index + 1).and_then(|next| next.hint.as_ref());
        if let Some(hint) = one.hint.as_ref().filter(|hint| next != Some(*hint)) {
            text.push_str(&Label::Hint.line(hint));
        }
    }
    output::stderr(&text);
}

/// What to do about a value that does not open for its place.
pub(crate) fn hint_for(error: &ValueError, keyring: Option<&Keyring>) -> Option<String> {
    let hint = match error {
        ValueError::Unseal(UnsealError::WrongBinding { .. }) => {
            "a sealed value opens only in the place it was sealed for: seal it again for its new place"
        }
        ValueError::Unseal(UnsealError::NoIdentity { .. }) => {
            let mut held: Vec<_> = keyring?.fingerprints().collect();
            held.sort_unstable();
            return Some(format!("-i holds {}", output::list(held)));
        }
        ValueError::Unseal(UnsealError::Damaged) => {
            "restore the value from an earlier commit, or seal it again"
        }
        ValueError::NoNamespace(_) => {
            "set metadata.namespace to the namespace that it is deployed to"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The part of a SealedSecret that an error in opening it is about.
pub(crate) fn path_of(error: &UnsealSecretError) -> Vec<Step<'_>> {
    let sealed = |key| manifest::sealed_value_steps(key).to_vec();
    match error {
        UnsealSecretError::Value { key, .. } => sealed(key.as_str()),
        UnsealSecretError::Unfit { key, .. } => sealed(*key),
        UnsealSecretError::Violation(Violation::Template { key, .. }) => {
            vec![Step::Key("spec"), Step::Key("template"), Step::Key("data"), Step::Key(key)]
        }
        UnsealSecretError::Violation(_) => Vec::new(),
    }
}

/// What to do about a value or Secret that cannot be sealed.
pub(crate) fn hint_for_sealing(error: &SealError) -> Option<&'static str> {
    match error {
        SealError::NoNamespace(_) => {
            Some("pass -n; the kubeconfig's current namespace is not used")
        }
        SealError::InTheClear { .. } => Some(
            "labels and annotations are not sealed: remove the value from them, or pass --allow-in-labels KEY if it is not secret",
        ),
        SealError::Violation(Violation::TypeRefused(_)) => {
            Some("the cluster makes such Secrets itself; keep them out of Git")
        }
        _ => None,
    }
}
