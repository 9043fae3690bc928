//! One document of a file.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::outline::{NodePlace, Outline};
use crate::position::Position;
use crate::tree::{Step, Tree};

/// A text and its name for messages.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: Zeroizing<String>,
    line_starts: OnceLock<Vec<u32>>,
}

impl Source {
    pub(crate) fn new(name: String, text: Zeroizing<String>) -> Self {
        Self { name, text, line_starts: OnceLock::new() }
    }

    /// The line of an offset, counted from 1, and where that line begins.
    pub(crate) fn line_of(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let newlines = self.text.match_indices('\n');
            let starts = newlines.filter_map(|(newline, _)| u32::try_from(newline + 1).ok());
            std::iter::once(0).chain(starts).collect()
        });
        let line = starts.partition_point(|start| *start as usize <= offset);
        (line, starts[line - 1] as usize)
    }
}

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

/// One document of a file.
pub struct Document {
    pub(crate) source: Arc<Source>,
    /// The part of the whole text that is this document.
    pub(crate) range: Range<usize>,
    pub(crate) is_json: bool,
    /// Counted from 1, without empty documents.
    pub(crate) number: usize,
    /// Where its content begins, after the marker and the comments before it.
    pub(crate) content: usize,
    pub(crate) tree: Tree,
    /// Built when a place is first needed.
    pub(crate) outline: OnceLock<Outline>,
}

impl Document {
    /// The tree of values.
    pub fn value(&self) -> &Value {
        self.tree.value()
    }

    /// The number in its file, counted from 1, without empty documents.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether it is written in JSON.
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Its own part of the text, with the marker and comments before its content.
    pub fn own_text(&self) -> &str {
        &self.source.text[self.range.clone()]
    }

    /// The line of the file in which its content begins, counted from 1.
    pub fn content_line(&self) -> usize {
        self.source.line_of(self.content).0
    }

    /// Its comments, in order. JSON has none.
    pub fn comments(&self) -> Vec<Comment> {
        if self.is_json {
            return Vec::new();
        }
        let text = self.own_text();
        let comment = |range: &Range<usize>| Comment {
            line: self.source.line_of(self.range.start + range.start).0,
            text: text[range.clone()].trim_end().to_owned(),
            offset: range.start,
        };
        self.outline().comments.iter().map(comment).collect()
    }

    /// Where its values are.
    pub(crate) fn outline(&self) -> &Outline {
        self.outline.get_or_init(|| Outline::of(self.own_text()))
    }

    /// The key or item at the end of `path`, in the whole text.
    pub(crate) fn key_at(&self, path: &[Step<'_>]) -> Option<Range<usize>> {
        let key = self.outline().find(path.iter().copied())?.key?;
        Some(self.range.start + key.start..self.range.start + key.end)
    }

    /// Where `path` is, or its innermost part that exists.
    pub(crate) fn position(&self, path: &[Step<'_>]) -> Position {
        // The beginning of the document is known without an outline.
        let innermost = if path.is_empty() { None } else { self.outline().innermost(path) };
        let start = match innermost {
            None | Some((_, 0)) => self.content,
            // The beginning of the value that lacks the next step.
            Some((NodePlace { value, .. }, depth)) if depth < path.len() && !value.is_empty() => {
                self.range.start + value.start
            }
            Some((place, _)) => self.range.start + place.start(),
        };
        self.position_at(start)
    }

    /// Where the text of the value at the end of `path` begins, which may be below its key.
    pub(crate) fn position_of_value(&self, path: &[Step<'_>]) -> Position {
        let Some(NodePlace { value, .. }) = self.outline().find(path.iter().copied()) else {
            return self.position(path);
        };
        let text = &self.own_text()[value.clone()];
        let header = if text.starts_with(['|', '>']) { text.find('\n') } else { None };
        self.position_at(self.range.start + value.start + header.map_or(0, |newline| newline + 1))
    }

    fn position_at(&self, offset: usize) -> Position {
        Position {
            file: self.source.name.clone(),
            document: self.number,
            item: None,
            line: self.source.line_of(offset).0,
            column: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sample::file;

    #[test]
    fn comments_are_told_apart_from_texts() {
        let text = "# one\na: b # two\nc: 'd # no' #three\ne: | # four\n  # no\n\n  x # no\n # five\n\"f # no\": g#no\nh: [i, # six\n  j]\nk: >-\n  l\n  # no\n#seven";
        let file = file(text);
        let document = &file.documents()[0];
        let comments: Vec<_> =
            document.comments().into_iter().map(|comment| comment.text).collect();
        let expected = ["# one", "# two", "#three", "# four", "# five", "# six", "#seven"];
        assert_eq!(comments, expected);
    }
}
