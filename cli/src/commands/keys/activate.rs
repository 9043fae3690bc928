//! `bulla keys activate`.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::anyhow;
use bulla_crds::State;
use bulla_sealing::{Fingerprint, Recipient};
use clap::Args;

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, ClusterKey, Possession, SealingKeys, sealing_keys};
use crate::command_line::completion;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::terminal::Consent;
use crate::report::{escape, output};

/// How long the controller may take to activate its own keys.
const CONTROLLERS_TURN: Duration = Duration::from_secs(5);

/// Make a key its holder's active sealing key
///
/// FINGERPRINT names an existing key of the cluster. It becomes Active, and the holder's Active key becomes Retired.
///
/// With -r, first declares a key that the cluster does not hold: tells the cluster the public half, and who owns the
/// private half. bulla rekey needs this for other clusters' keys. The controller itself declares the recovery keys of
/// its settings. The owner of the key can read what is sealed to it from then on, so compare the fingerprint with the
/// owner over another channel.
#[derive(Args)]
pub(crate) struct Activate {
    /// The key, by the 16 digits that bulla keys list shows
    #[arg(value_name = "FINGERPRINT", required_unless_present = "recipient", add = completion::fingerprints())]
    fingerprint: Option<Fingerprint>,

    /// Declare this recipient, a key that the cluster does not hold
    #[arg(
        short,
        long,
        value_name = "RECIPIENT",
        requires = "holder",
        conflicts_with = "fingerprint"
    )]
    recipient: Option<OsString>,

    /// The owner of the private half of the recipient, such as recovery
    #[arg(long, value_name = "HOLDER", requires = "recipient")]
    holder: Option<String>,

    /// Activate a key even if the cluster should hold its private half but does not
    #[arg(long, help_heading = None::<&str>)]
    force: bool,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Activate {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        match (&self.recipient, &self.holder, self.fingerprint) {
            (Some(recipient), Some(holder), _) => self.declare(&parse(recipient)?, holder),
            (_, _, Some(fingerprint)) => self.activate(fingerprint),
            _ => Err(Failure::unable(anyhow!("no key given"))),
        }
    }

    fn activate(&self, fingerprint: Fingerprint) -> Result<Answer, Failure> {
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let key = keys.find(fingerprint)?;
        if key.state == State::Active {
            return done(key);
        }
        refuse_revoked(key)?;
        let is_own = keys.is_own(key);
        if !self.force {
            refuse_not_held(key, is_own)?;
        }
        self.take_over(&cluster, &keys, key, is_own)
    }

    /// Declares the key of another holder, and makes it Active.
    fn declare(&self, recipient: &Recipient, holder: &str) -> Result<Answer, Failure> {
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let fingerprint = recipient.fingerprint();
        let is_own = keys.own_holders().contains(&holder);
        if is_own && !self.force {
            return Err(anyhow!("{holder} is the cluster's own holder, and the cluster does not hold {fingerprint}"))
                .or_hint("values sealed to it would not open here; bring in the identity with bulla keys restore, or pass --force");
        }
        let name = fingerprint.to_string();
        let is_declared = keys.keys.iter().any(|key| key.fingerprint() == fingerprint)
            || keys.malformed.iter().any(|(malformed, _)| *malformed == name);
        if is_declared {
            let key = keys.find(fingerprint)?;
            if key.holder != holder {
                let other = &key.holder;
                let error =
                    anyhow!("SealingKey {fingerprint} is already declared, for holder {other}");
                return Err(error.into());
            }
            if key.state == State::Active {
                return done(key);
            }
            refuse_revoked(key)?;
        }
        let old = keys.active(holder)?.map(|old| old.recipient.long_fingerprint());
        let (old, new) = (old.unwrap_or_else(|| "none".into()), recipient.long_fingerprint());
        output::stderr(&escape::lines(&format!(
            "holder       {holder}\ncurrent key  {old}\nnew key      {new}\n"
        )));
        self.consent.ask(&format!("Is {new} the key of {holder}?"))?;
        if !is_declared {
            sealing_keys::declare(&cluster, recipient, holder)?;
        }
        let keys = sealing_keys::all(&cluster)?;
        self.take_over(&cluster, &keys, keys.find(fingerprint)?, is_own)
    }

    /// Retires the holder's Active key in favour of this one, with a write that fails if someone else was faster. The
    /// controller does the rest for its own holder; for other holders it is done here.
    fn take_over(
        &self,
        cluster: &Cluster,
        keys: &SealingKeys,
        key: &ClusterKey,
        is_own: bool,
    ) -> Result<Answer, Failure> {
        let (fingerprint, holder) = (key.fingerprint(), &key.holder);
        let Some(old) = keys.active(holder)? else {
            sealing_keys::set_state(cluster, key, State::Active)?;
            return done(key);
        };
        sealing_keys::retire_for(cluster, old, fingerprint)?;
        let old = old.fingerprint();
        output::summary(&format!("{holder}: {old} is Retired and still opens existing values"));
        // The controller tidies up the old key last.
        let is_over = |key: &ClusterKey| match key.fingerprint() {
            this if this == fingerprint => key.state == State::Active,
            other => other != old || key.successor().is_none(),
        };
        let patience = if is_own { CONTROLLERS_TURN } else { Duration::ZERO };
        let over = |keys: &SealingKeys| keys.keys.iter().all(is_over).then_some(());
        if sealing_keys::wait_for(cluster, patience, over)?.is_some() {
            return done(key);
        }
        // No controller manages this holder, so the handover is completed here. Anyone can complete it later.
        let keys = sealing_keys::all(cluster)?;
        if keys.active(holder)?.is_none() {
            sealing_keys::set_state(cluster, keys.find(fingerprint)?, State::Active)?;
        }
        done(key)
    }
}

fn parse(recipient: &OsString) -> Result<Recipient, Failure> {
    let text = recipient.to_string_lossy();
    if escape::holds_identity(&text) {
        return Err(Failure::identity_in_arguments());
    }
    text.parse().map_err(|error| Failure::unable(anyhow!("the recipient of -r: {error}")))
}

fn done(key: &ClusterKey) -> Result<Answer, Failure> {
    let text = format!("{}: {} is Active\n", key.holder, key.fingerprint());
    output::stdout(escape::lines(&text).as_bytes())?;
    Ok(Answer::Yes)
}

fn refuse_revoked(key: &ClusterKey) -> Result<(), Failure> {
    if key.state != State::Revoked {
        return Ok(());
    }
    Err(anyhow!("key {} is already revoked; revocation is permanent", key.fingerprint()))
        .or_hint("to make a new key, run: bulla keys renew")
}

/// No cluster opens values sealed to a key that none holds.
fn refuse_not_held(key: &ClusterKey, is_own: bool) -> Result<(), Failure> {
    let fingerprint = key.fingerprint();
    match key.possession() {
        Possession::Missing => Err(anyhow!(
            "the cluster does not hold the identity of {fingerprint}"
        ))
        .or_hint("values sealed to it would not open here; bring it back with bulla keys restore"),
        Possession::Unknown if is_own => Err(anyhow!(
            "the controller has not reported whether it holds {fingerprint}"
        ))
        .or_hint(
            "check that it is running; values sealed to a key that it does not hold do not open. To activate it anyway, pass --force",
        ),
        Possession::Held | Possession::OfAnotherHolder | Possession::Unknown => Ok(()),
    }
}
