//! The `mlkem768x25519` recipient type (C2SP `age.md`): HPKE (RFC 9180) base mode with
//! MLKEM768-X25519 (X-Wing, KEM 0x647a), HKDF-SHA256 and ChaCha20Poly1305.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use hpke::aead::ChaCha20Poly1305;
use hpke::hybrid_array::typenum::U32;
use hpke::kdf::HkdfSha256;
use hpke::kem::{SharedSecret, XWing};
use hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable};
use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::DecapsulationKey;
use ml_kem::{FromSeed, MlKem768};
use sha3::{Digest, Sha3_256};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Damaged, InvalidKey, NoRandomness, ParseError};
use crate::file_key::FileKey;
use crate::header::{Stanza, write_stanza};
use crate::x25519::check_point;

pub(crate) const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";

/// The length of an ML-KEM-768 ciphertext; the X25519 share follows it.
const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;
const ML_KEM_KEY_BYTES: usize = 1184;
const RECIPIENT_BYTES: usize = ML_KEM_KEY_BYTES + 32;

type XWingRecipient = <XWing as Kem>::PublicKey;
type XWingEncapsulated = <XWing as Kem>::EncappedKey;

/// A hybrid public key that an identity can have.
#[derive(Clone)]
pub(crate) struct Recipient(Box<XWingRecipient>);

impl Recipient {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let recipient = XWingRecipient::from_bytes(bytes).map_err(|error| match error {
            HpkeError::IncorrectInputLength(..) => InvalidKey::Corrupt,
            _ => InvalidKey::Impossible,
        })?;
        check_point(bytes.last_chunk().ok_or(InvalidKey::Corrupt)?)?;
        Ok(Self(Box::new(recipient)))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// Appends the stanza that wraps `file_key` for this recipient.
    pub(crate) fn wrap(&self, file_key: &FileKey, out: &mut Vec<u8>) -> Result<(), NoRandomness> {
        // The key was checked when it was read, so only drawing randomness can fail.
        let (encapsulated, body) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            INFO,
            file_key.as_bytes(),
            &[],
        )
        .map_err(|_| NoRandomness)?;
        write_stanza(out, TAG, &[&BASE64.encode(encapsulated.to_bytes())], &body);
        Ok(())
    }
}

/// A well-formed `mlkem768x25519` stanza.
pub(crate) struct Wrapped {
    encapsulated: Box<XWingEncapsulated>,
    body: [u8; 32],
}

impl Wrapped {
    pub(crate) fn parse(stanza: &Stanza<'_>) -> Result<Self, ParseError> {
        let [encapsulated] = stanza.args[..] else {
            return Err(stanza.malformed("an mlkem768x25519 stanza has exactly one argument"));
        };
        let encapsulated = BASE64
            .decode(encapsulated)
            .ok()
            .and_then(|bytes| XWingEncapsulated::from_bytes(&bytes).ok())
            .ok_or(stanza.malformed(
                "the key share of an mlkem768x25519 stanza is not 1,120 bytes of base64",
            ))?;
        let body = <[u8; 32]>::try_from(&stanza.body[..]).map_err(|_| {
            stanza.malformed("the body of an mlkem768x25519 stanza is not 32 bytes")
        })?;
        Ok(Self { encapsulated: Box::new(encapsulated), body })
    }
}

/// A private key: the 32-byte seed and the keys that it expands to.
pub(crate) struct Identity(Expanded);

impl Identity {
    pub(crate) fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(Expanded::new(seed))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0.seed
    }

    pub(crate) fn recipient(&self) -> Recipient {
        Recipient(Box::new(StrictXWing::sk_to_pk(&self.0)))
    }

    /// The file key, or `None` when the stanza is for another recipient.
    pub(crate) fn unwrap(&self, wrapped: &Wrapped) -> Result<Option<FileKey>, Damaged> {
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, StrictXWing>(
            &OpModeR::Base,
            &self.0,
            &wrapped.encapsulated,
            INFO,
            &wrapped.body,
            &[],
        );
        match opened.map(Zeroizing::new) {
            Ok(bytes) => {
                let mut file_key = FileKey::zero();
                file_key
                    .as_mut_bytes()
                    .copy_from_slice(bytes.get(..FileKey::BYTES).ok_or(Damaged)?);
                Ok(Some(file_key))
            }
            Err(HpkeError::OpenError) => Ok(None),
            Err(_) => Err(Damaged),
        }
    }
}

/// X-Wing's private key, expanded once; hpke's own type expands the ML-KEM key at every use.
#[derive(Clone)]
struct Expanded {
    seed: [u8; 32],
    ml_kem: DecapsulationKey,
    x25519: StaticSecret,
    x25519_recipient: PublicKey,
}

impl Expanded {
    /// SHAKE256 of the seed yields ML-KEM's 64-byte seed, then the X25519 scalar
    /// (draft-connolly-cfrg-xwing-kem, "Key generation").
    fn new(seed: &[u8; 32]) -> Self {
        let mut hasher = Shake256::default();
        hasher.update(seed);
        let mut reader = hasher.finalize_xof();
        let mut ml_kem_seed = ml_kem::Seed::default();
        let mut scalar = Zeroizing::new([0; 32]);
        reader.read(&mut ml_kem_seed);
        reader.read(&mut *scalar);
        let (ml_kem, _) = MlKem768::from_seed(&ml_kem_seed);
        ml_kem_seed.zeroize();
        let x25519 = StaticSecret::from(*scalar);
        let x25519_recipient = PublicKey::from(&x25519);
        Self { seed: *seed, ml_kem, x25519, x25519_recipient }
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        self.seed.zeroize(); // the other two wipe themselves
    }
}

impl ConstantTimeEq for Expanded {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.seed.ct_eq(&other.seed)
    }
}

impl Serializable for Expanded {
    type OutputSize = U32;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.seed);
    }
}

impl Deserializable for Expanded {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HpkeError> {
        let seed =
            bytes.try_into().map_err(|_| HpkeError::IncorrectInputLength(32, bytes.len()))?;
        Ok(Self::new(seed))
    }
}

/// X-Wing that refuses an all-zero X25519 result. age does so too (vectors `hybrid_low_order` and
/// `hybrid_identity`); hpke's own X-Wing does not.
struct StrictXWing;

impl Kem for StrictXWing {
    type PublicKey = XWingRecipient;
    type PrivateKey = Expanded;
    type EncappedKey = XWingEncapsulated;
    type NSecret = U32;

    const KEM_ID: u16 = XWing::KEM_ID;

    fn sk_to_pk(identity: &Expanded) -> XWingRecipient {
        let mut bytes = [0; RECIPIENT_BYTES];
        bytes[..ML_KEM_KEY_BYTES].copy_from_slice(&identity.ml_kem.encapsulation_key().to_bytes());
        bytes[ML_KEM_KEY_BYTES..].copy_from_slice(identity.x25519_recipient.as_bytes());
        #[expect(
            clippy::expect_used,
            reason = "both halves were computed above, with their right lengths"
        )]
        XWingRecipient::from_bytes(&bytes).expect("the public half of an identity is valid")
    }

    fn derive_keypair(_: &[u8]) -> (Expanded, XWingRecipient) {
        unreachable!("age draws the 32-byte seed itself, so HPKE's DeriveKeyPair is never called")
    }

    fn decap(
        identity: &Expanded,
        _: Option<&XWingRecipient>,
        encapsulated: &XWingEncapsulated,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        let bytes = encapsulated.to_bytes();
        let (ciphertext, share) = bytes.split_at(ML_KEM_CIPHERTEXT_BYTES);
        let share = <[u8; 32]>::try_from(share).map_err(|_| HpkeError::DecapError)?;
        let x25519_secret = identity.x25519.diffie_hellman(&PublicKey::from(share));
        if !x25519_secret.was_contributory() {
            return Err(HpkeError::DecapError);
        }
        let ciphertext = ciphertext.try_into().map_err(|_| HpkeError::DecapError)?;
        let mut ml_kem_secret = identity.ml_kem.decapsulate(ciphertext);
        // X-Wing's combiner, with its label "\.//^\" last.
        let shared_secret = Sha3_256::new()
            .chain_update(&ml_kem_secret[..])
            .chain_update(x25519_secret.as_bytes())
            .chain_update(share)
            .chain_update(identity.x25519_recipient.as_bytes())
            .chain_update(br"\.//^\")
            .finalize();
        ml_kem_secret.zeroize();
        Ok(SharedSecret(shared_secret))
    }

    fn encap_with_rng(
        recipient: &XWingRecipient,
        _: Option<(&Expanded, &XWingRecipient)>,
        rng: &mut impl hpke::rand_core::CryptoRng,
    ) -> Result<(SharedSecret<Self>, XWingEncapsulated), HpkeError> {
        let (shared_secret, encapsulated) = XWing::encap_with_rng(recipient, None, rng)?;
        Ok((SharedSecret(shared_secret.0), encapsulated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expanded_key_is_written_as_its_seed() {
        let mut written = [0_u8; 32];
        Expanded::new(&[7; 32]).write_exact(&mut written);
        assert_eq!(written, [7; 32]);
    }
}
