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
fn a_value_that_does_not_parse_is_shown_beside_the_others() {
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
    assert!(run.stdout.contains("user: malformed at byte"), "{}", run.stdout);
    assert!(run.stdout.contains("password: 28 bytes"), "{}", run.stdout);
    let run = sandbox.run(&["inspect", "--format", "json", "broken.yaml"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(report[0]["values"].as_array().unwrap().iter().any(|value| value["error"].is_string()));
}

#[test]
fn what_is_no_sealed_secret_is_not_inspected() {
    let run = Sandbox::new().run(&["inspect", example("secret.yaml").to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("kind Secret of v1 is not supported here"), "{}", run.stderr);
}
