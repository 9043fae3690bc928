//! `bulla completions`.

use anyhow::anyhow;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_complete::env::Shells;

use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// Print a completion script for your shell
///
/// With --dynamic the script asks bulla itself, and so also completes data keys in the named file, environments and
/// fingerprints in bulla.yaml, and kubeconfig contexts. Without it, the script is self-contained and completes
/// commands and flags.
///
/// bash: echo 'source <(bulla completions --dynamic bash)' >> ~/.bashrc
///
/// zsh: echo 'source <(bulla completions --dynamic zsh)' >> ~/.zshrc
///
/// fish: bulla completions --dynamic fish > ~/.config/fish/completions/bulla.fish
///
/// powershell: bulla completions --dynamic powershell >> $PROFILE
///
/// elvish: echo 'eval (bulla completions --dynamic elvish | slurp)' >> ~/.config/elvish/rc.elv
///
/// kubectl bulla: ln -s "$(command -v bulla)" ~/.local/bin/kubectl_complete-bulla, in any folder of your PATH
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,

    /// Let the script ask bulla for names in your files and kubeconfig
    #[arg(long)]
    dynamic: bool,
}

impl Completions {
    pub(crate) fn run(&self, command_line: Command) -> Result<Answer, Failure> {
        let mut script = Vec::new();
        if self.dynamic {
            self.registration(&mut script)?;
        } else {
            let mut command_line = command_line.bin_name("bulla");
            clap_complete::generate(self.shell, &mut command_line, "bulla", &mut script);
        }
        output::stdout(&script)?;
        Ok(Answer::Yes)
    }

    fn registration(&self, script: &mut Vec<u8>) -> Result<(), Failure> {
        let shell = self.shell.to_string();
        let shells = Shells::builtins();
        let completer = shells.completer(&shell);
        let completer = completer.ok_or_else(|| anyhow!("{shell} has no dynamic completion"))?;
        completer
            .write_registration("COMPLETE", "bulla", "bulla", "bulla", script)
            .map_err(|error| anyhow!(error).context("cannot write the script").into())
    }
}
