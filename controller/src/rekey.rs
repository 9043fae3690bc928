//! Rekeys: requests for new headers for existing payloads. Each is answered once, in its status, and deleted later.
//!
//! - The watch delivers metadata only, and a Rekey is read when it is its turn. So at most two Rekeys are in memory,
//!   whatever their number and size.
//! - The spec of a Rekey never changes, so it gets a single answer. Its status shows whether it has one, at the latest
//!   when it is read.
//! - It is deleted ten minutes after it was first seen, answered or not. Until then it waits in the same queue.
//!
//! No value is opened, and the only output is headers for keys that administrators declared: see `judge`.

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

/// How many times a refusal that may be temporary is checked again before it is reported: for about a second.
const MAX_LOOKS: u32 = 3;

/// Notes a new or changed Rekey.
pub(crate) fn changed(ctx: &Context, metadata: &ObjectMeta) {
    if ctx.rekeys.note(metadata) && ctx.is_working() {
        ctx.rekeys.queue.push(ObjectRef::of(metadata), Lane::Changed);
    }
}

/// Forgets a deleted Rekey.
pub(crate) fn deleted(ctx: &Context, object: &ObjectRef) {
    ctx.rekeys.forget(object);
    ctx.backoff.succeeded(&subject(object));
}

/// Forgets the Rekeys that a list of `namespace`, or of all namespaces, does not have.
pub(crate) fn listed(ctx: &Context, namespace: Option<&str>, listed: &HashSet<ObjectRef>) {
    for object in ctx.rekeys.retain(namespace, listed) {
        deleted(ctx, &object);
    }
}

/// Answers and deletes Rekeys, a few at a time, until `stopped`.
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
            tracing::warn!(%object, %failure, ?delay, "a request for a Rekey failed; trying again");
            Next::After(delay)
        }
    };
    taken.finish(next);
}

async fn attempt(ctx: &Context, object: &ObjectRef) -> Result<Next, RequestFailure> {
    let Some(seen) = ctx.rekeys.get(object) else {
        deleted(ctx, object); // forget failures since it was deleted
        return Ok(Next::Settled);
    };
    let remaining = seen.remaining(ctx.args.rekey_lifetime);
    if remaining.is_zero() {
        delete(ctx, object, &seen).await?;
        deleted(ctx, object);
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

/// Answers a Rekey that has no answer. Returns how long to wait if the answer may change in a moment.
async fn answer(
    ctx: &Context,
    object: &ObjectRef,
    seen: &SeenRekey,
) -> Result<Option<Duration>, RequestFailure> {
    let Some(rekey) = api::rekey(&ctx.client, object, &seen.resource_version).await? else {
        return Ok(None);
    };
    if !must_answer(ctx, &rekey, seen) {
        return Ok(None);
    }
    let judged = tokio::task::block_in_place(|| {
        if *object.namespace == *ctx.args.namespace {
            return Err(RefusalCause::Protected.into());
        }
        let (declared, revoked) = (ctx.key_store.declared(), ctx.key_store.revoked());
        let keys = KnownKeys { declared: &declared, revoked: &revoked };
        judge(&object.namespace, &rekey.spec, &keys, |header, target, recipients| {
            // Each header takes the lock for itself, so that a change of the keyring need not wait for all of them.
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
        // It was deleted in the meantime, so there is no status to write.
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

/// Whether the Rekey waits for an answer, and from this controller.
fn must_answer(ctx: &Context, rekey: &Rekey, seen: &SeenRekey) -> bool {
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

/// Deletes the Rekey that was seen, if it still exists.
async fn delete(ctx: &Context, object: &ObjectRef, seen: &SeenRekey) -> Result<(), RequestFailure> {
    match api::delete_rekey(&ctx.client, object, &seen.uid).await {
        Ok(()) => {
            tracing::info!(%object, "deleted a Rekey at the end of its lifetime");
            Ok(())
        }
        // It is gone, or it is another Rekey of this name.
        Err(RequestFailure::NotFound | RequestFailure::Conflict) => Ok(()),
        Err(failure) => {
            ctx.metrics.api_error("delete_rekey", failure.reason().as_str());
            Err(failure)
        }
    }
}

/// The name under which failures are counted. A SealedSecret may have the same namespace and name.
fn subject(object: &ObjectRef) -> String {
    format!("rekeys/{object}")
}
