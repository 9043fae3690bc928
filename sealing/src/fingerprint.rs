//! The short public id of a recipient.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Separates this use of SHA-256 from every other use; the zero byte ends it.
const DOMAIN: &[u8] = b"bulla.dev/v1/fingerprint\0";

/// The first 8 bytes of SHA-256(domain ‖ recipient string), shown as 16 hex digits.
///
/// It chooses the identity to try and makes errors readable. It is only a hint: with effort, somebody can make two
/// recipients with the same fingerprint, so only whole recipients are trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; Self::BYTES]);

/// The text is not 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 16 lower-case hex digits")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// The length of a fingerprint in bytes.
    pub const BYTES: usize = 8;

    /// The fingerprint of a recipient's canonical string.
    pub(crate) fn of(recipient: &str) -> Self {
        let mut short = [0; Self::BYTES];
        short.copy_from_slice(&digest(recipient)[..Self::BYTES]);
        Self(short)
    }

    /// The first 16 bytes of the same hash as 32 hex digits, for people to compare keys by.
    pub(crate) fn long(recipient: &str) -> String {
        digest(recipient)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

fn digest(recipient: &str) -> [u8; 32] {
    Sha256::new().chain_update(DOMAIN).chain_update(recipient).finalize().into()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * Self::BYTES || !text.bytes().all(is_hex) {
            return Err(InvalidFingerprint);
        }
        u64::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| InvalidFingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_agree() {
        let fingerprint = Fingerprint::of("age1example");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!(Fingerprint::long("age1example").starts_with(&fingerprint.to_string()));
    }

    #[test]
    fn a_fingerprint_is_also_debugged_as_hex_digits() {
        let fingerprint: Fingerprint = "3f9a1c5e7b2d4a60".parse().unwrap();
        assert_eq!(format!("{fingerprint:?}"), "3f9a1c5e7b2d4a60");
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in
            ["", "3f9a1c5e7b2d4a6", "3F9A1C5E7B2D4A60", "+f9a1c5e7b2d4a60", "3f9a1c5e7b2d4a600"]
        {
            assert_eq!(text.parse::<Fingerprint>(), Err(InvalidFingerprint), "{text}");
        }
    }
}
