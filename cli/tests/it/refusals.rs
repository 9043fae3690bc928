//! Input that is refused: nothing is written, the place is named, and no secret is repeated.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::sandbox::{Run, Sandbox, example};

/// Stands for the value in every invalid input.
const MARKER: &str = "hunter2-marked-plaintext";

/// Neither the marker nor its base64, at any of the three alignments, may be found.
fn assert_no_marker(case: &str, run: &Run) {
    let shown = format!("{}{}", run.stdout, run.stderr);
    for skipped in 0..3 {
        let encoded = BASE64_STANDARD.encode(&MARKER[skipped..]);
        let middle = &encoded[..encoded.len() - 6];
        assert!(!shown.contains(middle), "{case}: {shown}");
    }
    assert!(!shown.contains("marked"), "{case}: {shown}");
}

fn secret(body: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: prod}}\n{body}\n")
}

/// Inputs of `seal`, and their messages.
type Cases = Vec<(String, &'static str)>;

/// A text with the marker for every `@`.
fn raw(text: &str) -> String {
    text.replace('@', MARKER)
}

/// A Secret with the marker for every `@`.
fn marked(body: &str) -> String {
    secret(&raw(body))
}

/// Input that is not a manifest, or not even text.
fn unreadable() -> Cases {
    vec![
        (String::new(), "in.yaml: the file is empty"),
        ("# @\n---\n# @\n".into(), "in.yaml: the file contains no document"),
        (raw("@\n"), "in.yaml: document 1, line 1: not a Kubernetes object"),
        (raw("- @\n"), "in.yaml: document 1, line 1: not a Kubernetes object"),
        (
            raw("a: @\n"),
            "in.yaml: document 1, line 1: not a Kubernetes object: apiVersion or kind is missing",
        ),
        (
            raw("kind: @ x\napiVersion: v1\n"),
            "kind (unreadable) of v1 is not supported here; expected a Secret of v1",
        ),
        (
            raw("apiVersion: v1\nkind: ConfigMap\ndata: {a: @}\n"),
            "in.yaml: document 1, line 1: kind ConfigMap of v1 is not supported here",
        ),
        (
            format!(
                "{}---\n{}",
                secret("stringData: {a: b}"),
                raw("apiVersion: v1\nkind: ConfigMap\ndata: {a: @}\n")
            ),
            "in.yaml: document 2, line 6: kind ConfigMap of v1",
        ),
        (
            marked("stringData:\n  a: @\n  a: @"),
            "in.yaml: document 1, line 6, column 3: duplicate key",
        ),
        (
            marked("stringData:\n  a: @: @"),
            "in.yaml: document 1, line 5, column 30: not valid YAML: unexpected colon",
        ),
        (marked("stringData:\n  a: \"@"), "not valid YAML: the text ends too early"),
        (
            marked("stringData:\n\ta: @"),
            "in.yaml: document 1, line 5, column 1: not valid YAML: indented with a tab",
        ),
        (marked("stringData:\n  a: [@"), "in.yaml: document 1, line"),
        (
            raw(
                "a: &a [@, @]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f]\nh: [*g, *g, *g, *g, *g, *g, *g]\n",
            ),
            "the aliases expand to too much",
        ),
        (format!("a: {}{MARKER}{}\n", "[".repeat(300), "]".repeat(300)), ": nested too deeply"),
        (
            raw("a: \x07@"),
            "in.yaml: line 1, column 4: a control character is not allowed in a manifest",
        ),
        (raw("\0\0\0@"), "in.yaml: line 1, column 1: a control character"),
    ]
}

/// Secrets with invalid fields.
fn mistyped() -> Cases {
    vec![
        (
            marked("stringData:\n  a: [@]"),
            "in.yaml: document 1, line 5: stringData.a: expected text, found a list",
        ),
        (marked("stringData:\n  a: {@: @}"), "stringData.a: expected text, found a mapping"),
        (marked("stringData:\n  a: 5"), "stringData.a: expected text, found a number; quote it"),
        (marked("stringData:\n  a: 5.5"), "stringData.a: expected text, found a number; quote it"),
        (
            marked("stringData:\n  a: true"),
            "stringData.a: expected text, found a boolean; quote it",
        ),
        (
            marked("stringData:\n  a:"),
            "stringData.a: the value is missing; write \"\" for an empty one",
        ),
        (
            marked(
                "stringData:
  a: !x @",
            ),
            "YAML tags are not supported",
        ),
        (
            marked("stringData:\n  a: !!binary aGk="),
            "in.yaml: document 1, line 5, column 6: !!binary is not supported",
        ),
        (
            marked("stringData:\n  a: !!int @"),
            "in.yaml: document 1, line 5, column 6: not valid YAML",
        ),
        (
            marked("stringData:\n  1: @"),
            "in.yaml: document 1, line 5, column 3: the key is not text; quote it",
        ),
        (marked("stringData: @"), "stringData: not a mapping of keys to text"),
        (
            marked("data:\n  a: @"),
            "in.yaml: document 1, line 5: data.a: not base64; plain text belongs under stringData",
        ),
        (secret(&format!("data:\n  a: {}=", BASE64_STANDARD.encode(MARKER))), "data.a: not base64"),
        (marked("data:\n  a: 1234"), "data.a: expected text, found a number; quote it"),
        (marked("stringdata:\n  a: @"), "in.yaml: document 1, line 4: stringdata: unknown field"),
        (marked("type: [@]\nstringData: {a: @}"), "type: not text; quote it"),
        (marked("immutable: @\nstringData: {a: @}"), "immutable: expected true or false"),
    ]
}

/// Secrets and lists that nobody can seal.
fn unsealable() -> Cases {
    vec![
        (secret("data: {}"), "prod/db: there is no data to seal"),
        (marked("stringData: {\"a/b\": @}"), "the key is not a valid data key of a Secret"),
        (
            marked("type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: @}"),
            "key .dockerconfigjson: not valid for type kubernetes.io/dockerconfigjson",
        ),
        (
            marked("type: kubernetes.io/tls\nstringData: {tls.crt: @}"),
            "type kubernetes.io/tls needs tls.key",
        ),
        (
            marked("type: kubernetes.io/service-account-token\nstringData: {a: @}"),
            "Secrets of type kubernetes.io/service-account-token are refused",
        ),
        (raw("apiVersion: v1\nkind: Secret\nstringData: {a: @}\n"), "metadata: missing"),
        (
            raw("apiVersion: v1\nkind: Secret\nmetadata: {namespace: prod}\nstringData: {a: @}\n"),
            "metadata.name: missing",
        ),
        (
            raw(
                "apiVersion: v1\nkind: Secret\nmetadata: {generateName: db-}\nstringData: {a: @}\n",
            ),
            "metadata.generateName: the API server would choose the name",
        ),
        (
            raw("apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: @}\n"),
            "db: scope strict needs a namespace, and none is named",
        ),
        (
            raw(
                "apiVersion: v1\nkind: Secret\nmetadata: {name: Db, namespace: prod}\nstringData: {a: @}\n",
            ),
            "key a: the name is not a DNS subdomain",
        ),
        (
            raw("apiVersion: v1\nkind: Secret\nmetadata: {name: db, labels: {a: [@]}}\n"),
            "metadata.labels.a: not text; quote it",
        ),
        (
            raw("apiVersion: v1\nkind: Secret\nmetadata: {name: db, labels: @}\n"),
            "metadata.labels: not a mapping of text to text",
        ),
        (
            raw(
                "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod, annotations: {a: \"is @.\"}}\nstringData: {k: @}\n",
            ),
            "annotation a contains the plaintext of key k",
        ),
        (
            raw("apiVersion: v1\nkind: List\nitems: @\n"),
            "items: the items of a List must be a list",
        ),
        ("apiVersion: v1\nkind: List\nitems: []\n".into(), "items: the list is empty"),
        (
            raw(
                "apiVersion: v1\nkind: SecretList\nitems: [{apiVersion: v1, kind: ConfigMap, data: {a: @}}]\n",
            ),
            "document 1, item 1, line 3: kind: does not match the kind of the list",
        ),
        (
            raw(
                "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: a, namespace: b}\n  stringData: {a: @}\n- @\n",
            ),
            "document 1, item 2, line 8: not a Kubernetes object",
        ),
        (
            raw(
                "{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n \"stringData\": {\"a\": \"@\", \"a\": \"@\"}}",
            ),
            "document 1, line 2, column 52: duplicate key",
        ),
        (
            raw("{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"stringData\": {\"a\": \"@"),
            "in.yaml: document 1, line 1",
        ),
    ]
}

#[test]
fn malformed_input_is_refused_as_a_whole_with_its_place_and_not_quoted() {
    let sandbox = Sandbox::with_keys();
    for (input, message) in [unreadable(), mistyped(), unsealable()].concat() {
        sandbox.write("in.yaml", &input);
        for output in [&["-o", "out.yaml"][..], &[]] {
            let mut args = vec!["seal", "-R", "x25519.pub", "in.yaml"];
            args.extend(output);
            let run = sandbox.run(&args);
            assert_eq!(run.code, 2, "{input}\n{}", run.stderr);
            assert_eq!(run.stdout, "", "{input}");
            assert!(run.stderr.contains(message), "{input}\n{}", run.stderr);
            assert_no_marker(&input, &run);
            assert!(!sandbox.path("out.yaml").exists(), "{input}");
        }
        // Other commands that read it do not quote it either.
        for verb in [&["unseal", "-i", "x25519.txt"][..], &["inspect"], &["lint"]] {
            let run = sandbox.run(&[verb, &["in.yaml"]].concat());
            assert_no_marker(&input, &run);
        }
    }
}

#[test]
fn a_malformed_document_in_the_middle_stops_everything() {
    let sandbox = Sandbox::with_keys();
    let good = secret(&format!("stringData: {{a: {MARKER}}}"));
    sandbox.write("in.yaml", format!("{good}---\n{good}\n  - x: {MARKER}\n---\n{good}"));
    let run = sandbox.run(&["seal", "-R", "x25519.pub", "-o", "out.yaml", "in.yaml"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert_eq!(
        run.stderr,
        "error: in.yaml: document 2, line 11, column 3: not valid YAML: the indentation or a quote is wrong\n"
    );
    assert_no_marker("middle", &run);
    assert!(!sandbox.path("out.yaml").exists());
}

#[test]
fn input_cut_anywhere_is_sealed_whole_or_not_at_all() {
    let sandbox = Sandbox::with_keys();
    let whole = secret(&format!("stringData:\n  a: \"{MARKER}\"\n  b: '{MARKER}'"));
    for end in (0..whole.len()).step_by(7) {
        sandbox.write("in.yaml", &whole[..end]);
        let run = sandbox.run(&["seal", "-R", "x25519.pub", "in.yaml"]);
        assert!(run.code == 0 || run.code == 2 && run.stdout.is_empty(), "{end}");
        assert_no_marker(&whole[..end], &run);
    }
}

#[test]
fn a_sealed_value_cut_anywhere_does_not_open() {
    let sandbox = Sandbox::with_keys();
    let whole = std::fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let start = whole.find("user: ").unwrap() + "user: ".len();
    let end = start + whole[start..].find('\n').unwrap();
    for end in start..end {
        sandbox.write("in.yaml", &whole[..end]);
        let run = sandbox.run(&["unseal", "-i", "x25519.txt", "in.yaml"]);
        assert!(matches!(run.code, 1 | 2) && run.stdout.is_empty(), "{end}: {}", run.stdout);
    }
}

#[test]
fn a_damaged_or_foreign_value_exits_with_1_and_a_malformed_one_with_2() {
    let sandbox = Sandbox::with_keys();
    let sealed = std::fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let with_user = |value: &str| {
        let line = sealed.lines().find(|line| line.contains("user: ")).unwrap();
        sealed.replace(line, &format!("    user: {value}"))
    };
    let user = sealed.lines().find_map(|line| line.split_once("user: ")).unwrap().1;
    let damaged = format!("{}AAAA", &user[..user.len() - 4]);
    for (value, code, message) in [
        (
            damaged.as_str(),
            1,
            "sealed.yaml: document 1, line 10: prod/db: key user: damaged: it was changed after it was sealed",
        ),
        (&user[..200], 2, "line 10: prod/db: key user: malformed at byte"),
        (MARKER, 2, "key user: not base64, so not a sealed value"),
        ("aHVudGVyMi1tYXJrZWQ=", 2, "key user: not an age file"),
        ("5", 2, "spec.sealedData.user: not text; quote it"),
    ] {
        sandbox.write("sealed.yaml", with_user(value));
        let run = sandbox.run(&["unseal", "-i", "x25519.txt", "sealed.yaml"]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{value}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_no_marker(value, &run);
        assert_no_marker(value, &sandbox.run(&["lint", "sealed.yaml"]));
        assert_no_marker(value, &sandbox.run(&["inspect", "sealed.yaml"]));
    }
    let run = sandbox.run(&[
        "unseal",
        "-i",
        "hybrid.txt",
        example("x25519-sealed.yaml").to_str().unwrap(),
    ]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("no identity is held for") && run.stderr.contains("hint: -i holds "),
        "{}",
        run.stderr
    );
}

#[test]
fn input_that_is_not_text_is_refused_with_its_place() {
    let sandbox = Sandbox::with_keys();
    for (bytes, message) in [
        (&b"a: 1\nb: \xff\xfe"[..], "in.yaml: line 2, column 4: not UTF-8"),
        (b"\xff\xfea\0:\0", "in.yaml: UTF-16, not UTF-8; save it as UTF-8"),
        (b"\x7fELF\x02\x01", "in.yaml: line 1, column 1: a control character"),
        (b"a: \xc3", "in.yaml: line 1, column 4: not UTF-8"),
    ] {
        sandbox.write("in.yaml", bytes);
        let run = sandbox.run(&["seal", "-R", "x25519.pub", "in.yaml"]);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains(message), "{}", run.stderr);
    }
    sandbox.write("in.yaml", vec![b' '; 17 * 1024 * 1024]);
    let run = sandbox.run(&["lint", "in.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("larger than 16 MiB"), "{}", run.stderr);
}

#[test]
fn an_identity_is_never_repeated_wherever_it_appears() {
    let sandbox = Sandbox::with_keys();
    let file = sandbox.read("x25519.txt");
    let identity = file.lines().find(|line| !line.starts_with('#')).unwrap();
    sandbox.write("secret.yaml", secret("stringData: {a: b}"));
    sandbox.write("cut.txt", &identity[..40]);
    sandbox.write("twice.txt", format!("{identity} {identity}\n"));
    for args in [
        &["seal", "-r", identity, "secret.yaml"][..],
        &["seal", "-R", "x25519.txt", "secret.yaml"],
        &["seal", "-R", identity, "secret.yaml"],
        &["seal", identity],
        &["seal", "--recipient", &identity.to_lowercase(), "secret.yaml"],
        &["unseal", "-i", identity, "secret.yaml"],
        &["unseal", "-i", "cut.txt", "secret.yaml"],
        &["unseal", "-i", "twice.txt", "secret.yaml"],
        &["unseal", identity],
        &["keys", identity],
        &["keys", "activate", identity],
        &["keys", "activate", "-r", identity, "--holder", "us"],
        &["keys", "restore", identity],
        &["keys", "restore", "-i", identity, "x25519.txt"],
        &["keys", "generate", "-o", &format!("{identity}/x")],
        &["keys", "generate", "--type", identity],
        &["inspect", "x25519.txt"],
        &["seal", "-R", "x25519.pub", "x25519.txt"],
    ] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
        assert!(!run.stderr.to_uppercase().contains(&identity[16..36]), "{}", run.stderr);
    }
}
