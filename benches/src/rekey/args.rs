//! The command line.

use clap::{Parser, ValueEnum};

use crate::key_type::Type;

/// The meaning of every figure, shown by `--help`.
const FIGURES: &str = "\
Every figure is the best of all runs, and the median in parentheses. CPU time is user and system time, of
all threads.

Offline:
  rekey        `bulla rekey -i old.txt -R new.txt TREE`, from the start of the process to its end.
  dry run      The same with --dry-run: everything but the writes.
  headers      The library makes as many headers, one after the other in one thread: the floor of the
               cryptography.
  writes       As many files read, written to a temporary file with fsync, and renamed, one after the
               other, and each folder synced once: the floor of the writes.

Through the cluster:
  rekey        `bulla rekey TREE` by a user with the ClusterRole bulla-rekey and the Role bulla-seal. The
               controller runs with its own rights and a renewed key.
  bare client  The requests of both for each SealedSecret (create, read and answer, read, delete), with the
               same concurrency and equal sizes, on the same control plane.
  requests     The API server's counts, per SealedSecret.

Exit code 2: the measurement failed.";

/// Measure bulla rekey and compare it with its floors
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-rekey", after_long_help = FIGURES)]
pub(crate) struct Args {
    /// The number of files, each with a SealedSecret
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) files: u32,

    /// The number of 32-byte values in each SealedSecret
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) values: u16,

    /// How many times to measure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) runs: u16,

    /// The type of the keys [default: both types, one after the other]
    #[arg(long = "type", value_enum)]
    key_type: Option<Type>,

    /// Measure only this part
    #[arg(long, value_enum)]
    only: Option<Part>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// With an identity
    Offline,
    /// Through the cluster
    Cluster,
}

impl Args {
    pub(crate) fn key_types(&self) -> Vec<Type> {
        match self.key_type {
            Some(key_type) => vec![key_type],
            None => vec![Type::X25519, Type::Hybrid],
        }
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    /// The number of all values.
    pub(crate) fn all_values(&self) -> u32 {
        self.files * u32::from(self.values)
    }
}
