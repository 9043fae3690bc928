//! The age test vectors of the Community Cryptography Test Vectors project, `testdata/cctv`.
//!
//! They are plain age files without a binding, which this crate refuses to open by design. The tests
//! therefore open them with its inner parts: grammar, stanzas, header MAC and payload.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use sha2::{Digest, Sha256};

use crate::error::Damaged;
use crate::file_key::FileKey;
use crate::header::Header;
use crate::key::Wrapped;
use crate::{Identity, Plaintext, payload};

/// Lists the vectors that are tested, and makes a test for each.
macro_rules! vectors {
    ($($name:ident)*) => {
        const APPLICABLE: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { Vector::load(stringify!($name)).check(); })*
    };
}

vectors! {
    empty
    header_crlf
    hmac_bad
    hmac_extra_space
    hmac_garbage
    hmac_missing
    hmac_no_space
    hmac_not_canonical
    hmac_trailing_space
    hmac_truncated
    hybrid
    hybrid_and_x25519
    hybrid_bad_tag
    hybrid_currupted_enc_mlkem
    hybrid_currupted_enc_x25519
    hybrid_extra_argument
    hybrid_grease
    hybrid_identity
    hybrid_long_file_key
    hybrid_long_share
    hybrid_low_order
    hybrid_multiple_recipients
    hybrid_no_match
    hybrid_not_canonical_body
    hybrid_not_canonical_enc
    hybrid_short_share
    hybrid_uppercase
    hybrid_x25519_arg
    stanza_bad_start
    stanza_base64_padding
    stanza_empty_argument
    stanza_empty_body
    stanza_empty_last_line
    stanza_invalid_character
    stanza_long_line
    stanza_missing_body
    stanza_missing_final_line
    stanza_multiple_short_lines
    stanza_no_arguments
    stanza_not_canonical
    stanza_spurious_cr
    stanza_valid_characters
    stream_257_chunks
    stream_257_chunks_full
    stream_258_chunks
    stream_bad_tag
    stream_bad_tag_second_chunk
    stream_bad_tag_second_chunk_full
    stream_empty_payload
    stream_last_chunk_empty
    stream_last_chunk_full
    stream_last_chunk_full_second
    stream_missing_tag
    stream_no_chunks
    stream_no_final
    stream_no_final_full
    stream_no_final_two_chunks
    stream_no_final_two_chunks_full
    stream_no_nonce
    stream_short_chunk
    stream_short_nonce
    stream_short_second_chunk
    stream_three_chunks
    stream_trailing_garbage_long
    stream_trailing_garbage_short
    stream_two_chunks
    stream_two_final_chunks
    stream_two_final_chunks_full
    stream_two_final_chunks_second
    stream_two_final_chunks_short
    version_unsupported
    x25519
    x25519_bad_tag
    x25519_extra_argument
    x25519_grease
    x25519_identity
    x25519_long_file_key
    x25519_long_share
    x25519_low_order
    x25519_lowercase
    x25519_multiple_recipients
    x25519_no_match
    x25519_not_canonical_body
    x25519_not_canonical_share
    x25519_short_share
}

/// Why the other vectors are not tested.
const NOT_APPLICABLE: &[(&str, &[&str])] = &[
    (
        "armor: a sealed value is binary, and base64 in its manifest",
        &[
            "armor_cr_between_padding",
            "armor_cr_in_body",
            "armor_cr_line_start",
            "armor_crlf",
            "armor_double_crlf",
            "armor_empty",
            "armor_empty_last_line",
            "armor_empty_line_begin",
            "armor_empty_line_end",
            "armor_eol_between_padding",
            "armor_full_last_line",
            "armor_garbage_encoded",
            "armor_garbage_leading",
            "armor_garbage_trailing",
            "armor_header_crlf",
            "armor_headers",
            "armor_hybrid",
            "armor_invalid_character_header",
            "armor_invalid_character_payload",
            "armor_long_line",
            "armor_lowercase",
            "armor_no_end_line",
            "armor_no_eol",
            "armor_no_match",
            "armor_no_padding",
            "armor_not_canonical",
            "armor_pgp_checksum",
            "armor_scrypt",
            "armor_short_line",
            "armor_whitespace_begin",
            "armor_whitespace_end",
            "armor_whitespace_eol",
            "armor_whitespace_last_line",
            "armor_whitespace_line_start",
            "armor_whitespace_outside",
            "armor_wrong_type",
            "armor_x25519",
        ],
    ),
    (
        "passphrase: a sealed value is for recipients, so an scrypt stanza is refused as unknown",
        &[
            "scrypt",
            "scrypt_and_x25519",
            "scrypt_bad_tag",
            "scrypt_double",
            "scrypt_extra_argument",
            "scrypt_long_file_key",
            "scrypt_no_match",
            "scrypt_not_canonical_body",
            "scrypt_not_canonical_salt",
            "scrypt_salt_long",
            "scrypt_salt_missing",
            "scrypt_salt_short",
            "scrypt_uppercase",
            "scrypt_work_factor_23",
            "scrypt_work_factor_hex",
            "scrypt_work_factor_leading_garbage",
            "scrypt_work_factor_leading_plus",
            "scrypt_work_factor_leading_zero_decimal",
            "scrypt_work_factor_leading_zero_octal",
            "scrypt_work_factor_missing",
            "scrypt_work_factor_negative",
            "scrypt_work_factor_overflow",
            "scrypt_work_factor_trailing_garbage",
            "scrypt_work_factor_wrong",
            "scrypt_work_factor_zero",
        ],
    ),
];

#[test]
fn no_vector_is_forgotten() {
    let in_folder: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let listed: Vec<&str> = APPLICABLE
        .iter()
        .chain(NOT_APPLICABLE.iter().flat_map(|(_, names)| *names))
        .copied()
        .collect();
    assert_eq!(listed.len(), 147, "a vector is repeated or missing");
    assert_eq!(in_folder, listed.into_iter().map(String::from).collect());
}

/// The words that the vectors use.
#[derive(PartialEq)]
enum Refusal {
    Header,
    NoMatch,
    Mac,
    Payload,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header failure",
            Self::NoMatch => "no match",
            Self::Mac => "HMAC failure",
            Self::Payload => "payload failure",
        })
    }
}

struct Vector {
    expect: String,
    payload_sha256: Option<String>,
    identities: Vec<Identity>,
    file: Vec<u8>,
}

impl Vector {
    fn load(name: &str) -> Self {
        let bytes = fs::read(folder().join(name)).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let fields = str::from_utf8(&bytes[..end]).unwrap();
        let mut vector = Self {
            expect: String::new(),
            payload_sha256: None,
            identities: Vec::new(),
            file: bytes[end + 2..].to_vec(),
        };
        for field in fields.lines() {
            match field.split_once(": ").unwrap() {
                ("expect", expect) => vector.expect = expect.into(),
                ("payload", sha256) => vector.payload_sha256 = Some(sha256.into()),
                ("identity", text) => vector.identities.push(Identity::parse(text).unwrap()),
                ("compressed", "zlib") => {
                    vector.file =
                        miniz_oxide::inflate::decompress_to_vec_zlib(&vector.file).unwrap();
                }
                ("file key" | "comment", _) => {}
                (field, _) => panic!("{name}: the field {field} is unknown"),
            }
        }
        vector
    }

    fn check(&self) {
        match self.open() {
            Ok(plaintext) => {
                assert_eq!(self.expect, "success");
                assert_eq!(self.payload_sha256, Some(hex(&Sha256::digest(plaintext.as_bytes()))));
            }
            // In a vector that fails, the hash is of the plaintext that a streaming reader releases before
            // it fails. This reader releases nothing in that case.
            Err(refusal) => assert_eq!(self.expect, refusal.to_string()),
        }
    }

    fn open(&self) -> Result<Plaintext, Refusal> {
        let (header, payload) = Header::parse(&self.file).map_err(|_| Refusal::Header)?;
        let file_key = self.file_key(&header)?;
        if !file_key.is_header_mac(header.mac_input, &header.mac) {
            return Err(Refusal::Mac);
        }
        // age counts the nonce, which precedes the first chunk, as part of the header.
        if payload.len() < 16 {
            return Err(Refusal::Header);
        }
        payload::open(payload, &file_key).map_err(|Damaged| Refusal::Payload)
    }

    fn file_key(&self, header: &Header<'_>) -> Result<FileKey, Refusal> {
        for stanza in &header.stanzas {
            let Some(wrapped) = Wrapped::parse(stanza).map_err(|_| Refusal::Header)? else {
                continue;
            };
            for identity in &self.identities {
                if let Some(file_key) =
                    identity.unwrap(&wrapped).map_err(|Damaged| Refusal::Header)?
                {
                    return Ok(file_key);
                }
            }
        }
        Err(Refusal::NoMatch)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cctv")
}
