//! Secrets that kustomize makes: by generators, and by patches that write values into Secrets.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::commands::lint::finding::Finding;
use crate::commands::lint::rule::Rule;
use crate::commands::lint::secrets::{self, FIELDS, SecretContent};
use crate::files::git;
use crate::files::input::{self, Input};
use crate::manifest::{self, ManifestFile, Object, Step};

/// The files that kustomize reads in a folder, whatever their kind is.
const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Fields that name files or folders, or contain manifests themselves.
const LISTS: [&str; 8] = [
    "resources",
    "bases",
    "components",
    "crds",
    "generators",
    "transformers",
    "validators",
    "patchesStrategicMerge",
];

pub(super) fn is_its_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// What a kustomization reads from other files, beside its own folder.
pub(super) fn references(kustomization: &Value) -> Vec<&str> {
    let listed = LISTS.iter().flat_map(|field| texts(kustomization, field));
    let patches =
        patches(kustomization).into_iter().filter_map(|patch| patch.get("path")?.as_str());
    listed.chain(patches).filter(|text| !text.contains('\n')).collect()
}

fn texts<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let items = value.get(field).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str)
}

fn patches(kustomization: &Value) -> Vec<&Value> {
    let of = |field: &str| kustomization.get(field).and_then(Value::as_array).into_iter().flatten();
    of("patches").chain(of("patchesJson6902")).collect()
}

/// Findings in a document that may be a kustomization, or one of the generators and patches that it names. `file` is
/// where it is, unless it comes from a pipe.
pub(super) fn findings(document: &Object<'_>, file: Option<&Path>) -> Vec<Finding> {
    let merged = secrets::has_merge_key(document.value).then(|| secrets::merged(document.value));
    let value = merged.as_ref().unwrap_or(document.value);
    let folder = &KustomizationFolder::of(file);
    let mut found = Vec::new();
    let mut find = |field: &str, index: Option<usize>, rule, message: &str| {
        let path = [Some(Step::Key(field)), index.map(Step::Index)];
        let path: Vec<_> = path.into_iter().flatten().collect();
        found.push(Finding::in_object(document, rule, &path, None, message));
    };
    let generators = value.get("secretGenerator").and_then(Value::as_array);
    if generators.into_iter().flatten().any(|generator| has_values(generator, folder)) {
        let message = "a generator of Secrets with plaintext values";
        find("secretGenerator", None, Rule::SecretGenerator, message);
    }
    if is_generator(value, folder) {
        find("kind", None, Rule::SecretGenerator, "a generator of Secrets with plaintext values");
    }
    let message = "a patch that writes plaintext values into a Secret";
    for field in ["patches", "patchesJson6902"] {
        let patches = value.get(field).and_then(Value::as_array).into_iter().flatten();
        for (index, patch) in patches.enumerate() {
            if writes_secret(patch, folder) {
                find(field, Some(index), Rule::PlaintextSecret, message);
            }
        }
    }
    if value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("Patch"))
        && writes_secret(value, folder)
    {
        find("kind", None, Rule::PlaintextSecret, message);
    }
    for field in LISTS {
        let inline = texts(value, field).enumerate().filter(|(_, text)| text.contains('\n'));
        for (index, text) in inline {
            let Some(inner) = parsed(text.as_bytes()) else { continue };
            let is_secret = |value: &Value| !secrets::hidden(value, &|_| false).is_empty();
            let mut values = inner.documents().iter().map(manifest::Document::value);
            if values.any(|value| is_secret(value) || is_generator(value, folder)) {
                find(field, Some(index), Rule::PlaintextSecret, "a Secret with plaintext values");
            }
        }
    }
    found
}

/// Whether an object is a generator of Secrets that has values.
fn is_generator(value: &Value, folder: &KustomizationFolder) -> bool {
    value.get("kind").and_then(Value::as_str) == Some("SecretGenerator")
        && has_values(value, folder)
}

/// Whether a generator has values in itself, or in files that are or will be committed.
fn has_values(generator: &Value, folder: &KustomizationFolder) -> bool {
    let list = |field: &str| generator.get(field).and_then(Value::as_array);
    let is_filled = |field: &str| list(field).is_some_and(|list| !list.is_empty());
    let is_ours = |named: &str| {
        let path = named.split_once('=').map_or(named, |(_, path)| path);
        folder.path.as_ref().is_none_or(|parent| folder.has_committed(&parent.join(path)))
    };
    is_filled("literals")
        || ["files", "envs"].iter().any(|field| texts(generator, field).any(is_ours))
        || generator.get("env").and_then(Value::as_str).is_some_and(is_ours)
}

/// The folder of a kustomization, and what was found out about files in it: they may be named many times.
struct KustomizationFolder {
    /// None for a pipe.
    path: Option<PathBuf>,
    committed: RefCell<HashMap<PathBuf, bool>>,
    /// Whether a patch with such a target, in this file, writes values into a Secret.
    patches: RefCell<HashMap<(PathBuf, bool), bool>>,
}

/// Git is asked about so many files; more are taken for committed ones.
const MAX_ASKED: usize = 50;

impl KustomizationFolder {
    fn of(file: Option<&Path>) -> Self {
        let path = file.and_then(Path::parent).map(Path::to_owned);
        Self { path, committed: RefCell::default(), patches: RefCell::default() }
    }

    /// Whether Git has or would add a file. Outside of a work tree, whether it exists.
    fn has_committed(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        let mut committed = self.committed.borrow_mut();
        if committed.len() >= MAX_ASKED {
            return true;
        }
        let ask = || {
            git::root_of(&real).is_none()
                || git::standing(&real).map_or(true, |standing| standing.is_some())
        };
        *committed.entry(real.clone()).or_insert_with(ask)
    }

    /// Whether the patch in a file writes values into a Secret.
    fn writes_secret(&self, path: &str, target: Option<&Value>) -> bool {
        let Some(path) = self.path.as_ref().map(|folder| folder.join(path)) else { return false };
        let key = (path, may_be_secret(target));
        if let Some(writes) = self.patches.borrow().get(&key) {
            return *writes;
        }
        let file = input::read(&key.0).ok().and_then(|input| parsed(&input.bytes));
        let writes = file.is_some_and(|file| is_written_in(&file, target));
        self.patches.borrow_mut().insert(key, writes);
        writes
    }
}

/// Whether a patch, inline or in its file, writes values into a Secret.
fn writes_secret(patch: &Value, folder: &KustomizationFolder) -> bool {
    let target = patch.get("target");
    let inline =
        ["patch", "patches", "jsonOp"].iter().filter_map(|field| patch.get(field)?.as_str());
    let mut inline = inline.filter_map(|text| parsed(text.as_bytes()));
    inline.any(|file| is_written_in(&file, target))
        || patch
            .get("path")
            .and_then(Value::as_str)
            .is_some_and(|path| folder.writes_secret(path, target))
}

fn is_written_in(file: &ManifestFile, target: Option<&Value>) -> bool {
    file.documents().iter().any(|document| is_written(document.value(), target))
}

fn is_written(patch: &Value, target: Option<&Value>) -> bool {
    let merged = secrets::merged(patch);
    match &merged {
        Value::Array(operations) => may_be_secret(target) && operations.iter().any(writes_value),
        patch => {
            let is_of_secret =
                secrets::is_secret(patch) || target.is_some() && may_be_secret(target);
            is_of_secret
                && FIELDS.iter().any(|field| secrets::has_values(patch, field))
                && !matches!(secrets::held(patch), SecretContent::Sops)
        }
    }
}

/// Whether an operation of a JSON patch writes into the values, or over the whole object.
fn writes_value(operation: &Value) -> bool {
    let text = |field| operation.get(field).and_then(Value::as_str).unwrap_or_default();
    let path = text("path");
    !["remove", "test"].contains(&text("op"))
        && (path.is_empty()
            || path.strip_prefix('/').is_none_or(|path| {
                path.is_empty() || FIELDS.contains(&path.split('/').next().unwrap_or_default())
            }))
}

/// Whether a patch with this target may change a Secret. The kind of a target is a regular expression.
fn may_be_secret(target: Option<&Value>) -> bool {
    let kind = target.and_then(|target| target.get("kind")).and_then(Value::as_str);
    kind.is_none_or(|kind| {
        kind.is_empty()
            || kind == "Secret"
            || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn parsed(bytes: &[u8]) -> Option<ManifestFile> {
    let bytes = Zeroizing::new(bytes.to_vec());
    manifest::parse(Input { name: String::new(), bytes }).ok()
}
