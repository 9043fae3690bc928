//! Manifests as they stand in files: streams of YAML or JSON documents, each an object or a list of objects; read,
//! located, changed in place and written. Bytes in, bytes out.
//!
//! Reading is strict, because what a lenient reader drops silently was meant to be sealed: a text that is
//! not UTF-8, too large, empty or malformed anywhere is refused as a whole, with file, document, line and
//! column. Messages are our own fixed phrases, never the parser's, which can quote the input.

mod apply;
mod comment;
mod document;
mod edit;
mod file;
mod input;
mod layout;
mod object;
mod outline;
mod patch;
mod position;
mod relocate;
#[cfg(test)]
mod sample;
mod stream;
mod tree;
mod values;
mod write;

pub use comment::Comment;
pub use document::Document;
pub use file::{ManifestFile, parse_count};
pub use input::{Input, MAX_FILE_BYTES};
pub use object::{Kinds, Mark, Object};
pub use patch::{NotEdited, Patch};
pub use position::{MistakeAt, Position};
pub use tree::{OwnedStep, Step, Tree, path_text};
pub use write::{to_readable_yaml, to_yaml};
