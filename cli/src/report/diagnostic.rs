//! What was refused, where it stands and what to do about it. Among many files one does not end the work on the
//! others, so refusals are collected and told at the end.

use std::fmt;

use anyhow::anyhow;
use bulla_crds::rules::Violation;
use bulla_crds::{SealError, ValueError};
use bulla_sealing::{Keyring, UnsealError};
use serde_json::{Value, json};

use crate::manifest::{Object, Position, Step};
use crate::report::failure::Failure;
use crate::report::output::{self, Label};

/// One thing that was not done.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostic {
    pub(crate) file: String,
    pub(crate) place: Option<Box<Place>>,
    /// With its place in it, if `place` is none.
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// An object, or a value of it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) position: Position,
    /// `namespace/name` of the object.
    pub(crate) object: String,
    pub(crate) key: Option<String>,
}

impl Place {
    pub(crate) fn refuse(self, message: impl fmt::Display, hint: Option<String>) -> Diagnostic {
        let file = self.position.file.clone();
        Diagnostic { file, place: Some(self.into()), message: message.to_string(), hint }
    }
}

impl From<Diagnostic> for Failure {
    fn from(refused: Diagnostic) -> Self {
        Self::unable(anyhow!(refused.to_text())).maybe_hint(refused.hint)
    }
}

/// A SealedSecret of a version that this tool does not know.
pub(crate) fn unknown_version(object: &Object<'_>) -> Diagnostic {
    let position = object.position(&[Step::Key("apiVersion")]);
    let place = Place { position, object: object.title(), key: None };
    let message = format!("only {} is known", bulla_crds::API_VERSION);
    place.refuse(message, Some("a newer bulla may know it".into()))
}

impl Diagnostic {
    /// A whole file.
    pub(crate) fn file(file: &str, message: impl fmt::Display, hint: Option<&str>) -> Self {
        let (message, hint) = (message.to_string(), hint.map(str::to_owned));
        Self { file: file.to_owned(), place: None, message, hint }
    }

    fn to_text(&self) -> String {
        match self.place.as_deref() {
            None => self.message.clone(),
            Some(Place { position, object, key }) => {
                let key = key.iter().map(|key| format!(": key {key}")).collect::<String>();
                format!("{position}: {object}{key}: {}", self.message)
            }
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let place = self.place.as_ref();
        json!({
            "file": self.file,
            "document": place.map(|place| place.position.document),
            "item": place.and_then(|place| place.position.item),
            "line": place.map(|place| place.position.line),
            "object": place.map(|place| &place.object),
            "key": place.and_then(|place| place.key.as_ref()),
            "message": self.message,
            "hint": self.hint,
        })
    }
}

/// Prints one line for each, and each hint once behind the last of those in a row that it is for.
pub(crate) fn report(refused: &[Diagnostic]) {
    let mut text = String::new();
    for (index, one) in refused.iter().enumerate() {
        text.push_str(&Label::Error.line(&one.to_text()));
        let next = refused.get(index + 1).and_then(|next| next.hint.as_ref());
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
            "a sealed value opens only where it was sealed for: seal it again for its new place"
        }
        ValueError::Unseal(UnsealError::NoIdentity { .. }) => {
            return keyring.map(|keyring| format!("-i holds {}", held(keyring)));
        }
        ValueError::Unseal(UnsealError::Damaged) => {
            "take the value from an earlier commit, or seal it again"
        }
        ValueError::NoNamespace(_) => {
            "give the SealedSecret the metadata.namespace that it is deployed to"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about a value or Secret that cannot be sealed.
pub(crate) fn hint_for_sealing(error: &SealError) -> Option<&'static str> {
    match error {
        SealError::NoNamespace(_) => {
            Some("name it with -n; the kubeconfig's current namespace is not used")
        }
        SealError::InTheClear { .. } => {
            Some("labels and annotations are not sealed: take the value out of them")
        }
        SealError::Violation(Violation::TypeRefused(_)) => {
            Some("the cluster makes such Secrets itself; they do not belong in Git")
        }
        _ => None,
    }
}

fn held(keyring: &Keyring) -> String {
    let mut fingerprints: Vec<_> = keyring.fingerprints().collect();
    fingerprints.sort_unstable();
    fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
