//! Turns Secrets that SOPS encrypted into SealedSecrets, in place.
//!
//! Comments that SOPS had encrypted are left out; everything else except the values stays in its place.

mod patches;
mod program;

use anyhow::anyhow;
use bulla_sealing::Scope;
use serde_json::Value;

use super::conversion::{Conversion, MigratedObject, MigrationNote};
use crate::manifest::{self, Document, ManifestFile, Object, ObjectKind, Patch};
use crate::report::diagnostic::{self, Diagnostic, Place};
use crate::report::failure::Failure;
use crate::values::plain_secret;
use crate::who::destination::Destination;

pub(super) use program::{Decrypted, decrypt};

/// The key under which SOPS keeps its metadata.
pub(super) const MARK: &str = "sops";

/// How an encrypted value begins.
const ENCRYPTED: &str = "ENC[AES256_GCM,";

/// How an encrypted comment begins.
const ENCRYPTED_COMMENT: &str = "#ENC[";

/// Whether SOPS encrypted a document of the file.
pub(super) fn is_encrypted(manifests: &ManifestFile) -> bool {
    let mut documents = manifests.documents().iter();
    documents.any(|document| document.value().pointer("/sops/mac").is_some_and(Value::is_string))
}

/// Whether SOPS encrypted the comment.
pub(super) fn is_encrypted_comment(text: &str) -> bool {
    text.starts_with(ENCRYPTED_COMMENT)
}

/// How many documents are, or may be, Secrets: an encrypted kind is unknown until it is decrypted.
pub(super) fn secrets(manifests: &ManifestFile) -> usize {
    let is_secret = |document: &&Document| {
        let text = |field| document.value().get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        kind.starts_with(ENCRYPTED)
            || version.starts_with(ENCRYPTED)
            || version == "v1" && kind == "Secret"
    };
    manifests.documents().iter().filter(is_secret).count()
}

/// Seals the decrypted Secrets. Returns the file without the comments that SOPS encrypted, and the changes to it.
pub(super) fn convert(
    encrypted: &ManifestFile,
    plain: &ManifestFile,
    destination: &Destination,
) -> Result<(ManifestFile, Vec<Conversion>), Vec<Diagnostic>> {
    let name = encrypted.name();
    let failed = |error: anyhow::Error| vec![Diagnostic::of(name, anyhow!("{name}: {error}"))];
    let bare = encrypted
        .without_comments(|comment| is_encrypted_comment(&comment.text))
        .map_err(|error| failed(error.into()))?;
    let old = encrypted.objects().map_err(failed)?;
    let objects = bare.objects().map_err(failed)?;
    let plain = plain.objects().map_err(failed)?;
    let documents = encrypted.documents();
    if [plain.len(), old.len(), objects.len()] != [documents.len(); 3] {
        return Err(failed(anyhow!(
            "a List cannot be migrated: write its Secrets as separate documents"
        )));
    }
    let (mut conversions, mut refused) = (Vec::new(), Vec::new());
    for (((old, object), plain), document) in old.iter().zip(&objects).zip(&plain).zip(documents) {
        match conversion(old, object, plain, destination) {
            Ok(mut conversion) => {
                let comments = document.comments();
                let lost = comments.iter().filter(|comment| is_encrypted_comment(&comment.text));
                conversion.notes.extend(lost_comments(lost.count(), &conversion.migrated.place));
                conversions.push(conversion);
            }
            Err(one) => refused.push(*one),
        }
    }
    if refused.is_empty() { Ok((bare, conversions)) } else { Err(refused) }
}

/// Seals one Secret. `object` is `old` without its encrypted comments, and `plain` is `old` decrypted.
fn conversion(
    old: &Object<'_>,
    object: &Object<'_>,
    plain: &Object<'_>,
    destination: &Destination,
) -> Result<Conversion, Box<Diagnostic>> {
    let file = old.position(&[]).file;
    let failed = |failure: Failure| Box::new(Diagnostic::of(&file, failure));
    if ObjectKind::of(plain) != ObjectKind::Secret {
        return Err(failed(plain.unsupported("a Secret of v1").into()));
    }
    let secret = manifest::read_secret(plain).map_err(|error| failed(error.into()))?;
    manifest::name_of(plain, &secret.metadata).map_err(failed)?;
    let given = destination.namespace.as_ref();
    let namespace = manifest::namespace_of(plain, &secret.metadata, given).map_err(failed)?;
    let place = Place { object: Some(plain.title()), ..Place::new(old, &[], None) };
    let scope = Scope::Strict;
    let sealed = bulla_crds::seal(&secret, namespace, scope, &destination.recipients);
    let sealed = sealed.map_err(|error| {
        let hint = diagnostic::hint_for_sealing(&error).map(str::to_owned);
        Box::new(place.clone().diagnose(&error, hint))
    })?;
    let expected = serde_json::to_value(&sealed)
        .map_err(|_| Box::new(place.clone().diagnose("cannot be written as a manifest", None)))?;
    let mut patches = patches::patches(object, &expected);
    patches.push(Patch::remove(object, &[MARK]));
    let note = |message: String| MigrationNote { place: place.clone(), message };
    let mut notes: Vec<_> = plain_secret::dropped_marks(&secret).into_iter().map(note).collect();
    if old.value.get("metadata").is_some_and(holds_encrypted) {
        notes.push(note("metadata that SOPS had encrypted is now plaintext: names, labels and annotations are never sealed".into()));
    }
    let keys = sealed.spec.sealed_data.into_keys().collect();
    Ok(Conversion {
        position: object.place(),
        patches,
        expected: Some(expected),
        notes,
        migrated: MigratedObject { place, from: MARK, scope, keys },
    })
}

/// A note for the comments that cannot stay.
fn lost_comments(count: usize, place: &Place) -> Option<MigrationNote> {
    let message = match count {
        0 => return None,
        1 => "1 comment that SOPS had encrypted is left out: it would become plaintext".into(),
        _ => format!(
            "{count} comments that SOPS had encrypted are left out: they would become plaintext"
        ),
    };
    Some(MigrationNote { place: place.clone(), message })
}

fn holds_encrypted(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(ENCRYPTED),
        Value::Array(values) => values.iter().any(holds_encrypted),
        Value::Object(map) => map.values().any(holds_encrypted),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
