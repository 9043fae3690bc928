//! `bulla keys revoke`.

use std::fs;

use anyhow::Result;
use bulla_crds::{State, seal};
use bulla_sealing::{Identity, Recipients, Scope};
use serde_json::{Value, json};

use crate::place::{Place, Says, identity};

/// More than one page.
const MANY: usize = 120;

fn sealed_secret(place: &Place, name: &str, to: &[&Identity]) -> Result<Value> {
    let secret = json!({
        "metadata": {"name": name, "namespace": place.namespace},
        "data": {"password": "Y29ycmVjdCBob3JzZQ=="},
    });
    let secret = bulla_crds::WipedSecret::new(serde_json::from_value(secret)?);
    let recipients = Recipients::new(to.iter().map(|identity| identity.recipient()).collect())?;
    Ok(serde_json::to_value(seal(&secret, place.namespace.as_str(), Scope::Strict, &recipients)?)?)
}

fn delete_all(place: &Place) -> Result<()> {
    let command = ["delete", "sealedsecrets", "--all", "--namespace", &place.namespace];
    crate::place::plane()?.kubectl(&command).map(drop)
}

#[test]
fn a_key_that_live_objects_need_is_not_revoked() -> Result<()> {
    let place = Place::new("keys-revoke")?;
    let [active, old, other] = [identity()?, identity()?, identity()?];
    let sealed_to = place.declare(&active, "eu", State::Active, Says::Held, 2)?;
    let key = place.declare(&old, "eu", State::Retired, Says::Held, 1)?;
    place.declare(&other, "us", State::Active, Says::OfAnotherHolder, 1)?;
    let revoke = format!("revoke {key} --no-git --yes");
    place.refused(
        &format!("revoke {sealed_to} --no-git --yes --force"),
        2,
        "is the Active key of eu\nhint: ",
    )?;

    // A value also sealed to another holder's key still counts. A value also sealed to another key of this cluster
    // does not.
    let mut items = vec![sealed_secret(&place, "fine", &[&old, &active])?];
    for number in 0..MANY {
        let to = if number % 2 == 0 { vec![&old] } else { vec![&old, &other] };
        items.push(sealed_secret(&place, &format!("db-{number:03}"), &to)?);
    }
    place.create(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    let run = place.refused(
        &revoke,
        1,
        &format!("error: key {key} is still needed by {MANY} values in live SealedSecrets\nhint: "),
    )?;
    let named = run.stderr.lines().filter(|line| line.starts_with("  keys-revoke/db-")).count();
    assert_eq!(named, 10, "{}", run.stderr);
    assert!(run.stderr.contains("  keys-revoke/db-000: password\n"), "{}", run.stderr);
    assert!(run.stderr.contains("  and 110 more\n"), "{}", run.stderr);
    assert!(!run.stderr.contains("fine"), "{}", run.stderr);
    assert_eq!(place.state(key)?, "Retired");

    delete_all(&place)?;
    place.create(&sealed_secret(&place, "fine", &[&old, &active])?)?;
    let run =
        place.refused(&format!("revoke {key} --no-git"), 2, "without a terminal, pass --yes\n")?;
    assert!(run.stderr.contains("git revert"), "{}", run.stderr);
    assert!(run.stderr.contains("does not undo disclosure"), "{}", run.stderr);
    assert_eq!(place.state(key)?, "Retired");
    let run = place.done(&revoke)?;
    assert_eq!(
        (run.stdout.as_str(), place.state(key)?.as_str()),
        (&*format!("eu: {key} is Revoked\n"), "Revoked")
    );
    place.done(&revoke)?;
    delete_all(&place)
}

#[test]
fn a_key_that_files_in_git_need_is_not_revoked() -> Result<()> {
    let place = Place::new("keys-revoke-git")?;
    let [active, old] = [identity()?, identity()?];
    place.declare(&active, "eu", State::Active, Says::Held, 2)?;
    let key = place.declare(&old, "eu", State::Retired, Says::Held, 1)?;
    let value = |to: &Identity| -> Result<String> {
        let sealed = sealed_secret(&place, "db", &[to])?;
        Ok(sealed["spec"]["sealedData"]["password"].as_str().unwrap_or_default().to_owned())
    };
    // Not YAML: a template of a chart.
    let chart = |value: &str| {
        format!(
            "{{{{ if .Values.db }}}}\nspec:\n  sealedData:\n    password: {value}\n{{{{ end }}}}\n"
        )
    };
    let folder = place.path("app with spaces");
    fs::create_dir(&folder)?;
    let commit = |message: &str| {
        place.shell.run(&format!("git add --all && git commit --quiet --message '{message}'"))
    };
    place.shell.run("git init --quiet --initial-branch main")?;
    // Nothing is committed yet.
    let run = place.refused(&format!("revoke {key}"), 2, "without a terminal")?;
    assert!(run.stderr.contains("no Git repository here"), "{}", run.stderr);
    fs::write(folder.join("db.yaml"), chart(&value(&old)?))?;
    fs::write(place.path("notes"), value(&old)?)?;
    commit("old")?;

    let revoke = format!("revoke {key} --yes");
    let needed = format!("error: key {key} is still needed by 1 values in files in Git\nhint: ");
    let place_in_git = "  HEAD:app with spaces/db.yaml: password\n";
    let run = place.refused(&revoke, 1, &needed)?;
    assert!(run.stderr.contains(place_in_git), "{}", run.stderr);
    // The same from within a folder.
    let mut command = place.shell.command(&format!(
        "cd 'app with spaces' && bulla keys {revoke} --controller-namespace {}",
        place.namespace
    ));
    assert_eq!(command.output()?.status.code(), Some(1));

    fs::write(folder.join("db.yaml"), chart(&value(&active)?))?;
    commit("rekeyed")?;
    let run = place.refused(&format!("{revoke} --git-ref main~1 --git-ref main"), 1, &needed)?;
    assert!(run.stderr.contains("  main~1:app with spaces/db.yaml: password\n"), "{}", run.stderr);
    place.refused(&format!("{revoke} --git-ref nowhere"), 2, "no such revision: nowhere\n")?;
    place.refused(&format!("{revoke} --git-ref=--help"), 2, "no such revision: --help\n")?;
    assert_eq!(place.state(key)?, "Retired");
    // Earlier versions in history are mentioned, but do not prevent the revocation.
    place.done(&revoke)?;
    assert_eq!(place.state(key)?, "Revoked");
    Ok(())
}

#[test]
fn force_revokes_a_key_that_is_still_needed() -> Result<()> {
    let place = Place::new("keys-revoke-force")?;
    let old = identity()?;
    let key = place.declare(&old, "eu", State::Retired, Says::Held, 1)?;
    place.create(&sealed_secret(&place, "db", &[&old])?)?;
    let run = place.done(&format!("revoke {key} --no-git --yes --force"))?;
    assert!(run.stderr.contains("  keys-revoke-force/db: password\n"), "{}", run.stderr);
    assert_eq!(place.state(key)?, "Revoked");
    delete_all(&place)
}
