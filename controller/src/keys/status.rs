//! The status of each SealingKey: whether it is valid, held and backed up, and how many SealedSecrets use it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bulla_crds::conditions::{self, BACKED_UP, HELD, READY, STALLED};
use bulla_crds::keys::{self, DeclaredKey, InvalidDeclaration};
use bulla_crds::{LiveSealedSecrets, SealingKey, SealingKeyStatus, State};
use bulla_sealing::Fingerprint;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::api::Patch;
use serde_json::json;
use tokio::time::Instant;

use crate::api::{self, RequestFailure, patch_params, within};
use crate::context::Context;
use crate::keys::observe;
use crate::keys::plan::Facts;

/// The shortest time between two writes of a changed count, which changes with every sealed object.
const COUNTED_EVERY: Duration = Duration::from_secs(30);

/// The reason of BackedUp after a copy was taken out of the cluster. `bulla keys backup` writes it.
const TAKEN_OUT: &str = "TakenOut";

/// When each status was last written, or first checked.
pub(super) type WriteTimes = HashMap<String, Instant>;

/// Writes the statuses that changed.
pub(super) async fn write_all(
    ctx: &Context,
    written_at: &mut WriteTimes,
) -> Result<(), RequestFailure> {
    let facts = observe::facts(ctx);
    let mut counts = BTreeMap::<Fingerprint, i64>::new();
    for (_, known) in ctx.sealed_secrets.all() {
        for fingerprint in known.status.iter().flat_map(|status| &status.fingerprints) {
            *counts.entry(*fingerprint).or_default() += 1;
        }
    }
    written_at.retain(|name, _| facts.declared.contains_key(name));
    for (name, key) in &facts.declared {
        let now = Timestamp::now();
        let count = name.parse().ok().and_then(|fingerprint| counts.get(&fingerprint).copied());
        let count = count.unwrap_or_default();
        let previous = key.status.clone().unwrap_or_default();
        let conditions = judge(key, &facts, &previous.conditions, now);
        let is_count_new = previous.sealed_secrets.as_ref().map(|live| live.count) != Some(count);
        // A new leader does not know when the previous one last wrote.
        let written = *written_at.entry(name.clone()).or_insert_with(Instant::now);
        let may_count = written.elapsed() >= COUNTED_EVERY;
        if conditions == previous.conditions && !(is_count_new && may_count) {
            continue;
        }
        let sealed_secrets = if is_count_new {
            Some(LiveSealedSecrets { count, at: Time(now) })
        } else {
            previous.sealed_secrets
        };
        match write(ctx, key, SealingKeyStatus { conditions, sealed_secrets }).await {
            Ok(()) => {
                written_at.insert(name.clone(), Instant::now());
            }
            // The watch delivers the current state.
            Err(RequestFailure::Conflict | RequestFailure::NotFound) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Removes the condition BackedUp before a new backup is made, of which nobody has a copy yet.
pub(super) async fn forget_backup(ctx: &Context, key: &SealingKey) -> Result<(), RequestFailure> {
    let mut status = key.status.clone().unwrap_or_default();
    if !conditions::is_true(&status.conditions, BACKED_UP) {
        return Ok(());
    }
    status.conditions.retain(|condition| condition.type_ != BACKED_UP);
    write(ctx, key, status).await
}

async fn write(
    ctx: &Context,
    key: &SealingKey,
    status: SealingKeyStatus,
) -> Result<(), RequestFailure> {
    let patch = json!({
        "metadata": {"resourceVersion": key.resource_version(), "uid": key.uid()},
        "status": status,
    });
    let sealing_keys = api::sealing_keys(&ctx.client, &ctx.args.namespace);
    let patch = Patch::Merge(&patch);
    let patched =
        within(sealing_keys.patch_status(&key.name_any(), &patch_params(), &patch)).await?;
    ctx.key_store.insert_sealing_key(patched);
    Ok(())
}

/// Status, reason and message of a condition.
type ConditionText = (&'static str, &'static str, String);

/// The conditions of a key.
fn judge(
    key: &SealingKey,
    facts: &Facts,
    previous: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let generation = key.metadata.generation.unwrap_or_default();
    let condition = |type_: &str, (status, reason, message): ConditionText| {
        conditions::condition(type_, status, reason, &message, generation, previous, now)
    };
    let declared = match DeclaredKey::try_from(key) {
        Ok(declared) => declared,
        Err(error) => {
            return [READY, STALLED].map(|type_| condition(type_, unusable(type_, &error))).into();
        }
    };
    let held = held(&declared, facts);
    let is_own = declared.holder == facts.holder;
    let ready = match held {
        ("False", reason, ref message) if is_own && declared.state != State::Revoked => {
            ("False", reason, message.clone())
        }
        _ => ("True", declared.state.as_str(), state(declared.state).to_owned()),
    };
    let is_open = facts.held.contains(&declared.recipient.fingerprint());
    // Somebody must act on every reason for False. Without Stalled, GitOps tools would wait.
    let stalled =
        (ready.0 == "False").then(|| condition(STALLED, ("True", ready.1, ready.2.clone())));
    let mut conditions = vec![condition(READY, ready)];
    conditions.extend(stalled);
    conditions.push(condition(HELD, held));
    if is_open {
        let kept = previous.iter().find(|earlier| {
            earlier.type_ == BACKED_UP && earlier.status == "True" && earlier.reason == TAKEN_OUT
        });
        conditions.push(match kept {
            Some(kept) => kept.clone(),
            None => condition(BACKED_UP, backed_up(&declared, facts)),
        });
    }
    conditions
}

/// What Ready and Stalled say of a key that cannot be trusted.
fn unusable(type_: &str, error: &InvalidDeclaration) -> ConditionText {
    let reason = match error {
        InvalidDeclaration::Recipient(_) => "Malformed",
        InvalidDeclaration::Misnamed(_) => "Misnamed",
    };
    let status = if type_ == STALLED { "True" } else { "False" };
    (status, reason, format!("ignored: {error}"))
}

fn state(state: State) -> &'static str {
    match state {
        State::Pending => "new; values are not sealed to it yet",
        State::Active => "values are sealed to this key",
        State::Retired => "new values are not sealed to it; existing values still open",
        State::Revoked => "revoked; it opens no values any more",
    }
}

fn held(key: &DeclaredKey, facts: &Facts) -> ConditionText {
    let fingerprint = key.recipient.fingerprint();
    let is_stored = facts.identities.get(&fingerprint).is_some_and(|stored| stored.is_stored());
    if key.state == State::Revoked {
        return ("False", "Revoked", "its identity is no longer used".into());
    }
    if let Some(error) = facts.unusable.get(&fingerprint.to_string()) {
        let message = format!("the Secret {fingerprint} does not hold its identity: {error}");
        return ("False", "IdentityMalformed", message);
    }
    match (facts.held.contains(&fingerprint), is_stored) {
        (true, true) => ("True", "Held", "the controller holds its identity".into()),
        (true, false) => {
            let message = "the Secret of its identity is gone, so the key opens values only until the controller restarts; run bulla keys restore, or revoke the key";
            ("False", "IdentityMissing", message.into())
        }
        (false, _) if key.holder == facts.holder => {
            let message = "its identity is missing, so values sealed to it do not open; run bulla keys restore";
            ("False", "IdentityMissing", message.into())
        }
        (false, _) => {
            ("False", "OfAnotherHolder", format!("holder {} has its identity", key.holder))
        }
    }
}

fn backed_up(key: &DeclaredKey, facts: &Facts) -> ConditionText {
    let no = |reason, message: &str| ("False", reason, message.to_owned());
    let Some(recovery) = &facts.recovery else {
        return no(
            "NoRecoveryRecipient",
            "the controller has no recovery recipient; set BULLA_RECOVERY_RECIPIENTS, or run bulla keys backup --passphrase",
        );
    };
    if !keys::can_back_up(&key.recipient, recovery) {
        return no(
            "WeakRecoveryRecipient",
            "a hybrid identity needs hybrid recovery recipients; set one (age1pq1…), or run bulla keys backup --passphrase",
        );
    }
    if !facts.backups.contains_key(&key.recipient.fingerprint()) {
        return no("NotSealed", "the controller is about to seal it to the recovery recipients");
    }
    no(
        "NotTakenOut",
        "the encrypted backup exists only in the cluster; copy it out with bulla keys backup",
    )
}

#[cfg(test)]
mod tests {
    use bulla_sealing::{Identity, KeyType, Recipients};

    use super::*;
    use crate::state::cache::ObjectVersion;
    use crate::state::key_store::{StoredBackup, StoredIdentity, StoredSecret};

    fn facts() -> (Facts, SealingKey) {
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        let key = keys::sealing_key(
            &recipient,
            "bulla-system",
            "eu",
            Timestamp::UNIX_EPOCH,
            State::Active,
        );
        let fingerprint = recipient.fingerprint();
        let secret =
            StoredSecret { version: ObjectVersion::default(), created: None, is_marked: false };
        let stored = StoredIdentity { recipient, secret: Some(secret), is_in_file: false };
        let facts = Facts {
            holder: "eu".into(),
            held: [fingerprint].into(),
            identities: [(fingerprint, stored)].into(),
            ..Facts::default()
        };
        (facts, key)
    }

    fn reasons(key: &SealingKey, facts: &Facts) -> Vec<String> {
        let previous = key.status.clone().unwrap_or_default().conditions;
        let conditions = judge(key, facts, &previous, Timestamp::UNIX_EPOCH);
        conditions
            .into_iter()
            .map(|condition| {
                format!("{}={} {}", condition.type_, condition.status, condition.reason)
            })
            .collect()
    }

    #[test]
    fn conditions_report_held_and_backed_up_keys() {
        let (facts, key) = facts();
        let held = ["Ready=True Active", "Held=True Held"];
        assert_eq!(reasons(&key, &facts), [held[0], held[1], "BackedUp=False NoRecoveryRecipient"]);
        let recovery = Identity::generate(KeyType::X25519).unwrap().recipient();
        let recovery = Some(Recipients::new(vec![recovery]).unwrap());
        let facts = Facts { recovery, ..facts };
        assert_eq!(reasons(&key, &facts), [held[0], held[1], "BackedUp=False NotSealed"]);
        let backup = StoredBackup { version: ObjectVersion::default(), recovery: Vec::new() };
        let backups = [(*facts.held.first().unwrap(), backup)].into();
        let facts = Facts { backups, ..facts };
        assert_eq!(reasons(&key, &facts), [held[0], held[1], "BackedUp=False NotTakenOut"]);

        let mut taken = key.clone();
        let condition =
            conditions::condition(BACKED_UP, "True", TAKEN_OUT, "", 1, &[], Timestamp::UNIX_EPOCH);
        taken.status = Some(SealingKeyStatus { conditions: vec![condition], sealed_secrets: None });
        assert_eq!(reasons(&taken, &facts), [held[0], held[1], "BackedUp=True TakenOut"]);
        taken.spec.state = State::Revoked;
        let facts = Facts { held: [].into(), ..facts };
        assert_eq!(reasons(&taken, &facts), ["Ready=True Revoked", "Held=False Revoked"]);
    }

    #[test]
    fn lost_invalid_and_foreign_keys_are_told_apart() {
        let (mut facts, mut key) = facts();
        let missing = [
            "Ready=False IdentityMissing",
            "Stalled=True IdentityMissing",
            "Held=False IdentityMissing",
        ];
        facts.identities.clear();
        assert_eq!(reasons(&key, &facts)[..3], missing);
        facts.held.clear();
        assert_eq!(reasons(&key, &facts), missing);
        facts.unusable.insert(key.name_any(), "it has no key identity.txt".into());
        assert_eq!(reasons(&key, &facts)[2], "Held=False IdentityMalformed");
        facts.unusable.clear();
        key.spec.holder = "us".into();
        assert_eq!(reasons(&key, &facts), ["Ready=True Active", "Held=False OfAnotherHolder"]);
        key.metadata.name = Some("0123456789abcdef".into());
        assert_eq!(reasons(&key, &facts), ["Ready=False Misnamed", "Stalled=True Misnamed"]);
        key.spec.recipient = "age1".into();
        assert_eq!(reasons(&key, &facts), ["Ready=False Malformed", "Stalled=True Malformed"]);
    }
}
