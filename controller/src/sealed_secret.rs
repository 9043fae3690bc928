//! The reconcile loop of a SealedSecret: observe, plan, apply, status.
//!
//! - **glance** compares what the caches hold. An object that needs no work costs no request.
//! - **observe** reads the SealedSecret, and as much of the target as the plan needs.
//! - **plan** decides. It is pure and synchronous, and has neither a client nor a clock.
//! - **apply** writes the target. Every write names the uid and resource version that were observed.
//! - **status** reports each change once, at the resource version that was read.
//!
//! Two replicas at work, or a late one, do no harm: a write that was decided on an old state fails.

mod apply;
mod glance;
mod observe;
mod plan;
mod status;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bulla_crds::Policy;
use bulla_crds::conditions::{Reason, Situation};
use bulla_sealing::Fingerprint;

use crate::api::RequestFailure;
use crate::args::Args;
use crate::context::Context;
use crate::sealed_secret::apply::{TargetChange, TargetChangeKind};
use crate::sealed_secret::glance::{Glance, LACKING_KEY};
use crate::sealed_secret::plan::{Conclusion, Limits, Observed, Plan, Reading};
use crate::state::backoff;
use crate::state::cache::{KnownSealedSecret, KnownStatus};
use crate::state::damping::Disturbance;
use crate::state::object_ref::ObjectRef;
use crate::state::queue::{self, Lane, Next, Taken};
use crate::state::room::Occupied;

/// An obstacle can disappear without an event that the watches deliver: a foreign Secret is deleted, or a right is
/// granted.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// How soon it is checked for the first time.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(1);

/// How many times in a row a target that others change is read again before a delay.
const MAX_RACES: usize = 5;

/// Whether the object may need work, as far as the caches show.
pub(crate) fn needs_work(ctx: &Context, object: &ObjectRef, known: &KnownSealedSecret) -> bool {
    look(ctx, object, known) == Glance::Look
}

/// Whether the SealedSecret is left to another controller.
pub(crate) fn is_of_another(ctx: &Context, known: &KnownSealedSecret) -> bool {
    known.status.as_ref().is_some_and(|status| is_others(ctx, status) && !can_help(ctx, status))
}

/// Whether the status names a controller that this one does not take over from.
fn is_others(ctx: &Context, status: &KnownStatus) -> bool {
    status.controller.as_ref().is_some_and(|controller| !ctx.is_in_charge(controller))
}

/// Whether the controller in charge lacks a key, and this one holds one of the keys.
fn can_help(ctx: &Context, status: &KnownStatus) -> bool {
    let reason = status.ready.as_ref().map_or("", |(_, reason)| reason);
    let keyring = ctx.key_store.keyring();
    LACKING_KEY.iter().any(|lacking| reason == lacking.as_str())
        && status.fingerprints.iter().any(|key| keyring.is_held(*key))
}

/// Whether the status names another controller, which this one takes over from.
fn is_taken_over(ctx: &Context, known: &KnownSealedSecret) -> bool {
    let controller = known.status.as_ref().and_then(|status| status.controller.as_ref());
    !known.is_deleted && controller.is_some_and(|controller| *controller != ctx.controller())
}

/// Whether it was refused for a reason that depends on the controller's flags.
fn is_refused_by_flags(known: &KnownSealedSecret) -> bool {
    let ready = known.status.as_ref().and_then(|status| status.ready.as_ref());
    let by_flags = [
        Reason::TypeRefused,
        Reason::LabelRefused,
        Reason::AnnotationRefused,
        Reason::NamespaceRefused,
    ];
    ready.is_some_and(|(_, reason)| by_flags.iter().any(|by_flag| reason == by_flag.as_str()))
}

/// Queues every object that may need work.
pub(crate) fn enqueue_all(ctx: &Context) {
    for (object, known) in ctx.sealed_secrets.all() {
        if needs_work(ctx, &object, &known) {
            ctx.queue.push(object, Lane::Backlog);
        }
    }
    // The flags of this controller may allow what the previous one refused.
    for (object, known) in ctx.sealed_secrets.all() {
        if is_refused_by_flags(&known) {
            ctx.queue.push_check(object);
        }
    }
}

/// Queues the objects that are sealed to keys whose identities are now held, or no longer held.
pub(crate) fn keys_changed(ctx: &Context, changed: &[Fingerprint]) {
    if changed.is_empty() || !ctx.is_working() {
        return;
    }
    let is_named = |known: &KnownSealedSecret| {
        let status = known.status.as_ref();
        status.is_some_and(|status| {
            status.fingerprints.iter().any(|fingerprint| changed.contains(fingerprint))
        })
    };
    for (object, known) in ctx.sealed_secrets.all() {
        if is_named(&known) && known.status.as_ref().is_some_and(|status| status.is_ready()) {
            ctx.queue.push_check(object);
        } else if needs_work(ctx, &object, &known) {
            ctx.queue.push(object, Lane::Backlog);
        }
    }
}

/// Makes one target equal to what its SealedSecret declares, and sets when the object is checked next.
pub(crate) async fn reconcile(ctx: &Context, taken: Taken) {
    let object = taken.object.clone();
    let attempted = attempt(ctx, &object, taken.is_check).await;
    ctx.own_writes.end(&object);
    let next = match attempted {
        Ok(next) => next,
        Err(failure) => {
            let delay = ctx.backoff.failed(&object.to_string(), failure.least_delay());
            tracing::warn!(%object, %failure, ?delay, "a request failed; trying again");
            Next::After(delay)
        }
    };
    taken.finish(next);
}

async fn attempt(
    ctx: &Context,
    object: &ObjectRef,
    is_check: bool,
) -> Result<Next, RequestFailure> {
    let Some(known) = ctx.sealed_secrets.get(object) else { return Ok(Next::Settled) };
    if is_of_another(ctx, &known) || known.is_deleted {
        return Ok(Next::Settled);
    }
    if !is_check && look(ctx, object, &known) == Glance::Settled {
        return Ok(Next::Settled);
    }
    if let Some(pause) = ctx.damping.pause(object).filter(|_| is_as_reported(&known)) {
        return Ok(Next::After(pause));
    }

    let mut timer = ctx.metrics.reconcile();
    ctx.own_writes.begin(object);
    let Some(outcome) = settle(ctx, object, &known).await? else {
        timer.nothing();
        ctx.forget(object);
        return Ok(Next::Settled);
    };
    timer.come_to(&outcome.situation);
    let Outcome { observed, situation, change, least_delay } = outcome;
    let is_first_failure = ctx.backoff.failures(&object.to_string()) == 0;
    if let (Situation::Retrying { reason: Reason::Conflict | Reason::Unavailable, .. }, true) =
        (&situation, is_first_failure)
    {
        // Most of these are over at the next attempt, so they are reported only if they happen again.
        return Ok(retry(ctx, object, &situation, least_delay));
    }

    let pause = damped(ctx, object, &known, change.as_ref());
    let situation = match (&change, pause) {
        (
            Some(TargetChange {
                kind: TargetChangeKind::Restored { by } | TargetChangeKind::Recreated { by, .. },
                ..
            }),
            Some(_),
        ) => contested(by.as_deref()),
        _ => situation,
    };
    status::write(ctx, object, &observed, &situation, change.as_ref()).await?;
    if let Some(pause) = pause {
        return Ok(Next::After(pause));
    }
    if let Situation::Retrying { .. } = situation {
        return Ok(retry(ctx, object, &situation, least_delay));
    }
    if let Reason::TargetExists | Reason::TargetImmutable | Reason::KeyTaken = situation.reason() {
        // Often the obstacle is gone in a moment: a GitOps tool that replaces a Secret by a SealedSecret creates the
        // SealedSecret first, and deletes the Secret afterwards.
        let delay = ctx.backoff.failed(&object.to_string(), LOOK_AGAIN_FIRST);
        return Ok(Next::After(delay.min(LOOK_AGAIN)));
    }
    ctx.backoff.succeeded(&object.to_string());
    Ok(Next::Settled)
}

fn look(ctx: &Context, object: &ObjectRef, known: &KnownSealedSecret) -> Glance {
    if is_of_another(ctx, known) {
        return Glance::Settled;
    }
    if is_taken_over(ctx, known) {
        return Glance::Look;
    }
    let target = ctx.targets.get(object);
    if ctx.own_writes.is_done(object, known, target.as_deref()) {
        return Glance::Settled;
    }
    glance::glance(known, target.as_deref(), &ctx.key_store.keyring())
}

/// Whether the SealedSecret has not changed since its last status, so that the target must have changed.
fn is_as_reported(known: &KnownSealedSecret) -> bool {
    known.status.as_ref().is_some_and(|status| status.observed_generation == known.generation)
}

/// How long a target that others keep changing is left alone from now on, if at all.
fn damped(
    ctx: &Context,
    object: &ObjectRef,
    known: &KnownSealedSecret,
    change: Option<&TargetChange>,
) -> Option<Duration> {
    if is_taken_over(ctx, known) {
        return ctx.damping.note(object, Disturbance::Takeover);
    }
    let change = change?;
    let is_as_left =
        known.status.as_ref().and_then(|status| status.target.as_ref()).is_some_and(|written| {
            written.version.resource_version == change.target.resource_version
        });
    match change.kind {
        TargetChangeKind::Restored { .. } | TargetChangeKind::Recreated { is_repair: true, .. } => {
            ctx.damping.note(object, Disturbance::Drift)
        }
        TargetChangeKind::Unchanged if !is_as_left => ctx.damping.note(object, Disturbance::Noise),
        _ => {
            ctx.damping.forget(object);
            None
        }
    }
}

fn contested(by: Option<&str>) -> Situation {
    let who = by.map_or_else(|| "another client".to_owned(), |by| format!("field manager {by}"));
    let message = format!(
        "{who} keeps changing the Secret, so it is restored less and less often; stop the other writer, or delete the SealedSecret"
    );
    Situation::NeedsPerson { reason: Reason::Contested, message }
}

/// Schedules the next attempt after a growing delay.
fn retry(ctx: &Context, object: &ObjectRef, situation: &Situation, least_delay: Duration) -> Next {
    let delay = ctx.backoff.failed(&object.to_string(), least_delay);
    // These obstacles can end without an event, so the delay stays short.
    let delay = match situation.reason() {
        Reason::Forbidden | Reason::NamespaceTerminating | Reason::TargetMissing => {
            delay.min(LOOK_AGAIN)
        }
        _ => delay,
    };
    let reason = situation.reason().as_str();
    tracing::info!(%object, reason, ?delay, "could not reconcile; trying again");
    Next::After(delay)
}

/// What was observed, and the result.
struct Outcome {
    observed: Observed,
    situation: Situation,
    change: Option<TargetChange>,
    /// The pause that the API server asked for.
    least_delay: Duration,
}

impl Outcome {
    fn failed(observed: Observed, failure: &RequestFailure) -> Self {
        let (situation, least_delay) = (apply::failed(failure), failure.least_delay());
        Self { observed, situation, change: None, least_delay }
    }
}

/// Observes, plans and applies. Starts again when another client wrote in the meantime. `None` if the object needs
/// no work any more.
async fn settle(
    ctx: &Context,
    object: &ObjectRef,
    known: &KnownSealedSecret,
) -> Result<Option<Outcome>, RequestFailure> {
    let mut reading = first_reading(ctx, object, known);
    let mut last = None;
    for _ in 0..MAX_RACES {
        let Some(observed) = observe::observe(ctx, object, known, reading).await? else {
            return Ok(None);
        };
        let status = observed.sealed_secret.status.as_ref().map(KnownStatus::from);
        let is_others = status.as_ref().is_some_and(|status| is_others(ctx, status));
        if is_others && !status.is_some_and(|status| can_help(ctx, &status)) {
            return Ok(None); // it was handed over since the watch delivered it
        }
        let revoked = ctx.key_store.revoked();
        let limits = limits(&ctx.args);
        let plan = match plan::decide(&observed, &ctx.key_store.keyring(), &revoked, &limits) {
            Conclusion::CarryOut(plan) => *plan,
            Conclusion::ReadMore(more) => {
                reading = more;
                continue;
            }
        };
        if let (true, Plan::Refuse { reason, .. }) = (is_others, &plan)
            && LACKING_KEY.contains(reason)
        {
            return Ok(None); // both lack a key
        }
        let is_correction = matches!(plan, Plan::Correct { .. });
        let generation = observed.sealed_secret.metadata.generation.unwrap_or_default();
        match apply::apply(ctx, plan, generation).await {
            Ok((situation, change)) => {
                let least_delay = Duration::ZERO;
                return Ok(Some(Outcome { observed, situation, change, least_delay }));
            }
            // Read what is in the way, and decide again.
            Err(
                RequestFailure::AlreadyExists | RequestFailure::Conflict | RequestFailure::NotFound,
            ) => {
                reading = reading.max(Reading::Metadata);
                // A worker that waits for a place holds none.
                last = Some(Observed { occupied: Occupied::default(), ..observed });
            }
            // However much was read before. A Secret that was only merged into is never recreated.
            Err(RequestFailure::Immutable) if is_correction && reading != Reading::Immutable => {
                reading = Reading::Immutable;
            }
            Err(failure) => return Ok(Some(Outcome::failed(observed, &failure))),
        }
    }
    Ok(last.map(|observed| Outcome::failed(observed, &RequestFailure::Conflict)))
}

/// What the flags make this controller refuse.
fn limits(args: &Args) -> Limits<'_> {
    Limits {
        protected: &args.namespace,
        types: &args.refuse_types,
        labels: &args.refuse_labels,
        annotations: &args.refuse_annotations,
    }
}

/// Reads the target first if it may exist. If it exists unexpectedly, the create fails and shows it. After a failure it
/// is read first too: the API server charges a quota for a create that fails.
fn first_reading(ctx: &Context, object: &ObjectRef, known: &KnownSealedSecret) -> Reading {
    let written = known.status.as_ref().and_then(|status| status.target.as_ref());
    match written {
        Some(written) if written.policy == Policy::Merge => Reading::Keys,
        Some(_) => Reading::Metadata,
        None if ctx.targets.get(object).is_some() || has_failed(known) => Reading::Metadata,
        None => Reading::Nothing,
    }
}

fn has_failed(known: &KnownSealedSecret) -> bool {
    let ready = known.status.as_ref().and_then(|status| status.ready.as_ref());
    ready.is_some_and(|(status, _)| status != "True")
}

/// Takes objects from the queue and reconciles them, as many at a time as there are workers, until `stopped`.
pub(crate) async fn work(ctx: Arc<Context>, stopped: impl Future<Output = ()> + Unpin) {
    let (queue, workers) = (ctx.queue.clone(), ctx.args.workers.into());
    let reconcile = |taken| {
        let ctx = ctx.clone();
        async move { reconcile(&ctx, taken).await }
    };
    queue::work(&queue, workers, reconcile, stopped).await;
}

/// How many parts the interval of full checks is divided into.
const SLICES: u32 = 1000;

/// Queues each object once in every interval for a full comparison, spread out evenly. Never ends.
pub(crate) async fn check_in_full(ctx: &Context) {
    let interval = ctx.args.full_check;
    if interval.is_zero() {
        return std::future::pending().await;
    }
    // Not immediately: a restart must not cost requests, and a new leader has other work.
    let first = tokio::time::Instant::now() + interval / 8;
    let mut tick = tokio::time::interval_at(first, interval / SLICES);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Without this, replicas that take turns would start with the same objects each time.
    let mut slice = backoff::random() % u64::from(SLICES);
    loop {
        tick.tick().await;
        slice = (slice + 1) % u64::from(SLICES);
        for (object, _) in ctx.sealed_secrets.all() {
            let mut hasher = std::hash::DefaultHasher::new();
            object.hash(&mut hasher);
            if hasher.finish() % u64::from(SLICES) == slice {
                ctx.queue.push_check(object);
            }
        }
    }
}
