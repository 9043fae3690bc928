//! The command line.

use clap::Parser;

use crate::key_type::Type;

/// The meaning of every figure, shown by `--help`.
const FIGURES: &str = "\
Figures:
  floor        A bare client creates as many Secrets of equal size and writes as many equal statuses, with
               as many connections as the controller has workers, as the controller's ServiceAccount, and
               with two watches attached as the controller has. Taken before and after the controller's
               turn, each time on a new control plane with the same objects; the mean counts, and the
               distance of the two is the noise of the machine.
  converge     From the start of the controller's process until all SealedSecrets are Ready. At the start no
               Secret exists, as in a cluster that has lost its Secrets. Afterwards every condition and
               every value is checked through the API server.
  ratio_to_floor
               converge / floor.
  cpu_ms_per_object
               User and system time of the controller's process during converge, per object.
  control_plane_cpu_ms_per_object
               The same for etcd, API server and controller manager.
  cpu_ratio_to_floor
               CPU time of the controller and the control plane / that of the floor. It is close to
               ratio_to_floor on a fully loaded machine, and other programs disturb it less.
  peak_rss_mib
               The most memory that the controller had in RAM (VmHWM) in all its runs here, with the
               foreign Secrets in the cluster.
  largest_rss_mib
               The same for a controller that starts with the largest objects, 1.3 MB each, and opens all
               of them: first with streamed lists, then with lists in pages.
  restart_writes, restart_requests
               The API server's counts for a restart of the controller with nothing changed, until the
               counters no longer change: writes to Secrets, SealedSecrets, SealingKeys, Rekeys and Events
               (not Leases), and reads of single Secrets and SealedSecrets.
  restart_ready_s
               From the start of the process until /readyz answers 200. The floor is the time of a bare
               client for the same lists.
  restore_p99_s
               From an administrator's edit of a Secret until a watch shows the declared value again. Each
               edit is of another Secret.
  requests     The API server's counts during converge, per object.

A missed target is shown, but is not a failure. Exit code 2: the measurement failed.";

/// Measure bulla-controller on a real control plane and compare it with floors and targets
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-cluster", after_long_help = FIGURES)]
pub(crate) struct Args {
    /// The number of SealedSecrets
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) objects: u32,

    /// The number of 32-byte values in each SealedSecret
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) values: u16,

    /// The type of the key
    #[arg(long = "type", value_enum, default_value_t = Type::Hybrid)]
    pub(crate) key_type: Type,

    /// The size of foreign Secrets in the cluster, in MiB
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) foreign_mib: u32,

    /// The number of objects that the controller handles at the same time, and of the floor's connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// The number of Secrets to edit, ten a second, to measure how soon they are restored
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) edits: u32,

    /// The number of objects of 1.3 MB for the measurement of memory with the largest objects; 0 to leave it out
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) largest: u32,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The number of edits. Each object is edited only once, because a controller may restore one that is edited
    /// repeatedly more slowly.
    pub(crate) fn edits(&self) -> u32 {
        self.edits.min(self.objects)
    }
}
