//! The X25519 recipient type (C2SP `age.md`, "The X25519 recipient type").

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::error::{Damaged, InvalidKey, NoRandomness, ParseError};
use crate::file_key::{FileKey, fill_random, hkdf_sha256};
use crate::header::{Stanza, decode_exact, encode, write_stanza};

pub(crate) const TAG: &str = "X25519";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";

/// The prime of Curve25519, 2^255 - 19, with its most significant byte first.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    (prime[0], prime[31]) = (0x7f, 0xed);
    prime
};

/// A public key that an identity can have, so that wrapping for it cannot fail and it has only one text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Recipient(PublicKey);

impl Recipient {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidKey> {
        check_point(&bytes).map(|()| Self(bytes.into()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Appends the stanza that wraps `file_key` for this recipient.
    pub(crate) fn wrap(&self, file_key: &FileKey, out: &mut Vec<u8>) -> Result<(), NoRandomness> {
        let mut ephemeral = Zeroizing::new([0; 32]);
        fill_random(&mut *ephemeral)?;
        let ephemeral = StaticSecret::from(*ephemeral);
        let share = PublicKey::from(&ephemeral);
        let cipher = cipher(&ephemeral.diffie_hellman(&self.0), &share, &self.0);
        let mut body = [0; 32];
        body[..FileKey::BYTES].copy_from_slice(file_key.as_bytes());
        #[expect(clippy::expect_used, reason = "RFC 8439 limits a message to 256 GiB")]
        let tag = cipher
            .encrypt_inout_detached(&[0; 12].into(), b"", (&mut body[..FileKey::BYTES]).into())
            .expect("a file key is within the cipher's limits");
        body[FileKey::BYTES..].copy_from_slice(&tag);
        write_stanza(out, TAG, &[&encode(share.as_bytes())], &body);
        Ok(())
    }
}

/// A well-formed `X25519` stanza.
pub(crate) struct Wrapped {
    share: [u8; 32],
    body: [u8; 32],
}

impl Wrapped {
    pub(crate) fn parse(stanza: &Stanza<'_>) -> Result<Self, ParseError> {
        let [share] = stanza.args[..] else {
            return Err(stanza.malformed("an X25519 stanza has exactly one argument"));
        };
        let share = decode_exact(share)
            .ok_or(stanza.malformed("the share of an X25519 stanza is not 32 bytes of base64"))?;
        let body = <[u8; 32]>::try_from(&stanza.body[..])
            .map_err(|_| stanza.malformed("the body of an X25519 stanza is not 32 bytes"))?;
        Ok(Self { share, body })
    }
}

/// A private key with its public half.
pub(crate) struct Identity {
    secret: StaticSecret,
    recipient: PublicKey,
}

impl Identity {
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*bytes);
        let recipient = PublicKey::from(&secret);
        Self { secret, recipient }
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    pub(crate) fn recipient(&self) -> Recipient {
        Recipient(self.recipient)
    }

    /// The file key, or `None` when the stanza is for another recipient.
    pub(crate) fn unwrap(&self, wrapped: &Wrapped) -> Result<Option<FileKey>, Damaged> {
        let share = PublicKey::from(wrapped.share);
        let shared_secret = self.secret.diffie_hellman(&share);
        // "The identity implementation MUST check the shared secret is not all zeroes."
        if !shared_secret.was_contributory() {
            return Err(Damaged);
        }
        let cipher = cipher(&shared_secret, &share, &self.recipient);
        let mut file_key = FileKey::zero();
        let (body, tag) = wrapped.body.split_at(FileKey::BYTES);
        file_key.as_mut_bytes().copy_from_slice(body);
        let tag = <[u8; 16]>::try_from(tag).map_err(|_| Damaged)?;
        let opened = cipher.decrypt_inout_detached(
            &[0; 12].into(),
            b"",
            (&mut file_key.as_mut_bytes()[..]).into(),
            &tag.into(),
        );
        Ok(opened.ok().map(|()| file_key))
    }
}

fn cipher(
    shared_secret: &SharedSecret,
    share: &PublicKey,
    recipient: &PublicKey,
) -> ChaCha20Poly1305 {
    let mut salt = [0; 64];
    salt[..32].copy_from_slice(share.as_bytes());
    salt[32..].copy_from_slice(recipient.as_bytes());
    ChaCha20Poly1305::new((&*hkdf_sha256(&salt, shared_secret.as_bytes(), INFO)).into())
}

/// Checks that a recipient, or the X25519 half of one, is a point of high order in its canonical encoding.
///
/// RFC 7748 reads every 32 bytes as a point: it ignores the highest bit and reduces modulo the prime. An identity only
/// writes the reduced form, and the salt of a stanza contains the recipient as written. So a value sealed to another
/// form would open for nobody.
pub(crate) fn check_point(point: &[u8; 32]) -> Result<(), InvalidKey> {
    // The order of a point does not depend on the secret, so one clamped secret is enough.
    let shared_secret = StaticSecret::from([1; 32]).diffie_hellman(&PublicKey::from(*point));
    if !shared_secret.was_contributory() {
        return Err(InvalidKey::LowOrder);
    }
    let mut most_significant_first = *point;
    most_significant_first.reverse();
    if most_significant_first >= PRIME {
        return Err(InvalidKey::Impossible);
    }
    Ok(())
}
