//! Whatever fails, no plaintext and no key is said anywhere.

use anyhow::{Context, Result, ensure};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use bulla_sealing::{Identity, KeyType, Recipients};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    space::{SOON, Space, seal_for, secret},
};

const MARKER: &str = "MARKER-correct-horse-battery-staple";

#[test]
fn no_value_and_no_key_is_found_in_logs_events_status_and_metrics() -> Result<()> {
    let space = Space::shared("leaks")?;
    let identity = Identity::generate(KeyType::X25519)?;
    fail_in_every_way(&space, &identity)?;
    let key = identity.to_secret_string();
    let searched = [MARKER, &key];
    for (place, text) in said(&space)? {
        ensure!(!text.is_empty(), "nothing at all in {place}");
        for needle in searched {
            ensure!(!contains(&text, needle), "{place} has what must not be said");
        }
    }

    // That the search would find it.
    let planted = BASE64_STANDARD.encode(format!("..{MARKER}"));
    let event = json!({
        "metadata": {"name": "planted"}, "eventTime": "2026-11-01T00:00:00.000000Z",
        "reportingController": "example.com/planted", "reportingInstance": "planted",
        "action": "Plant", "reason": "Planted", "type": "Normal", "note": planted,
        "regarding": {"kind": "SealedSecret", "name": "planted", "namespace": space.name},
    });
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", space.name);
    space.api.create(&events, &event)?;
    let status = json!({"status": {"controller": format!("a{MARKER}")}});
    let path = space.sealed_secret_path("moved");
    space.api.merge(&format!("{path}/status"), &status)?;
    let found: Vec<_> = said(&space)?
        .into_iter()
        .filter(|(_, text)| contains(text, MARKER))
        .map(|(place, _)| place)
        .collect();
    assert_eq!(found, ["events", "status"]);
    for offset in ["", ".", ".."] {
        let text = BASE64_STANDARD.encode(format!("{offset}{MARKER}, and more"));
        ensure!(contains(&text, MARKER), "{text}");
    }

    // The next test to look should find nothing.
    space.api.delete(&format!("{events}/planted"), &Value::Null)?;
    space.api.delete(&path, &Value::Null)?;
    Ok(())
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
    for (name, _) in [("marker-0", ()), ("marker-1", ()), ("marker-2", ()), ("marker-3", ())] {
        space.api.delete(&format!("{identities}/{name}"), &Value::Null)?;
    }
    Ok(())
}

/// Everything that the controller has said, in this namespace and to all.
fn said(space: &Space) -> Result<Vec<(&'static str, String)>> {
    let controller = &Cluster::shared()?.controller;
    let list = space.api.get(&space.sealed_secrets())?;
    let statuses: Vec<_> =
        list["items"].as_array().into_iter().flatten().map(|item| item["status"].clone()).collect();
    let events = format!("/apis/events.k8s.io/v1/namespaces/{}/events", space.name);
    let system = "/apis/events.k8s.io/v1/namespaces/bulla-system/events";
    let events = format!("{}{}", space.api.get(&events)?, space.api.get(system)?);
    Ok(vec![
        ("log", controller.log()?),
        ("events", events),
        ("status", Value::from(statuses).to_string()),
        ("metrics", controller.get("/metrics")?.1),
    ])
}

/// Whether the text has it, raw or in base64 at any offset.
fn contains(text: &str, needle: &str) -> bool {
    // Less what is spelled otherwise when other bytes stand before or after.
    let in_base64 = (0..3).map(|offset| {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{}{needle}", " ".repeat(offset)));
        let first = (offset * 8).div_ceil(6);
        let last = (offset + needle.len()) * 8 / 6;
        encoded[first..last].to_owned()
    });
    text.contains(needle) || in_base64.into_iter().any(|encoded| text.contains(&encoded))
}
