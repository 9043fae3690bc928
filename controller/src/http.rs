//! Serves `/healthz`, `/readyz` and `/metrics`. No endpoint unseals a value.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::metrics::Snapshot;
use crate::sealed_secret;

/// Binds the port immediately, so that a port in use is an error at start. Then serves until `stopped`.
pub(crate) async fn serve(
    ctx: Arc<Context>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    let address = ctx.args.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("could not listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ctx);
    let server: JoinHandle<std::io::Result<()>> =
        tokio::spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await },
        );
    Ok(async move { Ok(server.await.context("the HTTP server panicked")??) })
}

/// Ready once all watches have delivered their first lists, an identity is held and a key is Active. After a rollout
/// you can therefore seal. A replica that does not hold the Lease becomes ready too.
async fn readyz(State(ctx): State<Arc<Context>>) -> (StatusCode, &'static str) {
    if !ctx.key_store.is_listed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "keys are not loaded yet\n");
    }
    if ctx.key_store.keyring().is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no identity is held yet\n");
    }
    if !ctx.key_store.has_active_key_for(&ctx.args.holder) {
        return (StatusCode::SERVICE_UNAVAILABLE, "no key of this cluster is Active yet\n");
    }
    if !ctx.is_listed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "objects are not listed yet\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn metrics(State(ctx): State<Arc<Context>>) -> ([(&'static str, &'static str); 1], String) {
    let text = ctx.metrics.render(&snapshot(&ctx));
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

fn snapshot(ctx: &Context) -> Snapshot {
    let sealed_secrets = ctx.sealed_secrets.all();
    let of_another =
        sealed_secrets.iter().filter(|(_, known)| sealed_secret::is_of_another(ctx, known)).count();
    Snapshot {
        depth: ctx.queue.depth(),
        held: ctx.key_store.keyring().fingerprints().collect(),
        keys: ctx.key_store.summary(&ctx.args.holder),
        renewal_period: ctx.args.renew_every,
        sealed_secrets,
        of_another,
        is_per_object: ctx.args.metrics_per_object,
    }
}
