//! Serves `/healthz`, `/readyz` and `/metrics`. No endpoint unseals a value.
//!
//! Anyone in the cluster may connect, so a connection costs little: small buffers, a few seconds, one request. When there
//! are many, a new one closes the oldest. So probes are answered even while somebody opens connections without end.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::context::Context;
use crate::metrics::Snapshot;
use crate::sealed_secret;

/// How many connections may be open. One more closes the oldest.
const MAX_CONNECTIONS: usize = 256;

/// How long the header of a request may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may take as a whole, also if the client reads slowly.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The buffer of a connection, in bytes: the smallest that the library allows.
const MAX_BUFFER: usize = 8 * 1024;

/// Binds the port immediately, so that a port in use is an error at start. Then serves until `stopped`.
pub(crate) async fn serve(
    ctx: Arc<Context>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>>> {
    let address = ctx.args.listen;
    let listener = bind(address).await.with_context(|| format!("could not listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(ctx);
    let server = tokio::spawn(accept(listener, router, stopped));
    Ok(async move { server.await.context("the HTTP server panicked") })
}

/// Listens on IPv6 and IPv4, or on IPv4 alone where the kernel has no IPv6.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Accepts connections until `stopped`, then lets the open ones end.
async fn accept(listener: TcpListener, router: Router, stopped: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    tokio::pin!(stopped);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = &mut stopped => break,
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= MAX_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(connections.spawn(answer(stream, router.clone())));
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(HEADER_TIMEOUT, ended).await;
}

/// Answers one request.
async fn answer(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_BUFFER);
    let service = TowerToHyperService::new(router);
    // An error is about the connection, and the client knows it too.
    let _ = timeout(CONNECTION_TIMEOUT, http.serve_connection(TokioIo::new(stream), service)).await;
}

/// Ready once all watches have delivered their first lists, an identity is held and a key is Active. After a rollout
/// you can therefore seal. A replica that does not hold the Lease becomes ready too.
async fn readyz(State(ctx): State<Arc<Context>>) -> (StatusCode, String) {
    match obstacle(&ctx) {
        Some(obstacle) => (StatusCode::SERVICE_UNAVAILABLE, format!("{obstacle}\n")),
        None => (StatusCode::OK, "ok\n".to_owned()),
    }
}

/// What keeps this replica from being ready.
fn obstacle(ctx: &Context) -> Option<String> {
    if let Some(contradiction) = ctx.holder.contradiction() {
        return Some(contradiction);
    }
    let obstacle = if !ctx.key_store.is_listed() {
        "keys are not loaded yet"
    } else if ctx.key_store.keyring().is_empty() {
        "no identity is held yet"
    } else if !ctx.key_store.has_active_key_for(ctx.holder.name()) {
        "no key of this cluster is Active yet"
    } else if !ctx.is_listed() {
        "objects are not listed yet"
    } else {
        return None;
    };
    Some(obstacle.to_owned())
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
        keys: ctx.key_store.summary(ctx.holder.name()),
        renewal_period: ctx.args.renew_every,
        sealed_secrets,
        of_another,
        is_per_object: ctx.args.metrics_per_object,
    }
}
