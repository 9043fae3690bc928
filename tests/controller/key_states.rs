//! Changes of keys other than renewal: found, mounted, activated, revoked, lost, malformed.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_crds::keys;
use bulla_sealing::{Identity, KeyType, Recipients};
use bulla_tests::{Folder, Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    api::Api,
    cluster::{Fragile, HOLDER, SEALING_KEYS},
    keys::IDENTITIES,
    renewal::{active, restarted},
    test_namespace::{TestNamespace, clear, condition, message, seal_for, secret},
};

/// An identity that the controller has not generated.
struct Found {
    identity: Identity,
    name: String,
}

impl Found {
    fn new() -> Result<Self> {
        let identity = Identity::generate(KeyType::X25519)?;
        let name = identity.recipient().fingerprint().to_string();
        Ok(Self { identity, name })
    }

    fn recipients(&self) -> Result<Recipients> {
        Ok(Recipients::new(vec![self.identity.recipient()])?)
    }

    fn store(&self, api: &Api) -> Result<()> {
        let text = keys::identity_file(&self.identity);
        let secret = json!({
            "metadata": {"name": self.name}, "type": "bulla.dev/identity",
            "stringData": {"identity.txt": &**text},
        });
        api.create(IDENTITIES, &secret).map(drop)
    }

    fn secret_path(&self) -> String {
        format!("{IDENTITIES}/{}", self.name)
    }

    fn key_path(&self) -> String {
        format!("{SEALING_KEYS}/{}", self.name)
    }

    /// Stores it and waits until the controller holds it.
    fn held(api: &Api) -> Result<Self> {
        let found = Self::new()?;
        found.store(api)?;
        found.said(api, "Held", "Held")?;
        Ok(found)
    }

    /// Waits for a condition of its key with this reason.
    fn said(&self, api: &Api, type_: &str, reason: &str) -> Result<Value> {
        eventually(&format!("{type_} {reason}"), SOON, || {
            let key = api.get(&self.key_path())?;
            let said = condition(&key, type_);
            ensure!(said["reason"] == reason, "{}", key["status"]);
            Ok(key)
        })
    }

    fn set_state(&self, api: &Api, state: &str) -> Result<()> {
        api.merge(&self.key_path(), &json!({"spec": {"state": state}})).map(drop)
    }

    fn in_state(&self, api: &Api, state: &str) -> Result<()> {
        eventually(&format!("state {state}"), SOON, || {
            let key = api.get(&self.key_path())?;
            ensure!(key["spec"]["state"] == state, "{}", key["spec"]["state"]);
            Ok(())
        })
    }
}

fn sealed(namespace: &TestNamespace, name: &str, to: &Recipients) -> Result<Value> {
    namespace.apply(&seal_for(&namespace.name, secret(name, &[("password", name)]), to)?)
}

#[test]
fn a_key_added_at_run_time_opens_waiting_values_at_once() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "key-comes")?;
    let found = Found::new()?;
    for i in 0..5 {
        sealed(&namespace, &format!("db-{i}"), &found.recipients()?)?;
    }
    namespace.refused("db-0", "UnknownKey")?;
    found.store(&fragile.api)?;
    for i in 0..5 {
        namespace.done(&format!("db-{i}"))?;
    }
    let key = found.said(&fragile.api, "Ready", "Retired")?;
    assert_eq!(key["spec"]["state"], "Retired");
    assert_eq!(key["spec"]["holder"], HOLDER);
    eventually("the count", Duration::from_secs(90), || {
        let key = fragile.api.get(&found.key_path())?;
        let live = &key["status"]["sealedSecrets"];
        ensure!(live["count"] == 5 && live["at"].is_string(), "{live}");
        Ok(())
    })?;
    fragile.give_back()
}

#[test]
fn a_user_hands_over_to_a_found_key_and_back() -> Result<()> {
    let fragile = Fragile::lock()?;
    let old = active(&fragile.api)?;
    let found = Found::held(&fragile.api)?;
    let hand_over = |from: &str, to: &str| {
        let patch = json!({
            "metadata": {"annotations": {"bulla.dev/successor": to}},
            "spec": {"state": "Retired"},
        });
        fragile.api.merge(&format!("{SEALING_KEYS}/{from}"), &patch)?;
        eventually("the successor", SOON, || {
            ensure!(active(&fragile.api)? == to, "not yet");
            let from = fragile.api.get(&format!("{SEALING_KEYS}/{from}"))?;
            let successor = &from["metadata"]["annotations"]["bulla.dev/successor"];
            ensure!(successor.is_null(), "the successor is still set");
            Ok(())
        })
    };
    hand_over(&old, &found.name)?;
    hand_over(&found.name, &old)?;
    found.in_state(&fragile.api, "Retired")?;
    fragile.give_back()
}

#[test]
fn a_revoked_key_opens_nothing_and_existing_secrets_stay() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "revoked")?;
    let found = Found::held(&fragile.api)?;
    let other = Found::held(&fragile.api)?;
    let both = Recipients::new(vec![found.identity.recipient(), other.identity.recipient()])?;
    sealed(&namespace, "alone", &found.recipients()?)?;
    sealed(&namespace, "both", &both)?;
    for name in ["alone", "both"] {
        namespace.done(name)?;
    }
    let resource_version = namespace.secret("alone")?["metadata"]["resourceVersion"].clone();

    found.set_state(&fragile.api, "Revoked")?;
    let refused = namespace.refused("alone", "RevokedKey")?;
    ensure!(message(&refused).contains(&found.name), "{}", message(&refused));
    assert_eq!(namespace.secret("alone")?["metadata"]["resourceVersion"], resource_version);
    sealed(&namespace, "both", &both)?;
    namespace.done("both")?;
    sealed(&namespace, "late", &found.recipients()?)?;
    namespace.refused("late", "RevokedKey")?;
    found.said(&fragile.api, "Held", "Revoked")?;
    eventually("the mark", SOON, || {
        let secret = fragile.api.get(&found.secret_path())?;
        ensure!(secret["metadata"]["annotations"]["bulla.dev/revoked"] == "true", "not yet");
        Ok(())
    })?;

    // Neither a restart nor a new SealingKey undoes the revocation.
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    fragile.api.delete_kept(&found.key_path())?;
    found.in_state(&fragile.api, "Revoked")?;
    let declared = fragile.api.get(&found.key_path())?;
    fragile.api.delete_kept(&found.key_path())?;
    let again = json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
        "metadata": {"name": found.name},
        "spec": {
            "recipient": declared["spec"]["recipient"], "holder": HOLDER,
            "created": declared["spec"]["created"], "state": "Retired",
        },
    });
    // The controller may have created it first.
    let _ = fragile.api.create(SEALING_KEYS, &again);
    found.in_state(&fragile.api, "Revoked")?;
    sealed(&namespace, "later", &found.recipients()?)?;
    namespace.refused("later", "RevokedKey")?;
    fragile.give_back()
}

#[test]
fn a_missing_identity_opens_values_until_its_key_is_revoked() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "lost")?;
    let found = Found::held(&fragile.api)?;
    let missing = || fragile.controller.metric("bulla_identities_missing");
    let before = missing()?;
    fragile.api.delete_kept(&found.secret_path())?;
    let key = found.said(&fragile.api, "Held", "IdentityMissing")?;
    assert_eq!(condition(&key, "Ready")["status"], "False");
    assert_eq!(missing()?, before + 1.0);
    sealed(&namespace, "later", &found.recipients()?)?;
    namespace.done("later")?;

    found.store(&fragile.api)?;
    found.said(&fragile.api, "Held", "Held")?;
    assert_eq!(missing()?, before);
    fragile.api.delete_kept(&found.secret_path())?;
    found.said(&fragile.api, "Held", "IdentityMissing")?;
    found.set_state(&fragile.api, "Revoked")?;
    namespace.refused("later", "RevokedKey")?;
    let secret = namespace.data("later")?;
    ensure!(secret == clear(&[("password", "later")]), "the Secret did not stay");
    fragile.give_back()
}

#[test]
fn a_missing_identity_of_the_active_key_is_reported_and_not_replaced() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let name = active(&fragile.api)?;
    let path = format!("{IDENTITIES}/{name}");
    let mut identity = fragile.api.get(&path)?;
    fragile.controller.stop(SOON)?;
    fragile.api.delete_kept(&path)?;
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    eventually("a report of the loss", SOON, || {
        let key = fragile.api.get(&format!("{SEALING_KEYS}/{name}"))?;
        ensure!(condition(&key, "Ready")["reason"] == "IdentityMissing", "{}", key["status"]);
        Ok(())
    })?;
    assert_eq!(active(&fragile.api)?, name);
    ensure!(fragile.controller.metric("bulla_identities_missing")? >= 1.0, "no alert");
    identity["metadata"] = json!({"name": name});
    fragile.api.create(IDENTITIES, &identity)?;
    eventually("the end of it", SOON, || {
        let key = fragile.api.get(&format!("{SEALING_KEYS}/{name}"))?;
        ensure!(condition(&key, "Ready")["reason"] == "Active", "{}", key["status"]);
        Ok(())
    })?;
    fragile.give_back()
}

#[test]
fn mounted_identities_open_values_like_all_others() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "mounted")?;
    let folder = Folder::new("bulla-mounted-")?;
    let found = Found::new()?;
    let file = folder.path().join("identity.txt");
    fs::write(&file, keys::identity_file(&found.identity).as_bytes())?;
    fs::write(folder.path().join("notes.txt"), "AGE-SECRET-KEY-1NOTREALLY\n")?;
    let path = folder.path().display().to_string();
    let controller = restarted(&mut fragile, &["--identities-folder", &path])?;
    sealed(&namespace, "db", &found.recipients()?)?;
    namespace.done("db")?;
    let key = found.said(&fragile.api, "Held", "Held")?;
    assert_eq!(key["spec"]["state"], "Retired");
    ensure!(controller.metric("bulla_keys_unusable")? >= 1.0, "an invalid file is not reported");
    ensure!(fragile.api.get_opt(&found.secret_path())?.is_none(), "it was copied into a Secret");

    // Add a file while it runs, and remove one.
    let late = Found::new()?;
    sealed(&namespace, "late", &late.recipients()?)?;
    namespace.refused("late", "UnknownKey")?;
    let other = folder.path().join("late.txt");
    fs::write(other, keys::identity_file(&late.identity).as_bytes())?;
    namespace.done("late")?;
    fs::remove_file(file)?;
    found.said(&fragile.api, "Held", "IdentityMissing")?;
    drop(controller);
    fragile.restart_and_give_back()
}

#[test]
fn malformed_key_objects_are_reported_and_do_no_harm() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "malformed-keys")?;
    let unusable = || fragile.controller.metric("bulla_keys_unusable");
    let before = unusable()?;
    // Swapped: the identity of one key under the name of another.
    let (one, other) = (Found::new()?, Found::new()?);
    let swapped = json!({
        "metadata": {"name": one.name}, "type": "bulla.dev/identity",
        "stringData": {"identity.txt": &**keys::identity_file(&other.identity)},
    });
    let empty = json!({"metadata": {"name": "empty"}, "type": "bulla.dev/identity"});
    let torn = json!({
        "metadata": {"name": "torn"}, "type": "bulla.dev/identity",
        "stringData": {"identity.txt": "AGE-SECRET-KEY-1TORN"},
    });
    let misnamed = json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
        "metadata": {"name": "0123456789abcdef"},
        "spec": {
            "recipient": one.identity.recipient().to_string(), "holder": HOLDER,
            "created": "2026-11-01T00:00:00Z", "state": "Active",
        },
    });
    for secret in [&swapped, &empty, &torn] {
        fragile.api.create(IDENTITIES, secret)?;
    }
    fragile.api.create(SEALING_KEYS, &misnamed)?;
    eventually("reports of all four", SOON, || {
        let count = unusable()? - before;
        ensure!(count == 4.0, "{count}");
        let key = fragile.api.get(&format!("{SEALING_KEYS}/0123456789abcdef"))?;
        ensure!(condition(&key, "Ready")["reason"] == "Misnamed", "{}", key["status"]);
        // Tools that deploy it do not wait for it.
        ensure!(condition(&key, "Stalled")["reason"] == "Misnamed", "{}", key["status"]);
        let verdict = Verdict::of(&key)?;
        ensure!(verdict.status == Status::Failed, "{verdict:?}");
        Ok(())
    })?;
    namespace.unseal("db", &[("password", "1")])?;
    sealed(&namespace, "swapped", &other.recipients()?)?;
    namespace.refused("swapped", "UnknownKey")?;
    for name in [one.name.as_str(), "empty", "torn"] {
        fragile.api.delete_kept(&format!("{IDENTITIES}/{name}"))?;
    }
    fragile.api.delete_kept(&format!("{SEALING_KEYS}/0123456789abcdef"))?;
    eventually("the end of it", SOON, || {
        ensure!(unusable()? == before, "{}", unusable()?);
        Ok(())
    })?;
    fragile.give_back().context("after the malformed objects")
}
