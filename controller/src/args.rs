//! The command line. Environment variables are declared here and read nowhere else.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bulla_crds::RECOVERY_HOLDER as RECOVERY;
use bulla_sealing::{InvalidKey, KeyType, Recipient, Recipients};
use clap::{Parser, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo};

// The headings of `--help`.
const CLUSTER: &str = "Cluster";
const KEYS: &str = "Keys";
const SCOPE: &str = "What to watch";
const REFUSALS: &str = "What to refuse";
const OPERATION: &str = "Operation";
const MONITORING: &str = "Monitoring";

/// Unseal SealedSecrets and keep their Secrets equal to what Git declares
#[derive(Debug, Parser)]
#[command(name = "bulla-controller", version)]
pub(crate) struct Args {
    /// Name this cluster for its first key [default: the holder of its Active key]
    #[arg(help_heading = CLUSTER, long, env = "BULLA_HOLDER", value_parser = holder)]
    pub(crate) holder: Option<String>,

    /// Keep identities and SealingKeys in this namespace, the controller's own
    #[arg(help_heading = CLUSTER, long, env = "POD_NAMESPACE", default_value = "bulla-system")]
    pub(crate) namespace: String,

    /// Name this replica in Events and in the Lease
    #[arg(long, env = "POD_NAME", hide = true)]
    pub(crate) pod: Option<String>,

    /// Make keys of this type
    #[arg(help_heading = KEYS, long = "type", env = "BULLA_KEY_TYPE", value_enum, default_value_t = KeyTypeArg::Hybrid)]
    pub(crate) key_type: KeyTypeArg,

    /// Renew the key at this age, at most once a day; 0 for never
    #[arg(help_heading = KEYS, long, env = "BULLA_RENEW_EVERY", value_name = "DURATION", default_value = "30d", value_parser = duration)]
    pub(crate) renew_every: Duration,

    /// Allow --renew-every down to this, for tests
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, hide = true)]
    pub(crate) shortest_renewal: Duration,

    /// Back up each identity to this RECIPIENT or HOLDER=RECIPIENT, and declare it for sealing
    #[arg(help_heading = KEYS, long = "recovery-recipient", env = "BULLA_RECOVERY_RECIPIENTS", value_name = "RECIPIENT", value_delimiter = ',', value_parser = given_recipient, hide_env_values = true)]
    recovery: Vec<GivenRecipient>,

    /// Also load identities from the files in this folder
    #[arg(help_heading = KEYS, long, env = "BULLA_IDENTITIES_FOLDER", value_name = "FOLDER")]
    pub(crate) identities_folder: Option<PathBuf>,

    /// Watch these namespaces only; no rights are needed in others
    #[arg(
        help_heading = SCOPE,
        long = "watch-namespace",
        env = "BULLA_WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub(crate) watch_namespaces: Vec<String>,

    /// Watch only SealedSecrets with these labels, such as `tier=web`
    #[arg(help_heading = SCOPE, long, env = "BULLA_SELECTOR")]
    pub(crate) selector: Option<String>,

    /// Take over the SealedSecrets of this HOLDER or NAMESPACE/HOLDER; stop its controller first
    #[arg(help_heading = SCOPE, long, env = "BULLA_TAKE_OVER", value_name = "HOLDER", value_delimiter = ',', value_parser = predecessor)]
    pub(crate) take_over: Vec<String>,

    /// Refuse Secrets of these types too, beyond those always refused
    #[arg(help_heading = REFUSALS, long, env = "BULLA_REFUSE_TYPES", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) refuse_types: Vec<String>,

    /// Refuse Secrets that have a label with one of these keys
    #[arg(help_heading = REFUSALS, long, env = "BULLA_REFUSE_LABELS", value_name = "KEY", value_delimiter = ',')]
    pub(crate) refuse_labels: Vec<String>,

    /// Refuse Secrets that have an annotation with one of these keys
    #[arg(help_heading = REFUSALS, long, env = "BULLA_REFUSE_ANNOTATIONS", value_name = "KEY", value_delimiter = ',')]
    pub(crate) refuse_annotations: Vec<String>,

    /// Work on this many SealedSecrets at a time
    #[arg(help_heading = OPERATION, long, env = "BULLA_WORKERS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// Let another replica take over after this one is silent this long
    #[arg(help_heading = OPERATION, long, env = "BULLA_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease_duration)]
    pub(crate) lease_duration: Duration,

    /// Compare each Secret in full this often, even unchanged ones; 0 for never
    #[arg(help_heading = OPERATION, long, env = "BULLA_FULL_CHECK", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub(crate) full_check: Duration,

    /// Delete a Rekey after this time, for tests
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration, hide = true)]
    pub(crate) rekey_lifetime: Duration,

    /// Add a metric for each SealedSecret, by namespace and name
    #[arg(help_heading = MONITORING, long, env = "BULLA_METRICS_PER_OBJECT")]
    pub(crate) metrics_per_object: bool,

    /// Serve /healthz, /readyz and /metrics on this address
    #[arg(help_heading = MONITORING, long, env = "BULLA_LISTEN", default_value = "[::]:8080")]
    pub(crate) listen: SocketAddr,

    /// Write logs in this format; RUST_LOG sets their level
    #[arg(help_heading = MONITORING, long, env = "BULLA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Plain)]
    pub(crate) log_format: LogFormat,
}

impl Args {
    /// Checks the flags against each other.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !self.renew_every.is_zero() && self.renew_every < self.shortest_renewal {
            bail!("--renew-every must be at least a day, or 0 for never");
        }
        if self.recovery.is_empty() {
            return Ok(());
        }
        for (index, given) in self.recovery.iter().enumerate() {
            if let Err(error) = &given.recipient {
                bail!("recipient {} of --recovery-recipient: {error}", index + 1);
            }
        }
        let mut names = BTreeSet::new();
        for RecoveryKey { holder, .. } in self.recovery_keys() {
            if self.holder.as_ref() == Some(&holder) {
                bail!("--recovery-recipient: {holder} is the name of the cluster itself");
            }
            if !names.insert(holder.clone()) {
                bail!("--recovery-recipient: two recipients have the holder {holder}");
            }
        }
        let recovery = Recipients::new(self.given_recipients()).context("--recovery-recipient")?;
        let weak = recovery.iter().find(|recipient| recipient.key_type() == KeyType::X25519);
        if let (KeyTypeArg::Hybrid, Some(weak)) = (self.key_type, weak) {
            bail!(
                "recovery recipient {} is X25519, which would weaken the backups of hybrid keys: use a hybrid one (age1pq1…)",
                weak.fingerprint()
            );
        }
        Ok(())
    }

    /// The age at which a key is renewed, or `None` if keys are not renewed on schedule.
    pub(crate) fn renewal_period(&self) -> Option<SignedDuration> {
        let period = SignedDuration::try_from(self.renew_every).ok()?;
        (!period.is_zero()).then_some(period)
    }

    /// The recipients that identities are backed up to.
    pub(crate) fn recovery_recipients(&self) -> Option<Recipients> {
        Recipients::new(self.given_recipients()).ok()
    }

    /// The same recipients, each with a holder of its own.
    pub(crate) fn recovery_keys(&self) -> Vec<RecoveryKey> {
        let mut unnamed = 0;
        let keys = self.recovery.iter().filter_map(|given| {
            let recipient = given.recipient.as_ref().ok()?.clone();
            let holder = given.holder.clone().unwrap_or_else(|| {
                unnamed += 1;
                if unnamed == 1 { RECOVERY.into() } else { format!("{RECOVERY}-{unnamed}") }
            });
            Some(RecoveryKey { holder, recipient })
        });
        keys.collect()
    }

    fn given_recipients(&self) -> Vec<Recipient> {
        self.recovery_keys().into_iter().map(|key| key.recipient).collect()
    }

    /// The scopes to watch: each of these namespaces, or `None` for all.
    pub(crate) fn scopes(&self) -> Vec<Option<String>> {
        if self.watch_namespaces.is_empty() {
            return vec![None];
        }
        let namespaces: BTreeSet<_> = self.watch_namespaces.iter().cloned().collect();
        namespaces.into_iter().map(Some).collect()
    }

    /// Whether this controller takes over from the one of `holder` in `namespace`.
    pub(crate) fn is_taken_over(&self, namespace: &str, holder: &str) -> bool {
        self.take_over.iter().any(|from| match from.split_once('/') {
            Some(from) => from == (namespace, holder),
            None => from == holder,
        })
    }
}

/// The format of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One readable line per message
    Plain,
    /// One JSON object per message
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
        Err("a holder must be a DNS label: a-z, 0-9 and -, at most 63 characters")
    }
}

/// A holder, or a namespace and a holder.
fn predecessor(name: &str) -> Result<String, &'static str> {
    if let Some((within, _)) = name.split_once('/') {
        namespace(within)?;
    }
    holder(name.split_once('/').map_or(name, |(_, of)| of)).map(|_| name.to_owned())
}

fn namespace(name: &str) -> Result<String, &'static str> {
    if bulla_sealing::is_dns_label(name) {
        Ok(name.into())
    } else {
        Err("a namespace must be a DNS label: a-z, 0-9 and -, at most 63 characters")
    }
}

/// A duration such as `90s` or `30d`. A day is 24 hours.
fn duration(text: &str) -> Result<Duration, &'static str> {
    let span = text.parse::<Span>().ok();
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| duration.try_into().ok())
        .ok_or("expected a duration such as 90s, 15m, 24h or 30d")
}

/// A recovery recipient, and the holder that its SealingKey names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecoveryKey {
    pub(crate) holder: String,
    pub(crate) recipient: Recipient,
}

/// A parsed recipient, or why it is invalid. Somebody may pass an identity by mistake, and clap would repeat it in
/// its error. So the parser accepts everything, and [`Args::check`] reports the error.
#[derive(Clone, Debug)]
struct GivenRecipient {
    holder: Option<String>,
    recipient: Result<Recipient, InvalidKey>,
}

fn given_recipient(text: &str) -> Result<GivenRecipient, Infallible> {
    let named = text.split_once('=').filter(|(name, _)| bulla_sealing::is_dns_label(name));
    let (name, recipient) = named.map_or((None, text), |(name, of)| (Some(name.to_owned()), of));
    Ok(GivenRecipient { holder: name, recipient: recipient.parse() })
}

/// The duration of the Lease, which stores whole seconds.
fn lease_duration(text: &str) -> Result<Duration, &'static str> {
    let duration = duration(text)?;
    if (1..=3600).contains(&duration.as_secs()) && duration.subsec_nanos() == 0 {
        Ok(duration)
    } else {
        Err("must be 1s to 1h, in whole seconds")
    }
}

#[cfg(test)]
mod tests {
    use bulla_sealing::Identity;

    use super::*;

    #[test]
    fn an_identity_in_place_of_a_recipient_is_refused_and_not_repeated() {
        let identity = Identity::generate(KeyType::X25519).unwrap().to_secret_string();
        let given = ["bulla-controller", "--recovery-recipient", &**identity];
        let args = Args::try_parse_from(given).unwrap();
        let error = format!("{:#}", args.check().unwrap_err());
        let expected = "recipient 1 of --recovery-recipient: expected a recipient (age1pq1… or \
                        age1…), found an identity";
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(&**identity) && !format!("{args:?}").contains(&**identity));
    }
}
