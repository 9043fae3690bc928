//! Rekeys: requests for new headers over old payloads, answered once in their status, and deleted a while later.
//!
//! - The watch brings metadata alone, and a Rekey is read when it is its turn: however many there are, and however
//!   much they ask for, no more than two are in memory.
//! - A Rekey's spec does not change, so one answer is all that it ever gets. That it has one is known from its
//!   status, at the latest when it is read.
//! - It is deleted when it has been seen for ten minutes, answered or not. Until then it waits in the same queue.
//!
//! Nothing is opened, and nothing comes out but headers for keys that administrators declared: see `judge`.

mod judge;
mod status;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bulla_crds::Rekey;
use kube::core::ObjectMeta;

use crate::api::{self, RequestFailure};
use crate::context::Context;
use crate::rekey::judge::{KnownKeys, RefusalCause, judge};
use crate::sealed_secret;
use crate::state::object_ref::ObjectRef;
use crate::state::queue::{self, Lane, Next, Taken};
use crate::state::rekeys::{SeenRekey, WORKERS};

/// How often something that a moment may change is looked at again before it is said: for about a second.
const MAX_LOOKS: u32 = 3;

/// The watch has told of a Rekey.
pub(crate) fn came(ctx: &Context, metadata: &ObjectMeta) {
    if ctx.rekeys.note(metadata) && ctx.is_working() {
        ctx.rekeys.queue.push(ObjectRef::of(metadata), Lane::Changed);
    }
}

/// A Rekey is not there any more.
pub(crate) fn went(ctx: &Context, object: &ObjectRef) {
    ctx.rekeys.forget(object);
    ctx.backoff.succeeded(&subject(object));
}

/// A list of `namespace`, or of all, has brought these.
pub(crate) fn listed(ctx: &Context, namespace: Option<&str>, listed: &HashSet<ObjectRef>) {
    for object in ctx.rekeys.retain(namespace, listed) {
        went(ctx, &object);
    }
}

/// Answers and deletes Rekeys until told to stop, a few at a time.
pub(crate) async fn work(ctx: Arc<Context>, stopped: impl Future<Output = ()> + Unpin) {
    let queue = ctx.rekeys.queue.clone();
    let handle = |taken| {
        let ctx = ctx.clone();
        async move { handle(&ctx, taken).await }
    };
    queue::work(&queue, WORKERS, handle, stopped).await;
}

async fn handle(ctx: &Context, taken: Taken) {
    let object = taken.object.clone();
    let next = match attempt(ctx, &object).await {
        Ok(next) => next,
        Err(failure) => {
            let delay = ctx.backoff.failed(&subject(&object), failure.least_delay());
            tracing::warn!(%object, %failure, ?delay, "a request for a Rekey failed and is tried again");
            Next::After(delay)
        }
    };
    taken.finish(next);
}

async fn attempt(ctx: &Context, object: &ObjectRef) -> Result<Next, RequestFailure> {
    let Some(seen) = ctx.rekeys.get(object) else {
        went(ctx, object); // a request may have failed since
        return Ok(Next::Settled);
    };
    let remaining = seen.remaining(ctx.args.rekey_lifetime);
    if remaining.is_zero() {
        delete(ctx, object, &seen).await?;
        went(ctx, object);
        return Ok(Next::Settled);
    }
    if !seen.is_answered {
        if let Some(delay) = answer(ctx, object, &seen).await? {
            return Ok(Next::After(delay));
        }
        ctx.rekeys.is_answered(object, &seen.uid);
        ctx.backoff.succeeded(&subject(object));
    }
    Ok(Next::After(remaining))
}

/// Answers it, if nobody has; how long to wait when it is too early to say.
async fn answer(
    ctx: &Context,
    object: &ObjectRef,
    seen: &SeenRekey,
) -> Result<Option<Duration>, RequestFailure> {
    let Some(rekey) = api::rekey(&ctx.client, object, &seen.resource_version).await? else {
        return Ok(None);
    };
    if !is_ours_to_answer(ctx, &rekey, seen) {
        return Ok(None);
    }
    let judged = tokio::task::block_in_place(|| {
        if *object.namespace == *ctx.args.namespace {
            return Err(RefusalCause::Protected.into());
        }
        let (declared, revoked) = (ctx.key_store.declared(), ctx.key_store.revoked());
        let keys = KnownKeys { declared: &declared, revoked: &revoked };
        judge(&object.namespace, &rekey.spec, &keys, |header, target, recipients| {
            // Each takes the keyring for itself: whoever changes it should not wait for all.
            header.rekey(target, &ctx.key_store.keyring(), recipients)
        })
    });
    if let Err(refusal) = &judged
        && refusal.cause.may_pass()
        && ctx.backoff.failures(&subject(object)) < MAX_LOOKS
    {
        return Ok(Some(ctx.backoff.failed(&subject(object), Duration::ZERO)));
    }
    let judged_at = rekey.metadata.clone();
    let (situation, status) = status::answer(rekey, judged);
    match api::patch_status::<Rekey>(&ctx.client, &judged_at, &status).await {
        Ok(_) => {}
        // Deleted meanwhile: there is nobody to tell.
        Err(RequestFailure::NotFound) => return Ok(None),
        Err(failure) => {
            ctx.metrics.api_error("answer_rekey", failure.reason().as_str());
            return Err(failure);
        }
    }
    ctx.metrics.rekey(&situation);
    let (reason, message) = (situation.reason().as_str(), situation.message());
    let key = status.refused_key;
    tracing::info!(%object, reason, key, message, "answered a Rekey");
    Ok(None)
}

/// Whether it waits for an answer, and for ours.
fn is_ours_to_answer(ctx: &Context, rekey: &Rekey, seen: &SeenRekey) -> bool {
    let metadata = &rekey.metadata;
    let answered = rekey.status.as_ref().and_then(|status| status.observed_generation);
    let is_waiting = metadata.uid.as_ref() == Some(&seen.uid)
        && metadata.deletion_timestamp.is_none()
        && answered != metadata.generation;
    let asked = ObjectRef {
        namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
        name: rekey.spec.sealed_secret.as_str().into(),
    };
    let is_of_another = || {
        let known = ctx.sealed_secrets.get(&asked);
        known.is_some_and(|known| sealed_secret::is_of_another(ctx, &known))
    };
    is_waiting && !is_of_another()
}

/// Deletes the one that was seen, if it is still there.
async fn delete(ctx: &Context, object: &ObjectRef, seen: &SeenRekey) -> Result<(), RequestFailure> {
    match api::delete_rekey(&ctx.client, object, &seen.uid).await {
        Ok(()) => {
            tracing::info!(%object, "deleted a Rekey that has had its time");
            Ok(())
        }
        // Gone, or another one of this name.
        Err(RequestFailure::NotFound | RequestFailure::Conflict) => Ok(()),
        Err(failure) => {
            ctx.metrics.api_error("delete_rekey", failure.reason().as_str());
            Err(failure)
        }
    }
}

/// What its failures are counted under: a SealedSecret may have the same name.
fn subject(object: &ObjectRef) -> String {
    format!("rekeys/{object}")
}
