//! Reports: one status write for each change, and at most one Event for what the status alone does not show.

use bulla_crds::conditions::{READY, Situation};
use bulla_crds::limits::MAX_FINGERPRINTS;
use bulla_crds::{SealedSecret, SealedSecretStatus};
use jiff::Timestamp;

use crate::api::{self, RequestFailure};
use crate::context::Context;
use crate::sealed_secret::apply::{TargetChange, TargetChangeKind};
use crate::sealed_secret::plan::Observed;
use crate::state::cache::{KnownSealedSecret, KnownStatus};
use crate::state::object_ref::ObjectRef;

/// Writes the status if it changed, and publishes an Event if there is something to report.
///
/// The write names the resource version that was read. Without it a late write could mark a SealedSecret as done
/// that was deleted and created again.
pub(super) async fn write(
    ctx: &Context,
    object: &ObjectRef,
    observed: &Observed,
    situation: &Situation,
    change: Option<&TargetChange>,
) -> Result<(), RequestFailure> {
    let sealed_secret = &observed.sealed_secret;
    let previous = sealed_secret.status.clone().unwrap_or_default();
    let status = status(ctx, observed, &previous, situation, change);
    if status != previous {
        let judged = &sealed_secret.metadata;
        match api::patch_status::<SealedSecret>(&ctx.client, judged, &status).await {
            Ok(written) => {
                let written = remembered(sealed_secret, written, &status);
                ctx.own_writes.remember(object, written, &ctx.sealed_secrets, &ctx.targets);
                if previous.controller.is_some() && previous.controller != status.controller {
                    ctx.metrics.takeovers.inc();
                }
            }
            // It was deleted in the meantime, so there is no status to write.
            Err(RequestFailure::NotFound) => {}
            Err(failure) => {
                ctx.metrics.api_error("status", failure.reason().as_str());
                return Err(failure);
            }
        }
    }
    report(ctx, object, sealed_secret, &previous, situation, change).await;
    Ok(())
}

/// The object as the watch will soon deliver it.
fn remembered(
    sealed_secret: &SealedSecret,
    written: Option<String>,
    status: &SealedSecretStatus,
) -> KnownSealedSecret {
    KnownSealedSecret {
        uid: sealed_secret.metadata.uid.clone().unwrap_or_default(),
        resource_version: written.unwrap_or_default(),
        generation: sealed_secret.metadata.generation,
        is_deleted: false,
        status: Some(Box::new(KnownStatus::from(status))),
    }
}

fn status(
    ctx: &Context,
    observed: &Observed,
    previous: &SealedSecretStatus,
    situation: &Situation,
    change: Option<&TargetChange>,
) -> SealedSecretStatus {
    let generation = observed.sealed_secret.metadata.generation.unwrap_or_default();
    SealedSecretStatus {
        observed_generation: Some(generation),
        conditions: situation.conditions(generation, &previous.conditions, Timestamp::now()),
        // On a failure the target keeps its last good content, and the status keeps describing that.
        target: change.map(|change| change.target.clone()).or_else(|| previous.target.clone()),
        fingerprints: observed
            .values
            .fingerprints()
            .into_iter()
            .take(MAX_FINGERPRINTS)
            .map(|fingerprint| fingerprint.to_string())
            .collect(),
        controller: charge(ctx, observed, previous),
    }
}

/// The controller in charge from now on. One that holds none of the keys never takes charge, because another one may
/// hold them.
fn charge(ctx: &Context, observed: &Observed, previous: &SealedSecretStatus) -> Option<String> {
    let keys = observed.values.fingerprints();
    let keyring = ctx.key_store.keyring();
    let is_stranger = !keys.is_empty() && !keys.iter().any(|key| keyring.is_held(*key));
    (previous.controller.is_some() || !is_stranger).then(|| ctx.controller())
}

async fn report(
    ctx: &Context,
    object: &ObjectRef,
    sealed_secret: &SealedSecret,
    previous: &SealedSecretStatus,
    situation: &Situation,
    change: Option<&TargetChange>,
) {
    let message = situation.message();
    let ready = previous.conditions.iter().find(|condition| condition.type_ == READY);
    match change.map(|change| &change.kind) {
        Some(kind @ (TargetChangeKind::Created | TargetChangeKind::Updated)) => {
            tracing::info!(%object, "unsealed");
            // The status already shows a first success. Events for all of them would flood a new cluster.
            let was_failing = ready.is_some_and(|ready| ready.status == "False");
            if *kind == TargetChangeKind::Updated || was_failing {
                ctx.events.normal(sealed_secret, "Unsealed", message).await;
            }
        }
        Some(TargetChangeKind::Recreated { is_repair, .. }) => {
            if *is_repair {
                ctx.metrics.drift_repaired.inc();
            }
            tracing::info!(%object, "deleted and created a Secret that could not be changed");
            let note = "deleted the Secret and created it again, because it is immutable or had another type";
            ctx.events.normal(sealed_secret, "Recreated", note).await;
        }
        Some(TargetChangeKind::Restored { by }) => {
            tracing::info!(%object, by, "restored a Secret that was edited or deleted");
            ctx.metrics.drift_repaired.inc();
            if let Situation::Done { .. } = situation {
                let note = "restored the Secret after it was edited or deleted";
                ctx.events.normal(sealed_secret, "DriftRepaired", note).await;
            }
        }
        Some(TargetChangeKind::Unchanged) | None => {}
    }
    let reason = situation.reason().as_str();
    let is_known = ready.is_some_and(|ready| ready.reason == reason && ready.message == message);
    if is_known || matches!(situation, Situation::Done { .. }) {
        return;
    }
    tracing::warn!(%object, reason, message, "could not unseal");
    ctx.events.warning(sealed_secret, reason, message).await;
}
