//! The report: results and floors.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Value, json};

use crate::{
    key_type::Type,
    program::rounded,
    rekey::{args::Args, offline::Offline, via_cluster::ViaCluster},
    timing::Costs,
};

/// All results.
pub(crate) struct Report {
    pub(crate) args: Args,
    pub(crate) turns: Vec<Turn>,
}

/// The results with keys of one type.
pub(crate) struct Turn {
    pub(crate) key_type: Type,
    pub(crate) offline: Option<Offline>,
    pub(crate) via_cluster: Option<ViaCluster>,
}

impl Report {
    /// Prints a table for each turn.
    pub(crate) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let Args { files, values, runs, .. } = &self.args;
        let all = self.args.all_values();
        writeln!(
            out,
            "{all} values in {files} files x {values}; best of {runs} runs (median), in ms"
        )?;
        for Turn { key_type, offline, via_cluster } in &self.turns {
            if let Some(offline) = offline {
                heading(out, "offline", *key_type)?;
                row(out, "bulla rekey", &offline.rekey)?;
                row(out, "bulla rekey --dry-run", &offline.dry_run)?;
                row(out, "floor: headers, one thread", &offline.headers)?;
                row(out, "floor: writes, one thread", &offline.writes)?;
                writeln!(out, "{:<36}{:>18.2}", "rekey / both floors", offline.ratio())?;
            }
            if let Some(via_cluster) = via_cluster {
                heading(out, "through the cluster", *key_type)?;
                row(out, "bulla rekey", &via_cluster.rekey)?;
                cpu_row(out, "  controller", &via_cluster.controller)?;
                cpu_row(out, "  control plane", &via_cluster.control_plane)?;
                row(out, "floor: bare client", &via_cluster.bare)?;
                cpu_row(out, "  control plane", &via_cluster.bare_control_plane)?;
                let (ratio, cpu) = (via_cluster.ratio(), via_cluster.cpu_ratio());
                writeln!(out, "{:<36}{ratio:>18.2}{cpu:>18.2}", "rekey / floor")?;
                writeln!(out, "{:<36}{:>18}", "requests", "per SealedSecret")?;
                for (kind, each) in via_cluster.requests(*files) {
                    writeln!(out, "  {kind:<34}{each:>18.3}")?;
                }
            }
        }
        Ok(())
    }

    /// Prints one JSON object.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let turns: Vec<_> = self.turns.iter().map(|turn| turn.to_json(self.args.files)).collect();
        let report = json!({
            "files": self.args.files,
            "values_per_file": self.args.values,
            "runs": self.args.runs,
            "turns": turns,
        });
        writeln!(out, "{report}")
    }
}

impl Turn {
    fn to_json(&self, files: u32) -> Value {
        let offline = self.offline.as_ref().map(|offline| {
            json!({
                "rekey": offline.rekey.to_json(),
                "dry_run": offline.dry_run.to_json(),
                "headers_floor": offline.headers.to_json(),
                "writes_floor": offline.writes.to_json(),
                "ratio_to_floors": rounded(offline.ratio()),
            })
        });
        let via_cluster = self.via_cluster.as_ref().map(|via_cluster| {
            let requests: BTreeMap<_, _> =
                via_cluster.requests(files).map(|(kind, each)| (kind, rounded(each))).collect();
            json!({
                "rekey": via_cluster.rekey.to_json(),
                "controller": via_cluster.controller.to_json(),
                "control_plane": via_cluster.control_plane.to_json(),
                "bare_client": via_cluster.bare.to_json(),
                "bare_client_control_plane": via_cluster.bare_control_plane.to_json(),
                "ratio_to_floor": rounded(via_cluster.ratio()),
                "cpu_ratio_to_floor": rounded(via_cluster.cpu_ratio()),
                "requests_per_sealed_secret": requests,
            })
        });
        json!({"key_type": self.key_type.as_str(), "offline": offline, "cluster": via_cluster})
    }
}

fn heading(out: &mut impl Write, what: &str, key_type: Type) -> io::Result<()> {
    let what = format!("{what}, {}", key_type.as_str());
    writeln!(out, "\n{what:<36}{:>18}{:>18}", "wall", "CPU")
}

fn row(out: &mut impl Write, what: &str, costs: &Costs) -> io::Result<()> {
    writeln!(out, "{what:<36}{:>18}{:>18}", costs.wall(), costs.cpu())
}

fn cpu_row(out: &mut impl Write, what: &str, costs: &Costs) -> io::Result<()> {
    writeln!(out, "{what:<36}{:>18}{:>18}", "", costs.cpu())
}
