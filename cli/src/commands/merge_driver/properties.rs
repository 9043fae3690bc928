//! Properties of every merge of values, checked against a second definition of each key's result.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, Recipients, Scope, SealedHeader, ValueAddress, seal,
};
use proptest::option;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::merge::{Merged, merge};
use super::text::ConflictStyle;
use crate::files::input::Input;
use crate::manifest::{self, sealed_data};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

const STYLE: ConflictStyle = ConflictStyle { marker_size: 7, shows_base: false };

/// A value: its payload, and its recipients as the bits 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Value {
    payload: u8,
    recipients: u8,
}

type Values = [Option<Value>; KEYS.len()];

/// Every value of every key.
static SEALED: LazyLock<BTreeMap<(usize, Value), String>> = LazyLock::new(|| {
    let identities = [0, 1].map(|_| Identity::generate(KeyType::X25519).unwrap());
    let recipients = identities.each_ref().map(Identity::recipient);
    let keyring = Keyring::from_iter(identities);
    let mut sealed = BTreeMap::new();
    for (key, payload) in (0..KEYS.len()).flat_map(|key| (0..3).map(move |payload| (key, payload)))
    {
        let address = ValueAddress::new("prod", "db", KEYS[key]).unwrap();
        let binding = Binding::new(Scope::Strict, &address);
        let first = Recipients::new(vec![recipients[0].clone()]).unwrap();
        let file = seal(b"x", &binding, &first).unwrap();
        let (header, rest) = SealedHeader::parse(&file).unwrap();
        for bits in 1..4_u8 {
            let to = recipients.iter().zip([1, 2]).filter(|(_, bit)| bits & bit != 0);
            let to = Recipients::new(to.map(|(recipient, _)| recipient.clone()).collect()).unwrap();
            let file = [header.rekey(&address, &keyring, &to).unwrap(), rest.to_vec()].concat();
            sealed.insert((key, Value { payload, recipients: bits }), BASE64_STANDARD.encode(file));
        }
    }
    sealed
});

fn manifest(values: &Values) -> String {
    let head = "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: prod\nspec:\n  sealedData:\n";
    let value = |(key, value): (usize, &Option<Value>)| {
        value.map(|value| format!("    {}: {}\n", KEYS[key], SEALED[&(key, value)]))
    };
    let values: String = values.iter().enumerate().filter_map(value).collect();
    format!("{head}{values}  template:\n    type: Opaque\n")
}

/// The values in a manifest without conflicts.
fn values_in(text: &str) -> BTreeMap<String, String> {
    let bytes = Zeroizing::new(text.as_bytes().to_vec());
    let file = manifest::parse(Input { name: String::new(), bytes }).unwrap();
    let objects = file.objects().unwrap();
    assert_eq!(objects.len(), 1);
    sealed_data(&objects[0]).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The expected result for a key; none is a conflict.
fn expected(
    base: Option<Value>,
    ours: Option<Value>,
    theirs: Option<Value>,
) -> Option<Option<Value>> {
    let payload = |value: Option<Value>| value.map(|value| value.payload);
    let who = |value: Option<Value>| value.map_or(0, |value| value.recipients);
    if ours == theirs || theirs == base {
        Some(ours)
    } else if ours == base {
        Some(theirs)
    } else if payload(ours) == payload(theirs) {
        let wanted = who(base) & who(ours) & who(theirs) | (who(ours) | who(theirs)) & !who(base);
        let has_wanted = |value: &Option<Value>| who(*value) == wanted;
        [ours, theirs].into_iter().find(has_wanted).filter(|_| payload(base) == payload(ours))
    } else if payload(ours) == payload(base) {
        Some(theirs)
    } else if payload(theirs) == payload(base) {
        Some(ours)
    } else {
        None
    }
}

fn merged(base: &Values, ours: &Values, theirs: &Values) -> Merged {
    merge([&manifest(base), &manifest(ours), &manifest(theirs)], &STYLE)
}

fn some_values() -> impl Strategy<Value = Values> {
    let value = (0..3_u8, 1..4_u8).prop_map(|(payload, recipients)| Value { payload, recipients });
    let value = option::weighted(0.8, value);
    [value.clone(), value.clone(), value.clone(), value]
}

/// The same values with a few changed.
fn changed(base: Values) -> impl Strategy<Value = Values> {
    (some_values(), any::<[bool; KEYS.len()]>()).prop_map(move |(other, is_changed)| {
        std::array::from_fn(|key| if is_changed[key] { other[key] } else { base[key] })
    })
}

fn three_versions() -> impl Strategy<Value = (Values, Values, Values)> {
    some_values().prop_flat_map(|base| (Just(base), changed(base), changed(base)))
}

proptest! {
    #[test]
    fn every_key_gets_its_expected_value((base, ours, theirs) in three_versions()) {
        let merge = merged(&base, &ours, &theirs);
        let expected: Vec<_> =
            (0..KEYS.len()).map(|key| expected(base[key], ours[key], theirs[key])).collect();
        prop_assert_eq!(merge.conflicts.is_empty(), expected.iter().all(Option::is_some));
        if merge.conflicts.is_empty() {
            let expected: BTreeMap<_, _> = expected
                .iter()
                .enumerate()
                .filter_map(|(key, value)| {
                    let value = SEALED[&(key, (*value)??)].clone();
                    Some((KEYS[key].to_owned(), value))
                })
                .collect();
            prop_assert_eq!(values_in(&merge.text), expected);
        } else {
            prop_assert!(merge.text.contains("<<<<<<< ours\n"));
            for (key, _) in expected.iter().enumerate().filter(|(_, value)| value.is_none()) {
                for value in [ours[key], theirs[key]].into_iter().flatten() {
                    prop_assert!(merge.text.contains(&SEALED[&(key, value)]), "{}", KEYS[key]);
                }
            }
        }
    }

    #[test]
    fn the_sides_can_be_swapped((base, ours, theirs) in three_versions()) {
        let (one, other) = (merged(&base, &ours, &theirs), merged(&base, &theirs, &ours));
        prop_assert_eq!(one.conflicts.is_empty(), other.conflicts.is_empty());
        if one.conflicts.is_empty() {
            prop_assert_eq!(values_in(&one.text), values_in(&other.text));
        }
    }

    #[test]
    fn if_only_one_side_changed_the_result_is_its_text((base, ours, _) in three_versions()) {
        for (ours, theirs) in [(&ours, &base), (&base, &ours), (&ours, &ours)] {
            let merge = merged(&base, ours, theirs);
            let changed = if *ours == base { theirs } else { ours };
            prop_assert_eq!(&*merge.text, &manifest(changed));
            prop_assert!(merge.conflicts.is_empty());
        }
    }
}
