//! Whether a certificate and a private key belong together, as `kubectl create secret tls` and web servers check it.

use rustls::InconsistentKeys;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Why a server could not use the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("the private key does not belong to the first certificate of the file")]
    OtherKey,
    #[error("the private key is encrypted with a passphrase, and no pod can read it")]
    Encrypted,
    #[error("the certificate cannot be read")]
    Certificate,
    #[error("the private key cannot be read")]
    Key,
}

impl Mismatch {
    /// What to do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::OtherKey => {
                "pass the key of this certificate; in a chain, the server's certificate comes first"
            }
            Self::Encrypted => "decrypt it first: openssl pkey -in FILE",
            Self::Certificate | Self::Key => "check the file with openssl",
        }
    }
}

/// Checks a PEM certificate, or a chain that begins with it, and a PEM key. A key of an uncommon type is not checked.
pub(crate) fn check(certificates: &[u8], key: &[u8]) -> Result<(), Mismatch> {
    if is_encrypted(key) {
        return Err(Mismatch::Encrypted);
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|_| Mismatch::Certificate)?;
    if chain.is_empty() {
        return Err(Mismatch::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Mismatch::Key)?;
    let Ok(key) = any_supported_type(&key) else { return Ok(()) };
    match CertifiedKey::new(chain, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(Mismatch::OtherKey)
        }
        Err(rustls::Error::InconsistentKeys(_)) | Ok(()) => Ok(()),
        Err(_) => Err(Mismatch::Certificate),
    }
}

fn is_encrypted(key: &[u8]) -> bool {
    ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(key, mark.as_bytes()).is_some())
}
