//! How recipients and identities are encoded, and that no error quotes the refused text.

use bech32::primitives::decode::UncheckedHrpstring;
use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32, Checksum, Fe32, Hrp};
use bulla_sealing::{Fingerprint, Identity, InvalidKey, KeyType, Keyring, Recipient};
use proptest::prelude::*;

use crate::support::KEY_TYPES;

/// Identity files written by age's own `age-keygen`, without and with `-pq`.
pub(crate) const X25519: &str = include_str!("../../testdata/format/x25519.txt");
pub(crate) const HYBRID: &str = include_str!("../../testdata/format/hybrid.txt");

/// The recipient and the identity in an identity file.
pub(crate) fn pair(file: &str) -> (&str, &str) {
    let mut lines = file.lines();
    let recipient = lines.next().unwrap().strip_prefix("# public key: ").unwrap();
    (recipient, lines.next().unwrap())
}

fn refused_identity(text: &str) -> Option<InvalidKey> {
    Identity::parse(text).err()
}

fn refused_recipient(text: &str) -> Option<InvalidKey> {
    text.parse::<Recipient>().err()
}

/// Encodes any data under any prefix with a correct checksum.
pub(crate) fn bech32_of(prefix: &str, bytes: &[u8], extra_bits: &[u8]) -> String {
    /// Bech32 without the limit of 90 characters.
    enum Long {}
    impl Checksum for Long {
        type MidstateRepr = <Bech32 as Checksum>::MidstateRepr;
        type CorrectionField = <Bech32 as Checksum>::CorrectionField;
        const CODE_LENGTH: usize = usize::MAX;
        const CHECKSUM_LENGTH: usize = Bech32::CHECKSUM_LENGTH;
        const GENERATOR_SH: [u32; 5] = Bech32::GENERATOR_SH;
        const TARGET_RESIDUE: u32 = Bech32::TARGET_RESIDUE;
        const ROOT_GENERATOR: Self::CorrectionField = Bech32::ROOT_GENERATOR;
        const ROOT_EXPONENTS: std::ops::RangeInclusive<usize> = Bech32::ROOT_EXPONENTS;
    }
    let mut symbols: Vec<Fe32> = bytes.iter().copied().bytes_to_fes().collect();
    if let Some((last, more)) = extra_bits.split_first() {
        let padded = symbols.pop().unwrap().to_u8() | last;
        symbols.push(Fe32::try_from(padded).unwrap());
        symbols.extend(more.iter().map(|&symbol| Fe32::try_from(symbol).unwrap()));
    }
    let prefix = Hrp::parse(prefix).unwrap();
    symbols.iter().copied().with_checksum::<Long>(&prefix).chars().collect()
}

/// The data of a text in Bech32.
pub(crate) fn bytes_of(text: &str) -> Vec<u8> {
    let parsed = UncheckedHrpstring::new(text).unwrap();
    let symbols = parsed.data_part_ascii();
    let symbols = &symbols[..symbols.len() - Bech32::CHECKSUM_LENGTH];
    symbols.iter().map(|&c| Fe32::from_char(c.into()).unwrap()).fes_to_bytes().collect()
}

#[test]
fn keys_of_age_keygen_are_read_and_written_alike() {
    for (file, key_type) in [(HYBRID, KeyType::Hybrid), (X25519, KeyType::X25519)] {
        let (recipient_text, identity_text) = pair(file);
        let identity = Identity::parse(identity_text).unwrap();
        assert_eq!(*identity.to_secret_string(), identity_text);
        let recipient = identity.recipient();
        assert_eq!(recipient.as_str(), recipient_text);
        assert_eq!(recipient.key_type(), key_type);
        assert_eq!(recipient_text.parse::<Recipient>().unwrap(), recipient);
        assert!(recipient.long_fingerprint().starts_with(&recipient.fingerprint().to_string()));
        assert_eq!(recipient.long_fingerprint().len(), 32);
    }
}

#[test]
fn generated_keys_read_back() {
    for key_type in KEY_TYPES {
        let identity = Identity::generate(key_type).unwrap();
        let again = Identity::parse(&identity.to_secret_string()).unwrap();
        assert_eq!(again.recipient(), identity.recipient());
        assert_eq!(identity.recipient().to_string().parse(), Ok(identity.recipient()));
    }
}

#[test]
fn every_mistyped_or_cut_key_is_refused() {
    for file in [HYBRID, X25519] {
        let (recipient, identity) = pair(file);
        for len in 0..identity.len() {
            assert!(refused_identity(&identity[..len]).is_some(), "cut to {len}");
        }
        for len in 0..recipient.len() {
            assert!(refused_recipient(&recipient[..len]).is_some(), "cut to {len}");
        }
        let mistyped = |text: &str, at: usize| {
            let other = if text.as_bytes()[at].eq_ignore_ascii_case(&b'q') { "p" } else { "q" };
            let other = if text.starts_with('A') { other.to_uppercase() } else { other.to_owned() };
            [&text[..at], &other, &text[at + 1..]].concat()
        };
        for at in 0..identity.len() {
            assert!(refused_identity(&mistyped(identity, at)).is_some(), "mistyped at {at}");
        }
        for at in 0..recipient.len() {
            assert!(refused_recipient(&mistyped(recipient, at)).is_some(), "mistyped at {at}");
        }
    }
}

#[test]
fn other_spellings_are_refused() {
    for file in [HYBRID, X25519] {
        let (recipient, identity) = pair(file);
        let mixed_case =
            |text: &str| text[..text.len() - 1].to_owned() + &text[text.len() - 1..].to_lowercase();
        for text in [
            identity.to_lowercase(),
            mixed_case(identity),
            format!(" {identity}"),
            format!("{identity}\n"),
            format!("{identity}Q"),
            identity.replacen("AGE-", "AGE-PLUGIN-", 1),
            recipient.to_owned(),
        ] {
            assert!(refused_identity(&text).is_some());
        }
        for text in [
            recipient.to_uppercase(),
            recipient[..recipient.len() - 1].to_owned() + "Q",
            format!(" {recipient}"),
            format!("{recipient}\n"),
            format!("{recipient}q"),
            recipient.replacen("age1", "age", 1),
        ] {
            assert!(refused_recipient(&text).is_some());
        }
    }
}

#[test]
fn errors_name_the_kind_of_text() {
    let (recipient, identity) = pair(X25519);
    assert_eq!(refused_recipient(identity), Some(InvalidKey::IdentityGiven));
    assert_eq!(refused_recipient(&identity.to_lowercase()), Some(InvalidKey::IdentityGiven));
    assert_eq!(refused_recipient(pair(HYBRID).1), Some(InvalidKey::IdentityGiven));
    assert_eq!(refused_recipient("ssh-ed25519 AAAA"), Some(InvalidKey::NotARecipient));
    assert_eq!(refused_recipient(""), Some(InvalidKey::NotARecipient));
    assert_eq!(refused_recipient("age1"), Some(InvalidKey::Corrupt));
    assert_eq!(refused_recipient("age1pq1"), Some(InvalidKey::Corrupt));
    assert_eq!(refused_identity(recipient), Some(InvalidKey::NotAnIdentity));
    assert_eq!(refused_identity("AGE-SECRET-KEY-1"), Some(InvalidKey::Corrupt));
    assert_eq!(refused_identity("AGE-SECRET-KEY-PQ-1"), Some(InvalidKey::Corrupt));
}

#[test]
fn recipients_under_another_prefix_or_of_another_length_are_corrupt() {
    for len in [0, 31, 33, 1215, 1216, 1217] {
        assert_eq!(
            refused_recipient(&bech32_of("age", &vec![9; len], &[])),
            Some(InvalidKey::Corrupt)
        );
    }
    for len in [0, 32, 1215, 1217] {
        assert_eq!(
            refused_recipient(&bech32_of("age1pq", &vec![9; len], &[])),
            Some(InvalidKey::Corrupt)
        );
    }
    for prefix in ["age1tag", "age1tagpq", "age1yubikey"] {
        assert_eq!(refused_recipient(&bech32_of(prefix, &[9; 32], &[])), Some(InvalidKey::Corrupt));
    }
    for len in [0, 31, 33] {
        let text = bech32_of("age-secret-key-", &vec![9; len], &[]).to_uppercase();
        assert_eq!(refused_identity(&text), Some(InvalidKey::Corrupt));
    }
}

#[test]
fn padding_is_zero_and_shorter_than_a_symbol() {
    assert_eq!(refused_recipient(&bech32_of("age", &[9; 32], &[])), None);
    for extra_bits in [&[1][..], &[8], &[0, 0]] {
        assert_eq!(
            refused_recipient(&bech32_of("age", &[9; 32], extra_bits)),
            Some(InvalidKey::Corrupt)
        );
        let text = bech32_of("age-secret-key-", &[9; 32], extra_bits).to_uppercase();
        assert_eq!(refused_identity(&text), Some(InvalidKey::Corrupt));
    }
}

#[test]
fn low_order_recipients_are_refused() {
    // The points of order 1, 2, 4 and 8 (RFC 7748, section 6.1), and zero encoded as the prime.
    let eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let other_eight = "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157";
    let zero_as_prime = "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let minus_one = "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    let [zero, one] = ["00", "01"].map(|first| first.to_owned() + &"00".repeat(31));
    let hybrid = bytes_of(pair(HYBRID).0);
    assert_eq!(refused_recipient(&bech32_of("age1pq", &hybrid, &[])), None);
    for point in [&zero, &one, eight, other_eight, zero_as_prime, minus_one] {
        let point: Vec<u8> = (0..32)
            .map(|index| u8::from_str_radix(&point[2 * index..2 * index + 2], 16).unwrap())
            .collect();
        assert_eq!(refused_recipient(&bech32_of("age", &point, &[])), Some(InvalidKey::LowOrder));
        let hybrid = [&hybrid[..1184], &point].concat();
        assert_eq!(
            refused_recipient(&bech32_of("age1pq", &hybrid, &[])),
            Some(InvalidKey::LowOrder)
        );
    }
    // FIPS 203 requires each coefficient of an ML-KEM key to be less than its modulus, 3,329.
    let above_modulus = [&[0xff; 3][..], &hybrid[3..]].concat();
    assert_eq!(
        refused_recipient(&bech32_of("age1pq", &above_modulus, &[])),
        Some(InvalidKey::Impossible)
    );
}

#[test]
fn a_point_written_in_a_second_way_is_refused() {
    let hybrid = bytes_of(pair(HYBRID).0);
    let (ml_kem, point) = hybrid.split_at(1184);
    let with_highest_bit = |point: &[u8]| [&point[..31], &[point[31] | 0x80]].concat();
    // 2^255 - 19 + u, for each u that fits and is not a point of low order.
    let not_reduced = (2..19).map(|u| [&[0xed + u][..], &[0xff; 30], &[0x7f]].concat());
    let others = [bytes_of(pair(X25519).0), point.to_vec(), [&[9][..], &[0; 31]].concat()];
    let others = others.iter().map(|point| with_highest_bit(point));
    for point in not_reduced.chain(others).chain([vec![0xff; 32]]) {
        let hybrid = [ml_kem, &point].concat();
        for text in [bech32_of("age", &point, &[]), bech32_of("age1pq", &hybrid, &[])] {
            assert_eq!(refused_recipient(&text), Some(InvalidKey::Impossible), "{point:02x?}");
        }
    }
    // The largest canonical encoding that is not of low order.
    let largest = [&[0xeb][..], &[0xff; 30], &[0x7f]].concat();
    assert_eq!(refused_recipient(&bech32_of("age", &largest, &[])), None);
}

#[test]
fn key_types_have_the_words_of_flags_and_messages() {
    let words = KEY_TYPES.map(|key_type| (key_type.as_str(), key_type.to_string()));
    assert_eq!(words, [("hybrid", "hybrid".to_owned()), ("x25519", "x25519".to_owned())]);
}

#[test]
fn recipients_of_different_identities_are_not_equal() {
    for key_type in KEY_TYPES {
        let [one, other] = [(); 2].map(|()| Identity::generate(key_type).unwrap().recipient());
        assert_ne!(one, other);
    }
}

#[test]
fn a_recipient_is_debugged_as_its_fingerprint() {
    let recipient: Recipient = pair(HYBRID).0.parse().unwrap();
    assert_eq!(format!("{recipient:?}"), format!("Recipient({})", recipient.fingerprint()));
}

#[test]
fn keyring_holds_each_identity_once_until_it_is_removed() {
    let (recipient, text) = pair(X25519);
    let recipient: Recipient = recipient.parse().unwrap();
    let mut keyring = Keyring::new();
    assert!(keyring.is_empty() && !keyring.is_held(recipient.fingerprint()));
    let fingerprint = keyring.insert(Identity::parse(text).unwrap());
    assert_eq!(keyring.insert(Identity::parse(text).unwrap()), fingerprint);
    assert_eq!(keyring.fingerprints().collect::<Vec<_>>(), [fingerprint]);
    assert_eq!(keyring.recipients().collect::<Vec<_>>(), [recipient]);
    assert!(keyring.is_held(fingerprint) && !keyring.is_empty());
    assert!(keyring.remove(fingerprint) && !keyring.remove(fingerprint) && keyring.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused_without_being_quoted(
        start in prop::sample::select(vec!["", "age1", "age1pq1", "AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"]),
        rest in "\\PC{8,80}",
    ) {
        let text = format!("{start}{rest}");
        for error in [refused_recipient(&text).unwrap(), refused_identity(&text).unwrap()] {
            let (shown, debugged) = (error.to_string(), format!("{error:?}"));
            prop_assert!(!shown.contains(&rest) && !debugged.contains(&rest));
        }
        prop_assert!(!text.parse::<Fingerprint>().unwrap_err().to_string().contains(&rest));
    }
}
