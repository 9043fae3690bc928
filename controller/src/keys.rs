//! The life of the keys: what is held and declared, and what the replica that works does about it.
//!
//! - **observe** reads what every replica knows (`state::key_store`): the identities that it holds, the SealingKeys
//!   that are declared, the backups that are stored. The watches fill it, and the reconciles open with it.
//! - **plan** decides on the next step. It is pure, and knows neither client nor clock.
//! - **apply** takes that step in one request, which names what it was decided on.
//! - **status** tells on each SealingKey whether it is held and backed up, and how much is sealed to it.
//!
//! There is never more than one Active key of a holder, whoever is paused or killed between two steps. The write
//! that ends the old key's time names the key that takes over, at the resource version that was seen: of two
//! replicas that renew at the same time one loses, and whoever comes next completes what the winner began. When
//! there is no old key, a Lease of its own decides in the same way.

mod apply;
mod clock;
mod files;
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
use crate::keys::plan::{Facts, plan};
use crate::keys::status::WriteTimes;

/// How often it is looked whether a key is due and whether counts have changed. What the watches bring is looked
/// at when it comes.
const TICK: Duration = Duration::from_secs(10);

/// No renewal has this many steps; something writes against us.
const MAX_STEPS: usize = 64;

/// What the replica that works remembers. Nothing rests on it: the next one begins without.
#[derive(Default)]
struct LeaderNotes {
    clock: Clock,
    written: WriteTimes,
    last_steps: LastSteps,
}

/// Keeps the keys as they are to be, until dropped.
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
                        tracing::warn!(%failure, ?delay, "a request for keys failed and is tried again");
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

/// Takes every step that is to be taken, and tells.
async fn pass(ctx: &Context, notes: &mut LeaderNotes) -> Result<(), StepError> {
    let now = notes.clock.now(ctx).await?;
    let facts = Facts { now, ..facts(ctx, &notes.last_steps) };
    if plan(&facts).is_some() {
        settle(ctx, notes).await?;
    }
    status::tell(ctx, &mut notes.written).await?;
    Ok(())
}

/// Takes one step after the other, each decided on what the API server says at that moment.
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
            // Somebody else was there first: look again.
            Err(StepError::Request(
                RequestFailure::AlreadyExists | RequestFailure::Conflict | RequestFailure::NotFound,
            )) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RequestFailure::Conflict.into())
}

/// Until it is looked again, when nothing happens.
fn pause(ctx: &Context) -> Duration {
    let period = ctx.args.renew_every;
    if period.is_zero() { TICK } else { TICK.min(period / 2) }
}

/// What this replica knows, and what it has just done.
fn facts(ctx: &Context, last_steps: &LastSteps) -> Facts {
    let is_too_soon =
        last_steps.renewed.is_some_and(|renewed| renewed.elapsed() < ctx.args.shortest_renewal);
    let period = (!is_too_soon).then(|| ctx.args.renewal_period()).flatten();
    Facts { period, made: last_steps.made, ..observe::facts(ctx) }
}
