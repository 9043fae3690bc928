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
mod wait;

use clap::Subcommand;

use crate::report::failure::{Answer, Failure};

/// Generate keys and manage a cluster's keys
#[derive(Subcommand)]
pub(crate) enum Keys {
    Generate(generate::Generate),
    Fetch(fetch::Fetch),
    List(list::ListKeys),
    Backup(backup::BackupKeys),
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
