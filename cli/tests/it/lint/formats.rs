//! The formats of a report: none of them shows a secret, and each follows the rules of the tool that reads it.

use std::fs;

use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::Value;

use crate::sandbox::{Sandbox, example};

const FORMS: [&str; 6] = ["human", "concise", "json", "sarif", "github", "junit"];

/// Files of every kind that contain a secret where there should be none.
fn disguises(marker: &str, identity: &str) -> Vec<(String, String)> {
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, marker);
    let sealed = |spec: &str| {
        format!(
            "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: prod}}\nspec:\n{spec}"
        )
    };
    [
        ("a.yaml", format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{x: {marker}}}\n")),
        ("b.yaml", format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  x: {base64}\n")),
        ("c.json", format!("{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"a\"}},\"stringData\":{{\"x\":\"{marker}\"}}}}")),
        ("d.yaml", sealed(&format!("  sealedData: {{a: {marker}, b: {base64}}}\n"))),
        ("e.yaml", sealed(&format!("  sealedData: {{}}\n  stringData: {{x: {marker}}}\n  template: {{type: [{marker}], data: {{a: \"{{{{ {marker} }}}}\"}}}}\n"))),
        ("f.yaml", sealed(&format!("  template:\n    metadata: {{labels: {{a: '{marker} x'}}}}\n    immutable: {marker}\n"))),
        ("g.yaml", format!("kind: Secret\nstringData:\n  a: {marker}: {marker}\n")),
        ("h.yaml", format!("{{{{ if {marker} }}}}\nkind: Secret\nstringData: {{a: {marker}}}\n")),
        ("i.yaml", format!("apiVersion: v1\nkind: Kustomization\nsecretGenerator: [{{literals: [a={marker}]}}]\n")),
        ("j.yaml", format!("apiVersion: v1\nkind: Secret\ntype: bulla.dev/identity\nmetadata: {{name: a}}\ndata: {{x: {base64}}}\n")),
        ("k.txt", format!("{marker} {identity} {marker}\n")),
        ("l.yaml", format!("a: {identity}\n")),
        ("m.yaml", format!("# {marker} bulla-lint: {marker}\n# bulla-lint: allow {marker}: {marker}\napiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\nstringData: {{x: {marker}}}\n")),
        ("n.yaml", sealed(&format!("  sealedData:\n    x: YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGJ1bGxhLmRldi92MS{base64}\n"))),
    ]
    .map(|(name, content)| (name.to_owned(), content))
    .into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn no_format_shows_a_secret(word in "[a-z]{4}[A-Z0-9]{10}", digits in "[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{58}") {
        let identity = format!("AGE-SECRET-KEY-1{}", digits.to_uppercase());
        let sandbox = Sandbox::new();
        let files = disguises(&word, &identity);
        for (name, content) in &files {
            sandbox.write(name, content);
        }
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &word);
        for form in FORMS {
            let run = sandbox.run(&["lint", "--format", form, "--color", "always", "."]);
            let told = run.stdout + &run.stderr;
            prop_assert_eq!(run.code, 1, "{}", told);
            for secret in [word.as_str(), &base64[..base64.len() - 3], &identity[16..30]] {
                prop_assert!(!told.contains(secret), "{form}: {}", told);
            }
            for (name, _) in &files {
                prop_assert!(told.contains(name.as_str()), "{form} does not tell of {name}");
            }
        }
    }
}

/// Findings of three levels, one of them allowed, in a file whose name must be escaped everywhere.
fn reported(form: &str) -> String {
    let sandbox = Sandbox::new();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {user: app}\n";
    let recipient = fs::read_to_string(example("x25519-recipient.txt")).unwrap();
    let run = sandbox.run_with_input(&["seal", "-r", recipient.trim()], secret.as_bytes());
    let sealed = run.stdout;
    let template = "  template: {metadata: {labels: {app.kubernetes.io/instance: x}}}\n";
    let without = sealed.replace("  namespace: prod\n", "") + template;
    sandbox.write(
        "a&,<ä>:%.yaml",
        format!("# bulla-lint: allow dropped-label: see \"it\"\n{without}"),
    );
    sandbox.write("b.yaml", sealed.replace("name: db", "name: cache") + template);
    sandbox.run(&["lint", "--format", form, "."]).stdout
}

#[test]
fn sarif_has_the_fields_that_code_scanning_reads() {
    let sarif: Value = serde_json::from_str(&reported("sarif")).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 3);
    let mut levels = Vec::new();
    for result in results {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(rule["defaultConfiguration"]["level"], result["level"]);
        assert_ne!(result["message"]["text"], "");
        levels.push(result["level"].as_str().unwrap());
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(["a%26%2C%3C%C3%A4%3E%3A%25.yaml", "b.yaml"].contains(&uri), "{uri}");
        let region = &place["region"];
        assert!(region["startLine"].as_u64().unwrap() > 0);
        assert!(region["endColumn"].as_u64() > region["startColumn"].as_u64());
        let is_allowed = result["ruleId"] == "dropped-label" && uri != "b.yaml";
        assert_eq!(result["suppressions"].is_array(), is_allowed);
        if is_allowed {
            assert_eq!(result["suppressions"][0]["justification"], "see \"it\"");
        }
    }
    levels.sort_unstable();
    levels.dedup();
    assert_eq!(levels, ["error", "note", "warning"]);
    for rule in rules {
        for text in ["/shortDescription/text", "/help/text", "/help/markdown"] {
            assert!(!rule.pointer(text).unwrap().as_str().unwrap().is_empty(), "{rule}");
        }
    }
}

#[test]
fn junit_has_a_test_for_each_file() {
    let xml = reported("junit");
    let mut reader = Reader::from_str(&xml);
    let (mut cases, mut failures, mut others) = (Vec::new(), 0, 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => match tag.name().as_ref() {
                b"testcase" => {
                    let name = tag.try_get_attribute("name").unwrap().unwrap();
                    let name = quick_xml::escape::unescape(str::from_utf8(&name.value).unwrap());
                    cases.push(name.unwrap().into_owned());
                }
                b"failure" => failures += 1,
                b"system-out" => others += 1,
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(cases, ["a&,<ä>:%.yaml", "b.yaml"]);
    assert!(failures >= 1 && others == 2, "{xml}");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\""), "{xml}");
}

#[test]
fn github_gets_one_command_a_line() {
    let commands = reported("github");
    for line in commands.lines() {
        let (head, _) = line.strip_prefix("::").unwrap().split_once("::").unwrap();
        let (word, properties) = head.split_once(' ').unwrap();
        assert!(["error", "warning", "notice"].contains(&word), "{line}");
        let names: Vec<_> =
            properties.split(',').map(|property| property.split_once('=').unwrap().0).collect();
        assert_eq!(names, ["file", "line", "col", "endColumn", "title"], "{line}");
    }
    assert!(commands.contains("file=a&%2C<ä>%3A%25.yaml,"), "{commands}");
}

#[test]
fn columns_are_those_of_the_key() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "a.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n\"stringData\" : {ä: b}\n",
    );
    sandbox.write(
        "b.json",
        "{\"kind\": \"Secret\", \"apiVersion\": \"v1\",\n \"ä\": 1, \"data\": {\"a\": \"eA==\"}}",
    );
    sandbox.write("c.json", format!("{{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"x\":\"{}\",\"data\":{{\"a\":\"eA==\"}}}}", "y".repeat(3000)));
    let run = sandbox.run(&["lint", "--format", "json", "."]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let places: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["line"].as_u64(), it["column"].as_u64(), it["endColumn"].as_u64()))
        .collect();
    let place = |line, start, end| (Some(line), Some(start), Some(end));
    assert_eq!(places, [place(4, 1, 13), place(2, 10, 16), place(1, 3043, 3049)]);
    let human = sandbox.run(&["lint", "."]).stdout;
    assert!(human.contains("--> c.json:1:3043"), "{human}");
    assert!(human.contains("\"data\":\n"), "{human}");
}

#[test]
fn a_rule_explains_itself() {
    let sandbox = Sandbox::new();
    let text = sandbox.done(&["lint", "--explain", "wrong-binding"]);
    assert!(text.starts_with("wrong-binding\n\nLevel: error.\n"), "{text}");
    assert!(text.contains("What to do: "), "{text}");
    let run = sandbox.run(&["lint", "--explain", "hunter2"]);
    assert_eq!(run.code, 2);
}
