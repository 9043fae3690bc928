//! Each reason to refuse a file, with a test of its own.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bulla_sealing::{
    Binding, KeyType, Keyring, MAX_HEADER_BYTES, MAX_STANZAS, ParseError, Recipients,
    RecipientsError, Scope, SealedValue, UnsealError, ValueAddress, seal,
};

use crate::support::{KEY_TYPES, address, edited, header_lines, keys, sealed, sealed_to};

/// Where the binding stanza begins: after the version line.
const BINDING_AT: usize = "age-encryption.org/v1\n".len();

fn refusal(file: &[u8]) -> ParseError {
    SealedValue::parse(file).err().unwrap()
}

/// The reason, and the text of the line that the error points to.
fn malformed(file: &[u8]) -> (&'static str, String) {
    let ParseError::Malformed { at, what } = refusal(file) else {
        panic!("another refusal: {}", refusal(file));
    };
    let line = file[at..].split(|&byte| byte == b'\n').next().unwrap();
    (what, String::from_utf8_lossy(line).into_owned())
}

/// The same for an X25519 value with its header's lines edited.
fn malformed_after(edit: impl FnOnce(&mut Vec<String>)) -> (&'static str, String) {
    malformed(&edited(&sealed(KeyType::X25519, 2).0, edit))
}

#[test]
fn not_an_age_file_is_refused() {
    for bytes in [&b""[..], b"age-encryption.org/v2\n", b"-----BEGIN AGE ENCRYPTED FILE-----\n"] {
        assert_eq!(refusal(bytes), ParseError::NotAge);
    }
    let (file, _) = sealed(KeyType::X25519, 1);
    assert_eq!(refusal(&[b" ", &file[..]].concat()), ParseError::NotAge);
    assert_eq!(ParseError::NotAge.to_string(), "not an age file");
}

#[test]
fn age_file_without_a_binding_is_refused() {
    for key_type in KEY_TYPES {
        let (file, _) = sealed(key_type, 1);
        let plain = edited(&file, |lines| {
            lines.drain(1..3);
        });
        assert_eq!(refusal(&plain), ParseError::NoBinding);
    }
}

#[test]
fn binding_that_is_not_first_is_refused() {
    let file = edited(&sealed(KeyType::X25519, 1).0, |lines| {
        let recipient: Vec<String> = lines.drain(3..5).collect();
        lines.splice(1..1, recipient);
    });
    assert_eq!(refusal(&file), ParseError::NoBinding);
}

#[test]
fn binding_of_another_version_is_refused() {
    let file = edited(&sealed(KeyType::X25519, 1).0, |lines| {
        lines[1] = lines[1].replace("/v1", "/v2");
    });
    assert_eq!(refusal(&file), ParseError::NoBinding);
}

#[test]
fn second_binding_is_refused() {
    let (what, line) = malformed_after(|lines| {
        let binding: Vec<String> = lines[1..3].to_vec();
        lines.splice(3..5, binding);
    });
    assert_eq!(what, "a second binding");
    assert!(line.starts_with("-> bulla.dev/v1 "));
}

#[test]
fn unknown_stanza_is_refused() {
    let (what, line) = malformed_after(|lines| {
        lines[5] = "-> grease one two".into();
    });
    assert_eq!(what, "expected an X25519 or mlkem768x25519 stanza");
    assert_eq!(line, "-> grease one two");
}

#[test]
fn mixed_stanzas_are_refused() {
    let hybrid = header_lines(&sealed(KeyType::Hybrid, 1).0);
    let (what, line) = malformed_after(|lines| lines[5..7].clone_from_slice(&hybrid[3..5]));
    assert_eq!(what, "X25519 and mlkem768x25519 stanzas are mixed");
    assert!(line.starts_with("-> mlkem768x25519 "));
}

#[test]
fn wrong_number_of_fingerprints_is_refused() {
    let one_more = header_lines(&sealed(KeyType::X25519, 3).0).swap_remove(2);
    let one_less = header_lines(&sealed(KeyType::X25519, 1).0).swap_remove(2);
    for body in [one_more.as_str(), &one_less, "", "AAAA"] {
        let (what, line) = malformed_after(|lines| lines[2] = body.into());
        assert_eq!(what, "fingerprints and recipients differ in number");
        assert!(line.starts_with("-> bulla.dev/v1 "));
    }
    let none = edited(&sealed(KeyType::X25519, 1).0, |lines| {
        lines.drain(3..5);
        lines[2].clear();
    });
    assert_eq!(malformed(&none).0, "fingerprints and recipients differ in number");
}

#[test]
fn repeated_fingerprint_is_refused() {
    let (what, _) = malformed_after(|lines| lines[2] = "AAAAAAAAAAAAAAAAAAAAAA".into());
    assert_eq!(what, "a fingerprint is repeated");
}

#[test]
fn malformed_bindings_are_refused_with_their_place() {
    for (args, what) in [
        ("strict prod db", "the binding does not have exactly four arguments"),
        ("strict prod db password more", "the binding does not have exactly four arguments"),
        ("Strict prod db password", "the scope of the binding is unknown"),
        ("strict - db password", "the namespace of the binding is not a DNS label"),
        ("strict prod.eu db password", "the namespace of the binding is not a DNS label"),
        ("strict prod - password", "the name of the binding is not a DNS subdomain"),
        ("strict prod db pass/word", "the key of the binding is not a valid data key"),
        ("namespace prod db password", "the binding names a field that its scope does not bind"),
        ("namespace - - password", "the namespace of the binding is not a DNS label"),
        ("cluster prod - password", "the binding names a field that its scope does not bind"),
        ("cluster - db password", "the binding names a field that its scope does not bind"),
        ("cluster - - ..password", "the key of the binding is not a valid data key"),
    ] {
        let file = edited(&sealed(KeyType::X25519, 1).0, |lines| {
            lines[1] = format!("-> bulla.dev/v1 {args}");
        });
        assert_eq!(refusal(&file), ParseError::Malformed { at: BINDING_AT, what }, "{args}");
    }
}

#[test]
fn malformed_recipient_stanzas_are_refused_with_their_place() {
    let share = "A".repeat(43);
    let body = "A".repeat(43);
    for (line, body, what) in [
        ("-> X25519".into(), &body[..], "an X25519 stanza has exactly one argument"),
        (format!("-> X25519 {share} {share}"), &body, "an X25519 stanza has exactly one argument"),
        ("-> X25519 AAAA".into(), &body, "the share of an X25519 stanza is not 32 bytes of base64"),
        (format!("-> X25519 {share}"), "AAAA", "the body of an X25519 stanza is not 32 bytes"),
        ("-> mlkem768x25519".into(), &body, "an mlkem768x25519 stanza has exactly one argument"),
        (
            "-> mlkem768x25519 AAAA".into(),
            &body,
            "the key share of an mlkem768x25519 stanza is not 1,120 bytes of base64",
        ),
        (
            format!("-> mlkem768x25519 {}", "A".repeat(1494)),
            "AAAA",
            "the body of an mlkem768x25519 stanza is not 32 bytes",
        ),
    ] {
        let (found, at) = malformed(&edited(&sealed(KeyType::X25519, 1).0, |lines| {
            lines[3].clone_from(&line);
            lines[4] = body.into();
        }));
        assert_eq!(found, what);
        assert_eq!(at, line);
    }
}

#[test]
fn grammar_is_strict() {
    for (edit, what) in [
        (
            (|lines| lines[1].push(' ')) as fn(&mut Vec<String>),
            "an argument of a stanza is empty or not printable ASCII",
        ),
        (|lines| lines[1].push('\r'), "an argument of a stanza is empty or not printable ASCII"),
        (
            |lines| lines[1].push('\u{e9}'),
            "an argument of a stanza is empty or not printable ASCII",
        ),
        (
            |lines| lines[1].insert(3, ' '),
            "an argument of a stanza is empty or not printable ASCII",
        ),
        (|lines| lines[2].push('='), "the body of a stanza is not canonical base64"),
        (|lines| lines[2].push('\r'), "the body of a stanza is not canonical base64"),
        (|lines| lines[2] = "A".repeat(65), "a line of a stanza body is longer than 64 columns"),
        (|lines| lines.insert(3, "AAAA".into()), "expected a stanza or the header MAC"),
        (|lines| lines.insert(3, String::new()), "expected a stanza or the header MAC"),
        (|lines| lines[7].push('A'), "the header MAC is not 32 bytes of base64"),
        (|lines| lines[7].push('='), "the header MAC is not 32 bytes of base64"),
        (|lines| lines[7].insert(4, ' '), "the header MAC is not 32 bytes of base64"),
        (|lines| lines[7] = "---".into(), "expected a stanza or the header MAC"),
    ] {
        assert_eq!(malformed_after(edit).0, what);
    }
}

#[test]
fn file_that_is_cut_short_is_reported_as_such() {
    let (file, _) = sealed(KeyType::X25519, 1);
    let header = file.len() - crate::support::split(&file).1.len();
    let whats = |range: std::ops::Range<usize>| -> Vec<&str> {
        let mut whats: Vec<&str> = range.map(|len| malformed(&file[..len]).0).collect();
        whats.dedup();
        whats
    };
    assert_eq!(whats(BINDING_AT..header), ["the header is cut short"]);
    assert_eq!(whats(header..header + 32), ["the payload is cut short"]);
    assert!(SealedValue::parse(&file[..header + 32]).is_ok(), "as long as an empty value");
    assert_eq!(
        refusal(&file[..header]),
        ParseError::Malformed { at: header, what: "the payload is cut short" }
    );
}

#[test]
fn every_other_address_is_refused_in_every_scope() {
    let (keyring, recipients) = keys(KeyType::X25519, 1);
    let elsewhere = [
        ("namespace", ValueAddress::new("dev", "db", "password").unwrap()),
        ("name", ValueAddress::new("prod", "cache", "password").unwrap()),
        ("key", ValueAddress::new("prod", "db", "user").unwrap()),
    ];
    for (scope, bound) in [
        (Scope::Strict, &["namespace", "name", "key"][..]),
        (Scope::Namespace, &["namespace", "key"]),
        (Scope::Cluster, &["key"]),
    ] {
        let binding = Binding::new(scope, &address());
        let file = seal(b"value", &binding, &recipients).unwrap();
        let sealed_value = SealedValue::parse(&file).unwrap();
        for (field, elsewhere) in &elsewhere {
            let refused = bound.contains(field).then(|| UnsealError::WrongBinding {
                expected: Box::new(elsewhere.clone()),
                found: Box::new(binding.clone()),
            });
            assert_eq!(sealed_value.unseal(elsewhere, &keyring).err(), refused, "{scope} {field}");
            // This is found without any key.
            let without_keys = sealed_value.unseal(elsewhere, &Keyring::new()).err();
            assert_eq!(
                matches!(without_keys, Some(UnsealError::WrongBinding { .. })),
                refused.is_some()
            );
        }
    }
}

#[test]
fn wrong_binding_names_both_addresses() {
    let (file, keyring) = sealed(KeyType::X25519, 1);
    let elsewhere = ValueAddress::new("dev", "db", "password").unwrap();
    let error = SealedValue::parse(&file).unwrap().unseal(&elsewhere, &keyring).err().unwrap();
    assert_eq!(
        error.to_string(),
        "sealed for key password of prod/db, not for key password of dev/db"
    );
}

#[test]
fn unknown_key_names_the_fingerprints() {
    let (file, keyring) = sealed(KeyType::Hybrid, 2);
    let sealed_value = SealedValue::parse(&file).unwrap();
    let fingerprints: Vec<_> = sealed_value.fingerprints().collect();
    assert!(fingerprints.iter().all(|fingerprint| keyring.is_held(*fingerprint)));
    let error = sealed_value.unseal(&address(), &keys(KeyType::Hybrid, 3).0).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("no identity is held for {}, {}", fingerprints[0], fingerprints[1])
    );
    assert_eq!(error, UnsealError::NoIdentity { fingerprints });
}

#[test]
fn low_order_share_is_reported_as_damage() {
    for key_type in KEY_TYPES {
        let (file, keyring) = sealed(key_type, 1);
        let file = edited(&file, |lines| {
            // The X25519 share is the whole argument of an X25519 stanza and the end of a hybrid stanza's argument.
            let (tag, share) = lines[3].rsplit_once(' ').unwrap();
            let mut share = BASE64.decode(share).unwrap();
            share.last_chunk_mut::<32>().unwrap().fill(0);
            lines[3] = format!("{tag} {}", BASE64.encode(share));
        });
        let unsealed = SealedValue::parse(&file).unwrap().unseal(&address(), &keyring);
        assert_eq!(unsealed.err(), Some(UnsealError::Damaged));
    }
}

#[test]
fn missing_mixed_or_repeated_recipients_are_refused() {
    let [hybrid, x25519] =
        KEY_TYPES.map(|key_type| keys(key_type, 1).1.iter().next().unwrap().clone());
    assert_eq!(Recipients::new(vec![]).err(), Some(RecipientsError::None));
    let mixed = RecipientsError::Mixed(hybrid.fingerprint(), x25519.fingerprint());
    for recipients in [vec![hybrid.clone(), x25519.clone()], vec![x25519.clone(), hybrid.clone()]] {
        assert_eq!(Recipients::new(recipients).err(), Some(mixed));
    }
    assert_eq!(
        Recipients::new(vec![x25519.clone(), x25519.clone()]).err(),
        Some(RecipientsError::Twice(x25519.fingerprint()))
    );
}

#[test]
fn promised_number_of_recipients_fits_with_the_longest_binding() {
    let name = ["a"; 127].join(".");
    let longest = ValueAddress::new(&"n".repeat(63), &name, &"k".repeat(253)).unwrap();
    assert_eq!(name.len(), 253);
    for (key_type, max) in [(KeyType::Hybrid, 40), (KeyType::X25519, MAX_STANZAS - 1)] {
        let (keyring, recipients) = keys(key_type, max);
        let file = seal(b"value", &Binding::new(Scope::Strict, &longest), &recipients).unwrap();
        let sealed_value = SealedValue::parse(&file).unwrap();
        assert_eq!(sealed_value.fingerprints().count(), max);
        assert!(sealed_value.unseal(&longest, &keyring).is_ok());

        let one_more = keys(key_type, 1).1;
        let too_many = recipients.iter().chain(one_more.iter()).cloned().collect();
        assert_eq!(
            Recipients::new(too_many).err(),
            Some(RecipientsError::TooMany { key_type, max })
        );
    }
}

#[test]
fn at_most_64_stanzas_are_read() {
    let with_stanzas = |count: usize| {
        edited(&sealed_to(&keys(KeyType::X25519, 1).1), |lines| {
            let more = std::iter::repeat_n(["-> more".to_owned(), String::new()], count - 2);
            lines.splice(5..5, more.flatten());
        })
    };
    assert_eq!(
        malformed(&with_stanzas(MAX_STANZAS)).0,
        "fingerprints and recipients differ in number"
    );
    assert_eq!(malformed(&with_stanzas(MAX_STANZAS + 1)).0, "more than 64 stanzas");
}

#[test]
fn at_most_64_kib_of_a_header_are_read() {
    let (file, _) = sealed(KeyType::X25519, 1);
    let header_len = file.len() - crate::support::split(&file).1.len();
    let with_header_of = |len: usize| {
        edited(&file, |lines| lines[3].push_str(&format!(" {}", "a".repeat(len - header_len - 1))))
    };
    assert_eq!(
        malformed(&with_header_of(MAX_HEADER_BYTES)).0,
        "an X25519 stanza has exactly one argument"
    );
    assert_eq!(
        malformed(&with_header_of(MAX_HEADER_BYTES + 1)).0,
        "the header is longer than 64 KiB"
    );
    let endless = [b"age-encryption.org/v1\n-> ", &vec![b'a'; 1 << 20][..]].concat();
    assert_eq!(
        refusal(&endless),
        ParseError::Malformed { at: BINDING_AT, what: "the header is longer than 64 KiB" }
    );
}
