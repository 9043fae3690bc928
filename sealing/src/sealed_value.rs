//! The sealed value: a binding, one stanza for each recipient, a MAC over both, and the payload.

use std::borrow::Cow;

use crate::address::ValueAddress;
use crate::binding::{self, Binding};
use crate::error::{Damaged, NoRandomness, ParseError};
use crate::file_key::FileKey;
use crate::fingerprint::Fingerprint;
use crate::header::{self, Header, Stanza};
use crate::key::{KeyType, Recipients, Wrapped};
use crate::keyring::Keyring;
use crate::payload::{self, Plaintext};

/// Why a sealed value does not open for an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// It is for something else. This is found without a private key.
    #[error("sealed for {found}, not for {expected}")]
    WrongBinding {
        /// The address that it should open for.
        expected: Box<ValueAddress>,
        /// The binding in the value.
        found: Box<Binding>,
    },
    /// The keyring holds none of the identities that it names.
    #[error("no identity is held for {}", list(.fingerprints))]
    NoIdentity {
        /// The recipients that it claims to be sealed to.
        fingerprints: Vec<Fingerprint>,
    },
    /// It was changed after it was sealed, or was cut short.
    #[error("damaged: it was changed after it was sealed")]
    Damaged,
}

fn list(fingerprints: &[Fingerprint]) -> String {
    fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Seals `plaintext`, so that only `recipients` can open it and only for what `binding` permits.
///
/// Returns a complete age file. Each call draws a new file key, so two calls never return equal bytes.
pub fn seal(
    plaintext: &[u8],
    binding: &Binding,
    recipients: &Recipients,
) -> Result<Vec<u8>, NoRandomness> {
    let file_key = FileKey::generate()?;
    let mut file = write_header(binding, recipients, &file_key)?;
    payload::seal(&mut file, &file_key, plaintext)?;
    Ok(file)
}

fn write_header(
    binding: &Binding,
    recipients: &Recipients,
    file_key: &FileKey,
) -> Result<Vec<u8>, NoRandomness> {
    let fingerprints: Vec<u8> =
        recipients.iter().flat_map(|recipient| *recipient.fingerprint().as_bytes()).collect();
    let mut header = Vec::new();
    header::write_version(&mut header);
    header::write_stanza(&mut header, binding::TAG, &binding.args(), &fingerprints);
    for recipient in recipients.iter() {
        recipient.wrap(file_key, &mut header)?;
    }
    header::write_mac(&mut header, |input| file_key.header_mac(input));
    Ok(header)
}

/// The header of a sealed value, read and checked as far as possible without a key.
pub struct SealedHeader {
    binding: Binding,
    recipients: Vec<(Fingerprint, Wrapped)>,
    mac: [u8; 32],
    /// A copy of the bytes, so that a header can be kept without the file that it was read from.
    mac_input: Box<[u8]>,
}

impl SealedHeader {
    /// Reads the header at the beginning of `file`; returns it and the rest of the file.
    pub fn parse(file: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let (Header { stanzas, mac, mac_input }, rest) = Header::parse(file)?;
        let (first, recipients) = stanzas
            .split_first()
            .filter(|(first, _)| first.tag == binding::TAG)
            .ok_or(ParseError::NoBinding)?;
        let binding = Binding::parse(&first.args).map_err(|what| first.malformed(what))?;
        let recipients = recipients_of(first, recipients)?;
        Ok((Self { binding, recipients, mac, mac_input: mac_input.into() }, rest))
    }

    /// What the value is for.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// The recipients that the value says it was sealed to, in the order of their stanzas.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.recipients.iter().map(|(fingerprint, _)| *fingerprint)
    }

    /// The type of the recipients.
    pub fn key_type(&self) -> KeyType {
        self.recipients[0].1.key_type() // a header without recipients does not parse
    }

    /// A new header for `recipients` over the same payload, with the same binding.
    ///
    /// The payload is neither needed nor opened: only the set of identities that can open it changes. This does
    /// not take back what the holder of an old identity already knows.
    pub fn rekey(
        &self,
        address: &ValueAddress,
        keyring: &Keyring,
        recipients: &Recipients,
    ) -> Result<Vec<u8>, RekeyError> {
        let file_key = self.file_key(address, keyring)?;
        Ok(write_header(&self.binding, recipients, &file_key)?)
    }

    /// Checks the binding first, so that no private key is used on a value that is for something else.
    fn file_key(&self, address: &ValueAddress, keyring: &Keyring) -> Result<FileKey, UnsealError> {
        if !self.binding.permits(address) {
            return Err(UnsealError::WrongBinding {
                expected: address.clone().into(),
                found: self.binding.clone().into(),
            });
        }
        let mut is_held = false;
        for (fingerprint, wrapped) in &self.recipients {
            let Some(identity) = keyring.identity(*fingerprint) else { continue };
            is_held = true;
            let Some(file_key) =
                identity.unwrap(wrapped).map_err(|Damaged| UnsealError::Damaged)?
            else {
                continue;
            };
            if !file_key.is_header_mac(&self.mac_input, &self.mac) {
                return Err(UnsealError::Damaged);
            }
            return Ok(file_key);
        }
        if is_held {
            return Err(UnsealError::Damaged);
        }
        Err(UnsealError::NoIdentity { fingerprints: self.fingerprints().collect() })
    }
}

/// The stanzas after the binding, each with its fingerprint from the binding's body.
fn recipients_of(
    binding: &Stanza<'_>,
    stanzas: &[Stanza<'_>],
) -> Result<Vec<(Fingerprint, Wrapped)>, ParseError> {
    let (fingerprints, rest) = binding.body.as_chunks::<{ Fingerprint::BYTES }>();
    if stanzas.is_empty() || fingerprints.len() != stanzas.len() || !rest.is_empty() {
        return Err(binding.malformed("fingerprints and recipients differ in number"));
    }
    let mut recipients: Vec<(Fingerprint, Wrapped)> = Vec::with_capacity(stanzas.len());
    for (stanza, fingerprint) in stanzas.iter().zip(fingerprints) {
        let fingerprint = Fingerprint::from_bytes(*fingerprint);
        if recipients.iter().any(|(earlier, _)| *earlier == fingerprint) {
            return Err(binding.malformed("a fingerprint is repeated"));
        }
        let what = match stanza.tag {
            binding::TAG => "a second binding",
            _ => "expected an X25519 or mlkem768x25519 stanza",
        };
        let wrapped = Wrapped::parse(stanza)?.ok_or(stanza.malformed(what))?;
        if recipients.first().is_some_and(|(_, first)| first.key_type() != wrapped.key_type()) {
            return Err(stanza.malformed("X25519 and mlkem768x25519 stanzas are mixed"));
        }
        recipients.push((fingerprint, wrapped));
    }
    Ok(recipients)
}

/// Why no new header was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RekeyError {
    /// The old header does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// There is no randomness for an ephemeral key.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// A sealed value, read and checked as far as possible without a key.
///
/// It borrows or owns the file, depending on what was passed to [`SealedValue::parse`].
pub struct SealedValue<'a> {
    file: Cow<'a, [u8]>,
    header: SealedHeader,
    header_len: usize,
    plaintext_len: usize,
}

impl<'a> SealedValue<'a> {
    /// Reads a complete age file, in one linear pass.
    pub fn parse(file: impl Into<Cow<'a, [u8]>>) -> Result<Self, ParseError> {
        let file = file.into();
        let (header, payload) = SealedHeader::parse(&file)?;
        let header_len = file.len() - payload.len();
        let plaintext_len = payload::plaintext_len(payload)
            .ok_or(ParseError::Malformed { at: file.len(), what: "the payload is cut short" })?;
        Ok(Self { file, header, header_len, plaintext_len })
    }

    /// What the value is for.
    pub fn binding(&self) -> &Binding {
        self.header.binding()
    }

    /// The recipients that the value says it was sealed to, in the order of their stanzas.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.header.fingerprints()
    }

    /// The type of the recipients.
    pub fn key_type(&self) -> KeyType {
        self.header.key_type()
    }

    /// The length of the plaintext in bytes, which age does not hide.
    pub fn plaintext_len(&self) -> usize {
        self.plaintext_len
    }

    /// The complete age file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.file
    }

    /// The header alone, which is what a rekey replaces.
    pub fn header(&self) -> &SealedHeader {
        &self.header
    }

    /// The bytes of the header alone.
    pub fn header_bytes(&self) -> &[u8] {
        &self.file[..self.header_len]
    }

    /// The payload alone, which a rekey keeps.
    pub fn payload(&self) -> &[u8] {
        &self.file[self.header_len..]
    }

    /// Opens the value for `address` with an identity in `keyring` that the value names.
    ///
    /// The address comes from the object that is being unsealed, never from the value itself.
    pub fn unseal(
        &self,
        address: &ValueAddress,
        keyring: &Keyring,
    ) -> Result<Plaintext, UnsealError> {
        let file_key = self.header.file_key(address, keyring)?;
        payload::open(self.payload(), &file_key).map_err(|Damaged| UnsealError::Damaged)
    }
}
