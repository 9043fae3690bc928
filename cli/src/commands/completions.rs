//! `bulla completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::{Answer, Failure};
use crate::{Cli, output};

/// Print a completion script for a shell
///
/// For bash: bulla completions bash > /etc/bash_completion.d/bulla
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "bulla", &mut script);
        output::stdout(&script)?;
        Ok(Answer::Yes)
    }
}
