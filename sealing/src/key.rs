//! Recipients and identities of both types, and their encoding in age (C2SP `age.md`, Bech32).

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Checksum, Hrp};
use zeroize::Zeroizing;

use crate::error::{Damaged, InvalidKey, NoRandomness, ParseError};
use crate::file_key::{FileKey, fill_random};
use crate::fingerprint::Fingerprint;
use crate::header::{MAX_STANZAS, Stanza};
use crate::{hybrid, x25519};

/// The type of a key. A sealed value never mixes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `mlkem768x25519`, post-quantum: `age1pq1…`.
    #[default]
    Hybrid,
    /// `X25519`, compact: `age1…`.
    X25519,
}

impl KeyType {
    /// The word used in flags and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::X25519 => "x25519",
        }
    }

    fn recipient_prefix(self) -> &'static str {
        match self {
            Self::Hybrid => "age1pq",
            Self::X25519 => "age",
        }
    }

    fn identity_prefix(self) -> &'static str {
        match self {
            Self::Hybrid => "AGE-SECRET-KEY-PQ-",
            Self::X25519 => "AGE-SECRET-KEY-",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A public key that values are sealed to.
#[derive(Clone)]
pub struct Recipient {
    key: RecipientKey,
    text: String,
    fingerprint: Fingerprint,
}

#[derive(Clone)]
enum RecipientKey {
    Hybrid(hybrid::Recipient),
    X25519(x25519::Recipient),
}

impl Recipient {
    fn new(key: RecipientKey) -> Self {
        let text = match &key {
            RecipientKey::Hybrid(recipient) => {
                encode(KeyType::Hybrid.recipient_prefix(), &recipient.to_bytes())
            }
            RecipientKey::X25519(recipient) => {
                encode(KeyType::X25519.recipient_prefix(), recipient.as_bytes())
            }
        };
        let fingerprint = Fingerprint::of(&text);
        Self { key, text, fingerprint }
    }

    /// The public key as text: `age1pq1…` or `age1…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The type of the key.
    pub fn key_type(&self) -> KeyType {
        match self.key {
            RecipientKey::Hybrid(_) => KeyType::Hybrid,
            RecipientKey::X25519(_) => KeyType::X25519,
        }
    }

    /// The short public id.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// 32 hex digits of the fingerprint's hash, for people to compare keys by.
    pub fn long_fingerprint(&self) -> String {
        Fingerprint::long(&self.text)
    }

    pub(crate) fn wrap(&self, file_key: &FileKey, out: &mut Vec<u8>) -> Result<(), NoRandomness> {
        match &self.key {
            RecipientKey::Hybrid(recipient) => recipient.wrap(file_key, out),
            RecipientKey::X25519(recipient) => recipient.wrap(file_key, out),
        }
    }
}

impl FromStr for Recipient {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        if text.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("AGE-SECRET-KEY-")) {
            return Err(InvalidKey::IdentityGiven);
        }
        if text.starts_with("age1pq1") {
            let bytes =
                decode(KeyType::Hybrid.recipient_prefix(), text).ok_or(InvalidKey::Corrupt)?;
            let recipient = hybrid::Recipient::from_bytes(&bytes)?;
            return Ok(Self::new(RecipientKey::Hybrid(recipient)));
        }
        if text.starts_with("age1") {
            let bytes = decode_32(KeyType::X25519.recipient_prefix(), text)?;
            let recipient = x25519::Recipient::from_bytes(*bytes)?;
            return Ok(Self::new(RecipientKey::X25519(recipient)));
        }
        Err(InvalidKey::NotARecipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.fingerprint)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

/// Why a value cannot be sealed to these recipients together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipientsError {
    /// There must be at least one.
    #[error("no recipient given")]
    None,
    /// A header has room for 40 hybrid or 63 X25519 recipients.
    #[error("more than {max} {key_type} recipients do not fit into one sealed value")]
    TooMany {
        /// The type of the recipients.
        key_type: KeyType,
        /// How many recipients of that type fit.
        max: usize,
    },
    /// age forbids post-quantum and classical recipients in one file.
    #[error("{0} is hybrid and {1} is x25519; the recipients of one value must be of one type")]
    Mixed(Fingerprint, Fingerprint),
    /// The same recipient twice, or two recipients with the same fingerprint.
    #[error("recipient {0} is given twice")]
    Twice(Fingerprint),
}

/// The recipients of one sealed value: at least one, of one type, none twice.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Checks that there is at least one recipient, that all are of one type, that none is repeated, and that
    /// they fit into one header.
    pub fn new(recipients: Vec<Recipient>) -> Result<Self, RecipientsError> {
        let first = recipients.first().ok_or(RecipientsError::None)?;
        let key_type = first.key_type();
        if let Some(other) = recipients.iter().find(|recipient| recipient.key_type() != key_type) {
            let (hybrid, x25519) =
                if key_type == KeyType::Hybrid { (first, other) } else { (other, first) };
            return Err(RecipientsError::Mixed(hybrid.fingerprint(), x25519.fingerprint()));
        }
        let max = match key_type {
            KeyType::Hybrid => 40, // 1,557 bytes each within MAX_HEADER_BYTES, with room for the longest binding
            KeyType::X25519 => MAX_STANZAS - 1,
        };
        if recipients.len() > max {
            return Err(RecipientsError::TooMany { key_type, max });
        }
        for (index, recipient) in recipients.iter().enumerate() {
            if recipients[..index]
                .iter()
                .any(|earlier| earlier.fingerprint() == recipient.fingerprint())
            {
                return Err(RecipientsError::Twice(recipient.fingerprint()));
            }
        }
        Ok(Self(recipients))
    }

    /// The recipients, in the given order.
    pub fn iter(&self) -> impl Iterator<Item = &Recipient> {
        self.0.iter()
    }
}

/// A private key that unseals. It is wiped when dropped and cannot be printed.
pub struct Identity(IdentityKey);

/// Boxed, because a keyring that grows moves its identities and would leave copies behind.
enum IdentityKey {
    Hybrid(Box<hybrid::Identity>),
    X25519(Box<x25519::Identity>),
}

/// The file key as wrapped in one recipient stanza.
pub(crate) enum Wrapped {
    Hybrid(hybrid::Wrapped),
    X25519(x25519::Wrapped),
}

impl Wrapped {
    /// Returns `None` when the stanza is of neither type.
    pub(crate) fn parse(stanza: &Stanza<'_>) -> Result<Option<Self>, ParseError> {
        match stanza.tag {
            hybrid::TAG => hybrid::Wrapped::parse(stanza).map(Self::Hybrid).map(Some),
            x25519::TAG => x25519::Wrapped::parse(stanza).map(Self::X25519).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn key_type(&self) -> KeyType {
        match self {
            Self::Hybrid(_) => KeyType::Hybrid,
            Self::X25519(_) => KeyType::X25519,
        }
    }
}

impl Identity {
    /// Makes a new identity from the operating system's randomness.
    pub fn generate(key_type: KeyType) -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill_random(&mut *bytes)?;
        Ok(Self::from_bytes(key_type, &bytes))
    }

    /// Reads `AGE-SECRET-KEY-PQ-1…` or `AGE-SECRET-KEY-1…`, upper case as age writes it.
    ///
    /// ```
    /// use bulla_sealing::{Identity, InvalidKey};
    /// assert_eq!(Identity::parse("age1…").err(), Some(InvalidKey::NotAnIdentity));
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let key_type = if text.starts_with("AGE-SECRET-KEY-PQ-1") {
            KeyType::Hybrid
        } else if text.starts_with("AGE-SECRET-KEY-1") {
            KeyType::X25519
        } else {
            return Err(InvalidKey::NotAnIdentity);
        };
        Ok(Self::from_bytes(key_type, &*decode_32(key_type.identity_prefix(), text)?))
    }

    fn from_bytes(key_type: KeyType, bytes: &[u8; 32]) -> Self {
        Self(match key_type {
            KeyType::Hybrid => IdentityKey::Hybrid(Box::new(hybrid::Identity::from_bytes(bytes))),
            KeyType::X25519 => IdentityKey::X25519(Box::new(x25519::Identity::from_bytes(bytes))),
        })
    }

    /// The text that `parse` reads, for a caller that must store it.
    pub fn to_secret_string(&self) -> Zeroizing<String> {
        let (key_type, bytes) = match &self.0 {
            IdentityKey::Hybrid(identity) => (KeyType::Hybrid, identity.as_bytes()),
            IdentityKey::X25519(identity) => (KeyType::X25519, identity.as_bytes()),
        };
        let mut text = Zeroizing::new(encode(key_type.identity_prefix(), bytes));
        text.make_ascii_uppercase();
        text
    }

    /// The public half.
    pub fn recipient(&self) -> Recipient {
        Recipient::new(match &self.0 {
            IdentityKey::Hybrid(identity) => RecipientKey::Hybrid(identity.recipient()),
            IdentityKey::X25519(identity) => RecipientKey::X25519(identity.recipient()),
        })
    }

    /// The file key, or `None` when the stanza is for another identity.
    pub(crate) fn unwrap(&self, wrapped: &Wrapped) -> Result<Option<FileKey>, Damaged> {
        match (&self.0, wrapped) {
            (IdentityKey::Hybrid(identity), Wrapped::Hybrid(wrapped)) => identity.unwrap(wrapped),
            (IdentityKey::X25519(identity), Wrapped::X25519(wrapped)) => identity.unwrap(wrapped),
            _ => Ok(None),
        }
    }
}

/// BIP 173's checksum without its limit of 90 characters, as age uses it.
enum LongBech32 {}

impl Checksum for LongBech32 {
    type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
    type CorrectionField = <Bech32 as Checksum>::CorrectionField;

    const CODE_LENGTH: usize = usize::MAX;
    const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = Bech32::TARGET_RESIDUE;
    const ROOT_GENERATOR: Self::CorrectionField = Bech32::ROOT_GENERATOR;
    const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = Bech32::ROOT_EXPONENTS;
}

#[expect(clippy::expect_used, reason = "the prefixes are constants and the length is not limited")]
fn encode(prefix: &str, bytes: &[u8]) -> String {
    let prefix = Hrp::parse(prefix).expect("a valid prefix");
    // Reserves the full capacity at once, so that no reallocation leaves a piece of an identity behind.
    let mut text = String::with_capacity(prefix.len() + 1 + (bytes.len() * 8).div_ceil(5) + 6);
    bech32::encode_lower_to_fmt::<LongBech32, _>(&mut text, prefix, bytes)
        .expect("no limit on the length");
    text
}

/// Returns `None` when the checksum, the padding, the prefix or its case is wrong.
fn decode(prefix: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let parsed = CheckedHrpstring::new::<LongBech32>(text).ok()?;
    // "Segwit" is only the name: BIP 173 and age require the same padding, fewer than 5 bits and all zero.
    parsed.validate_segwit_padding().ok()?;
    if !text.starts_with(prefix) || parsed.hrp() != Hrp::parse(prefix).ok()? {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(parsed.byte_iter());
    Some(bytes)
}

fn decode_32(prefix: &str, text: &str) -> Result<Zeroizing<[u8; 32]>, InvalidKey> {
    let bytes = decode(prefix, text).ok_or(InvalidKey::Corrupt)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(InvalidKey::Corrupt);
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}
