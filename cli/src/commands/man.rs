//! `bulla man`.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, Command};
use clap_mangen::Man as Page;

use crate::files::write::{self, Existing, Visibility};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;

/// Print a man page, or write all of them to a folder
///
/// To read one: bulla man keys fetch | man -l - To install all: bulla man --out /usr/local/share/man/man1
#[derive(Args)]
pub(crate) struct Man {
    /// The command to describe [default: bulla itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,

    /// Write the pages of all commands to this folder, created if missing
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    out: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, command_line: Command) -> Result<Answer, Failure> {
        let mut root = command_line.bin_name("bulla");
        root.build();
        match &self.out {
            None => output::stdout(&page(self.named(&root)?)?)?,
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make {}", folder.display()))?;
                for command in with_children(&root) {
                    let path = folder.join(format!("{}.1", name_of(command)));
                    write::file(&path, &page(command)?, Existing::Replace, Visibility::Public)?;
                }
            }
        }
        Ok(Answer::Yes)
    }

    fn named<'a>(&self, root: &'a Command) -> Result<&'a Command, Failure> {
        self.command.iter().try_fold(root, |command, name| {
            let names = command.get_subcommands().map(Command::get_name).collect::<Vec<_>>();
            command
                .find_subcommand(name)
                .ok_or_else(|| anyhow!("{} has no command {name}", name_of(command)))
                .or_hint(match names.join(", ") {
                    names if names.is_empty() => "it has none".to_owned(),
                    names => format!("it has: {names}"),
                })
        })
    }
}

/// A command and those below it.
fn with_children(command: &Command) -> Vec<&Command> {
    let children = command.get_subcommands().filter(|child| !child.is_hide_set());
    std::iter::once(command).chain(children.flat_map(with_children)).collect()
}

/// As in `bulla-keys-fetch`.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let man = Page::new(command.clone())
        .manual("Bulla")
        .source(concat!("bulla ", env!("CARGO_PKG_VERSION")));
    man.render(&mut page).context("cannot write the page")?;
    Ok(page)
}
