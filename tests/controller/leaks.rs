//! Whatever fails, no plaintext and no key is printed anywhere, and the search would find one.

use std::thread;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_sealing::{Identity, KeyType, Recipients};
use bulla_tests::{Controller, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::{Cluster, Fragile, HOLDER},
    marker::{MARKER, Words},
    searched::{Searched, found_in_objects, said_in_objects, search_objects},
    test_namespace::{TestNamespace, large_annotations, seal_for, secret},
};

#[test]
fn no_value_and_no_key_is_found_in_logs_events_status_and_metrics() -> Result<()> {
    let namespace = TestNamespace::shared("leaks")?;
    let identity = Identity::generate(KeyType::X25519)?;
    fail_in_every_way(&namespace, &identity)?;
    let controller = &Cluster::shared()?.controller;
    controller.search()?;
    search_objects(&namespace.api, Some(&namespace.name))?;

    // Not even the rest of a key without its prefix.
    let key = identity.to_secret_string();
    let key = Words::new(&[&key["AGE-SECRET-KEY-1".len()..]]);
    let mut said = said_in_objects(&namespace.api, Some(&namespace.name))?;
    for place in ["the Event", "the status"] {
        let some =
            said.iter().any(|(said, text)| said.starts_with(place) && text.contains("Damaged"));
        ensure!(some, "nothing at all in {place}");
    }
    said.push(("the log".to_owned(), controller.log()?));
    said.push(("the metrics".to_owned(), controller.get("/metrics")?.1));
    for (place, text) in said {
        ensure!(!text.is_empty(), "nothing at all in {place}");
        ensure!(!key.are_in(&text), "{place} has a key");
    }
    Ok(())
}

#[test]
fn a_planted_event_and_a_planted_status_are_found() -> Result<()> {
    let namespace = TestNamespace::shared("planted")?;
    namespace.unseal("db", &[("password", "1")])?;
    let event = json!({
        "metadata": {"name": "planted"}, "eventTime": "2026-11-01T00:00:00.000000Z",
        "reportingController": "example.com/planted", "reportingInstance": "planted",
        "action": "Plant", "reason": "Planted", "type": "Normal",
        "note": BASE64_STANDARD.encode(format!("..{MARKER}")),
        "regarding": {"kind": "SealedSecret", "name": "planted", "namespace": namespace.name},
    });
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace.name);
    namespace.api.create(&events, &event)?;
    let status = json!({"status": {"controller": format!("a{MARKER}")}});
    let path = namespace.sealed_secret_path("db");
    namespace.api.merge(&format!("{path}/status"), &status)?;
    let found = found_in_objects(&namespace.api, Some(&namespace.name))?;
    assert_eq!(found, ["the Event Planted of planted/planted", "the status of planted/db"]);

    // The next search should find nothing.
    namespace.api.delete(&format!("{events}/planted"), &Value::Null)?;
    namespace.api.delete(&path, &Value::Null)?;
    Ok(())
}

#[test]
fn a_forbidden_text_is_found_wherever_a_controller_prints_it() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let namespace = TestNamespace::fragile(&fragile, "told")?;
    let mut command = Controller::command(&fragile.plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519", "--metrics-per-object"]);
    let controller = Searched::start(command)?;
    // The controller does not print values, but it prints names.
    let name = MARKER.to_lowercase();
    let mut moved = namespace.seal("other", &[("password", "1")])?;
    moved["metadata"]["name"] = json!(name);
    namespace.apply(&moved)?;
    namespace.refused(&name, "WrongBinding")?;
    namespace.event(&name, "WrongBinding")?;
    let mut found = controller.found()?;
    found.extend(found_in_objects(&namespace.api, None)?);
    for place in ["the log at ", "the metrics", "the Event WrongBinding ", "the status of told/"] {
        ensure!(
            found.iter().any(|found| found.starts_with(place)),
            "not found in {place}: {found:?}"
        );
    }
    ensure!(thread::spawn(|| drop(controller)).join().is_err(), "nothing was found at its end");

    fragile.plane.kubectl(&["delete", "namespace", &namespace.name])?;
    fragile.restart_and_give_back()
}

/// Creates objects with the marker in their values. Each fails in a different way.
fn fail_in_every_way(namespace: &TestNamespace, identity: &Identity) -> Result<()> {
    let values = [("password", MARKER), ("user", MARKER)];
    let stranger = Recipients::new(vec![Identity::generate(KeyType::X25519)?.recipient()])?;

    let mut moved = namespace.seal("moved", &values)?;
    moved["spec"] = namespace.seal("other", &values)?["spec"].clone();
    let unknown = seal_for(&namespace.name, secret("unknown", &values), &stranger)?;
    let mut damaged = namespace.seal("damaged", &values)?;
    let mut file = BASE64_STANDARD
        .decode(damaged["spec"]["sealedData"]["password"].as_str().context("no value")?)?;
    *file.last_mut().context("empty")? ^= 1;
    damaged["spec"]["sealedData"]["password"] = json!(BASE64_STANDARD.encode(file));
    let mut unfit = namespace.seal("unfit", &[(".dockerconfigjson", MARKER)])?;
    unfit["spec"]["template"] = json!({"type": "kubernetes.io/dockerconfigjson"});
    let mut refused = namespace.seal("refused", &values)?;
    refused["spec"]["template"] = json!({"type": "kubernetes.io/ssh-auth"});
    let mut basic = namespace.seal("basic", &[("neither", MARKER)])?;
    basic["spec"]["template"] = json!({"type": "kubernetes.io/basic-auth"});
    let mut large = namespace.seal("large", &values)?;
    large["spec"]["template"] = json!({"metadata": {"annotations": large_annotations()}});
    // Plaintext after the prefix of a sealed value.
    let mut pasted = namespace.seal("pasted", &values)?;
    let prefix = bulla_crds::SEALED_PREFIX;
    pasted["spec"]["sealedData"]["password"] = json!(format!("{prefix}{MARKER}"));

    namespace.api.create(&namespace.secrets(), &secret("taken", &values))?;
    namespace.apply(&namespace.seal("taken", &values)?)?;
    let mut immutable = namespace.seal("immutable", &values)?;
    immutable["spec"]["template"] = json!({"immutable": true});
    namespace.apply(&immutable)?;
    namespace.done("immutable")?;
    immutable["spec"]["sealedData"] =
        namespace.seal("immutable", &[("password", MARKER)])?["spec"]["sealedData"].clone();
    namespace.apply(&immutable)?;
    for object in [&moved, &unknown, &damaged, &unfit, &basic, &large, &pasted] {
        namespace.apply(object)?;
    }
    // The API server does not store these. Its answer goes only to the user who applied them.
    ensure!(namespace.apply(&refused).is_err(), "stored");

    let identities = "/api/v1/namespaces/bulla-system/secrets";
    let key = identity.to_secret_string();
    let malformed = [
        ("marker-0", json!({"identity.txt": MARKER})),
        ("marker-1", json!({"identity.txt": &*key, "more": MARKER})),
        ("marker-2", json!({"other": &*key})),
        ("marker-3", json!({"identity.txt": format!("{}x", &*key)})),
    ];
    for (name, string_data) in malformed {
        let secret = json!({
            "metadata": {"name": name}, "type": "bulla.dev/identity", "stringData": string_data,
        });
        namespace.api.create(identities, &secret)?;
    }

    namespace.unseal("drift", &values)?;
    let patch = json!({"stringData": {"password": format!("{MARKER}, edited"), "added": MARKER}});
    namespace.api.merge(&namespace.secret_path("drift"), &patch)?;
    namespace.restored("drift", &values)?;

    for (name, reason) in [
        ("moved", "WrongBinding"),
        ("unknown", "UnknownKey"),
        ("damaged", "Damaged"),
        ("unfit", "InvalidForType"),
        ("basic", "Invalid"),
        ("large", "TargetInvalid"),
        ("pasted", "NotSealed"),
        ("taken", "TargetExists"),
    ] {
        namespace.refused(name, reason)?;
        namespace.event(name, reason)?;
    }
    namespace.done("immutable")?;
    namespace.event("immutable", "Recreated")?;
    eventually("a report of the malformed identities", SOON, || {
        let log = Cluster::shared()?.controller.log()?;
        ensure!(log.contains("marker-3") && log.contains("invalid identity Secret"), "not yet");
        Ok(())
    })?;
    for name in ["marker-0", "marker-1", "marker-2", "marker-3"] {
        namespace.api.delete_kept(&format!("{identities}/{name}"))?;
    }
    Ok(())
}
