//! The test vectors of the sealed format, `testdata/format`, which `docs/format.md` describes.
//!
//! They are files, so that other implementations can use them; `vectors.txt` has the expected results. A malformed
//! file breaks one rule, and its MAC is right: a reader that does not check that rule opens it.
//! `cargo test -p bulla-sealing -- --ignored write_vectors` makes the files that are missing.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bulla_sealing::{
    Binding, Identity, InvalidAddress, KeyType, Keyring, MAX_HEADER_BYTES, MAX_STANZAS, ParseError,
    Recipient, Recipients, Scope, SealedValue, UnsealError, ValueAddress, seal,
};
use sha2::{Digest, Sha256};

use crate::forged::{Forged, body, fingerprints};
use crate::support::{edited, header_lines, split};

const PLAINTEXT: &[u8] = b"correct horse battery staple";

/// The expected result of opening one file with a reader's identities for one address.
#[derive(Default, PartialEq, Debug)]
struct Vector {
    file: String,
    identities: String,
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
    let mut wrong = Vec::new();
    for vector in read_vectors() {
        let found = judged(&vector.file, &vector.identities, &vector.address);
        outcomes.insert(vector.expect.clone());
        if vector != found {
            wrong.push((vector, found));
        }
    }
    assert!(wrong.is_empty(), "expected and found: {wrong:#?}");
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
fn judged(file: &str, identities: &str, address: &str) -> Vector {
    let mut vector = Vector {
        file: file.into(),
        identities: identities.into(),
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

    // An invalid target is refused whatever the binding says.
    let Ok(address) = parse_address(address) else {
        vector.expect = "wrong binding".into();
        return vector;
    };
    let keyring = identities.split(' ').map(load_identity).collect();
    let unsealed = sealed_value.unseal(&address, &keyring);
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
                    "identity" => vector.identities = value.into(),
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

fn parse_address(address: &str) -> Result<ValueAddress, InvalidAddress> {
    let [namespace, name, key] = address.split(' ').collect::<Vec<_>>().try_into().unwrap();
    ValueAddress::new(namespace, name, key)
}

#[test]
#[ignore = "writes the vectors that are missing"]
fn write_vectors() {
    let mut text = String::new();
    for NewFile { file, identities, address, bytes } in new_files() {
        if let Some(bytes) = bytes.filter(|_| !folder().join(file).exists()) {
            fs::write(folder().join(file), bytes).unwrap();
        }
        let Vector { expect, binding, fingerprints, plaintext_sha256, .. } =
            judged(file, identities, &address);
        writeln!(text, "file: {file}\nidentity: {identities}\ntarget: {address}\nexpect: {expect}")
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

/// What `write_vectors` writes.
struct NewFile {
    file: &'static str,
    identities: &'static str,
    address: String,
    /// `None` if an earlier entry has the file, or another implementation wrote it.
    bytes: Option<Vec<u8>>,
}

const HERE: &str = "prod db password";
const MINE: &str = "x25519.txt";
const OTHER: &str = "x25519-other.txt";
const BOTH: &str = "x25519-other.txt x25519.txt";

fn new_files() -> Vec<NewFile> {
    let samples = Samples::new();
    let (forged, pair) = (forged_for(&[MINE]), forged_for(&[OTHER, MINE]));
    let mut files = samples.valid();
    files.extend(not_permitted());
    files.extend(no_binding(&forged));
    files.extend(malformed_stanzas(&forged, &pair));
    files.extend(malformed_bindings(&forged));
    files.extend(malformed_fingerprints(&forged, &pair));
    files.extend(malformed_recipients(&forged));
    files.extend(limits());
    files.extend(samples.cut());
    files.extend(samples.damaged());
    files.extend(several_identities(&pair));
    files.extend(of_another_implementation());
    files
}

fn sealed(plaintext: &[u8], scope: Scope, recipients: &[&str]) -> Vec<u8> {
    let binding = Binding::new(scope, &parse_address(HERE).unwrap());
    seal(plaintext, &binding, &load_recipients(recipients)).unwrap()
}

fn load_recipients(files: &[&str]) -> Recipients {
    Recipients::new(files.iter().map(|file| load_identity(file).recipient()).collect()).unwrap()
}

fn forged_for(files: &[&str]) -> Forged {
    let recipients: Vec<_> = files.iter().map(|file| load_identity(file).recipient()).collect();
    Forged::new(PLAINTEXT, &recipients.iter().collect::<Vec<_>>())
}

fn opens(file: &'static str, identities: &'static str, bytes: &[u8]) -> NewFile {
    NewFile { file, identities, address: HERE.into(), bytes: Some(bytes.to_vec()) }
}

fn refused(file: &'static str, bytes: Vec<u8>) -> NewFile {
    refused_for(HERE, file, bytes)
}

fn refused_for(address: &str, file: &'static str, bytes: Vec<u8>) -> NewFile {
    NewFile { file, identities: MINE, address: address.into(), bytes: Some(bytes) }
}

/// The same file again, for other identities or another address; or a file that another implementation wrote.
fn also(file: &'static str, identities: &'static str, address: impl Into<String>) -> NewFile {
    NewFile { file, identities, address: address.into(), bytes: None }
}

/// The sealed values from which the other vectors are made.
struct Samples {
    x25519: Vec<u8>,
    /// Sealed like `x25519`, but with another file key.
    another: Vec<u8>,
    rekeyed: Vec<u8>,
}

impl Samples {
    fn new() -> Self {
        let x25519 = fs::read(folder().join("x25519.age"))
            .unwrap_or_else(|_| sealed(PLAINTEXT, Scope::Strict, &[MINE]));
        let keyring = Keyring::from_iter([load_identity(MINE)]);
        let sealed_value = SealedValue::parse(&x25519).unwrap();
        let (here, other) = (parse_address(HERE).unwrap(), load_recipients(&[OTHER]));
        let header = sealed_value.header().rekey(&here, &keyring, &other).unwrap();
        Self {
            rekeyed: [&header, sealed_value.payload()].concat(),
            another: sealed(PLAINTEXT, Scope::Strict, &[MINE]),
            x25519,
        }
    }

    fn valid(&self) -> Vec<NewFile> {
        let hybrid = sealed(PLAINTEXT, Scope::Strict, &["hybrid.txt"]);
        let namespace = sealed(PLAINTEXT, Scope::Namespace, &[MINE]);
        let cluster = sealed(PLAINTEXT, Scope::Cluster, &["hybrid.txt"]);
        let two = sealed(PLAINTEXT, Scope::Strict, &[OTHER, MINE]);
        let two_hybrid = sealed(PLAINTEXT, Scope::Strict, &["hybrid.txt", "hybrid-other.txt"]);
        let two_chunks = sealed(&[0; 64 * 1024 + 1], Scope::Strict, &[MINE]);
        vec![
            opens("x25519.age", MINE, &self.x25519),
            opens("hybrid.age", "hybrid.txt", &hybrid),
            opens("namespace.age", MINE, &namespace),
            also("namespace.age", MINE, "prod cache password"),
            opens("cluster.age", "hybrid.txt", &cluster),
            also("cluster.age", "hybrid.txt", "dev cache password"),
            opens("empty.age", MINE, &sealed(b"", Scope::Strict, &[MINE])),
            opens("two-chunks.age", MINE, &two_chunks),
            opens("x25519-two-recipients.age", MINE, &two),
            also("x25519-two-recipients.age", OTHER, HERE),
            opens("hybrid-two-recipients.age", "hybrid.txt", &two_hybrid),
            opens("x25519-rekeyed.age", OTHER, &self.rekeyed),
        ]
    }

    fn cut(&self) -> Vec<NewFile> {
        let header_len = split(&self.x25519).0.len();
        let cut = |len: usize| self.x25519[..len].to_vec();
        vec![
            refused("cut-in-header.age", cut(header_len - 1)),
            refused("cut-after-header.age", cut(header_len)),
            refused("cut-in-nonce.age", cut(header_len + 15)),
            // What is malformed is reported first, even with a target that the binding does not permit.
            also("cut-in-nonce.age", MINE, "dev db password"),
            refused("cut-after-nonce.age", cut(header_len + 16)),
            refused("cut-in-tag.age", cut(header_len + 31)),
        ]
    }

    fn damaged(&self) -> Vec<NewFile> {
        let Self { x25519, another, .. } = self;
        let (header, payload) = split(x25519);
        let flipped = |at: usize| {
            let mut bytes = x25519.clone();
            bytes[at] ^= 1;
            bytes
        };
        let moved = edited(x25519, |lines| lines[1] = lines[1].replace("prod", "dev"));
        let widened = edited(x25519, |lines| {
            lines[1] = "-> bulla.dev/v1 cluster - - password".into();
        });
        let other_mac = header_lines(another).swap_remove(5);
        let zero_share = format!("-> X25519 {}", "A".repeat(43));
        let two_last_chunks = forged_for(&[MINE]).with_last_chunks(&[&[0; 64 * 1024], &[0]]);
        vec![
            refused("cut-by-one-byte.age", x25519[..x25519.len() - 1].to_vec()),
            refused("one-byte-more.age", [&x25519[..], &[0]].concat()),
            refused("nonce-changed.age", flipped(header.len())),
            refused("payload-changed.age", flipped(header.len() + 16)),
            refused("mac-changed.age", edited(x25519, |lines| lines[5] = other_mac)),
            // A missing identity is reported first.
            also("mac-changed.age", OTHER, HERE),
            refused_for("dev db password", "moved.age", moved),
            also("moved.age", MINE, HERE),
            refused_for("dev db password", "widened.age", widened),
            refused("low-order-share.age", edited(x25519, |lines| lines[3] = zero_share)),
            refused("two-last-chunks.age", two_last_chunks.with_lines(|_| ())),
            refused("forged-header.age", [split(another).0, payload].concat()),
        ]
    }
}

fn not_permitted() -> Vec<NewFile> {
    vec![
        also("x25519.age", MINE, "dev db password"),
        also("x25519.age", MINE, "prod cache password"),
        also("x25519.age", MINE, "prod db user"),
        also("namespace.age", MINE, "dev db password"),
        also("namespace.age", MINE, "prod db user"),
        also("cluster.age", "hybrid.txt", "prod db user"),
        // A target with an invalid name is permitted by no binding.
        also("namespace.age", MINE, "prod -db password"),
        also("cluster.age", "hybrid.txt", "Prod db password"),
        // The binding is checked before the identities.
        also("x25519.age", OTHER, "dev db password"),
        also("x25519.age", OTHER, HERE),
        also("x25519.age", "hybrid.txt", HERE),
        also("hybrid.age", "hybrid-other.txt", HERE),
        also("x25519-rekeyed.age", MINE, HERE),
    ]
}

fn no_binding(forged: &Forged) -> Vec<NewFile> {
    let edited = |edit: &dyn Fn(&mut [String])| forged.with_lines(|lines| edit(lines));
    vec![
        refused("version.age", edited(&|lines| lines[0] = "age-encryption.org/v2".into())),
        also("no-binding.age", MINE, HERE),
        refused("binding-not-first.age", edited(&|lines| lines[1..].rotate_left(2))),
        refused("binding-v2.age", edited(&|lines| lines[1] = lines[1].replace("/v1", "/v2"))),
    ]
}

fn malformed_stanzas(forged: &Forged, pair: &Forged) -> Vec<NewFile> {
    let grease = ["-> grease".to_owned(), String::new()];
    let two_bindings = forged.with_lines(|lines| lines.extend_from_within(1..3));
    let two_bindings_counted = pair.with_lines(|lines| {
        let binding = lines[1..3].to_vec();
        lines.splice(3..5, binding);
    });
    let unknown_stanza = forged.with_lines(|lines| lines.extend(grease.clone()));
    let unknown_stanza_counted = pair.with_lines(|lines| {
        lines.splice(3..5, grease.clone());
    });
    let without_arrow = forged.with_lines(|lines| {
        lines[3].drain(..3);
    });
    let mixed = forged_for(&[MINE, "hybrid.txt"]);
    vec![
        refused("two-bindings.age", two_bindings),
        // Here the second binding has a fingerprint, as if it were a recipient.
        refused("two-bindings-counted.age", two_bindings_counted),
        refused("unknown-stanza.age", unknown_stanza),
        refused("unknown-stanza-counted.age", unknown_stanza_counted),
        refused("stanza-without-arrow.age", without_arrow),
        refused("carriage-return.age", forged.with_lines(|lines| lines[1].push('\r'))),
        refused("mixed.age", mixed.with_lines(|_| ())),
    ]
}

fn malformed_bindings(forged: &Forged) -> Vec<NewFile> {
    [
        ("three-arguments.age", "strict prod db", HERE),
        ("five-arguments.age", "strict prod db password more", HERE),
        ("unknown-scope.age", "global prod db password", HERE),
        ("strict-without-namespace.age", "strict - db password", HERE),
        ("strict-without-name.age", "strict prod - password", HERE),
        ("namespace-without-namespace.age", "namespace - - password", HERE),
        ("namespace-with-name.age", "namespace prod db password", HERE),
        ("namespace-with-invalid-key.age", "namespace prod - ..password", "prod db ..password"),
        ("cluster-with-namespace.age", "cluster prod - password", HERE),
        ("cluster-with-name.age", "cluster - db password", HERE),
        ("cluster-with-invalid-key.age", "cluster - - ..password", "prod db ..password"),
        ("upper-case-namespace.age", "strict Prod db password", "Prod db password"),
        ("namespace-dash-start.age", "strict -prod db password", "-prod db password"),
        ("upper-case-name.age", "strict prod Db password", "prod Db password"),
        ("name-underscore.age", "strict prod d_b password", "prod d_b password"),
        ("invalid-key.age", "strict prod db pass/word", "prod db pass/word"),
    ]
    .map(|(file, arguments, address)| refused_for(address, file, forged.with_binding(arguments)))
    .into()
}

fn malformed_fingerprints(forged: &Forged, pair: &Forged) -> Vec<NewFile> {
    let recipients = [MINE, OTHER].map(|file| load_identity(file).recipient());
    let of = |recipients: &[&Recipient]| body(&fingerprints(recipients)).concat();
    let [mine, other] = &recipients;
    let (one, two) = (of(&[mine]), of(&[mine, other]));
    let twice = of(&[mine, mine]);
    let missing = pair.with_lines(|lines| {
        lines[3..7].rotate_left(2);
        lines[2] = one;
    });
    let no_recipient = forged.with_lines(|lines| {
        lines.truncate(2);
        lines.push(String::new());
    });
    let seven: Vec<_> = (0..6)
        .map(|_| Identity::generate(KeyType::X25519).unwrap().recipient())
        .chain([mine.clone()])
        .collect();
    let seven = Forged::new(PLAINTEXT, &seven.iter().collect::<Vec<_>>());
    let line = seven.lines[2..4].concat();
    let wrapped_at = |columns: usize| {
        let (first, second) = (line[..columns].to_owned(), line[columns..].to_owned());
        seven.with_lines(|lines| _ = lines.splice(2..4, [first, second]))
    };
    vec![
        refused("no-recipient.age", no_recipient),
        refused("fingerprint-missing.age", missing),
        refused("fingerprint-extra.age", forged.with_lines(|lines| lines[2] = two)),
        refused("fingerprint-twice.age", pair.with_lines(|lines| lines[2] = twice)),
        refused("padded-base64.age", forged.with_lines(|lines| lines[2].push('='))),
        refused("line-of-63-columns.age", wrapped_at(63)),
        refused("line-of-65-columns.age", wrapped_at(65)),
        // An empty line follows, as after full lines.
        refused("line-of-75-columns.age", wrapped_at(75)),
        refused(
            "line-not-wrapped.age",
            seven.with_lines(|lines| _ = lines.splice(2..4, [line.clone()])),
        ),
    ]
}

fn malformed_recipients(forged: &Forged) -> Vec<NewFile> {
    let hybrid = forged_for(&["hybrid.txt"]);
    // A stanza's argument or body in base64, with other bytes.
    let in_share = |forged: &Forged, edit: &dyn Fn(&mut Vec<u8>)| {
        forged.with_lines(|lines| {
            let (tag, share) = lines[3].rsplit_once(' ').unwrap();
            lines[3] = format!("{tag} {}", with_bytes(share, edit));
        })
    };
    let in_body = |forged: &Forged, edit: &dyn Fn(&mut Vec<u8>)| {
        forged.with_lines(|lines| lines[4] = with_bytes(&lines[4], edit))
    };
    let argument_more = |lines: &mut Vec<String>| lines[3].push_str(" more");
    let no_argument = |lines: &mut Vec<String>| {
        let tag = lines[3].rsplit_once(' ').unwrap().0.len();
        lines[3].truncate(tag);
    };
    let not_canonical = hybrid.with_lines(|lines| {
        let last = lines[3].pop().unwrap();
        lines[3].push(if last == 'A' { 'B' } else { char::from(last as u8 + 1) });
    });
    let (longer, shorter) =
        (|bytes: &mut Vec<u8>| bytes.push(0), |bytes: &mut Vec<u8>| _ = bytes.pop());
    vec![
        refused("share-missing.age", forged.with_lines(no_argument)),
        refused("two-shares.age", forged.with_lines(argument_more)),
        refused("share-of-31-bytes.age", in_share(forged, &shorter)),
        refused("share-of-33-bytes.age", in_share(forged, &longer)),
        refused("body-of-31-bytes.age", in_body(forged, &shorter)),
        refused("body-of-33-bytes.age", in_body(forged, &longer)),
        by_hybrid("hybrid-share-missing.age", hybrid.with_lines(no_argument)),
        by_hybrid("hybrid-two-shares.age", hybrid.with_lines(argument_more)),
        by_hybrid("hybrid-share-of-1119-bytes.age", in_share(&hybrid, &shorter)),
        by_hybrid("hybrid-share-of-1121-bytes.age", in_share(&hybrid, &longer)),
        by_hybrid("hybrid-share-not-canonical.age", not_canonical),
        by_hybrid("hybrid-body-of-31-bytes.age", in_body(&hybrid, &shorter)),
        by_hybrid("hybrid-body-of-33-bytes.age", in_body(&hybrid, &longer)),
        refused("mac-of-33-bytes.age", with_mac(forged, |mac| with_bytes(mac, longer))),
        refused("mac-without-space.age", with_last_line(forged, |mac| format!("---{mac}"))),
        refused("mac-padded.age", with_mac(forged, |mac| format!("{mac}="))),
    ]
}

fn by_hybrid(file: &'static str, bytes: Vec<u8>) -> NewFile {
    NewFile { identities: "hybrid.txt", ..refused(file, bytes) }
}

fn with_bytes(encoded: &str, edit: impl Fn(&mut Vec<u8>)) -> String {
    let mut bytes = BASE64.decode(encoded).unwrap();
    edit(&mut bytes);
    BASE64.encode(bytes)
}

fn with_mac(forged: &Forged, edit: impl Fn(&str) -> String) -> Vec<u8> {
    with_last_line(forged, |mac| format!("--- {}", edit(mac)))
}

/// The file with another last line of its header, made from the MAC in base64.
fn with_last_line(forged: &Forged, edit: impl Fn(&str) -> String) -> Vec<u8> {
    edited(&forged.with_lines(|_| ()), |lines| {
        let last = lines.pop().unwrap();
        lines.push(edit(last.strip_prefix("--- ").unwrap()));
    })
}

/// The most hybrid recipients that a header has room for, and one more. A header of exactly 65,536 bytes does not
/// exist, whatever the binding.
fn limits() -> Vec<NewFile> {
    let mut recipients: Vec<_> = (0..41)
        .map(|_| Identity::generate(KeyType::Hybrid).unwrap().recipient())
        .chain([load_identity("hybrid.txt").recipient()])
        .collect();
    let too_many = Forged::new(PLAINTEXT, &recipients.iter().collect::<Vec<_>>());
    recipients.remove(0);
    let most = Forged::new(PLAINTEXT, &recipients.iter().collect::<Vec<_>>());
    let longest = format!("strict {} {} {}", "n".repeat(63), "a".repeat(253), "k".repeat(253));
    vec![
        NewFile {
            identities: "hybrid.txt",
            ..refused_for(
                &longest["strict ".len()..],
                "41-hybrid-recipients.age",
                most.with_binding(&longest),
            )
        },
        by_hybrid("42-hybrid-recipients.age", too_many.with_lines(|_| ())),
    ]
}

/// Which stanzas are tried, in which order, and which file key counts.
fn several_identities(pair: &Forged) -> Vec<NewFile> {
    let [mine, other] = [MINE, OTHER].map(|file| load_identity(file).recipient());
    let of_another_file = forged_for(&[OTHER]);
    let does_not_open = pair.with_lines(|lines| lines[4] = BASE64.encode([7; 32]));
    let zero_share = pair.with_lines(|lines| {
        lines.splice(3..5, pair.x25519_stanza(&other, &[0; 32], &[0; 32]));
    });
    let file_keys_differ = pair.with_lines(|lines| {
        lines.splice(3..5, of_another_file.stanza(&other));
    });
    // RFC 7748, section 6.1: a point of order 8, with which every identity computes zero.
    let order_8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    let forged = forged_for(&[MINE]);
    let order_8 = forged.with_lines(|lines| {
        lines.splice(3..5, forged.x25519_stanza(&mine, &order_8, &[0; 32]));
    });
    let changed = |recipient: &Recipient| {
        forged.with_lines(|lines| lines[2] = body(&fingerprints(&[recipient])).concat())
    };
    let hybrid = load_identity("hybrid.txt").recipient();
    vec![
        refused("order-8-share-that-would-open.age", order_8),
        // The stanza is for MINE, and its fingerprint is of another identity.
        refused("fingerprint-changed.age", changed(&other)),
        also("fingerprint-changed.age", OTHER, HERE),
        also("fingerprint-changed.age", BOTH, HERE),
        refused("fingerprint-of-another-type.age", changed(&hybrid)),
        also("fingerprint-of-another-type.age", "hybrid.txt", HERE),
        refused("stanzas-swapped.age", pair.with_lines(|lines| lines[3..7].rotate_left(2))),
        also("stanzas-swapped.age", BOTH, HERE),
        opens("first-stanza-does-not-open.age", BOTH, &does_not_open),
        also("first-stanza-does-not-open.age", MINE, HERE),
        also("first-stanza-does-not-open.age", OTHER, HERE),
        opens("first-share-is-zero.age", BOTH, &zero_share),
        also("first-share-is-zero.age", MINE, HERE),
        also("first-share-is-zero.age", OTHER, HERE),
        opens("file-keys-differ.age", BOTH, &file_keys_differ),
        also("file-keys-differ.age", MINE, HERE),
        also("file-keys-differ.age", OTHER, HERE),
    ]
}

/// Files written by an implementation that had only `docs/format.md`.
fn of_another_implementation() -> Vec<NewFile> {
    let here = [
        "63-recipients.age",
        "64-recipients.age",
        "six-recipients.age",
        "six-recipients-no-empty-line.age",
        "unknown-stanza-only.age",
        "second-binding-only.age",
        "fingerprints-not-canonical.age",
        "share-not-canonical.age",
        "body-not-canonical.age",
        "mac-not-canonical.age",
        "mac-31-bytes.age",
        "fingerprint-of-9-bytes.age",
        "zero-share-that-would-open.age",
        "empty-last-chunk.age",
        "last-chunk-not-marked.age",
        "payload-15.age",
        "exact-chunk.age",
        "double-space.age",
        "trailing-space.age",
        "scope-upper-case.age",
    ];
    let (key, namespace, name) = ("k".repeat(253), "n".repeat(63), "x".repeat(253));
    let elsewhere = [
        ("key-dot.age", "prod db .".into()),
        ("key-dotdot.age", "prod db ..".into()),
        ("key-dotdot-a.age", "prod db ..a".into()),
        ("key-253.age", format!("prod db {key}")),
        ("key-254.age", format!("prod db {key}k")),
        ("key-a-dotdot.age", "prod db a..".into()),
        ("key-underscore.age", "prod db _".into()),
        ("key-dash.age", "prod db -".into()),
        ("namespace-63.age", format!("{namespace} db password")),
        ("namespace-64.age", format!("{namespace}n db password")),
        ("namespace-dot.age", "a.b db password".into()),
        ("namespace-dash-end.age", "a- db password".into()),
        ("name-253.age", format!("prod {name} password")),
        ("name-254.age", format!("prod {name}x password")),
        ("name-dots.age", "prod a.b.c password".into()),
        ("name-empty-label.age", "prod a..b password".into()),
        ("name-dash-dot.age", "prod a-.b password".into()),
        ("name-long-label.age", format!("prod {}.a password", "x".repeat(64))),
    ];
    here.map(|file| also(file, MINE, HERE))
        .into_iter()
        .chain([also("hybrid-zero-share-that-would-open.age", "hybrid.txt", HERE)])
        .chain(elsewhere.map(|(file, address)| also(file, MINE, address)))
        .collect()
}
