//! Measures the time until everything is unsealed, and checks the result.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulla_crds::conditions::READY;
use bulla_sealing::Recipient;
use bulla_tests::Controller;
use serde_json::Value;

use crate::{
    client::Connection,
    cluster::{
        objects::{self, NAMESPACE},
        site::{Site, sealed_secrets_path, secrets_path},
    },
    process::Process,
    program::progress,
    sealing_keys,
    server_metrics::Requests,
};

/// The controller's own count of the objects that are done. It only tells when to check. The check goes through the API
/// server.
const DONE: &str = r#"bulla_sealed_secrets{condition="Ready",status="True""#;

/// The controller is asked rarely, because an answer costs it time, and often when it is nearly done.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

const DEADLINE: Duration = Duration::from_secs(60);
/// Twenty times longer than ever measured.
const DEADLINE_PER_OBJECT: Duration = Duration::from_millis(50);

pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(20);

const QUIET: Duration = Duration::from_secs(3);

const PAGE: u32 = 500;

/// The cost of the controller.
#[derive(Clone, Debug)]
pub(crate) struct Converge {
    pub(crate) seconds: f64,
    pub(crate) cpu_ms_per_object: f64,
    pub(crate) control_plane_cpu_ms_per_object: f64,
    pub(crate) requests: Requests,
    pub(crate) sizes: Sizes,
}

/// The sizes of the first object and its target in the API server's JSON, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) secret: usize,
    pub(crate) sealed_secret: usize,
}

impl Sizes {
    /// Reads them.
    pub(crate) async fn read(connection: &mut Connection) -> Result<Self> {
        let name = objects::name(0);
        let secret = connection.text(&format!("{}/{name}", secrets_path(NAMESPACE))).await?;
        let sealed_secret = connection.text(&format!("{}/{name}", sealed_secrets_path())).await?;
        Ok(Self { secret: secret.len(), sealed_secret: sealed_secret.len() })
    }
}

/// Measures, and leaves the controller running.
///
/// First the controller runs without work, to generate and publish its key, as after an installation. Then everything
/// is sealed to that key and stored while the controller is stopped.
pub(crate) async fn measure(site: &Site) -> Result<(Controller, Converge)> {
    let mut controller = start(site)?;
    controller.wait_until_ready()?;
    let recipient = recipient(site).await?;
    controller.stop(STOP_DEADLINE)?;
    let sealed_secrets = objects::seal_all(&site.args, recipient)?;
    site.store(&sealed_secrets).await?;

    let mut admin = site.admin.connect().await?;
    let before = Requests::settled(&mut admin, QUIET).await?;
    progress("  unsealing");
    let plane_before = site.control_plane_cpu()?;
    let start = Instant::now();
    controller.restart()?;
    let process = Process::new(controller.pid()?);
    wait_until_done(site, &controller, process, start, DEADLINE_PER_OBJECT)
        .await
        .with_context(|| format!("the controller's log ends:\n{}\n", controller.log_tail()))?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), process.cpu()?);
    let plane_cpu = site.control_plane_cpu()? - plane_before;
    progress(format!("  {seconds:.2} s"));

    let requests = Requests::settled(&mut admin, QUIET).await?.since(&before);
    verify(site, &mut admin).await.context("not everything is as declared")?;
    let sizes = Sizes::read(&mut admin).await?;
    let converge = Converge {
        seconds,
        cpu_ms_per_object: site.ms_per_object(cpu),
        control_plane_cpu_ms_per_object: site.ms_per_object(plane_cpu),
        requests,
        sizes,
    };
    Ok((controller, converge))
}

/// Starts the controller with the settings of the benchmark.
pub(crate) fn start(site: &Site) -> Result<Controller> {
    progress("  starting the controller");
    let mut command = Controller::command(&site.plane)?;
    command.args(["--type", site.args.key_type.as_str()]);
    command.args(["--workers", &site.args.workers.to_string()]);
    Controller::start(command)
}

/// The controller's published key.
pub(crate) async fn recipient(site: &Site) -> Result<Recipient> {
    let recipient = sealing_keys::active(&mut site.admin.connect().await?, None).await?;
    let wanted = site.args.key_type.into();
    ensure!(recipient.key_type() == wanted, "the controller's key is not of type {wanted}");
    Ok(recipient)
}

/// Waits until the controller has counted every object as done, at most `each` for one. `start` is when it was started.
pub(crate) async fn wait_until_done(
    site: &Site,
    controller: &Controller,
    process: Process,
    start: Instant,
    each: Duration,
) -> Result<()> {
    let objects = f64::from(site.args.objects);
    let deadline = DEADLINE + each * site.args.objects;
    loop {
        process.cpu()?; // it still runs
        // Before it serves, no object is done.
        let done = controller.metric(DONE).unwrap_or_default();
        if done >= objects {
            return Ok(());
        }
        let elapsed = start.elapsed();
        ensure!(elapsed < deadline, "after {} s {done} of {objects} are done", elapsed.as_secs());
        let rest = elapsed.as_secs_f64() * (objects / done - 1.0);
        let pause = if rest.is_finite() {
            Duration::from_secs_f64(rest / 4.0).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
        tokio::time::sleep(pause).await;
    }
}

/// Checks that each object is Ready at its generation and each target has the declared values. A benchmark of wrong
/// work must fail.
async fn verify(site: &Site, connection: &mut Connection) -> Result<()> {
    let objects = site.args.objects as usize;
    let sealed_secrets = each(connection, &sealed_secrets_path(), is_done).await?;
    ensure!(sealed_secrets == objects, "{sealed_secrets} SealedSecrets of {objects}");
    let values = site.args.values;
    let path = secrets_path(NAMESPACE);
    let secrets = each(connection, &path, |secret| {
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        let index = name.rsplit('-').next().unwrap_or_default().parse()?;
        let declared = serde_json::to_value(objects::declared(index, values))?;
        ensure!(name == objects::name(index), "there is an unexpected Secret {name}");
        ensure!(secret["data"] == declared, "Secret {name} has other values");
        Ok(())
    });
    let secrets = secrets.await?;
    ensure!(secrets == objects, "{secrets} Secrets of {objects}");
    Ok(())
}

/// Calls a function with each object of a collection. Returns their number.
async fn each(
    connection: &mut Connection,
    path: &str,
    check: impl Fn(&Value) -> Result<()>,
) -> Result<usize> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = connection.page::<Value>(path, PAGE, last.as_ref()).await?;
        count += page.items.len();
        page.items.iter().try_for_each(&check)?;
        if page.metadata.is_last() {
            return Ok(count);
        }
        last = Some(page.metadata);
    }
}

fn is_done(sealed_secret: &Value) -> Result<()> {
    let (metadata, status) = (&sealed_secret["metadata"], &sealed_secret["status"]);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions
        .into_iter()
        .any(|condition| condition["type"] == READY && condition["status"] == "True");
    ensure!(
        is_ready && status["observedGeneration"] == metadata["generation"],
        "SealedSecret {} is not Ready at its generation",
        metadata["name"]
    );
    Ok(())
}
