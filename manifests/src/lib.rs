//! Manifests in files: streams of YAML or JSON documents, each an object or a list of objects. This crate reads
//! them, finds places in them, changes them in place and writes them. Bytes in, bytes out.
//!
//! Reading is strict, because a lenient reader could silently drop something that was meant to be sealed: a text
//! that is not UTF-8, too large, empty or malformed anywhere is refused as a whole, with file, document, line and
//! column. Messages are fixed phrases of this crate, never the parser's, because those can quote the input.

mod apply;
mod document;
mod edit;
mod file;
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

pub use document::{Comment, Document};
pub use file::{ManifestFile, parse_count};
pub use object::{Kinds, Mark, Object};
pub use patch::{NotEdited, Patch};
pub use position::{MistakeAt, Position};
pub use stream::{Input, MAX_FILE_BYTES};
pub use tree::{OwnedStep, Step, Tree, path_text};
pub use write::{to_readable_yaml, to_yaml};
