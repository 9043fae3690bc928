//! A text that only values contain, and the spellings in which it must not be found elsewhere.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Long enough that no ciphertext has it, or its base64, by chance.
pub(crate) const MARKER: &str = "marked-plaintext-of-a-test";

/// Whether the bytes contain the marker.
pub(crate) fn is_marked(content: &[u8]) -> bool {
    holds(content, MARKER)
}

/// Whether the bytes contain a text, raw or in base64, at any offset.
pub(crate) fn holds(content: &[u8], text: &str) -> bool {
    // The digits at both ends depend on the bytes around it.
    let in_base64 = (0..3).map(|shift| {
        let bytes = [&"..."[..shift], text].concat();
        let digits = BASE64_STANDARD.encode(&bytes);
        digits[if shift == 0 { 0 } else { 4 }..bytes.len() / 3 * 4].to_owned()
    });
    let mut spellings = in_base64.chain([text.to_owned()]);
    spellings
        .any(|spelling| content.windows(spelling.len()).any(|window| window == spelling.as_bytes()))
}

#[test]
fn the_marker_is_found_in_each_spelling() {
    for before in ["", "a", "ab", "abc"] {
        for after in ["", "x", "xy"] {
            let text = format!("{before}{MARKER}{after}");
            assert!(is_marked(text.as_bytes()));
            assert!(is_marked(BASE64_STANDARD.encode(text).as_bytes()));
        }
    }
    assert!(!is_marked(b"marked-plaintext"));
}
