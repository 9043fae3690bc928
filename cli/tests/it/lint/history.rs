//! `bulla lint --base`: which pins count, and how values changed.

use serde_json::Value;

use super::SECRET;
use crate::sandbox::{Sandbox, git};

/// A repository with one commit: `prod/a.yaml`, sealed to the first key, which bulla.yaml pins.
fn repository() -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    let generate = |name: &str| {
        let file = format!("{name}.key");
        sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file]).trim().to_owned()
    };
    let keys: Vec<_> = ["old", "new"].map(generate).into();
    git(&sandbox, &["init", "--quiet"]);
    sandbox.write(".gitignore", "*.key\n");
    std::fs::create_dir(sandbox.path("prod")).unwrap();
    sandbox.write("prod/a.yaml", sealed(&sandbox, &["-r", &keys[0]]));
    let other = SECRET.replace("name: db", "name: other");
    let run = sandbox.run_with_input(&["seal", "-r", &keys[0]], other.as_bytes());
    sandbox.write("prod/b.yaml", run.stdout);
    pin(&sandbox, &keys[0]);
    commit(&sandbox);
    (sandbox, keys)
}

fn commit(sandbox: &Sandbox) {
    git(sandbox, &["add", "."]);
    git(sandbox, &["commit", "--quiet", "--message", "x"]);
}

fn sealed(sandbox: &Sandbox, args: &[&str]) -> String {
    let run = sandbox.run_with_input(&[&["seal"], args].concat(), SECRET.as_bytes());
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout
}

fn pin(sandbox: &Sandbox, recipient: &str) {
    sandbox.write("bulla.yaml", format!("environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n    - {{recipient: {recipient}, holder: eu, state: Active, fetched: 2026-11-21}}\n"));
}

/// Rule, key and line of each finding.
fn lint(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<(String, String, i64)>) {
    let run = sandbox.run(&[&["lint", "--format", "json"], args].concat());
    assert_ne!(run.stdout, "", "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |it: &Value, field: &str| it[field].as_str().unwrap_or_default().to_owned();
    let found =
        findings.map(|it| (text(it, "rule"), text(it, "key"), it["line"].as_i64().unwrap()));
    (run.code, found.collect())
}

fn rules(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<String>) {
    let (code, found) = lint(sandbox, args);
    (code, found.into_iter().map(|(rule, key, _)| format!("{rule} {key}")).collect())
}

const BASE: [&str; 3] = ["--base", "HEAD", "prod"];

#[test]
fn a_rekeyed_value_differs_from_a_changed_one() {
    let (sandbox, keys) = repository();
    assert_eq!(lint(&sandbox, &BASE), (0, vec![]));
    sandbox.done(&["rekey", "-i", "old.key", "-r", &keys[0], "-r", &keys[1], "prod/a.yaml"]);
    let (_, rekeyed) = rules(&sandbox, &["--base", "HEAD", "prod/a.yaml"]);
    assert_eq!(
        rekeyed,
        ["unknown-key password", "rekeyed password", "unknown-key user", "rekeyed user"]
    );
    sandbox.write("prod/a.yaml", sealed(&sandbox, &["-r", &keys[0]]));
    let (code, changed) = lint(&sandbox, &["--base", "HEAD", "prod/a.yaml"]);
    let line = |key: &str| {
        let file = sandbox.read("prod/a.yaml");
        file.lines().position(|it| it.trim_start().starts_with(key)).unwrap() as i64 + 1
    };
    let expected =
        ["password", "user"].map(|key| ("value-changed".to_owned(), key.to_owned(), line(key)));
    assert_eq!((code, changed), (0, expected.into()));
    assert_eq!(lint(&sandbox, &["--deny", "notes", "--base", "HEAD", "prod/a.yaml"]).0, 1);
}

#[test]
fn a_value_for_another_place_is_reported() {
    let (sandbox, keys) = repository();
    sandbox.write("prod/a.yaml", sealed(&sandbox, &["-r", &keys[0], "--scope", "cluster"]));
    let (code, found) = rules(&sandbox, &["--base", "HEAD", "prod/a.yaml"]);
    assert_eq!(code, 0);
    assert_eq!(
        found,
        [
            "binding-changed password",
            "value-changed password",
            "binding-changed user",
            "value-changed user"
        ]
    );
    // A file that was moved is the same object.
    git(&sandbox, &["mv", "prod/a.yaml", "prod/c.yaml"]);
    assert_eq!(rules(&sandbox, &["--base", "HEAD", "prod/c.yaml"]).1, found);
    let run = sandbox.run(&["lint", "--format", "concise", "--base", "HEAD", "prod/c.yaml"]);
    assert!(
        run.stdout.contains("in HEAD it was sealed for key password of prod/db"),
        "{}",
        run.stdout
    );
}

#[test]
fn added_and_removed_keys_are_reported() {
    let (sandbox, _) = repository();
    let file = sandbox.read("prod/a.yaml");
    let line = file.lines().find(|line| line.trim_start().starts_with("user:")).unwrap();
    sandbox.write("prod/a.yaml", file.replace(&format!("{line}\n"), ""));
    assert_eq!(
        rules(&sandbox, &["--base", "HEAD", "prod/a.yaml"]),
        (0, vec!["value-changed user".to_owned()])
    );
}

#[test]
fn a_change_that_pins_its_own_recipient_is_checked_by_the_pins_before_it() {
    let (sandbox, keys) = repository();
    pin(&sandbox, &keys[1]);
    sandbox.done(&["rekey", "--yes", "-i", "old.key", "prod"]);
    assert_eq!(lint(&sandbox, &["prod"]), (0, vec![]));
    let (code, found) = rules(&sandbox, &BASE);
    assert_eq!(code, 1);
    assert_eq!(found[0], "recipients-changed ");
    for rule in ["unknown-key", "missing-recipient", "rekeyed"] {
        for key in ["password", "user"] {
            assert!(found.contains(&format!("{rule} {key}")), "{found:?}");
        }
    }
    let run = sandbox.run(&["lint", "--format", "concise", "--base", "HEAD", "prod"]);
    let first = run.stdout.lines().next().unwrap();
    assert!(
        first.starts_with(
            "bulla.yaml:4:5: warning: the Active recipients of environment prod changed since HEAD: added "
        ),
        "{first}"
    );
    assert_eq!(first.matches(" of eu").count(), 2, "{first}");
    // Once that is the base, its pins count.
    commit(&sandbox);
    assert_eq!(lint(&sandbox, &BASE), (0, vec![]));
    assert_eq!(lint(&sandbox, &["--base", "HEAD~1", "prod"]).0, 1);
}

#[test]
fn a_missing_base_is_refused() {
    let (sandbox, _) = repository();
    let run = sandbox.run(&["lint", "--base", "nowhere", "prod"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.starts_with("error: no such revision: nowhere\n"), "{}", run.stderr);
    assert!(run.stderr.contains("\nhint: "), "{}", run.stderr);
    let elsewhere = Sandbox::new();
    elsewhere.write("a.yaml", SECRET);
    let run = elsewhere.run(&["lint", "--base", "HEAD", "a.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("not in a Git work tree"), "{}", run.stderr);
}
