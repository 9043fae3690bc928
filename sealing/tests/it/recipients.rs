//! The test vectors of recipients, `testdata/format/recipients.txt`: each recipient has only one text.
//! `cargo test -p bulla-sealing -- --ignored write_recipients` writes the file.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use bulla_sealing::Recipient;

use crate::keys::{HYBRID, X25519, bech32_of, bytes_of, pair};

#[test]
fn every_recipient_is_as_expected() {
    let text = fs::read_to_string(path()).unwrap();
    let (mut valid, mut refused) = (0, 0);
    for paragraph in text.trim_end().split("\n\n") {
        let recipient = paragraph.lines().find_map(|line| line.strip_prefix("recipient: "));
        let recipient = recipient.unwrap();
        let why = paragraph.lines().find_map(|line| line.strip_prefix("refused: "));
        assert_eq!(paragraph, judged(recipient, why.unwrap_or_default()));
        *if why.is_some() { &mut refused } else { &mut valid } += 1;
    }
    assert_eq!((valid, refused), (3, 18));
}

/// The paragraph for a recipient. `why` tells people what is wrong if it is refused.
fn judged(recipient: &str, why: &str) -> String {
    match recipient.parse::<Recipient>() {
        Ok(parsed) => format!("recipient: {recipient}\nfingerprint: {}", parsed.fingerprint()),
        Err(_) => format!("recipient: {recipient}\nrefused: {why}"),
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format/recipients.txt")
}

#[test]
#[ignore = "writes the vectors of recipients"]
fn write_recipients() {
    let mut text = String::new();
    for (recipient, why) in texts() {
        writeln!(text, "{}\n", judged(&recipient, why)).unwrap();
    }
    fs::write(path(), text.trim_end().to_owned() + "\n").unwrap();
}

fn texts() -> Vec<(String, &'static str)> {
    let [x25519, hybrid] = [X25519, HYBRID].map(|file| pair(file).0);
    let (point, key) = (bytes_of(x25519), bytes_of(hybrid));
    let (ml_kem, half) = key.split_at(1184);
    // A number near the prime, of which the first byte, the least significant one, is 0xed.
    let near_prime = |first: u8| [&[first][..], &[0xff; 30], &[0x7f]].concat();
    let with_highest_bit = |point: &[u8]| [&point[..31], &[point[31] | 0x80]].concat();
    let mut texts = vec![
        (x25519.to_owned(), ""),
        (hybrid.to_owned(), ""),
        (bech32_of("age", &near_prime(0xeb), &[]), ""),
        (x25519.to_uppercase(), "upper case"),
        (hybrid.to_uppercase(), "upper case"),
        (x25519.replacen("age1", "AGE1", 1), "mixed case"),
        (bech32_of("age", &point, &[1]), "padding that is not zero"),
        (bech32_of("age", &point, &[0, 0]), "padding of five bits or more"),
    ];
    let points = [
        (with_highest_bit(&point), "an X25519 point with the highest bit set"),
        (near_prime(0xef), "an X25519 point that is not less than the prime"),
        (near_prime(0xff), "an X25519 point that is not less than the prime"),
        (vec![0; 32], "an X25519 point of low order"),
        (near_prime(0xec), "an X25519 point of low order"),
        (near_prime(0xed), "an X25519 point of low order, not less than the prime"),
    ];
    for (point, why) in points {
        texts.push((bech32_of("age", &point, &[]), why));
        texts.push((bech32_of("age1pq", &[ml_kem, &point].concat(), &[]), why));
    }
    let invalid = [&[0xff; 3][..], &ml_kem[3..], half].concat();
    texts.push((bech32_of("age1pq", &invalid, &[]), "an invalid ML-KEM key"));
    texts
}
