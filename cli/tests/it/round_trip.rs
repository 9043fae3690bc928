//! A sealed value comes back byte for byte, however the Secret was written.

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, documents, plaintext};

/// Seals, checks that `lint` and `inspect` find nothing wrong, and unseals.
fn round_trip(sandbox: &Sandbox, key_type: &str, seal: &[&str]) -> Vec<Value> {
    let recipients = format!("{key_type}.pub");
    let mut args = vec!["seal", "-R", &recipients];
    args.extend(seal);
    sandbox.write("sealed.yaml", sandbox.done(&args));
    assert_eq!(sandbox.run(&["lint", "sealed.yaml"]).code, 0);
    let report = sandbox.done(&["inspect", "--format", "json", "sealed.yaml"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    for object in report.as_array().unwrap() {
        for value in object["values"].as_array().unwrap() {
            assert_eq!(value["type"], key_type);
        }
    }
    documents(&sandbox.done(&["unseal", "-i", &format!("{key_type}.txt"), "sealed.yaml"]))
}

#[test]
fn bytes_come_back_for_both_key_types_and_all_scopes() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\ndata: {bytes: AAH/Cg==, none: \"\"}\nstringData: {text: \"ä\\n\"}\n");
    for key_type in ["hybrid", "x25519"] {
        for scope in ["strict", "namespace", "cluster"] {
            let secrets = round_trip(&sandbox, key_type, &["--scope", scope, "secret.yaml"]);
            assert_eq!(plaintext(&secrets[0], "bytes"), b"\x00\x01\xff\n");
            assert_eq!(plaintext(&secrets[0], "none"), b"");
            assert_eq!(plaintext(&secrets[0], "text"), "ä\n".as_bytes());
            assert_eq!(secrets[0]["metadata"], json!({"name": "db", "namespace": "prod"}));
        }
    }
}

#[test]
fn any_of_many_recipients_opens() {
    let sandbox = Sandbox::with_keys();
    let recipients: String = (0..12)
        .map(|number| {
            let file = format!("{number}.txt");
            format!("# number {number}\n{}\n", sandbox.done(&["keys", "generate", "-o", &file]))
        })
        .collect();
    sandbox.write("team.pub", recipients);
    sandbox.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: b}\n",
    );
    let sealed = sandbox.done(&["seal", "-R", "team.pub", "-R", "hybrid.pub", "secret.yaml"]);
    sandbox.write("sealed.yaml", sealed);
    for identity in ["0.txt", "7.txt", "11.txt", "hybrid.txt"] {
        let secrets = documents(&sandbox.done(&["unseal", "-i", identity, "sealed.yaml"]));
        assert_eq!(plaintext(&secrets[0], "a"), b"b");
    }
    let others = sandbox.run(&["unseal", "-i", "x25519.txt", "sealed.yaml"]);
    assert_eq!(others.code, 1);
    assert!(others.stderr.contains("no identity is held for"), "{}", others.stderr);
    // Several identities, of which one fits.
    sandbox.done(&["unseal", "-i", "x25519.txt", "-i", "3.txt", "sealed.yaml"]);
}

#[test]
fn string_data_wins_over_data_as_in_the_api_server() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: new}\ndata: {a: b2xk, b: b2xk}\n");
    let secrets = round_trip(&sandbox, "x25519", &["secret.yaml"]);
    assert_eq!(plaintext(&secrets[0], "a"), b"new");
    assert_eq!(plaintext(&secrets[0], "b"), b"old");
}

#[test]
fn type_labels_annotations_and_immutability_come_back() {
    let sandbox = Sandbox::with_keys();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "pull", "namespace": "prod",
            "labels": {"team": "yes", "n": "1"},
            "annotations": {"example.com/note": "one\ntwo: three # four", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "uid": "1", "creationTimestamp": null, "resourceVersion": "7", "managedFields": []
        },
        "type": "kubernetes.io/dockerconfigjson",
        "immutable": true,
        "stringData": {".dockerconfigjson": "{\"auths\": {}}"}
    });
    sandbox.write("secret.json", secret.to_string());
    let secrets = round_trip(&sandbox, "hybrid", &["secret.json"]);
    let expected = json!({
        "name": "pull", "namespace": "prod",
        "labels": {"team": "yes", "n": "1"},
        "annotations": {"example.com/note": "one\ntwo: three # four"}
    });
    assert_eq!(secrets[0]["metadata"], expected);
    assert_eq!(secrets[0]["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(secrets[0]["immutable"], true);
}

#[test]
fn lists_streams_json_and_stdin_are_read() {
    let sandbox = Sandbox::with_keys();
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": name, "emoji": "😀/"}});
    // Python writes characters beyond ASCII as pairs of escapes, and others escape slashes.
    let escaped = secret("two").to_string().replace("😀/", r"\ud83d\ude00\/");
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [secret("three"), secret("four")]});
    let secret_list = json!({"apiVersion": "v1", "kind": "SecretList", "items": [secret("five")]});
    let yaml = "\u{feff}# a comment\r\n---\r\napiVersion: v1\r\nkind: Secret\r\nmetadata:\r\n  name: one\r\nstringData:\r\n  a: one\r\n  emoji: 😀/\r\n...\r\n# the end\r\n";
    sandbox.write("stream.yaml", format!("{yaml}---\n# nothing here\n---\n{escaped}\n{list}\n"));
    let run = |args: &[&str]| {
        let sealed = sandbox.run_with_input(args, secret_list.to_string().as_bytes());
        assert_eq!(sealed.code, 0, "{}", sealed.stderr);
        sandbox.write("sealed.yaml", sealed.stdout);
        documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "sealed.yaml"]))
    };
    let secrets = run(&["seal", "-R", "x25519.pub", "-n", "prod", "stream.yaml", "-"]);
    let names: Vec<_> = secrets.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two", "three", "four", "five"]);
    for (secret, name) in secrets.iter().zip(&names) {
        assert_eq!(plaintext(secret, "a"), name.as_bytes());
        assert_eq!(plaintext(secret, "emoji"), "😀/".as_bytes());
        assert_eq!(secret["metadata"]["namespace"], "prod");
    }
    // Without a file, stdin is read; sealed objects can be in a List too.
    assert_eq!(run(&["seal", "-R", "x25519.pub", "-n", "prod"]).len(), 1);
    let sealed: Value = yaml_serde::from_str(&sandbox.read("sealed.yaml")).unwrap();
    let list =
        json!({"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecretList", "items": [sealed]});
    let opened =
        sandbox.run_with_input(&["unseal", "-i", "x25519.txt", "-"], list.to_string().as_bytes());
    assert_eq!((opened.code, documents(&opened.stdout).len()), (0, 1));
}

#[test]
fn block_scalars_and_wrapped_base64_are_read() {
    let sandbox = Sandbox::with_keys();
    sandbox.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: prod\nstringData:\n  pem: |\n    -----BEGIN\n    ---\n    x\n  folded: >-\n    a\n    b\ndata:\n  wrapped: |\n    aHVu\n    dGVyMg==\n",
    );
    let secrets = round_trip(&sandbox, "hybrid", &["secret.yaml"]);
    assert_eq!(plaintext(&secrets[0], "pem"), b"-----BEGIN\n---\nx\n");
    assert_eq!(plaintext(&secrets[0], "folded"), b"a b");
    assert_eq!(plaintext(&secrets[0], "wrapped"), b"hunter2");
}

#[test]
fn aliases_are_followed() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: &x same, b: *x}\n");
    let secrets = round_trip(&sandbox, "x25519", &["secret.yaml"]);
    assert_eq!(plaintext(&secrets[0], "b"), b"same");
}

#[test]
fn scope_cluster_needs_no_namespace_but_keeps_a_given_one() {
    let sandbox = Sandbox::with_keys();
    sandbox.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: b}\n",
    );
    let secrets = round_trip(&sandbox, "x25519", &["--scope", "cluster", "secret.yaml"]);
    assert_eq!(secrets[0]["metadata"], json!({"name": "db"}));
    assert_eq!(plaintext(&secrets[0], "a"), b"b");
    let secrets =
        round_trip(&sandbox, "x25519", &["--scope", "cluster", "-n", "prod", "secret.yaml"]);
    assert_eq!(secrets[0]["metadata"]["namespace"], "prod");
}

#[test]
fn a_large_value_comes_back_and_a_larger_one_is_refused() {
    let sandbox = Sandbox::with_keys();
    let secret = |bytes: usize| {
        let value = "0123456789abcdef".repeat(bytes / 16);
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: prod}}\nstringData:\n  a: {value}\n"
        )
    };
    sandbox.write("secret.yaml", secret(700_000));
    sandbox.write("sealed.yaml", sandbox.done(&["seal", "-R", "hybrid.pub", "secret.yaml"]));
    let secrets = documents(&sandbox.done(&["unseal", "-i", "hybrid.txt", "sealed.yaml"]));
    assert_eq!(plaintext(&secrets[0], "a").len(), 700_000);
    sandbox.write("secret.yaml", secret(2_000_000));
    let refused = sandbox.run(&["seal", "-R", "hybrid.pub", "secret.yaml"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("more than 1 MiB of sealed data"), "{}", refused.stderr);
}

#[test]
fn a_standard_age_file_is_inside() {
    use base64::prelude::{BASE64_STANDARD, Engine};
    let sandbox = Sandbox::with_keys();
    sandbox.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: b}\n",
    );
    let sealed = documents(&sandbox.done(&["seal", "-R", "hybrid.pub", "secret.yaml"]));
    let file =
        BASE64_STANDARD.decode(sealed[0]["spec"]["sealedData"]["a"].as_str().unwrap()).unwrap();
    assert!(file.starts_with(b"age-encryption.org/v1\n-> bulla.dev/v1 strict prod db a\n"));
}
