//! The cost of `bulla-controller` on a real control plane, compared with its floor and its targets.
//!
//! The controller's release build runs as its own ServiceAccount with the shipped rights, as at a user's site. The
//! floor is a bare client's cost for the same writes, on a control plane in the same state. It is measured before and
//! after the controller's turn, to show the noise of the machine. Each turn has its own control plane, because on a
//! shared one the second turn would find a larger store and a warm server. The API server counts the requests.

mod args;
mod converge;
mod drift;
mod floor;
mod largest;
mod objects;
mod report;
mod restart;
mod site;

use std::process::ExitCode;

use anyhow::{Context, Result};
use bulla_tests::Controller;
use clap::Parser;

use crate::{
    cluster::{args::Args, report::Report, site::Site},
    process::Process,
    program::{self, progress},
};

/// Parses the command line, measures and prints. Returns the exit code. A missed target is not a failure.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    program::run(measure(args), |report, out| {
        if report.args.json { report.write_json(out) } else { report.write_table(out) }
    })
}

async fn measure(args: Args) -> Result<Report> {
    progress("floor, first time");
    let before = floor::measure(&args).await.context("the floor, first time")?;

    progress("controller");
    let site = Site::start(&args).await?;
    let (mut controller, converge) = converge::measure(&site).await.context("converge")?;
    floor::compare_sizes(&before, &converge)?;
    let converge_peak_rss_mib = Process::new(controller.pid()?).peak_rss_mib()?;
    progress("restart");
    let restart = restart::measure(&site, &mut controller).await.context("restart")?;
    progress("drift");
    let drift = drift::measure(&site).await.context("drift")?;
    let restart_peak_rss_mib = Process::new(controller.pid()?).peak_rss_mib()?;
    end(controller, site);

    progress("floor, second time");
    let after = floor::measure(&args).await.context("the floor, second time")?;
    progress("largest objects");
    let largest_rss_mib = match args.largest {
        0 => None,
        _ => Some(largest::measure(&args).await.context("largest objects")?),
    };
    Ok(Report {
        args,
        largest_rss_mib,
        floors: [before, after],
        converge,
        restart,
        drift,
        peaks_rss_mib: [converge_peak_rss_mib, restart_peak_rss_mib],
    })
}

/// Stops the controller first, while the API server still runs.
fn end(controller: Controller, site: Site) {
    drop(controller);
    drop(site);
}
