//! The command line. Environment variables are declared here and read nowhere else.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bulla_sealing::{InvalidKey, KeyType, Recipient, Recipients};
use clap::{Parser, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo};

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

    /// The name of this replica, in Events and in the Lease
    #[arg(long, env = "POD_NAME", hide = true)]
    pub(crate) pod: Option<String>,

    /// The type of the keys that are made
    #[arg(long = "type", env = "BULLA_KEY_TYPE", value_enum, default_value_t = KeyTypeArg::Hybrid)]
    pub(crate) key_type: KeyTypeArg,

    /// How old a key gets before another is made to seal to, at most one a day; 0 for never
    #[arg(long, env = "BULLA_RENEW_EVERY", value_name = "DURATION", default_value = "30d", value_parser = duration)]
    pub(crate) renew_every: Duration,

    /// The least that --renew-every may be, for tests
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, hide = true)]
    pub(crate) shortest_renewal: Duration,

    /// Seal a copy of each identity to this recipient, whose own identity stays offline
    #[arg(long = "recovery-recipient", env = "BULLA_RECOVERY_RECIPIENTS", value_name = "RECIPIENT", value_delimiter = ',', value_parser = given_recipient, hide_env_values = true)]
    recovery: Vec<GivenRecipient>,

    /// Hold the identities in the files of this folder too
    #[arg(long, env = "BULLA_IDENTITIES_FOLDER", value_name = "FOLDER")]
    pub(crate) identities_folder: Option<PathBuf>,

    /// Keep to these namespaces: the controller then needs no right in any other
    #[arg(
        long = "watch-namespace",
        env = "BULLA_WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub(crate) watch_namespaces: Vec<String>,

    /// Keep to SealedSecrets with these labels, such as `tier=web`
    #[arg(long, env = "BULLA_SELECTOR")]
    pub(crate) selector: Option<String>,

    /// Take over the SealedSecrets of the controller with this holder, which must not run any more
    #[arg(long, env = "BULLA_TAKE_OVER", value_name = "HOLDER", value_delimiter = ',', value_parser = holder)]
    pub(crate) take_over: Vec<String>,

    /// Refuse Secrets of these types, beside those that are always refused
    #[arg(long, env = "BULLA_REFUSE_TYPES", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) refuse_types: Vec<String>,

    /// Refuse Secrets with labels of these keys
    #[arg(long, env = "BULLA_REFUSE_LABELS", value_name = "KEY", value_delimiter = ',')]
    pub(crate) refuse_labels: Vec<String>,

    /// How many SealedSecrets are worked on at the same time
    #[arg(long, env = "BULLA_WORKERS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// How long another replica waits for a silent one before it takes over
    #[arg(long, env = "BULLA_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    pub(crate) lease_duration: Duration,

    /// How often each Secret is compared in full, whatever the watches have shown; 0 for never
    #[arg(long, env = "BULLA_FULL_CHECK", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub(crate) full_check: Duration,

    /// How long a Rekey is there before it is deleted, for tests
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, hide = true)]
    pub(crate) rekey_lifetime: Duration,

    /// Show the state of each SealedSecret in /metrics, by namespace and name
    #[arg(long, env = "BULLA_METRICS_PER_OBJECT")]
    pub(crate) metrics_per_object: bool,

    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "BULLA_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) listen: SocketAddr,

    /// How logs are written; RUST_LOG chooses which
    #[arg(long, env = "BULLA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub(crate) log_format: LogFormat,
}

impl Args {
    /// What the flags demand of one another.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !self.renew_every.is_zero() && self.renew_every < self.shortest_renewal {
            bail!("--renew-every is less than a day, which is the least; 0 is for never");
        }
        if self.recovery.is_empty() {
            return Ok(());
        }
        for (index, GivenRecipient(recipient)) in self.recovery.iter().enumerate() {
            if let Err(error) = recipient {
                bail!("recipient {} of --recovery-recipient: {error}", index + 1);
            }
        }
        let recovery = Recipients::new(self.given_recipients()).context("--recovery-recipient")?;
        let weak = recovery.iter().find(|recipient| recipient.key_type() == KeyType::X25519);
        if let (KeyTypeArg::Hybrid, Some(weak)) = (self.key_type, weak) {
            bail!(
                "recovery recipient {} is X25519: the copies of hybrid keys would be as weak as that; name a hybrid one (age1pq1…)",
                weak.fingerprint()
            );
        }
        Ok(())
    }

    /// How old a key gets, if it is renewed on schedule at all.
    pub(crate) fn renewal_period(&self) -> Option<SignedDuration> {
        let period = SignedDuration::try_from(self.renew_every).ok()?;
        (!period.is_zero()).then_some(period)
    }

    /// To whom identities are backed up.
    pub(crate) fn recovery_recipients(&self) -> Option<Recipients> {
        Recipients::new(self.given_recipients()).ok()
    }

    fn given_recipients(&self) -> Vec<Recipient> {
        let parsed = self.recovery.iter().filter_map(|GivenRecipient(parsed)| parsed.as_ref().ok());
        parsed.cloned().collect()
    }

    /// What is watched: each of these namespaces, or all.
    pub(crate) fn scopes(&self) -> Vec<Option<String>> {
        if self.watch_namespaces.is_empty() {
            return vec![None];
        }
        let namespaces: BTreeSet<_> = self.watch_namespaces.iter().cloned().collect();
        namespaces.into_iter().map(Some).collect()
    }

    /// Whether what `controller` is in charge of is ours to work on.
    pub(crate) fn is_in_charge(&self, controller: &str) -> bool {
        self.holder == controller || self.take_over.iter().any(|holder| holder == controller)
    }
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
pub(crate) enum KeyTypeArg {
    /// Post-quantum, `age1pq1…`
    Hybrid,
    /// Compact, `age1…`
    X25519,
}

impl From<KeyTypeArg> for KeyType {
    fn from(type_: KeyTypeArg) -> Self {
        match type_ {
            KeyTypeArg::Hybrid => Self::Hybrid,
            KeyTypeArg::X25519 => Self::X25519,
        }
    }
}

fn holder(name: &str) -> Result<String, &'static str> {
    if bulla_sealing::is_dns_label(name) {
        Ok(name.into())
    } else {
        Err("a holder is a DNS label: a-z, 0-9 and -, at most 63 characters")
    }
}

fn namespace(name: &str) -> Result<String, &'static str> {
    if bulla_sealing::is_dns_label(name) {
        Ok(name.into())
    } else {
        Err("a namespace is a DNS label: a-z, 0-9 and -, at most 63 characters")
    }
}

/// A day is 24 hours here.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let span = text.parse::<Span>().ok();
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| duration.try_into().ok())
        .ok_or("a duration is written like 90s, 15m, 24h or 30d")
}

/// A recipient as it was given, or why it is none. It may be an identity by mistake, which the argument parser
/// would repeat in its error; so the parser takes everything, and [`Args::check`] complains.
#[derive(Clone, Debug)]
struct GivenRecipient(Result<Recipient, InvalidKey>);

fn given_recipient(text: &str) -> Result<GivenRecipient, Infallible> {
    Ok(GivenRecipient(text.parse()))
}

/// The Lease holds whole seconds.
fn lease_duration(text: &str) -> Result<Duration, &'static str> {
    let duration = duration(text)?;
    if (1..=3600).contains(&duration.as_secs()) && duration.subsec_nanos() == 0 {
        Ok(duration)
    } else {
        Err("a Lease lasts 1s to 1h, in whole seconds")
    }
}

#[cfg(test)]
mod tests {
    use bulla_sealing::Identity;

    use super::*;

    #[test]
    fn identity_in_place_of_a_recipient_is_refused_and_not_repeated() {
        let identity = Identity::generate(KeyType::X25519).unwrap().to_secret_string();
        let given = ["bulla-controller", "--recovery-recipient", &**identity];
        let args = Args::try_parse_from(given).unwrap();
        let error = format!("{:#}", args.check().unwrap_err());
        assert!(
            error.contains("recipient 1 of --recovery-recipient: this is an identity"),
            "{error}"
        );
        assert!(!error.contains(&**identity) && !format!("{args:?}").contains(&**identity));
    }
}
