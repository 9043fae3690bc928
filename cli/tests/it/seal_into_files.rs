//! `seal -o` into an existing file: new values are merged, and everything else stays.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, documents, plaintext};

const FIRST: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod, labels: {team: storage, old: x}}\nstringData: {a: one, b: two}\n";

/// What `kubectl get secret -o yaml` prints.
const EXPORTED: &str = "apiVersion: v1\ndata:\n  b: bmV3\n  c: YWRkZWQ=\nkind: Secret\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{}'\n  creationTimestamp: \"2026-01-01T00:00:00Z\"\n  labels:\n    app.kubernetes.io/instance: argo\n    team: infra\n  name: db\n  namespace: prod\n  resourceVersion: \"7\"\n  uid: 1\ntype: Opaque\n";

/// With `out.yaml`: a comment, a ConfigMap, and `prod/db` with comments, sealed to x25519.
fn sandbox() -> (Sandbox, String) {
    let sandbox = Sandbox::with_keys();
    sandbox.write("first.yaml", FIRST);
    let sealed = sandbox.done(&["seal", "-R", "x25519.pub", "first.yaml"]);
    let sealed = sealed
        .replace("    a: ", "    # of a\n    a: ")
        .replace("  template:", "\n  template: # c");
    let out = format!(
        "# top\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: 'c'}}\n---\n{sealed}# end\n"
    );
    sandbox.write("out.yaml", &out);
    (sandbox, out)
}

fn seal(sandbox: &Sandbox, secret: &str, args: &[&str]) -> Run {
    let args = [&["seal", "-R", "x25519.pub", "-o", "out.yaml"], args].concat();
    sandbox.run_with_input(&args, secret.as_bytes())
}

fn seal_done(sandbox: &Sandbox, secret: &str, args: &[&str]) -> String {
    let run = seal(sandbox, secret, args);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    run.stderr
}

/// The lines that only `new` has, and the lines that only `old` has.
fn differences<'a>(old: &'a str, new: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let lines = |text: &'a str| text.lines().collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let only = |one: &[&'a str], other: &[&'a str]| {
        one.iter().copied().filter(|line| !other.contains(line)).collect()
    };
    (only(&old, &new), only(&new, &old))
}

fn starts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| line.split(" YWdl").next().unwrap().to_owned()).collect()
}

fn opened(sandbox: &Sandbox) -> Value {
    let sealed = sandbox.read("out.yaml");
    let sealed = sealed.split_once("---\n").unwrap().1;
    sandbox.write("sealed.yaml", sealed);
    documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "sealed.yaml"])).remove(0)
}

#[test]
fn only_the_given_values_change() {
    let (sandbox, out) = sandbox();
    let told = seal_done(&sandbox, EXPORTED, &[]);
    let new = sandbox.read("out.yaml");
    let (gone, come) = differences(&out, &new);
    assert_eq!(starts(&gone), ["    b:", "        team: storage"]);
    assert_eq!(starts(&come), ["    b:", "    c:", "        team: infra"]);
    assert_eq!(new.lines().count(), out.lines().count() + 1);
    let expected = [
        "note: <stdin>: document 1, line 1: prod/db: label app.kubernetes.io/instance is left out: tools use it to track their own objects",
        "out.yaml: prod/db: b: changed, 3 bytes, scope strict, sealed to 91efc95f9aa3a7fb",
        "out.yaml: prod/db: c: added, 5 bytes, scope strict, sealed to 91efc95f9aa3a7fb",
        "out.yaml: prod/db: template.metadata.labels.team: set",
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
    let secret = opened(&sandbox);
    let values = ["a", "b", "c"].map(|key| plaintext(&secret, key));
    assert_eq!(values, [&b"one"[..], b"new", b"added"]);
    // Windows' line ends and a byte order mark stay too.
    let windows = format!("\u{feff}{}", out.replace('\n', "\r\n"));
    sandbox.write("out.yaml", &windows);
    seal_done(&sandbox, EXPORTED, &[]);
    let new = sandbox.read("out.yaml");
    assert_eq!(starts(&differences(&windows, &new).1), ["    b:", "    c:", "        team: infra"]);
    assert!(new.starts_with('\u{feff}') && !new.replace("\r\n", "").contains('\n'));
}

#[test]
fn with_an_identity_equal_values_stay() {
    let (sandbox, out) = sandbox();
    seal_done(&sandbox, FIRST, &[]);
    let again = sandbox.read("out.yaml");
    assert_eq!(starts(&differences(&out, &again).1), ["    a:", "    b:"]);
    sandbox.write("out.yaml", &out);
    let told = seal_done(&sandbox, FIRST, &["-i", "x25519.txt"]);
    assert_eq!(told, "out.yaml: prod/db: a: unchanged\nout.yaml: prod/db: b: unchanged\n");
    assert_eq!(sandbox.read("out.yaml"), out);
    // Another value, other recipients, another scope, another identity: each is sealed again.
    let changed = FIRST.replace("one", "eins");
    seal_done(&sandbox, &changed, &["-i", "x25519.txt"]);
    assert_eq!(starts(&differences(&out, &sandbox.read("out.yaml")).1), ["    a:"]);
    let other = sandbox.done(&["keys", "generate", "--type", "x25519", "-o", "other.txt"]);
    for args in [
        &["-i", "x25519.txt", "-r", other.trim()][..],
        &["-i", "x25519.txt", "--scope", "cluster"],
        &["-i", "other.txt"],
    ] {
        sandbox.write("out.yaml", &out);
        seal_done(&sandbox, FIRST, args);
        let new = sandbox.read("out.yaml");
        assert_eq!(starts(&differences(&out, &new).1), ["    a:", "    b:"], "{args:?}");
    }
}

#[test]
fn a_new_secret_is_added_at_the_end_of_the_file() {
    let (sandbox, out) = sandbox();
    let two = FIRST.replace("name: db", "name: web") + "---\n" + &FIRST.replace("prod", "dev");
    let told = seal_done(&sandbox, &two, &["--scope", "namespace"]);
    assert_eq!(told, "out.yaml: prod/web: added\nout.yaml: dev/db: added\n");
    let new = sandbox.read("out.yaml");
    assert!(new.starts_with(&format!("{out}---\napiVersion: bulla.dev/v1alpha1\n")), "{new}");
    assert_eq!(sandbox.run(&["lint", "out.yaml"]).code, 0);
    // Of two with the same name, the one in the namespace is chosen.
    seal_done(&sandbox, &FIRST.replace("prod", "dev").replace("two", "zwei"), &[]);
    let newer = sandbox.read("out.yaml");
    assert!(newer.starts_with(&out) && newer != new);
    // JSON can be merged into, but nothing can follow it.
    let json = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}"#;
    sandbox.write("out.yaml", json);
    let run = seal(&sandbox, FIRST, &[]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            2,
            "error: out.yaml: cannot add a second object to a JSON file\nhint: write it to another file\n"
        )
    );
    assert_eq!(sandbox.read("out.yaml"), json);
}

#[test]
fn json_and_lists_are_merged_into() {
    let (sandbox, out) = sandbox();
    let object: Value = yaml_serde::from_str(out.split_once("---\n").unwrap().1).unwrap();
    let before = &object["spec"]["sealedData"];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [object]});
    for (text, pointer) in [
        (format!("{object:#}\n"), ""),
        (format!("{list:#}\n"), "/items/0"),
        (list.to_string(), "/items/0"),
    ] {
        sandbox.write("out.yaml", &text);
        seal_done(&sandbox, EXPORTED, &[]);
        let new = sandbox.read("out.yaml");
        let parsed: Value = serde_json::from_str(&new).unwrap();
        let object = parsed.pointer(pointer).unwrap();
        let values = &object["spec"]["sealedData"];
        assert_eq!(values["a"], before["a"]);
        assert!(values["b"] != before["b"] && values["c"].is_string());
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["team"], "infra");
        assert!(differences(&text, &new).1.len() <= 3, "{new}");
    }
}

#[test]
fn a_manifest_without_a_namespace_gets_that_of_its_values() {
    let (sandbox, out) = sandbox();
    let bare = out.replace("  namespace: prod\n", "");
    sandbox.write("out.yaml", &bare);
    seal_done(&sandbox, EXPORTED, &[]);
    assert!(!sandbox.read("out.yaml").contains("namespace:"));
    let run = seal(&sandbox, &EXPORTED.replace("prod", "dev"), &[]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains(
        "the value of a is sealed for namespace prod, so the others cannot be sealed for dev"
    ));
    // All values sealed again can be for another namespace.
    sandbox.write("out.yaml", &bare);
    seal_done(&sandbox, &FIRST.replace("prod", "dev"), &[]);
    let again = sandbox.read("out.yaml").replace("  name: db\n", "  name: db\n  namespace: dev\n");
    sandbox.write("out.yaml", again);
    assert_eq!(plaintext(&opened(&sandbox), "a"), b"one");
}

#[test]
fn contradictions_are_refused_and_change_nothing() {
    let (sandbox, out) = sandbox();
    let plain = format!("{out}---\n{FIRST}");
    let twice = format!("{out}---\n{}", out.split_once("---\n").unwrap().1);
    let future = out.replace("v1alpha1", "v9");
    let alias = out
        .replace("    b: ", "    b: &x ")
        .replace("\n  template: # c", "    e: *x\n  template: # c");
    for (file, secret, args, message) in [
        (
            &out,
            EXPORTED,
            &["--scope", "cluster"][..],
            "the existing value of a has scope strict, but --scope is cluster\nhint: leave --scope out",
        ),
        (&out, EXPORTED, &["-n", "dev"], "the manifest names prod, but -n names dev"),
        (&plain, EXPORTED, &[], "prod/db: the file has a plaintext Secret\nhint: seal it too"),
        (&twice, EXPORTED, &[], "the file has this object twice\nhint: remove one of them"),
        (&future, EXPORTED, &[], "unknown version; this bulla supports bulla.dev/v1alpha1"),
        (
            &alias,
            EXPORTED,
            &[],
            "cannot be edited without changing something else in it\nhint: write the object without aliases",
        ),
        (
            &out,
            &format!("{FIRST}---\n{FIRST}"),
            &[],
            "<stdin>: document 2, line 6: prod/db: given twice",
        ),
        (
            &out,
            &EXPORTED.replace("type: Opaque", "type: kubernetes.io/tls"),
            &[],
            "prod/db: type kubernetes.io/tls needs tls.crt",
        ),
        (
            &out,
            &EXPORTED.replace("team: infra", "team: hunter2").replace("YWRkZWQ=", "aHVudGVyMg=="),
            &[],
            "label team contains the plaintext of key c\nhint: ",
        ),
    ] {
        sandbox.write("out.yaml", file);
        let run = seal(&sandbox, secret, args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{message}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert_eq!(&sandbox.read("out.yaml"), file);
    }
}

#[test]
fn part_of_a_typed_secret_is_merged() {
    let (sandbox, _) = sandbox();
    let tls = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\ntype: kubernetes.io/tls\nstringData: {tls.key: k}\n";
    seal_done(&sandbox, &tls.replace("tls.key: k", "tls.key: k, tls.crt: c"), &["--force"]);
    seal_done(&sandbox, tls, &[]);
    // A manifest without a type says nothing about it.
    seal_done(&sandbox, &tls.replace("type: kubernetes.io/tls\n", ""), &[]);
    assert!(sandbox.read("out.yaml").contains("type: kubernetes.io/tls"));
    let told =
        seal_done(&sandbox, &tls.replace("kubernetes.io/tls", "Opaque\nimmutable: true"), &[]);
    assert!(told.contains("template.type: set\n") && told.contains("template.immutable: set\n"));
}

#[test]
fn plaintext_is_replaced_as_a_whole_or_not_at_all() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", FIRST);
    let args = ["seal", "-R", "x25519.pub", "secret.yaml", "-o", "./secret.yaml"];
    let run = sandbox.run(&args);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            2,
            "error: ./secret.yaml would be overwritten by its own sealed copy\nhint: pass --force; without an identity you cannot recover the plaintext\n"
        )
    );
    assert_eq!(sandbox.read("secret.yaml"), FIRST);
    // Other kinds cannot be sealed, so the file is unchanged.
    let mixed = format!("{FIRST}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\n");
    sandbox.write("secret.yaml", &mixed);
    assert_eq!(sandbox.run(&[&args[..], &["--force"]].concat()).code, 2);
    assert_eq!(sandbox.read("secret.yaml"), mixed);
    sandbox.write("secret.yaml", FIRST);
    sandbox.done(&[&args[..], &["--force"]].concat());
    assert_eq!(sandbox.run(&["lint", "secret.yaml"]).code, 0);
}

#[test]
fn plaintext_that_git_would_add_gets_a_warning() {
    let sandbox = Sandbox::with_keys();
    fs::create_dir_all(sandbox.path("tree/sub")).unwrap();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args).current_dir(sandbox.path("tree")).env("HOME", sandbox.path(""));
        assert!(command.output().unwrap().status.success(), "{args:?}");
    };
    git(&["init", "--quiet"]);
    sandbox.write("tree/.gitignore", "ignored.yaml\n");
    for name in ["tree/sub/plain.yaml", "tree/sub/ignored.yaml", "tree/sub/[t]racked.yaml"] {
        sandbox.write(name, FIRST);
    }
    git(&["--literal-pathspecs", "add", "sub/[t]racked.yaml"]);
    let told = |file: &str, args: &[&str]| {
        let run = sandbox.run(&[&["seal", "-R", "x25519.pub", file], args].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stderr
    };
    assert_eq!(
        told("tree/sub/plain.yaml", &[]),
        "warning: tree/sub/plain.yaml is plaintext and Git does not ignore it: delete it, or add it to .gitignore\n"
    );
    assert_eq!(told("tree/sub/ignored.yaml", &[]), "");
    let tracked = told("tree/sub/[t]racked.yaml", &["-o", "tree/sealed.yaml"]);
    assert_eq!(
        tracked,
        "tree/sealed.yaml: wrote prod/db, 2 values\nwarning: tree/sub/[t]racked.yaml is plaintext and Git tracks it: remove it with git rm --cached, and if it was pushed, change the values\n"
    );
    // The replaced file is gone from the work tree, but not from the history.
    let in_place = ["-o", "tree/sub/plain.yaml", "--force"];
    assert_eq!(
        told("tree/sub/plain.yaml", &in_place),
        "tree/sub/plain.yaml: wrote prod/db, 2 values\n"
    );
    let replaced = told("tree/sub/[t]racked.yaml", &["-o", "tree/sub/[t]racked.yaml", "--force"]);
    assert!(replaced.contains("committed values stay in the history"), "{replaced}");
}
