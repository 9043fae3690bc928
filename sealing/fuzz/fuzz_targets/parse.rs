//! Arbitrary bytes are either refused or parsed. A parsed value is consistent, and either opens or is refused.

#![no_main]

use std::sync::LazyLock;

use bulla_sealing::{
    Fingerprint, Identity, KeyType, Keyring, MAX_HEADER_BYTES, MAX_STANZAS, ParseError,
    SealedHeader, SealedValue, ValueAddress,
};
use libfuzzer_sys::fuzz_target;

/// The identities of the vectors in `testdata/format`, which are the seeds.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    [
        include_str!("../../testdata/format/hybrid.txt"),
        include_str!("../../testdata/format/x25519.txt"),
    ]
    .iter()
    .filter_map(|file| file.lines().nth(1))
    .map(|text| Identity::parse(text).expect("an identity file"))
    .collect()
});

fuzz_target!(|file: &[u8]| {
    match SealedValue::parse(file) {
        Ok(sealed_value) => check(file, &sealed_value),
        Err(ParseError::Malformed { at, .. }) => assert!(at <= file.len()),
        Err(ParseError::NotAge | ParseError::NoBinding) => {}
    }
});

fn check(file: &[u8], sealed_value: &SealedValue<'_>) {
    let header_len = file.len() - sealed_value.payload().len();
    assert!(header_len <= MAX_HEADER_BYTES);
    assert!(sealed_value.plaintext_len() + 32 <= sealed_value.payload().len());
    let fingerprints: Vec<Fingerprint> = sealed_value.fingerprints().collect();
    assert!((1..MAX_STANZAS).contains(&fingerprints.len()));

    // The header parses to the same result without the payload.
    let (header, rest) = SealedHeader::parse(&file[..header_len]).expect("it was read");
    assert!(rest.is_empty() && header.fingerprints().eq(fingerprints));
    assert_eq!(header.binding(), sealed_value.binding());

    // The value is opened for the address that its binding claims.
    let binding = sealed_value.binding();
    let (namespace, name) = (binding.namespace().unwrap_or("prod"), binding.name().unwrap_or("db"));
    let address = ValueAddress::new(namespace, name, binding.key()).expect("names are checked");
    assert!(binding.permits(&address));
    if let Ok(plaintext) = sealed_value.unseal(&address, &KEYRING) {
        assert_eq!(plaintext.as_bytes().len(), sealed_value.plaintext_len());
    }

    // A binding has one encoding: writing it again makes the same bytes.
    let line = file.split(|&byte| byte == b'\n').nth(1).expect("the binding");
    let dash = |field: Option<&str>| field.unwrap_or("-").to_owned();
    let written = format!(
        "-> bulla.dev/v1 {} {} {} {}",
        binding.scope(),
        dash(binding.namespace()),
        dash(binding.name()),
        binding.key()
    );
    assert_eq!(line, written.as_bytes());
    let stanza = match sealed_value.key_type() {
        KeyType::Hybrid => &b"\n-> mlkem768x25519 "[..],
        KeyType::X25519 => b"\n-> X25519 ",
    };
    assert!(file.windows(stanza.len()).any(|bytes| bytes == stanza));
}
