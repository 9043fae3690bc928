//! Identities: taken up as the watch brings them, published, and the first one made.

use std::collections::BTreeSet;

use anyhow::bail;
use bulla_crds::{
    IDENTITY_SECRET_KEY, IDENTITY_SECRET_TYPE, SealingKey, SealingKeySpec, State, WipedSecret,
};
use bulla_sealing::{Identity, Recipient};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, ResourceExt};
use zeroize::Zeroizing;

use crate::api::{self, Failure, within};
use crate::context::{Context, FIELD_MANAGER};

/// Publishes the identities that are held, and makes the first key when this holder has none. Done by the
/// replica that works, and begun anew by the next.
pub(crate) async fn establish(ctx: &Context) -> anyhow::Result<()> {
    let keys = sealing_keys(ctx);
    let every = ListParams::default();
    let keys = retry(ctx, "list SealingKeys", || within(keys.list(&every))).await.items;

    let published: BTreeSet<_> = keys.iter().map(ResourceExt::name_any).collect();
    let held: Vec<Recipient> = ctx.keyring().recipients().collect();
    for recipient in
        held.iter().filter(|recipient| !published.contains(&recipient.fingerprint().to_string()))
    {
        // It opens from now on; only a person makes a key that was found Active.
        publish(ctx, recipient, State::Retired).await;
    }
    let ours = || keys.iter().filter(|key| key.spec.holder == ctx.args.holder);
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
    let secret = identity_secret(ctx, &identity);
    retry(ctx, "store an identity", || created(api::create_secret(&ctx.client, &secret))).await;
    ctx.hold(identity);
    publish(ctx, &recipient, State::Active).await;
    ctx.metrics.newest_key(jiff::Timestamp::now());
    tracing::info!(key = %recipient.fingerprint(), "made the first key");
    Ok(())
}

/// Makes the public half readable. A key that is published already stays as it is.
async fn publish(ctx: &Context, recipient: &Recipient, state: State) {
    let spec = SealingKeySpec {
        recipient: recipient.to_string(),
        holder: ctx.args.holder.clone(),
        created: Time(jiff::Timestamp::now()),
        state,
    };
    let sealing_key = SealingKey::new(&recipient.fingerprint().to_string(), spec);
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
    match identity(secret) {
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

/// Reads an identity Secret: one identity, of the fingerprint that the Secret is named for.
fn identity(secret: &Secret) -> anyhow::Result<Identity> {
    let Some(value) = secret.data.as_ref().and_then(|data| data.get(IDENTITY_SECRET_KEY)) else {
        bail!("it has no key {IDENTITY_SECRET_KEY}");
    };
    let text = str::from_utf8(&value.0).map_err(|_| anyhow::anyhow!("it is not UTF-8"))?;
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        bail!("it does not hold exactly one identity");
    };
    let identity = Identity::parse(line)?;
    let fingerprint = identity.recipient().fingerprint();
    if secret.metadata.name != Some(fingerprint.to_string()) {
        bail!("it holds the identity of {fingerprint}, which is not its name");
    }
    Ok(identity)
}

fn identity_secret(ctx: &Context, identity: &Identity) -> WipedSecret {
    let recipient = identity.recipient();
    let text =
        Zeroizing::new(format!("# public key: {recipient}\n{}\n", &*identity.to_secret_string()));
    WipedSecret::new(Secret {
        metadata: ObjectMeta {
            name: Some(recipient.fingerprint().to_string()),
            namespace: Some(ctx.args.namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(IDENTITY_SECRET_TYPE.into()),
        data: Some([(IDENTITY_SECRET_KEY.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
        ..Secret::default()
    })
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
