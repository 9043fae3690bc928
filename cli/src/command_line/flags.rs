//! Flags that several commands share. They mean the same everywhere and, where age has them, what they
//! mean in age.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bulla_sealing::KeyType;
use clap::{Args, ValueEnum};

/// The manifests that a command reads.
#[derive(Args)]
pub(crate) struct ManifestFlags {
    /// Files with manifests in YAML or JSON, or - for stdin, which is the default
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Where a command writes.
#[derive(Args)]
pub(crate) struct OutputFlags {
    /// Write to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl OutputFlags {
    /// The file to write, unless stdout is asked for: `-o` is not given, or is `-`.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }
}

/// Whom values are sealed to. Kept as typed: a mistake must not be repeated by the argument parser.
#[derive(Args)]
pub(crate) struct RecipientFlags {
    /// Seal to this recipient (age1pq1… or age1…); repeat for several
    #[arg(short, long = "recipient", value_name = "RECIPIENT")]
    pub(crate) recipients: Vec<OsString>,

    /// Seal to the recipients in this file, one on a line, # begins a comment; repeat for several
    #[arg(short = 'R', long = "recipients-file", value_name = "FILE")]
    pub(crate) recipients_files: Vec<PathBuf>,
}

/// Who may reuse a sealed value.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum ScopeFlag {
    /// Only the Secret of this namespace and name
    #[default]
    Strict,
    /// Any Secret in this namespace
    Namespace,
    /// Any Secret in the cluster
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
    /// ML-KEM-768 with X25519, post-quantum: age1pq1…
    #[default]
    Hybrid,
    /// X25519, compact: age1…
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

/// For whom a report is written.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}
