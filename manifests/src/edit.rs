//! One patch of a document as an edit of its text: every other byte stays, comments, order, quotes and line ends
//! included, in block and flow style and in JSON.
//!
//! What is written is ours, because it is read by parsers of YAML 1.1 too. It is read again and compared before anybody
//! gets to see it, so an edit need not be right for every way of writing YAML, but it must be for those that people use.

use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::layout::{Layout, MappingStyle, TextEdit, edit};
use crate::outline::{NodePlace, NodeStyle};
use crate::patch::{Action, NotEdited, Patch};
use crate::relocate::Move;
use crate::tree::OwnedStep;
use crate::write;

/// The edits that make a patch of a document, which has this layout.
pub(crate) fn edits_of(layout: &Layout<'_>, patch: &Patch) -> Result<Vec<TextEdit>, NotEdited> {
    if let Action::Move(to) = &patch.action {
        return Move { layout, from: &patch.path, to }.edits();
    }
    PatchWriter { layout, patch }.edit().map(|edit| vec![edit])
}

struct PatchWriter<'a> {
    /// Before the patch.
    layout: &'a Layout<'a>,
    patch: &'a Patch,
}

impl<'a> PatchWriter<'a> {
    fn edit(&self) -> Result<TextEdit, NotEdited> {
        let depth = self.patch.path.len();
        match &self.patch.action {
            Action::Move(_) => Err(NotEdited),
            Action::Remove => self.without(),
            Action::Rename(key) => self.renamed(key),
            Action::Set(value) => self.with(depth, value.clone()),
            Action::Append(item) => {
                let list = Value::from(vec![item.clone()]);
                match self.value_at(depth).and_then(Value::as_array) {
                    Some(items) if !items.is_empty() => self.with_more(depth, &list),
                    _ => self.with(depth, list),
                }
            }
        }
    }

    /// With a value at the end of the path, whether there was one or not.
    fn with(&self, depth: usize, value: Value) -> Result<TextEdit, NotEdited> {
        if self.is_there(depth) {
            return self.exchanged(depth, &value);
        }
        // The innermost mapping around it that is there, and what is missing between the two.
        let there = (0..depth).rev().find(|&depth| self.is_there(depth)).unwrap_or(0);
        let mut missing = self.patch.path[there..].iter().rev();
        let value = missing.try_fold(value, |value, step| match step {
            OwnedStep::Key(key) => Ok(mapping(key, value)),
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

    /// With another value behind a key that is there.
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

    /// In the quotes, or below the bar, of an old text that stands there as it is.
    fn within(&self, old: &Range<usize>, depth: usize, text: &str) -> Option<TextEdit> {
        let before = self.value_at(depth)?.as_str()?;
        let is_plain = self.layout.text[old.clone()] == *before;
        if !is_simple(before) || !is_simple(text) || is_plain && !write::is_plain(text) {
            return None;
        }
        let start = old.start + self.layout.text[old.clone()].rfind(before)?;
        Some(edit(start..start + before.len(), &[text]))
    }

    /// With a mapping or list in place of a value, below its key. A comment behind the key stays there.
    fn with_block(
        &self,
        old: &Range<usize>,
        colon: usize,
        value: &Value,
        indent: usize,
    ) -> TextEdit {
        let lines = self.layout.block(value, indent + 2);
        let line_end = self.layout.line_end(colon);
        match old.start <= line_end {
            true => {
                let comment = self.layout.text[old.end..self.layout.line_end(old.end)].trim_end();
                let head = self.layout.text[..old.start].trim_end_matches(' ').len();
                let tail = self.layout.line_end(old.end);
                edit(head..tail, &[comment, self.layout.line_break(), &lines])
            }
            false => edit(line_end..old.end, &[self.layout.line_break(), &lines]),
        }
    }

    /// With one more key in a mapping that has some, or one more item in such a list; `more` has nothing else.
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

    /// Without a key and its value.
    fn without(&self) -> Result<TextEdit, NotEdited> {
        let (layout, path) = (self.layout, &self.patch.path);
        let depth = path.len();
        let pair = layout.key_of(path)?.start..layout.end_of(path)?;
        let siblings = self.value_at(depth - 1).and_then(Value::as_object).map_or(0, Map::len);
        match layout.style_of(&path[..depth - 1])? {
            // An empty mapping is written as one.
            MappingStyle::Block(_) if siblings == 1 => Ok(edit(pair, &["{}"])),
            MappingStyle::Block(_) => {
                let line_start = layout.line_start(pair.start);
                if !layout.text[line_start..pair.start].trim().is_empty() {
                    // The first key of a list item stands behind its dash.
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

    /// With another key before the same value.
    fn renamed(&self, key: &str) -> Result<TextEdit, NotEdited> {
        let old = self.place(self.patch.path.len())?.key.ok_or(NotEdited)?;
        let new = self.quoted_like(&old, key).unwrap_or_else(|| flow(&Value::from(key)));
        Ok(edit(old, &[&new]))
    }

    /// In lines of its own, if the old text has them, indented as they are.
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

    /// In the quotes of the old value, if it has some and the new one can stand in them.
    fn quoted_like(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let quote = self.layout.text[old.clone()]
            .chars()
            .next()
            .filter(|first| ['\'', '"'].contains(first));
        match quote {
            Some(quote) if is_simple(text) => Some(Zeroizing::new(format!("{quote}{text}{quote}"))),
            None if write::is_plain(text) && (!self.is_json() || self.is_text()) => {
                Some(Zeroizing::new(text.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether the field is text by now; without quotes there is none in JSON.
    fn is_text(&self) -> bool {
        self.value_at(self.patch.path.len()).is_some_and(Value::is_string)
    }

    fn is_json(&self) -> bool {
        self.layout.text.trim_start().starts_with('{')
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

fn mapping(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// As it is written in one line, which JSON and every YAML read alike.
fn flow(value: &Value) -> Zeroizing<String> {
    Zeroizing::new(value.to_string())
}

/// Whether a text can stand in any quotes, and below a bar.
fn is_simple(text: &str) -> bool {
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=._-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_simple)
}
