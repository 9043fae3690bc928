//! Secrets that somebody edits or deletes are restored; what others may write is left alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    marker::{in_base64, marked},
    space::{SOON, Space, clear, data, message},
};

const VALUES: [(&str, &str); 2] = [("user", "shop"), ("password", "as declared")];

/// Edits a Secret behind the controller's back.
type Edit = fn(&Space, &str) -> Result<Value>;

#[test]
fn every_edit_is_repaired() -> Result<()> {
    let cluster = Cluster::shared()?;
    let space = Space::shared("drift")?;
    let edits: [(&str, Edit); 9] = [
        ("value-edited", |space, name| {
            let patch = json!({"data": {"password": in_base64("edited")}});
            space.api.merge(&space.secret_path(name), &patch)
        }),
        ("key-added", |space, name| {
            let patch = json!({"stringData": {"added": marked("by patch")}});
            space.api.merge(&space.secret_path(name), &patch)
        }),
        ("key-applied", |space, name| {
            let applied = json!({
                "apiVersion": "v1", "kind": "Secret", "data": {"added": in_base64("by apply")},
            });
            space.api.apply_as("other", &space.secret_path(name), &applied)
        }),
        ("value-applied", |space, name| {
            let applied = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"password": marked("by apply")},
            });
            space.api.apply_as("other", &space.secret_path(name), &applied)
        }),
        ("key-removed", |space, name| {
            space.api.merge(&space.secret_path(name), &json!({"data": {"user": null}}))
        }),
        ("owner-removed", |space, name| {
            let patch = json!({"metadata": {"ownerReferences": null}});
            space.api.merge(&space.secret_path(name), &patch)
        }),
        ("label-removed", |space, name| {
            let patch = json!({
                "metadata": {"labels": {"bulla.dev/target": null}},
                "data": {"password": in_base64("edited without label")},
            });
            space.api.merge(&space.secret_path(name), &patch)
        }),
        ("deleted", |space, name| space.api.delete(&space.secret_path(name), &Value::Null)),
        ("replaced", |space, name| {
            space.api.delete(&space.secret_path(name), &Value::Null)?;
            space.restored(name, &VALUES)
        }),
    ];
    let before = cluster.controller.metric("bulla_drift_repaired_total")?;
    for (name, _) in &edits {
        space.unseal(name, &VALUES)?;
    }
    for (name, edit) in &edits {
        edit(&space, name)?;
    }
    for (name, _) in &edits {
        let owner = space.sealed_secret(name)?["metadata"]["uid"].clone();
        is_as_declared(&space, name, &owner).with_context(|| (*name).to_owned())?;
        let event = space.event(name, "DriftRepaired")?;
        assert_eq!(event["type"], "Normal");
    }
    let repaired = cluster.controller.metric("bulla_drift_repaired_total")? - before;
    ensure!(repaired >= 9.0, "only {repaired} are counted");
    Ok(())
}

#[test]
fn edits_with_kubectl_are_repaired() -> Result<()> {
    let cluster = Cluster::shared()?;
    let space = Space::shared("kubectl-drift")?;
    let owner = space.unseal("db", &VALUES)?["metadata"]["uid"].clone();
    let patch =
        json!({"stringData": {"password": marked("edited"), "added": marked("1")}}).to_string();
    let namespace = "--namespace=kubectl-drift";
    for command in [
        &["patch", "secret", "db", namespace, "--patch", &patch][..],
        &["label", "secret", "db", namespace, "bulla.dev/target-"],
        &["label", "secret", "db", namespace, "bulla.dev/target=adopt", "--overwrite"],
        &["delete", "secret", "db", namespace],
    ] {
        cluster.plane.kubectl(command)?;
        is_as_declared(&space, "db", &owner).with_context(|| command.join(" "))?;
    }
    Ok(())
}

#[test]
fn edits_again_and_again_are_damped_and_their_writer_is_named() -> Result<()> {
    let space = Space::shared("again-and-again")?;
    let owner = space.unseal("db", &VALUES)?["metadata"]["uid"].clone();
    let edit = |round: usize| {
        let patch = json!({"data": {"password": in_base64(&format!("edit {round}"))}});
        space.api.merge_as("fighter", &space.secret_path("db"), &patch)
    };
    // The first ones within a minute are nothing special.
    for round in 0..3 {
        edit(round)?;
        is_as_declared(&space, "db", &owner)?;
    }
    edit(3)?;
    let contested = space.refused("db", "Contested")?;
    ensure!(
        message(&contested).starts_with("field manager fighter keeps changing the Secret"),
        "{}",
        message(&contested)
    );
    ensure!(data(&space.secret("db")?)? == clear(&VALUES), "it is not restored");
    // From now on repairs wait, and a change of the SealedSecret does not.
    edit(4)?;
    space.let_pass()?;
    ensure!(data(&space.secret("db")?)? != clear(&VALUES), "restored at once");
    space.apply(&space.seal("db", &[("password", "changed")])?)?;
    eventually("the changed value", SOON, || {
        ensure!(data(&space.secret("db")?)? == clear(&[("password", "changed")]), "not yet");
        Ok(())
    })?;
    // When the fight is over, the status says so by itself.
    eventually("peace", Duration::from_secs(60), || space.done("db"))?;
    let warnings = space.events("db", "Contested")?;
    ensure!(warnings.len() == 1, "{} Events", warnings.len());
    Ok(())
}

#[test]
fn marks_of_others_are_not_reverted_and_cost_no_write_of_the_secret() -> Result<()> {
    let space = Space::shared("marks-of-others")?;
    space.unseal("db", &VALUES)?;
    let patch = json!({"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}}});
    let edited = space.api.merge(&space.secret_path("db"), &patch)?;
    let edited_at = &edited["metadata"]["resourceVersion"];
    // It has looked and is content.
    eventually("the edit to be seen", SOON, || {
        let seen = space.sealed_secret("db")?["status"]["target"]["resourceVersion"].clone();
        ensure!(seen == *edited_at, "{seen} is not {edited_at}");
        Ok(())
    })?;
    space.let_pass()?;
    let secret = space.secret("db")?;
    assert_eq!(secret["metadata"]["resourceVersion"], *edited_at);
    assert_eq!(secret["metadata"]["labels"]["theirs"], "1");
    assert_eq!(secret["metadata"]["annotations"]["theirs"], "1");
    ensure!(space.events("db", "DriftRepaired")?.is_empty(), "told as drift");
    Ok(())
}

#[test]
fn template_marks_that_are_edited_are_restored() -> Result<()> {
    let space = Space::shared("edited-marks")?;
    let mut secret = crate::space::secret("db", &VALUES);
    secret["metadata"]["labels"] = json!({"team": "storage"});
    space.apply(&space.seal_secret(secret)?)?;
    let owner = space.done("db")?["metadata"]["uid"].clone();
    for team in [json!("other"), Value::Null] {
        let patch = json!({"metadata": {"labels": {"team": team}}});
        space.api.merge(&space.secret_path("db"), &patch)?;
        eventually("the label", SOON, || {
            let team = space.secret("db")?["metadata"]["labels"]["team"].clone();
            ensure!(team == "storage", "{team}");
            Ok(())
        })?;
        is_as_declared(&space, "db", &owner)?;
    }
    Ok(())
}

/// Data, label and owner are as declared, and the status says so of the Secret as it is.
fn is_as_declared(space: &Space, name: &str, owner: &Value) -> Result<()> {
    eventually("a Secret as declared", SOON, || {
        let secret = space.restored(name, &VALUES)?;
        let metadata = &secret["metadata"];
        ensure!(metadata["labels"]["bulla.dev/target"] == "owned", "{}", metadata["labels"]);
        let owners = metadata["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(owners.len() == 1 && owners[0]["uid"] == *owner, "{owners:?}");
        let sealed_secret = space.done(name)?;
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
