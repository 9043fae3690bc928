//! One value as Bitnami's kubeseal seals it: two bytes of length, a session key in RSA-OAEP with SHA-256, and the
//! value in AES-256-GCM.
//!
//! The OAEP label is the scope. A value does not name its key, so each key is tried. This runs offline for a person
//! who holds the keys, so nobody else learns how long it took, or whether the value opened.

use std::sync::atomic::{AtomicUsize, Ordering};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_sealing::Scope;
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPrivateKey};
use zeroize::Zeroizing;

/// The length of the RSA part, big-endian.
const LENGTH_BYTES: usize = 2;

const TAG_BYTES: usize = 16;

const SESSION_KEY_BYTES: usize = 32;

/// Each session key is used once, so the format has no other nonce.
const NONCE: [u8; 12] = [0; 12];

/// The keys that may open values.
pub(in crate::commands::migrate) struct BitnamiKeys {
    keys: Vec<RsaPrivateKey>,
    /// The index of the key that last opened a value: the next value is probably sealed to it too.
    last: AtomicUsize,
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OpenError {
    #[error("not base64")]
    NotBase64,
    #[error("damaged: it ends too early")]
    Truncated,
    #[error("damaged: its session key opens, but the value does not")]
    Damaged,
    #[error(
        "sealed to a key of {0} bits, but --from-key has no key of that length; or its first bytes are damaged"
    )]
    NoKeyOfLength(usize),
    #[error(
        "none of the keys opens it: it is sealed to another key or for another place, or it is damaged"
    )]
    NoKey,
}

impl BitnamiKeys {
    /// Keeps each key once.
    pub(super) fn new(all: impl IntoIterator<Item = RsaPrivateKey>) -> Self {
        let mut keys: Vec<RsaPrivateKey> = Vec::new();
        for key in all {
            if keys.iter().all(|other| other.n() != key.n()) {
                keys.push(key);
            }
        }
        Self { keys, last: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The value, and the scope that it was sealed for. The scopes, each with its label, are tried in order.
    pub(super) fn open(
        &self,
        text: &str,
        scopes: &[(Scope, String)],
    ) -> Result<(Zeroizing<Vec<u8>>, Scope), OpenError> {
        // Go's decoder ignores line breaks, which YAML may leave in a text.
        let text: String =
            text.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| OpenError::NotBase64)?;
        let (length, rest) =
            bytes.split_first_chunk::<LENGTH_BYTES>().ok_or(OpenError::Truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (wrapped, sealed) = rest.split_at_checked(length).ok_or(OpenError::Truncated)?;
        if sealed.len() < TAG_BYTES {
            return Err(OpenError::Truncated);
        }
        let (session_key, scope) = self.session_key(wrapped, scopes)?;
        let cipher = Aes256Gcm::new_from_slice(&session_key).map_err(|_| OpenError::Damaged)?;
        let mut value = Zeroizing::new(sealed.to_vec());
        cipher
            .decrypt_in_place(&Nonce::from(NONCE), b"", &mut *value)
            .map_err(|_| OpenError::Damaged)?;
        Ok((value, scope))
    }

    fn session_key(
        &self,
        wrapped: &[u8],
        scopes: &[(Scope, String)],
    ) -> Result<(Zeroizing<Vec<u8>>, Scope), OpenError> {
        let last = self.last.load(Ordering::Relaxed);
        let fitting = |index: &usize| self.keys[*index].size() == wrapped.len();
        let mut indices: Vec<usize> = (0..self.keys.len()).filter(fitting).collect();
        indices.sort_by_key(|index| *index != last);
        if indices.is_empty() {
            return Err(OpenError::NoKeyOfLength(wrapped.len() * 8));
        }
        for (scope, label) in scopes {
            for &index in &indices {
                let padding = Oaep::<Sha256>::new_with_label(label.as_bytes());
                let Ok(session_key) = self.keys[index].decrypt(padding, wrapped) else { continue };
                let session_key = Zeroizing::new(session_key);
                self.last.store(index, Ordering::Relaxed);
                return match session_key.len() {
                    SESSION_KEY_BYTES => Ok((session_key, *scope)),
                    _ => Err(OpenError::Damaged),
                };
            }
        }
        Err(OpenError::NoKey)
    }
}
