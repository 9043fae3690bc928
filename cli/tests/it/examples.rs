//! The files in `keys-example/` match their descriptions.

use std::fs;

use bulla_sealing::Identity;

use crate::sandbox::{Sandbox, documents, example, plaintext};

fn open(key_type: &str, sealed: &str) -> String {
    let identity = example(&format!("{key_type}-identity.txt"));
    let sealed = example(sealed);
    Sandbox::new().done(&["unseal", "-i", identity.to_str().unwrap(), sealed.to_str().unwrap()])
}

#[test]
fn recipients_match_the_identities() {
    for key_type in ["hybrid", "x25519"] {
        let file = fs::read_to_string(example(&format!("{key_type}-identity.txt"))).unwrap();
        let identity = file.lines().find(|line| !line.starts_with('#')).unwrap();
        let recipient = Identity::parse(identity).unwrap().recipient();
        assert_eq!(recipient.key_type().as_str(), key_type);
        let stated = fs::read_to_string(example(&format!("{key_type}-recipient.txt"))).unwrap();
        assert_eq!(stated.trim_end(), recipient.as_str());
        assert!(file.contains(&format!("# public key: {recipient}\n")));
    }
}

#[test]
fn the_sealed_secret_opens_with_the_identity_of_its_type() {
    for key_type in ["hybrid", "x25519"] {
        let secrets = documents(&open(key_type, &format!("{key_type}-sealed.yaml")));
        let [secret] = &secrets[..] else { panic!("one Secret is expected") };
        assert_eq!(secret["metadata"]["name"], "db");
        assert_eq!(secret["metadata"]["labels"]["team"], "storage");
        assert_eq!(plaintext(secret, "user"), b"app");
        assert_eq!(plaintext(secret, "password"), b"correct horse battery staple");
        assert_eq!(plaintext(secret, "ca.crt"), b"-----BEGIN CERTIFICATE-----\n");
    }
}

#[test]
fn the_sealed_stream_holds_the_plaintext_stream() {
    let secrets = documents(&open("hybrid", "sealed-secrets.yaml"));
    let names: Vec<_> = secrets.iter().map(|secret| &secret["metadata"]["name"]).collect();
    assert_eq!(names, ["registry", "cache", "mail"]);
    assert_eq!(plaintext(&secrets[1], "password"), b"an example");
    assert_eq!(plaintext(&secrets[2], "password"), b"another example");
    assert_eq!(secrets[2]["immutable"], true);
}

#[test]
fn lint_finds_nothing_in_the_sealed_examples() {
    for sealed in ["hybrid-sealed.yaml", "x25519-sealed.yaml", "sealed-secrets.yaml"] {
        assert_eq!(Sandbox::new().done(&["lint", example(sealed).to_str().unwrap()]), "");
    }
}
