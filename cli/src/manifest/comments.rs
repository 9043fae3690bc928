//! The comments of a YAML text.

use std::ops::Range;

/// One comment, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// The line of the file, counted from 1.
    pub(crate) line: usize,
    /// From its `#` on, without blanks at its end.
    pub(crate) text: String,
    /// Where its `#` is in the text of its document, in bytes.
    offset: usize,
}

impl Comment {
    /// The part of the document's text that is there for the comment alone: it and the blanks before it, or its whole
    /// line.
    pub(crate) fn lines_in(&self, text: &str) -> Range<usize> {
        let end = self.offset + self.text.len();
        let before = text[..self.offset].trim_end_matches([' ', '\t']);
        if before.is_empty() || before.ends_with('\n') {
            let next = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
            before.len()..next
        } else {
            before.len()..end
        }
    }
}

/// The comments of a text, with lines counted in it. JSON has none, nor has a text that is not valid YAML.
pub(crate) fn of(text: &str) -> Vec<Comment> {
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
        comments.push(Comment {
            line: text[..offset].matches('\n').count() + 1,
            text: text[offset..end].trim_end().to_owned(),
            offset,
        });
    }
    comments
}
