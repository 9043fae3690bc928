//! Measures a rekey through the cluster, first with the program and the controller, then with a bare client for both.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use bulla_tests::{Program, program};

use crate::{
    client::Client,
    key_type::Type,
    process::{self, Process},
    program::progress,
    rekey::{args::Args, bare, site::Site},
    server_metrics::Requests,
    timing::{self, Cost, Costs, ratio},
    tree::Tree,
};

const STOP_DEADLINE: Duration = Duration::from_secs(20);

const QUIET: Duration = Duration::from_secs(3);

/// All times.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViaCluster {
    /// The user's program.
    pub(crate) rekey: Costs,
    /// While the program ran.
    pub(crate) controller: Costs,
    pub(crate) control_plane: Costs,
    /// The requests of one run.
    pub(crate) requests: Requests,
    pub(crate) bare: Costs,
    pub(crate) bare_control_plane: Costs,
}

impl ViaCluster {
    pub(super) fn ratio(&self) -> f64 {
        ratio(self.rekey.wall().best, self.bare.wall().best)
    }

    /// The ratio of all CPU time. Other programs disturb it less than the ratio of wall time.
    pub(super) fn cpu_ratio(&self) -> f64 {
        let best = |costs: &[&Costs]| costs.iter().map(|costs| costs.cpu().best).sum();
        ratio(
            best(&[&self.rekey, &self.controller, &self.control_plane]),
            best(&[&self.bare, &self.bare_control_plane]),
        )
    }

    /// The API server's counts per SealedSecret.
    pub(super) fn requests(&self, files: u32) -> impl Iterator<Item = (String, f64)> {
        let each = move |count| count as f64 / f64::from(files);
        self.requests.iter().map(move |(kind, count)| (kind.to_string(), each(count)))
    }
}

/// Measures the programs. Then stops the controller and measures the bare client on the same control plane.
pub(crate) async fn measure(args: &Args, key_type: Type) -> Result<ViaCluster> {
    let bulla = program(Program::Bulla)?;
    let site = Site::start().await?;
    let mut controller = site.start_controller(key_type)?;
    let old = site.active().await?;
    let tree = Tree::seal(args.files, args.values, old.clone())?;
    site.store(&tree, &controller).await?;
    let to = site.renew(&old).await?.fingerprint();

    let mut via_cluster = ViaCluster::default();
    let mut admin = site.admin.connect().await?;
    let running = Process::new(controller.pid()?);
    for run in 1..=args.runs {
        progress(format!("  run {run} of {}", args.runs));
        let copy = tree.write()?;
        let before = Requests::settled(&mut admin, QUIET).await?;
        let (controller_before, plane_before) =
            (running.cpu()?, process::control_plane_cpu(&site.plane)?);
        let mut command = Command::new(&bulla);
        command.env("KUBECONFIG", site.person.kubeconfig());
        let cost = timing::process(command.arg("rekey").arg(copy.path()))
            .with_context(|| format!("the controller's log ends:\n{}\n", controller.log_tail()))?;
        let beside = |cpu| Cost { wall: cost.wall, cpu };
        via_cluster.controller.push(beside(running.cpu()? - controller_before));
        let plane = process::control_plane_cpu(&site.plane)? - plane_before;
        via_cluster.control_plane.push(beside(plane));
        via_cluster.rekey.push(cost);
        via_cluster.requests = Requests::settled(&mut admin, QUIET).await?.since(&before);
        copy.verify(&tree, to, None).context("not everything is rekeyed")?;
    }

    // Otherwise it would answer the bare client's Rekeys.
    controller.stop(STOP_DEADLINE)?;
    let (person, account) = (Client::new(&site.person)?, site.account()?);
    bare::attach_watch(&account).await?;
    for run in 1..=args.runs {
        progress(format!("  bare client, run {run} of {}", args.runs));
        let before = Requests::settled(&mut admin, QUIET).await?;
        let (own_before, plane_before) =
            (Process::own().cpu()?, process::control_plane_cpu(&site.plane)?);
        let wall = bare::ask(&person, &account, &tree).await?;
        let cost = Cost { wall, cpu: Process::own().cpu()? - own_before };
        let plane = process::control_plane_cpu(&site.plane)? - plane_before;
        via_cluster.bare.push(cost);
        via_cluster.bare_control_plane.push(Cost { wall, cpu: plane });
        bare::check(&tree, &Requests::settled(&mut admin, QUIET).await?.since(&before))?;
    }
    // In this order, so that the control plane stops last.
    drop(controller);
    Ok(via_cluster)
}
