//! The verbs, one file each.

mod completions;
mod create;
mod diff;
mod edit;
mod init;
mod inspect;
mod keys;
mod lint;
mod man;
mod merge_driver;
mod migrate;
mod rekey;
mod seal;
mod set;
mod unseal;
mod unset;

use clap::Subcommand;

use crate::report::failure::{Answer, Failure};

#[derive(Subcommand)]
pub(crate) enum Command {
    Init(init::Init),
    Seal(seal::Seal),
    Create(Box<create::Create>),
    Set(set::Set),
    Unset(unset::Unset),
    Edit(edit::Edit),
    Unseal(unseal::Unseal),
    Inspect(inspect::Inspect),
    Lint(lint::Lint),
    Diff(diff::Diff),
    MergeDriver(merge_driver::MergeDriver),
    Rekey(rekey::Rekey),
    Migrate(migrate::Migrate),
    #[command(subcommand)]
    Keys(keys::Keys),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    pub(crate) fn run(&self, command_line: fn() -> clap::Command) -> Result<Answer, Failure> {
        match self {
            Self::Init(init) => init.run(),
            Self::Seal(seal) => seal.run(),
            Self::Create(create) => create.run(),
            Self::Set(set) => set.run(),
            Self::Unset(unset) => unset.run(),
            Self::Edit(edit) => edit.run(),
            Self::Unseal(unseal) => unseal.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Lint(lint) => lint.run(),
            Self::Diff(diff) => diff.run(),
            Self::MergeDriver(merge_driver) => merge_driver.run(),
            Self::Rekey(rekey) => rekey.run(),
            Self::Migrate(migrate) => migrate.run(),
            Self::Keys(keys) => keys.run(),
            Self::Completions(completions) => completions.run(command_line()),
            Self::Man(man) => man.run(command_line()),
        }
    }
}

/// Removes plaintext that a command keeps in a temporary file, because the process is about to end.
pub(crate) fn wipe_plaintext() {
    edit::wipe_open();
}
