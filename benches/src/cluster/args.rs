//! The command line.

use clap::Parser;

use crate::key_type::Type;

/// What every figure is; shown by `--help`.
const FIGURES: &str = "\
Figures:
  floor        A bare client creates as many Secrets of equal size and writes as many equal statuses, with
               as many connections as the controller has workers, as the controller's ServiceAccount, and
               with two watches attached as the controller has. Taken before and after the controller's
               turn, each time on a new control plane with the same objects; the mean counts, and the
               distance of the two is the noise of the machine.
  converge     From the start of the controller's process, with all SealedSecrets there and no Secret, to
               the last one Ready: what somebody waits who installs it in a cluster that lost its Secrets.
               Afterwards every condition and every value is checked through the API server.
  ratio_to_floor
               converge / floor.
  cpu_ms_per_object
               User and system time of the controller's process for that, per object.
  control_plane_cpu_ms_per_object
               The same of etcd, API server and controller manager.
  cpu_ratio_to_floor
               All CPU time, the controller's and the control plane's, against that of the floor. Where they
               fill the machine it says what ratio_to_floor says, and other programs disturb it less.
  peak_rss_mib
               The most memory that the controller ever had in RAM (VmHWM), in all its runs here, with the
               foreign Secrets in the cluster.
  restart_writes, restart_requests
               What the API server counts while the controller starts again with nothing changed, until
               its counters stand still: writes to Secrets, SealedSecrets, SealingKeys, Rekeys and Events
               (not Leases), and reads of single Secrets and SealedSecrets.
  restart_ready_s
               From the start of the process to /readyz answering 200. Its floor is a bare client reading the
               same lists.
  restore_p99_s
               From the moment when an administrator sends an edit of a Secret, each of another, to the
               moment when a watch on Secrets shows the declared value again.
  requests     What the API server counted during converge, per object.

A missed target is shown and is not a failure. Exit code 2: it could not be measured.";

/// Measures bulla-controller on a real control plane, beside its floors and targets
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-cluster", after_long_help = FIGURES)]
pub(crate) struct Args {
    /// How many SealedSecrets
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) objects: u32,

    /// How many values of 32 bytes each of them has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) values: u16,

    /// The type of the key that they are sealed to
    #[arg(long = "type", value_enum, default_value_t = Type::Hybrid)]
    pub(crate) key_type: Type,

    /// How many MiB of other people's Secrets are in the cluster
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) foreign_mib: u32,

    /// How many objects the controller works on at the same time, and how many connections the floor has
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// How many Secrets are edited, ten a second, to measure how soon they are restored
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) edits: u32,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// How many edits there are: each object is edited only once, because a controller may well answer
    /// repeated edits of one object more slowly.
    pub(crate) fn edits(&self) -> u32 {
        self.edits.min(self.objects)
    }
}
