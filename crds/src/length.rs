//! How long something is as JSON, without writing it anywhere.

use std::io;

use serde::Serialize;

/// The bytes of `value` as JSON, up to what of it can be written.
///
/// ```
/// assert_eq!(bulla_crds::json_length(&["a", "b"]), r#"["a","b"]"#.len());
/// ```
pub fn json_length<T: Serialize>(value: &T) -> usize {
    let mut length = Length(0);
    let _ = serde_json::to_writer(&mut length, value);
    length.0
}

/// Counts what is written to it.
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
