//! The life of the keys: what is held and declared, and what the replica that works does about it.
//!
//! - **ring** is what every replica knows: the identities that it holds, the SealingKeys that are declared, the
//!   backups that are stored. The watches fill it, and the reconciles open with it.
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
mod plan;
mod ring;
mod status;

use std::time::Duration;

use bulla_crds::SealingKey;
use bulla_sealing::Fingerprint;
use kube::Api;
use kube::api::ListParams;
use tokio::time::Instant;

use crate::api::{Failure, within};
use crate::context::Context;
use crate::keys::clock::Clock;
pub(crate) use crate::keys::files::follow;
use crate::keys::plan::{Facts, plan};
pub(crate) use crate::keys::ring::{Origin, Ring};
use crate::keys::status::Told;

/// How often it is looked whether a key is due and whether counts have changed. What the watches bring is looked
/// at when it comes.
const TICK: Duration = Duration::from_secs(10);

/// No renewal has this many steps; something writes against us.
const MAX_STEPS: usize = 64;

/// What the replica that works remembers. Nothing rests on it: the next one begins without.
#[derive(Default)]
struct Memory {
    clock: Clock,
    told: Told,
    /// The identity that was made and is not yet declared.
    made: Option<Fingerprint>,
    /// When a key was last made on schedule. Two API servers may have clocks that differ by more than a period.
    renewed: Option<Instant>,
}

/// Keeps the keys as they are to be, until dropped.
pub(crate) async fn work(ctx: &Context) {
    let mut memory = Memory::default();
    let mut changes = ctx.ring.changes();
    loop {
        changes.mark_unchanged();
        let delay = match pass(ctx, &mut memory).await {
            Ok(()) => {
                ctx.backoff.succeeded("keys");
                pause(ctx)
            }
            Err(failure) => {
                let delay = ctx.backoff.failed("keys", failure.least_delay());
                tracing::warn!(%failure, ?delay, "a request for keys failed and is tried again");
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
async fn pass(ctx: &Context, memory: &mut Memory) -> Result<(), Failure> {
    let now = memory.clock.now(ctx).await?;
    let facts = Facts { now, ..facts(ctx, memory) };
    if plan(&facts).is_some() {
        settle(ctx, memory).await?;
    }
    status::tell(ctx, &mut memory.told).await
}

/// Takes one step after the other, each decided on what the API server says at that moment.
async fn settle(ctx: &Context, memory: &mut Memory) -> Result<(), Failure> {
    for _ in 0..MAX_STEPS {
        let declared = within(sealing_keys(ctx).list(&ListParams::default())).await?.items;
        let claim = apply::claim(ctx).await?;
        let now = memory.clock.ask(ctx).await?;
        let facts = Facts {
            declared: plan::by_name(declared),
            claim,
            now: Some(now),
            ..facts(ctx, memory)
        };
        let Some(step) = plan(&facts) else { return Ok(()) };
        match apply::apply(ctx, memory, &facts, step).await {
            // Somebody else was there first: look again.
            Ok(()) | Err(Failure::AlreadyExists | Failure::Conflict | Failure::NotFound) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Conflict)
}

/// Until it is looked again, when nothing happens.
fn pause(ctx: &Context) -> Duration {
    let period = ctx.args.renew_every;
    if period.is_zero() { TICK } else { TICK.min(period / 2) }
}

/// What this replica knows.
fn facts(ctx: &Context, memory: &Memory) -> Facts {
    let is_too_soon =
        memory.renewed.is_some_and(|renewed| renewed.elapsed() < ctx.args.shortest_renewal);
    let period = (!is_too_soon).then(|| ctx.args.renewal_period()).flatten();
    Facts { period, made: memory.made, ..ctx.ring.facts(&ctx.args) }
}

fn sealing_keys(ctx: &Context) -> Api<SealingKey> {
    Api::namespaced(ctx.client.clone(), &ctx.args.namespace)
}
