//! What the tools that wait for an object conclude while it is on its way.

use anyhow::{Result, ensure};
use bulla_tests::{Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    cluster::Fragile,
    space::{SOON, Space, condition, message},
};

#[test]
fn object_is_in_progress_until_it_is_judged() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let space = Space::fragile(&fragile, "kstatus")?;
    let verdict = |object: &Value| anyhow::Ok(Verdict::of(object)?.status);

    fragile.controller.stop(SOON)?;
    space.apply(&space.seal("db", &[("password", "1")])?)?;
    let unseen = space.sealed_secret("db")?;
    assert_eq!(unseen["status"], json!({"observedGeneration": -1}));
    assert_eq!(verdict(&unseen)?, Status::InProgress);

    fragile.controller.restart()?;
    assert_eq!(verdict(&space.done("db")?)?, Status::Current);

    fragile.controller.stop(SOON)?;
    let changed = space.apply(&space.seal("db", &[("password", "2")])?)?;
    assert_eq!(condition(&changed, "Ready")["status"], "True");
    assert_eq!(verdict(&changed)?, Status::InProgress);
    fragile.controller.restart()?;
    assert_eq!(verdict(&space.done("db")?)?, Status::Current);

    let path = space.sealed_secret_path("db");
    space.api.merge(&path, &json!({"metadata": {"finalizers": ["example.com/hold"]}}))?;
    space.api.delete(&path, &Value::Null)?;
    assert_eq!(verdict(&space.sealed_secret("db")?)?, Status::Terminating);
    space.let_pass()?;
    assert_eq!(verdict(&space.sealed_secret("db")?)?, Status::Terminating);
    space.api.merge(&path, &json!({"metadata": {"finalizers": null}}))?;
    space.gone(&space.secret_path("db"))?;
    fragile.controller.wait_until_ready()?;
    fragile.give_back()
}

#[test]
fn transient_failure_is_in_progress_and_retried() -> Result<()> {
    let space = Space::shared("quota")?;
    let quotas = "/api/v1/namespaces/quota/resourcequotas";
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}},
    });
    space.api.create(quotas, &quota)?;
    eventually("the quota to be in force", SOON, || {
        let quota = space.api.get(&format!("{quotas}/none"))?;
        ensure!(quota["status"]["hard"]["secrets"] == "0", "not yet");
        Ok(())
    })?;
    space.apply(&space.seal("db", &[("password", "1")])?)?;
    let retried = eventually("the failure to be told", SOON, || {
        let sealed_secret = space.sealed_secret("db")?;
        ensure!(condition(&sealed_secret, "Ready")["reason"] == "Forbidden", "not yet");
        Ok(sealed_secret)
    })?;
    assert_eq!(condition(&retried, "Ready")["status"], "Unknown");
    assert_eq!(condition(&retried, "Reconciling")["status"], "True");
    assert_eq!(condition(&retried, "Reconciling")["reason"], "Forbidden");
    assert_eq!(condition(&retried, "Stalled"), &Value::Null);
    assert_eq!(retried["status"]["observedGeneration"], 1);
    ensure!(message(&retried).contains("a quota is exceeded"), "{}", message(&retried));
    assert_eq!(Verdict::of(&retried)?.status, Status::InProgress);
    assert_eq!(space.event("db", "Forbidden")?["type"], "Warning");

    space.api.delete(&format!("{quotas}/none"), &Value::Null)?;
    let done = space.done("db")?;
    assert_eq!(condition(&done, "Reconciling"), &Value::Null);
    Ok(())
}

#[test]
fn refusal_ends_with_the_next_good_version() -> Result<()> {
    let space = Space::shared("refusal-ends")?;
    let mut bad = space.seal("db", &[("password", "1")])?;
    bad["spec"] = space.seal("other", &[("password", "1")])?["spec"].clone();
    space.apply(&bad)?;
    space.refused("db", "WrongBinding")?;
    let done = space.unseal("db", &[("password", "1")])?;
    assert_eq!(condition(&done, "Stalled"), &Value::Null);
    assert_eq!(Verdict::of(&done)?.status, Status::Current);
    Ok(())
}
