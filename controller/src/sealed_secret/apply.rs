//! Writes of the target. An answer never holds data, and an error never holds text of the API server's.

use bulla_crds::conditions::Situation;
use bulla_crds::{TargetStatus, WipedSecret};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;

use crate::api::{self, Failure};
use crate::context::Context;
use crate::sealed_secret::plan::Plan;
use crate::sealed_secret::status::RENDERER;

/// What a write did to the target.
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    pub(super) target: TargetStatus,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// It was not there.
    Created,
    /// It is what the SealedSecret says since its last change.
    Updated,
    /// Somebody had edited or deleted it.
    Restored,
    /// It was as declared already.
    Unchanged,
}

/// Carries out a plan.
pub(super) async fn apply(
    ctx: &Context,
    plan: Plan,
) -> Result<(Situation, Option<Change>), Failure> {
    let (secret, written, kind) = match plan {
        Plan::Refuse { reason, message } => {
            return Ok((Situation::NeedsPerson { reason, message }, None));
        }
        Plan::Create { secret, is_restored } => {
            let written = counted(ctx, "create", api::create_secret(&ctx.client, &secret).await)?;
            (secret, written, if is_restored { ChangeKind::Restored } else { ChangeKind::Created })
        }
        Plan::Correct { secret, is_same_generation } => {
            let before = secret.metadata.resource_version.clone();
            let written = counted(ctx, "replace", api::replace_secret(&ctx.client, &secret).await)?;
            // A write that changes nothing leaves the resource version as it is.
            let kind = match (written.metadata.resource_version == before, is_same_generation) {
                (true, _) => ChangeKind::Unchanged,
                (false, true) => ChangeKind::Restored,
                (false, false) => ChangeKind::Updated,
            };
            (secret, written, kind)
        }
    };
    let target = target_status(&secret, written);
    let message = match target.keys.len() {
        1 => "1 key is unsealed".to_owned(),
        count => format!("{count} keys are unsealed"),
    };
    Ok((Situation::Done { message }, Some(Change { kind, target })))
}

/// The situation that a failed request leaves.
pub(super) fn failed(failure: &Failure) -> Situation {
    let (reason, message) = (failure.reason(), failure.to_string());
    match failure {
        Failure::Immutable => Situation::NeedsPerson {
            reason,
            message: format!("{message}; delete it, and it is created again as declared"),
        },
        Failure::Invalid(_) => Situation::NeedsPerson { reason, message },
        _ => Situation::Retrying { reason, message },
    }
}

fn counted<T>(
    ctx: &Context,
    operation: &'static str,
    answer: Result<T, Failure>,
) -> Result<T, Failure> {
    answer.inspect_err(|failure| ctx.metrics.api_error(operation, failure.reason().as_str()))
}

fn target_status(secret: &WipedSecret, written: PartialObjectMeta<Secret>) -> TargetStatus {
    TargetStatus {
        uid: written.metadata.uid.unwrap_or_default(),
        resource_version: written.metadata.resource_version.unwrap_or_default(),
        keys: secret.data.iter().flatten().map(|(key, _)| key.clone()).collect(),
        renderer: RENDERER,
    }
}
