//! `bulla keys retire`.

use anyhow::anyhow;
use bulla_crds::State;
use bulla_sealing::Fingerprint;
use clap::Args;

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, Possession, sealing_keys};
use crate::command_line::completion;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{escape, output};

/// Stop sealing to a key; existing values still open
#[derive(Args)]
pub(crate) struct Retire {
    /// The key, by the 16 digits that bulla keys list shows
    #[arg(value_name = "FINGERPRINT", add = completion::fingerprints())]
    fingerprint: Fingerprint,

    /// Retire the Active key of another holder, which leaves that holder without one
    #[arg(long, help_heading = None::<&str>)]
    force: bool,

    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Retire {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let cluster = Cluster::connect(&self.cluster)?;
        let keys = sealing_keys::all(&cluster)?;
        keys.warn_of_malformed();
        let key = keys.find(self.fingerprint)?;
        let (fingerprint, holder) = (self.fingerprint, &key.holder);
        match key.state {
            State::Retired => {}
            State::Revoked => {
                return Err(anyhow!(
                    "key {fingerprint} is already revoked; revocation is permanent"
                )
                .into());
            }
            State::Active => {
                let is_of_another = key.possession() == Possession::OfAnotherHolder
                    || key.possession() == Possession::Unknown
                        && !keys.own_holders().contains(&holder.as_str());
                let failure = anyhow!("key {fingerprint} is the Active key of {holder}");
                match (is_of_another, self.force) {
                    (true, true) => sealing_keys::set_state(&cluster, key, State::Retired)?,
                    (true, false) => return Err(failure).or_hint(
                        "activate another of its keys, or pass --force to leave the holder without one",
                    ),
                    (false, _) => return Err(failure).or_hint(
                        "without it nothing could be sealed: to replace it, run bulla keys renew or bulla keys activate",
                    ),
                }
            }
            State::Pending => sealing_keys::set_state(&cluster, key, State::Retired)?,
        }
        let text = format!("{holder}: {fingerprint} is Retired and still opens existing values\n");
        output::stdout(escape::lines(&text).as_bytes())?;
        Ok(Answer::Yes)
    }
}
