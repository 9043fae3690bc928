//! One patch of a document as an edit of its text. Every other byte stays, including comments, order, quotes and line
//! ends, in block and flow style and in JSON.
//!
//! The crate writes new text in its own style, because parsers of YAML 1.1 read it too. The result is read again and
//! compared before it is returned, so an edit need not be right for every way of writing YAML, but it must be right
//! for the ways that people use.

use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::layout::{Layout, MappingStyle, TextEdit, edit};
use crate::outline::{NodePlace, NodeStyle};
use crate::patch::{Action, NotEdited, Patch};
use crate::relocate::Move;
use crate::tree::OwnedStep;
use crate::write;

/// The edits that apply a patch to the document with this layout.
pub(crate) fn edits_of(layout: &Layout<'_>, patch: &Patch) -> Result<Vec<TextEdit>, NotEdited> {
    let writer = PatchWriter { layout, patch };
    let depth = patch.path.len();
    let edit = match &patch.action {
        Action::Move(to) => return Move { layout, from: &patch.path, to }.edits(),
        Action::Remove => writer.without(),
        Action::Rename(key) => writer.renamed(key),
        Action::Set(value) => writer.with(depth, value.clone()),
        Action::Append(item) => {
            let list = Value::from(vec![item.clone()]);
            match writer.value_at(depth).and_then(Value::as_array) {
                Some(items) if !items.is_empty() => writer.with_more(depth, &list),
                _ => writer.with(depth, list),
            }
        }
    };
    Ok(vec![edit?])
}

struct PatchWriter<'a> {
    /// The layout before the patch.
    layout: &'a Layout<'a>,
    patch: &'a Patch,
}

impl<'a> PatchWriter<'a> {
    /// Sets the value at the end of the path, whether it exists or not.
    fn with(&self, depth: usize, value: Value) -> Result<TextEdit, NotEdited> {
        if self.is_there(depth) {
            return self.exchanged(depth, &value);
        }
        // The innermost existing mapping around it, and the missing keys between the two.
        let there = (0..depth).rev().find(|&depth| self.is_there(depth)).unwrap_or(0);
        let mut missing = self.patch.path[there..].iter().rev();
        let value = missing.try_fold(value, |value, step| match step {
            OwnedStep::Key(key) => Ok(Value::from_iter([(key.as_str(), value)])),
            OwnedStep::Index(_) => Err(NotEdited),
        })?;
        match self.value_at(there).and_then(Value::as_object) {
            Some(map) if !map.is_empty() => self.with_more(there, &value),
            _ => self.exchanged(there, &value),
        }
    }

    fn is_there(&self, depth: usize) -> bool {
        self.value_at(depth).is_some()
    }

    fn value_at(&self, depth: usize) -> Option<&'a Value> {
        self.layout.value_at(&self.patch.path[..depth])
    }

    fn place(&self, depth: usize) -> Result<NodePlace, NotEdited> {
        self.layout.place(&self.patch.path[..depth])
    }

    /// Replaces the value of an existing key.
    fn exchanged(&self, depth: usize, value: &Value) -> Result<TextEdit, NotEdited> {
        let place = self.place(depth)?;
        let key = place.key.as_ref().ok_or(NotEdited)?;
        let colon = self.layout.colon_of(key)?;
        let old = if place.value.is_empty() { colon..colon } else { place.value.clone() };
        let line_start = self.layout.line_start(key.start);
        let before = self.layout.text[line_start..key.start].trim_start_matches(' ');
        let is_in_block = self.place(depth - 1)?.style == NodeStyle::Block;
        let new = match value {
            value if takes_lines(value) && is_in_block && ["", "- "].contains(&before) => {
                return Ok(self.with_block(&old, colon, value, key.start - line_start));
            }
            Value::String(text) => {
                if let Some(edit) = self.within(&old, depth, text) {
                    return Ok(edit);
                }
                self.literal(&old, text)
                    .or_else(|| self.quoted_like(&old, text))
                    .unwrap_or_else(|| flow(value))
            }
            value => flow(value),
        };
        let space = if old.is_empty() { " " } else { "" };
        Ok(edit(old, &[space, &new]))
    }

    /// Replaces the text inside the old quotes or below the old bar, if the old text is written there without escapes.
    fn within(&self, old: &Range<usize>, depth: usize, text: &str) -> Option<TextEdit> {
        let before = self.value_at(depth)?.as_str()?;
        let is_plain = self.layout.text[old.clone()] == *before;
        if !is_simple(before) || !is_simple(text) || is_plain && !write::is_plain(text) {
            return None;
        }
        let start = old.start + self.layout.text[old.clone()].rfind(before)?;
        Some(edit(start..start + before.len(), &[text]))
    }

    /// Puts a mapping or list in place of a value, below its key. A comment after the key stays there.
    fn with_block(
        &self,
        old: &Range<usize>,
        colon: usize,
        value: &Value,
        indent: usize,
    ) -> TextEdit {
        let layout = self.layout;
        let lines = layout.block(value, indent + 2);
        let line_end = layout.line_end(colon);
        if old.start > line_end {
            return edit(line_end..old.end, &[layout.line_break(), &lines]);
        }
        let head = layout.text[..old.start].trim_end_matches(' ').len();
        let tail = layout.line_end(old.end);
        let comment = layout.text[old.end..tail].trim_end();
        edit(head..tail, &[comment, layout.line_break(), &lines])
    }

    /// Adds a key to a mapping that is not empty, or an item to such a list. `more` contains only that.
    fn with_more(&self, depth: usize, more: &Value) -> Result<TextEdit, NotEdited> {
        let layout = self.layout;
        let path = &self.patch.path[..depth];
        match layout.style_of(path)? {
            MappingStyle::Block(indent) => {
                let at = layout.line_end(layout.end_of(path)?);
                Ok(edit(at..at, &[layout.line_break(), &layout.block(more, indent)]))
            }
            MappingStyle::Flow => {
                let (at, separator) = layout.end_inside(&self.place(depth)?.value)?;
                let more = flow(more);
                Ok(edit(at..at, &[",", separator, &more[1..more.len() - 1]]))
            }
        }
    }

    /// Removes a key and its value.
    fn without(&self) -> Result<TextEdit, NotEdited> {
        let (layout, path) = (self.layout, &self.patch.path);
        let depth = path.len();
        let pair = layout.key_of(path)?.start..layout.end_of(path)?;
        let siblings = self.value_at(depth - 1).and_then(Value::as_object).map_or(0, Map::len);
        match layout.style_of(&path[..depth - 1])? {
            // A mapping that becomes empty is written as `{}`.
            MappingStyle::Block(_) if siblings == 1 => Ok(edit(pair, &["{}"])),
            MappingStyle::Block(_) => {
                let line_start = layout.line_start(pair.start);
                if !layout.text[line_start..pair.start].trim().is_empty() {
                    // The first key of a list item follows its dash.
                    let rest = &layout.text[pair.end..];
                    let next = rest.len() - rest.trim_start().len();
                    return Ok(edit(pair.start..pair.end + next, &[]));
                }
                Ok(edit(line_start..layout.next_line(pair.end), &[]))
            }
            MappingStyle::Flow => {
                let parent = self.place(depth - 1)?.value;
                Ok(edit(layout.with_comma(pair, &parent), &[]))
            }
        }
    }

    /// Replaces the key of a value.
    fn renamed(&self, key: &str) -> Result<TextEdit, NotEdited> {
        let old = self.place(self.patch.path.len())?.key.ok_or(NotEdited)?;
        let new = self.quoted_like(&old, key).unwrap_or_else(|| flow(&Value::from(key)));
        Ok(edit(old, &[&new]))
    }

    /// The text on lines of its own, indented like those of the old text, if the old text has such lines.
    fn literal(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let (header, lines) = self.layout.text[old.clone()].split_once('\n')?;
        let first = lines.lines().find(|line| !line.trim().is_empty())?;
        let indent = &first[..first.len() - first.trim_start_matches(' ').len()];
        let is_printable =
            |it: char| it == '\n' || !it.is_control() && !"\u{2028}\u{2029}\u{feff}".contains(it);
        let content = text.trim_end_matches('\n');
        let chomping = match text.len() - content.len() {
            0 => "|-",
            1 => "|",
            _ => return None,
        };
        if !header.starts_with(['|', '>'])
            || content.is_empty()
            || content.starts_with([' ', '\n'])
            || !text.chars().all(is_printable)
        {
            return None;
        }
        let line_break = self.layout.line_break();
        let mut literal = Zeroizing::new(chomping.to_owned());
        for line in content.split('\n') {
            literal.push_str(line_break);
            if !line.is_empty() {
                literal.extend([indent, line]);
            }
        }
        Some(literal)
    }

    /// The text in the quotes of the old value, if it has quotes and the new text needs no escapes in them.
    fn quoted_like(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let first = self.layout.text[old.clone()].chars().next();
        // In JSON, text without quotes is not valid.
        let is_json = self.layout.text.trim_start().starts_with('{');
        let is_text = || self.value_at(self.patch.path.len()).is_some_and(Value::is_string);
        match first.filter(|first| ['\'', '"'].contains(first)) {
            Some(quote) if is_simple(text) => Some(Zeroizing::new(format!("{quote}{text}{quote}"))),
            None if write::is_plain(text) && (!is_json || is_text()) => {
                Some(Zeroizing::new(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// Whether a value is written on lines of its own in block style.
fn takes_lines(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// The value on one line, in a form that JSON and every version of YAML read alike.
fn flow(value: &Value) -> Zeroizing<String> {
    Zeroizing::new(value.to_string())
}

/// Whether a text needs no escapes in any quotes or below a bar.
fn is_simple(text: &str) -> bool {
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=._-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_simple)
}
