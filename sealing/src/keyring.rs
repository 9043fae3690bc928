//! Identities by fingerprint, so that the cost of opening a value does not grow with the number of identities.

use std::collections::HashMap;

use crate::fingerprint::Fingerprint;
use crate::key::{Identity, Recipient};

/// The identities that can unseal, by fingerprint.
#[derive(Default)]
pub struct Keyring(HashMap<Fingerprint, Identity>);

impl Keyring {
    /// An empty keyring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an identity and returns its fingerprint. Adding it again changes nothing.
    pub fn insert(&mut self, identity: Identity) -> Fingerprint {
        let fingerprint = identity.recipient().fingerprint();
        self.0.entry(fingerprint).or_insert(identity);
        fingerprint
    }

    /// Removes an identity; returns whether it was held.
    pub fn remove(&mut self, fingerprint: Fingerprint) -> bool {
        self.0.remove(&fingerprint).is_some()
    }

    /// Whether the identity with this fingerprint is held.
    pub fn is_held(&self, fingerprint: Fingerprint) -> bool {
        self.0.contains_key(&fingerprint)
    }

    /// Whether no identity is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fingerprints of all identities held, in no particular order.
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> {
        self.0.keys().copied()
    }

    /// The public halves of all identities held, in no particular order.
    pub fn recipients(&self) -> impl Iterator<Item = Recipient> {
        self.0.values().map(Identity::recipient)
    }

    /// The identity with this fingerprint, if it is held.
    pub fn identity(&self, fingerprint: Fingerprint) -> Option<&Identity> {
        self.0.get(&fingerprint)
    }
}

impl FromIterator<Identity> for Keyring {
    fn from_iter<I: IntoIterator<Item = Identity>>(identities: I) -> Self {
        let mut keyring = Self::new();
        identities.into_iter().for_each(|identity| {
            keyring.insert(identity);
        });
        keyring
    }
}
