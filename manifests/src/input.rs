//! The input of the reader.

use zeroize::Zeroizing;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The bytes of a file, and its name for messages.
#[derive(Clone)]
pub struct Input {
    /// A path, or a name in place of one, such as `<stdin>`.
    pub name: String,
    /// The whole content.
    pub bytes: Zeroizing<Vec<u8>>,
}
