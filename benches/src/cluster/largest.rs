//! Measures the memory that the largest objects take, when their lists are streamed and when they come in pages.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::{SealedSecret, WipedSecret, seal};
use bulla_sealing::{Recipient, Recipients, Scope};
use bulla_tests::{Controller, Fault, Proxy, Rule};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::cluster::args::Args;
use crate::cluster::converge;
use crate::cluster::objects::{NAMESPACE, name};
use crate::cluster::site::{Site, secrets_path};
use crate::process::Process;
use crate::program::progress;

/// The value of each object, in bytes: with base64 twice about what etcd accepts.
const VALUE_BYTES: usize = 980_000;

/// How long one of these objects may take.
const EACH: Duration = Duration::from_secs(1);

/// A list that the server streams.
const STREAMED: &str = "WATCH *?*sendInitialEvents=true&*";

/// Peak memory of two starts, in MiB: with streamed lists, and with lists in pages. Both open every object.
pub(crate) async fn measure(args: &Args) -> Result<[f64; 2]> {
    let args = Args { objects: args.largest, foreign_mib: 0, ..args.clone() };
    let site = Site::start(&args).await?;
    let mut controller = converge::start(&site)?;
    controller.wait_until_ready()?;
    let recipient = converge::recipient(&site).await?;
    controller.stop(converge::STOP_DEADLINE)?;
    site.store(&seal_all(&args, recipient)?).await?;
    progress("  streamed");
    controller.restart()?;
    let streamed = peak(&site, &controller).await.context("streamed lists")?;
    controller.stop(converge::STOP_DEADLINE)?;

    site.admin.connect().await?.delete(&secrets_path(NAMESPACE)).await?;
    progress("  in pages");
    let proxy = Proxy::start(&site.plane)?;
    let _refused = proxy.inject(Rule::new(STREAMED, Fault::Status(422)));
    let mut command = Controller::command_through(&site.plane, &proxy)?;
    command.args(["--workers", &args.workers.to_string()]);
    let controller = Controller::start(command)?;
    controller.wait_until_ready()?;
    let paged = peak(&site, &controller).await.context("lists in pages")?;
    drop(controller);
    Ok([streamed, paged])
}

/// Waits until everything is done, and returns the peak memory.
async fn peak(site: &Site, controller: &Controller) -> Result<f64> {
    let process = Process::new(controller.pid()?);
    converge::wait_until_done(site, controller, process, Instant::now(), EACH)
        .await
        .with_context(|| format!("the controller's log ends:\n{}\n", controller.log_tail()))?;
    Process::new(controller.pid()?).peak_rss_mib()
}

fn seal_all(args: &Args, recipient: Recipient) -> Result<Vec<SealedSecret>> {
    let recipients = Recipients::new(vec![recipient])?;
    let value = BASE64_STANDARD.encode(vec![b'v'; VALUE_BYTES]);
    let seal_one = |index| {
        let secret = json!({"metadata": {"name": name(index)}, "data": {"file": value}});
        let secret = WipedSecret::new(serde_json::from_value::<Secret>(secret)?);
        Ok(seal(&secret, NAMESPACE, Scope::Strict, &recipients)?)
    };
    (0..args.objects as usize).map(seal_one).collect()
}
