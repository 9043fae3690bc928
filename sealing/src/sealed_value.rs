//! The sealed value: a binding, one stanza for each recipient, a MAC over both, and the payload.

use crate::binding::{self, Binding, Target};
use crate::file_key::FileKey;
use crate::header::{self, Header, Stanza};
use crate::key::{Damaged, Wrapped};
use crate::{Fingerprint, KeyType, Keyring, NoRandomness, Plaintext, Recipients, payload};

/// Why bytes are not a sealed value. Nothing here needs a key, and nothing quotes the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It does not begin with age's version line.
    #[error("not an age file")]
    NotAge,
    /// An age file that breaks the grammar, a limit, or what this format demands beyond it.
    #[error("malformed at byte {at}: {what}")]
    Malformed {
        /// Offset in the file.
        at: usize,
        /// What is wrong there, or which part is.
        what: &'static str,
    },
    /// An age file that was not sealed by this tool: it does not say what it is for.
    #[error("an age file without a binding, so not a sealed value")]
    NoBinding,
}

/// Why a sealed value does not open for a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// It is for something else. No private key was used to find out.
    #[error("sealed for {found}, not for {expected}")]
    WrongBinding {
        /// What it was to be opened for.
        expected: Box<Target>,
        /// What it is bound to.
        found: Box<Binding>,
    },
    /// None of the identities that it names is held.
    #[error("no identity is held for {}", list(.fingerprints))]
    NoIdentity {
        /// The recipients that it says it was sealed to.
        fingerprints: Vec<Fingerprint>,
    },
    /// It was changed after it was sealed, or is cut.
    #[error("damaged: it was changed after it was sealed")]
    Damaged,
}

fn list(fingerprints: &[Fingerprint]) -> String {
    fingerprints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Seals `plaintext`, so that only `recipients` can open it and only for what `binding` permits.
///
/// Returns a complete age file. Each call draws a new file key, so two calls never give equal bytes.
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

/// The header of a sealed value, read and checked as far as no key is needed.
pub struct SealedHeader<'a> {
    binding: Binding,
    recipients: Vec<(Fingerprint, Wrapped)>,
    mac: [u8; 32],
    mac_input: &'a [u8],
}

impl<'a> SealedHeader<'a> {
    /// Reads the header at the beginning of `file`; the rest is returned beside it.
    pub fn parse(file: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (Header { stanzas, mac, mac_input }, rest) = Header::parse(file)?;
        let (first, recipients) = stanzas
            .split_first()
            .filter(|(first, _)| first.tag == binding::TAG)
            .ok_or(ParseError::NoBinding)?;
        let binding = Binding::parse(&first.args).map_err(|what| first.malformed(what))?;
        let recipients = recipients_of(first, recipients)?;
        Ok((Self { binding, recipients, mac, mac_input }, rest))
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
    /// The payload is neither needed nor opened: only who can open it changes. What the holder of an
    /// old identity knew, he still knows.
    pub fn rekey(
        &self,
        target: &Target,
        keyring: &Keyring,
        recipients: &Recipients,
    ) -> Result<Vec<u8>, RekeyError> {
        let file_key = self.file_key(target, keyring)?;
        Ok(write_header(&self.binding, recipients, &file_key)?)
    }

    /// Refuses by binding first: no private key works on a value that is for something else.
    fn file_key(&self, target: &Target, keyring: &Keyring) -> Result<FileKey, UnsealError> {
        if !self.binding.permits(target) {
            return Err(UnsealError::WrongBinding {
                expected: target.clone().into(),
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
            return match file_key.is_header_mac(self.mac_input, &self.mac) {
                true => Ok(file_key),
                false => Err(UnsealError::Damaged),
            };
        }
        match is_held {
            true => Err(UnsealError::Damaged),
            false => Err(UnsealError::NoIdentity { fingerprints: self.fingerprints().collect() }),
        }
    }
}

/// The stanzas after the binding, each with the fingerprint that the binding's body gives for it.
fn recipients_of(
    binding: &Stanza<'_>,
    stanzas: &[Stanza<'_>],
) -> Result<Vec<(Fingerprint, Wrapped)>, ParseError> {
    let (fingerprints, rest) = binding.body.as_chunks::<{ Fingerprint::BYTES }>();
    if stanzas.is_empty() || fingerprints.len() != stanzas.len() || !rest.is_empty() {
        return Err(binding.malformed("not as many fingerprints as recipients"));
    }
    let mut recipients: Vec<(Fingerprint, Wrapped)> = Vec::with_capacity(stanzas.len());
    for (stanza, fingerprint) in stanzas.iter().zip(fingerprints) {
        let fingerprint = Fingerprint::from_bytes(*fingerprint);
        if recipients.iter().any(|(earlier, _)| *earlier == fingerprint) {
            return Err(binding.malformed("a fingerprint stands twice"));
        }
        let what = match stanza.tag {
            binding::TAG => "a second binding",
            _ => "neither an X25519 nor an mlkem768x25519 stanza",
        };
        let wrapped = Wrapped::parse(stanza)?.ok_or(stanza.malformed(what))?;
        if recipients.first().is_some_and(|(_, first)| first.key_type() != wrapped.key_type()) {
            return Err(stanza.malformed("X25519 and mlkem768x25519 stanzas are mixed"));
        }
        recipients.push((fingerprint, wrapped));
    }
    Ok(recipients)
}

/// Why a header was not made anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RekeyError {
    /// The old header does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// There is nothing to draw an ephemeral key from.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// A sealed value, read and checked as far as no key is needed.
pub struct SealedValue<'a> {
    header: SealedHeader<'a>,
    payload: &'a [u8],
    plaintext_len: usize,
}

impl<'a> SealedValue<'a> {
    /// Reads a complete age file, in one linear pass.
    pub fn parse(file: &'a [u8]) -> Result<Self, ParseError> {
        let (header, payload) = SealedHeader::parse(file)?;
        let plaintext_len = payload::plaintext_len(payload)
            .ok_or(ParseError::Malformed { at: file.len(), what: "the payload is cut short" })?;
        Ok(Self { header, payload, plaintext_len })
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

    /// The header alone, which is what a rekey replaces.
    pub fn header(&self) -> &SealedHeader<'a> {
        &self.header
    }

    /// The payload alone, which a rekey keeps.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Opens the value for `target` with whichever identity of `keyring` it names.
    ///
    /// The target comes from the object that is being unsealed, never from the value itself.
    pub fn unseal(&self, target: &Target, keyring: &Keyring) -> Result<Plaintext, UnsealError> {
        let file_key = self.header.file_key(target, keyring)?;
        payload::open(self.payload, &file_key).map_err(|payload::Damaged| UnsealError::Damaged)
    }
}
