//! The command line. Environment variables are declared here and read nowhere else.

use std::net::SocketAddr;

use bulla_sealing::KeyType;
use clap::{Parser, ValueEnum};

/// Unseals SealedSecrets and keeps the native Secrets equal to what Git says.
#[derive(Debug, Parser)]
#[command(name = "bulla-controller", version)]
pub(crate) struct Args {
    /// The name of this cluster, which its SealingKeys carry as their holder
    #[arg(long, env = "BULLA_HOLDER", default_value = "default", value_parser = holder)]
    pub(crate) holder: String,

    /// The namespace of the controller, where identities and SealingKeys live
    #[arg(long, env = "POD_NAMESPACE", default_value = "bulla-system")]
    pub(crate) namespace: String,

    /// The name of this replica in Events
    #[arg(long, env = "POD_NAME", hide = true)]
    pub(crate) pod: Option<String>,

    /// The type of the keys that are made
    #[arg(long = "type", env = "BULLA_KEY_TYPE", value_enum, default_value_t = Type::Hybrid)]
    pub(crate) key_type: Type,

    /// How many SealedSecrets are worked on at the same time
    #[arg(long, env = "BULLA_WORKERS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "BULLA_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,

    /// How logs are written; RUST_LOG chooses which
    #[arg(long, env = "BULLA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub(crate) log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line each
    Plain,
    /// One JSON object each
    Json,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Type {
    /// Post-quantum, `age1pq1…`
    Hybrid,
    /// Compact, `age1…`
    X25519,
}

impl From<Type> for KeyType {
    fn from(type_: Type) -> Self {
        match type_ {
            Type::Hybrid => Self::Hybrid,
            Type::X25519 => Self::X25519,
        }
    }
}

fn holder(name: &str) -> Result<String, &'static str> {
    match bulla_sealing::is_dns_label(name) {
        true => Ok(name.into()),
        false => Err("a holder is a DNS label: a-z, 0-9 and -, at most 63 characters"),
    }
}
