//! Flags that several commands share. They mean the same everywhere and, where age has them, what they
//! mean in age.

use std::ffi::OsString;
use std::path::PathBuf;

use bulla_sealing::KeyType;
use clap::{Args, ValueEnum};

use crate::command_line::completion;

/// The manifests that a command reads.
#[derive(Args)]
pub(crate) struct Manifests {
    /// Files with manifests in YAML or JSON, or - for stdin, which is the default
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Where a command writes.
#[derive(Args)]
pub(crate) struct Output {
    /// Write to FILE instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
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

/// Which cluster is asked, as in kubectl.
#[derive(Args)]
pub(crate) struct ClusterFlags {
    /// The kubeconfig context to use [default: the current one]
    #[arg(long, value_name = "NAME", add = completion::contexts())]
    pub(crate) context: Option<String>,

    #[command(flatten)]
    pub(crate) kubeconfig: KubeconfigFlags,
}

/// Which clusters are asked, each by a context.
#[derive(Args)]
pub(crate) struct ClustersFlags {
    /// The kubeconfig context to use; repeat for several clusters [default: the current one]
    #[arg(long = "context", value_name = "NAME", add = completion::contexts())]
    pub(crate) contexts: Vec<String>,

    #[command(flatten)]
    pub(crate) kubeconfig: KubeconfigFlags,
}

/// Where clusters are found, and their keys in them.
#[derive(Args, Clone)]
pub(crate) struct KubeconfigFlags {
    /// The kubeconfig to use [default: ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub(crate) kubeconfig: Option<OsString>,

    /// The namespace in which the controller keeps its SealingKeys
    #[arg(long, value_name = "NAMESPACE", default_value = "bulla-system")]
    pub(crate) controller_namespace: String,
}

impl ClustersFlags {
    /// The flags for each cluster.
    pub(crate) fn each(&self) -> Vec<ClusterFlags> {
        let of = |context| ClusterFlags { context, kubeconfig: self.kubeconfig.clone() };
        match self.contexts.is_empty() {
            true => vec![of(None)],
            false => self.contexts.iter().cloned().map(|context| of(Some(context))).collect(),
        }
    }
}

/// Who may reuse a sealed value.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Scope {
    /// Only the Secret of this namespace and name
    #[default]
    Strict,
    /// Any Secret in this namespace
    Namespace,
    /// Any Secret in the cluster
    Cluster,
}

impl From<Scope> for bulla_sealing::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Strict => Self::Strict,
            Scope::Namespace => Self::Namespace,
            Scope::Cluster => Self::Cluster,
        }
    }
}

/// The type of a new key.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Type {
    /// ML-KEM-768 with X25519, post-quantum: age1pq1…
    #[default]
    Hybrid,
    /// X25519, compact: age1…
    X25519,
}

impl From<Type> for KeyType {
    fn from(key_type: Type) -> Self {
        match key_type {
            Type::Hybrid => Self::Hybrid,
            Type::X25519 => Self::X25519,
        }
    }
}

/// For whom a report is written.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}
