//! Takes steps, each in one request.

use std::time::Duration;

use bulla_crds::keys::{self, BackupError};
use bulla_crds::{
    ACTIVATED_ANNOTATION, RECOVERY_ANNOTATION, RENEW_ANNOTATION, REVOKED_ANNOTATION,
    SUCCESSOR_ANNOTATION, SealingKey, State, WipedSecret,
};
use bulla_sealing::{Fingerprint, Identity, NoRandomness};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Patch;
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::api::{self, RequestFailure, patch_params, post_params, within};
use crate::args::RecoveryKey;
use crate::context::Context;
use crate::keys::plan::{Facts, KeyStep};
use crate::keys::status;
use crate::state::cache::ObjectVersion;

/// The Lease that names the first key. Only one replica can create or replace it, so only one key can be first.
const FIRST_KEY: &str = "bulla-first-key";

/// What the last steps leave for the next ones.
#[derive(Default)]
pub(super) struct LastSteps {
    /// The identity that was made and is not declared yet.
    pub(super) made: Option<Fingerprint>,
    /// When a key was last renewed. Two API servers may have clocks that differ by more than a period.
    pub(super) renewed: Option<Instant>,
}

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// The operating system gave no randomness.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The identity could not be sealed to the recovery recipients.
    #[error(transparent)]
    Backup(BackupError),
}

impl From<BackupError> for StepError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::NoRandomness(error) => error.into(),
            error => Self::Backup(error),
        }
    }
}

impl StepError {
    /// The shortest time to wait before the next attempt.
    pub(super) fn least_delay(&self) -> Duration {
        match self {
            Self::Request(failure) => failure.least_delay(),
            Self::NoRandomness(_) | Self::Backup(_) => Duration::ZERO,
        }
    }
}

/// Takes a step.
pub(super) async fn apply(
    ctx: &Context,
    last_steps: &mut LastSteps,
    facts: &Facts,
    step: KeyStep,
) -> Result<(), StepError> {
    match step {
        KeyStep::Mark(of) => mark_revoked(ctx, facts, of).await?,
        KeyStep::Revoke(name) => {
            patch(ctx, facts, &name, json!({"spec": {"state": State::Revoked}})).await?;
            tracing::warn!(
                key = name,
                "revoked a key again, because its identity Secret records that it was revoked"
            );
        }
        KeyStep::BackUp(of) => back_up(ctx, facts, of).await?,
        KeyStep::Publish(of, state) => {
            let Some(stored) = facts.identities.get(&of) else { return Ok(()) };
            let created = stored.secret.as_ref().and_then(|secret| secret.created).or(facts.now);
            let created = created.ok_or(RequestFailure::Unreadable)?;
            let (namespace, holder) = (&ctx.args.namespace, ctx.holder.name());
            let key = keys::sealing_key(&stored.recipient, namespace, holder, created, state);
            within(sealing_keys(ctx).create(&post_params(), &key)).await?;
            tracing::info!(key = %of, %state, "declared a key");
        }
        KeyStep::Declare(RecoveryKey { holder, recipient }) => {
            let created = facts.now.ok_or(RequestFailure::Unreadable)?;
            let namespace = &ctx.args.namespace;
            let mut key = keys::sealing_key(&recipient, namespace, &holder, created, State::Active);
            key.annotations_mut().insert(RECOVERY_ANNOTATION.into(), "true".into());
            within(sealing_keys(ctx).create(&post_params(), &key)).await?;
            let key = recipient.fingerprint();
            tracing::info!(%key, holder, "declared a recovery recipient");
        }
        KeyStep::Generate => generate(ctx, last_steps).await?,
        KeyStep::Claim(name) => take_claim(ctx, facts, name).await?,
        KeyStep::HandOver { from, to } => {
            let patched = json!({
                "metadata": {"annotations": {SUCCESSOR_ANNOTATION: to}},
                "spec": {"state": State::Retired},
            });
            patch(ctx, facts, &from, patched).await?;
            // Whether on schedule or on request: the next scheduled renewal is not due soon.
            last_steps.renewed = Some(Instant::now());
            tracing::info!(key = from, successor = to, "retired a key in favour of its successor");
        }
        KeyStep::Activate(name) => {
            // A request to renew this key is now met, if there was one.
            let patched = json!({
                "metadata": {"annotations": {ACTIVATED_ANNOTATION: facts.now, RENEW_ANNOTATION: null}},
                "spec": {"state": State::Active},
            });
            patch(ctx, facts, &name, patched).await?;
            tracing::info!(key = name, "activated a key: new values are sealed to it");
        }
        KeyStep::Settle(name) => {
            let settled = json!({"metadata": {"annotations": {SUCCESSOR_ANNOTATION: null}}});
            patch(ctx, facts, &name, settled).await?;
        }
        KeyStep::Retire(name) => {
            patch(ctx, facts, &name, json!({"spec": {"state": State::Retired}})).await?;
            tracing::info!(key = name, "retired a key that another key overtook");
        }
    }
    Ok(())
}

/// Records on the backup of a key and on its identity Secret that the key was revoked. The identity is last, because its
/// mark ends the step.
async fn mark_revoked(ctx: &Context, facts: &Facts, of: Fingerprint) -> Result<(), StepError> {
    let Some(secret) = facts.identities.get(&of).and_then(|stored| stored.secret.as_ref()) else {
        return Ok(());
    };
    let namespace = &ctx.args.namespace;
    let mark = |version: &ObjectVersion| {
        json!({"metadata": {
            "uid": version.uid,
            "resourceVersion": version.resource_version,
            "annotations": {REVOKED_ANNOTATION: "true"},
        }})
    };
    if let Some(backup) = facts.backups.get(&of) {
        let name = keys::backup_name(of);
        match api::patch_secret(&ctx.client, namespace, &name, &mark(&backup.version)).await {
            // An older policy permits only the mark on the identity, which is the one that counts.
            Ok(_) | Err(RequestFailure::Forbidden(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    let mark = mark(&secret.version);
    let marked = api::patch_secret(&ctx.client, namespace, &of.to_string(), &mark).await?;
    ctx.key_store.mark_secret(of, &marked.metadata);
    tracing::info!(key = %of, "recorded on the identity Secret that its key was revoked");
    Ok(())
}

/// Stores the identity before its key is declared, so that nobody seals to a key without a stored identity.
async fn generate(ctx: &Context, last_steps: &mut LastSteps) -> Result<(), StepError> {
    let identity = Identity::generate(ctx.args.key_type.into())?;
    let fingerprint = identity.recipient().fingerprint();
    let secret = keys::identity_secret(&identity, &ctx.args.namespace);
    let created = api::create_secret(&ctx.client, &secret).await?;
    let stored = secret.with(|secret| secret.metadata = created.metadata);
    ctx.key_store.insert_secret(&stored);
    last_steps.made = Some(fingerprint);
    tracing::info!(key = %fingerprint, "made an identity");
    Ok(())
}

/// Backs up an identity. First the status drops its claim that a copy was taken out: nobody has taken out the new one.
async fn back_up(ctx: &Context, facts: &Facts, of: Fingerprint) -> Result<(), StepError> {
    let Some(recovery) = &facts.recovery else { return Ok(()) };
    if let Some(key) = facts.declared.get(&of.to_string()) {
        status::forget_backup(ctx, key).await?;
    }
    let sealed = ctx.key_store.seal_identity(of, &ctx.args.namespace, recovery);
    let file = sealed.ok_or(RequestFailure::Conflict)??;
    let namespace = &ctx.args.namespace;
    let secret = keys::backup_secret(of, file, namespace);
    let stored = match facts.backups.get(&of) {
        None => api::create_secret(&ctx.client, &secret).await?,
        Some(found) => {
            let ObjectVersion { uid, resource_version } = &found.version;
            // What others have added to its metadata stays.
            let patch = json!({
                "metadata": {"uid": uid, "resourceVersion": resource_version},
                "data": secret.data,
            });
            api::patch_secret(&ctx.client, namespace, &secret.name_any(), &patch).await?
        }
    };
    let secret: WipedSecret = secret.with(|secret| secret.metadata = stored.metadata);
    ctx.key_store.insert_secret(&secret);
    tracing::info!(key = %of, "backed up an identity to the recovery recipients");
    Ok(())
}

/// The key that the Lease names as the first, if there is one.
pub(super) async fn claim(ctx: &Context) -> Result<Option<String>, RequestFailure> {
    let lease = within(leases(ctx).get_opt(FIRST_KEY)).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity))
}

/// Claims to be the first key. A second replica fails here, and then completes what the first began.
async fn take_claim(ctx: &Context, facts: &Facts, name: String) -> Result<(), RequestFailure> {
    let spec = Some(LeaseSpec { holder_identity: Some(name), ..LeaseSpec::default() });
    let found = within(leases(ctx).get_opt(FIRST_KEY)).await?;
    let Some(found) = found else {
        let metadata = ObjectMeta { name: Some(FIRST_KEY.into()), ..ObjectMeta::default() };
        api::create_lease(&leases(ctx), &Lease { metadata, spec }).await?;
        return Ok(());
    };
    if found.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) != facts.claim.as_ref() {
        return Err(RequestFailure::Conflict);
    }
    // The Lease holds the resource version that was read, so a later change makes this fail.
    within(leases(ctx).replace(FIRST_KEY, &post_params(), &Lease { spec, ..found })).await?;
    Ok(())
}

/// Changes a SealingKey at the resource version that the step was decided on.
async fn patch(
    ctx: &Context,
    facts: &Facts,
    name: &str,
    mut change: serde_json::Value,
) -> Result<(), RequestFailure> {
    let key = facts.declared.get(name).ok_or(RequestFailure::NotFound)?;
    change["metadata"]["uid"] = json!(key.uid());
    change["metadata"]["resourceVersion"] = json!(key.resource_version());
    let patched: SealingKey =
        within(sealing_keys(ctx).patch(name, &patch_params(), &Patch::Merge(&change))).await?;
    ctx.key_store.insert_sealing_key(patched);
    Ok(())
}

fn sealing_keys(ctx: &Context) -> Api<SealingKey> {
    api::sealing_keys(&ctx.client, &ctx.args.namespace)
}

fn leases(ctx: &Context) -> Api<Lease> {
    Api::namespaced(ctx.client.clone(), &ctx.args.namespace)
}
