//! `bulla inspect`, with no key.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, example};

#[test]
fn json_says_what_a_value_is_for_and_who_can_open_it() {
    let sealed = example("x25519-sealed.yaml");
    let report = Sandbox::new().done(&["inspect", "--format", "json", sealed.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let object = &report[0];
    assert_eq!((&object["namespace"], &object["name"]), (&json!("prod"), &json!("db")));
    assert_eq!((&object["document"], &object["line"]), (&json!(1), &json!(1)));
    let user =
        object["values"].as_array().unwrap().iter().find(|value| value["key"] == "user").unwrap();
    assert_eq!(
        user["binding"],
        json!({"scope": "strict", "namespace": "prod", "name": "db", "key": "user"})
    );
    assert_eq!((&user["type"], &user["plaintextBytes"]), (&json!("x25519"), &json!(3)));
    let fingerprints = user["fingerprints"].as_array().unwrap();
    assert_eq!(fingerprints.len(), 1);
    assert_eq!(fingerprints[0].as_str().unwrap().len(), 16);
}

#[test]
fn an_invalid_value_is_shown_with_the_others() {
    let sandbox = Sandbox::new();
    let sealed = std::fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let broken: Vec<_> = sealed
        .lines()
        .map(|line| match line.split_once("user: ") {
            Some((indent, value)) => format!("{indent}user: {}", &value[..100]),
            None => line.to_owned(),
        })
        .collect();
    sandbox.write("broken.yaml", broken.join("\n"));
    let run = sandbox.run(&["inspect", "broken.yaml"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("user      malformed at byte"), "{}", run.stdout);
    assert!(run.stdout.contains("password  28     x25519  strict  prod/db"), "{}", run.stdout);
    let run = sandbox.run(&["inspect", "--format", "json", "broken.yaml"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report[0]["values"].as_array().unwrap().iter().any(|value| value["error"].is_string()));
}

#[test]
fn only_a_sealed_secret_is_inspected() {
    let run = Sandbox::new().run(&["inspect", example("secret.yaml").to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("kind Secret of v1 is not supported here"), "{}", run.stderr);
}

#[test]
fn a_single_value_is_read_in_every_form_it_has() {
    use base64::Engine;
    let sandbox = Sandbox::new();
    let sealed = std::fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let value = sealed.lines().find_map(|line| line.trim().strip_prefix("user: ")).unwrap();
    let binary = base64::prelude::BASE64_STANDARD.decode(value).unwrap();
    let lines = format!("{}\n{}\n", &value[..60], &value[60..]);
    let mut armored =
        age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
    std::io::Write::write_all(&mut armored, &binary).unwrap();
    for form in [value.as_bytes(), lines.as_bytes(), &binary, &armored.finish().unwrap()] {
        let run = sandbox.run_with_input(&["inspect", "-"], form);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let expected = "\
<stdin> (a single value)
KEY   BYTES  TYPE    SCOPE   SEALED FOR  SEALED TO
user  3      x25519  strict  prod/db     91efc95f9aa3a7fb
";
        assert_eq!(run.stdout, expected);
    }
    // A truncated value, and an age file that is not a sealed value.
    let run = sandbox.run_with_input(&["inspect", "-"], &binary[..100]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("?    malformed at byte"), "{}", run.stdout);
    let run = sandbox.run_with_input(&["inspect", "--format", "json"], value.as_bytes());
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report[0]["name"], &report[0]["values"][0]["key"]),
        (&json!(null), &json!("user"))
    );
}

#[test]
fn a_folder_is_scanned_and_holders_are_named() {
    let sandbox = Sandbox::with_keys();
    std::fs::create_dir_all(sandbox.path(".git/objects")).unwrap();
    std::fs::create_dir_all(sandbox.path("prod/sub")).unwrap();
    let recipient = sandbox.read("x25519.pub");
    sandbox.write(
        "bulla.yaml",
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n      - recipient: {}\n        holder: prod-eu\n        state: Active\n        fetched: 2026-11-01\n",
            recipient.trim()
        ),
    );
    std::fs::copy(example("x25519-sealed.yaml"), sandbox.path("prod/sub/db.yaml")).unwrap();
    std::fs::copy(example("sealed-secrets.yaml"), sandbox.path("prod/others.yaml")).unwrap();
    sandbox.write("prod/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n");
    let run = sandbox.run(&["inspect", "prod"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(run.stdout.matches("KEY  ").count(), 4, "{}", run.stdout);
    assert!(run.stdout.contains("prod/db     91efc95f9aa3a7fb (prod-eu)\n"), "{}", run.stdout);
    assert!(run.stdout.contains(" 04a434af7e9d885d (not in bulla.yaml)\n"), "{}", run.stdout);
    let json = sandbox.done(&["inspect", "--format", "json", "prod/sub"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        report[0]["values"][0]["recipients"],
        json!([{"fingerprint": "91efc95f9aa3a7fb", "holder": "prod-eu"}])
    );
    // A broken SealedSecret is reported beside the rest.
    sandbox.write(
        "prod/broken.yaml",
        "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: [\n",
    );
    let run = sandbox.run(&["inspect", "prod"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.starts_with("error: prod/broken.yaml: "), "{}", run.stderr);
    assert_eq!(run.stdout.matches("KEY  ").count(), 4);
    // Without a readable bulla.yaml only the names are missing.
    sandbox.write("bulla.yaml", "nonsense: 1\n");
    let run = sandbox.run(&["inspect", "prod/sub"]);
    assert_eq!(run.code, 0);
    assert!(
        run.stderr.starts_with("warning: could not read the names of key holders: "),
        "{}",
        run.stderr
    );
}
