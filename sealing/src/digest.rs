//! A short name for bytes, for people who compare two texts.

use sha2::{Digest, Sha256};

/// Separates this use of SHA-256 from every other use; the zero byte ends it.
const DOMAIN: &[u8] = b"bulla.dev/v1/digest\0";

/// The first 8 bytes of SHA-256(domain ‖ bytes) as 16 hex digits.
///
/// The bytes of a sealed value are public, and their digest shows whether two values are the same. It protects
/// nothing and is not a fingerprint, which names a recipient.
///
/// ```
/// assert_ne!(bulla_sealing::digest(b"one"), bulla_sealing::digest(b"another"));
/// ```
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::new().chain_update(DOMAIN).chain_update(bytes).finalize();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
