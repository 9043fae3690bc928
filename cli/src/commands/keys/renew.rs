//! `bulla keys renew`.

use anyhow::anyhow;
use clap::Args;

use super::wait::Wait;
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{SealingKeys, sealing_keys};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;

/// Ask the controller for a new sealing key
///
/// The new key replaces the cluster's own Active key. Waits until it is Active. Existing values still open: the old
/// key becomes Retired and stays in the cluster.
#[derive(Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    cluster: ClusterFlags,

    /// Renew the key of this holder [default: the cluster's own]
    #[arg(long, value_name = "HOLDER", help_heading = None::<&str>)]
    holder: Option<String>,

    #[command(flatten)]
    wait: Wait,
}

impl Renew {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let holder = self.holder(&keys)?;
        let Some(old) = keys.active(holder)? else {
            return Err(anyhow!("holder {holder} has no Active key to renew"))
                .or_hint("to make an existing key Active, run: bulla keys activate");
        };
        if !old.is_held() {
            return Err(anyhow!("the cluster does not hold the Active key of {holder}"))
                .or_hint("only the controller of the holder's own cluster can renew it");
        }
        let fingerprint = old.fingerprint();
        sealing_keys::ask_to_renew(&cluster, old)?;
        let Some(deadline) = self.wait.deadline() else {
            let text = format!("{holder}: asked the controller to renew {fingerprint}\n");
            output::stdout(text.as_bytes())?;
            return Ok(Answer::Yes);
        };
        let new = sealing_keys::wait_for(&cluster, deadline, |keys| {
            let active = keys.active(holder).ok()??.fingerprint();
            (active != fingerprint).then_some(active)
        })?;
        let Some(new) = new else {
            let seconds = self.wait.timeout;
            return Err(anyhow!("the controller has not renewed the key within {seconds} seconds"))
                .or_hint(
                    "the request remains: check that the controller is running, then run bulla keys list",
                );
        };
        let text = format!(
            "{holder}: {fingerprint} is Retired and still opens existing values\n{holder}: {new} is Active\n"
        );
        output::stdout(text.as_bytes())?;
        Ok(Answer::Yes)
    }

    fn holder<'a>(&'a self, keys: &'a SealingKeys) -> Result<&'a str, Failure> {
        if let Some(holder) = &self.holder {
            return Ok(holder);
        }
        match keys.own_holders()[..] {
            [holder] => Ok(holder),
            [] => Err(anyhow!("no SealingKey shows that the cluster holds its identity"))
                .or_hint("check that the controller is running, or pass --holder"),
            ref holders => {
                Err(anyhow!("the cluster has keys of several holders: {}", holders.join(", ")))
                    .or_hint("choose one with --holder")
            }
        }
    }
}
