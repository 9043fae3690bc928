//! What was measured, beside the floors.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    key_type::Type,
    program::rounded,
    rekey::{args::Args, offline::Offline, through::Through},
    timing::{Costs, ms},
};

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) args: Args,
    pub(crate) turns: Vec<Turn>,
}

/// What was measured with keys of one type.
pub(crate) struct Turn {
    pub(crate) key_type: Type,
    pub(crate) offline: Option<Offline>,
    pub(crate) through: Option<Through>,
}

impl Offline {
    /// Against all that it cannot do without, done by one thread.
    fn ratio(&self) -> f64 {
        ratio(self.rekey.wall().best, self.headers.wall().best + self.writes.wall().best)
    }
}

impl Through {
    fn ratio(&self) -> f64 {
        ratio(self.rekey.wall().best, self.bare.wall().best)
    }

    /// The ratio of all CPU time, which the rest of the machine disturbs less than it does the other ratio.
    fn cpu_ratio(&self) -> f64 {
        let best = |costs: &[&Costs]| costs.iter().map(|costs| costs.cpu().best).sum();
        ratio(
            best(&[&self.rekey, &self.controller, &self.control_plane]),
            best(&[&self.bare, &self.bare_control_plane]),
        )
    }

    /// What the API server counted for each SealedSecret.
    fn requests(&self, files: u32) -> impl Iterator<Item = (String, f64)> {
        let each = move |count| count as f64 / f64::from(files);
        self.requests.iter().map(move |(kind, count)| (kind.to_string(), each(count)))
    }
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
        for Turn { key_type, offline, through } in &self.turns {
            if let Some(offline) = offline {
                heading(out, "offline", *key_type)?;
                row(out, "bulla rekey", &offline.rekey)?;
                row(out, "bulla rekey --dry-run", &offline.dry_run)?;
                row(out, "floor: headers, one thread", &offline.headers)?;
                row(out, "floor: writes, one thread", &offline.writes)?;
                writeln!(out, "{:<36}{:>18.2}", "rekey / both floors", offline.ratio())?;
            }
            if let Some(through) = through {
                heading(out, "through the cluster", *key_type)?;
                row(out, "bulla rekey", &through.rekey)?;
                cpu_row(out, "  controller", &through.controller)?;
                cpu_row(out, "  control plane", &through.control_plane)?;
                row(out, "floor: bare client", &through.bare)?;
                cpu_row(out, "  control plane", &through.bare_control_plane)?;
                let (ratio, cpu) = (through.ratio(), through.cpu_ratio());
                writeln!(out, "{:<36}{ratio:>18.2}{cpu:>18.2}", "rekey / floor")?;
                writeln!(out, "{:<36}{:>18}", "requests", "per SealedSecret")?;
                for (kind, each) in through.requests(*files) {
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
        let through = self.through.as_ref().map(|through| {
            let requests: BTreeMap<_, _> =
                through.requests(files).map(|(kind, each)| (kind, rounded(each))).collect();
            json!({
                "rekey": through.rekey.to_json(),
                "controller": through.controller.to_json(),
                "control_plane": through.control_plane.to_json(),
                "bare_client": through.bare.to_json(),
                "bare_client_control_plane": through.bare_control_plane.to_json(),
                "ratio_to_floor": rounded(through.ratio()),
                "cpu_ratio_to_floor": rounded(through.cpu_ratio()),
                "requests_per_sealed_secret": requests,
            })
        });
        json!({"key_type": self.key_type.as_str(), "offline": offline, "cluster": through})
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

fn ratio(figure: Duration, floor: Duration) -> f64 {
    ms(figure) / ms(floor)
}
