//! Secrets that the controller must not write, and Secrets that it cannot write.

use anyhow::{Result, ensure};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    SOON,
    test_namespace::{TestNamespace, clear, data, large_annotations, message, secret},
};

const VALUES: [(&str, &str); 1] = [("password", "sealed")];

/// Longer than the minute after which the controller checks again.
const MINUTE_AND_A_BIT: std::time::Duration = std::time::Duration::from_secs(75);

#[test]
fn a_foreign_secret_is_not_touched() -> Result<()> {
    let namespace = TestNamespace::shared("foreign")?;
    let controlled_by = |api_version: &str, kind: &str, name: &str| {
        json!([{
            "apiVersion": api_version, "kind": kind, "name": name, "controller": true,
            "uid": namespace.api.get(&format!("/api/v1/namespaces/{}", namespace.name))
                .map_or(Value::Null, |found| found["metadata"]["uid"].clone()),
        }])
    };
    // The owner of the last two must exist, or they are garbage collected. A Namespace serves as the owner.
    let other = "already exists and was not made from this SealedSecret; label it \
                 bulla.dev/target=adopt to hand it over, delete it, or rename one of the two";
    let cases = [
        ("plain", json!({}), other.to_owned()),
        ("labelled", json!({"labels": {"bulla.dev/target": "owned"}}), other.to_owned()),
        (
            "controlled",
            json!({
                "labels": {"bulla.dev/target": "owned"},
                "ownerReferences": controlled_by("v1", "Namespace", &namespace.name),
            }),
            format!(
                "is controlled by Namespace {}; delete it, or rename one of the two",
                namespace.name
            ),
        ),
    ];
    let mut foreign = Vec::new();
    for (name, metadata, _) in &cases {
        let mut theirs = secret(name, &[("password", "theirs"), ("more", "theirs")]);
        for (field, value) in metadata.as_object().into_iter().flatten() {
            theirs["metadata"][field] = value.clone();
        }
        foreign.push(namespace.api.create(&namespace.secrets(), &theirs)?);
        namespace.apply(&namespace.seal(name, &VALUES)?)?;
    }
    for (name, _, expected) in &cases {
        let refused = namespace.refused(name, "TargetExists")?;
        assert_eq!(message(&refused), format!("Secret {name} {expected}"));
        assert_eq!(refused["status"]["target"], Value::Null);
    }
    namespace.let_pass()?;
    for ((name, ..), before) in cases.iter().zip(foreign) {
        ensure!(namespace.secret(name)? == before, "{name} was touched");
    }
    // A change of either object is handled at once.
    for (name, ..) in &cases {
        namespace.api.delete(&namespace.secret_path(name), &Value::Null)?;
        let touch = json!({"metadata": {"annotations": {"look": "again"}}});
        namespace.api.merge(&namespace.sealed_secret_path(name), &touch)?;
        namespace.done(name)?;
        ensure!(namespace.data(name)? == clear(&VALUES), "not the values");
    }
    Ok(())
}

#[test]
fn a_deleted_foreign_secret_is_replaced_within_a_minute() -> Result<()> {
    let namespace = TestNamespace::shared("foreign-goes")?;
    namespace.api.create(&namespace.secrets(), &secret("db", &[("password", "theirs")]))?;
    namespace.apply(&namespace.seal("db", &VALUES)?)?;
    namespace.refused("db", "TargetExists")?;
    // The Secret has no Bulla label, so no watch reports its deletion.
    namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    eventually("the Secret", MINUTE_AND_A_BIT, || {
        ensure!(namespace.has_secret("db")?, "it does not exist yet");
        Ok(())
    })?;
    namespace.done("db")?;
    Ok(())
}

#[test]
fn a_foreign_secret_in_place_of_a_deleted_target_is_not_touched() -> Result<()> {
    let namespace = TestNamespace::shared("usurped")?;
    let mut sealed_secret = namespace.seal("db", &VALUES)?;
    sealed_secret["metadata"]["annotations"] = json!({"touched": "0"});
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    // Sooner or later another writer's Secret of the same name wins the race against the repair.
    let usurper = eventually("a usurper", SOON, || {
        namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
        namespace.api.create(&namespace.secrets(), &secret("db", &[("password", "theirs")]))
    })?;
    namespace.refused("db", "TargetExists")?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == usurper, "it was touched");
    Ok(())
}

#[test]
fn a_secret_that_cannot_be_changed_is_recreated() -> Result<()> {
    let namespace = TestNamespace::shared("immutable")?;
    let manifest = |password: &str, type_: &str| {
        let mut sealed_secret = namespace.seal("db", &[("password", password)])?;
        sealed_secret["spec"]["template"] = json!({"immutable": true, "type": type_});
        anyhow::Ok(sealed_secret)
    };
    namespace.apply(&manifest("old", "Opaque")?)?;
    namespace.done("db")?;
    for (password, type_) in [("new", "Opaque"), ("new", "example.com/other")] {
        let before = namespace.secret("db")?;
        namespace.apply(&manifest(password, type_)?)?;
        namespace.done("db")?;
        let after = namespace.secret("db")?;
        ensure!(data(&after)? == clear(&[("password", password)]), "not the new value");
        assert_eq!((&after["type"], &after["immutable"]), (&json!(type_), &json!(true)));
        ensure!(after["metadata"]["uid"] != before["metadata"]["uid"], "it is the same Secret");
    }
    assert_eq!(namespace.event("db", "Recreated")?["type"], "Normal");
    Ok(())
}

#[test]
fn no_secret_is_deleted_for_one_that_the_api_server_would_refuse() -> Result<()> {
    let namespace = TestNamespace::shared("immutable-kept")?;
    let mut sealed_secret = namespace.seal("db", &[("token", "old")])?;
    sealed_secret["spec"]["template"] = json!({"immutable": true});
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    let before = namespace.secret("db")?;
    let metadata = json!({"annotations": large_annotations()});
    sealed_secret["spec"]["template"] = json!({"immutable": true, "metadata": metadata});
    namespace.apply(&sealed_secret)?;
    namespace.refused("db", "TargetInvalid")?;
    namespace.let_pass()?;
    ensure!(namespace.secret("db")? == before, "it was touched");
    Ok(())
}

#[test]
fn a_policy_that_denies_the_secret_is_named_and_tried_again() -> Result<()> {
    let namespace = TestNamespace::shared("denied")?;
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "metadata": {"name": "denied.example.com"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "denied"}},
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["secrets"],
                }],
            },
            // Without a reason the API server answers with 422, as for an object that is not valid.
            "validations": [{
                "expression": "object.metadata.name != 'db'",
                "messageExpression": "'no ' + string(object.data['password'])",
            }],
        },
    });
    let binding = json!({
        "metadata": {"name": "denied.example.com"},
        "spec": {"policyName": "denied.example.com", "validationActions": ["Deny"]},
    });
    let policies = format!("{admission}/validatingadmissionpolicies");
    let bindings = format!("{admission}/validatingadmissionpolicybindings");
    namespace.api.create(&policies, &policy)?;
    namespace.api.create(&bindings, &binding)?;
    eventually("the policy to be in force", SOON, || {
        let dry_run = format!("{}?dryRun=All", namespace.secrets());
        let denied = namespace.api.create(&dry_run, &secret("db", &VALUES));
        ensure!(denied.is_err(), "not yet");
        Ok(())
    })?;
    namespace.apply(&namespace.seal("db", &VALUES)?)?;
    let denied = namespace.retried("db", "Forbidden")?;
    assert_eq!(
        message(&denied),
        "the API server denies it because of the ValidatingAdmissionPolicy denied.example.com"
    );
    namespace.api.delete(&format!("{bindings}/denied.example.com"), &Value::Null)?;
    namespace.api.delete(&format!("{policies}/denied.example.com"), &Value::Null)?;
    eventually("another attempt", MINUTE_AND_A_BIT, || namespace.done("db"))?;
    Ok(())
}

/// The API server charges a quota for a create, even if it fails because the name is taken.
#[test]
fn waiting_for_a_foreign_secret_does_not_fill_the_quota() -> Result<()> {
    let namespace = TestNamespace::shared("charged")?;
    namespace.api.create(&namespace.secrets(), &secret("db", &[("password", "theirs")]))?;
    let quotas = format!("/api/v1/namespaces/{}/resourcequotas", namespace.name);
    let quota = json!({"metadata": {"name": "all"}, "spec": {"hard": {"count/secrets": "100"}}});
    namespace.api.create(&quotas, &quota)?;
    let used = || -> Result<u32> {
        let quota = namespace.api.get(&format!("{quotas}/all"))?;
        let used = quota["status"]["used"]["count/secrets"].as_str().unwrap_or_default();
        used.parse().map_err(|_| anyhow::anyhow!("not counted yet"))
    };
    let before = eventually("the quota to be counted", SOON, used)?;
    namespace.apply(&namespace.seal("db", &VALUES)?)?;
    namespace.refused("db", "TargetExists")?;
    // The first attempts come after about 1, 2, 3, 5 and 8 seconds.
    let touched = std::time::Instant::now();
    eventually("some attempts", SOON, || {
        ensure!(touched.elapsed().as_secs() >= 9, "not yet");
        Ok(())
    })?;
    let after = used()?;
    ensure!(after <= before + 1, "{before} before, {after} after");

    namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    eventually("the Secret to be replaced", SOON, || namespace.done("db"))?;
    ensure!(data(&namespace.secret("db")?)? == clear(&VALUES), "other values");
    Ok(())
}
