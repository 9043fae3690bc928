//! Where the fields of a document are in its text, and how they are written there.

use std::ops::Range;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::outline::{NodePlace, NodeStyle, Outline};
use crate::patch::NotEdited;
use crate::tree::{self, OwnedStep};
use crate::write;

/// A replacement for a part of a text.
pub(crate) struct TextEdit {
    pub(crate) range: Range<usize>,
    pub(crate) new: Zeroizing<String>,
}

pub(crate) fn edit(range: Range<usize>, new: &[&str]) -> TextEdit {
    let mut text = Zeroizing::new(String::with_capacity(new.iter().map(|part| part.len()).sum()));
    text.extend(new.iter().copied());
    TextEdit { range, new: text }
}

/// How a mapping is written.
pub(crate) enum MappingStyle {
    /// One key on a line, indented by this much.
    Block(usize),
    /// In braces.
    Flow,
}

/// The text of one document with its outline and its tree, which describe the same content.
pub(crate) struct Layout<'a> {
    pub(crate) text: &'a str,
    pub(crate) tree: &'a Value,
    outline: &'a Outline,
    line_starts: Vec<usize>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(text: &'a str, outline: &'a Outline, tree: &'a Value) -> Self {
        let line_starts = text.match_indices('\n').map(|(newline, _)| newline + 1);
        let line_starts = std::iter::once(0).chain(line_starts).collect();
        Self { text, tree, outline, line_starts }
    }

    pub(crate) fn value_at(&self, path: &[OwnedStep]) -> Option<&'a Value> {
        tree::value_at(self.tree, path)
    }

    pub(crate) fn place(&self, path: &[OwnedStep]) -> Result<NodePlace, NotEdited> {
        self.outline.find(path.iter().map(OwnedStep::as_step)).ok_or(NotEdited)
    }

    /// Where a value is. Its key must have one.
    pub(crate) fn range_of(&self, path: &[OwnedStep]) -> Result<Range<usize>, NotEdited> {
        Some(self.place(path)?.value).filter(|range| !range.is_empty()).ok_or(NotEdited)
    }

    pub(crate) fn key_of(&self, path: &[OwnedStep]) -> Result<Range<usize>, NotEdited> {
        self.place(path)?.key.ok_or(NotEdited)
    }

    /// The offset after the colon of a key.
    pub(crate) fn colon_of(&self, key: &Range<usize>) -> Result<usize, NotEdited> {
        Ok(key.end + self.text[key.end..].find(':').ok_or(NotEdited)? + 1)
    }

    /// Where a value ends; for an empty value, the offset after the colon of its key.
    pub(crate) fn end_of(&self, path: &[OwnedStep]) -> Result<usize, NotEdited> {
        let place = self.place(path)?;
        match &place.key {
            Some(key) if place.value.is_empty() => self.colon_of(key),
            _ => Ok(place.value.end),
        }
    }

    pub(crate) fn style_of(&self, path: &[OwnedStep]) -> Result<MappingStyle, NotEdited> {
        let place = self.place(path)?;
        let start = place.value.start;
        Ok(match place.style {
            NodeStyle::Flow => MappingStyle::Flow,
            _ => MappingStyle::Block(start - self.line_start(start)),
        })
    }

    /// Whether a comment begins here.
    pub(crate) fn is_comment(&self, offset: usize) -> bool {
        self.outline.comments.binary_search_by_key(&offset, |comment| comment.start).is_ok()
    }

    /// The offset after the last key of a mapping in braces or the last item of a list in brackets, and the separator
    /// before the next one.
    pub(crate) fn end_inside(&self, range: &Range<usize>) -> Result<(usize, &'a str), NotEdited> {
        let inside = self.text[range.clone()].trim_end().strip_suffix(['}', ']']);
        let inside = inside.ok_or(NotEdited)?.trim_end().trim_end_matches(',').trim_end();
        // On its own line if the others are on their own lines.
        let rest = inside.get(1..).ok_or(NotEdited)?;
        let blank = &rest[..rest.len() - rest.trim_start().len()];
        Ok((range.start + inside.len(), if blank.contains('\n') { blank } else { " " }))
    }

    /// A key and its value in braces, extended by one of the commas around them.
    pub(crate) fn with_comma(&self, pair: Range<usize>, parent: &Range<usize>) -> Range<usize> {
        let after = &self.text[pair.end..parent.end];
        let before = &self.text[parent.start..pair.start];
        match after.trim_start().strip_prefix(',') {
            Some(rest) => pair.start..parent.end - rest.trim_start().len(),
            None => match before.trim_end().strip_suffix(',') {
                Some(before) => parent.start + before.len()..pair.end,
                None => pair,
            },
        }
    }

    /// Lines of block style, without the last line break.
    pub(crate) fn block(&self, value: &Value, indent: usize) -> Zeroizing<String> {
        let line_break = self.line_break();
        let yaml = write::to_yaml([value]);
        let mut lines = Zeroizing::new(String::with_capacity(yaml.len() * 2));
        for (number, line) in String::from_utf8_lossy(&yaml).lines().enumerate() {
            if number > 0 {
                lines.push_str(line_break);
            }
            lines.extend(std::iter::repeat_n(' ', indent));
            lines.push_str(line);
        }
        lines
    }

    /// The line break of the first line.
    pub(crate) fn line_break(&self) -> &'static str {
        match self.line_starts.get(1) {
            Some(next) if self.text[..*next].ends_with("\r\n") => "\r\n",
            _ => "\n",
        }
    }

    pub(crate) fn line_start(&self, offset: usize) -> usize {
        self.line_starts[self.line_number(offset) - 1]
    }

    /// The end of the line, before the line break.
    pub(crate) fn line_end(&self, offset: usize) -> usize {
        let next = self.line_starts.get(self.line_number(offset));
        let end = next.map_or(self.text.len(), |next| next - 1);
        end - usize::from(self.text[offset..end].ends_with('\r'))
    }

    /// The beginning of the next line, after the line break.
    pub(crate) fn next_line(&self, offset: usize) -> usize {
        self.line_starts.get(self.line_number(offset)).copied().unwrap_or(self.text.len())
    }

    /// Counted from 1.
    fn line_number(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }
}
