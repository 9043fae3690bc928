//! What `bulla-controller` costs on a real control plane, beside its floor and its targets.
//!
//! The controller's release build runs as its own ServiceAccount under the shipped rights, as a user would
//! run it. The floor is what a bare client needs for the same writes, on a control plane in the same state;
//! it is taken before and after the controller's turn, so that the noise of the machine shows. Each turn has
//! a control plane of its own: on a shared one the second turn would meet a grown store and a warm server.
//! What was asked of the API server is counted by the API server.

mod args;
mod converge;
mod drift;
mod floor;
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

/// Parses the command line, measures, prints, and gives the exit code: a missed target is no failure.
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
    Ok(Report {
        args,
        floors: [before, after],
        converge,
        restart,
        drift,
        peaks_rss_mib: [converge_peak_rss_mib, restart_peak_rss_mib],
    })
}

/// In this order, so that the controller takes its leave of an API server that is there.
fn end(controller: Controller, site: Site) {
    drop(controller);
    drop(site);
}
