//! Documents that both sides added at the end of a file. As text they would be one conflict, in which their common lines
//! stand once; as documents they have nothing to do with one another.

use std::collections::HashSet;

use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::manifest;

/// What identifies an object: version, kind, namespace and name.
type Id = [Option<String>; 4];

/// The versions without what was added at their ends, and what was added.
pub(super) struct Appended<'a> {
    pub(super) before: [&'a str; 3],
    ours: &'a str,
    theirs: &'a str,
}

/// One version, split into the documents that the ancestor may have and those that were added.
struct Split<'a> {
    before: &'a str,
    kept: HashSet<Id>,
    added: HashSet<Id>,
    text: &'a str,
}

impl<'a> Appended<'a> {
    /// What both sides added, if nothing of it is an object that another version has.
    pub(super) fn of([base, ours, theirs]: [&'a str; 3]) -> Option<Self> {
        let known: HashSet<Id> = ids(base)?.into_iter().collect();
        let (ours, theirs) = (Split::of(ours, &known)?, Split::of(theirs, &known)?);
        let is_new = ours.added.is_disjoint(&theirs.added)
            && ours.added.is_disjoint(&theirs.kept)
            && theirs.added.is_disjoint(&ours.kept);
        is_new.then_some(Self {
            before: [base, ours.before, theirs.before],
            ours: ours.text,
            theirs: theirs.text,
        })
    }

    /// Adds both at the end of the merged text.
    pub(super) fn add_to(&self, text: &mut Zeroizing<String>) {
        let line_end = if self.ours.contains("\r\n") { "\r\n" } else { "\n" };
        for added in [self.ours, self.theirs] {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push_str(line_end);
            }
            if !text.is_empty() && !added.starts_with("---") {
                text.push_str("---");
                text.push_str(line_end);
            }
            text.push_str(added);
        }
    }
}

impl<'a> Split<'a> {
    fn of(text: &'a str, known: &HashSet<Id>) -> Option<Self> {
        let ids = ids(text)?;
        let kept = ids.iter().rposition(|id| known.contains(id)).map_or(0, |last| last + 1);
        let (kept, added) = ids.split_at(kept);
        let (kept, new): (HashSet<Id>, HashSet<Id>) =
            (kept.iter().cloned().collect(), added.iter().cloned().collect());
        if added.is_empty() || new.len() != added.len() {
            return None;
        }
        let start = if kept.is_empty() { 0 } else { start_of(text, ids.len() - added.len())? };
        Some(Self { before: &text[..start], kept, added: new, text: &text[start..] })
    }
}

/// The objects of a text, one in each document. `None` if they cannot be told apart.
fn ids(text: &str) -> Option<Vec<Id>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let bytes = Zeroizing::new(text.as_bytes().to_vec());
    let file = manifest::parse(Input { name: String::new(), bytes }).ok()?;
    if file.is_json() {
        return None;
    }
    let id = |object: manifest::Object<'_>| {
        let name = object.metadata_field("name")?.to_owned();
        let texts = [object.api_version(), object.kind(), object.metadata_field("namespace")];
        let [version, kind, namespace] = texts.map(|text| text.map(str::to_owned));
        Some([version, kind, namespace, Some(name)])
    };
    file.whole_documents().into_iter().map(id).collect()
}

/// Where the separator before a document begins.
fn start_of(text: &str, document: usize) -> Option<usize> {
    let bytes = Zeroizing::new(text.as_bytes().to_vec());
    let file = manifest::parse(Input { name: String::new(), bytes }).ok()?;
    let line = file.lines().get(document)?.start;
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(newline, _)| newline + 1));
    [line, line.checked_sub(1)?].into_iter().find_map(|line| {
        let start = *starts.get(line.checked_sub(1)?)?;
        text[start..].starts_with("---").then_some(start)
    })
}
