//! `bulla keys fetch`.

use std::path::PathBuf;

use anyhow::anyhow;
use bulla_crds::State;
use clap::Args;
use serde_json::json;

use crate::cluster::ClusterKey;
use crate::cluster::kubeconfig::ClustersFlags;
use crate::command_line::completion;
use crate::command_line::flags::{OutputFlags, ReportFormat};
use crate::files::write::{self, Existing, Visibility};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;
use crate::report::terminal::Consent;
use crate::who::config::{self, Config, Environment};
use crate::who::pinning::{self, HolderKey, Shown};

/// What to do after a pin has replaced an older one.
const REKEY_NEXT: &str =
    ". Existing values still use the old key: commit the pin, then run bulla rekey";

/// Fetch a cluster's public keys and print or pin them
///
/// Reads the SealingKeys through the API server and prints the Active recipients as a recipients file for bulla
/// seal -R. Before you trust them, compare the fingerprints with what the cluster's administrators tell you over
/// another channel.
///
/// With --environment or --all, pins the keys in bulla.yaml instead. Shows the pinned and the new fingerprint of each
/// holder, and asks you to confirm that you compared them. --yes says that you did, or will in the review of
/// bulla.yaml. The key that was pinned before becomes Retired. With several contexts, each cluster supplies the key of
/// its own holder. A cluster that has none of the pinned keys is refused: it is a different cluster.
#[derive(Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    clusters: ClustersFlags,

    #[command(flatten)]
    output: OutputFlags,

    /// Overwrite an existing file
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: ReportFormat,

    /// Pin the keys in this environment of bulla.yaml; repeatable
    #[arg(short, long = "environment", value_name = "NAME", group = "into", conflicts_with_all = ["output", "force", "format"], add = completion::environments(), help_heading = "Pinning")]
    environments: Vec<String>,

    /// Pin each key in every environment of bulla.yaml that pins a key of the same holder
    #[arg(long, group = "into", conflicts_with_all = ["output", "force", "format"], help_heading = "Pinning")]
    all: bool,

    /// Pin the key of this holder; repeatable [default: the cluster's own]
    #[arg(long = "holder", value_name = "HOLDER", requires = "into", help_heading = "Pinning")]
    holders: Vec<String>,

    #[command(flatten)]
    consent: Consent,

    /// Use this bulla.yaml [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", requires = "into", help_heading = "Pinning")]
    config: Option<PathBuf>,
}

impl Fetch {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if self.all || !self.environments.is_empty() {
            self.pin()?
        } else {
            self.print()?
        }
        Ok(Answer::Yes)
    }

    fn print(&self) -> Result<(), Failure> {
        let shown = Shown::by_each(&self.clusters)?;
        let mut keys: Vec<&ClusterKey> = Vec::new();
        for key in shown.iter().flat_map(|cluster| &cluster.keys.keys) {
            let is_there = keys.iter().any(|earlier| earlier.recipient == key.recipient);
            if key.state == State::Active && !is_there {
                keys.push(key);
            }
        }
        let text = match self.format {
            ReportFormat::Human => recipients_file(&keys),
            ReportFormat::Json => {
                format!("{:#}\n", json!(keys.iter().map(to_json).collect::<Vec<_>>()))
            }
        };
        let existing = Existing::unless(self.force);
        write::file_or_stdout(self.output.file(), text.as_bytes(), existing, Visibility::Public)
    }

    /// Writes the holders' Active keys into `bulla.yaml`.
    fn pin(&self) -> Result<(), Failure> {
        let config = config::find(self.config.as_deref(), &[])?
            .ok_or_else(|| anyhow!("no bulla.yaml at the root of a Git work tree here"))
            .or_hint("to write one, run bulla init; for another file, pass --config")?;
        let named = self.environments.iter().map(|name| config.environment(name));
        let named = named.collect::<Result<Vec<_>, _>>()?;
        let shown = Shown::by_each(&self.clusters)?;
        let keys = pinning::holder_keys(&shown, &self.holders)?;
        let places = if self.all {
            where_pinned(&config, &keys)?
        } else {
            keys.iter()
                .flat_map(|key| named.iter().map(move |environment| (*environment, key)))
                .collect()
        };
        let renewals = places.iter().map(|(environment, key)| key.renewal(environment));
        let renewals = renewals.collect::<Result<Vec<_>, _>>()?;
        let name = config.path.display();
        let Some(new) = config::renewed(&config, &renewals)? else {
            output::summary(&format!("{name}: these keys are pinned already"));
            return Ok(());
        };
        for (environment, key) in &places {
            output::stderr(&key.comparison(environment));
        }
        self.consent.ask(&format!("pin these in {name}?"))?;
        write::replace(&config.path, &config.file.bytes(), &new)?;
        let has_older_pin = places
            .iter()
            .any(|(environment, key)| environment.pins_of(key.holder()).next().is_some());
        let next = if has_older_pin { REKEY_NEXT } else { "" };
        output::summary(&format!("pinned in {name}{next}"));
        Ok(())
    }
}

/// Each key in the environments that pin one of its holder.
fn where_pinned<'a, 'k>(
    config: &'a Config,
    keys: &'a [HolderKey<'k>],
) -> Result<Vec<(&'a Environment, &'a HolderKey<'k>)>, Failure> {
    let mut places = Vec::new();
    for key in keys {
        let holder = key.holder();
        let pin_it = |environment: &&Environment| environment.pins_of(holder).next().is_some();
        let mut environments = config.environments.iter().filter(pin_it).peekable();
        if environments.peek().is_none() {
            let name = config.path.display();
            return Err(anyhow!("no environment of {name} pins a key of holder {holder}")).or_hint(
                "check that this is the right context; to pin its key for the first time, pass --environment",
            );
        }
        places.extend(environments.map(|environment| (environment, key)));
    }
    Ok(places)
}

fn recipients_file(keys: &[&ClusterKey]) -> String {
    let entry = |key: &&ClusterKey| {
        format!(
            "# holder {}, fingerprint {}, created {}\n{}\n",
            key.holder,
            key.recipient.long_fingerprint(),
            key.created,
            key.recipient
        )
    };
    keys.iter().map(entry).collect()
}

fn to_json(key: &&ClusterKey) -> serde_json::Value {
    json!({
        "holder": key.holder,
        "fingerprint": key.recipient.fingerprint().to_string(),
        "longFingerprint": key.recipient.long_fingerprint(),
        "type": key.recipient.key_type().as_str(),
        "created": key.created.to_string(),
        "recipient": key.recipient.as_str(),
    })
}
