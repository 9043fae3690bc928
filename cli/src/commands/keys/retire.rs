//! `bulla keys retire`.

use anyhow::anyhow;
use bulla_crds::State;
use bulla_sealing::Fingerprint;
use clap::Args;

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::sealing_keys;
use crate::command_line::completion;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{escape, output};

/// What to do with the Active key of another holder.
const LEAVE_WITHOUT: &str =
    "activate another of its keys, or pass --force to leave the holder without one";

/// What to do with the cluster's own Active key.
const REPLACE: &str = "without it nothing could be sealed: to replace it, run bulla keys renew or bulla keys activate";

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
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let key = keys.find(self.fingerprint)?;
        let (fingerprint, holder) = (self.fingerprint, &key.holder);
        match key.state {
            State::Retired => {}
            State::Revoked => {
                let error =
                    anyhow!("key {fingerprint} is already revoked; revocation is permanent");
                return Err(error.into());
            }
            State::Pending => sealing_keys::set_state(&cluster, key, State::Retired)?,
            State::Active => {
                let is_of_another = !keys.is_own(key);
                if !(is_of_another && self.force) {
                    let error = anyhow!("key {fingerprint} is the Active key of {holder}");
                    return Err(error).or_hint(if is_of_another { LEAVE_WITHOUT } else { REPLACE });
                }
                sealing_keys::set_state(&cluster, key, State::Retired)?;
            }
        }
        let text = format!("{holder}: {fingerprint} is Retired and still opens existing values\n");
        output::stdout(escape::lines(&text).as_bytes())?;
        Ok(Answer::Yes)
    }
}
