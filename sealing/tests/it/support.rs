//! Sealed values for tests, and their headers as lines that a test can edit.

use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, Recipients, Scope, SealedHeader, ValueAddress, seal,
};

pub(crate) const KEY_TYPES: [KeyType; 2] = [KeyType::Hybrid, KeyType::X25519];
pub(crate) const SCOPES: [Scope; 3] = [Scope::Strict, Scope::Namespace, Scope::Cluster];

pub(crate) fn address() -> ValueAddress {
    ValueAddress::new("prod", "db", "password").unwrap()
}

/// `count` identities as a keyring, and their recipients.
pub(crate) fn keys(key_type: KeyType, count: usize) -> (Keyring, Recipients) {
    let identities: Vec<Identity> =
        (0..count).map(|_| Identity::generate(key_type).unwrap()).collect();
    let recipients = identities.iter().map(Identity::recipient).collect();
    (Keyring::from_iter(identities), Recipients::new(recipients).unwrap())
}

/// A small value bound strictly to `address()`, and the keyring that opens it.
pub(crate) fn sealed(key_type: KeyType, recipients: usize) -> (Vec<u8>, Keyring) {
    let (keyring, recipients) = keys(key_type, recipients);
    (sealed_to(&recipients), keyring)
}

pub(crate) fn sealed_to(recipients: &Recipients) -> Vec<u8> {
    seal(b"correct horse", &Binding::new(Scope::Strict, &address()), recipients).unwrap()
}

/// Splits the file into header and payload.
pub(crate) fn split(file: &[u8]) -> (&[u8], &[u8]) {
    let (_, payload) = SealedHeader::parse(file).unwrap();
    file.split_at(file.len() - payload.len())
}

/// The lines of the file's header: the version, two of the binding, two of each recipient, the MAC.
pub(crate) fn header_lines(file: &[u8]) -> Vec<String> {
    str::from_utf8(split(file).0).unwrap().lines().map(String::from).collect()
}

/// The file with its header's lines edited. The header MAC stays the same.
pub(crate) fn edited(file: &[u8], edit: impl FnOnce(&mut Vec<String>)) -> Vec<u8> {
    let mut lines = header_lines(file);
    edit(&mut lines);
    [(lines.join("\n") + "\n").as_bytes(), split(file).1].concat()
}
