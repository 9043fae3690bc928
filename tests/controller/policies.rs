//! The policies Owner, Orphan and Merge: who owns the Secret, which parts Bulla manages, and who must consent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulla_tests::{Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::Cluster,
    marker::{in_base64, marked},
    test_namespace::{
        TestNamespace, annotations, clear, condition, data, message, refusal, secret, with_policy,
    },
};

const VALUES: [(&str, &str); 2] = [("user", "shop"), ("password", "sealed")];

/// Far shorter than the minute after which the controller checks again by itself, so a watch must have reported the
/// change.
const AT_ONCE: Duration = Duration::from_secs(20);

const LABEL: &str = "bulla.dev/target";

#[test]
fn an_owned_secret_is_exactly_as_declared_and_is_deleted_with_its_sealed_secret() -> Result<()> {
    let namespace = TestNamespace::shared("policy-owner")?;
    let mut sealed_secret = with_policy(namespace.seal("db", &VALUES)?, "Owner");
    sealed_secret["spec"]["template"] = json!({"type": "example.com/login"});
    namespace.apply(&sealed_secret)?;
    let owner = namespace.done("db")?["metadata"]["uid"].clone();
    let theirs = json!({"stringData": {"theirs": marked("1"), "password": marked("edited")}});
    namespace.api.merge(&namespace.secret_path("db"), &theirs)?;
    let owned = namespace.restored("db", &VALUES)?;
    assert_eq!(owned["type"], "example.com/login");
    assert_eq!(owned["metadata"]["labels"], json!({LABEL: "owned"}));
    let reference = json!([{
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": owner,
        "controller": true,
    }]);
    assert_eq!(owned["metadata"]["ownerReferences"], reference);
    assert_eq!(owned["metadata"]["finalizers"], Value::Null);
    assert_eq!(namespace.sealed_secret("db")?["metadata"]["finalizers"], Value::Null);

    namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
    namespace.gone(&namespace.secret_path("db"))
}

#[test]
fn an_orphan_stays_unchanged_and_is_taken_over_only_with_consent() -> Result<()> {
    let namespace = TestNamespace::shared("policy-orphan")?;
    namespace.apply(&with_policy(namespace.seal("db", &VALUES)?, "Orphan"))?;
    namespace.done("db")?;
    let patch = json!({"stringData": {"theirs": marked("1"), "password": marked("edited")}});
    namespace.api.merge(&namespace.secret_path("db"), &patch)?;
    namespace.restored("db", &VALUES)?;
    namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    let orphan = namespace.restored("db", &VALUES)?;
    assert_eq!(orphan["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(orphan["metadata"]["labels"], json!({LABEL: "owned"}));

    namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
    namespace.gone(&namespace.sealed_secret_path("db"))?;
    namespace.let_collect()?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == orphan, "it was changed");

    // Otherwise anyone who may create a SealedSecret could take over the Secrets that others left behind.
    for policy in ["Orphan", "Owner"] {
        let other = [("password", policy)];
        namespace.apply(&with_policy(namespace.seal("db", &other)?, policy))?;
        let refused = namespace.refused("db", "TargetExists")?;
        ensure!(message(&refused).contains("bulla.dev/target=adopt"), "{}", message(&refused));
        assert_eq!(refused["status"]["target"], Value::Null);
        ensure!(namespace.secret("db")? == orphan, "it was taken over");
    }
    consent(&namespace, "db", "adopt")?;
    let owned = done_at_once(&namespace, "db")?;
    ensure!(data(&owned)? == clear(&[("password", "Owner")]), "expected exactly the sealed values");
    assert_eq!(owned["metadata"]["uid"], orphan["metadata"]["uid"]);
    Ok(())
}

#[test]
fn a_consenting_secret_is_taken_over_at_once_and_keeps_the_labels_of_others() -> Result<()> {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let namespace = TestNamespace::shared("policy-adopt")?;
    // One Secret consents after its SealedSecret is created, one before.
    for (name, policy, is_early) in
        [("late", "Owner", false), ("early", "Owner", true), ("orphan", "Orphan", false)]
    {
        let mut manifest = secret(name, &[("password", "theirs"), ("more", "theirs")]);
        manifest["metadata"]["namespace"] = json!(namespace.name);
        manifest["metadata"]["labels"] = json!({"theirs": "1"});
        manifest["metadata"]["annotations"] = json!({"theirs": "1"});
        let admin = Cluster::shared()?.plane.admin();
        admin.run_with_input(&["apply", "--filename=-"], &manifest.to_string())?;
        let foreign = namespace.secret(name)?;
        ensure!(
            !foreign["metadata"]["annotations"][LAST_APPLIED].is_null(),
            "kubectl wrote no annotation"
        );
        if is_early {
            consent(&namespace, name, "adopt")?;
        }
        namespace.apply(&with_policy(namespace.seal(name, &VALUES)?, policy))?;
        if !is_early {
            namespace.refused(name, "TargetExists")?;
            consent(&namespace, name, "adopt")?;
        }
        let adopted = done_at_once(&namespace, name)?;
        ensure!(data(&adopted)? == clear(&VALUES), "{name} does not have exactly the values");
        let metadata = &adopted["metadata"];
        assert_eq!(metadata["uid"], foreign["metadata"]["uid"]);
        assert_eq!(metadata["labels"], json!({"theirs": "1", LABEL: "adopt"}));
        assert_eq!(annotations(&adopted)?, json!({"theirs": "1"}));
        let owners = metadata["ownerReferences"].as_array().map_or(0, Vec::len);
        assert_eq!(owners, usize::from(policy == "Owner"));
    }
    Ok(())
}

#[test]
fn a_consenting_secret_of_another_type_is_recreated() -> Result<()> {
    let namespace = TestNamespace::shared("policy-adopt-type")?;
    let mut foreign = secret("db", &[("password", "theirs")]);
    foreign["type"] = json!("example.com/theirs");
    foreign["metadata"]["labels"] = json!({LABEL: "adopt"});
    namespace.api.create(&namespace.secrets(), &foreign)?;
    namespace.unseal("db", &VALUES)?;
    let adopted = namespace.secret("db")?;
    ensure!(data(&adopted)? == clear(&VALUES), "expected exactly the sealed values");
    assert_eq!(adopted["type"], "Opaque");
    assert_eq!(adopted["metadata"]["labels"], json!({LABEL: "owned"}));
    Ok(())
}

#[test]
fn a_secret_without_valid_consent_is_left_alone() -> Result<()> {
    let namespace = TestNamespace::shared("policy-no-consent")?;
    // An owner must exist, or the Secret is garbage collected. A Namespace serves as the owner.
    let owner = namespace.api.get(&format!("/api/v1/namespaces/{}", namespace.name))?;
    let controlled = json!([{
        "apiVersion": "v1", "kind": "Namespace", "name": namespace.name, "controller": true,
        "uid": owner["metadata"]["uid"],
    }]);
    // A full copy, as from `kubectl get -o yaml`, under another name.
    let original = namespace.unseal("original", &VALUES)?;
    let copied = namespace.secret("original")?["metadata"]["ownerReferences"].clone();
    ensure!(copied[0]["uid"] == original["metadata"]["uid"], "expected an owned Secret: {copied}");
    let cases = [
        ("withdrawn", json!("adopt"), Value::Null, "label it bulla.dev/target=adopt"),
        ("for-merge", json!("merge"), Value::Null, "label it bulla.dev/target=adopt"),
        ("copied-label", json!("owned"), Value::Null, "label it bulla.dev/target=adopt"),
        ("another-word", json!("Adopt"), Value::Null, "label it bulla.dev/target=adopt"),
        ("controlled", json!("adopt"), controlled, "is controlled by Namespace policy-no-consent"),
        ("copied", json!("owned"), copied, "is controlled by SealedSecret original"),
    ];
    let mut foreign = Vec::new();
    for (name, label, owners, _) in &cases {
        let mut theirs = secret(name, &[("password", "theirs")]);
        theirs["metadata"]["labels"] = json!({LABEL: label});
        theirs["metadata"]["ownerReferences"] = owners.clone();
        namespace.api.create(&namespace.secrets(), &theirs)?;
        if *name == "withdrawn" {
            let patch = json!({"metadata": {"labels": {LABEL: null}}});
            namespace.api.merge(&namespace.secret_path(name), &patch)?;
        }
        foreign.push(namespace.secret(name)?);
        namespace.apply(&namespace.seal(name, &VALUES)?)?;
    }
    for (name, .., expected) in &cases {
        let refused = namespace.refused(name, "TargetExists")?;
        ensure!(message(&refused).contains(expected), "{name}: {}", message(&refused));
    }
    namespace.let_pass()?;
    for ((name, ..), before) in cases.iter().zip(foreign) {
        ensure!(namespace.secret(name)? == before, "{name} was changed");
    }
    Ok(())
}

#[test]
fn merge_adds_keys_and_leaves_the_others_to_their_owner() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge")?;
    let theirs = [("username", "theirs"), ("password", "theirs")];
    let before =
        namespace.api.create(&namespace.secrets(), &foreign(&namespace, "db", &theirs)?)?;
    let mut sealed_secret = merging(&namespace, "db", &[("a", "1"), ("b", "2")])?;
    sealed_secret["spec"]["template"] = json!({"data": {"rendered": "<{{ a }}>"}});
    let rendered = format!("<{}>", marked("1"));
    namespace.apply(&sealed_secret)?;
    let done = namespace.done("db")?;
    let merged = namespace.secret("db")?;
    let both = [&theirs[..], &[("a", "1"), ("b", "2"), ("rendered", &rendered)]].concat();
    ensure!(data(&merged)? == clear(&both), "expected the owner's keys and the merged keys");
    for field in ["uid", "labels", "ownerReferences"] {
        assert_eq!(merged["metadata"][field], before["metadata"][field], "{field}");
    }
    assert_eq!(annotations(&merged)?, before["metadata"]["annotations"]);
    assert_eq!(merged["type"], "kubernetes.io/basic-auth");
    let target = &done["status"]["target"];
    assert_eq!(target["keys"], json!(["a", "b", "rendered"]));
    assert_eq!((&target["uid"], &target["policy"]), (&merged["metadata"]["uid"], &json!("Merge")));

    // An edit of a merged key is undone. An edit of the owner's key stays.
    let edits = json!({"data": {
        "a": in_base64("edited"), "b": null,
        "password": in_base64("changed by its owner"),
        "more": in_base64("of its owner"),
    }});
    namespace.api.merge(&namespace.secret_path("db"), &edits)?;
    let theirs =
        [("username", "theirs"), ("password", "changed by its owner"), ("more", "of its owner")];
    let both = [&theirs[..], &[("a", "1"), ("b", "2"), ("rendered", &rendered)]].concat();
    namespace.restored("db", &both)?;
    namespace.event("db", "DriftRepaired")?;

    // An edit of the owner's key only: the controller sees it and writes nothing.
    let edit =
        json!({"metadata": {"labels": {"theirs": "2"}}, "data": {"username": in_base64("1")}});
    let edited = namespace.api.merge(&namespace.secret_path("db"), &edit)?;
    eventually("the edit to be seen", SOON, || {
        let seen = namespace.done("db")?["status"]["target"]["resourceVersion"].clone();
        ensure!(seen == edited["metadata"]["resourceVersion"], "not yet");
        Ok(())
    })?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == edited, "it was written");

    let theirs =
        [("username", "1"), ("password", "changed by its owner"), ("more", "of its owner")];
    namespace.apply(&merging(&namespace, "db", &[("a", "changed")])?)?;
    namespace.done("db")?;
    let both = [&theirs[..], &[("a", "changed")]].concat();
    ensure!(
        namespace.data("db")? == clear(&both),
        "expected exactly the keys that are no longer declared to be removed"
    );

    let before = namespace.secret("db")?;
    namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
    namespace.let_collect()?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == before, "it was changed");
    // Bulla still owns the keys that the API server's record attributes to it.
    namespace.apply(&merging(&namespace, "db", &[("a", "again"), ("c", "3")])?)?;
    namespace.done("db")?;
    let both = [&theirs[..], &[("a", "again"), ("c", "3")]].concat();
    ensure!(namespace.data("db")? == clear(&both), "expected the owner's keys and the merged keys");
    Ok(())
}

#[test]
fn merge_never_takes_over_a_key() -> Result<()> {
    let namespace = TestNamespace::shared("policy-key-taken")?;
    let theirs = [("username", "theirs"), ("password", "theirs")];
    let before =
        namespace.api.create(&namespace.secrets(), &foreign(&namespace, "db", &theirs)?)?;
    let values = [("a", "1"), ("password", "theirs")];
    namespace.apply(&merging(&namespace, "db", &values)?)?;
    let refused = namespace.refused("db", "KeyTaken")?;
    assert_eq!(
        message(&refused),
        "key password already exists in Secret db and belongs to somebody else; rename one of the two keys, or delete the existing one"
    );
    assert_eq!(refused["status"]["target"], Value::Null);
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == before, "it was written");

    namespace.api.merge(&namespace.secret_path("db"), &json!({"data": {"password": null}}))?;
    done_at_once(&namespace, "db")?;
    let both = [("username", "theirs"), ("a", "1"), ("password", "theirs")];
    ensure!(namespace.data("db")? == clear(&both), "expected the owner's keys and the merged keys");

    // A key that is already merged does not allow another one.
    let before = namespace.secret("db")?;
    let values = [("a", "2"), ("username", "ours")];
    namespace.apply(&merging(&namespace, "db", &values)?)?;
    let refused = namespace.refused("db", "KeyTaken")?;
    ensure!(
        message(&refused).starts_with("key username already exists in "),
        "{}",
        message(&refused)
    );
    ensure!(namespace.secret("db")? == before, "it was written");
    Ok(())
}

#[test]
fn merge_needs_the_secrets_consent() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge-consent")?;
    for (name, label) in
        [("none", Value::Null), ("adopt", json!("adopt")), ("owned", json!("owned"))]
    {
        let mut theirs = secret(name, &[("theirs", "1")]);
        theirs["metadata"]["labels"] = json!({LABEL: label});
        let before = namespace.api.create(&namespace.secrets(), &theirs)?;
        namespace.apply(&merging(&namespace, name, &VALUES)?)?;
        let refused = namespace.refused(name, "TargetExists")?;
        assert_eq!(
            message(&refused),
            format!(
                "Secret {name} does not allow merging; its owner can allow it with the label bulla.dev/target=merge"
            )
        );
        namespace.let_pass()?;
        ensure!(namespace.secret(name)? == before, "{name} was changed");
        consent(&namespace, name, "merge")?;
        let merged = done_at_once(&namespace, name)?;
        let both = [&[("theirs", "1")][..], &VALUES].concat();
        ensure!(data(&merged)? == clear(&both), "expected the owner's keys and the merged keys");
    }
    // Consent withdrawn: from then on only the owner writes it.
    let withdraw = json!({
        "metadata": {"labels": {LABEL: null}}, "data": {"password": in_base64("theirs")},
    });
    let withdrawn = namespace.api.merge(&namespace.secret_path("none"), &withdraw)?;
    namespace.refused("none", "TargetExists")?;
    namespace.let_pass()?;
    ensure!(namespace.secret("none")? == withdrawn, "it was changed");
    Ok(())
}

#[test]
fn merge_waits_for_a_missing_secret() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge-waits")?;
    namespace.apply(&merging(&namespace, "db", &VALUES)?)?;
    for round in ["first", "again"] {
        let waiting = namespace.retried("db", "TargetMissing")?;
        assert_eq!(
            message(&waiting),
            "Secret db does not exist yet; policy Merge only adds keys to an existing Secret"
        );
        assert_eq!(Verdict::of(&waiting)?.status, Status::InProgress);
        namespace.let_pass()?;
        ensure!(!namespace.has_secret("db")?, "it was created");
        namespace
            .api
            .create(&namespace.secrets(), &foreign(&namespace, "db", &[("username", round)])?)?;
        let merged = done_at_once(&namespace, "db")?;
        let both = [&[("username", round)][..], &VALUES].concat();
        ensure!(data(&merged)? == clear(&both), "expected the owner's keys and the merged keys");
        namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    }
    Ok(())
}

#[test]
fn merge_never_recreates_a_secret() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge-immutable")?;
    let mut theirs = foreign(&namespace, "db", &[("username", "theirs")])?;
    theirs["immutable"] = json!(true);
    let before = namespace.api.create(&namespace.secrets(), &theirs)?;
    namespace.apply(&merging(&namespace, "db", &VALUES)?)?;
    namespace.refused("db", "TargetImmutable")?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == before, "it was changed");
    Ok(())
}

#[test]
fn merge_may_declare_only_keys() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge-template")?;
    for template in [
        json!({"type": "Opaque"}),
        json!({"immutable": false}),
        json!({"metadata": {"labels": {"ours": "1"}}}),
    ] {
        let mut sealed_secret = merging(&namespace, "db", &VALUES)?;
        sealed_secret["spec"]["template"] = template;
        let said = refusal(namespace.apply(&sealed_secret))?;
        ensure!(
            said.contains("policy Merge only adds keys to a Secret that somebody else owns"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn the_owner_reference_follows_the_policy() -> Result<()> {
    let namespace = TestNamespace::shared("policy-switch")?;
    let first = namespace.unseal("db", &VALUES)?;
    let before = namespace.secret("db")?;
    for (policy, owners) in [("Orphan", 0), ("Owner", 1), ("Orphan", 0)] {
        namespace.apply(&with_policy(namespace.seal("db", &VALUES)?, policy))?;
        let done = namespace.done("db")?;
        assert_eq!(done["status"]["target"]["policy"], policy);
        let switched = namespace.secret("db")?;
        let references = switched["metadata"]["ownerReferences"].as_array();
        assert_eq!(references.map_or(0, Vec::len), owners, "{policy}");
        if owners == 1 {
            assert_eq!(
                switched["metadata"]["ownerReferences"],
                before["metadata"]["ownerReferences"]
            );
        }
        assert_eq!(switched["metadata"]["uid"], before["metadata"]["uid"]);
        ensure!(data(&switched)? == clear(&VALUES), "{policy}: expected exactly the sealed values");
    }
    assert_eq!(before["metadata"]["ownerReferences"][0]["uid"], first["metadata"]["uid"]);
    ensure!(namespace.events("db", "DriftRepaired")?.is_empty(), "reported as drift");
    let orphan = namespace.secret("db")?;
    namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
    namespace.let_collect()?;
    ensure!(namespace.secret("db")? == orphan, "the orphan was changed");
    Ok(())
}

#[test]
fn a_secret_merged_into_is_not_owned_by_a_change_of_policy() -> Result<()> {
    let namespace = TestNamespace::shared("policy-merge-to-owner")?;
    namespace
        .api
        .create(&namespace.secrets(), &foreign(&namespace, "db", &[("username", "theirs")])?)?;
    namespace.apply(&merging(&namespace, "db", &VALUES)?)?;
    namespace.done("db")?;
    let merged = namespace.secret("db")?;
    for policy in ["Owner", "Orphan"] {
        namespace.apply(&with_policy(namespace.seal("db", &[("password", "ours")])?, policy))?;
        namespace.refused("db", "TargetExists")?;
        namespace.let_pass()?;
        ensure!(namespace.secret("db")? == merged, "{policy}: it was changed");
    }
    namespace.apply(&merging(&namespace, "db", &VALUES)?)?;
    namespace.done("db")?;
    ensure!(data(&namespace.secret("db")?)? == data(&merged)?, "expected the merged values");

    // This Secret has another controller, so not even consent helps.
    namespace.apply(&with_policy(namespace.seal("db", &VALUES)?, "Orphan"))?;
    consent(&namespace, "db", "adopt")?;
    let refused = namespace.refused("db", "TargetExists")?;
    ensure!(message(&refused).contains("is controlled by Namespace"), "{}", message(&refused));
    namespace
        .api
        .merge(&namespace.secret_path("db"), &json!({"metadata": {"ownerReferences": null}}))?;
    let adopted = done_at_once(&namespace, "db")?;
    ensure!(data(&adopted)? == clear(&VALUES), "expected exactly the sealed values");
    Ok(())
}

#[test]
fn merge_refuses_an_owned_secret() -> Result<()> {
    let namespace = TestNamespace::shared("policy-owner-to-merge")?;
    namespace.unseal("db", &VALUES)?;
    let owned = namespace.secret("db")?;
    namespace.apply(&merging(&namespace, "db", &[("password", "merged")])?)?;
    namespace.refused("db", "TargetExists")?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == owned, "it was changed");
    Ok(())
}

#[test]
fn tracking_labels_and_annotations_are_never_on_the_target() -> Result<()> {
    let namespace = TestNamespace::shared("policy-tracking")?;
    let mut labels = json!({
        "app.kubernetes.io/instance": "shop",
        "app.kubernetes.io/managed-by": "Helm",
        "argocd.argoproj.io/instance": "shop",
        "kustomize.toolkit.fluxcd.io/name": "shop",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
        "helm.toolkit.fluxcd.io/name": "shop",
        "helm.toolkit.fluxcd.io/namespace": "flux-system",
        LABEL: "adopt",
        "bulla.dev/other": "1",
    });
    let mut marks = json!({
        "argocd.argoproj.io/tracking-id": "shop:/Secret:shop/db",
        "argocd.argoproj.io/installation-id": "1",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "meta.helm.sh/release-name": "shop",
        "meta.helm.sh/release-namespace": "shop",
        "bulla.dev/other": "1",
    });
    let other_labels = json!({
        "app.kubernetes.io/name": "db", "team": "shop",
        "argocd.argoproj.io/secret-type": "repository",
    });
    let other_annotations = json!({
        "reloader.example.com/match": "true", "kubectl.kubernetes.io/restartedAt": "2026",
        "kustomize.toolkit.fluxcd.io/substitute": "disabled", "example.com/text": "any {{ password }} text",
    });
    add(&mut labels, &other_labels)?;
    add(&mut marks, &other_annotations)?;
    for policy in ["Owner", "Orphan"] {
        let name = policy.to_lowercase();
        let mut sealed_secret = with_policy(namespace.seal(&name, &VALUES)?, policy);
        sealed_secret["spec"]["template"] =
            json!({"metadata": {"labels": labels, "annotations": marks}});
        namespace.apply(&sealed_secret)?;
        namespace.done(&name)?;
        let secret = namespace.secret(&name)?;
        let mut expected = other_labels.clone();
        expected[LABEL] = json!("owned");
        assert_eq!(secret["metadata"]["labels"], expected);
        assert_eq!(annotations(&secret)?, other_annotations);
    }
    Ok(())
}

/// Seals with the policy Merge.
fn merging(namespace: &TestNamespace, name: &str, data: &[(&str, &str)]) -> Result<Value> {
    Ok(with_policy(namespace.seal(name, data)?, "Merge"))
}

/// Another owner's Secret with its own labels, annotations, owner and type, which consents to Merge.
fn foreign(namespace: &TestNamespace, name: &str, data: &[(&str, &str)]) -> Result<Value> {
    let owner = namespace.api.get(&format!("/api/v1/namespaces/{}", namespace.name))?;
    let mut foreign = secret(name, data);
    foreign["type"] = json!("kubernetes.io/basic-auth");
    foreign["metadata"]["labels"] = json!({LABEL: "merge", "theirs": "1"});
    foreign["metadata"]["annotations"] = json!({"theirs": "1"});
    foreign["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Namespace", "name": namespace.name, "controller": true,
        "uid": owner["metadata"]["uid"],
    }]);
    Ok(foreign)
}

/// Labels the Secret as consenting to be taken over or merged into.
fn consent(namespace: &TestNamespace, name: &str, to: &str) -> Result<()> {
    let patch = json!({"metadata": {"labels": {LABEL: to}}});
    namespace.api.merge(&namespace.secret_path(name), &patch)?;
    Ok(())
}

/// Waits a short time until the SealedSecret is done. Returns its Secret.
fn done_at_once(namespace: &TestNamespace, name: &str) -> Result<Value> {
    eventually(&format!("{name}, at once"), AT_ONCE, || {
        let sealed_secret = namespace.sealed_secret(name)?;
        ensure!(
            condition(&sealed_secret, "Ready")["status"] == "True",
            "{}",
            sealed_secret["status"]
        );
        let secret = namespace.secret(name)?;
        let written = &sealed_secret["status"]["target"]["resourceVersion"];
        ensure!(*written == secret["metadata"]["resourceVersion"], "the status is out of date");
        Ok(secret)
    })
}

/// Adds the entries of `others` to those of `marks`.
fn add(marks: &mut Value, others: &Value) -> Result<()> {
    let marks = marks.as_object_mut().context("expected a mapping")?;
    marks.extend(others.as_object().context("expected a mapping")?.clone());
    Ok(())
}
