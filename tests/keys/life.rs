//! The life of keys from end to end, with a running controller.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_sealing::{Fingerprint, Identity, KeyType};
use bulla_tests::{ControlPlane, Controller, eventually};
use serde_json::Value;

use crate::place::{Place, Run, fingerprint, identity};

const SOON: Duration = Duration::from_secs(60);

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: default}\nstringData: {password: correct horse}\n";

/// The Active key.
fn active(place: &Place) -> Result<Fingerprint> {
    let listed: Value = serde_json::from_str(&place.done("list --format json")?.stdout)?;
    let keys = listed["keys"].as_array().context("no keys")?;
    // The recovery key is Active too, and not held here.
    let is_own = |key: &&Value| key["state"] == "Active" && key["held"] == true;
    let active: Vec<_> = keys.iter().filter(is_own).collect();
    ensure!(active.len() == 1, "{active:?}");
    Ok(active[0]["fingerprint"].as_str().context("no fingerprint")?.parse()?)
}

#[test]
fn keys_are_renewed_backed_up_handed_back_restored_and_revoked() -> Result<()> {
    // Its own control plane, because everything is in the controller's namespace.
    let plane = ControlPlane::start()?;
    Controller::install(&plane)?;
    let place = Place::beside(&plane, Controller::NAMESPACE)?;
    let recovery = place.shell.run("bulla keys generate -o recovery.txt")?;
    let mut command = Controller::command(&plane)?;
    command.args(["--recovery-recipient", recovery.trim()]);
    let controller = Controller::start(command)?;
    controller.wait_until_ready()?;
    let first = active(&place)?;

    // Its backup exists before anything depends on it.
    eventually("a copy of the first key", SOON, || {
        let run = place.keys("backup -o backups -i recovery.txt")?;
        ensure!(run.code == 0, "{}", run.stderr);
        Ok(())
    })?;
    assert_eq!(place.condition(first, "BackedUp")?, "True TakenOut");

    // A live SealedSecret, sealed to the first key.
    fs::write(place.path("secret.yaml"), SECRET)?;
    place.shell.run("bulla seal -o sealed.yaml secret.yaml && kubectl apply -f sealed.yaml")?;
    place.shell.run("kubectl wait --for=condition=Ready --timeout=60s sealedsecret/db")?;
    // It is sealed to the recovery key too, which the controller has declared.
    place.shell.run("bulla unseal -i recovery.txt sealed.yaml")?;

    let run = place.done("renew")?;
    let second = active(&place)?;
    assert_ne!(second, first);
    let holder = place.get("sealingkey", &second)?["spec"]["holder"].clone();
    let holder = holder.as_str().context("no holder")?;
    assert_eq!(
        run.stdout,
        format!(
            "{holder}: {first} is Retired and still opens existing values\n{holder}: {second} is Active\n"
        )
    );
    place.refused(
        &format!("revoke {first} --no-git --yes"),
        1,
        "by 1 values in live SealedSecrets\n",
    )?;
    place.refused(&format!("retire {second}"), 2, "bulla keys renew or bulla keys activate")?;

    // Back to the first key. Its earlier request for a renewal does not count again.
    place.done(&format!("activate {first}"))?;
    assert_eq!(active(&place)?, first);
    place.done(&format!("activate {second}"))?;
    assert_eq!(active(&place)?, second);
    eventually("the count of what is sealed to the first key", SOON, || {
        ensure!(
            place.get("sealingkey", &first)?["status"]["sealedSecrets"]["count"] == 1,
            "not yet"
        );
        Ok(())
    })?;

    // An older cluster's restored identity opens values, but becomes Active only on request.
    let restored = identity()?;
    fs::write(place.path("older.txt"), restored.to_secret_string().as_bytes())?;
    let run = place.done("restore older.txt")?;
    let older = fingerprint(&restored);
    assert!(
        run.stderr
            .contains(&format!("note: {older} opens existing values; nothing new is sealed to it")),
        "{}",
        run.stderr
    );
    assert_eq!(place.state(older)?, "Retired");
    assert_eq!(active(&place)?, second);
    place.done(&format!("activate {older}"))?;
    assert_eq!(active(&place)?, older);
    place.done(&format!("activate {second}"))?;

    // Nothing needs the key any more, so it is revoked, permanently.
    place.done(&format!("revoke {older} --no-git --yes"))?;
    eventually("the revocation to be kept with the identity", SOON, || {
        let secret = place.get("secret", &older)?;
        ensure!(secret["metadata"]["annotations"]["bulla.dev/revoked"].is_string(), "not yet");
        Ok(())
    })?;
    let nothing = "error: nothing is restored, because all these keys are revoked\nhint: ";
    place.refused("restore older.txt", 1, nothing)?;
    place.refused(
        &format!("activate {older}"),
        2,
        "is already revoked; revocation is permanent\n",
    )?;
    // The existing SealedSecret still opens.
    place.shell.run("kubectl wait --for=condition=Ready --timeout=60s sealedsecret/db")?;
    Ok(())
}

/// A cluster with a controller whose recovery recipient is this.
fn cluster(recovery: &str) -> Result<(ControlPlane, Controller)> {
    let plane = ControlPlane::start()?;
    Controller::install(&plane)?;
    let mut command = Controller::command(&plane)?;
    command.args(["--recovery-recipient", recovery]);
    let controller = Controller::start(command)?;
    controller.wait_until_ready()?;
    Ok((plane, controller))
}

/// Runs `bulla keys` until it succeeds.
fn done_soon(place: &Place, line: &str) -> Result<Run> {
    eventually(line, SOON, || place.done(line))
}

#[test]
fn a_revoked_key_stays_revoked_in_a_rebuilt_cluster() -> Result<()> {
    let recovery = Identity::generate(KeyType::Hybrid)?;
    let (plane, controller) = cluster(recovery.recipient().as_str())?;
    let place = Place::beside(&plane, Controller::NAMESPACE)?;
    fs::write(place.path("recovery.txt"), recovery.to_secret_string().as_bytes())?;
    let leaked = active(&place)?;
    fs::write(place.path("secret.yaml"), SECRET)?;
    place.shell.run("bulla seal -o leaked.yaml secret.yaml")?;
    done_soon(&place, "backup -o backups -i recovery.txt")?;
    place.done("renew")?;
    let good = active(&place)?;
    place.shell.run("sed 's/name: db/name: good/' secret.yaml | bulla seal -o good.yaml -")?;
    place.done(&format!("revoke {leaked} --no-git --yes"))?;
    // The cluster's own Secrets record it: nothing that is copied out of them later brings the key back.
    for name in [leaked.to_string(), format!("{leaked}-backup")] {
        eventually(&format!("the mark on {name}"), SOON, || {
            let secret = place.get("secret", &name)?;
            ensure!(secret["metadata"]["annotations"]["bulla.dev/revoked"] == "true", "not yet");
            Ok(())
        })?;
    }
    let run = done_soon(&place, "backup -o backups -i recovery.txt")?;
    let recorded = format!("backups/{leaked}.revoked: records that the key is revoked\n");
    ensure!(run.stdout.contains(&recorded), "{}", run.stdout);
    ensure!(!run.stdout.contains(&format!("{leaked}.age")), "{}", run.stdout);
    let older = format!("note: backups/{leaked}.age is an older backup of the revoked key");
    ensure!(run.stderr.contains(&older), "{}", run.stderr);
    // Nor does a new folder get the key.
    let run = place.done("backup -o another -i recovery.txt")?;
    ensure!(!place.path(&format!("another/{leaked}.age")).exists(), "{}", run.stdout);
    drop((controller, plane));

    let (plane, _controller) = cluster(recovery.recipient().as_str())?;
    let rebuilt = Place::beside(&plane, Controller::NAMESPACE)?;
    let old = place.path("backups");
    let (old, identity) = (old.display(), place.path("recovery.txt"));
    let restore = format!("restore {old} -i {}", identity.display());
    let run = rebuilt.done(&restore)?;
    let lines = [
        format!("{leaked}: skipped, because it is revoked according to {old}/{leaked}.revoked"),
        format!("{good}: restored"),
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), lines);
    let reason = |name: &str| {
        let reason = "-o=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
        plane.kubectl(&["get", "sealedsecrets.bulla.dev", name, reason])
    };
    rebuilt.shell.run(&format!(
        "kubectl apply -f {} -f {}",
        place.path("leaked.yaml").display(),
        place.path("good.yaml").display()
    ))?;
    rebuilt.shell.run("kubectl wait --for=condition=Ready --timeout=60s sealedsecret/good")?;
    eventually("a verdict on the other", SOON, || {
        let reason = reason("db")?;
        ensure!(reason == "UnknownKey", "{reason}");
        Ok(())
    })?;

    // With force its identity is stored, with the revocation: still nothing opens.
    let run = rebuilt.done(&format!("{restore} --force"))?;
    ensure!(
        run.stdout.contains(&format!("{leaked}: restored, and is revoked\n")),
        "{}",
        run.stdout
    );
    eventually("the declaration", SOON, || {
        ensure!(rebuilt.state(leaked)? == "Revoked", "not yet");
        Ok(())
    })?;
    ensure!(["UnknownKey", "RevokedKey"].contains(&&*reason("db")?), "{}", reason("db")?);
    ensure!(plane.kubectl(&["get", "secret", "db"]).is_err(), "it was opened");
    Ok(())
}
