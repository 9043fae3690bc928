//! `bulla keys list`.

use anyhow::Context;
use bulla_crds::State;
use bulla_crds::conditions::{BACKED_UP, HELD};
use bulla_crds::keys::sealing_key;
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{ClusterKey, Possession, SealingKeys, sealing_keys};
use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// List a cluster's keys and their state
///
/// Shows for each SealingKey its holder, its state, whether the cluster has the private half, whether that is
/// backed up, and how many live SealedSecrets are sealed to it. A SealingKey that cannot be trusted is reported in
/// a warning and left out of the table.
#[derive(Args)]
pub(crate) struct ListKeys {
    #[command(flatten)]
    cluster: ClusterFlags,

    /// Only the keys of this holder
    #[arg(long, value_name = "HOLDER", help_heading = None::<&str>)]
    holder: Option<String>,

    /// Only the keys in this state
    #[arg(long, value_enum, ignore_case = true, help_heading = None::<&str>)]
    state: Option<StateFlag>,

    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = None::<&str>)]
    format: ListFormat,
}

/// Who reads the list.
#[derive(Clone, Copy, Default, ValueEnum)]
enum ListFormat {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
    /// Fingerprints only
    Fingerprint,
    /// SealingKeys to keep in Git and apply
    Yaml,
}

/// A state, as SealingKeys spell it.
#[derive(Clone, Copy)]
struct StateFlag(State);

impl ValueEnum for StateFlag {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(State::Pending), Self(State::Active), Self(State::Retired), Self(State::Revoked)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self.0 {
            State::Pending => ("Pending", "Made, not yet used for sealing"),
            State::Active => ("Active", "Used for sealing"),
            State::Retired => {
                ("Retired", "No longer used for sealing; still opens existing values")
            }
            State::Revoked => ("Revoked", "Opens nothing any more"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ListKeys {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let (cluster, mut keys) = sealing_keys::connect(&self.cluster)?;
        keys.keys.retain(|key| {
            self.holder.as_ref().is_none_or(|holder| key.holder == *holder)
                && self.state.is_none_or(|StateFlag(state)| key.state == state)
        });
        let text = match self.format {
            ListFormat::Human => {
                output::text(&table(&keys.keys, Timestamp::now()))?;
                return Ok(Answer::Yes);
            }
            ListFormat::Json => format!("{:#}\n", to_json(&keys)),
            ListFormat::Fingerprint => {
                keys.keys.iter().map(|key| format!("{}\n", key.fingerprint())).collect()
            }
            ListFormat::Yaml => manifests(&keys.keys, &cluster.controller_namespace)?,
        };
        output::stdout(text.as_bytes())?;
        Ok(Answer::Yes)
    }
}

fn table(keys: &[ClusterKey], now: Timestamp) -> String {
    const TITLES: [&str; 8] =
        ["FINGERPRINT", "HOLDER", "STATE", "TYPE", "AGE", "HELD", "BACKED UP", "SEALEDSECRETS"];
    let rows = keys.iter().map(|key| {
        vec![
            key.fingerprint().to_string(),
            key.holder.clone(),
            key.state.to_string(),
            key.recipient.key_type().as_str().to_owned(),
            age(key.created, now),
            held(key).to_owned(),
            backed_up(key),
            key.sealed_secrets().map_or_else(|| "?".to_owned(), |count| count.to_string()),
        ]
    });
    crate::report::table::table(TITLES, &rows.collect::<Vec<_>>())
}

/// As `kubectl` prints it: the largest unit that gives two or more.
fn age(created: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(created).as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{}s", seconds.max(0)),
    }
}

fn held(key: &ClusterKey) -> &'static str {
    match key.possession() {
        Possession::Held => "yes",
        Possession::Missing => "NO",
        Possession::OfAnotherHolder => "elsewhere",
        Possession::Unknown if key.state == State::Revoked => "-",
        Possession::Unknown => "?",
    }
}

fn backed_up(key: &ClusterKey) -> String {
    match key.condition(BACKED_UP) {
        Some(condition) if condition.status == "True" => "yes".into(),
        Some(condition) => format!("NO: {}", condition.reason),
        None if key.is_held() => "?".into(),
        None => "-".into(),
    }
}

/// The keys as someone would declare them: without status, and without what the controller notes on them.
fn manifests(keys: &[ClusterKey], namespace: &str) -> Result<String, Failure> {
    let mut text = String::new();
    for key in keys {
        let (recipient, holder) = (&key.recipient, &key.holder);
        let declared = sealing_key(recipient, namespace, holder, key.created, key.state);
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&yaml_serde::to_string(&declared).context("cannot write YAML")?);
    }
    Ok(text)
}

fn to_json(keys: &SealingKeys) -> Value {
    let is_true = |key: &ClusterKey, type_: &str| {
        key.condition(type_).map(|condition| condition.status == "True")
    };
    let key = |key: &ClusterKey| {
        json!({
            "fingerprint": key.fingerprint().to_string(),
            "longFingerprint": key.recipient.long_fingerprint(),
            "holder": key.holder,
            "state": key.state,
            "type": key.recipient.key_type().as_str(),
            "created": key.created.to_string(),
            "held": is_true(key, HELD),
            "backedUp": is_true(key, BACKED_UP),
            "sealedSecrets": key.sealed_secrets(),
            "recipient": key.recipient.as_str(),
        })
    };
    let malformed = keys.malformed.iter();
    let malformed =
        malformed.map(|(name, error)| json!({"name": name, "reason": error.to_string()}));
    json!({
        "keys": keys.keys.iter().map(key).collect::<Vec<_>>(),
        "malformed": malformed.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now = Timestamp::UNIX_EPOCH;
        let ago = |seconds: i64| age(Timestamp::from_second(-seconds).unwrap(), now);
        for (seconds, text) in
            [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (2_592_000, "30d")]
        {
            assert_eq!(ago(seconds), text);
        }
    }
}
