//! Comments.

use std::ops::Range;

/// One comment, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The line of the file, counted from 1.
    pub line: usize,
    /// From its `#` on, without blanks at its end.
    pub text: String,
    /// Where its `#` is in the text of its document, in bytes.
    pub(crate) offset: usize,
}

impl Comment {
    /// The part of the document's text that belongs only to the comment: it and the blanks before it, or its whole
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
