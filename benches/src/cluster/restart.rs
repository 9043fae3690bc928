//! Measures a restart with nothing changed: the requests, and the time until the controller is ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulla_crds::TARGET_LABEL;
use bulla_tests::Controller;
use serde::de::IgnoredAny;

use crate::{client::Client, cluster::site::Site, process::Process, server_metrics::Requests};

const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// The controller may still check objects after it is ready.
const QUIET: Duration = Duration::from_secs(5);

const READY_DEADLINE: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(5);

/// The page size of the bare lists. It is the largest with which the controller's memory stays small.
const PAGE: u32 = 100;

/// The cost of a restart.
#[derive(Clone, Debug)]
pub(crate) struct Restart {
    pub(crate) ready_s: f64,
    /// A bare client's time for the same lists, both at once.
    pub(crate) lists_s: f64,
    pub(crate) requests: Requests,
}

/// Stops the controller, and measures its next start.
pub(crate) async fn measure(site: &Site, controller: &mut Controller) -> Result<Restart> {
    controller.stop(STOP_DEADLINE)?;
    let lists_s = read_lists(&site.account).await?;
    let mut admin = site.admin.connect().await?;
    let before = Requests::settled(&mut admin, QUIET).await?;
    let start = Instant::now();
    controller.restart()?;
    wait_until_ready(controller, start)
        .await
        .with_context(|| format!("the controller's log ends:\n{}\n", controller.log_tail()))?;
    let ready_s = start.elapsed().as_secs_f64();
    let requests = Requests::settled(&mut admin, QUIET).await?.since(&before);
    Ok(Restart { ready_s, lists_s, requests })
}

async fn wait_until_ready(controller: &Controller, start: Instant) -> Result<()> {
    let process = Process::new(controller.pid()?);
    while !matches!(controller.get("/readyz"), Ok((200, _))) {
        process.cpu()?; // it still runs
        ensure!(start.elapsed() < READY_DEADLINE, "the controller is not ready");
        tokio::time::sleep(READY_POLL).await;
    }
    Ok(())
}

/// Reads all SealedSecrets and the metadata of all targets, in seconds.
async fn read_lists(client: &Client) -> Result<f64> {
    let start = Instant::now();
    let targets = format!("/api/v1/secrets?labelSelector={TARGET_LABEL}");
    tokio::try_join!(
        read_list(client, "/apis/bulla.dev/v1alpha1/sealedsecrets"),
        read_list(client, &targets)
    )?;
    Ok(start.elapsed().as_secs_f64())
}

async fn read_list(client: &Client, path: &str) -> Result<()> {
    let mut connection = client.connect().await?;
    let mut last = None;
    loop {
        let page = connection.page::<IgnoredAny>(path, PAGE, last.as_ref()).await?;
        if page.metadata.is_last() {
            return Ok(());
        }
        last = Some(page.metadata);
    }
}
