//! What is read.

use zeroize::Zeroizing;

/// The most that a file may hold.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// What was read, and the name under which messages speak of it.
pub struct Input {
    /// A path, or what stands for one.
    pub name: String,
    /// The whole content.
    pub bytes: Zeroizing<Vec<u8>>,
}
