//! The in-cluster half: holds the identities, and keeps the native Secrets equal to what the
//! SealedSecrets say.
//!
//! Where to look: `sealed_secret` is the reconcile loop (observe, plan, apply, status), `keys` loads,
//! watches and makes identities, `watches` says what is watched and what of it is kept. Everything else
//! serves these three.

mod api;
mod args;
mod backoff;
mod context;
mod events;
mod http;
mod keys;
mod metrics;
mod sealed_secret;
mod telemetry;
mod watches;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::Config;
use tokio::sync::watch;

use crate::args::Args;
use crate::context::Context;

/// How long after the signal work in flight may take to end: far less than Kubernetes waits before it kills.
/// A reconcile that is left in the middle is taken up again by the next start.
const GRACE: Duration = Duration::from_secs(5);

/// Parses the command line, runs until told to stop, and gives the exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::from(2);
        }
    };
    let outcome = runtime.block_on(run_until_overdue(args));
    // Not to wait for what is left, such as the resolution of a name.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped by an error");
            ExitCode::from(2)
        }
    }
}

/// Runs until SIGTERM or SIGINT, and then not for long: an API server that hangs must not keep us.
async fn run_until_overdue(args: Args) -> anyhow::Result<()> {
    let stop = stop_signal().context("cannot listen for signals")?;
    tokio::select! {
        outcome = run(args, stop.clone()) => outcome,
        () = async { stopped(stop).await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("stopped with work in flight");
            Ok(())
        }
    }
}

/// Runs until told to stop, then lets the reconciles in flight finish.
async fn run(args: Args, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), holder = args.holder, "starting");
    let client = kube::Client::try_default().await.context("no usable cluster configuration")?;

    let sealed_secrets = watches::sealed_secrets(client.clone());
    let targets = watches::targets(client.clone());
    let workers = args.workers;
    let ctx = Arc::new(Context::new(
        client.clone(),
        args,
        sealed_secrets.cache.clone(),
        targets.cache.clone(),
    ));

    let server = http::serve(ctx.clone(), stopped(stop.clone())).await?;
    let loaded = until_stopped(keys::load(&ctx), stop.clone()).await;
    let Some(loaded) = loaded else { return server.await.context("the HTTP server failed") };
    loaded.context("cannot load the identities")?;
    ctx.identities_are_loaded();
    let new_identities = keys::watch(ctx.clone(), stopped(stop.clone()));

    let controller =
        Controller::for_stream(sealed_secrets.stream, sealed_secrets.cache.into_store())
            .watches_stream(targets.stream, watches::sealed_secret_of)
            .reconcile_all_on(new_identities)
            .with_config(Config::default().concurrency(workers))
            .graceful_shutdown_on(stopped(stop.clone()))
            .run(sealed_secret::reconcile, sealed_secret::error_policy, ctx.clone())
            .for_each(|_| std::future::ready(())); // each reconcile has said for itself what it came to
    tokio::select! {
        () = controller => {}
        () = stopped_before_lists(&ctx, stop) => {}
    }
    tracing::info!("stopped");
    server.await.context("the HTTP server failed")
}

/// Becomes true at the first SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which it only is once it has sent.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Until the first lists have come nothing is in flight, and a controller that is told to stop waits for
/// them without reading them.
async fn stopped_before_lists(ctx: &Context, stop: watch::Receiver<bool>) {
    stopped(stop).await;
    if ctx.is_listed() {
        std::future::pending().await
    }
}

async fn until_stopped<T>(work: impl Future<Output = T>, stop: watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = stopped(stop) => None,
    }
}
