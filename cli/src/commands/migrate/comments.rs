//! Comments of a manifest: which are gone from an edited one, and those of a whole document put where what they are
//! about went.

use std::collections::HashMap;

use serde_json::Value;

use crate::manifest::{Document, ManifestFile, Object, Step};

/// How SOPS writes a comment that it encrypted.
const ENCRYPTED: &str = "#ENC[";

struct Comment {
    /// Counted from 1, in the document.
    line: usize,
    text: String,
    /// Whether it stands behind something.
    is_trailing: bool,
    /// Whether it begins its line without a blank.
    is_outermost: bool,
}

/// The comments of a YAML text. What no reader of comments understands has none.
fn of(text: &str) -> Vec<Comment> {
    if !text.contains('#') {
        return Vec::new();
    }
    let Ok(yaml) = yamlpath::Document::new(text) else { return Vec::new() };
    let mut comments = Vec::new();
    let mut end = 0;
    for (offset, _) in text.match_indices('#') {
        if offset < end || !yaml.offset_inside_comment(offset) {
            continue;
        }
        end = text[offset..].find('\n').map_or(text.len(), |length| offset + length);
        let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        comments.push(Comment {
            line: text[..offset].matches('\n').count() + 1,
            text: text[offset..end].trim_end().to_owned(),
            is_trailing: !text[line_start..offset].trim().is_empty(),
            is_outermost: offset == line_start,
        });
    }
    comments
}

/// The lines in the file of comments that the new document does not have.
pub(super) fn lost(old: &Document, new: &Document) -> Vec<usize> {
    let mut lost = of(old.own_text());
    if lost.is_empty() {
        return Vec::new();
    }
    let mut kept: HashMap<String, usize> = HashMap::new();
    for comment in of(new.own_text()) {
        *kept.entry(comment.text).or_default() += 1;
    }
    lost.retain(|comment| match kept.get_mut(&comment.text) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    lost.iter().map(|comment| old.lines_before() + comment.line).collect()
}

/// A new text with the comments of the old document.
pub(super) struct Carried {
    pub(super) text: String,
    /// How many were encrypted, and so are left out.
    pub(super) encrypted: usize,
}

/// Where something went: a path in the old object as one in the new.
type NewPath = fn(&[String]) -> Vec<String>;

/// Puts the comments of `old` into `yaml`, a new object, each by the key that it stood by. Those before the first
/// key stay where they are, which is not in `yaml`.
pub(super) fn carry(
    old: &Object<'_>,
    document: &Document,
    yaml: &str,
    new_path: NewPath,
) -> Carried {
    let first = document.content_line();
    let mut encrypted = 0;
    let mut comments = of(document.own_text());
    for comment in &mut comments {
        comment.line += document.lines_before();
    }
    comments.retain(|comment| {
        let is_encrypted = comment.text.starts_with(ENCRYPTED);
        encrypted += usize::from(is_encrypted);
        !is_encrypted && comment.line >= first
    });
    if comments.is_empty() {
        return Carried { text: yaml.to_owned(), encrypted };
    }
    let old_keys = keys(old);
    let new_lines = lines_of(yaml);
    let (mut above, mut below, mut behind): (Lines, Lines, Lines) = Default::default();
    let mut last = Vec::new();
    for comment in comments {
        let line_of = |path: &[String]| {
            let new = new_path(path);
            (1..=new.len()).rev().find_map(|length| new_lines.get(&new[..length]).copied())
        };
        let own = old_keys.iter().find(|(line, _)| *line == comment.line && comment.is_trailing);
        let next = old_keys.iter().find(|(line, _)| *line > comment.line);
        let before = old_keys.iter().rev().find(|(line, _)| *line < comment.line);
        let is_sops = |path: &[String]| path.first().is_some_and(|key| key == super::sops::MARK);
        match (own, next, before) {
            (Some((_, path)), _, _) if !is_sops(path) => {
                behind.entry(line_of(path).unwrap_or(1)).or_default().push(comment.text);
            }
            (None, Some((_, path)), _) if !is_sops(path) => {
                above.entry(line_of(path).unwrap_or(1)).or_default().push(comment.text);
            }
            (None, _, Some((_, path))) if !is_sops(path) && !comment.is_outermost => {
                below.entry(line_of(path).unwrap_or(1)).or_default().push(comment.text);
            }
            _ => last.push(comment.text),
        }
    }
    let mut text = String::with_capacity(yaml.len() * 2);
    for (number, line) in (1..).zip(yaml.lines()) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let own_lines = |text: &mut String, comments: Option<&Vec<String>>| {
            comments.into_iter().flatten().for_each(|comment| {
                text.extend([indent, comment, "\n"]);
            });
        };
        own_lines(&mut text, above.get(&number));
        text.push_str(line);
        behind.get(&number).into_iter().flatten().for_each(|comment| text.extend([" ", comment]));
        text.push('\n');
        own_lines(&mut text, below.get(&number));
    }
    last.iter().for_each(|comment| text.extend([comment, "\n"]));
    Carried { text, encrypted }
}

type Lines = HashMap<usize, Vec<String>>;

/// The paths of all keys of an object and the lines they stand in, in their order.
fn keys(object: &Object<'_>) -> Vec<(usize, Vec<String>)> {
    let mut keys = Vec::new();
    push_keys(object, object.value, &mut Vec::new(), &mut keys);
    // In one line the outermost comes first.
    keys.sort_by_key(|(line, path)| (*line, path.len()));
    keys
}

fn push_keys(
    object: &Object<'_>,
    value: &Value,
    path: &mut Vec<String>,
    keys: &mut Vec<(usize, Vec<String>)>,
) {
    for (key, value) in value.as_object().into_iter().flatten() {
        path.push(key.clone());
        let steps: Vec<_> = path.iter().map(|key| Step::Key(key)).collect();
        keys.push((object.position(&steps).line, path.clone()));
        if path[0] != super::sops::MARK {
            push_keys(object, value, path, keys);
        }
        path.pop();
    }
}

/// The lines of all keys of a text of ours.
fn lines_of(yaml: &str) -> HashMap<Vec<String>, usize> {
    let input =
        crate::files::input::Input { name: String::new(), bytes: yaml.as_bytes().to_vec().into() };
    let Ok(file) = ManifestFile::parse(input) else { return HashMap::new() };
    let Ok(objects) = file.objects() else { return HashMap::new() };
    objects.iter().flat_map(keys).map(|(line, path)| (path, line)).collect()
}

/// What stands before the content of a document, without comments that are encrypted; and how many those are.
pub(super) fn head(text: &str) -> (String, usize) {
    let is_encrypted = |line: &&str| line.trim_start().starts_with(ENCRYPTED);
    let kept = text.split_inclusive('\n').filter(|line| !is_encrypted(line)).collect();
    (kept, text.lines().filter(is_encrypted).count())
}
