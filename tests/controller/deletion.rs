//! What happens to the Secret when its SealedSecret is deleted.

use anyhow::{Result, ensure};
use bulla_tests::{Component, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::Fragile,
    test_namespace::{TestNamespace, clear, data},
};

#[test]
fn a_secret_is_deleted_with_its_sealed_secret_and_not_created_again() -> Result<()> {
    let namespace = TestNamespace::shared("deletion")?;
    for policy in ["Background", "Foreground"] {
        let name = policy.to_lowercase();
        namespace.unseal(&name, &[("password", "1")])?;
        let options = json!({"propagationPolicy": policy});
        namespace.api.delete(&namespace.sealed_secret_path(&name), &options)?;
        namespace.gone(&namespace.sealed_secret_path(&name))?;
        namespace.gone(&namespace.secret_path(&name))?;
    }
    namespace.let_pass()?;
    for name in ["background", "foreground"] {
        ensure!(!namespace.has_secret(name)?, "{name} was created again");
        ensure!(namespace.events(name, "DriftRepaired")?.is_empty(), "{name} was restored");
    }
    Ok(())
}

#[test]
fn an_orphaned_secret_is_released() -> Result<()> {
    let namespace = TestNamespace::shared("orphan")?;
    namespace.unseal("db", &[("password", "1")])?;
    let options = json!({"propagationPolicy": "Orphan"});
    namespace.api.delete(&namespace.sealed_secret_path("db"), &options)?;
    namespace.gone(&namespace.sealed_secret_path("db"))?;
    namespace.let_pass()?;
    let secret = namespace.secret("db")?;
    assert_eq!(secret["metadata"]["ownerReferences"], Value::Null);
    Ok(())
}

#[test]
fn the_controller_does_not_delay_the_deletion_of_a_namespace() -> Result<()> {
    let namespace = TestNamespace::shared("going")?;
    for i in 0..10 {
        namespace.unseal(&format!("object-{i}"), &[("password", "1")])?;
    }
    let namespace_path = format!("/api/v1/namespaces/{}", namespace.name);
    namespace.api.delete(&namespace_path, &Value::Null)?;
    namespace.gone(&namespace_path)
}

#[test]
fn a_sealed_secret_created_again_at_once_gets_its_secret() -> Result<()> {
    let namespace = TestNamespace::shared("again")?;
    namespace.unseal("db", &[("password", "0")])?;
    for round in ["1", "2", "3", "4", "5"] {
        let next = namespace.seal("db", &[("password", round)])?;
        namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
        let created = namespace.apply(&next)?;
        is_settled(&namespace, &created, round)?;
    }
    Ok(())
}

#[test]
fn a_sealed_secret_created_again_before_the_old_secret_is_collected_gets_its_secret() -> Result<()>
{
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "late-collection")?;
    namespace.unseal("db", &[("password", "old"), ("removed", "1")])?;
    let old = namespace.secret("db")?;
    fragile.plane.pause(Component::ControllerManager)?;
    namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
    let created = namespace.apply(&namespace.seal("db", &[("password", "new")])?)?;
    namespace.done("db")?;
    let taken_over = namespace.secret("db")?;
    ensure!(data(&taken_over)? == clear(&[("password", "new")]), "not taken over");
    assert_eq!(taken_over["metadata"]["uid"], old["metadata"]["uid"]);
    assert_eq!(taken_over["metadata"]["ownerReferences"][0]["uid"], created["metadata"]["uid"]);

    fragile.plane.resume(Component::ControllerManager)?;
    is_settled(&namespace, &created, "new")?;
    fragile.give_back()
}

/// Checks that the Secret belongs to this SealedSecret, also after the garbage collector has run.
fn is_settled(namespace: &TestNamespace, owner: &Value, password: &str) -> Result<()> {
    for _ in 0..2 {
        eventually("the Secret of the new SealedSecret", SOON, || {
            let secret = namespace.secret("db")?;
            ensure!(data(&secret)? == clear(&[("password", password)]), "other data");
            let uid = &secret["metadata"]["ownerReferences"][0]["uid"];
            ensure!(*uid == owner["metadata"]["uid"], "owned by {uid}");
            ensure!(secret["metadata"]["deletionTimestamp"].is_null(), "under deletion");
            let status = namespace.done("db")?;
            let written = &status["status"]["target"]["resourceVersion"];
            ensure!(*written == secret["metadata"]["resourceVersion"], "the status is behind");
            Ok(())
        })?;
        namespace.let_collect()?;
    }
    Ok(())
}
