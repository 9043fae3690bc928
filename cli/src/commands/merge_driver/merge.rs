//! Merges three versions of a file: each value as a unit, everything else as text.
//!
//! A decided value becomes the same token in all versions, so the text merge sees no difference. An undecided value
//! becomes three tokens, and so a conflict in its place. The result is read again: if it does not match the
//! decisions, the whole file becomes a conflict, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bulla_crds::SEALED_PREFIX;
use zeroize::Zeroizing;

use crate::commands::merge_driver::appended::Appended;
use crate::commands::merge_driver::decide::{Decision, Remark, Side, decide};
use crate::commands::merge_driver::text::{ConflictStyle, MergedText, merge_lines, whole_conflict};
use crate::files::input::Input;
use crate::manifest::{self, ManifestFile, Object, ObjectKind, Patch};

/// Namespace and name of an object, and the data key.
type ValueId = (Option<String>, String, String);

/// A merge and its messages.
pub(super) struct Merged {
    pub(super) text: Zeroizing<String>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) notes: Vec<String>,
}

/// A change that could not be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A value that both sides changed.
    Value(String),
    /// The number of other places in the file.
    Text(usize),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}: both sides changed it"),
            Self::Text(1) => f.write_str("both sides changed it in one place"),
            Self::Text(places) => write!(f, "both sides changed it in {places} places"),
        }
    }
}

/// Merges three versions. An empty version has no documents, such as the ancestor if both sides added the file.
pub(super) fn merge(texts: [&str; 3], style: &ConflictStyle) -> Merged {
    let Some(appended) = Appended::of(texts) else { return merge_documents(texts, style) };
    let mut merged = merge_documents(appended.before, style);
    appended.add_to(&mut merged.text);
    merged
}

/// The same where no two sides added documents at the end.
fn merge_documents(texts: [&str; 3], style: &ConflictStyle) -> Merged {
    if let [Some(base), Some(ours), Some(theirs)] = texts.map(FileVersion::read) {
        return Merge::new([base, ours, theirs]).merged(texts, style);
    }
    let merged = merge_lines(texts, style, |_| None);
    let conflicts = (merged.conflicts > 0).then_some(Conflict::Text(merged.conflicts));
    let note =
        "one of the versions is not a manifest, or has an object twice, so all were merged as text";
    let conflicts = conflicts.into_iter().collect();
    Merged { text: merged.text, conflicts, notes: vec![note.to_owned()] }
}

/// One version of the file.
struct FileVersion {
    /// None for an empty text.
    file: Option<ManifestFile>,
    values: BTreeMap<ValueId, String>,
}

impl FileVersion {
    fn read(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self { file: None, values: BTreeMap::new() });
        }
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        let file = manifest::parse(Input { name: String::new(), bytes }).ok()?;
        let values = values_of(&file)?;
        Some(Self { file: Some(file), values })
    }

    /// The text with the tokens in place of the values.
    fn with_tokens(&self, tokens: &BTreeMap<ValueId, String>) -> Option<Zeroizing<String>> {
        let Some(file) = &self.file else { return Some(Zeroizing::default()) };
        let (objects, _) = file.objects_among_others().ok()?;
        let mut patches = Vec::new();
        for object in objects {
            for (key, _) in manifest::sealed_data(&object) {
                let token = value_id(&object, key).and_then(|id| tokens.get(&id));
                if let Some(token) = token {
                    let path = ["spec", "sealedData", key];
                    patches.push(Patch::set(&object, &path, token.clone().into()));
                }
            }
        }
        let bytes = file.changed(&patches, &[]).ok()?.bytes();
        Some(Zeroizing::new(str::from_utf8(&bytes).ok()?.to_owned()))
    }
}

fn value_id(object: &Object<'_>, key: &str) -> Option<ValueId> {
    if ObjectKind::of(object) != ObjectKind::SealedSecret {
        return None;
    }
    let metadata = object.value.get("metadata")?;
    let text = |field| metadata.get(field).and_then(serde_json::Value::as_str).map(str::to_owned);
    Some((text("namespace"), text("name")?, key.to_owned()))
}

/// The values that look sealed, or nothing if the file has an object twice: then they are ambiguous.
fn values_of(file: &ManifestFile) -> Option<BTreeMap<ValueId, String>> {
    let (objects, _) = file.objects_among_others().ok()?;
    let mut values = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for object in &objects {
        let Some((namespace, name, _)) = value_id(object, "") else { continue };
        if !seen.insert((namespace, name)) {
            return None;
        }
        for (key, value) in manifest::sealed_data(object) {
            values.extend(value_id(object, key).map(|id| (id, value.to_owned())));
        }
    }
    Some(values)
}

struct Merge {
    versions: [FileVersion; 3],
    decisions: BTreeMap<ValueId, Decision>,
}

impl Merge {
    fn new(versions: [FileVersion; 3]) -> Self {
        let all: BTreeSet<_> = versions.iter().flat_map(|version| version.values.keys()).collect();
        let decision = |id: &ValueId| {
            let values = versions.each_ref().map(|version| version.values.get(id));
            let [base, ours, theirs] = values.map(|value| value.map(String::as_str));
            let is_sealed = values.iter().flatten().all(|value| value.starts_with(SEALED_PREFIX));
            is_sealed.then(|| (id.clone(), decide(base, ours, theirs)))
        };
        let decisions = all.into_iter().filter_map(decision).collect();
        Self { versions, decisions }
    }

    fn merged(&self, texts: [&str; 3], style: &ConflictStyle) -> Merged {
        let open = self.decisions.iter().filter(|(_, decision)| **decision == Decision::Conflict);
        let mut conflicts: Vec<_> = open.map(|(id, _)| Conflict::Value(title(id))).collect();
        let merged = self.merged_by_value(texts, style).unwrap_or_else(|| {
            // The values cannot be replaced by tokens: there are anchors, or values on several lines.
            merge_lines(texts, style, |_| None)
        });
        let is_right = merged.conflicts > 0 || self.is_as_decided(&merged.text);
        let merged = if is_right { merged } else { whole_conflict(texts, style) };
        let places = merged.conflicts.saturating_sub(conflicts.len());
        if places > 0 {
            conflicts.push(Conflict::Text(places));
        }
        let notes = match merged.conflicts {
            0 => self.decisions.iter().filter_map(|(id, decision)| remark(id, *decision)).collect(),
            _ => Vec::new(),
        };
        Merged { text: merged.text, conflicts, notes }
    }

    fn merged_by_value(&self, texts: [&str; 3], style: &ConflictStyle) -> Option<MergedText> {
        let tokens = Tokens::new(texts, &self.decisions);
        let [base, ours, theirs] =
            [0, 1, 2].map(|side| self.versions[side].with_tokens(&tokens.of[side]));
        let (base, ours, theirs) = (base?, ours?, theirs?);
        let merged = merge_lines([&base, &ours, &theirs], style, |line| tokens.the_one_in(line));
        let text = tokens.exchanged(&merged.text, |id, side| self.value(id, side))?;
        Some(MergedText { text, conflicts: merged.conflicts })
    }

    /// The value behind a side's token.
    fn value(&self, id: &ValueId, side: usize) -> Option<&str> {
        let side = taken(self.decisions.get(id)?).unwrap_or(side);
        // A removed value may still be part of a conflict, on the side that has it.
        let others = self.versions.iter().rev();
        let mut versions = [&self.versions[side]].into_iter().chain(others);
        versions.find_map(|version| version.values.get(id)).map(String::as_str)
    }

    /// Whether a text without conflicts has the values that were taken, and no others.
    fn is_as_decided(&self, text: &str) -> bool {
        let Some(merged) = FileVersion::read(text) else { return false };
        let is_met = |(id, decision): (&ValueId, &Decision)| {
            let version = taken(decision).map(|side| &self.versions[side]);
            version.is_some_and(|version| merged.values.get(id) == version.values.get(id))
        };
        let is_known =
            |id: &ValueId| self.versions.iter().any(|version| version.values.contains_key(id));
        self.decisions.iter().all(is_met) && merged.values.keys().all(is_known)
    }
}

/// The index of the version whose value is taken.
fn taken(decision: &Decision) -> Option<usize> {
    match decision {
        Decision::Take(Side::Ours, _) => Some(1),
        Decision::Take(Side::Theirs, _) => Some(2),
        Decision::Conflict => None,
    }
}

fn title((namespace, name, key): &ValueId) -> String {
    let namespace = namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
    format!("{namespace}{name}: key {key}")
}

fn remark(id: &ValueId, decision: Decision) -> Option<String> {
    let what = match decision {
        Decision::Take(_, Remark::OlderRecipients) => {
            "one side changed it and the other rekeyed it; the changed value is taken, and is still sealed to \
             its older recipients: run bulla rekey"
        }
        Decision::Take(_, Remark::RemovedThoughRekeyed) => {
            "one side removed it and the other rekeyed it; the value is removed"
        }
        Decision::Take(_, Remark::Nothing) | Decision::Conflict => return None,
    };
    Some(format!("{}: {what}", title(id)))
}

/// Tokens in place of the values while the text is merged.
struct Tokens {
    /// The start of every token; no version contains it.
    prefix: String,
    ids: Vec<ValueId>,
    /// The tokens of each version.
    of: [BTreeMap<ValueId, String>; 3],
}

impl Tokens {
    fn new(texts: [&str; 3], decisions: &BTreeMap<ValueId, Decision>) -> Self {
        let mut prefix = "sealed-".to_owned();
        while texts.iter().any(|text| text.contains(&prefix)) {
            prefix.push_str("x-");
        }
        let ids: Vec<_> = decisions.keys().cloned().collect();
        let of = [0, 1, 2].map(|version| {
            let token = |(number, (id, decision)): (usize, (&ValueId, &Decision))| {
                let version = if *decision == Decision::Conflict { version } else { 0 };
                (id.clone(), format!("{prefix}{number:06}-{version}"))
            };
            decisions.iter().enumerate().map(token).collect()
        });
        Self { prefix, ids, of }
    }

    /// The number of the value whose token is the only one in a line.
    fn the_one_in<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut found = line.match_indices(&self.prefix);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => line[at + self.prefix.len()..].get(..6),
            _ => None,
        }
    }

    /// The text with values in place of the tokens.
    fn exchanged<'a>(
        &self,
        text: &str,
        value: impl Fn(&ValueId, usize) -> Option<&'a str>,
    ) -> Option<Zeroizing<String>> {
        let mut parts = text.split(&self.prefix);
        let mut exchanged = Zeroizing::new(parts.next()?.to_owned());
        for part in parts {
            let (number, version) = (part.get(..6)?, part.get(7..8)?);
            let id = self.ids.get(number.parse::<usize>().ok()?)?;
            exchanged.push_str(value(id, version.parse().ok()?)?);
            exchanged.push_str(&part[8..]);
        }
        Some(exchanged)
    }
}
