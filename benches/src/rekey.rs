//! The cost of a rekey: `bulla rekey` over a tree of files, offline and through a cluster, compared with its floors.
//!
//! The programs are release builds and run as whole processes, each time over a fresh copy of the same tree. Every
//! result is checked. A floor is the least cost of the same work: the header's primitives, the writes of as many files,
//! a bare client's requests.

mod args;
mod bare;
pub(crate) mod offline;
mod report;
mod site;
mod via_cluster;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::{
    program::{self, progress},
    rekey::{
        args::{Args, Part},
        report::{Report, Turn},
    },
};

/// Parses the command line, measures and prints. Returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    program::run(measure(args), |report, out| {
        if report.args.json { report.write_json(out) } else { report.write_table(out) }
    })
}

async fn measure(args: Args) -> Result<Report> {
    let mut turns = Vec::new();
    for key_type in args.key_types() {
        let name = key_type.as_str();
        let mut turn = Turn { key_type, offline: None, via_cluster: None };
        if args.has(Part::Offline) {
            progress(format!("offline, {name}"));
            turn.offline = Some(offline::measure(&args, key_type).context("offline")?);
        }
        if args.has(Part::Cluster) {
            progress(format!("through the cluster, {name}"));
            let measured = via_cluster::measure(&args, key_type).await;
            turn.via_cluster = Some(measured.context("through the cluster")?);
        }
        turns.push(turn);
    }
    Ok(Report { args, turns })
}
