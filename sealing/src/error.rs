//! Errors that more than one file of this crate returns.

/// Why bytes are not a sealed value. Nothing here needs a key, and nothing quotes the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not begin with age's version line.
    #[error("not an age file")]
    NotAge,
    /// An age file that breaks the grammar, a limit, or a further rule of this format.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// The offset in the file.
        at: usize,
        /// What is wrong there, or which part is wrong.
        what: &'static str,
    },
    /// An age file that was not sealed by this tool: it has no binding.
    #[error("an age file without a binding, so not a sealed value")]
    NoBinding,
}

/// Why a text is not a valid key. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not `age1…` or `age1pq1…`.
    #[error("not an age recipient (age1pq1… or age1…)")]
    NotARecipient,
    /// A recipient was expected, and the text begins like an identity.
    #[error("expected a recipient (age1pq1… or age1…), found an identity, which is private")]
    IdentityGiven,
    /// Not `AGE-SECRET-KEY-1…` or `AGE-SECRET-KEY-PQ-1…`.
    #[error("not an age identity (AGE-SECRET-KEY-PQ-1… or AGE-SECRET-KEY-1…)")]
    NotAnIdentity,
    /// The checksum, the alphabet or the length is wrong: the key was mistyped or cut.
    #[error("the key is mistyped or cut short")]
    Corrupt,
    /// A point that makes every shared secret zero.
    #[error("the key is a low-order point, which gives no secrecy")]
    LowOrder,
    /// Well-formed text of bytes that no identity has as its public half: an X25519 point written in a second way, or
    /// an ML-KEM key that FIPS 203 refuses.
    #[error("no identity has this recipient, so nobody could open what is sealed to it")]
    Impossible,
}

/// The operating system returned no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system returned no randomness")]
pub struct NoRandomness;

/// The stanza is for this identity, and was tampered with.
pub(crate) struct Damaged;
