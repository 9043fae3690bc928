//! The command line.

use clap::{Parser, ValueEnum};

use crate::key_type::Type;

/// What every figure is; shown by `--help`.
const FIGURES: &str = "\
Every figure is the best of all runs, and the median in parentheses. CPU time is user and system time, of
all threads.

Offline:
  rekey        `bulla rekey -i old.txt -R new.txt TREE`, from the start of the process to its end.
  dry run      The same with --dry-run: everything but the writing.
  headers      As many headers made by the library, one after the other in one thread: the floor of the
               cryptography.
  writes       As many files read, written to a temporary file with fsync, and renamed, one after the
               other, and each folder synced once: the floor of the writing.

Through the cluster:
  rekey        `bulla rekey TREE` by a person with the ClusterRole bulla-rekey and the Role bulla-seal, the
               controller running with its own rights and a renewed key.
  bare client  The requests of both for each SealedSecret (create, read and answer, read, delete), with the
               same concurrency and equal sizes, on the same control plane.
  requests     What the API server counted, per SealedSecret.

Exit code 2: it could not be measured.";

/// Measures bulla rekey beside its floors
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-rekey", after_long_help = FIGURES)]
pub(crate) struct Args {
    /// How many files, each with a SealedSecret
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) files: u32,

    /// How many values of 32 bytes each SealedSecret has
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) values: u16,

    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) runs: u16,

    /// The type of the keys [default: one after the other]
    #[arg(long = "type", value_enum)]
    key_type: Option<Type>,

    /// Measure this alone
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

    /// How many values there are in all.
    pub(crate) fn all_values(&self) -> u32 {
        self.files * u32::from(self.values)
    }
}
