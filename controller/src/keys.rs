//! The life of the keys: the leader makes, backs up, renews and reports them.
//!
//! - **observe** reads what every replica knows (`state::key_store`): the held identities, the declared SealingKeys
//!   and the stored backups. The watches fill it, and the reconciles unseal with it.
//! - **plan** decides on the next step. It is pure, and has neither a client nor a clock.
//! - **apply** takes that step in one request, which names the state that it was decided on.
//! - **status** reports on each SealingKey whether it is held and backed up, and how many SealedSecrets use it.
//!
//! A holder never has more than one Active key, even if replicas are paused or killed between two steps. The write
//! that retires the old key names its successor, at the resource version that was read. Of two replicas that renew
//! at the same time one fails, and the next leader completes what the other began. For the first key, which has no
//! predecessor, a separate Lease decides in the same way.

mod apply;
mod clock;
mod files;
mod holder;
mod observe;
mod plan;
mod status;

use std::time::Duration;

use kube::api::ListParams;

use crate::api::{self, RequestFailure, within};
use crate::context::Context;
use crate::keys::apply::{LastSteps, StepError};
use crate::keys::clock::Clock;
pub(crate) use crate::keys::files::follow;
pub(crate) use crate::keys::holder::settle as settle_holder;
use crate::keys::plan::{Facts, plan};
use crate::keys::status::WriteTimes;

/// How often the leader checks whether a key is due and whether counts have changed. It checks changes from the
/// watches immediately.
const TICK: Duration = Duration::from_secs(10);

/// No renewal has this many steps. If they do not end, another client works against the controller.
const MAX_STEPS: usize = 64;

/// What the leader remembers between two passes. Nothing depends on it: the next leader begins without it.
#[derive(Default)]
struct LeaderNotes {
    clock: Clock,
    written: WriteTimes,
    last_steps: LastSteps,
}

/// Manages the keys until dropped.
pub(crate) async fn work(ctx: &Context) {
    let mut notes = LeaderNotes::default();
    let mut changes = ctx.key_store.changes();
    loop {
        changes.mark_unchanged();
        let delay = match pass(ctx, &mut notes).await {
            Ok(()) => {
                ctx.backoff.succeeded("keys");
                pause(ctx)
            }
            Err(error) => {
                let delay = ctx.backoff.failed("keys", error.least_delay());
                match error {
                    StepError::Request(failure) => {
                        tracing::warn!(%failure, ?delay, "a request for keys failed; trying again");
                    }
                    error @ (StepError::NoRandomness(_) | StepError::Backup(_)) => {
                        tracing::error!(%error, ?delay, "could not make or back up a key; trying again");
                    }
                }
                tokio::time::sleep(delay).await;
                continue;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = changes.changed() => {}
        }
    }
}

/// Takes all due steps, and writes the statuses.
async fn pass(ctx: &Context, notes: &mut LeaderNotes) -> Result<(), StepError> {
    let now = notes.clock.now(ctx).await?;
    let facts = Facts { now, ..facts(ctx, &notes.last_steps) };
    if plan(&facts).is_some() {
        settle(ctx, notes).await?;
    }
    status::write_all(ctx, &mut notes.written).await?;
    Ok(())
}

/// Takes one step after the other. Each is decided on what the API server returns at that moment.
async fn settle(ctx: &Context, notes: &mut LeaderNotes) -> Result<(), StepError> {
    let sealing_keys = api::sealing_keys(&ctx.client, &ctx.args.namespace);
    for _ in 0..MAX_STEPS {
        let declared = within(sealing_keys.list(&ListParams::default())).await?.items;
        let claim = apply::claim(ctx).await?;
        let now = notes.clock.ask(ctx).await?;
        let facts = Facts {
            declared: plan::by_name(declared),
            claim,
            now: Some(now),
            ..facts(ctx, &notes.last_steps)
        };
        let Some(step) = plan(&facts) else { return Ok(()) };
        match apply::apply(ctx, &mut notes.last_steps, &facts, step).await {
            Ok(()) => {}
            // Another client was faster, so decide again.
            Err(StepError::Request(
                RequestFailure::AlreadyExists | RequestFailure::Conflict | RequestFailure::NotFound,
            )) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RequestFailure::Conflict.into())
}

/// How long to wait until the next check if nothing changes.
fn pause(ctx: &Context) -> Duration {
    let period = ctx.args.renew_every;
    if period.is_zero() { TICK } else { TICK.min(period / 2) }
}

/// What this replica knows, with the last steps of the leader.
fn facts(ctx: &Context, last_steps: &LastSteps) -> Facts {
    let is_too_soon =
        last_steps.renewed.is_some_and(|renewed| renewed.elapsed() < ctx.args.shortest_renewal);
    let period = (!is_too_soon).then(|| ctx.args.renewal_period()).flatten();
    Facts { period, made: last_steps.made, ..observe::facts(ctx) }
}
