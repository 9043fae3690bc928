//! A rekey replaces the header, keeps the payload and the binding, and needs an identity.

use bulla_sealing::{
    KeyType, Keyring, Recipients, RekeyError, SealedHeader, SealedValue, UnsealError, ValueAddress,
};

use crate::support::{KEY_TYPES, address, edited, keys, sealed, split};

fn rekeyed(file: &[u8], keyring: &Keyring, recipients: &Recipients) -> Vec<u8> {
    let (header, payload) = SealedHeader::parse(file).unwrap();
    [&header.rekey(&address(), keyring, recipients).unwrap(), payload].concat()
}

#[test]
fn new_header_opens_only_with_the_new_identity() {
    for (old_type, new_type) in
        KEY_TYPES.into_iter().flat_map(|old| KEY_TYPES.map(|new| (old, new)))
    {
        let (file, old) = sealed(old_type, 2);
        let (new, recipients) = keys(new_type, 3);
        let file = rekeyed(&file, &old, &recipients);
        let sealed_value = SealedValue::parse(&file).unwrap();
        assert_eq!(sealed_value.key_type(), new_type);
        assert_eq!(sealed_value.unseal(&address(), &new).unwrap().as_bytes(), b"correct horse");
        let fingerprints = sealed_value.fingerprints().collect();
        assert_eq!(
            sealed_value.unseal(&address(), &old).err(),
            Some(UnsealError::NoIdentity { fingerprints })
        );
    }
}

#[test]
fn only_the_recipients_change() {
    let (file, old) = sealed(KeyType::X25519, 1);
    let (_, recipients) = keys(KeyType::Hybrid, 1);
    let new = rekeyed(&file, &old, &recipients);
    let (before, after) = (SealedValue::parse(&file).unwrap(), SealedValue::parse(&new).unwrap());
    assert_eq!(before.payload(), after.payload());
    assert_eq!(before.binding(), after.binding());
    assert!(after.fingerprints().eq(recipients.iter().map(|recipient| recipient.fingerprint())));
}

#[test]
fn header_alone_is_enough() {
    let (file, old) = sealed(KeyType::Hybrid, 1);
    let (new, recipients) = keys(KeyType::Hybrid, 1);
    let (header, payload) = split(&file);
    let (alone, rest) = SealedHeader::parse(header).unwrap();
    assert!(rest.is_empty());
    let header = alone.rekey(&address(), &old, &recipients).unwrap();
    let file = [&header, payload].concat();
    assert!(SealedValue::parse(&file).unwrap().unseal(&address(), &new).is_ok());
}

#[test]
fn header_of_another_rekeyed_value_does_not_open() {
    for key_type in KEY_TYPES {
        let (keyring, recipients) = keys(key_type, 1);
        let [one, other] = [(); 2].map(|()| crate::support::sealed_to(&recipients));
        let rekeyed = rekeyed(&one, &keyring, &recipients);
        let file = [split(&rekeyed).0, split(&other).1].concat();
        assert_eq!(
            SealedValue::parse(&file).unwrap().unseal(&address(), &keyring).err(),
            Some(UnsealError::Damaged)
        );
    }
}

#[test]
fn rekey_returns_the_errors_of_unsealing() {
    let (file, keyring) = sealed(KeyType::X25519, 1);
    let (stranger, recipients) = keys(KeyType::X25519, 1);
    let rekey = |file: &[u8], address: &ValueAddress, keyring: &Keyring| {
        SealedHeader::parse(file).unwrap().0.rekey(address, keyring, &recipients).err()
    };
    let elsewhere = ValueAddress::new("dev", "db", "password").unwrap();
    assert!(matches!(
        rekey(&file, &elsewhere, &keyring),
        Some(RekeyError::Unseal(UnsealError::WrongBinding { .. }))
    ));
    assert!(matches!(
        rekey(&file, &address(), &stranger),
        Some(RekeyError::Unseal(UnsealError::NoIdentity { .. }))
    ));
    let moved = edited(&file, |lines| lines[1] = lines[1].replace("prod", "dev"));
    assert_eq!(rekey(&moved, &elsewhere, &keyring), Some(RekeyError::Unseal(UnsealError::Damaged)));
}
