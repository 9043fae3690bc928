//! Sealed values open, for every binding, key type, size and number of recipients.

use bulla_sealing::{Binding, KeyType, Scope, SealedValue, ValueAddress, seal};
use proptest::prelude::*;

use crate::support::{KEY_TYPES, SCOPES, address, header_lines, keys, sealed_to, split};

/// The size of age's chunks.
const CHUNK: usize = 64 * 1024;

fn addresses() -> impl Strategy<Value = ValueAddress> {
    let label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
    let name = prop::collection::vec(label, 1..4).prop_map(|labels| labels.join("."));
    (label, name, "[-._a-zA-Z0-9]{1,253}")
        .prop_filter_map("a valid address", |(namespace, name, key)| {
            ValueAddress::new(&namespace, &name, &key).ok()
        })
}

fn key_types() -> impl Strategy<Value = KeyType> {
    prop::sample::select(KEY_TYPES.to_vec())
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop::sample::select(SCOPES.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn sealed_value_opens_with_each_of_its_identities(
        address in addresses(),
        scope in scopes(),
        key_type in key_types(),
        count in 1_usize..6,
        plaintext in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (mut keyring, recipients) = keys(key_type, count);
        let binding = Binding::new(scope, &address);
        let file = seal(&plaintext, &binding, &recipients).unwrap();
        let sealed_value = SealedValue::parse(&file).unwrap();

        prop_assert_eq!(sealed_value.binding(), &binding);
        prop_assert_eq!(sealed_value.key_type(), key_type);
        prop_assert_eq!(sealed_value.plaintext_len(), plaintext.len());
        let fingerprints: Vec<_> = sealed_value.fingerprints().collect();
        let expected: Vec<_> =
            recipients.iter().map(|recipient| recipient.fingerprint()).collect();
        prop_assert_eq!(&fingerprints, &expected);
        // The first identity that the keyring holds is used, so each identity is tested in turn.
        for fingerprint in fingerprints {
            let opened = sealed_value.unseal(&address, &keyring).unwrap();
            prop_assert_eq!(opened.as_bytes(), &plaintext);
            keyring.remove(fingerprint);
        }
    }

    #[test]
    fn binding_permits_what_its_scope_says(
        bound in addresses(),
        other in addresses(),
        (same_namespace, same_name, same_key) in any::<(bool, bool, bool)>(),
    ) {
        let address = ValueAddress::new(
            if same_namespace { bound.namespace() } else { other.namespace() },
            if same_name { bound.name() } else { other.name() },
            if same_key { bound.key() } else { other.key() },
        ).unwrap();
        let key = address.key() == bound.key();
        let namespace = address.namespace() == bound.namespace();
        let name = address.name() == bound.name();
        let permits = |scope| Binding::new(scope, &bound).permits(&address);
        prop_assert_eq!(permits(Scope::Cluster), key);
        prop_assert_eq!(permits(Scope::Namespace), key && namespace);
        prop_assert_eq!(permits(Scope::Strict), key && namespace && name);
    }
}

#[test]
fn every_size_around_the_chunks_opens() {
    let address = address();
    for key_type in KEY_TYPES {
        let (keyring, recipients) = keys(key_type, 1);
        let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 1 << 20];
        for size in sizes {
            let plaintext: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let file =
                seal(&plaintext, &Binding::new(Scope::Strict, &address), &recipients).unwrap();
            let sealed_value = SealedValue::parse(&file).unwrap();
            assert_eq!(sealed_value.plaintext_len(), size);
            assert!(sealed_value.unseal(&address, &keyring).unwrap().as_bytes() == plaintext);
        }
    }
}

#[test]
fn two_sealings_share_only_public_parts() {
    for key_type in KEY_TYPES {
        let (_, recipients) = keys(key_type, 1);
        let (first, second) = (sealed_to(&recipients), sealed_to(&recipients));
        let (first_lines, second_lines) = (header_lines(&first), header_lines(&second));
        assert_eq!(first_lines[..3], second_lines[..3], "version and binding");
        assert!(first_lines[3..].iter().zip(&second_lines[3..]).all(|(one, other)| one != other));
        let (first_payload, second_payload) = (split(&first).1, split(&second).1);
        assert!(
            first_payload.iter().zip(second_payload).filter(|(one, other)| one == other).count()
                < 16
        );
    }
}
