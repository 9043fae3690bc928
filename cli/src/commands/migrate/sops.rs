//! Secrets that SOPS encrypted, opened by the program `sops`: what it decrypts comes through a pipe, and what it says
//! is not repeated, because nobody promises that there is no plaintext in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::anyhow;
use bulla_sealing::Scope;
use serde_json::Value;
use zeroize::Zeroizing;

use super::comments;
use super::draft::flaw;
use super::{Address, Migrated, Note};
use crate::files::input::{self, Input};
use crate::manifest::{self, Document, ManifestFile, Object, ObjectKind};
use crate::report::diagnostic::{self, Diagnostic, Place};
use crate::report::failure::Failure;
use crate::values::plain_secret::{SealedWhole, seal_whole};

/// The key under which SOPS keeps what it needs.
pub(super) const MARK: &str = "sops";

/// How an encrypted value begins.
const ENCRYPTED: &str = "ENC[AES256_GCM,";

/// The exit codes by which sops tells why.
const MAC_MISMATCH: i32 = 51;
const NO_KEY: i32 = 128;

/// Whether a document of the file is SOPS's.
pub(super) fn is_encrypted(manifests: &ManifestFile) -> bool {
    manifests
        .documents()
        .iter()
        .any(|document| document.value().pointer("/sops/mac").is_some_and(Value::is_string))
}

/// How many documents are, or may be, a Secret: when everything is encrypted nobody can tell before.
pub(super) fn secrets(manifests: &ManifestFile) -> usize {
    let text = |document: &Document, field: &str| {
        document.value().get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let is_secret = |document: &&Document| {
        let (version, kind) = (text(document, "apiVersion"), text(document, "kind"));
        kind.starts_with(ENCRYPTED)
            || version.starts_with(ENCRYPTED)
            || version == "v1" && kind == "Secret"
    };
    manifests.documents().iter().filter(is_secret).count()
}

/// What sops made of a file.
pub(super) enum Decryption {
    Plain(ManifestFile),
    /// It could not decrypt it, or to no manifest.
    Refused(Failure),
}

/// The file as sops decrypts it. That there is no sops is a failure; that it cannot is a refusal.
pub(super) fn decrypted(path: &Path, manifests: &ManifestFile) -> Result<Decryption, Failure> {
    let name = path.display().to_string();
    let input_type =
        if manifests.documents().iter().all(Document::is_json) { "json" } else { "yaml" };
    let mut sops = Command::new("sops");
    sops.args(["decrypt", "--input-type", input_type, "--output-type", "yaml"])
        .arg(as_argument(path))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = sops.spawn().map_err(|error| {
        let hint = "install sops (https://getsops.io), or leave the file out";
        let what = match error.kind() {
            ErrorKind::NotFound => "is not installed",
            _ => "cannot be started",
        };
        Failure::unable(anyhow!("{name} is encrypted by SOPS, and the program sops {what}"))
            .hint(hint)
    })?;
    let plain = child.stdout.take().map(|stdout| input::read_wiped(stdout, 0));
    let status = child.wait();
    let refuse = |what: &str| {
        let shown = as_argument(path);
        let hint = format!("see what it says: sops decrypt {} > /dev/null", shown.display());
        Ok(Decryption::Refused(Failure::unable(anyhow!("{name}: {what}")).hint(hint)))
    };
    match (status.ok().and_then(|status| status.code()), plain) {
        (Some(0), Some(Ok(bytes))) => {
            let input = Input { name: format!("{name}, decrypted"), bytes };
            let parsed = ManifestFile::parse(input);
            Ok(parsed.map_or_else(|error| Decryption::Refused(error.into()), Decryption::Plain))
        }
        (Some(MAC_MISMATCH), _) => {
            refuse("its MAC is wrong: it was changed without sops, or damaged")
        }
        (Some(NO_KEY), _) => refuse("sops has no key that opens it"),
        (Some(code), _) if code != 0 => {
            refuse(&format!("sops could not decrypt it (exit code {code})"))
        }
        _ => refuse("sops could not decrypt it"),
    }
}

/// A path that cannot be taken for a flag.
fn as_argument(path: &Path) -> PathBuf {
    match path.to_string_lossy().starts_with('-') {
        true => Path::new(".").join(path),
        false => path.to_owned(),
    }
}

/// The file with SealedSecrets in place of its Secrets.
pub(super) struct Converted {
    pub(super) new: Zeroizing<Vec<u8>>,
    pub(super) migrated: Vec<Migrated>,
    pub(super) notes: Vec<Note>,
}

/// Seals what was decrypted.
pub(super) fn convert(
    encrypted: &ManifestFile,
    plain: &ManifestFile,
    address: &Address<'_>,
) -> Result<Converted, Vec<Diagnostic>> {
    let name = encrypted.name();
    let file_failed = |error: anyhow::Error| vec![Diagnostic::of(name, anyhow!("{name}: {error}"))];
    let old = encrypted.objects().map_err(file_failed)?;
    let plain = plain.objects().map_err(file_failed)?;
    let documents = encrypted.documents();
    if plain.len() != documents.len() || old.len() != documents.len() {
        return Err(file_failed(anyhow!(
            "a List is not migrated: write its Secrets as documents of their own"
        )));
    }
    let (mut contents, mut refused) = (Vec::new(), Vec::new());
    let (mut migrated, mut notes) = (Vec::new(), Vec::new());
    for ((old, plain), document) in old.iter().zip(&plain).zip(documents) {
        match one(old, plain, document, address) {
            Ok(one) => {
                contents.push(one.content);
                notes.extend(one.notes);
                migrated.push(one.migrated);
            }
            Err(one) => refused.push(*one),
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let new = encrypted.rewritten(&contents);
    let input = Input { name: String::new(), bytes: new.clone() };
    let again = ManifestFile::parse(input).map_err(file_failed)?;
    for (object, migrated) in again.objects().map_err(file_failed)?.iter().zip(&migrated) {
        let place = &migrated.place;
        refused.extend(flaw(object).map(|message| place.clone().diagnose(message, None)));
    }
    if again.documents().len() != documents.len() {
        return Err(file_failed(anyhow!(
            "a document begins in the line of its marker: let a line break follow ---"
        )));
    }
    match refused.is_empty() {
        true => Ok(Converted { new, migrated, notes }),
        false => Err(refused),
    }
}

/// One Secret, sealed.
struct One {
    /// What stands in the file in place of the document.
    content: Zeroizing<String>,
    migrated: Migrated,
    notes: Vec<Note>,
}

fn one(
    old: &Object<'_>,
    plain: &Object<'_>,
    document: &Document,
    address: &Address<'_>,
) -> Result<One, Box<Diagnostic>> {
    let place = Place { object: Some(plain.title()), ..Place::new(old, &[], None) };
    let file = place.position.file.clone();
    let failed = |failure: Failure| Box::new(Diagnostic::of(&file, failure));
    if plain.kind() != ObjectKind::Secret {
        return Err(failed(plain.unsupported("a Secret of v1").into()));
    }
    let secret = manifest::read_secret(plain).map_err(|error| failed(error.into()))?;
    manifest::name_of(plain, &secret.metadata).map_err(failed)?;
    let namespace =
        manifest::namespace_of(plain, &secret.metadata, address.namespace).map_err(failed)?;
    let SealedWhole { sealed_secret: sealed, dropped } =
        seal_whole(&secret, namespace, Scope::Strict, address.recipients).map_err(|error| {
            let hint = diagnostic::hint_for_sealing(&error).map(str::to_owned);
            Box::new(place.clone().diagnose(&error, hint))
        })?;
    let value = serde_json::to_value(&sealed)
        .map_err(|_| Box::new(place.clone().diagnose("cannot be written as a manifest", None)))?;
    let mut notes = Vec::new();
    let mut note = |message: String| notes.push(Note { place: place.clone(), message });
    dropped.into_iter().for_each(&mut note);
    if old.value.get("metadata").is_some_and(holds_encrypted) {
        note("metadata that SOPS had encrypted stands in the clear: names, labels and annotations are never sealed".into());
    }
    let content = match document.is_json() {
        true => Zeroizing::new(format!("{value:#}\n")),
        false => {
            let yaml = manifest::to_yaml([&value]);
            let carried = comments::carry(old, document, &String::from_utf8_lossy(&yaml), new_path);
            let (head, encrypted) = comments::head(document.head());
            match encrypted + carried.encrypted {
                0 => {}
                1 => note(
                    "1 comment that SOPS had encrypted is left out: it would stand in the clear"
                        .into(),
                ),
                count => note(format!(
                    "{count} comments that SOPS had encrypted are left out: they would stand in the clear"
                )),
            }
            Zeroizing::new(head + &carried.text)
        }
    };
    let keys = sealed.spec.sealed_data.into_keys().collect();
    Ok(One { content, migrated: Migrated { place, from: MARK, scope: Scope::Strict, keys }, notes })
}

fn holds_encrypted(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(ENCRYPTED),
        Value::Array(values) => values.iter().any(holds_encrypted),
        Value::Object(map) => map.values().any(holds_encrypted),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Where something of a Secret stands in its SealedSecret.
fn new_path(path: &[String]) -> Vec<String> {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let (head, rest): (&[&str], _) = match &words[..] {
        ["data" | "stringData", rest @ ..] => (&["spec", "sealedData"], rest),
        ["metadata", "labels" | "annotations", ..] => (&["spec", "template"], &words[..]),
        ["type" | "immutable", ..] => (&["spec", "template"], &words[..]),
        _ => (&[], &words[..]),
    };
    head.iter().chain(rest).map(|word| (*word).to_owned()).collect()
}
