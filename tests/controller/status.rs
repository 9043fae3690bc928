//! What tools that wait for an object conclude from its status.

use anyhow::{Result, ensure};
use bulla_tests::{Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::Fragile,
    test_namespace::{TestNamespace, condition, message},
};

#[test]
fn an_object_is_in_progress_until_the_controller_has_handled_it() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "kstatus")?;
    let verdict = |object: &Value| anyhow::Ok(Verdict::of(object)?.status);

    fragile.controller.stop(SOON)?;
    namespace.apply(&namespace.seal("db", &[("password", "1")])?)?;
    let unseen = namespace.sealed_secret("db")?;
    assert_eq!(unseen["status"], json!({"observedGeneration": -1}));
    assert_eq!(verdict(&unseen)?, Status::InProgress);

    fragile.controller.restart()?;
    assert_eq!(verdict(&namespace.done("db")?)?, Status::Current);

    fragile.controller.stop(SOON)?;
    let changed = namespace.apply(&namespace.seal("db", &[("password", "2")])?)?;
    assert_eq!(condition(&changed, "Ready")["status"], "True");
    assert_eq!(verdict(&changed)?, Status::InProgress);
    fragile.controller.restart()?;
    assert_eq!(verdict(&namespace.done("db")?)?, Status::Current);

    let path = namespace.sealed_secret_path("db");
    namespace.api.merge(&path, &json!({"metadata": {"finalizers": ["example.com/hold"]}}))?;
    namespace.api.delete(&path, &Value::Null)?;
    assert_eq!(verdict(&namespace.sealed_secret("db")?)?, Status::Terminating);
    namespace.let_pass()?;
    assert_eq!(verdict(&namespace.sealed_secret("db")?)?, Status::Terminating);
    namespace.api.merge(&path, &json!({"metadata": {"finalizers": null}}))?;
    namespace.gone(&namespace.secret_path("db"))?;
    fragile.controller.wait_until_ready()?;
    fragile.give_back()
}

#[test]
fn a_transient_failure_is_in_progress_and_retried() -> Result<()> {
    let namespace = TestNamespace::shared("quota")?;
    let quotas = "/api/v1/namespaces/quota/resourcequotas";
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}},
    });
    namespace.api.create(quotas, &quota)?;
    eventually("the quota to be in force", SOON, || {
        let quota = namespace.api.get(&format!("{quotas}/none"))?;
        ensure!(quota["status"]["hard"]["secrets"] == "0", "not yet");
        Ok(())
    })?;
    namespace.apply(&namespace.seal("db", &[("password", "1")])?)?;
    let retried = eventually("a report of the failure", SOON, || {
        let sealed_secret = namespace.sealed_secret("db")?;
        ensure!(condition(&sealed_secret, "Ready")["reason"] == "Forbidden", "not yet");
        Ok(sealed_secret)
    })?;
    assert_eq!(condition(&retried, "Ready")["status"], "Unknown");
    assert_eq!(condition(&retried, "Reconciling")["status"], "True");
    assert_eq!(condition(&retried, "Reconciling")["reason"], "Forbidden");
    assert_eq!(condition(&retried, "Stalled"), &Value::Null);
    assert_eq!(retried["status"]["observedGeneration"], 1);
    ensure!(
        message(&retried).contains("because of the ResourceQuota none"),
        "{}",
        message(&retried)
    );
    assert_eq!(Verdict::of(&retried)?.status, Status::InProgress);
    assert_eq!(namespace.event("db", "Forbidden")?["type"], "Warning");

    namespace.api.delete(&format!("{quotas}/none"), &Value::Null)?;
    let done = namespace.done("db")?;
    assert_eq!(condition(&done, "Reconciling"), &Value::Null);
    Ok(())
}

#[test]
fn a_refusal_ends_with_the_next_valid_version() -> Result<()> {
    let namespace = TestNamespace::shared("refusal-ends")?;
    let mut bad = namespace.seal("db", &[("password", "1")])?;
    bad["spec"] = namespace.seal("other", &[("password", "1")])?["spec"].clone();
    namespace.apply(&bad)?;
    namespace.refused("db", "WrongBinding")?;
    let done = namespace.unseal("db", &[("password", "1")])?;
    assert_eq!(condition(&done, "Stalled"), &Value::Null);
    assert_eq!(Verdict::of(&done)?.status, Status::Current);
    Ok(())
}
