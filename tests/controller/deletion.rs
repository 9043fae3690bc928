//! What becomes of the Secret when its SealedSecret goes.

use anyhow::{Result, ensure};
use bulla_tests::{Part, eventually};
use serde_json::{Value, json};

use crate::{
    cluster::Fragile,
    space::{SOON, Space, clear, data},
};

#[test]
fn secret_goes_with_its_sealed_secret_and_stays_away() -> Result<()> {
    let space = Space::shared("deletion")?;
    for policy in ["Background", "Foreground"] {
        let name = policy.to_lowercase();
        space.unseal(&name, &[("password", "1")])?;
        let options = json!({"propagationPolicy": policy});
        space.api.delete(&space.sealed_secret_path(&name), &options)?;
        space.gone(&space.sealed_secret_path(&name))?;
        space.gone(&space.secret_path(&name))?;
    }
    space.let_pass()?;
    for name in ["background", "foreground"] {
        ensure!(!space.has_secret(name)?, "{name} was created again");
        ensure!(space.events(name, "DriftRepaired")?.is_empty(), "{name} was restored");
    }
    Ok(())
}

#[test]
fn secret_left_behind_on_purpose_is_let_go() -> Result<()> {
    let space = Space::shared("orphan")?;
    space.unseal("db", &[("password", "1")])?;
    let options = json!({"propagationPolicy": "Orphan"});
    space.api.delete(&space.sealed_secret_path("db"), &options)?;
    space.gone(&space.sealed_secret_path("db"))?;
    space.let_pass()?;
    let secret = space.secret("db")?;
    assert_eq!(secret["metadata"]["ownerReferences"], Value::Null);
    Ok(())
}

#[test]
fn namespace_that_goes_is_not_held() -> Result<()> {
    let space = Space::shared("going")?;
    for i in 0..10 {
        space.unseal(&format!("object-{i}"), &[("password", "1")])?;
    }
    let namespace = format!("/api/v1/namespaces/{}", space.name);
    space.api.delete(&namespace, &Value::Null)?;
    space.gone(&namespace)
}

#[test]
fn sealed_secret_created_again_at_once_gets_its_secret() -> Result<()> {
    let space = Space::shared("again")?;
    space.unseal("db", &[("password", "0")])?;
    for round in ["1", "2", "3", "4", "5"] {
        let next = space.seal("db", &[("password", round)])?;
        space.api.delete(&space.sealed_secret_path("db"), &Value::Null)?;
        let created = space.apply(&next)?;
        is_settled(&space, &created, round)?;
    }
    Ok(())
}

#[test]
fn sealed_secret_created_again_before_the_old_secret_is_collected_gets_its_secret() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let space = Space::fragile(&fragile, "late-collection")?;
    space.unseal("db", &[("password", "old"), ("removed", "1")])?;
    let old = space.secret("db")?;
    fragile.plane.pause(Part::ControllerManager)?;
    space.api.delete(&space.sealed_secret_path("db"), &Value::Null)?;
    let created = space.apply(&space.seal("db", &[("password", "new")])?)?;
    space.done("db")?;
    let taken_over = space.secret("db")?;
    ensure!(data(&taken_over)? == clear(&[("password", "new")]), "not taken over");
    assert_eq!(taken_over["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(taken_over["metadata"]["ownerReferences"][0]["uid"], created["metadata"]["uid"]);

    fragile.plane.resume(Part::ControllerManager)?;
    is_settled(&space, &created, "new")?;
    fragile.give_back()
}

/// The Secret belongs to that SealedSecret now, and still when collection has passed over it.
fn is_settled(space: &Space, owner: &Value, password: &str) -> Result<()> {
    for _ in 0..2 {
        eventually("the Secret of the new SealedSecret", SOON, || {
            let secret = space.secret("db")?;
            ensure!(data(&secret)? == clear(&[("password", password)]), "other data");
            let uid = &secret["metadata"]["ownerReferences"][0]["uid"];
            ensure!(*uid == owner["metadata"]["uid"], "owned by {uid}");
            ensure!(secret["metadata"]["deletionTimestamp"].is_null(), "under deletion");
            let status = space.done("db")?;
            let written = &status["status"]["target"]["resourceVersion"];
            ensure!(*written == secret["metadata"]["resourceVersion"], "the status is behind");
            Ok(())
        })?;
        space.let_collect()?;
    }
    Ok(())
}
