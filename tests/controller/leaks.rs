//! Whatever fails, no plaintext and no key is said anywhere; and who says one is found.

use std::thread;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_sealing::{Identity, KeyType, Recipients};
use bulla_tests::{Controller, eventually};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Fragile, HOLDER},
    marker::{MARKER, Words},
    searched::{Searched, found_in_objects, said_in_objects, search_objects},
    space::{SOON, Space, seal_for, secret},
};

#[test]
fn no_value_and_no_key_is_found_in_logs_events_status_and_metrics() -> Result<()> {
    let space = Space::shared("leaks")?;
    let identity = Identity::generate(KeyType::X25519)?;
    fail_in_every_way(&space, &identity)?;
    let controller = &Cluster::shared()?.controller;
    controller.search()?;
    search_objects(&space.api, Some(&space.name))?;

    // Not even a key without its beginning.
    let key = identity.to_secret_string();
    let key = Words::new(&[&key["AGE-SECRET-KEY-1".len()..]]);
    let mut said = said_in_objects(&space.api, Some(&space.name))?;
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
fn planted_event_and_status_are_found() -> Result<()> {
    let space = Space::shared("planted")?;
    space.unseal("db", &[("password", "1")])?;
    let event = json!({
        "metadata": {"name": "planted"}, "eventTime": "2026-11-01T00:00:00.000000Z",
        "reportingController": "example.com/planted", "reportingInstance": "planted",
        "action": "Plant", "reason": "Planted", "type": "Normal",
        "note": BASE64_STANDARD.encode(format!("..{MARKER}")),
        "regarding": {"kind": "SealedSecret", "name": "planted", "namespace": space.name},
    });
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", space.name);
    space.api.create(&events, &event)?;
    let status = json!({"status": {"controller": format!("a{MARKER}")}});
    let path = space.sealed_secret_path("db");
    space.api.merge(&format!("{path}/status"), &status)?;
    let found = found_in_objects(&space.api, Some(&space.name))?;
    assert_eq!(found, ["the Event Planted of planted/planted", "the status of planted/db"]);

    // The next search should find nothing.
    space.api.delete(&format!("{events}/planted"), &Value::Null)?;
    space.api.delete(&path, &Value::Null)?;
    Ok(())
}

#[test]
fn what_a_controller_says_is_found_wherever_it_says_it() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let space = Space::fragile(&fragile, "told")?;
    let mut command = Controller::command(&fragile.plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519", "--metrics-per-object"]);
    let controller = Searched::start(command)?;
    // Values are not said, names are.
    let name = MARKER.to_lowercase();
    let mut moved = space.seal("other", &[("password", "1")])?;
    moved["metadata"]["name"] = json!(name);
    space.apply(&moved)?;
    space.refused(&name, "WrongBinding")?;
    space.event(&name, "WrongBinding")?;
    let mut found = controller.found()?;
    found.extend(found_in_objects(&space.api, None)?);
    for place in ["the log at ", "the metrics", "the Event WrongBinding ", "the status of told/"] {
        ensure!(found.iter().any(|found| found.starts_with(place)), "not {place}: {found:?}");
    }
    ensure!(thread::spawn(|| drop(controller)).join().is_err(), "nothing was found at its end");

    fragile.plane.kubectl(&["delete", "namespace", &space.name])?;
    fragile.restart_and_give_back()
}

/// Leaves objects with the marker in their values, each failing in another way.
fn fail_in_every_way(space: &Space, identity: &Identity) -> Result<()> {
    let values = [("password", MARKER), ("user", MARKER)];
    let stranger = Recipients::new(vec![Identity::generate(KeyType::X25519)?.recipient()])?;

    let mut moved = space.seal("moved", &values)?;
    moved["spec"] = space.seal("other", &values)?["spec"].clone();
    let unknown = seal_for(&space.name, secret("unknown", &values), &stranger)?;
    let mut damaged = space.seal("damaged", &values)?;
    let mut file = BASE64_STANDARD
        .decode(damaged["spec"]["sealedData"]["password"].as_str().context("no value")?)?;
    *file.last_mut().context("empty")? ^= 1;
    damaged["spec"]["sealedData"]["password"] = json!(BASE64_STANDARD.encode(file));
    let mut unfit = space.seal("unfit", &[(".dockerconfigjson", MARKER)])?;
    unfit["spec"]["template"] = json!({"type": "kubernetes.io/dockerconfigjson"});
    let mut refused = space.seal("refused", &values)?;
    refused["spec"]["template"] = json!({"type": "kubernetes.io/ssh-auth"});
    let mut basic = space.seal("basic", &[("neither", MARKER)])?;
    basic["spec"]["template"] = json!({"type": "kubernetes.io/basic-auth"});
    // Plaintext behind the beginning of a sealed value.
    let mut pasted = space.seal("pasted", &values)?;
    let prefix = bulla_crds::rules::SEALED_PREFIX;
    pasted["spec"]["sealedData"]["password"] = json!(format!("{prefix}{MARKER}"));

    space.api.create(&space.secrets(), &secret("taken", &values))?;
    space.apply(&space.seal("taken", &values)?)?;
    let mut immutable = space.seal("immutable", &values)?;
    immutable["spec"]["template"] = json!({"immutable": true});
    space.apply(&immutable)?;
    space.done("immutable")?;
    immutable["spec"]["sealedData"] =
        space.seal("immutable", &[("password", MARKER)])?["spec"]["sealedData"].clone();
    space.apply(&immutable)?;
    for object in [&moved, &unknown, &damaged, &unfit, &basic, &pasted] {
        space.apply(object)?;
    }
    // These are not stored: the API server's answer goes to whoever applied them.
    ensure!(space.apply(&refused).is_err(), "stored");

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
        space.api.create(identities, &secret)?;
    }

    space.unseal("drift", &values)?;
    let patch = json!({"stringData": {"password": format!("{MARKER}, edited"), "added": MARKER}});
    space.api.merge(&space.secret_path("drift"), &patch)?;
    space.restored("drift", &values)?;

    for (name, reason) in [
        ("moved", "WrongBinding"),
        ("unknown", "UnknownKey"),
        ("damaged", "Damaged"),
        ("unfit", "InvalidForType"),
        ("basic", "TargetInvalid"),
        ("pasted", "NotSealed"),
        ("taken", "TargetExists"),
    ] {
        space.refused(name, reason)?;
        space.event(name, reason)?;
    }
    space.done("immutable")?;
    space.event("immutable", "Recreated")?;
    eventually("the malformed identities to be told of", SOON, || {
        let log = Cluster::shared()?.controller.log()?;
        ensure!(log.contains("marker-3") && log.contains("unusable"), "not yet");
        Ok(())
    })?;
    for name in ["marker-0", "marker-1", "marker-2", "marker-3"] {
        space.api.delete_kept(&format!("{identities}/{name}"))?;
    }
    Ok(())
}
