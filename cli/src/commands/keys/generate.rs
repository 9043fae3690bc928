//! `bulla keys generate`.

use std::io::{self, IsTerminal};

use bulla_sealing::Identity;
use clap::Args;
use jiff::{Timestamp, Unit};
use zeroize::Zeroizing;

use crate::command_line::flags::{KeyTypeFlag, OutputFlags};
use crate::files::write::{self, Existing, Visibility};
use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// Generate an identity
///
/// Writes an age identity file, as age-keygen does. With -o, writes a file that only you can read, and prints the
/// recipient to stdout. Without -o, prints the identity to stdout. An existing file is never overwritten.
#[derive(Args)]
pub(crate) struct Generate {
    /// The type of the key
    #[arg(long = "type", value_enum, value_name = "TYPE", default_value_t)]
    key_type: KeyTypeFlag,

    #[command(flatten)]
    output: OutputFlags,

    /// Write the identity even inside a Git work tree
    #[arg(long, help_heading = "Output")]
    force: bool,
}

impl Generate {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let path = self.output.file();
        if let Some(path) = path.filter(|_| !self.force) {
            write::refuse_work_tree(path)?;
        }
        let identity = Identity::generate(self.key_type.into()).map_err(Failure::unable)?;
        let recipient = identity.recipient();
        let file = identity_file(&identity)?;
        match path {
            Some(path) => {
                let existing =
                    Existing::Keep("bulla never overwrites an identity: choose another name");
                write::file(path, file.as_bytes(), existing, Visibility::Secret)?;
                output::stdout(format!("{recipient}\n").as_bytes())?;
            }
            None => {
                output::stdout(file.as_bytes())?;
                // On a terminal, the file just printed shows it.
                if !io::stdout().is_terminal() {
                    output::summary(&format!("public key: {recipient}"));
                }
            }
        }
        Ok(Answer::Yes)
    }
}

fn identity_file(identity: &Identity) -> anyhow::Result<Zeroizing<String>> {
    let created = Timestamp::now().round(Unit::Second)?;
    let recipient = identity.recipient();
    let secret = identity.to_secret_string();
    let mut file =
        Zeroizing::new(String::with_capacity(128 + recipient.as_str().len() + secret.len()));
    file.push_str(&format!("# created: {created}\n# public key: {recipient}\n"));
    file.push_str(&secret);
    file.push('\n');
    Ok(file)
}
