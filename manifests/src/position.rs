//! Places in files and mistakes at these places, for people.

use std::fmt;

use crate::tree::{Step, path_text};

/// A place in a file, for people: file, document, item of a list, line and column, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The name of the file.
    pub file: String,
    /// The number of the document. Empty documents do not count.
    pub document: usize,
    /// The number of the item in a list of objects.
    pub item: Option<usize>,
    /// The line.
    pub line: usize,
    /// The column in characters, if it is known.
    pub column: Option<usize>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        write!(f, ", line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        Ok(())
    }
}

/// A mistake in a manifest, and where it is. Callers that print the place in their own form find it in the error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{position}: {what}")]
pub struct MistakeAt {
    /// Where it is.
    pub position: Position,
    /// What is wrong: a fixed phrase, after the path of a field if there is one.
    pub what: String,
}

impl MistakeAt {
    pub(crate) fn new(position: Position, path: &[Step<'_>], what: &str) -> Self {
        let what = match path {
            [] => what.to_owned(),
            _ => format!("{}: {what}", path_text(path)),
        };
        Self { position, what }
    }
}

/// What is wrong with a text, and its line and column in the text, both counted from 1.
#[derive(Debug)]
pub(crate) struct ReadError {
    pub(crate) what: &'static str,
    pub(crate) place: Option<(usize, usize)>,
}
