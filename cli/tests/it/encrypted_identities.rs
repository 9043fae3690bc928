//! Identity files that only a passphrase or another identity opens.

use std::io::Write;

use age::armor::{ArmoredWriter, Format};
use bulla_crds::keys;
use bulla_sealing::{Identity, Recipients};

use crate::sandbox::{Sandbox, example};

const PASSPHRASE: &str = "marked correct horse battery staple";

/// An identity of the examples.
fn identity(name: &str) -> (String, Identity) {
    let file = std::fs::read_to_string(example(&format!("{name}-identity.txt"))).unwrap();
    let line = file.lines().find(|line| !line.starts_with('#')).unwrap();
    let identity = Identity::parse(line).unwrap();
    (file, identity)
}

fn encrypted(recipient: &dyn age::Recipient, text: &str, format: Format) -> Vec<u8> {
    let encryptor = age::Encryptor::with_recipients([recipient].into_iter()).unwrap();
    let mut file = ArmoredWriter::wrap_output(Vec::new(), format).unwrap();
    let mut writer = encryptor.wrap_output(&mut file).unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap();
    file.finish().unwrap()
}

fn with_passphrase(text: &str, work_factor: u8, format: Format) -> Vec<u8> {
    let mut recipient = age::scrypt::Recipient::new(PASSPHRASE.to_owned().into());
    recipient.set_work_factor(work_factor);
    encrypted(&recipient, text, format)
}

/// `unseal` of a value that the example identity opens, with these flags.
fn unseal(sandbox: &Sandbox, key_type: &str, flags: &[&str]) -> crate::sandbox::Run {
    let file = match key_type {
        "hybrid" => "sealed-secrets.yaml",
        _ => "x25519-sealed.yaml",
    };
    let sealed = example(file);
    sandbox.run(&[&["unseal"], flags, &[sealed.to_str().unwrap()]].concat())
}

#[test]
fn a_passphrase_opens_an_armored_and_a_binary_file() {
    let sandbox = Sandbox::new();
    sandbox.write("passphrase", format!("{PASSPHRASE}\nnot this line\n"));
    for (key_type, format) in [("hybrid", Format::AsciiArmor), ("x25519", Format::Binary)] {
        let (text, _) = identity(key_type);
        sandbox.write("key.age", with_passphrase(&text, 10, format));
        let run = unseal(&sandbox, key_type, &["-i", "key.age", "--passphrase-file", "passphrase"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains("kind: Secret"), "{}", run.stdout);
    }
}

#[test]
fn a_file_that_does_not_open_is_reported_without_the_passphrase() {
    let sandbox = Sandbox::new();
    let (text, _) = identity("x25519");
    let file = with_passphrase(&text, 10, Format::AsciiArmor);
    let armored = String::from_utf8(file.clone()).unwrap();
    sandbox.write("key.age", &file);
    sandbox.write("costly.age", {
        let binary = with_passphrase(&text, 10, Format::Binary);
        let stanza = binary.windows(4).position(|window| window == b" 10\n").unwrap();
        [&binary[..stanza], b" 30\n", &binary[stanza + 4..]].concat()
    });
    sandbox.write("cut.age", &armored[..armored.len() / 2]);
    sandbox.write("empty.age", with_passphrase("# nothing\n", 10, Format::Binary));
    sandbox.write("large.age", {
        let mut large = with_passphrase(&text, 10, Format::Binary);
        large.resize(70 * 1024, 0);
        large
    });
    sandbox.write("right", PASSPHRASE);
    sandbox.write("wrong", "marked something else\n");
    sandbox.write("none", "\n");
    for (flags, code, message) in [
        (
            &["-i", "key.age"][..],
            2,
            "error: cannot ask for the passphrase without a terminal\nhint: without a terminal, pass --passphrase-file FILE\n",
        ),
        (
            &["-i", "key.age", "--passphrase-file", "wrong"],
            1,
            "error: key.age: the passphrase is wrong\n",
        ),
        (
            &["-i", "key.age", "--passphrase-file", "none"],
            2,
            "error: none: the first line, which holds the passphrase, is empty\n",
        ),
        (
            &["-i", "costly.age", "--passphrase-file", "right"],
            1,
            "error: costly.age: it demands more work than a passphrase needs\n",
        ),
        (
            &["-i", "cut.age", "--passphrase-file", "right"],
            2,
            "error: cut.age: its armor is damaged\n",
        ),
        (
            &["-i", "empty.age", "--passphrase-file", "right"],
            2,
            "error: empty.age: it contains no identity\n",
        ),
        (
            &["-i", "large.age", "--passphrase-file", "right"],
            2,
            "error: large.age: larger than 64 KiB, so not an identity file\n",
        ),
    ] {
        let run = unseal(&sandbox, "x25519", flags);
        assert_eq!((run.code, run.stderr.as_str()), (code, message));
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_backup_and_an_age_file_are_opened_by_the_other_identities_in_any_order() {
    let sandbox = Sandbox::with_keys();
    // The hybrid identity opens the backup of the X25519 one, and that an age file with the hybrid one.
    let ((_, hybrid), (_, x25519)) = (identity("hybrid"), identity("x25519"));
    let recovery = Recipients::new(vec![hybrid.recipient()]).unwrap();
    let backup = keys::seal_identity(&x25519, "bulla-system", &recovery).unwrap();
    sandbox.write("backup.age", backup);
    let recipient: age::x25519::Recipient = x25519.recipient().as_str().parse().unwrap();
    let (text, _) = identity("hybrid");
    sandbox.write("plain.age", encrypted(&recipient, &text, Format::AsciiArmor));
    for flags in [
        &["-i", "backup.age", "-i", "hybrid.txt"][..],
        &["-i", "hybrid.txt", "-i", "backup.age"],
        &["-i", "x25519.txt"],
    ] {
        let run = unseal(&sandbox, "x25519", flags);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    for flags in [
        &["-i", "plain.age", "-i", "x25519.txt"][..],
        &["-i", "x25519.txt", "-i", "plain.age"],
        &["-i", "plain.age", "-i", "backup.age", "-i", "hybrid.txt"],
    ] {
        let run = unseal(&sandbox, "hybrid", flags);
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    let fingerprint = hybrid.recipient().fingerprint();
    for (flags, message) in [
        (
            &["-i", "backup.age"][..],
            format!(
                "error: backup.age: sealed to {fingerprint}, but none of these identities was passed\n"
            ),
        ),
        (
            &["-i", "plain.age", "-i", "hybrid.txt"],
            "error: plain.age: encrypted to a key that was not passed, or that is not of type x25519\n"
                .to_owned(),
        ),
    ] {
        let run = unseal(&sandbox, "x25519", flags);
        let expected = format!("{message}hint: pass the identity that opens it with another -i\n");
        assert_eq!((run.code, run.stderr), (2, expected));
    }
}

#[test]
fn a_sealed_value_is_not_an_identity_file() {
    use base64::Engine;
    let sandbox = Sandbox::with_keys();
    let sealed = std::fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let value = sealed.lines().find_map(|line| line.trim().strip_prefix("user: ")).unwrap();
    sandbox.write("value.age", base64::prelude::BASE64_STANDARD.decode(value).unwrap());
    let run = unseal(&sandbox, "x25519", &["-i", "value.age", "-i", "x25519.txt"]);
    assert_eq!(run.code, 2);
    let message = "error: value.age: not the backup of an identity; sealed for ";
    assert!(run.stderr.starts_with(message), "{}", run.stderr);
}
