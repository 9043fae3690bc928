//! Documents that both sides added at the end of a file. As text they would be one conflict, in which their common lines
//! appear only once; as documents they are independent.

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
        let known: HashSet<Id> = documents(base)?.into_iter().map(|(id, _)| id).collect();
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
        let documents = documents(text)?;
        let kept = documents.iter().rposition(|(id, _)| known.contains(id));
        let (kept, added) = documents.split_at(kept.map_or(0, |last| last + 1));
        let set = |of: &[(Id, usize)]| of.iter().map(|(id, _)| id.clone()).collect::<HashSet<Id>>();
        let (kept, new) = (set(kept), set(added));
        let (_, line) = added.first()?;
        if new.len() != added.len() {
            return None;
        }
        let start = if kept.is_empty() { 0 } else { separator_before(text, *line)? };
        Some(Self { before: &text[..start], kept, added: new, text: &text[start..] })
    }
}

/// The objects of a text, one in each document, and the lines where the documents begin. `None` if the objects cannot be
/// told apart.
fn documents(text: &str) -> Option<Vec<(Id, usize)>> {
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
    let starts = file.lines().into_iter().map(|lines| lines.start);
    file.whole_documents()
        .into_iter()
        .zip(starts)
        .map(|(object, line)| Some((id(object)?, line)))
        .collect()
}

/// Where the separator before the document at a line begins.
fn separator_before(text: &str, line: usize) -> Option<usize> {
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(newline, _)| newline + 1));
    [line, line.checked_sub(1)?].into_iter().find_map(|line| {
        let start = *starts.get(line.checked_sub(1)?)?;
        text[start..].starts_with("---").then_some(start)
    })
}
