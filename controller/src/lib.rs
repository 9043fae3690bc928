//! The in-cluster half of Bulla: holds the identities and keeps each Secret equal to its SealedSecret.
//!
//! Where to look: `watches` feeds the watched objects into `state`, which also queues the work.
//! `sealed_secret` is the reconcile loop (observe, plan, apply, status). `keys` manages the life of the keys,
//! `rekey` answers Rekeys, and `lease` decides which replica works. Everything else serves these.

mod api;
mod args;
mod context;
mod events;
mod field_manager;
mod http;
mod keys;
mod lease;
mod metrics;
mod paging;
mod process;
mod rekey;
mod sealed_secret;
mod state;
mod telemetry;
mod version;
mod watches;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Args;
use crate::context::Context;

/// How long work in flight may go on after the signal: far less than Kubernetes waits before it kills a pod.
/// The next start takes up a reconcile that was cut off.
const GRACE: Duration = Duration::from_secs(5);

/// Parses the command line, runs until stopped, and returns the exit code.
pub fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init(args.log_format);
    process::keep_from_being_read();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "could not start the runtime");
            return ExitCode::from(2);
        }
    };
    let outcome = runtime.block_on(run_until_overdue(args));
    // This does not wait for leftover tasks, such as a name lookup.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped because of an error");
            ExitCode::from(2)
        }
    }
}

/// Runs until SIGTERM or SIGINT, and then for at most [`GRACE`]: an API server that hangs must not keep the
/// process alive.
async fn run_until_overdue(args: Args) -> anyhow::Result<()> {
    let stop = stop_signal().context("could not listen for signals")?;
    tokio::select! {
        outcome = run(args, stop.clone()) => outcome,
        () = async { stopped(stop).await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("stopped before the work in flight was done");
            Ok(())
        }
    }
}

/// Runs until stopped, then lets the reconciles in flight finish.
async fn run(args: Args, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    args.check()?;
    let client = api::client().await.context("could not find a usable cluster configuration")?;
    let ctx = Arc::new(Context::new(client, args));
    let server = http::serve(ctx.clone(), stopped(stop.clone())).await?;

    let mut watches = JoinSet::new();
    watches::spawn(&ctx, &mut watches);
    let (leads, leadership) = watch::channel(false);
    let candidate = lease::Candidate::new(&ctx);
    let campaign = tokio::spawn(campaign(ctx.clone(), candidate, leads));
    let worked = tokio::select! {
        () = work(&ctx, leadership, stop) => Ok(()),
        // A watch ends only when it panics. Without it changes would be missed, so the process restarts.
        _ = watches.join_next() => Err(anyhow::anyhow!("a watch ended unexpectedly")),
        error = version::too_old(&ctx.client) => Err(error),
    };
    // The receiver is gone, so the campaign gives the Lease back.
    let given_back = campaign.await.context("the task that holds the Lease panicked");
    tracing::info!("stopped");
    worked.and(given_back)?;
    server.await.context("the HTTP server failed")
}

/// Runs for the Lease once the name of the cluster is known, until the receiver is gone.
async fn campaign(ctx: Arc<Context>, candidate: lease::Candidate, leads: watch::Sender<bool>) {
    tokio::select! {
        () = keys::settle_holder(&ctx) => candidate.run(leads).await,
        () = leads.closed() => {}
    }
}

/// Works whenever this replica holds the Lease, until stopped.
async fn work(
    ctx: &Arc<Context>,
    mut leadership: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
) {
    while until_stopped(leads(&mut leadership, ctx), stop.clone()).await.is_some() {
        ctx.metrics.is_leader(true);
        let over = || Box::pin(over(leadership.clone(), stop.clone()));
        begin_work(ctx);
        let objects = async {
            tokio::join!(sealed_secret::work(ctx.clone(), over()), rekey::work(ctx.clone(), over()),)
        };
        tokio::select! {
            ((), ()) = objects => {}
            () = keys::work(ctx) => {}
            () = sealed_secret::check_in_full(ctx) => {}
        }
        ctx.end_work();
        ctx.metrics.is_leader(false);
    }
}

/// Queues everything that needs work.
fn begin_work(ctx: &Context) {
    // The order matters: an object that a watch delivers in the meantime is queued by the watch or found here.
    ctx.begin_work();
    sealed_secret::enqueue_all(ctx);
    ctx.rekeys.enqueue_all();
}

/// Waits until this replica loses the Lease or is stopped.
async fn over(mut leadership: watch::Receiver<bool>, stop: watch::Receiver<bool>) {
    tokio::select! {
        _ = leadership.wait_for(|leads| !leads) => {}
        () = stopped(stop) => {}
    }
}

/// Waits until this replica holds the Lease and has all first lists.
async fn leads(leadership: &mut watch::Receiver<bool>, ctx: &Context) {
    ctx.listed().await;
    if leadership.wait_for(|leads| *leads).await.is_err() {
        std::future::pending().await // the campaign panicked, and its owner reports that
    }
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
        tracing::info!("received a signal to stop");
        sender.send_replace(true);
        sender.closed().await;
    });
    Ok(receiver)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and it goes only after it has sent.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn until_stopped<T>(work: impl Future<Output = T>, stop: watch::Receiver<bool>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = stopped(stop) => None,
    }
}
