//! What differs between two sides, as data. The reports decide how to show it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulla_crds::LAST_APPLIED_ANNOTATION;
use bulla_sealing::Fingerprint;
use serde_json::{Map, Value};
use similar::TextDiff;

use crate::commands::diff::objects::{self, ComparedObject, ObjectPair};
use crate::commands::diff::sides::Sides;
use crate::manifest::{self, ObjectKind, Position, Tree};
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::Failure;
use crate::values::sealed_text::SealedText;
use crate::values::value_diff::{self, KeyChange, ValueChangeKind};
use crate::who::config::Config;

/// How many equal lines are shown around those that differ.
const CONTEXT_LINES: usize = 1;

/// Everything that differs.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) objects: Vec<ObjectChange>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// The change to one object.
#[derive(Debug, Default)]
pub(super) struct ObjectChange {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) title: String,
    pub(super) is_plaintext: bool,
    pub(super) kind: ObjectChangeKind,
    pub(super) old: Option<Position>,
    pub(super) new: Option<Position>,
    /// Whether it moved to another file of the tree.
    pub(super) is_moved: bool,
    pub(super) keys: Vec<KeyReport>,
    pub(super) policy: Option<(String, String)>,
    /// Labels, annotations and template: lines that begin with `-`, `+` or a blank.
    pub(super) lines: Vec<String>,
    /// Paths of other fields that differ. Their content could be secret, so it is not shown.
    pub(super) other_fields: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ObjectChangeKind {
    Added,
    Removed,
    #[default]
    Changed,
    /// It only moved to another file.
    Moved,
}

impl ObjectChangeKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Moved => "moved",
        }
    }
}

/// The change to one key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyReport {
    pub(super) key: String,
    pub(super) kind: KeyReportKind,
    /// Where the payload was before, if it moved.
    pub(super) from: Option<(String, String)>,
    /// The old and the new binding, if they differ.
    pub(super) binding: Option<(String, String)>,
    pub(super) came: Vec<Holder>,
    pub(super) went: Vec<Holder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyReportKind {
    Added,
    Removed,
    /// Its payload belonged to another key that was removed.
    Moved,
    /// It has another text.
    Value(ValueChangeKind),
}

impl KeyReportKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Value(ValueChangeKind::Changed) => "changed",
            Self::Value(ValueChangeKind::Rebound) => "rebound",
            Self::Value(ValueChangeKind::Rekeyed) => "rekeyed",
            Self::Value(ValueChangeKind::Unreadable) => "unreadable",
        }
    }
}

/// A key, and its holder if a bulla.yaml names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) fingerprint: Fingerprint,
    pub(super) name: Option<String>,
}

/// Compares two sides.
pub(super) fn compare(sides: &Sides) -> Result<Comparison, Failure> {
    let mut diagnostics = Vec::new();
    let old = objects::parse(&sides.old, &mut diagnostics)?;
    let new = objects::parse(&sides.new, &mut diagnostics)?;
    let old = objects::entries(&old, &mut diagnostics);
    let new = objects::entries(&new, &mut diagnostics);
    // A named file must be readable; in a tree, one unreadable file does not stop the others.
    if !sides.are_trees && !diagnostics.is_empty() {
        return Err(diagnostics.swap_remove(0).into());
    }
    let pairs = objects::pairs(&old, &new);
    let values: Vec<_> = pairs.iter().map(PairValues::of).collect();
    let gone = pairs.iter().zip(&values).flat_map(|(pair, values)| values.gone(pair)).collect();
    let comparer = Comparer { configs: &sides.configs, are_trees: sides.are_trees, gone };
    let objects = pairs.iter().zip(&values);
    let objects = objects.filter_map(|(pair, values)| comparer.object(pair, values)).collect();
    Ok(Comparison { objects, diagnostics })
}

/// The sealed values of an object before and after.
struct PairValues<'a> {
    old: BTreeMap<&'a str, SealedText<'a>>,
    new: BTreeMap<&'a str, SealedText<'a>>,
}

impl<'a> PairValues<'a> {
    fn of(pair: &ObjectPair<'a>) -> Self {
        let values = |entry: Option<&ComparedObject<'a>>| {
            entry.map(|entry| SealedText::of(&entry.object)).unwrap_or_default()
        };
        Self { old: values(pair.old), new: values(pair.new) }
    }

    /// The payloads of the keys that were removed, with the object's title and the key.
    fn gone(&self, pair: &ObjectPair<'_>) -> Vec<(&[u8], (String, String))> {
        let Some(old) = pair.old else { return Vec::new() };
        let gone = self.old.iter().filter(|(key, _)| !self.new.contains_key(*key));
        gone.filter_map(|(key, value)| {
            Some((value.parsed()?.payload(), (old.object.title(), (*key).to_owned())))
        })
        .collect()
    }
}

struct Comparer<'a> {
    configs: &'a [Config],
    are_trees: bool,
    /// Payloads that are no longer in their place, with the object's title and the key.
    gone: HashMap<&'a [u8], (String, String)>,
}

impl Comparer<'_> {
    fn object(&self, pair: &ObjectPair<'_>, values: &PairValues<'_>) -> Option<ObjectChange> {
        let entry = pair.new.or(pair.old)?;
        let is_plaintext = entry.kind == ObjectKind::Secret;
        let is_moved =
            self.are_trees && pair.old.zip(pair.new).is_some_and(|(old, new)| old.path != new.path);
        let mut change = ObjectChange {
            namespace: entry.object.metadata_field("namespace").map(str::to_owned),
            name: entry.object.metadata_field("name").map(str::to_owned),
            title: entry.object.title(),
            is_plaintext,
            old: pair.old.map(|old| old.object.position(&[])),
            new: pair.new.map(|new| new.object.position(&[])),
            is_moved,
            ..ObjectChange::default()
        };
        let is_different = if is_plaintext {
            is_other_secret(pair)
        } else {
            self.fill(&mut change, pair, values);
            !change.keys.is_empty()
                || change.policy.is_some()
                || !change.lines.is_empty()
                || !change.other_fields.is_empty()
        };
        change.kind = match (pair.old, pair.new, is_different) {
            (None, _, _) => ObjectChangeKind::Added,
            (_, None, _) => ObjectChangeKind::Removed,
            (Some(_), Some(_), true) => ObjectChangeKind::Changed,
            (Some(_), Some(_), false) if is_moved => ObjectChangeKind::Moved,
            (Some(_), Some(_), false) => return None,
        };
        Some(change)
    }

    fn fill(&self, change: &mut ObjectChange, pair: &ObjectPair<'_>, values: &PairValues<'_>) {
        change.keys = self.keys(values);
        if pair.new.is_some() {
            change.lines = lines_between(pair.old, pair.new);
        }
        if let (Some(old), Some(new)) = (pair.old, pair.new) {
            let policies = (policy_of(old), policy_of(new));
            change.policy = Some(policies).filter(|(old, new)| old != new);
            change.other_fields = other_fields(old.object.value, new.object.value);
        }
    }

    fn keys(&self, PairValues { old, new }: &PairValues<'_>) -> Vec<KeyReport> {
        let changes = value_diff::of_values(old, new).into_iter();
        changes.map(|(key, change)| self.key(key, change, old.get(key), new.get(key))).collect()
    }

    fn key(
        &self,
        key: &str,
        change: KeyChange,
        old: Option<&SealedText<'_>>,
        new: Option<&SealedText<'_>>,
    ) -> KeyReport {
        let mut report = KeyReport {
            key: key.to_owned(),
            kind: KeyReportKind::Added,
            from: None,
            binding: None,
            came: Vec::new(),
            went: Vec::new(),
        };
        match change {
            KeyChange::Added => {
                report.from = new.and_then(|new| self.gone.get(new.parsed()?.payload())).cloned();
                if report.from.is_some() {
                    report.kind = KeyReportKind::Moved;
                }
                report.came = self.holders(&new.map(SealedText::recipients).unwrap_or_default());
            }
            KeyChange::Removed => {
                report.kind = KeyReportKind::Removed;
                report.went = self.holders(&old.map(SealedText::recipients).unwrap_or_default());
            }
            KeyChange::Value(change) => {
                report.kind = KeyReportKind::Value(change.kind);
                report.binding =
                    change.binding.map(|pair| (pair.0.to_string(), pair.1.to_string()));
                report.came = self.holders(&change.came);
                report.went = self.holders(&change.went);
            }
        }
        report
    }

    fn holders(&self, fingerprints: &[Fingerprint]) -> Vec<Holder> {
        let name = |fingerprint| {
            let mut names = self.configs.iter().filter_map(|config| config.holder_of(fingerprint));
            names.next().map(str::to_owned)
        };
        let holder = |&fingerprint| Holder { fingerprint, name: name(fingerprint) };
        fingerprints.iter().map(holder).collect()
    }
}

/// For plaintext Secrets, only the fact that they differ is shown.
fn is_other_secret(ObjectPair { old, new }: &ObjectPair<'_>) -> bool {
    let about = |entry: &ComparedObject<'_>| {
        let mut value = entry.object.value.clone();
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            metadata.retain(|field, _| ["labels", "annotations"].contains(&field.as_str()));
        }
        Tree::new(value)
    };
    match (old.map(about), new.map(about)) {
        (Some(old), Some(new)) => old.value() != new.value(),
        _ => true,
    }
}

fn policy_of(entry: &ComparedObject<'_>) -> String {
    let policy = entry.object.value.pointer("/spec/target/policy").and_then(Value::as_str);
    policy.unwrap_or(bulla_crds::Policy::default().as_str()).to_owned()
}

/// Labels, annotations and template as YAML, compared line by line.
fn lines_between(
    old: Option<&ComparedObject<'_>>,
    new: Option<&ComparedObject<'_>>,
) -> Vec<String> {
    let text = |entry: Option<&ComparedObject<'_>>| {
        let about = entry.map(|entry| shown(entry.object.value)).unwrap_or_default();
        if about.as_object().is_some_and(|about| !about.is_empty()) {
            String::from_utf8_lossy(&manifest::to_yaml([&about])).into_owned()
        } else {
            String::new()
        }
    };
    let (old, new) = (text(old), text(new));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let mut lines = Vec::new();
    for (index, hunk) in diff.grouped_ops(CONTEXT_LINES).iter().enumerate() {
        if index > 0 {
            lines.push(" ...".to_owned());
        }
        for change in hunk.iter().flat_map(|op| diff.iter_changes(op)) {
            lines.push(format!("{}{}", change.tag(), change.value().trim_end_matches('\n')));
        }
    }
    lines
}

/// The fields of an object that are public by nature.
fn shown(object: &Value) -> Value {
    let mut shown = Map::new();
    for field in ["labels", "annotations"] {
        let marks = object.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
        let marks = marks.into_iter().flatten().filter(|(key, _)| *key != LAST_APPLIED_ANNOTATION);
        let marks: Map<_, _> = marks.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !marks.is_empty() {
            shown.insert(field.to_owned(), Value::Object(marks));
        }
    }
    if let Some(template) = object.pointer("/spec/template").filter(|template| !template.is_null())
    {
        shown.insert("template".to_owned(), template.clone());
    }
    Value::Object(shown)
}

/// The other fields, without those that the cluster writes.
fn other_fields(old: &Value, new: &Value) -> Vec<String> {
    const OF_OBJECT: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    const OF_SPEC: [&str; 3] = ["sealedData", "template", "target"];
    let differing = |old: &Value, new: &Value, known: &[&str]| -> Vec<String> {
        let fields = [old, new].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
        let is_other = |field: &&String| {
            !known.contains(&field.as_str()) && old.get(*field) != new.get(*field)
        };
        fields.filter(is_other).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    let of_spec = differing(&old["spec"], &new["spec"], &OF_SPEC);
    let mut fields = differing(old, new, &OF_OBJECT);
    fields.extend(of_spec.into_iter().map(|field| format!("spec.{field}")));
    fields
}
