//! Sealed values that no writer makes: any lines in the header, with a MAC that is right for them. So a reader that
//! does not check the one thing that is wrong opens them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bulla_sealing::{Identity, KeyType, Keyring, Recipient, Recipients, SealedHeader};
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::support::address;

/// A header under a file key that is known, and a payload.
pub(crate) struct Forged {
    file_key: [u8; 16],
    /// The lines of the header without its last, the MAC.
    pub(crate) lines: Vec<String>,
    payload: Vec<u8>,
}

impl Forged {
    /// A value of one chunk for key `password` of `prod/db`, sealed to `recipients`, of any number and type.
    pub(crate) fn new(plaintext: &[u8], recipients: &[&Recipient]) -> Self {
        let mut file_key = [0; 16];
        getrandom::fill(&mut file_key).unwrap();
        let payload = payload(&file_key, &[plaintext]);
        let lines =
            vec!["age-encryption.org/v1".into(), "-> bulla.dev/v1 strict prod db password".into()];
        let mut forged = Self { file_key, lines, payload };
        forged.lines.extend(body(&fingerprints(recipients)));
        for recipient in recipients {
            let stanza = forged.stanza(recipient);
            forged.lines.extend(stanza);
        }
        forged
    }

    /// A stanza that wraps the file key for `recipient`. A header for a throw-away key is rekeyed to get it.
    pub(crate) fn stanza(&self, recipient: &Recipient) -> [String; 2] {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let mine = identity.recipient();
        let ephemeral = StaticSecret::from([7; 32]);
        let shared_secret = ephemeral.diffie_hellman(&PublicKey::from(point(&mine)));
        let share = PublicKey::from(&ephemeral);
        let old = self.with_lines(|lines| {
            lines.truncate(2);
            lines.extend(body(&fingerprints(&[&mine])));
            let shared_secret = shared_secret.as_bytes();
            lines.extend(self.x25519_stanza(&mine, share.as_bytes(), shared_secret));
        });
        let (header, _) = SealedHeader::parse(&old).unwrap();
        let recipients = Recipients::new(vec![recipient.clone()]).unwrap();
        let new = header.rekey(&address(), &Keyring::from_iter([identity]), &recipients).unwrap();
        let lines = str::from_utf8(&new).unwrap().lines().map(String::from);
        lines.skip(3).take(2).collect::<Vec<_>>().try_into().unwrap()
    }

    /// An `X25519` stanza with any share and any shared secret.
    pub(crate) fn x25519_stanza(
        &self,
        recipient: &Recipient,
        share: &[u8; 32],
        shared_secret: &[u8; 32],
    ) -> [String; 2] {
        let salt = [&share[..], &point(recipient)].concat();
        let key = hkdf(&salt, shared_secret, b"age-encryption.org/v1/X25519");
        let body = encrypted(&key, [0; 12], &self.file_key);
        [format!("-> X25519 {}", BASE64.encode(share)), BASE64.encode(body)]
    }

    /// The same header over chunks that are all marked as the last one.
    pub(crate) fn with_last_chunks(self, chunks: &[&[u8]]) -> Self {
        Self { payload: payload(&self.file_key, chunks), ..self }
    }

    /// The file, with the lines of its header edited before the MAC is made.
    pub(crate) fn with_lines(&self, edit: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
        let mut lines = self.lines.clone();
        edit(&mut lines);
        let header = lines.join("\n") + "\n---";
        let mac = BASE64.encode(self.mac(header.as_bytes()));
        [format!("{header} {mac}\n").as_bytes(), &self.payload].concat()
    }

    /// The file with another binding.
    pub(crate) fn with_binding(&self, arguments: &str) -> Vec<u8> {
        self.with_lines(|lines| lines[1] = format!("-> bulla.dev/v1 {arguments}"))
    }

    fn mac(&self, header: &[u8]) -> [u8; 32] {
        let key = hkdf(&[], &self.file_key, b"header");
        let hmac: Hmac<Sha256> = KeyInit::new_from_slice(&key).unwrap();
        hmac.chain_update(header).finalize().into_bytes().into()
    }
}

/// Lines of 64 columns and a shorter one.
pub(crate) fn body(bytes: &[u8]) -> Vec<String> {
    let encoded = BASE64.encode(bytes);
    let mut lines: Vec<String> =
        encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    if encoded.len().is_multiple_of(64) {
        lines.push(String::new());
    }
    lines
}

pub(crate) fn fingerprints(recipients: &[&Recipient]) -> Vec<u8> {
    let bytes = |recipient: &&Recipient| {
        u64::from_str_radix(&recipient.fingerprint().to_string(), 16).unwrap().to_be_bytes()
    };
    recipients.iter().flat_map(bytes).collect()
}

/// A nonce, and chunks that are all marked as the last one.
fn payload(file_key: &[u8; 16], chunks: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0; 16];
    getrandom::fill(&mut payload).unwrap();
    let key = hkdf(&payload, file_key, b"payload");
    for (number, chunk) in (0..).zip(chunks) {
        payload.extend(encrypted(&key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number, 1], chunk));
    }
    payload
}

fn point(recipient: &Recipient) -> [u8; 32] {
    bech32::decode(recipient.as_str()).unwrap().1.try_into().unwrap()
}

fn hkdf(salt: &[u8], input: &[u8], info: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), input).expand(info, &mut output).unwrap();
    output
}

fn encrypted(key: &[u8; 32], nonce: [u8; 12], plaintext: &[u8]) -> Vec<u8> {
    let mut bytes = plaintext.to_vec();
    let tag = ChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&nonce.into(), b"", (&mut bytes[..]).into())
        .unwrap();
    bytes.extend_from_slice(&tag);
    bytes
}
