//! `bulla lint`, with no key.

mod formats;
mod history;
mod tree;
mod tricks;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, documents};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {user: app, password: correct horse}\n";

/// A change to a manifest.
type Change = fn(&mut Value);

/// A sandbox, and the manifest in it that `change` was made to.
fn changed(seal: &[&str], change: impl FnOnce(&mut Value)) -> Sandbox {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", SECRET);
    let mut args = vec!["seal", "-R", "x25519.pub", "secret.yaml"];
    args.extend(seal);
    let mut sealed = documents(&sandbox.done(&args)).remove(0);
    change(&mut sealed);
    sandbox.write("sealed.yaml", yaml_serde::to_string(&sealed).unwrap());
    sandbox
}

/// The exit code, and rule, line and key of each finding.
fn lint(sandbox: &Sandbox) -> (i32, Vec<(String, i64, Option<String>)>) {
    let run = sandbox.run(&["lint", "--format", "json", "sealed.yaml"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let finding = |finding: &Value| {
        (
            finding["rule"].as_str().unwrap().to_owned(),
            finding["line"].as_i64().unwrap(),
            finding["key"].as_str().map(str::to_owned),
        )
    };
    (run.code, report["findings"].as_array().unwrap().iter().map(finding).collect())
}

fn rules(seal: &[&str], change: impl FnOnce(&mut Value)) -> (i32, Vec<String>) {
    let (code, findings) = lint(&changed(seal, change));
    (code, findings.into_iter().map(|(rule, ..)| rule).collect())
}

fn all(rule: &str, count: usize) -> Vec<String> {
    vec![rule.to_owned(); count]
}

#[test]
fn a_value_moved_anywhere_is_found_by_lint_and_not_opened() {
    let moves: [(&str, Change); 3] = [
        ("namespace", |sealed| sealed["metadata"]["namespace"] = json!("dev")),
        ("name", |sealed| sealed["metadata"]["name"] = json!("cache")),
        ("key", |sealed| {
            let value = sealed["spec"]["sealedData"]["user"].take();
            sealed["spec"]["sealedData"] = json!({"admin": value});
        }),
    ];
    for (moved, change) in moves {
        let sandbox = changed(&[], change);
        let (code, findings) = lint(&sandbox);
        assert_eq!(code, 1, "{moved}");
        assert!(findings.iter().all(|(rule, ..)| rule == "wrong-binding"), "{findings:?}");
        let opened = sandbox.run(&["unseal", "-i", "x25519.txt", "sealed.yaml"]);
        assert_eq!((opened.code, opened.stdout.as_str()), (1, ""), "{moved}");
        assert!(opened.stderr.contains("of prod/db, not for key"), "{}", opened.stderr);
    }
    let sandbox = changed(&[], |sealed| {
        let data = &mut sealed["spec"]["sealedData"];
        let (user, password) = (data["user"].take(), data["password"].take());
        *data = json!({"user": password, "password": user});
    });
    let swapped: Vec<_> =
        lint(&sandbox).1.into_iter().map(|(_, line, key)| (line, key.unwrap())).collect();
    assert_eq!(swapped, [(8, "password".to_owned()), (9, "user".to_owned())]);
}

#[test]
fn a_wider_scope_permits_only_what_it_says() {
    let rename: Change = |sealed| sealed["metadata"]["name"] = json!("cache");
    let move_away: Change = |sealed| sealed["metadata"]["namespace"] = json!("dev");
    assert_eq!(rules(&["--scope", "namespace"], rename), (0, all("", 0)));
    assert_eq!(rules(&["--scope", "namespace"], move_away), (1, all("wrong-binding", 2)));
    assert_eq!(rules(&["--scope", "cluster"], move_away), (0, all("", 0)));
}

#[test]
fn without_a_namespace_values_are_compared_with_one_another() {
    let without: Change = |sealed| {
        sealed["metadata"].as_object_mut().unwrap().remove("namespace");
    };
    assert_eq!(rules(&[], without), (0, all("namespace-not-checked", 1)));
    assert_eq!(rules(&["--scope", "cluster"], without), (0, all("", 0)));
    let other = {
        let sandbox = Sandbox::with_keys();
        sandbox.write("secret.yaml", SECRET.replace("prod", "dev"));
        documents(&sandbox.done(&["seal", "-R", "x25519.pub", "secret.yaml"])).remove(0)
    };
    let mixed = rules(&[], |sealed| {
        without(sealed);
        sealed["spec"]["sealedData"]["user"] = other["spec"]["sealedData"]["user"].clone();
    });
    assert_eq!(mixed, (1, vec!["namespace-not-checked".into(), "mixed-namespaces".into()]));
    let renamed = rules(&[], |sealed| {
        without(sealed);
        sealed["metadata"]["name"] = json!("cache");
    });
    assert_eq!(renamed.0, 1);
}

#[test]
fn each_mistake_has_its_rule() {
    let table: [(&str, Change); 21] = [
        ("unknown-field", |it| it["spec"]["encryptedData"] = json!({})),
        ("unknown-field", |it| it["spec"]["template"] = json!({"metadata": {"name": "x"}})),
        ("unknown-field", |it| it["metadata"]["lables"] = json!({})),
        ("unknown-field", |it| it["stringData"] = json!({"a": "b"})),
        ("unknown-version", |it| it["apiVersion"] = json!("bulla.dev/v1beta7")),
        ("schema", |it| it["spec"]["sealedData"]["n"] = json!(5)),
        ("schema", |it| it["spec"]["template"] = json!({"immutable": "yes"})),
        ("schema", |it| it["spec"]["target"] = json!({"policy": "Owned"})),
        ("schema", |it| it["metadata"]["labels"] = json!({"a": true})),
        ("schema", |it| it["spec"]["sealedData"] = json!({})),
        ("schema", |it| it["spec"] = json!(null)),
        ("invalid-name", |it| it["metadata"] = json!({"namespace": "prod"})),
        ("invalid-name", |it| it["metadata"] = json!({"namespace": "prod", "generateName": "db-"})),
        ("invalid-name", |it| it["metadata"]["name"] = json!("DB")),
        ("invalid-namespace", |it| it["metadata"]["namespace"] = json!("prod.eu")),
        ("not-sealed", |it| it["spec"]["sealedData"]["n"] = json!("hunter2")),
        ("not-sealed", |it| it["spec"]["sealedData"]["n"] = json!("aHVudGVyMg==")),
        ("refused-type", |it| {
            it["spec"]["template"] = json!({"type": "kubernetes.io/service-account-token"})
        }),
        ("missing-key", |it| it["spec"]["template"] = json!({"type": "kubernetes.io/ssh-auth"})),
        ("invalid-label", |it| {
            it["spec"]["template"] = json!({"metadata": {"labels": {"a": "b c"}}})
        }),
        ("invalid-label", |it| {
            it["spec"]["template"] = json!({"metadata": {"annotations": {"a/": "b"}}})
        }),
    ];
    for (rule, change) in table {
        let (code, found) = rules(&[], change);
        assert_eq!((code, found), (1, all(rule, 1)), "{rule}");
    }
    let cut = rules(&[], |it| {
        let value = it["spec"]["sealedData"]["user"].as_str().unwrap()[..200].to_owned();
        it["spec"]["sealedData"]["user"] = json!(value);
    });
    assert_eq!(cut, (1, all("malformed-value", 1)));
    let key = rules(&[], |it| {
        let value = it["spec"]["sealedData"]["user"].take();
        it["spec"]["sealedData"] = json!({"us/er": value});
    });
    assert_eq!(key, (1, all("invalid-key", 1)));
    let dropped = rules(&[], |it| {
        it["spec"]["template"] =
            json!({"metadata": {"labels": {"app.kubernetes.io/instance": "x"}}});
    });
    assert_eq!(dropped, (0, all("dropped-label", 1)));
}

#[test]
fn a_status_and_fields_of_the_server_are_fine() {
    let served = rules(&[], |it| {
        it["metadata"]["uid"] = json!("1");
        it["metadata"]["generation"] = json!(2);
        it["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
        it["status"] = json!({"observedGeneration": -1, "fingerprints": ["3f9a1c5e7b2d4a60"], "conditions": [
            {"type": "Ready", "status": "True", "reason": "Unsealed", "message": "", "observedGeneration": 2,
             "lastTransitionTime": "2026-11-21T00:00:00Z"}]});
    });
    assert_eq!(served, (0, all("", 0)));
}

#[test]
fn large_manifests_are_reported() {
    let sized = |bytes: usize| {
        rules(&[], move |it| it["metadata"]["annotations"] = json!({"a": "x".repeat(bytes)}))
    };
    assert_eq!(sized(200_000), (0, all("", 0)));
    assert_eq!(sized(250_000), (0, all("large-manifest", 1)));
    assert_eq!(sized(1_400_000), (1, all("too-large", 1)));
}

#[test]
fn a_stream_is_checked_object_by_object() {
    let sandbox = changed(&[], |sealed| sealed["metadata"]["name"] = json!("cache"));
    let sealed = sandbox.read("sealed.yaml");
    let stream = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\n---\n{SECRET}---\n{sealed}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: empty}}\n"
    );
    sandbox.write("sealed.yaml", stream);
    let (code, findings) = lint(&sandbox);
    let rules: Vec<_> = findings.iter().map(|(rule, line, _)| (rule.as_str(), *line)).collect();
    assert_eq!(code, 1);
    assert_eq!(rules, [("plaintext-secret", 8), ("wrong-binding", 17), ("wrong-binding", 18)]);
    let run = sandbox.run(&["lint", "sealed.yaml"]);
    assert_eq!(
        run.stderr,
        "1 SealedSecret, 2 values: 3 errors, 0 warnings; 2 objects of other kinds skipped\n"
    );
}

#[test]
fn output_for_people_has_no_control_characters() {
    let sandbox = changed(&[], |sealed| {
        let value = sealed["spec"]["sealedData"]["user"].take();
        sealed["spec"]["sealedData"] = json!({"\u{1b}[31mred\n\u{202e}": value});
    });
    let run = sandbox.run(&["lint", "--format", "concise", "sealed.yaml"]);
    assert_eq!((run.code, run.stdout.lines().count()), (1, 1), "{}", run.stdout);
    assert!(!run.stdout.contains(['\u{1b}', '\u{202e}']), "{}", run.stdout);
    let run = sandbox.run(&["lint", "sealed.yaml"]);
    assert!(!run.stdout.contains(['\u{1b}', '\u{202e}']), "{}", run.stdout);
    let run = sandbox.run(&["inspect", "sealed.yaml"]);
    assert!(!run.stdout.contains(['\u{1b}', '\u{202e}']), "{}", run.stdout);
}

#[test]
fn a_template_that_cannot_be_rendered_is_reported_but_not_quoted() {
    let cases: [(&str, &str); 7] = [
        ("{{ user", "bad-template"),
        ("{{ user | hunter2 }}", "bad-template"),
        ("{{ hunter2! }}", "bad-template"),
        ("{{ pass }}", "bad-template"),
        ("hunter2 {{ user }} {{", "bad-template"),
        ("{{ user }}{{ \"{{\" }}", ""),
        ("{{ user | json }}", ""),
    ];
    for (text, rule) in cases {
        let sandbox = changed(&[], |sealed| {
            sealed["spec"]["template"] = json!({"data": {"url": text}});
        });
        let (code, findings) = lint(&sandbox);
        assert_eq!(code, i32::from(!rule.is_empty()), "{text}");
        for (found, _, key) in findings {
            assert_eq!((found.as_str(), key.as_deref()), (rule, Some("url")), "{text}");
        }
        let report = sandbox.run(&["lint", "sealed.yaml"]);
        assert!(!(report.stdout + &report.stderr).contains("hunter2"), "{text}");
    }
    let many = |placeholders| json!({"data": {"url": "{{ user | json }}".repeat(placeholders)}});
    let found = rules(&[], |sealed| sealed["spec"]["template"] = many(1000));
    assert_eq!(found, (0, vec![]));
    let found = rules(&[], |sealed| sealed["spec"]["template"] = many(1001));
    assert_eq!(found, (1, all("bad-template", 1)));
    let long = "x".repeat(60_000) + "{{ user }}";
    let data: Value = (0..20).map(|n| (format!("k{n}"), json!(long))).collect();
    let found = rules(&[], |sealed| sealed["spec"]["template"] = json!({"data": data}));
    assert_eq!(found, (1, vec!["large-manifest".to_owned(), "too-large".to_owned()]));
    let twice = rules(&[], |sealed| sealed["spec"]["template"] = json!({"data": {"user": "x"}}));
    assert_eq!(twice, (1, all("duplicate-key", 1)));
}
