//! What changed in sealed values between two states of a SealedSecret, judged without a key.
//!
//! A rekey replaces a value's header and keeps its payload, so the payload bytes decide between a value that was
//! only rekeyed and one that was changed. A file key is never used for two payloads, so nobody can have changed a
//! value and kept these bytes. The header names the recipients, and is only the sealer's claim.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::ParsedValue;
use bulla_sealing::{Binding, Fingerprint};

use super::sealed_text::SealedText;

/// What changed in the value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    /// The key is new.
    Added,
    /// The key was removed.
    Removed,
    /// The key has another text.
    Value(ValueChange),
}

/// How two texts of one value differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueChange {
    pub(crate) kind: ValueChangeKind,
    /// The old and the new binding, if they differ.
    pub(crate) binding: Option<Box<(Binding, Binding)>>,
    /// The added recipients, in the order of their stanzas.
    pub(crate) came: Vec<Fingerprint>,
    /// The removed recipients, in the order of their stanzas.
    pub(crate) went: Vec<Fingerprint>,
}

/// What the payloads say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ValueChangeKind {
    /// Another payload: it was sealed again, to the same plaintext or to another.
    Changed,
    /// The same payload behind a header with another binding, which no bulla command makes.
    Rebound,
    /// The same payload and binding behind a new header.
    Rekeyed,
    /// One of the two is not a sealed value, so only that they differ is known.
    Unreadable,
}

/// The changes of all keys that differ, in the order of the keys.
pub(crate) fn of_values<'a>(
    old: &BTreeMap<&'a str, SealedText<'_>>,
    new: &BTreeMap<&'a str, SealedText<'_>>,
) -> BTreeMap<&'a str, KeyChange> {
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let change = |key| match (old.get(key), new.get(key)) {
        (None, _) => Some(KeyChange::Added),
        (_, None) => Some(KeyChange::Removed),
        (Some(old), Some(new)) => of_value(old, new).map(KeyChange::Value),
    };
    keys.into_iter().filter_map(|key| Some((key, change(key)?))).collect()
}

/// How two texts of one value differ, or `None` if they do not.
pub(crate) fn of_value(old: &SealedText<'_>, new: &SealedText<'_>) -> Option<ValueChange> {
    if old == new {
        return None;
    }
    let Some((old, new)) = old.parsed().zip(new.parsed()) else {
        let (kind, came, went) = (ValueChangeKind::Unreadable, Vec::new(), Vec::new());
        return Some(ValueChange { kind, binding: None, came, went });
    };
    let is_same_binding = old.binding() == new.binding();
    let kind = match (old.payload() == new.payload(), is_same_binding) {
        (false, _) => ValueChangeKind::Changed,
        (true, false) => ValueChangeKind::Rebound,
        (true, true) => ValueChangeKind::Rekeyed,
    };
    let binding =
        (!is_same_binding).then(|| Box::new((old.binding().clone(), new.binding().clone())));
    let less = |all: &ParsedValue, others: &ParsedValue| {
        let others: BTreeSet<_> = others.fingerprints().collect();
        all.fingerprints().filter(|fingerprint| !others.contains(fingerprint)).collect()
    };
    Some(ValueChange { kind, binding, came: less(new, old), went: less(old, new) })
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use bulla_crds::decode_value;
    use bulla_sealing::{
        Identity, KeyType, Keyring, Recipients, Scope, SealedHeader, ValueAddress, seal,
    };

    use super::*;

    fn address(key: &str) -> ValueAddress {
        ValueAddress::new("prod", "db", key).unwrap()
    }

    fn to(identities: &[&Identity]) -> Recipients {
        Recipients::new(identities.iter().map(|identity| identity.recipient()).collect()).unwrap()
    }

    fn identity() -> Identity {
        Identity::generate(KeyType::X25519).unwrap()
    }

    fn sealed(text: &str, key: &str, recipients: &Recipients) -> String {
        let binding = Binding::new(Scope::Strict, &address(key));
        BASE64_STANDARD.encode(seal(text.as_bytes(), &binding, recipients).unwrap())
    }

    fn rekeyed(value: &str, keyring: &Keyring, recipients: &Recipients) -> String {
        let file = decode_value(value).unwrap();
        let (header, payload) = SealedHeader::parse(&file).unwrap();
        let mut new = header.rekey(&address("a"), keyring, recipients).unwrap();
        new.extend(payload);
        BASE64_STANDARD.encode(new)
    }

    fn change(old: &str, new: &str) -> Option<ValueChange> {
        of_value(&SealedText::new(old), &SealedText::new(new))
    }

    #[test]
    fn the_payload_decides_between_changed_and_rekeyed() {
        let (one, two) = (identity(), identity());
        let (first, second) = (one.recipient().fingerprint(), two.recipient().fingerprint());
        let (to_one, to_two, to_both) = (to(&[&one]), to(&[&two]), to(&[&one, &two]));
        let keyring = Keyring::from_iter([one]);
        let old = sealed("x", "a", &to_one);
        assert_eq!(change(&old, &old), None);

        let again = change(&old, &rekeyed(&old, &keyring, &to_one)).unwrap();
        assert_eq!(again.kind, ValueChangeKind::Rekeyed);
        assert!(again.came.is_empty() && again.went.is_empty() && again.binding.is_none());

        let moved = change(&old, &rekeyed(&old, &keyring, &to_two)).unwrap();
        assert_eq!(moved.kind, ValueChangeKind::Rekeyed);
        assert_eq!((moved.came, moved.went), (vec![second], vec![first]));

        // The same plaintext, sealed again: without a key nobody can tell it from another one.
        let changed = change(&old, &sealed("x", "a", &to_both)).unwrap();
        assert_eq!(changed.kind, ValueChangeKind::Changed);
        assert_eq!((changed.came, changed.went), (vec![second], vec![]));
    }

    #[test]
    fn another_binding_is_reported() {
        let one = identity();
        let old = sealed("x", "a", &to(&[&one]));
        let other = sealed("x", "b", &to(&[&one]));
        let bound = change(&old, &other).unwrap();
        assert_eq!(bound.kind, ValueChangeKind::Changed);
        let (was, is) = *bound.binding.unwrap();
        assert_eq!((was.key(), is.key()), ("a", "b"));

        // A header of one value in front of another's payload.
        let (old_file, other_file) = (decode_value(&old).unwrap(), decode_value(&other).unwrap());
        let (_, payload) = SealedHeader::parse(&old_file).unwrap();
        let (_, other_payload) = SealedHeader::parse(&other_file).unwrap();
        let header = &other_file[..other_file.len() - other_payload.len()];
        let forged = BASE64_STANDARD.encode([header, payload].concat());
        assert_eq!(change(&old, &forged).unwrap().kind, ValueChangeKind::Rebound);
    }

    #[test]
    fn an_invalid_value_is_only_different() {
        let old = sealed("x", "a", &to(&[&identity()]));
        for new in ["hunter2", "", "aHVudGVyMg==", &old[..40], &old[4..]] {
            let there = change(&old, new).unwrap();
            assert_eq!(there.kind, ValueChangeKind::Unreadable, "{new}");
            assert_eq!(change(new, &old), Some(there));
        }
    }

    #[test]
    fn keys_come_and_go() {
        let texts = |values: [(&'static str, &'static str); 3]| {
            values.map(|(key, text)| (key, SealedText::new(text))).into()
        };
        let old = texts([("a", "1"), ("b", "2"), ("c", "3")]);
        let new = texts([("a", "1"), ("c", "4"), ("d", "5")]);
        let changes = of_values(&old, &new);
        assert_eq!(changes.keys().copied().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(changes["b"], KeyChange::Removed);
        assert_eq!(changes["d"], KeyChange::Added);
        assert!(matches!(&changes["c"], KeyChange::Value(_)));
    }
}
