//! A changed sealed value never opens, and no input panics.

use bulla_sealing::{
    Binding, KeyType, Keyring, Recipients, Scope, SealedHeader, SealedValue, UnsealError,
    ValueAddress, seal,
};
use proptest::prelude::*;

use crate::support::{KEY_TYPES, address, edited, header_lines, keys, sealed, sealed_to, split};

/// Whether `file` opens for the address that it was sealed for, or for the address that it now claims.
fn opens(file: &[u8], keyring: &Keyring) -> bool {
    let Ok(sealed_value) = SealedValue::parse(file) else {
        return false;
    };
    let binding = sealed_value.binding();
    let claimed = ValueAddress::new(
        binding.namespace().unwrap_or("prod"),
        binding.name().unwrap_or("db"),
        binding.key(),
    )
    .unwrap();
    assert!(binding.permits(&claimed));
    let _ = sealed_value.header().rekey(&claimed, keyring, &keys(KeyType::X25519, 1).1).is_ok();
    [address(), claimed].iter().any(|address| sealed_value.unseal(address, keyring).is_ok())
}

#[test]
fn every_flipped_bit_is_refused() {
    for key_type in KEY_TYPES {
        let (file, keyring) = sealed(key_type, 1);
        assert!(opens(&file, &keyring));
        for bit in 0..8 * file.len() {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&flipped, &keyring), "{key_type}: bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for key_type in KEY_TYPES {
        let (file, keyring) = sealed(key_type, 2);
        for len in 0..file.len() {
            assert!(!opens(&file[..len], &keyring), "{key_type}: cut to {len} bytes");
        }
        for more in [1, 15, 16, 17, 65536, 65552, 65553] {
            let longer = [&file[..], &vec![0; more]].concat();
            assert!(!opens(&longer, &keyring), "{key_type}: {more} bytes more");
        }
    }
}

#[test]
fn every_change_of_chunks_is_refused() {
    let (keyring, recipients) = keys(KeyType::X25519, 1);
    let plaintext = vec![7; 3 * 65536];
    let file = seal(&plaintext, &Binding::new(Scope::Strict, &address()), &recipients).unwrap();
    let (header, payload) = split(&file);
    let (nonce, sealed) = payload.split_at(16);
    let chunks: Vec<&[u8]> = sealed.chunks(65536 + 16).collect();
    let opens_as = |chunks: &[&[u8]]| opens(&[header, nonce, &chunks.concat()].concat(), &keyring);

    assert!(opens_as(&chunks));
    for order in [
        &[0, 1][..],
        &[1, 2],
        &[2],
        &[0, 2],
        &[0, 2, 1],
        &[1, 0, 2],
        &[0, 0, 1, 2],
        &[0, 1, 2, 2],
        &[],
    ] {
        let chunks: Vec<&[u8]> = order.iter().map(|&index| chunks[index]).collect();
        assert!(!opens_as(&chunks), "{order:?}");
    }
}

#[test]
fn fingerprint_of_another_identity_never_opens() {
    for key_type in KEY_TYPES {
        let (mine, recipients) = keys(key_type, 1);
        let (other, other_recipients) = keys(key_type, 1);
        let other_body = header_lines(&sealed_to(&other_recipients)).swap_remove(2);
        let file = edited(&sealed_to(&recipients), |lines| lines[2] = other_body);
        let sealed_value = SealedValue::parse(&file).unwrap();

        let fingerprints = other.fingerprints().collect();
        assert_eq!(
            sealed_value.unseal(&address(), &mine).err(),
            Some(UnsealError::NoIdentity { fingerprints })
        );
        assert_eq!(sealed_value.unseal(&address(), &other).err(), Some(UnsealError::Damaged));
    }
}

#[test]
fn reordered_stanzas_or_fingerprints_never_open() {
    for key_type in KEY_TYPES {
        let (file, keyring) = sealed(key_type, 2);
        let swapped = edited(&file, |lines| {
            lines.swap(3, 5);
            lines.swap(4, 6);
        });
        assert!(!opens(&swapped, &keyring));
        let (keyring, recipients) = keys(key_type, 2);
        let mut reversed: Vec<_> = recipients.iter().cloned().collect();
        reversed.reverse();
        let reversed = Recipients::new(reversed).unwrap();
        let reversed_body = header_lines(&sealed_to(&reversed)).swap_remove(2);
        let swapped = edited(&sealed_to(&recipients), |lines| lines[2] = reversed_body);
        assert!(!opens(&swapped, &keyring));
    }
}

#[test]
fn header_and_payload_of_two_values_do_not_open_together() {
    for key_type in KEY_TYPES {
        let (keyring, recipients) = keys(key_type, 1);
        let (honest, forged) = (sealed_to(&recipients), sealed_to(&recipients));
        let (honest_header, honest_payload) = split(&honest);
        let (forged_header, forged_payload) = split(&forged);
        for file in
            [[forged_header, honest_payload].concat(), [honest_header, forged_payload].concat()]
        {
            let sealed_value = SealedValue::parse(&file).unwrap();
            assert_eq!(sealed_value.unseal(&address(), &keyring).err(), Some(UnsealError::Damaged));
        }
    }
}

#[test]
fn stanza_of_one_value_does_not_open_another() {
    for key_type in KEY_TYPES {
        let (keyring, recipients) = keys(key_type, 1);
        let other = header_lines(&sealed_to(&recipients));
        let file =
            edited(&sealed_to(&recipients), |lines| lines[3..5].clone_from_slice(&other[3..5]));
        let sealed_value = SealedValue::parse(&file).unwrap();
        assert_eq!(sealed_value.unseal(&address(), &keyring).err(), Some(UnsealError::Damaged));
    }
}

/// A change to a file.
#[derive(Clone, Debug)]
enum Tampering {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Swap(usize, usize),
}

fn edits() -> impl Strategy<Value = Tampering> {
    let at = || 0..3000_usize;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Tampering::Set(at, byte)),
        (at(), "(\n|\r\n| |-> |--- |=|[ -~]{1,70}|-> X25519 \n\n)")
            .prop_map(|(at, text)| Tampering::Insert(at, text.into_bytes())),
        (at(), 1..200_usize).prop_map(|(at, len)| Tampering::Remove(at, len)),
        (at(), 1..200_usize).prop_map(|(at, len)| Tampering::Repeat(at, len)),
        (at(), at()).prop_map(|(one, other)| Tampering::Swap(one, other)),
    ]
}

fn apply(file: &mut Vec<u8>, edit: &Tampering) {
    let within = |at: usize| at % file.len().max(1);
    match edit {
        _ if file.is_empty() => {}
        Tampering::Set(at, byte) => {
            let at = within(*at);
            file[at] = *byte;
        }
        Tampering::Insert(at, bytes) => {
            let at = within(*at);
            file.splice(at..at, bytes.iter().copied());
        }
        Tampering::Remove(at, len) => {
            let at = within(*at);
            file.drain(at..file.len().min(at + len));
        }
        Tampering::Repeat(at, len) => {
            let at = within(*at);
            let piece = file[at..file.len().min(at + len)].to_vec();
            file.splice(at..at, piece);
        }
        Tampering::Swap(one, other) => {
            let (one, other) = (within(*one), within(*other));
            file.swap(one, other);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn edited_value_does_not_open(
        key_type in prop::sample::select(KEY_TYPES.to_vec()),
        edits in prop::collection::vec(edits(), 1..4),
    ) {
        let (file, keyring) = sealed(key_type, 2);
        let mut edited = file.clone();
        edits.iter().for_each(|edit| apply(&mut edited, edit));
        prop_assert!(edited == file || !opens(&edited, &keyring));
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_open(
        start in prop::sample::select(vec![
            "",
            "age-encryption.org/v1\n",
            "age-encryption.org/v1\n-> bulla.dev/v1 ",
            "age-encryption.org/v1\n-> bulla.dev/v1 strict prod db password\nAAAAAAAAAAA\n-> ",
        ]),
        rest in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..500),
            "([a-zA-Z0-9+/]{0,70}|-> |--- |\n| |X25519){0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let file = [start.as_bytes(), &rest].concat();
        prop_assert!(!opens(&file, &Keyring::new()));
        let _ = SealedHeader::parse(&file).is_ok();
    }
}
