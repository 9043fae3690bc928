//! Writes the target. An answer never holds data, and an error never holds the API server's text.

use bulla_crds::conditions::{Reason, Situation};
use bulla_crds::{Policy, TargetStatus, WipedSecret};
use k8s_openapi::api::core::v1::Secret;
use kube::core::{ObjectMeta, PartialObjectMeta};

use crate::api::{self, RequestFailure};
use crate::context::Context;
use crate::sealed_secret::plan::{Plan, RENDERER};

/// What a write did to the target.
pub(super) struct TargetChange {
    pub(super) kind: TargetChangeKind,
    pub(super) target: TargetStatus,
}

/// What a write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetChangeKind {
    /// It did not exist.
    Created,
    /// It was updated to a change of the SealedSecret.
    Updated,
    /// It could not be changed, so it was deleted and created.
    Recreated {
        /// Whether another client had changed it.
        is_repair: bool,
        /// The field manager that changed it, if it is known.
        by: Option<String>,
    },
    /// It was edited or deleted by another client.
    Restored {
        /// The field manager that edited it, if it is known.
        by: Option<String>,
    },
    /// It already was as declared.
    Unchanged,
}

/// Carries out a plan for this generation of the SealedSecret.
pub(super) async fn apply(
    ctx: &Context,
    plan: Plan,
    generation: i64,
) -> Result<(Situation, Option<TargetChange>), RequestFailure> {
    let is_merge = matches!(plan, Plan::Merge { .. });
    let (secret, written, kind) = match plan {
        Plan::Refuse { reason, message } => {
            return Ok((Situation::NeedsPerson { reason, message }, None));
        }
        Plan::Wait { reason, message } => {
            return Ok((Situation::Retrying { reason, message }, None));
        }
        Plan::Create { secret, is_restored } => {
            let written = counted(ctx, "create", api::create_secret(&ctx.client, &secret).await)?;
            let kind = if is_restored {
                TargetChangeKind::Restored { by: None }
            } else {
                TargetChangeKind::Created
            };
            (secret, written, kind)
        }
        Plan::Correct { secret, is_same_generation, by } => {
            let written = counted(ctx, "replace", api::replace_secret(&ctx.client, &secret).await)?;
            let kind = kind(&secret, &written, is_same_generation, by);
            (secret, written, kind)
        }
        Plan::Merge { secret, is_same_generation, by } => {
            let written = counted(ctx, "merge", api::merge_secret(&ctx.client, &secret).await)?;
            let kind = kind(&secret, &written, is_same_generation, by);
            (secret, written, kind)
        }
        Plan::Recreate { secret, found, is_same_generation: is_repair, by } => {
            let written = recreate(ctx, &secret, &found).await?;
            (secret, written, TargetChangeKind::Recreated { is_repair, by })
        }
    };
    let policy = if is_merge { Policy::Merge } else { kept(&secret) };
    let target = target_status(&secret, written, policy, generation);
    let message = match target.keys.len() {
        1 => "unsealed 1 key".to_owned(),
        count => format!("unsealed {count} keys"),
    };
    Ok((Situation::Done { reason: Reason::Unsealed, message }, Some(TargetChange { kind, target })))
}

/// Deletes and creates a Secret. It is deleted only if a dry run shows that the API server accepts the new one.
async fn recreate(
    ctx: &Context,
    secret: &WipedSecret,
    found: &ObjectMeta,
) -> Result<PartialObjectMeta<Secret>, RequestFailure> {
    counted(ctx, "try", api::try_secret(&ctx.client, secret).await)?;
    counted(ctx, "delete", api::delete_secret(&ctx.client, found).await)?;
    // Immediately, before all other work. If this fails, the next attempt finds no Secret and creates it.
    counted(ctx, "create", api::create_secret(&ctx.client, secret).await)
}

/// What a write changed. A write that changes nothing keeps the resource version.
fn kind(
    secret: &WipedSecret,
    written: &PartialObjectMeta<Secret>,
    is_same_generation: bool,
    by: Option<String>,
) -> TargetChangeKind {
    if written.metadata.resource_version == secret.metadata.resource_version {
        TargetChangeKind::Unchanged
    } else if is_same_generation {
        TargetChangeKind::Restored { by }
    } else {
        TargetChangeKind::Updated
    }
}

/// The situation after a failed request.
pub(super) fn failed(failure: &RequestFailure) -> Situation {
    let (reason, message) = (failure.reason(), failure.to_string());
    match failure {
        RequestFailure::Immutable | RequestFailure::Invalid(_) | RequestFailure::TooLarge => {
            Situation::NeedsPerson { reason, message }
        }
        _ => Situation::Retrying { reason, message },
    }
}

fn counted<T>(
    ctx: &Context,
    operation: &'static str,
    answer: Result<T, RequestFailure>,
) -> Result<T, RequestFailure> {
    answer.inspect_err(|failure| ctx.metrics.api_error(operation, failure.reason().as_str()))
}

/// The policy of a whole target: only with Orphan it has no controller.
fn kept(secret: &WipedSecret) -> Policy {
    let mut owners = secret.metadata.owner_references.iter().flatten();
    let is_owned = owners.any(|owner| owner.controller == Some(true));
    if is_owned { Policy::Owner } else { Policy::Orphan }
}

fn target_status(
    secret: &WipedSecret,
    written: PartialObjectMeta<Secret>,
    policy: Policy,
    generation: i64,
) -> TargetStatus {
    TargetStatus {
        uid: written.metadata.uid.unwrap_or_default(),
        resource_version: written.metadata.resource_version.unwrap_or_default(),
        generation,
        keys: secret.data.iter().flatten().map(|(key, _)| key.clone()).collect(),
        policy,
        renderer: RENDERER,
    }
}
