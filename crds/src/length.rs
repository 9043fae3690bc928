//! The length of a value as JSON, without storing the JSON.

use std::io;

use serde::Serialize;

/// The length of `value` as JSON, in bytes. If serialization fails, only the part before the failure counts.
///
/// ```
/// assert_eq!(bulla_crds::json_length(&["a", "b"]), r#"["a","b"]"#.len());
/// ```
pub fn json_length<T: Serialize>(value: &T) -> usize {
    let mut length = Length(0);
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}

/// Counts the bytes that are written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
