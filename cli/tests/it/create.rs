//! `create`: a SealedSecret from values alone.

use std::fs;

use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, documents, plaintext};

fn create(sandbox: &Sandbox, args: &[&str], input: &str) -> Run {
    let args = [&["create", "db", "-n", "prod", "-R", "x25519.pub"], args].concat();
    sandbox.run_with_input(&args, input.as_bytes())
}

/// Creates a SealedSecret and opens it.
fn created(sandbox: &Sandbox, args: &[&str], input: &str) -> Value {
    let run = create(sandbox, args, input);
    assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
    sandbox.write("created.yaml", run.stdout);
    assert_eq!(sandbox.run(&["lint", "created.yaml"]).code, 0);
    documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "created.yaml"])).remove(0)
}

#[test]
fn values_come_from_files_the_environment_stdin_and_the_command_line() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("config.ini", b"\x00\xff\n");
    sandbox.write("app.env", "A=1\nexport B='x # y'\nC=\"a\\nb\"\n");
    let secret = created(
        &sandbox,
        &[
            "--from-file",
            "config.ini",
            "--from-file",
            "other=config.ini",
            "--from-file",
            "piped=-",
            "--from-env-file",
            "app.env",
            "--from-env",
            "HOME",
            "--from-env",
            "home=HOME",
            "--from-literal",
            "literal=a=b",
            "--label",
            "team=storage",
            "--annotation",
            "example.com/note=one two",
            "--immutable",
        ],
        "from stdin",
    );
    let home = sandbox.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    for (key, value) in [
        ("config.ini", &b"\x00\xff\n"[..]),
        ("other", b"\x00\xff\n"),
        ("piped", b"from stdin"),
        ("A", b"1"),
        ("B", b"x # y"),
        ("C", b"a\nb"),
        ("literal", b"a=b"),
    ] {
        assert_eq!(plaintext(&secret, key), value, "{key}");
    }
    for key in ["HOME", "home"] {
        let value = String::from_utf8(plaintext(&secret, key)).unwrap();
        assert_eq!(value.trim_end_matches('/'), home);
    }
    assert_eq!(
        secret["metadata"],
        json!({"name": "db", "namespace": "prod", "labels": {"team": "storage"}, "annotations": {"example.com/note": "one two"}})
    );
    assert_eq!((&secret["type"], &secret["immutable"]), (&json!("Opaque"), &json!(true)));
}

#[test]
fn certificates_and_registry_passwords_get_their_type() {
    let sandbox = Sandbox::with_keys();
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nAAAA\n-----END {kind}-----\n");
    sandbox.write("tls.crt", pem("CERTIFICATE"));
    sandbox.write("key.pem", pem("EC PRIVATE KEY"));
    let secret = created(&sandbox, &["--cert", "tls.crt", "--key", "key.pem"], "");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(plaintext(&secret, "tls.key"), pem("EC PRIVATE KEY").as_bytes());
    let run = create(&sandbox, &["--cert", "key.pem", "--key", "tls.crt"], "");
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            2,
            "error: key.pem: no PEM CERTIFICATE in this file\nhint: --cert takes the certificate, --key the private key\n"
        )
    );

    let secret = created(
        &sandbox,
        &["--docker-server", "registry.example.com", "--docker-username", "me"],
        "pass \"word\"\n",
    );
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    let config: Value = serde_json::from_slice(&plaintext(&secret, ".dockerconfigjson")).unwrap();
    assert_eq!(
        config,
        json!({"auths": {"registry.example.com": {"username": "me", "password": "pass \"word\"", "auth": "bWU6cGFzcyAid29yZCI="}}})
    );

    let secret = created(&sandbox, &["--type", "example.com/own", "--from-literal", "a=b"], "");
    assert_eq!(secret["type"], "example.com/own");
    let run = create(&sandbox, &["--type", "kubernetes.io/tls", "--from-literal", "a=b"], "");
    assert!(run.stderr.contains("prod/db: type kubernetes.io/tls needs tls.crt"), "{}", run.stderr);
}

#[test]
fn a_missing_or_doubtful_value_is_refused_without_repeating_it() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("app.env", "A=1\nB=hunter$two\n");
    for (args, message) in [
        (&[][..], "no value given\nhint: pass --prompt"),
        (
            &["--from-literal", "hunter two=x"],
            "--from-literal number 1 does not begin with a valid data key",
        ),
        (
            &["--from-literal", "hunter"],
            "--from-literal number 1 does not begin with a valid data key",
        ),
        (
            &["--from-file", "-"],
            "stdin has no file name that could be its key\nhint: set the key: --from-file KEY=-",
        ),
        (&["--from-file", "a=-", "--from-env-file", "-"], "'-' (stdin) can be given only once"),
        (&["--from-file", "a=-", "--docker-username", "me"], "'-' (stdin) can be given only once"),
        (&["--from-file", "nowhere"], "cannot read nowhere"),
        (&["--from-env", "BULLA_NOT_SET"], "no environment variable of that name"),
        (
            &["--from-env-file", "app.env"],
            "app.env: line 2: a $ that some parsers read as a variable\nhint: put the value in single quotes",
        ),
        (&["--from-literal", "a=b", "--from-literal", "a=c"], "the value of a is given twice"),
        // Refused before the first prompt.
        (&["--prompt", "a", "--prompt", "b c"], "b c is not a valid data key of a Secret"),
        (&["--from-literal", "a=b", "--prompt", "a"], "the value of a is given twice"),
        (
            &["--from-literal", "a=b", "--label", "team"],
            "a label without =\nhint: expected --label KEY=VALUE",
        ),
        (
            &["--from-literal", "a=b", "--label", "t=a b"],
            "the value of label t is not a valid label value",
        ),
        (
            &["--from-literal", "a=b", "--annotation", "n=1", "--annotation", "n=2"],
            "the annotation n is given twice",
        ),
        (
            &["--from-literal", "a=hunter2", "--annotation", "n=hunter2"],
            "annotation n contains the plaintext of key a",
        ),
        (
            &["--type", "bootstrap.kubernetes.io/token", "--from-literal", "a=b"],
            "the cluster itself trusts",
        ),
    ] {
        let run = create(&sandbox, args, "");
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert!(!run.stderr.contains("hunter"), "{}", run.stderr);
    }
    let run = sandbox.run(&["create", "DB", "-R", "x25519.pub", "--from-literal", "a=b"]);
    assert!(run.stderr.starts_with("error: DB is not a valid Secret name\nhint: "));
    let run = sandbox.run(&["create", "db", "-R", "x25519.pub", "--from-literal", "a=b"]);
    assert!(
        run.stderr.contains("scope strict needs a namespace, and none is named\nhint: pass -n")
    );
    sandbox.done(&[
        "create",
        "db",
        "-R",
        "x25519.pub",
        "--scope",
        "cluster",
        "--from-literal",
        "a=b",
    ]);
}

#[test]
fn a_file_gets_one_more_object_and_keeps_what_it_has() {
    let sandbox = Sandbox::with_keys();
    let other = "# other\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: db, namespace: prod}";
    sandbox.write("f.yaml", other);
    let new = ["--from-literal", "a=one", "-o", "f.yaml"];
    assert_eq!(create(&sandbox, &new, "").code, 0);
    let text = sandbox.read("f.yaml");
    assert!(text.starts_with(&format!("{other}\n---\napiVersion: bulla.dev/v1alpha1\n")), "{text}");
    // An existing SealedSecret is not changed by accident, and nobody types a value in vain.
    let run = create(&sandbox, &["--prompt", "b", "-o", "f.yaml"], "");
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stderr,
        "error: f.yaml: document 2, line 12: prod/db: already exists in this file\nhint: to change one value, run bulla set; to merge these values into it, pass --merge\n"
    );
    assert_eq!(sandbox.read("f.yaml"), text);
    assert_eq!(
        create(&sandbox, &["--from-literal", "b=two", "--merge", "-o", "f.yaml"], "").code,
        0
    );
    let merged = sandbox.read("f.yaml");
    assert!(merged.starts_with(&text), "{merged}");
    assert_eq!(merged.lines().count(), text.lines().count() + 1);
    // Another namespace is another object.
    sandbox.done(&[
        "create",
        "db",
        "-n",
        "dev",
        "-R",
        "x25519.pub",
        "--from-literal",
        "a=b",
        "-o",
        "f.yaml",
    ]);
    assert_eq!(documents(&sandbox.read("f.yaml")).len(), 3);
    assert_eq!(create(&sandbox, &[&new[..], &["--force"]].concat(), "").code, 0);
    assert_eq!(documents(&sandbox.read("f.yaml")).len(), 1);
    // A new file.
    fs::remove_file(sandbox.path("f.yaml")).unwrap();
    assert_eq!(create(&sandbox, &new, "").code, 0);
    sandbox.done(&["unseal", "-i", "x25519.txt", "f.yaml"]);
}

#[cfg(target_os = "linux")]
#[test]
fn several_values_are_typed_at_hidden_prompts() {
    use crate::pty::Pty;
    let sandbox = Sandbox::with_keys();
    let args = [
        "create",
        "db",
        "-n",
        "prod",
        "-R",
        "x25519.pub",
        "-o",
        "f.yaml",
        "--prompt",
        "a",
        "--prompt",
        "b",
    ];
    let mut pty = Pty::start(&sandbox.command(&args));
    pty.type_at("Value of a (not shown): ", "one-typed\n");
    pty.type_at("Value of b (not shown): ", "two-typed\n");
    let (code, shown) = pty.wait();
    assert_eq!((code, shown.contains("-typed")), (Some(0), false), "{shown}");
    let secrets = documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "f.yaml"]));
    assert_eq!(plaintext(&secrets[0], "a"), b"one-typed");
    assert_eq!(plaintext(&secrets[0], "b"), b"two-typed");
}
