//! `bulla keys fetch`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::anyhow;
use bulla_crds::State;
use bulla_sealing::Recipient;
use clap::Args;
use jiff::Zoned;
use serde_json::json;

use crate::cluster::{Cluster, ClusterKey};
use crate::config::{Config, Environment, PinState, Renewal};
use crate::failure::{Answer, Failure, OrHint};
use crate::flags::{ClusterFlags, Format, Output};
use crate::output::{self, Content, Existing, NotExchanged};
use crate::terminal::Consent;

/// Fetch the recipients that a cluster's values are sealed to today
///
/// Reads the SealingKeys through the API server and prints the recipients of the Active ones as a
/// recipients file for bulla seal -R. Compare the fingerprints with what the cluster's administrators
/// tell you before you rely on them.
///
/// With --environment they are pinned in bulla.yaml instead: shows for each holder the fingerprint that is
/// pinned and the new one, and asks. What was pinned before becomes Retired. A cluster that shows none of the
/// keys that are pinned for a holder is refused, because it is another one.
#[derive(Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    cluster: ClusterFlags,

    #[command(flatten)]
    output: Output,

    /// Write over an existing file
    #[arg(long)]
    force: bool,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Pin the keys in this environment of bulla.yaml
    #[arg(long, value_name = "NAME", conflicts_with_all = ["output", "force", "format"])]
    environment: Option<String>,

    /// Whose key to pin; repeat for several [default: the cluster's own]
    #[arg(long = "holder", value_name = "HOLDER", requires = "environment")]
    holders: Vec<String>,

    #[command(flatten)]
    consent: Consent,

    /// The bulla.yaml to use [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", requires = "environment")]
    config: Option<PathBuf>,
}

impl Fetch {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if let Some(environment) = &self.environment {
            return self.pin(environment);
        }
        let cluster = Cluster::connect(&self.cluster)?;
        let mut keys = cluster.sealing_keys_of_today()?.all_trusted()?;
        keys.retain(|key| key.state == State::Active);
        if keys.is_empty() {
            return Err(cluster.no_active_key());
        }
        let text = match self.format {
            Format::Human => recipients_file(&keys),
            Format::Json => format!("{:#}\n", json!(keys.iter().map(to_json).collect::<Vec<_>>())),
        };
        match output::file(self.output.output.as_deref()) {
            Some(path) => {
                let existing = Existing::unless(self.force);
                output::write_file(path, text.as_bytes(), existing, Content::Public)?;
            }
            None => output::stdout(text.as_bytes())?,
        }
        Ok(Answer::Yes)
    }

    /// Writes the holders' Active keys into `bulla.yaml`.
    fn pin(&self, environment: &str) -> Result<Answer, Failure> {
        let config = Config::find(self.config.as_deref(), &[])?
            .ok_or_else(|| anyhow!("there is no bulla.yaml at the root of a Git work tree here"))
            .or_hint("write one with the environment and its paths, or name one with --config")?;
        let pinned = config.environment(environment)?;
        let cluster = Cluster::connect(&self.cluster)?;
        let keys = cluster.sealing_keys_of_today()?.all_trusted()?;
        let holders = match self.holders.is_empty() {
            true => vec![own_holder(&cluster, &keys)?],
            false => self.holders.clone(),
        };
        let renewals = holders
            .iter()
            .map(|holder| renewal(pinned, &keys, holder))
            .collect::<Result<Vec<_>, _>>()?;
        let name = config.path.display();
        let Some(new) = config.renewed(environment, &renewals)? else {
            output::summary(&format!("{name}: environment {environment} has these keys already"));
            return Ok(Answer::Yes);
        };
        output::stderr(&comparison(pinned, &renewals));
        self.consent.ask(&format!("pin these in environment {environment} of {name}?"))?;
        output::exchange_file(&config.path, &config.bytes, &new).map_err(|error| match error {
            NotExchanged::Failed(error) => error.into(),
            NotExchanged::Changed => {
                Failure::unable(anyhow!("{name} was changed by somebody else meanwhile"))
                    .hint("look at it, and try again")
            }
        })?;
        output::sync_folders_of([config.path.as_path()])?;
        output::summary(&format!(
            "pinned in environment {environment} of {name}; bulla rekey seals what is there to them"
        ));
        Ok(Answer::Yes)
    }
}

/// The holder whose keys the controller can open.
fn own_holder(cluster: &Cluster, keys: &[ClusterKey]) -> Result<String, Failure> {
    let holders = |is_meant: fn(&ClusterKey) -> bool| -> BTreeSet<&str> {
        keys.iter().filter(|key| is_meant(key)).map(|key| key.holder.as_str()).collect()
    };
    let held = holders(ClusterKey::is_held);
    let holders = if held.is_empty() { holders(|key| key.state == State::Active) } else { held };
    let names = Vec::from_iter(holders);
    match names[..] {
        [holder] => Ok(holder.to_owned()),
        [] => Err(cluster.no_active_key()),
        _ => Err(anyhow!("the cluster has keys of several holders: {}", names.join(", ")))
            .or_hint("name the one that is meant with --holder; repeat it for several"),
    }
}

/// The Active key of a holder, in a cluster that is the one it was.
fn renewal(pinned: &Environment, keys: &[ClusterKey], holder: &str) -> Result<Renewal, Failure> {
    let of_holder = || keys.iter().filter(|key| key.holder == holder);
    let is_shown = |recipient: &Recipient| of_holder().any(|key| key.recipient == *recipient);
    let mut pins = pinned.pins_of(holder).peekable();
    if pins.peek().is_some() && !pins.any(|pin| is_shown(&pin.recipient)) {
        return Err(anyhow!(
            "the cluster shows none of the keys that are pinned for holder {holder}"
        ))
        .or_hint("is it the right context? If the cluster was built anew without its keys, delete the pins of this holder first");
    }
    let active: Vec<_> = of_holder().filter(|key| key.state == State::Active).collect();
    match active[..] {
        [key] if pinned.pins.iter().any(|pin| pin.recipient == key.recipient && pin.holder != holder) => {
            let fingerprint = key.recipient.fingerprint();
            Err(anyhow!("the Active key of holder {holder}, {fingerprint}, is pinned for another holder"))
                .or_hint("correct the holder of the pin, after you have found out whose key it is")
        }
        [key] => Ok(Renewal {
            holder: holder.to_owned(),
            recipient: key.recipient.clone(),
            fetched: Zoned::now().date(),
        }),
        [] => Err(anyhow!("holder {holder} has no Active key in this cluster")).or_hint(
            "bulla keys list shows what there is; an administrator declares the keys of other holders",
        ),
        _ => Err(anyhow!("holder {holder} has several Active keys"))
            .or_hint("an administrator retires all but one of them"),
    }
}

/// What is pinned and what would be, for a person who compares.
fn comparison(pinned: &Environment, renewals: &[Renewal]) -> String {
    let mut text = String::new();
    for Renewal { holder, recipient, .. } in renewals {
        let old = pinned.pins_of(holder).find(|pin| pin.state == PinState::Active);
        let old = old.map_or("(none)".into(), |pin| pin.recipient.long_fingerprint());
        let new = recipient.long_fingerprint();
        text.push_str(&match old == new {
            true => format!("holder {holder}\n  stays   {new}\n"),
            false => format!("holder {holder}\n  pinned  {old}\n  new     {new}\n"),
        });
    }
    text
}

fn recipients_file(keys: &[ClusterKey]) -> String {
    let entry = |key: &ClusterKey| {
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

fn to_json(key: &ClusterKey) -> serde_json::Value {
    json!({
        "holder": key.holder,
        "fingerprint": key.recipient.fingerprint().to_string(),
        "longFingerprint": key.recipient.long_fingerprint(),
        "type": key.recipient.key_type().as_str(),
        "created": key.created.to_string(),
        "recipient": key.recipient.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use bulla_crds::keys::sealing_key;
    use bulla_sealing::{Identity, KeyType};
    use jiff::Timestamp;

    use super::*;
    use crate::cluster::SealingKeys;
    use crate::config::Pin;

    #[test]
    fn a_holders_key_is_taken_from_the_cluster_that_shows_what_is_pinned() {
        let [old, new, other] =
            [(); 3].map(|()| Identity::generate(KeyType::X25519).unwrap().recipient());
        let keys = |declared: &[(&Recipient, &str, State)]| {
            let object = |&(recipient, holder, state): &(&Recipient, &str, State)| {
                sealing_key(recipient, "bulla-system", holder, Timestamp::UNIX_EPOCH, state)
            };
            declared.iter().map(object).collect::<SealingKeys>().all_trusted().unwrap()
        };
        let pinned = |pins: &[(&Recipient, &str)]| {
            let pin = |&(recipient, holder): &(&Recipient, &str)| Pin {
                recipient: recipient.clone(),
                holder: holder.into(),
                state: PinState::Active,
                fetched: jiff::civil::date(2026, 5, 1),
            };
            pins.iter().map(pin).collect::<Environment>()
        };
        let (eu, retired) = ((&new, "eu", State::Active), (&old, "eu", State::Retired));
        let renewed = renewal(&pinned(&[(&old, "eu")]), &keys(&[eu, retired]), "eu").unwrap();
        assert_eq!(renewed.recipient, new);
        assert!(renewal(&pinned(&[]), &keys(&[eu]), "eu").is_ok(), "nothing is pinned yet");
        let refusal = |pins: &[(&Recipient, &str)], declared: &[_], holder| {
            renewal(&pinned(pins), &keys(declared), holder).err().unwrap().into_parts().0
        };
        for (pins, declared, message) in [
            (
                &[(&other, "eu")][..],
                &[eu, retired][..],
                "the cluster shows none of the keys that are pinned for holder eu".to_owned(),
            ),
            (&[(&old, "eu")], &[retired], "holder eu has no Active key in this cluster".into()),
            (&[], &[eu, (&other, "eu", State::Active)], "holder eu has several Active keys".into()),
            (
                &[(&new, "us")],
                &[eu],
                format!(
                    "the Active key of holder eu, {}, is pinned for another holder",
                    new.fingerprint()
                ),
            ),
        ] {
            assert_eq!(refusal(pins, declared, "eu"), message);
        }
        let comparison = comparison(&pinned(&[(&old, "eu")]), &[renewed]);
        let (old, new) = (old.long_fingerprint(), new.long_fingerprint());
        assert_eq!(comparison, format!("holder eu\n  pinned  {old}\n  new     {new}\n"));
    }
}
