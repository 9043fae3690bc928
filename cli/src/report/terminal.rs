//! Questions to a person at the terminal. They go to the terminal itself, so that stdin and stdout stay for data.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;

use age::secrecy::SecretString;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use zeroize::Zeroizing;

use crate::files::input;
use crate::report::failure::{Failure, OrHint};
use crate::report::{escape, output};

/// What to do when nobody can type a passphrase.
const USE_A_FILE: &str = "without a terminal, pass --passphrase-file FILE";

/// Whether to ask for confirmation.
#[derive(Args)]
pub(crate) struct Consent {
    /// Skip the confirmation prompt
    #[arg(short, long, help_heading = None::<&str>)]
    yes: bool,
}

impl Consent {
    /// Asks, unless the answer was given already. Anything but yes ends the command.
    pub(crate) fn ask(&self, question: &str) -> Result<(), Failure> {
        if self.yes { Ok(()) } else { agree(question, "without a terminal, pass --yes") }
    }
}

/// Asks. Anything but yes ends the command; the hint says how to agree when nobody can be asked.
pub(crate) fn agree(question: &str, otherwise: &str) -> Result<(), Failure> {
    if !is_attended() {
        return Err(anyhow!("not a terminal, cannot confirm: {}", escape::line(question)))
            .or_hint(otherwise);
    }
    output::stderr(&format!("{} [y/N] ", escape::line(question)));
    let mut answer = String::new();
    terminal()
        .and_then(|mut terminal| terminal.read_line(&mut answer))
        .context("cannot read from the terminal")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::no(anyhow!("not confirmed, so nothing was done"))),
    }
}

/// Where passphrases come from.
#[derive(Args)]
#[command(next_help_heading = "Identities")]
pub(crate) struct PassphraseFlags {
    /// Read the passphrase from the first line of FILE instead of the terminal
    #[arg(long, value_name = "FILE", env = "BULLA_PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseFlags {
    /// The passphrase that the file of this name was encrypted with.
    pub(crate) fn of(&self, name: &str) -> Result<SecretString, Failure> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None => ask_unseen(&format!("Passphrase of {}: ", escape::line(name))),
        }
    }

    /// A passphrase to encrypt files with; it is typed twice.
    pub(crate) fn chosen(&self) -> Result<SecretString, Failure> {
        use age::secrecy::ExposeSecret;
        if let Some(passphrase) = self.given()? {
            return Ok(passphrase);
        }
        let passphrase = ask_unseen("New passphrase: ")?;
        let again = ask_unseen("Repeat the passphrase: ")?;
        if passphrase.expose_secret() == again.expose_secret() {
            Ok(passphrase)
        } else {
            Err(Failure::unable(anyhow!("the two passphrases differ")))
        }
    }

    fn given(&self) -> anyhow::Result<Option<SecretString>> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        let file = input::read(path)?;
        let Ok(text) = str::from_utf8(&file.bytes) else {
            bail!("{}: not a text file, so it has no passphrase", file.name);
        };
        match text.lines().next().unwrap_or_default() {
            "" => bail!("{}: the first line, which holds the passphrase, is empty", file.name),
            line => Ok(Some(line.to_owned().into())),
        }
    }
}

/// A terminal that shows nothing of what is typed. What is left of a paste is thrown away at the end: the shell would
/// run it, and keep it in its history.
struct Silence {
    #[cfg(unix)]
    terminal: Option<(File, rustix::termios::Termios)>,
}

#[cfg(unix)]
impl Silence {
    /// How long a terminal takes to pass on the rest of a paste.
    const PASTE_TIME: rustix::time::Timespec =
        rustix::time::Timespec { tv_sec: 0, tv_nsec: 150_000_000 };

    fn new() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let silent = || {
            let file = File::options().read(true).write(true).open("/dev/tty").ok()?;
            let before = tcgetattr(&file).ok()?;
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&file, OptionalActions::Now, &modes).ok()?;
            Some((file, before))
        };
        Self { terminal: silent() }
    }

    /// Whether more than an empty line follows.
    fn is_more_pasted(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, poll};
        let Some((file, _)) = &self.terminal else { return false };
        let mut is_more = false;
        let mut rest = Zeroizing::new([0; 1024]);
        while poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&Self::PASTE_TIME))
            .is_ok_and(|ready| ready > 0)
        {
            match rustix::io::read(file, &mut rest[..]) {
                Ok(0) | Err(_) => break,
                Ok(read) => is_more |= !rest[..read].trim_ascii().is_empty(),
            }
        }
        is_more
    }
}

#[cfg(unix)]
impl Drop for Silence {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        if let Some((file, before)) = &self.terminal {
            // It also discards what was not read, such as a line without its end.
            let _ = tcsetattr(file, OptionalActions::Flush, before);
        }
    }
}

#[cfg(not(unix))]
impl Silence {
    fn new() -> Self {
        Self {}
    }

    fn is_more_pasted(&self) -> bool {
        false
    }
}

fn ask_unseen(prompt: &str) -> Result<SecretString, Failure> {
    if !is_attended() {
        return Err(anyhow!("cannot ask for the passphrase without a terminal"))
            .or_hint(USE_A_FILE);
    }
    let silence = Silence::new();
    let typed = rpassword::prompt_password(prompt).context("cannot read from the terminal");
    let mut typed = Zeroizing::new(typed.or_hint(USE_A_FILE)?);
    if silence.is_more_pasted() {
        return Err(anyhow!("several lines were pasted, and a passphrase is one line"))
            .or_hint(USE_A_FILE);
    }
    if typed.is_empty() {
        Err(Failure::unable(anyhow!("the passphrase is empty")))
    } else {
        Ok(std::mem::take(&mut *typed).into())
    }
}

/// A value to seal, typed on one line and not shown. The terminal is used, whatever stdin and stdout are.
pub(crate) fn ask_value(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let prompt = format!("{} (not shown): ", escape::line(what));
    let silence = Silence::new();
    let typed = rpassword::prompt_password(prompt).context("cannot read from the terminal");
    let typed = typed
        .or_hint("without a terminal, pass the value in a file, on stdin or in the environment")?;
    let typed = Zeroizing::new(typed.into_bytes());
    if silence.is_more_pasted() {
        return Err(anyhow!(
            "several lines were pasted, and the prompt takes one; nothing was sealed"
        ))
        .or_hint("put a value of several lines in a file, and pass --from-file");
    }
    Ok(typed)
}

/// Whether someone can see a question.
fn is_attended() -> bool {
    io::stderr().is_terminal()
}

fn terminal() -> io::Result<BufReader<File>> {
    let name = if cfg!(windows) { "CONIN$" } else { "/dev/tty" };
    Ok(BufReader::new(File::open(name)?))
}
