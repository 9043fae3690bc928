//! Telling: one status write for each change, and at most one Event.

use bulla_crds::conditions::{READY, Situation};
use bulla_crds::{SealedSecret, SealedSecretStatus, fingerprints};
use jiff::Timestamp;

use crate::api::{self, Failure};
use crate::context::Context;
use crate::sealed_secret::apply::{Change, ChangeKind};
use crate::sealed_secret::object;
use crate::sealed_secret::observe::Observed;

/// The version of the code that makes a Secret from a SealedSecret. Raised when it would make another one
/// from the same SealedSecret, so that every target is looked at again.
pub(super) const RENDERER: i64 = 1;

/// Writes the status if it changed, and publishes an Event if there is something to tell.
///
/// The write names the resource version that was judged: otherwise a late one would mark a SealedSecret
/// that was deleted and created again as done.
pub(super) async fn write(
    ctx: &Context,
    observed: &Observed,
    situation: &Situation,
    change: Option<&Change>,
) -> Result<(), Failure> {
    let sealed_secret = &observed.sealed_secret;
    let previous = sealed_secret.status.clone().unwrap_or_default();
    let status = status(ctx, sealed_secret, &previous, situation, change);
    if status != previous {
        match api::patch_status(&ctx.client, sealed_secret, &status).await {
            // Deleted meanwhile: there is nobody to tell.
            Ok(()) | Err(Failure::NotFound) => {}
            Err(failure) => {
                ctx.metrics.api_error("status", failure.reason().as_str());
                return Err(failure);
            }
        }
    }
    tell(ctx, sealed_secret, &previous, situation, change).await;
    Ok(())
}

fn status(
    ctx: &Context,
    sealed_secret: &SealedSecret,
    previous: &SealedSecretStatus,
    situation: &Situation,
    change: Option<&Change>,
) -> SealedSecretStatus {
    let generation = sealed_secret.metadata.generation.unwrap_or_default();
    SealedSecretStatus {
        observed_generation: Some(generation),
        conditions: situation.conditions(generation, &previous.conditions, Timestamp::now()),
        // On a failure the target keeps its last good content, and so does what is known of it.
        target: change.map(|change| change.target.clone()).or_else(|| previous.target.clone()),
        fingerprints: fingerprints(sealed_secret)
            .into_iter()
            .map(|fingerprint| fingerprint.to_string())
            .collect(),
        controller: Some(ctx.args.holder.clone()),
    }
}

async fn tell(
    ctx: &Context,
    sealed_secret: &SealedSecret,
    previous: &SealedSecretStatus,
    situation: &Situation,
    change: Option<&Change>,
) {
    let (object, message) = (object(sealed_secret), situation.message());
    if let Some(change) = change {
        match change.kind {
            ChangeKind::Unchanged => {}
            ChangeKind::Created | ChangeKind::Updated => {
                tracing::info!(object, "unsealed");
                ctx.events.normal(sealed_secret, "Unsealed", message).await;
            }
            ChangeKind::Restored => {
                tracing::info!(object, "the Secret was edited or deleted and is restored");
                ctx.metrics.drift_repaired.inc();
                let note = "the Secret was edited or deleted, and is as declared again";
                ctx.events.normal(sealed_secret, "DriftRepaired", note).await;
            }
        }
        return;
    }
    let reason = situation.reason().as_str();
    let ready = previous.conditions.iter().find(|condition| condition.type_ == READY);
    if ready.is_some_and(|ready| ready.reason == reason && ready.message == message) {
        return;
    }
    tracing::warn!(object, reason, message, "not unsealed");
    ctx.events.warning(sealed_secret, reason, message).await;
}
