//! An edited or deleted Secret is restored. Fields that others may write are left alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::Cluster,
    marker::{in_base64, marked},
    test_namespace::{TestNamespace, clear, data, message},
};

const VALUES: [(&str, &str); 2] = [("user", "shop"), ("password", "as declared")];

/// Edits a Secret behind the controller's back.
type DriftEdit = fn(&TestNamespace, &str) -> Result<Value>;

#[test]
fn every_edit_is_undone() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("drift")?;
    let edits: [(&str, DriftEdit); 9] = [
        ("value-edited", |namespace, name| {
            let patch = json!({"data": {"password": in_base64("edited")}});
            namespace.api.merge(&namespace.secret_path(name), &patch)
        }),
        ("key-added", |namespace, name| {
            let patch = json!({"stringData": {"added": marked("by patch")}});
            namespace.api.merge(&namespace.secret_path(name), &patch)
        }),
        ("key-applied", |namespace, name| {
            let applied = json!({
                "apiVersion": "v1", "kind": "Secret", "data": {"added": in_base64("by apply")},
            });
            namespace.api.apply_as("other", &namespace.secret_path(name), &applied)
        }),
        ("value-applied", |namespace, name| {
            let applied = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"password": marked("by apply")},
            });
            namespace.api.apply_as("other", &namespace.secret_path(name), &applied)
        }),
        ("key-removed", |namespace, name| {
            namespace.api.merge(&namespace.secret_path(name), &json!({"data": {"user": null}}))
        }),
        ("owner-removed", |namespace, name| {
            let patch = json!({"metadata": {"ownerReferences": null}});
            namespace.api.merge(&namespace.secret_path(name), &patch)
        }),
        ("label-removed", |namespace, name| {
            let patch = json!({
                "metadata": {"labels": {"bulla.dev/target": null}},
                "data": {"password": in_base64("edited without label")},
            });
            namespace.api.merge(&namespace.secret_path(name), &patch)
        }),
        ("deleted", |namespace, name| {
            namespace.api.delete(&namespace.secret_path(name), &Value::Null)
        }),
        ("replaced", |namespace, name| {
            namespace.api.delete(&namespace.secret_path(name), &Value::Null)?;
            namespace.restored(name, &VALUES)
        }),
    ];
    let before = cluster.controller.metric("bulla_drift_repaired_total")?;
    for (name, _) in &edits {
        namespace.unseal(name, &VALUES)?;
    }
    for (name, edit) in &edits {
        edit(&namespace, name)?;
    }
    for (name, _) in &edits {
        let owner = namespace.sealed_secret(name)?["metadata"]["uid"].clone();
        is_as_declared(&namespace, name, &owner).with_context(|| (*name).to_owned())?;
        let event = namespace.event(name, "DriftRepaired")?;
        assert_eq!(event["type"], "Normal");
    }
    let repaired = cluster.controller.metric("bulla_drift_repaired_total")? - before;
    ensure!(repaired >= 9.0, "only {repaired} are counted");
    Ok(())
}

#[test]
fn edits_with_kubectl_are_undone() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("kubectl-drift")?;
    let owner = namespace.unseal("db", &VALUES)?["metadata"]["uid"].clone();
    let patch =
        json!({"stringData": {"password": marked("edited"), "added": marked("1")}}).to_string();
    let in_namespace = "--namespace=kubectl-drift";
    for command in [
        &["patch", "secret", "db", in_namespace, "--patch", &patch][..],
        &["label", "secret", "db", in_namespace, "bulla.dev/target-"],
        &["label", "secret", "db", in_namespace, "bulla.dev/target=other", "--overwrite"],
        &["delete", "secret", "db", in_namespace],
    ] {
        cluster.plane.kubectl(command)?;
        is_as_declared(&namespace, "db", &owner).with_context(|| command.join(" "))?;
    }
    Ok(())
}

#[test]
fn repeated_edits_are_damped_and_their_writer_is_named() -> Result<()> {
    let namespace = TestNamespace::shared("again-and-again")?;
    let owner = namespace.unseal("db", &VALUES)?["metadata"]["uid"].clone();
    let edit = |round: usize| {
        let patch = json!({"data": {"password": in_base64(&format!("edit {round}"))}});
        namespace.api.merge_as("fighter", &namespace.secret_path("db"), &patch)
    };
    // The first edits within a minute are undone as usual.
    for round in 0..3 {
        edit(round)?;
        is_as_declared(&namespace, "db", &owner)?;
    }
    edit(3)?;
    let contested = namespace.refused("db", "Contested")?;
    ensure!(
        message(&contested).starts_with("field manager fighter keeps changing the Secret"),
        "{}",
        message(&contested)
    );
    ensure!(data(&namespace.secret("db")?)? == clear(&VALUES), "it is not restored");
    // From now on repairs wait, but a change of the SealedSecret does not.
    edit(4)?;
    namespace.let_pass()?;
    ensure!(data(&namespace.secret("db")?)? != clear(&VALUES), "restored at once");
    namespace.apply(&namespace.seal("db", &[("password", "changed")])?)?;
    eventually("the changed value", SOON, || {
        ensure!(data(&namespace.secret("db")?)? == clear(&[("password", "changed")]), "not yet");
        Ok(())
    })?;
    // When the edits stop, the status returns to Ready by itself.
    eventually("peace", Duration::from_secs(60), || namespace.done("db"))?;
    let warnings = namespace.events("db", "Contested")?;
    ensure!(warnings.len() == 1, "{} Events", warnings.len());
    Ok(())
}

#[test]
fn labels_and_annotations_of_others_stay_and_cause_no_write_of_the_secret() -> Result<()> {
    let namespace = TestNamespace::shared("marks-of-others")?;
    namespace.unseal("db", &VALUES)?;
    let patch = json!({"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}}});
    let edited = namespace.api.merge(&namespace.secret_path("db"), &patch)?;
    let edited_at = &edited["metadata"]["resourceVersion"];
    // The controller has seen the edit and changes nothing.
    eventually("the edit to be seen", SOON, || {
        let seen = namespace.sealed_secret("db")?["status"]["target"]["resourceVersion"].clone();
        ensure!(seen == *edited_at, "{seen} is not {edited_at}");
        Ok(())
    })?;
    namespace.let_pass()?;
    let secret = namespace.secret("db")?;
    assert_eq!(secret["metadata"]["resourceVersion"], *edited_at);
    assert_eq!(secret["metadata"]["labels"]["theirs"], "1");
    assert_eq!(secret["metadata"]["annotations"]["theirs"], "1");
    ensure!(namespace.events("db", "DriftRepaired")?.is_empty(), "reported as drift");
    Ok(())
}

#[test]
fn edited_labels_and_annotations_of_the_template_are_restored() -> Result<()> {
    let namespace = TestNamespace::shared("edited-marks")?;
    let mut secret = crate::test_namespace::secret("db", &VALUES);
    secret["metadata"]["labels"] = json!({"team": "storage"});
    namespace.apply(&namespace.seal_secret(secret)?)?;
    let owner = namespace.done("db")?["metadata"]["uid"].clone();
    for team in [json!("other"), Value::Null] {
        let patch = json!({"metadata": {"labels": {"team": team}}});
        namespace.api.merge(&namespace.secret_path("db"), &patch)?;
        eventually("the label", SOON, || {
            let team = namespace.secret("db")?["metadata"]["labels"]["team"].clone();
            ensure!(team == "storage", "{team}");
            Ok(())
        })?;
        is_as_declared(&namespace, "db", &owner)?;
    }
    Ok(())
}

/// Waits until data, label and owner are as declared, and the status describes the current Secret.
fn is_as_declared(namespace: &TestNamespace, name: &str, owner: &Value) -> Result<()> {
    eventually("a Secret as declared", SOON, || {
        let secret = namespace.restored(name, &VALUES)?;
        let metadata = &secret["metadata"];
        ensure!(metadata["labels"]["bulla.dev/target"] == "owned", "{}", metadata["labels"]);
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(owners.len() == 1 && owners[0]["uid"] == *owner, "{owners:?}");
        let sealed_secret = namespace.done(name)?;
        let target = &sealed_secret["status"]["target"];
        ensure!(target["uid"] == metadata["uid"], "another Secret in the status");
        ensure!(
            target["resourceVersion"] == metadata["resourceVersion"],
            "the status is of {}, the Secret of {}",
            target["resourceVersion"],
            metadata["resourceVersion"]
        );
        ensure!(!data(&secret)?.is_empty(), "no data");
        Ok(())
    })
}
