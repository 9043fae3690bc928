//! `bulla keys list`.

use std::fs;

use anyhow::Result;
use bulla_crds::State;
use serde_json::{Value, json};

use crate::place::{Place, Says, fingerprint, identity};

#[test]
fn keys_are_listed_by_holder_and_age_and_a_malformed_one_is_not_trusted() -> Result<()> {
    let place = Place::new("keys-list")?;
    let [new, old, other, lost] = [identity()?, identity()?, identity()?, identity()?];
    place.declare(&new, "eu", State::Active, Says::Held, 2_000)?;
    place.declare(&old, "eu", State::Retired, Says::Missing, 1_000)?;
    place.declare(&other, "us", State::Active, Says::OfAnotherHolder, 1)?;
    place.declare(&lost, "zz", State::Pending, Says::Nothing, 1)?;
    // An attacker created this key, to be sealed to under another key's name.
    let mut misnamed = place.get("sealingkey", &fingerprint(&new))?;
    misnamed["metadata"] = json!({"name": "0123456789abcdef", "namespace": place.namespace});
    place.create(&misnamed)?;

    let run = place.done("list")?;
    let rows: Vec<Vec<&str>> =
        run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 5, "{}", run.stdout);
    let row = |index: usize, identity, cells: &[&str]| {
        let row = &rows[index];
        assert_eq!(row[0], fingerprint(identity).to_string());
        // Without the age, which changes every day.
        assert_eq!([&row[1..4], &row[5..]].concat(), cells, "{}", run.stdout);
    };
    row(1, &old, &["eu", "Retired", "x25519", "NO", "-", "7"]);
    row(2, &new, &["eu", "Active", "x25519", "yes", "NO:", "NotTakenOut", "7"]);
    row(3, &other, &["us", "Active", "x25519", "elsewhere", "-", "7"]);
    row(4, &lost, &["zz", "Pending", "x25519", "?", "-", "?"]);
    assert_eq!(
        run.stderr,
        format!(
            "warning: SealingKey 0123456789abcdef is malformed and not trusted: its name is not {}, the fingerprint of its recipient\n",
            fingerprint(&new)
        )
    );

    let listed: Value = serde_json::from_str(&place.done("list --format json")?.stdout)?;
    assert_eq!(listed["keys"][1]["fingerprint"], fingerprint(&new).to_string());
    assert_eq!(listed["keys"][1]["longFingerprint"], new.recipient().long_fingerprint());
    assert_eq!(
        ["held", "backedUp", "sealedSecrets"].map(|field| listed["keys"][1][field].clone()),
        [json!(true), json!(false), json!(7)]
    );
    assert_eq!(listed["malformed"][0]["name"], "0123456789abcdef");

    // As manifests for Git. What was applied is printed again, and applying that changes nothing.
    let manifest = place.done("list --holder us --format yaml")?.stdout;
    fs::write(place.path("us.yaml"), &manifest)?;
    let key: Value = yaml_serde::from_str(&manifest)?;
    assert_eq!(key["spec"], place.get("sealingkey", &fingerprint(&other))?["spec"]);
    assert_eq!(key["metadata"]["namespace"], place.namespace.as_str());
    assert!(key["status"].is_null() && key["metadata"]["uid"].is_null(), "{manifest}");
    place.shell.run("kubectl apply -f us.yaml 2> /dev/null")?;
    let again = place.shell.run("kubectl apply -f us.yaml")?;
    assert!(again.ends_with("unchanged\n"), "{again}");
    assert_eq!(place.done("list --holder us --format yaml")?.stdout, manifest);
    assert_eq!(place.done("list --format yaml")?.stdout.matches("kind: SealingKey").count(), 4);

    // No command uses it under its name.
    for verb in ["activate", "retire", "revoke --no-git --yes"] {
        place.refused(
            &format!("{verb} 0123456789abcdef"),
            2,
            "SealingKey 0123456789abcdef cannot be trusted",
        )?;
    }
    place.refused(
        "retire fedcba9876543210",
        2,
        "no SealingKey fedcba9876543210 in this cluster\n",
    )?;
    Ok(())
}

#[test]
fn missing_rights_are_reported() -> Result<()> {
    let place = Place::new("keys-forbidden")?;
    let key = place.declare(&identity()?, "eu", State::Retired, Says::Held, 1)?;
    let nobody = place.user("nobody", &json!([]))?;
    nobody.refused("list", 2, "you may not list SealingKeys in namespace keys-forbidden\n")?;
    let reader = place.user(
        "reader",
        &json!([{"apiGroups": ["bulla.dev"], "resources": ["sealingkeys"], "verbs": ["list"]}]),
    )?;
    reader.done("list")?;
    reader.refused(
        &format!("activate {key}"),
        2,
        &format!("you may not change SealingKey {key}\nhint: "),
    )?;
    reader.refused("backup -o out", 2, "you may not list Secrets in namespace keys-forbidden\n")?;
    assert!(!reader.path("out").exists());
    reader.refused(
        &format!("revoke {key} --no-git --yes"),
        2,
        "you may not list SealedSecrets in all namespaces\nhint: ",
    )?;
    Ok(())
}
