//! The Secret that unsealing creates, and the status, Events and metrics about it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_tests::{Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::{Cluster, HOLDER},
    marker::{MARKER, marked},
    test_namespace::{TestNamespace, annotations, condition, data, secret, with_policy},
};

#[test]
fn the_secret_equals_the_plaintext_byte_for_byte() -> Result<()> {
    let namespace = TestNamespace::shared("bytes")?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut values = BTreeMap::from([
        ("every-byte".to_owned(), every_byte),
        ("empty".to_owned(), Vec::new()),
        ("newlines".to_owned(), b"\r\n\n".to_vec()),
        ("not.utf-8_".to_owned(), [&[0xff, 0xfe, 0x00], MARKER.as_bytes()].concat()),
        ("k".repeat(253), marked("a long key").into_bytes()),
    ]);
    values.extend((0..100).map(|i| (format!("key-{i}"), vec![i; usize::from(i)])));
    let in_base64: BTreeMap<_, _> =
        values.iter().map(|(key, value)| (key, BASE64_STANDARD.encode(value))).collect();
    let secret = json!({"metadata": {"name": "bytes"}, "data": in_base64});

    namespace.apply(&namespace.seal_secret(secret)?)?;
    namespace.done("bytes")?;
    ensure!(namespace.data("bytes")? == values, "not the same bytes");
    Ok(())
}

#[test]
fn a_secret_of_nearly_a_mebibyte_is_unsealed() -> Result<()> {
    let namespace = TestNamespace::shared("large")?;
    // The rest of the limit on sealed data after two headers.
    let half = "x".repeat(512 * 1024 - 4096);
    let values = [("one", half.as_str()), ("two", half.as_str())];
    namespace.unseal("large", &values)?;
    ensure!(
        namespace.data("large")? == crate::test_namespace::clear(&values),
        "not the same bytes"
    );
    Ok(())
}

#[test]
fn names_of_any_length_are_unsealed() -> Result<()> {
    let namespace = TestNamespace::shared("names")?;
    let longest = [["n"; 63].concat(), ["n"; 63].concat(), ["n"; 63].concat(), ["n"; 61].concat()];
    for name in ["a", "db.internal.example.com", "0", &longest.join(".")] {
        namespace.unseal(name, &[("password", name)])?;
        ensure!(
            namespace.data(name)? == crate::test_namespace::clear(&[("password", name)]),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn a_template_sets_type_labels_and_annotations_and_nothing_else_is_copied() -> Result<()> {
    let namespace = TestNamespace::shared("template")?;
    let mut tls = secret("tls", &[("tls.crt", "certificate"), ("tls.key", "key")]);
    tls["type"] = json!("kubernetes.io/tls");
    tls["immutable"] = json!(true);
    tls["metadata"]["labels"] = json!({"team": "shop", "app.kubernetes.io/name": "web"});
    tls["metadata"]["annotations"] = json!({"reloader.example.com/match": "true"});
    let mut sealed_secret = namespace.seal_secret(tls)?;
    // Labels and annotations of the SealedSecret itself, and tracking labels of other tools in the template.
    sealed_secret["metadata"]["labels"] =
        json!({"theirs": "label", "app.kubernetes.io/instance": "shop"});
    sealed_secret["metadata"]["annotations"] =
        json!({"theirs": "annotation", "argocd.argoproj.io/tracking-id": "shop:x"});
    let marks = &mut sealed_secret["spec"]["template"]["metadata"];
    marks["labels"]["app.kubernetes.io/instance"] = json!("shop");
    marks["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("shop");
    marks["labels"]["bulla.dev/target"] = json!("adopt");
    marks["annotations"]["argocd.argoproj.io/tracking-id"] = json!("shop:x");
    marks["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!("{}");

    namespace.apply(&sealed_secret)?;
    let sealed_secret = namespace.done("tls")?;
    let secret = namespace.secret("tls")?;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["immutable"], true);
    let metadata = &secret["metadata"];
    let labels =
        json!({"team": "shop", "app.kubernetes.io/name": "web", "bulla.dev/target": "owned"});
    assert_eq!(metadata["labels"], labels);
    assert_eq!(annotations(&secret)?, json!({"reloader.example.com/match": "true"}));
    let owner = json!([{
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "tls",
        "uid": sealed_secret["metadata"]["uid"], "controller": true,
    }]);
    assert_eq!(metadata["ownerReferences"], owner);
    assert_eq!(metadata["finalizers"], Value::Null);
    Ok(())
}

#[test]
fn the_status_event_and_columns_report_what_was_done() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("status")?;
    let unsealed = namespace.unseal("db", &[("user", "shop"), ("password", "marked")])?;
    let secret = namespace.secret("db")?;

    let conditions = unsealed["status"]["conditions"].as_array().context("no conditions")?;
    assert_eq!(conditions.len(), 1, "{conditions:?}");
    let ready = condition(&unsealed, "Ready");
    assert_eq!(ready["observedGeneration"], 1);
    assert_eq!(ready["message"], "unsealed 2 keys");
    let fingerprint =
        cluster.recipients.iter().next().context("no recipient")?.fingerprint().to_string();
    let mut status = unsealed["status"].clone();
    status.as_object_mut().context("no status")?.remove("conditions");
    let expected = json!({
        "observedGeneration": 1,
        "target": {
            "uid": secret["metadata"]["uid"],
            "resourceVersion": secret["metadata"]["resourceVersion"],
            "generation": 1,
            "keys": ["password", "user"],
            "policy": "Owner",
            "renderer": 2,
        },
        "fingerprints": [fingerprint],
        "controller": format!("bulla-system/{HOLDER}"),
    });
    assert_eq!(status, expected);
    assert_eq!(Verdict::of(&unsealed)?.status, Status::Current);

    let table = cluster.plane.kubectl(&["get", "bs", "--namespace", "status", "-o", "wide"])?;
    let rows: Vec<Vec<_>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "REASON", "AGE", "MESSAGE"]);
    assert_eq!(rows[1][..3], ["db", "True", "Unsealed"]);
    assert_eq!(rows[1][4..].join(" "), "unsealed 2 keys");
    cluster.plane.kubectl(&["wait", "--for=condition=Ready", "bs/db", "--namespace", "status"])?;
    let category =
        cluster.plane.kubectl(&["get", "bulla", "--namespace", "status", "-o", "name"])?;
    assert_eq!(category.trim(), "sealedsecret.bulla.dev/db");
    Ok(())
}

#[test]
fn an_event_reports_a_change_but_not_the_first_success() -> Result<()> {
    let namespace = TestNamespace::shared("changes")?;
    namespace.unseal("db", &[("password", "1")])?;
    let unsealed = namespace.unseal("db", &[("password", "2"), ("user", "shop")])?;
    let event = namespace.event("db", "Unsealed")?;
    assert_eq!(event["type"], "Normal");
    assert_eq!(event["note"], "unsealed 2 keys");
    assert_eq!(event["regarding"]["uid"], unsealed["metadata"]["uid"]);
    assert_eq!(namespace.events("db", "Unsealed")?.len(), 1);
    Ok(())
}

#[test]
fn changed_added_and_removed_keys_give_exactly_the_declared_data() -> Result<()> {
    let namespace = TestNamespace::shared("update")?;
    namespace.unseal("db", &[("kept", "1"), ("changed", "1"), ("removed", "1")])?;
    let before = namespace.secret("db")?;
    let values = [("kept", "1"), ("changed", "2"), ("added", "")];
    let unsealed = namespace.unseal("db", &values)?;
    let after = namespace.secret("db")?;
    ensure!(data(&after)? == crate::test_namespace::clear(&values), "not exact");
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(unsealed["status"]["target"]["keys"], json!(["added", "changed", "kept"]));
    assert_eq!(
        unsealed["status"]["target"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    assert_eq!(unsealed["status"]["observedGeneration"], 2);
    assert_eq!(condition(&unsealed, "Ready")["observedGeneration"], 2);
    assert_eq!(namespace.events("db", "DriftRepaired")?, Vec::<Value>::new());
    Ok(())
}

/// Otherwise anyone who may change a SealedSecret and read its status could try guesses against a value.
#[test]
fn a_new_generation_changes_the_target_even_if_its_values_are_equal() -> Result<()> {
    let namespace = TestNamespace::shared("guesses")?;
    let merged = json!({
        "metadata": {"name": "merge", "labels": {"bulla.dev/target": "merge"}}, "type": "Opaque",
    });
    namespace.api.create(&namespace.secrets(), &merged)?;
    for (name, policy, is_immutable) in [
        ("owner", "Owner", false),
        ("orphan", "Orphan", false),
        ("immutable", "Owner", true),
        ("merge", "Merge", false),
    ] {
        let pin = |pin: &str| -> Result<Value> {
            let mut guess = with_policy(namespace.seal(name, &[("pin", pin)])?, policy);
            if is_immutable {
                guess["spec"]["template"] = json!({"immutable": true});
            }
            Ok(guess)
        };
        let observe = || -> Result<(Value, Value)> {
            let done = namespace.done(name)?;
            let secret = namespace.secret(name)?["metadata"].clone();
            assert_eq!(done["status"]["target"]["resourceVersion"], secret["resourceVersion"]);
            Ok((secret["uid"].clone(), secret["resourceVersion"].clone()))
        };
        namespace.apply(&pin("4711")?)?;
        let mut before = observe()?;
        for guess in ["4710", "4711", "4711", "4712"] {
            namespace.apply(&pin(guess)?)?;
            let after = observe()?;
            ensure!(after.1 != before.1, "{name}: {guess} was not written");
            ensure!((after.0 != before.0) == is_immutable, "{name}: {guess} tells itself apart");
            before = after;
        }
    }
    Ok(())
}

#[test]
fn template_changes_are_applied_and_labels_of_others_stay() -> Result<()> {
    let namespace = TestNamespace::shared("marks")?;
    let mut with_marks = secret("db", &[("password", "1")]);
    with_marks["metadata"]["labels"] = json!({"changed": "1", "removed": "1"});
    with_marks["metadata"]["annotations"] = json!({"changed": "1", "removed": "1"});
    let mut sealed_secret = namespace.seal_secret(with_marks)?;
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    let theirs = json!({"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}}});
    namespace.api.merge(&namespace.secret_path("db"), &theirs)?;
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"labels": {"applied": "1"}, "annotations": {"applied": "1"}},
    });
    namespace.api.apply_as("other", &namespace.secret_path("db"), &applied)?;

    let marks = &mut sealed_secret["spec"]["template"]["metadata"];
    marks["labels"] = json!({"changed": "2", "added": "2"});
    marks["annotations"] = json!({"changed": "2", "added": "2"});
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    let secret = namespace.secret("db")?;
    let mut expected = json!({"changed": "2", "added": "2", "theirs": "1", "applied": "1"});
    assert_eq!(annotations(&secret)?, expected);
    expected["bulla.dev/target"] = json!("owned");
    assert_eq!(secret["metadata"]["labels"], expected);

    sealed_secret["spec"].as_object_mut().context("no spec")?.remove("template");
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    let secret = namespace.secret("db")?;
    assert_eq!(annotations(&secret)?, json!({"theirs": "1", "applied": "1"}));
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"theirs": "1", "applied": "1", "bulla.dev/target": "owned"})
    );
    Ok(())
}

#[test]
fn nulls_and_unknown_fields_are_ignored() -> Result<()> {
    let namespace = TestNamespace::shared("nulls")?;
    let sealed_data = namespace.seal("db", &[("password", "1")])?["spec"]["sealedData"].clone();
    let specs = [
        json!({"template": null, "target": null}),
        json!({"template": {"type": null, "immutable": null, "metadata": null}}),
        json!({"template": {"metadata": {"labels": null, "annotations": null}}}),
        json!({"template": {"metadata": {"labels": {"a": null}, "annotations": {"a": null}}}}),
        json!({"template": {}, "target": {}, "unknown": 1}),
        json!({"target": {"policy": null}}),
    ];
    for mut spec in specs {
        spec["sealedData"] = sealed_data.clone();
        let manifest = json!({
            "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db", "labels": null}, "spec": spec,
        });
        // A field that the API server drops is ignored too.
        if let Err(error) = namespace.api.create(&namespace.sealed_secrets(), &manifest) {
            ensure!(crate::api::code(&error) == Some(422), "{error:#}");
            continue;
        }
        namespace.done("db")?;
        namespace.api.delete(&namespace.sealed_secret_path("db"), &Value::Null)?;
        namespace.gone(&namespace.secret_path("db"))?;
    }
    Ok(())
}

#[test]
fn one_invalid_object_harms_no_other() -> Result<()> {
    let namespace = TestNamespace::shared("company")?;
    let mut bad = namespace.seal("bad", &[("password", "1")])?;
    let moved = namespace.seal("other", &[("password", "1")])?;
    bad["spec"] = moved["spec"].clone();
    namespace.apply(&bad)?;
    for i in 0..20 {
        namespace.apply(&namespace.seal(&format!("good-{i}"), &[("password", "1")])?)?;
    }
    for i in 0..20 {
        namespace.done(&format!("good-{i}"))?;
    }
    namespace.refused("bad", "WrongBinding")?;
    eventually("the metric of objects by condition", SOON, || {
        let refused = Cluster::shared()?.controller.metric(
            "bulla_sealed_secrets{condition=\"Ready\",status=\"False\",reason=\"WrongBinding\"",
        )?;
        ensure!(refused >= 1.0, "{refused}");
        Ok(())
    })
}
