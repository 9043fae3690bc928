//! Trees and streams: what is checked, by which pins, and what is allowed.

use std::fs;

use serde_json::{Value, json};

use super::SECRET;
use crate::sandbox::{Sandbox, git};

/// Rule and file of each finding of the current folder, sorted.
fn found(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<(String, String)>) {
    let report = report(sandbox, args);
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = report.1["findings"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        findings.map(|finding| (text(finding, "rule"), text(finding, "file"))).collect();
    found.sort();
    (report.0, found)
}

fn report(sandbox: &Sandbox, args: &[&str]) -> (i32, Value) {
    let run = sandbox.run(&[&["lint", "--format", "json"], args].concat());
    assert_ne!(run.stdout, "", "{}", run.stderr);
    (run.code, serde_json::from_str(&run.stdout).unwrap())
}

fn all(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(rule, file)| ((*rule).to_owned(), (*file).to_owned())).collect()
}

/// A Git repository, and recipients by name.
fn repository(names: &[&str]) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    let generate = |name: &&str| {
        let file = format!("{name}.key");
        sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file]).trim().to_owned()
    };
    let recipients = names.iter().map(generate).collect();
    git(&sandbox, &["init", "--quiet"]);
    sandbox.write(".gitignore", "*.key\n");
    (sandbox, recipients)
}

/// Seals the Secret `db` of a namespace into a file.
fn seal(sandbox: &Sandbox, path: &str, namespace: &str, recipients: &[&str]) {
    let path = sandbox.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut args = vec!["seal"];
    args.extend(recipients.iter().flat_map(|recipient| ["-r", recipient]));
    let secret = SECRET.replace("namespace: prod", &format!("namespace: {namespace}"));
    let run = sandbox.run_with_input(&args, secret.as_bytes());
    assert_eq!(run.code, 0, "{}", run.stderr);
    fs::write(path, run.stdout).unwrap();
}

fn pin(recipient: &str, holder: &str, state: &str) -> String {
    format!(
        "    - {{recipient: {recipient}, holder: {holder}, state: {state}, fetched: 2026-11-21}}\n"
    )
}

#[test]
fn a_tree_is_the_files_that_git_tracks_or_does_not_ignore() {
    let (sandbox, _) = repository(&["mine"]);
    sandbox.write(".gitignore", "*.key\n*.local.yaml\n");
    let identity = sandbox.read("mine.key");
    sandbox.write("notes.txt", format!("the key:\n{identity}"));
    sandbox.write("a.local.yaml", SECRET);
    sandbox.write("b.local.yaml", SECRET);
    sandbox.write("c.yaml", "a: 1\n");
    sandbox.write("d.yaml.orig", SECRET);
    sandbox.write("image.png", [b"\x89PNG\0", identity.as_bytes()].concat());
    let secrets = [("age-identity", "notes.txt"), ("plaintext-secret", "d.yaml.orig")];
    assert_eq!(found(&sandbox, &["."]), (1, all(&secrets)));
    git(&sandbox, &["add", "--force", "a.local.yaml", "mine.key"]);
    let tracked = [
        ("age-identity", "mine.key"),
        ("age-identity", "notes.txt"),
        ("plaintext-secret", "a.local.yaml"),
        ("plaintext-secret", "d.yaml.orig"),
    ];
    assert_eq!(found(&sandbox, &["."]), (1, all(&tracked)));
    fs::create_dir(sandbox.path("sub")).unwrap();
    sandbox.write("sub/e.local.yaml", SECRET);
    git(&sandbox, &["add", "--force", "sub/e.local.yaml"]);
    assert_eq!(
        found(&sandbox, &["sub", "c.yaml"]).1,
        all(&[("plaintext-secret", "sub/e.local.yaml")])
    );
}

#[test]
fn values_are_sealed_to_exactly_the_pins_of_their_environment() {
    let (sandbox, keys) = repository(&["eu", "old", "recovery", "dev", "stranger"]);
    let [eu, old, recovery, dev, stranger] = &keys[..] else { panic!() };
    let prod =
        pin(eu, "eu", "Active") + &pin(old, "eu", "Retired") + &pin(recovery, "safe", "Active");
    sandbox.write(
        "bulla.yaml",
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    namespace: prod\n    recipients:\n{prod}  dev:\n    paths: [dev/**]\n    recipients:\n{}",
            pin(dev, "dev", "Active")
        ),
    );
    let table: [(&str, &str, &[&str], &[&str]); 9] = [
        ("prod/right", "prod", &[eu, recovery], &[]),
        ("prod/missing", "prod", &[eu], &["missing-recipient"]),
        // That the new key is missing too is not a second finding.
        ("prod/retired", "prod", &[old, recovery], &["retired-key"]),
        ("prod/both", "prod", &[old], &["missing-recipient", "retired-key"]),
        ("prod/unknown", "prod", &[eu, recovery, stranger], &["unknown-key"]),
        ("prod/unexpected", "prod", &[eu, recovery, dev], &["unexpected-recipient"]),
        ("prod/elsewhere", "dev", &[eu, recovery], &["namespace-mismatch"]),
        ("dev/right", "dev", &[dev], &[]),
        ("test/homeless", "test", &[eu], &["no-environment"]),
    ];
    for (name, namespace, recipients, rules) in table {
        let file = format!("{name}.yaml");
        seal(&sandbox, &file, namespace, recipients);
        let findings = report(&sandbox, &[&file]).1["findings"].clone();
        // Both values of the file have the same mistake.
        let mut found: Vec<_> =
            findings.as_array().unwrap().iter().map(|it| it["rule"].as_str().unwrap()).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, rules, "{name}");
    }
    let stranger = report(&sandbox, &["prod/unexpected.yaml"]).1["findings"][0]["message"].clone();
    let stranger = stranger.as_str().unwrap();
    assert!(
        stranger.starts_with("sealed to ")
            && stranger.ends_with(" of dev, which is pinned for environment dev"),
        "{stranger}"
    );
    let deny = ["--deny", "warnings", "prod/retired.yaml"];
    assert_eq!(report(&sandbox, &["prod/retired.yaml"]).0, 0);
    assert_eq!(report(&sandbox, &deny).0, 1);
}

#[test]
fn values_are_compared_with_the_namespace_of_their_environment() {
    let (sandbox, keys) = repository(&["eu"]);
    let config = |namespace: &str| {
        format!(
            "environments:\n  prod:\n    paths: ['*.yaml']\n    namespace: {namespace}\n    recipients:\n{}",
            pin(&keys[0], "eu", "Active")
        )
    };
    seal(&sandbox, "db.yaml", "prod", &[&keys[0]]);
    sandbox.write("db.yaml", sandbox.read("db.yaml").replace("  namespace: prod\n", ""));
    sandbox.write("bulla.yaml", config("prod"));
    assert_eq!(found(&sandbox, &["db.yaml"]), (0, vec![]));
    sandbox.write("bulla.yaml", config("dev"));
    assert_eq!(
        found(&sandbox, &["db.yaml"]),
        (1, all(&[("wrong-binding", "db.yaml"), ("wrong-binding", "db.yaml")]))
    );
}

#[test]
fn streams_are_checked_as_tools_print_them() {
    let (sandbox, keys) = repository(&["eu", "dev"]);
    sandbox.write(
        "bulla.yaml",
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n{}  dev:\n    paths: [dev/**]\n    recipients:\n{}",
            pin(&keys[0], "eu", "Active"),
            pin(&keys[1], "dev", "Active")
        ),
    );
    seal(&sandbox, "db.yaml", "prod", &[&keys[0]]);
    let sealed = sandbox.read("db.yaml");
    let kustomize = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: prod\n---\n{sealed}---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: prod\n"
    );
    let helm = format!(
        "---\n# Source: shop/templates/db.yaml\n{sealed}---\n# Source: shop/templates/empty.yaml\n---\n# Source: shop/templates/secret.yaml\n{SECRET}"
    );
    let lint = |args: &[&str], stream: &str| {
        let run = sandbox
            .run_with_input(&[&["lint", "--format", "concise"], args].concat(), stream.as_bytes());
        (run.code, run.stdout + &run.stderr)
    };
    let summary =
        "1 SealedSecret, 2 values: 0 errors, 0 warnings; 2 objects of other kinds skipped\n";
    assert_eq!(lint(&["-"], &kustomize), (0, summary.to_owned()));
    assert_eq!(lint(&["-e", "prod", "-"], &kustomize), (0, summary.to_owned()));
    let (code, text) = lint(&["-e", "dev", "-"], &kustomize);
    assert_eq!(code, 1);
    assert_eq!(text.matches("[unexpected-recipient]").count(), 2, "{text}");
    assert_eq!(text.matches("[missing-recipient]").count(), 2, "{text}");
    let (code, text) = lint(&["-"], &helm);
    assert_eq!(code, 1);
    let line = helm.lines().position(|line| line.starts_with("stringData")).unwrap() + 1;
    let start = format!("<stdin>:{line}:1: error: document 2, prod/db: a plaintext Secret");
    assert!(text.starts_with(&start), "{text}");
    let twice = format!("{sealed}---\n{sealed}");
    let (code, text) = lint(&["-"], &twice);
    assert_eq!(code, 0);
    assert!(text.contains("warning: document 2, prod/db: the same SealedSecret is in <stdin>, line 1 [duplicate-object]"), "{text}");
    // Unreadable input is not skipped.
    let (code, text) = lint(&["-"], "a: b: c\n");
    assert_eq!(code, 2);
    assert!(text.starts_with("error: <stdin>: document 1, line 1"), "{text}");
    let (code, text) = lint(&[], &kustomize);
    assert_eq!(
        (code, text.as_str()),
        (
            2,
            "error: no FILE given, but something is piped in\nhint: pass - to check the piped input, or . to check the current folder\n"
        )
    );
    let (code, text) = lint(&["-e", "test", "-"], &kustomize);
    assert_eq!(code, 2);
    assert!(text.contains("hint: it has: dev, prod"), "{text}");
}

#[test]
fn templates_and_broken_manifests_are_told_apart() {
    let (sandbox, _) = repository(&[]);
    fs::create_dir_all(sandbox.path("chart/templates")).unwrap();
    let template = |kind: &str| format!("{{{{- if .Values.a }}}}\nkind: {kind}\n{{{{- end }}}}\n");
    sandbox.write("chart/templates/a.yaml", template("Deployment"));
    sandbox.write("chart/templates/b.yaml", template("Secret"));
    sandbox.write("chart/templates/c.tpl", template("\"Secret\""));
    sandbox.write("chart/templates/d.yaml", "<<<<<<< HEAD\napiVersion: bulla.dev/v1alpha1\n");
    sandbox.write("chart/templates/e.yaml", "a: b: c\n");
    sandbox.write("chart/README.md", "kind: Secret\napiVersion: bulla.dev/v1alpha1\n");
    let expected = [
        ("malformed-manifest", "chart/templates/d.yaml"),
        ("unrendered-template", "chart/templates/b.yaml"),
        ("unrendered-template", "chart/templates/c.tpl"),
    ];
    assert_eq!(found(&sandbox, &["."]), (1, all(&expected)));
    assert_eq!(report(&sandbox, &["."]).1["otherFiles"], 2);
}

#[test]
fn plaintext_is_found_in_every_disguise() {
    let (sandbox, recipients) = repository(&["mine"]);
    let identity = "apiVersion: v1\nkind: Secret\ntype: bulla.dev/identity\nmetadata: {name: a}\ndata: {identity: aHVudGVyMg==}\n";
    sandbox.write("identity.yaml", identity);
    let backup = identity.replace("bulla.dev/identity", "bulla.dev/identity-backup");
    seal(&sandbox, "sealed.yaml", "prod", &[&recipients[0]]);
    let sealed: Value = yaml_serde::from_str(&sandbox.read("sealed.yaml")).unwrap();
    let sealed = sealed["spec"]["sealedData"].as_object().unwrap().values().next().unwrap().clone();
    sandbox.write("backup.yaml", backup.replace("aHVudGVyMg==", sealed.as_str().unwrap()));
    sandbox.write("no-backup.yaml", backup);
    sandbox.write(
        "empty.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: ''}\n",
    );
    sandbox.write(
        "kustomization.yaml",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nsecretGenerator:\n- name: a\n  literals: [a=hunter2]\n",
    );
    sandbox.write("list.json", r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"a":"eA=="}}]}"#);
    let expected = [
        ("plaintext-secret", "list.json"),
        ("plaintext-secret", "no-backup.yaml"),
        ("private-identity", "identity.yaml"),
        ("secret-generator", "kustomization.yaml"),
    ];
    assert_eq!(found(&sandbox, &["."]), (1, all(&expected)));
}

#[test]
fn a_duplicate_object_of_an_environment_is_reported() {
    let (sandbox, keys) = repository(&["eu"]);
    for file in ["prod/a.yaml", "prod/b.yaml", "dev/a.yaml"] {
        seal(&sandbox, file, "prod", &[&keys[0]]);
    }
    // Without environments the files may be for different clusters.
    assert_eq!(found(&sandbox, &["."]), (0, vec![]));
    let pins = pin(&keys[0], "eu", "Active");
    sandbox.write(
        "bulla.yaml",
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n{pins}  dev:\n    paths: [dev/**]\n    recipients:\n{pins}"
        ),
    );
    assert_eq!(found(&sandbox, &["."]), (0, all(&[("duplicate-object", "prod/b.yaml")])));
}

#[test]
fn an_allowed_finding_has_a_reason_and_is_counted() {
    let (sandbox, _) = repository(&["mine"]);
    let allow = "# bulla-lint: allow plaintext-secret: a fixture\n";
    let lint = |content: &str| {
        sandbox.write("a.yaml", content);
        let (code, report) = report(&sandbox, &["a.yaml"]);
        let rules = |field: &str| {
            let findings = report[field].as_array().unwrap().iter();
            let mut rules: Vec<_> = findings.map(|it| it["rule"].as_str().unwrap()).collect();
            rules.sort_unstable();
            rules.join(" ")
        };
        (code, rules("findings"), rules("allowed"))
    };
    let told =
        |code, findings: &str, allowed: &str| (code, findings.to_owned(), allowed.to_owned());
    assert_eq!(lint(&format!("{allow}{SECRET}")), told(0, "", "plaintext-secret"));
    // Each document has its own.
    let two = format!("{allow}{SECRET}---\n{}", SECRET.replace("db", "other"));
    assert_eq!(lint(&two), told(1, "plaintext-secret", "plaintext-secret"));
    let behind = format!("{SECRET}---\n{allow}{}", SECRET.replace("db", "other"));
    assert_eq!(lint(&behind), told(1, "plaintext-secret", "plaintext-secret"));
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    assert_eq!(lint(&format!("{allow}{config_map}")), told(0, "unused-allowance", ""));
    // An allowance for something unchecked is not reported as unused.
    let pins = "# bulla-lint: allow unknown-key: x\n";
    assert_eq!(lint(&format!("{pins}{config_map}")), told(0, "", ""));
    for bad in ["allow plaintext-secret", "allow hunter2: x", "allow bad-allowance: x", "off"] {
        let text = format!("# bulla-lint: {bad}\n{SECRET}");
        assert_eq!(lint(&text), told(1, "bad-allowance plaintext-secret", ""), "{bad}");
    }
    let json = r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "annotations": {"bulla.dev/lint-allow": "plaintext-secret: a fixture"}}, "stringData": {"a": "b"}}"#;
    assert_eq!(lint(json), told(0, "", "plaintext-secret"));
    assert_eq!(
        lint(&json.replace(": a fixture", "")),
        told(1, "bad-allowance plaintext-secret", "")
    );
    assert_eq!(lint(&json.replace("\"b\"", "\"\"")), told(0, "unused-allowance", ""));

    let identity = sandbox.read("mine.key");
    sandbox.write("a.yaml", "");
    // A valid reason is not repeated.
    let key = identity.lines().find(|line| !line.starts_with('#')).unwrap();
    sandbox.write("key.txt", format!("# bulla-lint: allow age-identity: {key}\n"));
    let (code, report) = report(&sandbox, &["."]);
    let reason = &report["allowed"][0]["reason"];
    assert_eq!((code, reason), (0, &json!("(not shown: it contains an identity)")));
    sandbox.write("key.txt", "");
    // As editors on Windows write it.
    let text = format!("\u{feff}# bulla-lint: allow age-identity: a test key\n{identity}");
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    sandbox.write("utf16.txt", utf16);
    assert_eq!(found(&sandbox, &["."]), (0, vec![]));
    sandbox.write("utf16.txt", "");
    sandbox.write(
        "key.go",
        format!("// bulla-lint: allow age-identity: a test key\nconst key = `{identity}`\n"),
    );
    sandbox.write("a.yaml", format!("{allow}{SECRET}"));
    let run = sandbox.run(&["lint", "."]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert_eq!(
        run.stderr,
        "0 SealedSecrets, 0 values: 0 errors, 0 warnings; 2 findings allowed with a reason, 2 of them with a plaintext secret\n"
    );
}

#[test]
fn bulla_yaml_allows_findings_in_whole_files() {
    let (sandbox, _) = repository(&[]);
    fs::create_dir_all(sandbox.path("tests")).unwrap();
    sandbox.write("tests/a.json", r#"{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": "eA=="}}"#);
    sandbox.write("b.yaml", SECRET);
    let lint = |allow: &str, path: &str| {
        sandbox.write("bulla.yaml", format!("lint:\n  allow:\n{allow}\nenvironments: {{}}\n"));
        found(&sandbox, &[path])
    };
    let allow = "  - {rule: plaintext-secret, paths: [tests/**], reason: a fixture}";
    let secret = all(&[("plaintext-secret", "b.yaml")]);
    assert_eq!(lint(allow, "."), (1, secret));
    assert_eq!(lint(allow, "tests"), (0, vec![]));
    // Nothing is reported for unchecked files.
    assert_eq!(lint(&allow.replace("tests/**", "other/**"), "tests/a.json").1.len(), 1);
    let unused = allow.replace("plaintext-secret", "age-identity");
    assert!(lint(&unused, "tests").1.contains(&("unused-allowance".into(), "bulla.yaml".into())));
    let unknown = allow.replace("plaintext-secret", "hunter2");
    let (code, found) = lint(&unknown, "tests");
    assert_eq!(code, 1);
    assert!(found.contains(&("bad-allowance".into(), "bulla.yaml".into())), "{found:?}");
    let run = sandbox.run(&["lint", "--format", "concise", "tests"]);
    assert!(run.stdout.starts_with("bulla.yaml:3:6: error: no such rule"), "{}", run.stdout);
    for (wrong, message) in [
        (allow.replace("reason", "because"), "unknown field"),
        (allow.replace("a fixture", "''"), "expected a reason"),
        (allow.replace("[tests/**]", "[../x]"), "this path leads out of the repository"),
    ] {
        sandbox.write("bulla.yaml", format!("lint:\n  allow:\n{wrong}\nenvironments: {{}}\n"));
        let run = sandbox.run(&["lint", "tests"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        assert!(run.stderr.contains(message) && run.stderr.contains("line 3"), "{}", run.stderr);
    }
}

#[test]
fn an_unreadable_named_file_does_not_hide_findings_in_the_others() {
    let sandbox = Sandbox::new();
    sandbox.write("a.yaml", SECRET);
    sandbox.write("b.yaml", "a: b: c\n");
    let run = sandbox.run(&["lint", "--format", "concise", "b.yaml", "a.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stdout.starts_with("a.yaml:4:1: error: "), "{}", run.stdout);
    assert!(run.stderr.starts_with("error: b.yaml: document 1, line 1"), "{}", run.stderr);
}
