//! `bulla keys`.

mod fetch;
mod generate;

use clap::Subcommand;

use crate::failure::{Answer, Failure};

/// Make keys, and fetch a cluster's
#[derive(Subcommand)]
pub(crate) enum Keys {
    Generate(generate::Generate),
    Fetch(fetch::Fetch),
}

impl Keys {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        match self {
            Self::Generate(generate) => generate.run(),
            Self::Fetch(fetch) => fetch.run(),
        }
    }
}
