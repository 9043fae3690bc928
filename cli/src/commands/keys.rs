//! `bulla keys`.

mod activate;
mod backup;
mod fetch;
mod generate;
mod list;
mod renew;
mod restore;
mod retire;
mod revoke;

use std::time::Duration;

use bulla_crds::State;
use clap::{Args, Subcommand};

use crate::cluster::{Cluster, ClusterKey};
use crate::failure::{Answer, Failure};

/// Make keys, and see to a cluster's: fetch, back up, renew, retire, recover
#[derive(Subcommand)]
pub(crate) enum Keys {
    Generate(generate::Generate),
    Fetch(fetch::Fetch),
    List(list::List),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Renew(renew::Renew),
    Activate(activate::Activate),
    Retire(retire::Retire),
    Revoke(revoke::Revoke),
}

impl Keys {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Fetch(fetch) => fetch.run(),
            Self::List(list) => list.run(),
            Self::Backup(backup) => backup.run(),
            Self::Restore(restore) => restore.run(),
            Self::Renew(renew) => renew.run(),
            Self::Activate(activate) => activate.run(),
            Self::Retire(retire) => retire.run(),
            Self::Revoke(revoke) => revoke.run(),
        }
    }
}

/// How long a command waits for the controller to do its part.
#[derive(Args)]
struct Wait {
    /// How many seconds to wait for the controller
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,

    /// Do not wait for the controller
    #[arg(long)]
    no_wait: bool,
}

impl Wait {
    /// How long, if at all.
    fn deadline(&self) -> Option<Duration> {
        (!self.no_wait).then(|| Duration::from_secs(self.timeout))
    }

    /// The key of the holder that is sealed to once `is_it` agrees; `None` if that was not waited for.
    fn for_active(
        &self,
        cluster: &Cluster,
        holder: &str,
        is_it: impl Fn(&ClusterKey) -> bool,
    ) -> Result<Option<String>, Failure> {
        let Some(deadline) = self.deadline() else { return Ok(None) };
        let seen = cluster.wait_for(deadline, |keys| {
            let mut keys = keys.keys.iter();
            let key =
                keys.find(|it| it.holder == holder && it.state == State::Active && is_it(it))?;
            Some(key.fingerprint().to_string())
        })?;
        match seen {
            Some(fingerprint) => Ok(Some(fingerprint)),
            None => Err(Failure::unable(anyhow::anyhow!(
                "the controller has not made the key Active within {} seconds",
                self.timeout
            ))
            .hint("does it run, and does its log say why? It goes on when it can: bulla keys list shows it")),
        }
    }
}
