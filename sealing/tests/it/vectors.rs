//! The test vectors of the sealed format, `testdata/format`, which `docs/format.md` describes.
//!
//! They are files, so that other implementations can use them; `vectors.txt` has the expected results.
//! `cargo test -p bulla-sealing -- --ignored write_vectors` makes new ones.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use bulla_sealing::{
    Binding, Identity, Keyring, MAX_HEADER_BYTES, MAX_STANZAS, ParseError, Recipients, Scope,
    SealedValue, UnsealError, ValueAddress, seal,
};
use sha2::{Digest, Sha256};

use crate::support::{edited, header_lines, split};

const PLAINTEXT: &[u8] = b"correct horse battery staple";

/// The expected result of opening one file with one identity for one address.
#[derive(Default, PartialEq, Debug)]
struct Vector {
    file: String,
    identity: String,
    address: String,
    expect: String,
    /// For a file that parses: what its header says.
    binding: Option<String>,
    fingerprints: Option<String>,
    /// For a file that opens.
    plaintext_sha256: Option<String>,
}

#[test]
fn every_vector_is_as_expected() {
    let mut outcomes = BTreeSet::new();
    for vector in read_vectors() {
        assert_eq!(vector, judged(&vector.file, &vector.identity, &vector.address));
        outcomes.insert(vector.expect);
    }
    let all =
        ["opens", "not age", "malformed", "no binding", "wrong binding", "no identity", "damaged"];
    assert_eq!(outcomes, all.map(String::from).into());
}

#[test]
fn every_vector_file_is_listed() {
    let listed: BTreeSet<String> = read_vectors().into_iter().map(|vector| vector.file).collect();
    let in_folder = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".age"))
        .collect();
    assert_eq!(listed, in_folder);
}

#[test]
fn rekeyed_vector_has_the_payload_of_the_original() {
    let [original, rekeyed] = ["x25519.age", "x25519-rekeyed.age"].map(load);
    assert_eq!(split(&original).1, split(&rekeyed).1);
    assert_ne!(split(&original).0, split(&rekeyed).0);
}

#[test]
fn examples_and_figures_of_the_specification_are_right() {
    let specification = include_str!("../../../docs/format.md");
    let header = String::from_utf8(split(&load("x25519.age")).0.to_vec()).unwrap();
    let fingerprint = load_identity("x25519.txt").recipient().fingerprint();
    let payload_len = split(&load("x25519.age")).1.len();
    for text in [
        format!("```text\n{header}```"),
        format!("a binary payload of {payload_len} bytes"),
        format!("fingerprint `{fingerprint}`"),
        format!("| header | {MAX_HEADER_BYTES} bytes |"),
        format!("| stanzas, the binding among them | {MAX_STANZAS} |"),
    ] {
        assert!(specification.contains(&text), "docs/format.md lacks: {text}");
    }
}

/// The crate's result for a file.
fn judged(file: &str, identity: &str, address: &str) -> Vector {
    let mut vector = Vector {
        file: file.into(),
        identity: identity.into(),
        address: address.into(),
        ..Vector::default()
    };
    let bytes = load(file);
    let sealed_value = match SealedValue::parse(&bytes) {
        Ok(sealed_value) => sealed_value,
        Err(error) => {
            vector.expect = match error {
                ParseError::NotAge => "not age".into(),
                ParseError::Malformed { .. } => "malformed".into(),
                ParseError::NoBinding => "no binding".into(),
            };
            return vector;
        }
    };
    let binding = sealed_value.binding();
    let or_unbound = |field: Option<&str>| field.unwrap_or("-").to_owned();
    let (namespace, name) = (or_unbound(binding.namespace()), or_unbound(binding.name()));
    vector.binding = Some(format!("{} {namespace} {name} {}", binding.scope(), binding.key()));
    let fingerprints: Vec<String> =
        sealed_value.fingerprints().map(|fingerprint| fingerprint.to_string()).collect();
    vector.fingerprints = Some(fingerprints.join(" "));

    let keyring = Keyring::from_iter([load_identity(identity)]);
    let unsealed = sealed_value.unseal(&parse_address(address), &keyring);
    vector.expect = match &unsealed {
        Ok(_) => "opens",
        Err(UnsealError::WrongBinding { .. }) => "wrong binding",
        Err(UnsealError::NoIdentity { .. }) => "no identity",
        Err(UnsealError::Damaged) => "damaged",
    }
    .into();
    vector.plaintext_sha256 = unsealed.ok().map(|plaintext| {
        assert_eq!(plaintext.as_bytes().len(), sealed_value.plaintext_len());
        let digest = Sha256::digest(plaintext.as_bytes());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    });
    vector
}

fn read_vectors() -> Vec<Vector> {
    let text = fs::read_to_string(folder().join("vectors.txt")).unwrap();
    text.split("\n\n")
        .map(|paragraph| {
            let mut vector = Vector::default();
            for line in paragraph.lines() {
                let (field, value) = line.split_once(": ").unwrap();
                match field {
                    "file" => vector.file = value.into(),
                    "identity" => vector.identity = value.into(),
                    "target" => vector.address = value.into(),
                    "expect" => vector.expect = value.into(),
                    "binding" => vector.binding = Some(value.into()),
                    "fingerprints" => vector.fingerprints = Some(value.into()),
                    "plaintext-sha256" => vector.plaintext_sha256 = Some(value.into()),
                    _ => panic!("the field {field} is unknown"),
                }
            }
            vector
        })
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format")
}

fn load(file: &str) -> Vec<u8> {
    fs::read(folder().join(file)).unwrap()
}

fn load_identity(file: &str) -> Identity {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    Identity::parse(text.lines().nth(1).unwrap()).unwrap()
}

fn parse_address(address: &str) -> ValueAddress {
    let [namespace, name, key] = address.split(' ').collect::<Vec<_>>().try_into().unwrap();
    ValueAddress::new(namespace, name, key).unwrap()
}

#[test]
#[ignore = "replaces the vectors, each time with new randomness"]
fn write_vectors() {
    let mut text = String::new();
    for (file, identity, address, bytes) in new_files() {
        if let Some(bytes) = bytes {
            fs::write(folder().join(file), bytes).unwrap();
        }
        let Vector { expect, binding, fingerprints, plaintext_sha256, .. } =
            judged(file, identity, address);
        writeln!(text, "file: {file}\nidentity: {identity}\ntarget: {address}\nexpect: {expect}")
            .unwrap();
        for (field, value) in [
            ("binding", binding),
            ("fingerprints", fingerprints),
            ("plaintext-sha256", plaintext_sha256),
        ] {
            if let Some(value) = value {
                writeln!(text, "{field}: {value}").unwrap();
            }
        }
        text.push('\n');
    }
    fs::write(folder().join("vectors.txt"), text.trim_end().to_owned() + "\n").unwrap();
}

/// File, identity, address, and the file's bytes if no earlier entry has the file.
type NewFile = (&'static str, &'static str, &'static str, Option<Vec<u8>>);

const HERE: &str = "prod db password";

fn new_files() -> Vec<NewFile> {
    let samples = Samples::new();
    [samples.valid(), samples.malformed(), samples.damaged()].concat()
}

fn sealed(plaintext: &[u8], scope: Scope, recipients: &[&str]) -> Vec<u8> {
    let binding = Binding::new(scope, &parse_address(HERE));
    seal(plaintext, &binding, &load_recipients(recipients)).unwrap()
}

fn load_recipients(files: &[&str]) -> Recipients {
    Recipients::new(files.iter().map(|file| load_identity(file).recipient()).collect()).unwrap()
}

fn opens(file: &'static str, identity: &'static str, bytes: &[u8]) -> NewFile {
    (file, identity, HERE, Some(bytes.to_vec()))
}

fn refused(file: &'static str, bytes: Vec<u8>) -> NewFile {
    (file, "x25519.txt", HERE, Some(bytes))
}

/// The same file again, for another identity or address.
fn also(file: &'static str, identity: &'static str, address: &'static str) -> NewFile {
    (file, identity, address, None)
}

/// The sealed values from which the vectors are made.
struct Samples {
    x25519: Vec<u8>,
    /// Sealed like `x25519`, but with another file key.
    another: Vec<u8>,
    two: Vec<u8>,
    hybrid: Vec<u8>,
    rekeyed: Vec<u8>,
}

impl Samples {
    fn new() -> Self {
        let x25519 = sealed(PLAINTEXT, Scope::Strict, &["x25519.txt"]);
        let keyring = Keyring::from_iter([load_identity("x25519.txt")]);
        let sealed_value = SealedValue::parse(&x25519).unwrap();
        let other = load_recipients(&["x25519-other.txt"]);
        let header = sealed_value.header().rekey(&parse_address(HERE), &keyring, &other).unwrap();
        Self {
            rekeyed: [&header, sealed_value.payload()].concat(),
            another: sealed(PLAINTEXT, Scope::Strict, &["x25519.txt"]),
            two: sealed(PLAINTEXT, Scope::Strict, &["x25519-other.txt", "x25519.txt"]),
            hybrid: sealed(PLAINTEXT, Scope::Strict, &["hybrid.txt"]),
            x25519,
        }
    }

    fn with_binding(&self, arguments: &str) -> Vec<u8> {
        edited(&self.x25519, |lines| lines[1] = format!("-> bulla.dev/v1 {arguments}"))
    }

    fn valid(&self) -> Vec<NewFile> {
        let namespace = sealed(PLAINTEXT, Scope::Namespace, &["x25519.txt"]);
        let cluster = sealed(PLAINTEXT, Scope::Cluster, &["hybrid.txt"]);
        let two_hybrid = sealed(PLAINTEXT, Scope::Strict, &["hybrid.txt", "hybrid-other.txt"]);
        let two_chunks = sealed(&[0; 64 * 1024 + 1], Scope::Strict, &["x25519.txt"]);
        vec![
            opens("x25519.age", "x25519.txt", &self.x25519),
            also("x25519.age", "x25519.txt", "dev db password"),
            also("x25519.age", "x25519.txt", "prod cache password"),
            also("x25519.age", "x25519.txt", "prod db user"),
            also("x25519.age", "x25519-other.txt", HERE),
            also("x25519.age", "hybrid.txt", HERE),
            opens("hybrid.age", "hybrid.txt", &self.hybrid),
            also("hybrid.age", "hybrid-other.txt", HERE),
            opens("namespace.age", "x25519.txt", &namespace),
            also("namespace.age", "x25519.txt", "prod cache password"),
            also("namespace.age", "x25519.txt", "dev db password"),
            also("namespace.age", "x25519.txt", "prod db user"),
            opens("cluster.age", "hybrid.txt", &cluster),
            also("cluster.age", "hybrid.txt", "dev cache password"),
            also("cluster.age", "hybrid.txt", "prod db user"),
            opens("empty.age", "x25519.txt", &sealed(b"", Scope::Strict, &["x25519.txt"])),
            opens("two-chunks.age", "x25519.txt", &two_chunks),
            opens("x25519-two-recipients.age", "x25519.txt", &self.two),
            also("x25519-two-recipients.age", "x25519-other.txt", HERE),
            opens("hybrid-two-recipients.age", "hybrid.txt", &two_hybrid),
            opens("x25519-rekeyed.age", "x25519-other.txt", &self.rekeyed),
            also("x25519-rekeyed.age", "x25519.txt", HERE),
        ]
    }

    fn malformed(&self) -> Vec<NewFile> {
        let Self { x25519, two, .. } = self;
        let header_len = split(x25519).0.len();
        let hybrid_stanza = &header_lines(&self.hybrid)[3..5];
        let one_fingerprint = header_lines(x25519).swap_remove(2);
        let binding_not_first = edited(x25519, |lines| lines[1..5].rotate_left(2));
        let two_bindings = edited(two, |lines| {
            let binding = lines[1..3].to_vec();
            lines.splice(5..7, binding);
        });
        let mixed = edited(two, |lines| lines[5..7].clone_from_slice(hybrid_stanza));
        let no_recipient = edited(x25519, |lines| {
            lines.drain(3..5);
            lines[2].clear();
        });
        let stanzas = edited(x25519, |lines| {
            let more = std::iter::repeat_n(["-> more".to_owned(), String::new()], 63);
            lines.splice(5..5, more.flatten());
        });
        vec![
            refused("version.age", [b"age-encryption.org/v2", &x25519[21..]].concat()),
            also("no-binding.age", "x25519.txt", HERE),
            refused("binding-not-first.age", binding_not_first),
            refused("two-bindings.age", two_bindings),
            refused("unknown-stanza.age", edited(two, |lines| lines[5] = "-> grease".into())),
            refused("mixed.age", mixed),
            refused("no-recipient.age", no_recipient),
            refused("three-arguments.age", self.with_binding("strict prod db")),
            refused("five-arguments.age", self.with_binding("strict prod db password more")),
            refused("unknown-scope.age", self.with_binding("global prod db password")),
            refused("strict-without-name.age", self.with_binding("strict prod - password")),
            refused("namespace-with-name.age", self.with_binding("namespace prod db password")),
            refused("cluster-with-namespace.age", self.with_binding("cluster prod - password")),
            refused("upper-case-namespace.age", self.with_binding("strict Prod db password")),
            refused("invalid-key.age", self.with_binding("strict prod db pass/word")),
            refused("fingerprint-missing.age", edited(two, |lines| lines[2] = one_fingerprint)),
            refused("fingerprint-twice.age", edited(two, |lines| lines[2] = "A".repeat(22))),
            refused("padded-base64.age", edited(x25519, |lines| lines[2].push('='))),
            refused("carriage-return.age", edited(x25519, |lines| lines[1].push('\r'))),
            refused("65-stanzas.age", stanzas),
            refused("cut-in-header.age", x25519[..header_len - 1].to_vec()),
            refused("cut-in-nonce.age", x25519[..header_len + 15].to_vec()),
        ]
    }

    fn damaged(&self) -> Vec<NewFile> {
        let Self { x25519, another, two, rekeyed, .. } = self;
        let (header, payload) = split(x25519);
        let flipped = |at: usize| {
            let mut bytes = x25519.clone();
            bytes[at] ^= 1;
            bytes
        };
        let other_mac = header_lines(another).swap_remove(5);
        let other_fingerprint = header_lines(rekeyed).swap_remove(2);
        let zero_share = format!("-> X25519 {}", "A".repeat(43));
        let moved = self.with_binding("strict dev db password");
        let widened = self.with_binding("cluster - - password");
        let fingerprint_changed = edited(x25519, |lines| lines[2] = other_fingerprint);
        vec![
            refused("cut-by-one-byte.age", x25519[..x25519.len() - 1].to_vec()),
            refused("one-byte-more.age", [&x25519[..], &[0]].concat()),
            refused("nonce-changed.age", flipped(header.len())),
            refused("payload-changed.age", flipped(header.len() + 16)),
            refused("mac-changed.age", edited(x25519, |lines| lines[5] = other_mac)),
            ("moved.age", "x25519.txt", "dev db password", Some(moved)),
            also("moved.age", "x25519.txt", HERE),
            ("widened.age", "x25519.txt", "dev db password", Some(widened)),
            refused("fingerprint-changed.age", fingerprint_changed),
            also("fingerprint-changed.age", "x25519-other.txt", HERE),
            refused("stanzas-swapped.age", edited(two, |lines| lines[3..7].rotate_left(2))),
            refused("low-order-share.age", edited(x25519, |lines| lines[3] = zero_share)),
            refused("forged-header.age", [split(another).0, payload].concat()),
        ]
    }
}
