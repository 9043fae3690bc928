//! The reconcile loop of a SealedSecret: observe, plan, apply, status.
//!
//! - **glance** compares what the caches hold. An object on which nothing is to do costs no request.
//! - **observe** reads the SealedSecret, and the target's metadata where there may be one.
//! - **plan** decides. It is pure and synchronous, and knows neither client nor clock.
//! - **apply** writes the target; every write names the uid and resource version that were observed.
//! - **status** tells, once for each change, with the resource version that was judged.
//!
//! Two replicas, or a late one, do no harm: a write that was decided on an old state fails.

mod apply;
mod glance;
mod observe;
mod plan;
mod status;

use std::sync::Arc;
use std::time::Duration;

use bulla_crds::SealedSecret;
use bulla_crds::conditions::{Reason, Situation};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;

use crate::api::Failure;
use crate::context::Context;
use crate::sealed_secret::apply::Change;
use crate::sealed_secret::glance::Glance;
use crate::sealed_secret::observe::Observed;

/// A conflict may end without an event that we see, for example when a foreign Secret is deleted.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// How often a target that changes under our hands is looked at again before the delay begins.
const MAX_RACES: usize = 3;

/// Brings one target to what its SealedSecret says.
pub(crate) async fn reconcile(
    cached: Arc<SealedSecret>,
    ctx: Arc<Context>,
) -> Result<Action, Failure> {
    let object = object(&cached);
    let mut timer = ctx.metrics.reconcile();
    if !ctx.targets.listed().await {
        return Ok(Action::await_change()); // the watch has ended: we are stopping
    }
    let target = ctx.targets.get(&target_of(&cached));
    if glance::glance(&cached, target.as_deref(), &ctx.keyring()) == Glance::Settled {
        return Ok(Action::await_change());
    }

    let Some(outcome) = settle(&ctx, &cached, target.is_some()).await? else {
        ctx.backoff.succeeded(&object);
        return Ok(Action::await_change());
    };
    let Outcome { observed, situation, change } = outcome;
    timer.reason = situation.reason().as_str();
    let is_first_failure = ctx.backoff.failures(&object) == 0;
    if let (Situation::Retrying { reason: Reason::Conflict | Reason::Unavailable, .. }, true) =
        (&situation, is_first_failure)
    {
        // Most of these are over at the next try, and then nobody needs to hear of it.
        return retry(&ctx, &object, &situation);
    }
    status::write(&ctx, &observed, &situation, change.as_ref()).await?;
    if let Situation::Retrying { .. } = situation {
        return retry(&ctx, &object, &situation);
    }
    ctx.backoff.succeeded(&object);
    match situation.reason() {
        Reason::TargetExists | Reason::TargetImmutable => Ok(Action::requeue(LOOK_AGAIN)),
        _ => Ok(Action::await_change()),
    }
}

/// Retries with growing delay, for ever.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the one that kube calls")]
pub(crate) fn error_policy(
    cached: Arc<SealedSecret>,
    failure: &Failure,
    ctx: Arc<Context>,
) -> Action {
    let object = object(&cached);
    let delay = ctx.backoff.failed(&object);
    tracing::warn!(object, %failure, ?delay, "a request failed and is tried again");
    Action::requeue(delay)
}

fn retry(ctx: &Context, object: &str, situation: &Situation) -> Result<Action, Failure> {
    let delay = ctx.backoff.failed(object);
    tracing::info!(
        object,
        reason = situation.reason().as_str(),
        ?delay,
        "not done and tried again"
    );
    Ok(Action::requeue(delay))
}

/// What was observed and what it came to.
struct Outcome {
    observed: Observed,
    situation: Situation,
    change: Option<Change>,
}

/// Observes, plans and applies, and begins anew when somebody else wrote meanwhile; `None` when there is
/// nothing to do for the object any more.
async fn settle(
    ctx: &Context,
    cached: &SealedSecret,
    is_target_cached: bool,
) -> Result<Option<Outcome>, Failure> {
    let mut is_target_likely = is_target_cached || was_written(cached);
    let mut last = None;
    for _ in 0..MAX_RACES {
        let observed = observe::observe(ctx, cached, is_target_likely).await?;
        let Some(observed) = observed else { return Ok(None) };
        let plan = plan::plan(&observed, &ctx.keyring(), &ctx.args.namespace);
        match apply::apply(ctx, plan).await {
            Ok((situation, change)) => return Ok(Some(Outcome { observed, situation, change })),
            // Look at what is in the way; the loop decides by it.
            Err(Failure::AlreadyExists | Failure::Conflict | Failure::NotFound) => {
                is_target_likely = true;
                last = Some(observed);
            }
            Err(failure) => {
                let situation = apply::failed(&failure);
                return Ok(Some(Outcome { observed, situation, change: None }));
            }
        }
    }
    let situation = apply::failed(&Failure::Conflict);
    Ok(last.map(|observed| Outcome { observed, situation, change: None }))
}

fn was_written(sealed_secret: &SealedSecret) -> bool {
    sealed_secret.status.as_ref().is_some_and(|status| status.target.is_some())
}

/// `namespace/name`, for logs and delays.
fn object(sealed_secret: &SealedSecret) -> String {
    format!("{}/{}", sealed_secret.namespace().unwrap_or_default(), sealed_secret.name_any())
}

/// The target has the SealedSecret's own name and namespace.
fn target_of(sealed_secret: &SealedSecret) -> ObjectRef<PartialObjectMeta<Secret>> {
    ObjectRef::new(&sealed_secret.name_any()).within(&sealed_secret.namespace().unwrap_or_default())
}
