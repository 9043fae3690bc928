//! Files for tests.

use zeroize::Zeroizing;

use crate::file::ManifestFile;
use crate::object::Kinds;
use crate::stream::Input;

pub(crate) const KINDS: Kinds = Kinds { lists: &[("v1", "List")], own_group: "bulla.dev" };

/// A file with this text.
pub(crate) fn file(text: &str) -> ManifestFile {
    parse(text).unwrap()
}

/// A file with this text, or the error.
pub(crate) fn parse(text: &str) -> anyhow::Result<ManifestFile> {
    ManifestFile::parse(Input { name: "f".into(), bytes: Zeroizing::new(text.into()) }, KINDS)
}

/// The text of a file.
pub(crate) fn text(file: &ManifestFile) -> String {
    String::from_utf8(file.bytes().to_vec()).unwrap()
}
