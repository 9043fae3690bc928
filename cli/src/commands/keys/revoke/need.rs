//! Which values only one key opens.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_crds::{AGE_PREFIX, SealedSecret, State, decode_value};
use bulla_sealing::{Fingerprint, SealedHeader};

use crate::cluster::SealingKeys;

/// The key to revoke, and the keys that can open values without it.
pub(super) struct Usable {
    key: Fingerprint,
    others: BTreeSet<Fingerprint>,
}

impl Usable {
    /// The other keys that open here: declared, held and not revoked.
    pub(super) fn new(keys: &SealingKeys, key: Fingerprint) -> Self {
        let others = keys.keys.iter().filter(|other| {
            other.fingerprint() != key && other.is_held() && other.state != State::Revoked
        });
        Self { key, others: others.map(|other| other.fingerprint()).collect() }
    }

    /// Whether a value that is sealed to these opens with the key alone.
    fn is_needed(&self, sealed_to: impl Iterator<Item = Fingerprint>) -> bool {
        let sealed_to: BTreeSet<_> = sealed_to.collect();
        sealed_to.contains(&self.key) && self.others.is_disjoint(&sealed_to)
    }
}

/// The values that need the key, by where they are.
#[derive(Debug, Default)]
pub(super) struct Need {
    pub(super) places: BTreeSet<String>,
    /// How many values could not be read.
    pub(super) unreadable: usize,
}

impl Need {
    /// Looks at the values of a live object.
    pub(super) fn add_sealed_secret(&mut self, sealed_secret: &SealedSecret, usable: &Usable) {
        let metadata = &sealed_secret.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        for (key, value) in &sealed_secret.spec.sealed_data {
            match decode_value(value) {
                Ok(file) => self.add(format!("{namespace}/{name}: {key}"), &file, usable),
                Err(_) => self.unreadable += 1,
            }
        }
    }

    /// Looks at everything in a file that could be a sealed value. The file may have any format: a chart's template
    /// is not YAML and still holds values.
    pub(super) fn add_file(&mut self, file: &str, content: &[u8], usable: &Usable) {
        for value in values(content) {
            // The beginning is enough: everything needed is in the header.
            match BASE64_STANDARD.decode(&value[..value.len() - value.len() % 4]) {
                Ok(bytes) => {
                    let header = SealedHeader::parse(&bytes);
                    let key = header.as_ref().map(|(header, _)| header.binding().key());
                    self.add(format!("{file}: {}", key.unwrap_or_default()), &bytes, usable);
                }
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn add(&mut self, place: String, file: &[u8], usable: &Usable) {
        match SealedHeader::parse(file) {
            Ok((header, _)) if usable.is_needed(header.fingerprints()) => {
                self.places.insert(place);
            }
            Ok(_) => {}
            Err(_) => self.unreadable += 1,
        }
    }
}

/// Runs of base64 that begin as sealed values do.
fn values(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    // Another byte separates two runs, so each is found once.
    content.split(move |byte| !is_base64(byte)).filter(|run| run.starts_with(AGE_PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use bulla_crds::encode_value;
    use bulla_sealing::{Binding, Identity, KeyType, Recipients, Scope, ValueAddress, seal};

    use super::*;

    fn value(key: &str, recipients: &[&Identity]) -> String {
        let recipients = recipients.iter().map(|identity| identity.recipient()).collect();
        let address = ValueAddress::new("prod", "db", key).unwrap();
        let binding = Binding::new(Scope::Strict, &address);
        let recipients = Recipients::new(recipients).unwrap();
        encode_value(&seal(b"1", &binding, &recipients).unwrap())
    }

    #[test]
    fn a_value_needs_the_key_when_no_other_usable_key_opens_it() {
        let [old, new, other] = [(); 3].map(|()| Identity::generate(KeyType::X25519).unwrap());
        let fingerprint = |identity: &Identity| identity.recipient().fingerprint();
        let usable = Usable { key: fingerprint(&old), others: [fingerprint(&new)].into() };
        let file = format!(
            "# a template of a chart\n{{{{ if .Values.x }}}}\nsealedData:\n  alone: {}\n  both: \"{}\"\n  new: {}\n  lost: {}\n  cut: {}\n",
            value("alone", &[&old]),
            value("both", &[&old, &new]),
            value("new", &[&new]),
            value("lost", &[&old, &other]),
            &value("cut", &[&old])[..100],
        );
        let mut need = Need::default();
        need.add_file("main:chart/db.yaml", file.as_bytes(), &usable);
        let places: Vec<_> = need.places.iter().collect();
        assert_eq!(places, ["main:chart/db.yaml: alone", "main:chart/db.yaml: lost"]);
        assert_eq!((need.places.len(), need.unreadable), (2, 1));
    }
}
