//! Flags that several commands share. They mean the same everywhere and, where age has them, what they
//! mean in age.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bulla_sealing::KeyType;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

/// The manifests that a command reads.
#[derive(Args)]
pub(crate) struct ManifestFlags {
    /// Manifests in YAML or JSON, or - for stdin [default: stdin]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Where a command writes.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// Write to FILE instead of stdout
    #[arg(short, long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(output_path))]
    pub(crate) output: Option<PathBuf>,
}

/// Refuses the formats of kubectl and kubeseal, which would become files of that name.
fn output_path(path: PathBuf) -> Result<PathBuf, &'static str> {
    match path.to_str() {
        Some("yaml" | "yml" | "json" | "name" | "wide") => {
            Err("-o takes a file, such as ./yaml; see --help for the output format")
        }
        _ => Ok(path),
    }
}

impl OutputFlags {
    /// The file to write, unless stdout is asked for: `-o` is not given, or is `-`.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }
}

/// The recipients that values are sealed to. Kept as typed, so that the argument parser does not repeat a mistake.
#[derive(Args)]
#[command(next_help_heading = "Recipients")]
pub(crate) struct RecipientFlags {
    /// Seal to this recipient (age1pq1… or age1…); repeatable
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub(crate) recipients: Vec<OsString>,

    /// Seal to the recipients in FILE, one per line, # starts a comment; repeatable
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    pub(crate) recipients_files: Vec<PathBuf>,
}

/// Who may reuse a sealed value.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum ScopeFlag {
    /// The Secret of this namespace and name
    #[default]
    Strict,
    /// Any Secret in this namespace
    Namespace,
    /// Any Secret in any namespace
    Cluster,
}

impl From<ScopeFlag> for bulla_sealing::Scope {
    fn from(scope: ScopeFlag) -> Self {
        match scope {
            ScopeFlag::Strict => Self::Strict,
            ScopeFlag::Namespace => Self::Namespace,
            ScopeFlag::Cluster => Self::Cluster,
        }
    }
}

/// The type of a new key.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum KeyTypeFlag {
    /// Post-quantum: ML-KEM-768 with X25519 (age1pq1…)
    #[default]
    Hybrid,
    /// Compact: X25519 (age1…)
    X25519,
}

impl From<KeyTypeFlag> for KeyType {
    fn from(key_type: KeyTypeFlag) -> Self {
        match key_type {
            KeyTypeFlag::Hybrid => Self::Hybrid,
            KeyTypeFlag::X25519 => Self::X25519,
        }
    }
}

/// Who reads a report.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}
