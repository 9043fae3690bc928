//! The report: results, floors and targets.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
};

use serde_json::json;

use crate::{
    cluster::{args::Args, converge::Converge, drift::Drift, floor::Floor, restart::Restart},
    key_type::Type,
    program::rounded,
};

/// The target for [`Report::ratio_to_floor`].
const MAX_RATIO: f64 = 1.5;
const MAX_PEAK_RSS_MIB: f64 = 48.0;
/// The target for the time beyond that of the lists.
const MAX_LARGEST_RSS_MIB: f64 = 128.0;
const MAX_READY_BEYOND_LISTS_S: f64 = 2.0;
const MAX_RESTORE_S: f64 = 1.0;

/// If the floors differ by more than this, other programs disturbed the measurement.
const NOISY: f64 = 0.2;

/// All results.
pub(crate) struct Report {
    pub(crate) args: Args,
    /// Before and after the controller's turn.
    pub(crate) floors: [Floor; 2],
    pub(crate) converge: Converge,
    pub(crate) restart: Restart,
    pub(crate) drift: Drift,
    /// Of the controller during converge, and of the restarted controller, which restored the edits.
    pub(crate) peaks_rss_mib: [f64; 2],
    /// Of a controller with the largest objects, streamed and in pages.
    pub(crate) largest_rss_mib: Option<[f64; 2]>,
}

/// One line of the table.
struct Row {
    what: &'static str,
    figure: String,
    floor: String,
    /// The figure and its target, an upper limit.
    target: Option<(f64, f64)>,
}

impl Row {
    fn new(what: &'static str, figure: String) -> Self {
        Self { what, figure, floor: String::new(), target: None }
    }

    fn beside(self, floor: String) -> Self {
        Self { floor, ..self }
    }

    fn at_most(self, figure: f64, target: f64) -> Self {
        Self { target: Some((figure, target)), ..self }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, figure, floor, target } = self;
        write!(f, "{what:<36}{figure:>12}{floor:>28}")?;
        match target {
            Some((figure, target)) if figure <= target => write!(f, "  <= {target:.2} met"),
            Some((_, target)) => write!(f, "  <= {target:.2} MISSED"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn floor_s(&self) -> f64 {
        mean(self.floors.each_ref().map(|floor| floor.seconds))
    }

    fn floor_cpu_ms_per_object(&self) -> f64 {
        mean(self.floors.each_ref().map(|floor| floor.cpu_ms_per_object))
    }

    fn floor_control_plane_cpu_ms_per_object(&self) -> f64 {
        mean(self.floors.each_ref().map(|floor| floor.control_plane_cpu_ms_per_object))
    }

    fn ratio_to_floor(&self) -> f64 {
        self.converge.seconds / self.floor_s()
    }

    /// How much longer the longer floor took than the shorter one.
    fn floors_apart(&self) -> f64 {
        let [first, second] = self.floors.each_ref().map(|floor| floor.seconds);
        first.max(second) / first.min(second) - 1.0
    }

    /// The ratio of all CPU time. Other programs disturb it less than the ratio of wall time.
    fn cpu_ratio_to_floor(&self) -> f64 {
        let floor = self.floor_cpu_ms_per_object() + self.floor_control_plane_cpu_ms_per_object();
        let Converge { cpu_ms_per_object, control_plane_cpu_ms_per_object, .. } = self.converge;
        (cpu_ms_per_object + control_plane_cpu_ms_per_object) / floor
    }

    fn peak_rss_mib(&self) -> f64 {
        let [converge, restart] = self.peaks_rss_mib;
        converge.max(restart)
    }

    fn max_cpu_ms_per_object(&self) -> f64 {
        match self.args.key_type {
            Type::Hybrid => 1.6,
            Type::X25519 => 1.0,
        }
    }

    /// Prints two tables: the figures, and the requests.
    pub(crate) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let Args { objects, values, key_type, foreign_mib, workers, .. } = &self.args;
        writeln!(
            out,
            "{objects} objects x {values} values, {}, {foreign_mib} MiB of foreign Secrets, {workers} workers\n",
            key_type.as_str()
        )?;
        writeln!(out, "{:<36}{:>12}{:>28}  target", "what", "figure", "floor")?;
        for row in self.rows() {
            writeln!(out, "{row}")?;
        }
        let apart = self.floors_apart();
        if apart > NOISY {
            writeln!(
                out,
                "\nnoise: the two floors are {:.0} % apart, so other programs are at work; \
                 trust the ratio of CPU more than that of times",
                apart * 100.0
            )?;
        }
        writeln!(out, "\n{:<36}{:>12}{:>12}", "requests while converging", "all", "per object")?;
        for (kind, count) in self.converge.requests.iter() {
            let each = count as f64 / f64::from(*objects);
            writeln!(out, "{:<36}{count:>12}{each:>12.3}", kind.to_string())?;
        }
        writeln!(out, "\n{:<36}{:>12}", "requests at the restart", "all")?;
        for (kind, count) in self.restart.requests.iter() {
            writeln!(out, "{:<36}{count:>12}", kind.to_string())?;
        }
        Ok(())
    }

    fn rows(&self) -> Vec<Row> {
        let Self { converge, restart, drift, .. } = self;
        let [first, second] = self.floors.each_ref().map(|floor| floor.seconds);
        let (ratio, cpu) = (self.ratio_to_floor(), converge.cpu_ms_per_object);
        let (peak, [_, restart_peak]) = (self.peak_rss_mib(), self.peaks_rss_mib);
        let (writes, reads) = (restart.requests.writes(), restart.requests.single_reads());
        let (writes, reads) = (writes as f64, reads as f64);
        let mut rows = vec![
            Row::new("converge", format!("{:.2} s", converge.seconds))
                .beside(format!("{:.2} s ({first:.2}, {second:.2})", self.floor_s())),
            Row::new("  / floor", format!("{ratio:.2}")).at_most(ratio, MAX_RATIO),
            Row::new("controller CPU per object", format!("{cpu:.2} ms"))
                .beside(format!("{:.2} ms", self.floor_cpu_ms_per_object()))
                .at_most(cpu, self.max_cpu_ms_per_object()),
            Row::new(
                "control plane CPU per object",
                format!("{:.2} ms", converge.control_plane_cpu_ms_per_object),
            )
            .beside(format!("{:.2} ms", self.floor_control_plane_cpu_ms_per_object())),
            Row::new("  all CPU / floor", format!("{:.2}", self.cpu_ratio_to_floor())),
            Row::new("peak memory", format!("{peak:.1} MiB")).at_most(peak, MAX_PEAK_RSS_MIB),
            Row::new("  after the restart", format!("{restart_peak:.1} MiB")),
            Row::new("restart: writes", writes.to_string()).at_most(writes, 0.0),
            Row::new("restart: reads of single objects", reads.to_string()).at_most(reads, 0.0),
            Row::new("restart: ready", format!("{:.2} s", restart.ready_s))
                .beside(format!("{:.2} s for bare lists", restart.lists_s))
                .at_most(restart.ready_s, restart.lists_s + MAX_READY_BEYOND_LISTS_S),
            Row::new("edited target restored, p50", format!("{:.3} s", drift.p50_s)),
            Row::new("edited target restored, p99", format!("{:.3} s", drift.p99_s))
                .at_most(drift.p99_s, MAX_RESTORE_S),
        ];
        let names = ["largest objects: memory, streamed", "largest objects: memory, in pages"];
        let peaks = self.largest_rss_mib.into_iter().flatten();
        rows.extend(names.into_iter().zip(peaks).map(|(name, peak)| {
            Row::new(name, format!("{peak:.1} MiB")).at_most(peak, MAX_LARGEST_RSS_MIB)
        }));
        rows
    }

    /// Prints one JSON object.
    pub(crate) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { args, converge, restart, drift, .. } = self;
        let objects = f64::from(args.objects);
        let requests: BTreeMap<_, _> = converge
            .requests
            .iter()
            .map(|(kind, count)| (kind.to_string(), rounded(count as f64 / objects)))
            .collect();
        let report = json!({
            "objects": args.objects,
            "values_per_object": args.values,
            "key_type": args.key_type.as_str(),
            "foreign_mib": args.foreign_mib,
            "workers": args.workers,
            "floor_s": rounded(self.floor_s()),
            "floors_s": self.floors.each_ref().map(|floor| rounded(floor.seconds)),
            "floor_cpu_ms_per_object": rounded(self.floor_cpu_ms_per_object()),
            "converge_s": rounded(converge.seconds),
            "ratio_to_floor": rounded(self.ratio_to_floor()),
            "cpu_ms_per_object": rounded(converge.cpu_ms_per_object),
            "control_plane_cpu_ms_per_object": rounded(converge.control_plane_cpu_ms_per_object),
            "floor_control_plane_cpu_ms_per_object":
                rounded(self.floor_control_plane_cpu_ms_per_object()),
            "cpu_ratio_to_floor": rounded(self.cpu_ratio_to_floor()),
            "requests_per_object": requests,
            "peak_rss_mib": rounded(self.peak_rss_mib()),
            "restart_peak_rss_mib": rounded(self.peaks_rss_mib[1]),
            "largest_rss_mib": self.largest_rss_mib.map(|peaks| peaks.map(rounded)),
            "restart_writes": restart.requests.writes(),
            "restart_requests": restart.requests.single_reads(),
            "restart_ready_s": rounded(restart.ready_s),
            "restart_lists_s": rounded(restart.lists_s),
            "edits": args.edits(),
            "restore_p50_s": rounded(drift.p50_s),
            "restore_p99_s": rounded(drift.p99_s),
        });
        writeln!(out, "{report}")
    }
}

fn mean([first, second]: [f64; 2]) -> f64 {
    f64::midpoint(first, second)
}
