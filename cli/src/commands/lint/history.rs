//! What became of values and their recipients since an earlier commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_crds::ParsedValues;
use bulla_sealing::Fingerprint;
use zeroize::Zeroizing;

use crate::commands::lint::allowance;
use crate::commands::lint::finding::Finding;
use crate::commands::lint::rule::Rule;
use crate::files::git::{Blob, Repository};
use crate::files::input::Input;
use crate::files::walk;
use crate::manifest::{self, Object, ObjectKind};
use crate::report::failure::{Failure, OrHint};
use crate::report::output;
use crate::values::sealed_text::SealedText;
use crate::values::value_diff::{self, KeyChange, ValueChange, ValueChangeKind};
use crate::who::config::{self, Config, PinState};

/// Keys, with their holders.
type KeyHolders<'a> = BTreeMap<Fingerprint, &'a str>;

/// An earlier commit, with the files that differ from it.
pub(super) struct Base {
    git_ref: String,
    root: PathBuf,
    /// Its bulla.yaml.
    pub(super) config: Option<Config>,
    /// The unchanged files.
    unchanged: HashSet<PathBuf>,
    sealed_secrets: Vec<Earlier>,
    /// What the changed files allowed, and how often.
    allowed: HashMap<PathBuf, Allowed>,
}

/// Rules with their reasons, and how often a file allows them.
type Allowed = HashMap<(Rule, String), usize>;

/// A SealedSecret of the earlier commit.
struct Earlier {
    /// From the root of the work tree.
    path: PathBuf,
    namespace: Option<String>,
    name: Option<String>,
    values: BTreeMap<String, String>,
}

impl Base {
    /// Reads bulla.yaml, and the SealedSecrets of the changed files.
    pub(super) fn read(git_ref: &str, config: Option<&Config>) -> Result<Self, Failure> {
        let repository = Repository::here()?
            .ok_or_else(|| {
                anyhow!("not in a Git work tree, so there is no {git_ref} to compare with")
            })
            .or_hint("run this command in the repository")?;
        let root = repository.root.clone();
        let config_path = match config {
            Some(config) => path_in(&root, &config.path).unwrap_or_default(),
            None => PathBuf::from(config::NAME),
        };
        let changed = repository.changed_since(git_ref)?;
        let mut blobs = repository.files(git_ref)?;
        let is_unchanged = |blob: &&Blob| !changed.contains(&blob.path);
        let unchanged = blobs.iter().filter(is_unchanged).map(|blob| blob.path.clone()).collect();
        blobs.retain(|blob| blob.path == config_path || changed.contains(&blob.path));
        let (mut config, mut earlier, mut allowed) = (None, Vec::new(), HashMap::new());
        repository.read(&blobs, |blob, bytes| {
            if blob.path == config_path {
                config = Some(config::of_commit(&root.join(&config_path), &blob.name, bytes));
                return;
            }
            if walk::is_manifest(&blob.path) {
                earlier.extend(sealed_secrets(&blob.path, &blob.name, bytes));
            }
            allowed.insert(blob.path.clone(), allowed_in(&blob.name, bytes));
        })?;
        let (git_ref, config) = (git_ref.to_owned(), config.transpose()?);
        Ok(Self { git_ref, root, config, unchanged, sealed_secrets: earlier, allowed })
    }

    /// Whether a file differs from the earlier commit.
    pub(super) fn differs(&self, file: &Path) -> bool {
        path_in(&self.root, file).is_none_or(|path| !self.unchanged.contains(&path))
    }

    /// What the earlier version of a file that differs allowed. `None` for a file that does not differ.
    pub(super) fn allowed_before(&self, file: &Path) -> Option<Allowed> {
        self.differs(file).then(|| {
            let path = path_in(&self.root, file);
            path.and_then(|path| self.allowed.get(&path).cloned()).unwrap_or_default()
        })
    }

    /// Findings for environments whose recipients changed.
    pub(super) fn recipients_changed(&self, config: Option<&Config>) -> Vec<Finding> {
        let (then, now) = (active(self.config.as_ref()), active(config));
        let names: BTreeSet<_> = then.keys().chain(now.keys()).copied().collect();
        let none = KeyHolders::new();
        let mut findings = Vec::new();
        for name in names {
            let (old, new) = (then.get(name).unwrap_or(&none), now.get(name).unwrap_or(&none));
            let less = |all: &KeyHolders<'_>, others: &KeyHolders<'_>| {
                let left = all.iter().filter(|(fingerprint, _)| !others.contains_key(fingerprint));
                output::list(left.map(|(fingerprint, holder)| format!("{fingerprint} of {holder}")))
            };
            let (came, went) = (less(new, old), less(old, new));
            let what: Vec<_> = [("added", came), ("removed", went)]
                .into_iter()
                .filter(|(_, keys)| !keys.is_empty())
                .map(|(what, keys)| format!("{what} {keys}"))
                .collect();
            if what.is_empty() {
                continue;
            }
            let message = format!(
                "the Active recipients of environment {name} changed since {}: {}",
                self.git_ref,
                what.join("; ")
            );
            let file = config.or(self.config.as_ref()).map(|config| config.path.display());
            let file = file.map(|path| path.to_string()).unwrap_or_default();
            let mark = config.and_then(|config| config.mark_of(name));
            let rule = Rule::RecipientsChanged;
            findings.push(Finding::of_field(rule, &file, mark.as_ref(), message));
        }
        findings
    }

    /// The earlier version of a SealedSecret: in this file, else in another one, else the file's only one.
    fn find(&self, file: &Path, object: &Object<'_>) -> Option<&Earlier> {
        let path = path_in(&self.root, file).filter(|path| !self.unchanged.contains(path))?;
        let (namespace, name) = (object.metadata_field("namespace"), object.metadata_field("name"));
        let is_it = |earlier: &&Earlier| {
            earlier.namespace.as_deref() == namespace && earlier.name.as_deref() == name
        };
        let mut here = self.sealed_secrets.iter().filter(|earlier| earlier.path == path);
        let (first, second) = (here.clone().next(), here.clone().nth(1));
        here.find(is_it)
            .or_else(|| self.sealed_secrets.iter().find(is_it))
            .or_else(|| first.filter(|_| second.is_none()))
    }

    /// What became of the values of a SealedSecret.
    pub(super) fn value_changes(&self, object: &Object<'_>, parsed: &ParsedValues) -> Vec<Finding> {
        let file = PathBuf::from(object.position(&[]).file);
        let Some(earlier) = self.find(&file, object) else { return Vec::new() };
        let old = earlier.values.iter();
        let old = old.map(|(key, text)| (key.as_str(), SealedText::new(text))).collect();
        // `parsed` has the same values in the same order.
        let new = manifest::sealed_data(object).zip(parsed.iter());
        let new = new
            .map(|((key, text), (_, parsed))| (key, SealedText::parsed_before(text, parsed)))
            .collect();
        let git_ref = &self.git_ref;
        let changes = value_diff::of_values(&old, &new).into_iter();
        let findings = changes.flat_map(|(key, change)| {
            let told = match change {
                KeyChange::Added => vec![(
                    Rule::ValueChanged,
                    format!("a new value: {git_ref} does not have this key"),
                )],
                KeyChange::Removed => {
                    vec![(Rule::ValueChanged, format!("the value in {git_ref} was removed"))]
                }
                KeyChange::Value(change) => of_value(&change, git_ref),
            };
            let told = told.into_iter();
            told.map(move |(rule, message)| Finding::of_value(object, rule, key, message))
        });
        findings.collect()
    }
}

fn of_value(change: &ValueChange, git_ref: &str) -> Vec<(Rule, String)> {
    let mut told = Vec::new();
    if let Some((was, is)) = change.binding.as_deref() {
        let what = match change.kind {
            ValueChangeKind::Rebound => "; the payload is unchanged, so it cannot open",
            _ => "",
        };
        let message = format!("sealed for {is}; in {git_ref} it was sealed for {was}{what}");
        told.push((Rule::BindingChanged, message));
    }
    let mut recipients = String::new();
    if !change.came.is_empty() {
        recipients.push_str(&format!("; now also sealed to {}", output::list(&change.came)));
    }
    if !change.went.is_empty() {
        recipients.push_str(&format!("; no longer sealed to {}", output::list(&change.went)));
    }
    match change.kind {
        ValueChangeKind::Changed => {
            let message =
                format!("sealed again since {git_ref}; the value may have changed{recipients}");
            told.push((Rule::ValueChanged, message));
        }
        ValueChangeKind::Rekeyed => {
            let message = format!("the same value as in {git_ref}, with a new header{recipients}");
            told.push((Rule::Rekeyed, message));
        }
        // A value that is not sealed any more has a finding already.
        ValueChangeKind::Unreadable | ValueChangeKind::Rebound => {}
    }
    told
}

/// What the comments and annotations of a file allow.
fn allowed_in(name: &str, bytes: &[u8]) -> Allowed {
    let (mut allowances, _) = allowance::of_comments(name, &allowance::comments(bytes), &[]);
    let input = Input { name: name.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    if let Ok(file) = manifest::parse(input)
        && let Ok((objects, _)) = file.objects_among_others()
    {
        allowances.extend(objects.iter().flat_map(|object| allowance::of_object(object).0));
    }
    let mut allowed = Allowed::new();
    for allowance in allowances {
        *allowed.entry((allowance.rule, allowance.reason)).or_default() += 1;
    }
    allowed
}

/// The SealedSecrets of a file; an unreadable file has none to compare with.
fn sealed_secrets(path: &Path, name: &str, bytes: &[u8]) -> Vec<Earlier> {
    let input = Input { name: name.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) };
    let Ok(file) = manifest::parse(input) else { return Vec::new() };
    let Ok((objects, _)) = file.objects_among_others() else { return Vec::new() };
    let sealed = objects.iter().filter(|object| ObjectKind::of(object) == ObjectKind::SealedSecret);
    sealed
        .map(|object| Earlier {
            path: path.to_owned(),
            namespace: object.metadata_field("namespace").map(str::to_owned),
            name: object.metadata_field("name").map(str::to_owned),
            values: manifest::sealed_data(object)
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
        .collect()
}

/// The Active keys of each environment, with their holders.
fn active(config: Option<&Config>) -> BTreeMap<&str, KeyHolders<'_>> {
    let environments = config.into_iter().flat_map(|config| &config.environments);
    environments
        .map(|environment| {
            let pins = environment.pins.iter().filter(|pin| pin.state == PinState::Active);
            let pins = pins.map(|pin| (pin.recipient.fingerprint(), pin.holder.as_str()));
            (environment.name.as_str(), pins.collect())
        })
        .collect()
}

/// A path as Git names it, from the root of the work tree.
fn path_in(root: &Path, path: &Path) -> Option<PathBuf> {
    Some(std::fs::canonicalize(path).ok()?.strip_prefix(root).ok()?.to_owned())
}
