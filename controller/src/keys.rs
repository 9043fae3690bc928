//! Identities: taken up as the watch brings them, published, and the first one made.

use std::collections::BTreeSet;

use bulla_crds::{SealingKey, State, WipedSecret, keys};
use bulla_sealing::{Identity, Recipient};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use crate::api::{self, Failure, within};
use crate::context::{Context, FIELD_MANAGER};

/// Publishes the identities that are held, and makes the first key when this holder has none. Done by the
/// replica that works, and begun anew by the next.
pub(crate) async fn establish(ctx: &Context) -> anyhow::Result<()> {
    let api = sealing_keys(ctx);
    let every = ListParams::default();
    let declared = retry(ctx, "list SealingKeys", || within(api.list(&every))).await.items;

    let published: BTreeSet<_> = declared.iter().map(ResourceExt::name_any).collect();
    let held: Vec<Recipient> = ctx.keyring().recipients().collect();
    for recipient in
        held.iter().filter(|recipient| !published.contains(&recipient.fingerprint().to_string()))
    {
        // It opens from now on; only a person makes a key that was found Active.
        publish(ctx, recipient, State::Retired).await;
    }
    let ours = || declared.iter().filter(|key| key.spec.holder == ctx.args.holder);
    if let Some(newest) = ours().map(|key| key.spec.created.0).max() {
        ctx.metrics.newest_key(newest);
    }
    match ours().find(|key| key.spec.state == State::Active) {
        None => make(ctx).await,
        Some(active) => {
            let is_held = active
                .name_any()
                .parse()
                .is_ok_and(|fingerprint| ctx.keyring().is_held(fingerprint));
            if !is_held {
                tracing::error!(
                    key = active.name_any(),
                    "the identity of the active key is missing"
                );
            }
            Ok(())
        }
    }
}

/// Makes a key: the identity first, so that nothing is ever sealed to a key that nobody holds.
async fn make(ctx: &Context) -> anyhow::Result<()> {
    let identity = Identity::generate(ctx.args.key_type.into())?;
    let recipient = identity.recipient();
    let secret = keys::identity_secret(&identity, &ctx.args.namespace);
    retry(ctx, "store an identity", || created(api::create_secret(&ctx.client, &secret))).await;
    ctx.hold(identity);
    publish(ctx, &recipient, State::Active).await;
    ctx.metrics.newest_key(jiff::Timestamp::now());
    tracing::info!(key = %recipient.fingerprint(), "made the first key");
    Ok(())
}

/// Makes the public half readable. A key that is published already stays as it is.
async fn publish(ctx: &Context, recipient: &Recipient, state: State) {
    let (namespace, holder) = (&ctx.args.namespace, &ctx.args.holder);
    let sealing_key =
        keys::sealing_key(recipient, namespace, holder, jiff::Timestamp::now(), state);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let api = sealing_keys(ctx);
    retry(ctx, "publish a SealingKey", || created(within(api.create(&params, &sealing_key)))).await;
}

/// An object of ours that is there already was created by a try whose answer was lost.
async fn created<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<(), Failure> {
    match request.await {
        Ok(_) | Err(Failure::AlreadyExists) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Holds the identities in `secret`; whether one was new. What is malformed is reported and skipped.
pub(crate) fn take(ctx: &Context, secret: &WipedSecret) -> bool {
    let name = secret.name_any();
    match keys::identity_of(secret) {
        Ok(identity) => {
            let is_new = ctx.hold(identity);
            if is_new {
                tracing::info!(key = name, "holding an identity");
            }
            is_new
        }
        Err(error) => {
            tracing::error!(secret = name, %error, "an identity Secret is unusable and was skipped");
            false
        }
    }
}

/// Asks until the API server consents; each failure is said.
async fn retry<T, F>(ctx: &Context, operation: &'static str, mut request: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Failure>>,
{
    loop {
        let failure = match request().await {
            Ok(answer) => {
                ctx.backoff.succeeded(operation);
                return answer;
            }
            Err(failure) => failure,
        };
        let delay = ctx.backoff.failed(operation, failure.least_delay());
        tracing::warn!(operation, %failure, ?delay, "a request failed and is tried again");
        tokio::time::sleep(delay).await;
    }
}

fn sealing_keys(ctx: &Context) -> Api<SealingKey> {
    Api::namespaced(ctx.client.clone(), &ctx.args.namespace)
}
