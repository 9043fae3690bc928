//! `bulla edit`.
//!
//! Each round writes the text into a folder in memory, waits for the editor, reads the text back, and removes the
//! folder before it does anything else with the text. So plaintext is in files only while the editor runs, and a
//! later failure leaves nothing to clean up.

mod changes;
mod editor;
mod form;
mod scratch;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Args;
use zeroize::Zeroizing;

use self::changes::Changes;
use self::editor::{Editor, Ended};
use self::form::Form;
use self::scratch::{Scratch, Storage};
use crate::command_line::flags::ScopeFlag;
use crate::files::input;
use crate::files::sealed_file::{PickFlags, Picked, SealedFile, Sealer};
use crate::files::write::{self, Replacement};
use crate::manifest;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{output, terminal};
use crate::signals::HeldSignals;
use crate::values::plain_secret::InsistFlags;
use crate::who::destination::DestinationFlags;
use crate::who::identities::IdentityFlags;

pub(crate) use self::scratch::wipe_open;

/// How many times one text is opened in the editor: more than a person needs, and a limit for a script.
/// A person needs longer than this to read the text and leave the editor.
const AT_ONCE: Duration = Duration::from_millis(700);

const NOT_WAITING: &str = "the editor ended at once; if its window is still open, close it without saving, because the file is \
     gone, and pass the flag that makes it wait, such as --editor 'code --wait'";

const MAX_ROUNDS: usize = 50;

/// How many blank lines are between the head of the text and the rest of it.
const BLANK_LINES: usize = 1;

/// How many times to try to apply the changes to a file that someone else keeps changing.
const MAX_ATTEMPTS: usize = 5;

/// Edit a SealedSecret in your editor, with no identity needed
///
/// Opens the SealedSecret as the Secret that it describes, with a placeholder for each sealed value. Leave a
/// placeholder and its value keeps its bytes; replace it and what you typed is sealed. You can add and remove keys
/// and change the type, immutable, labels, annotations and the texts of template.data. With -i the editor shows the
/// values, and unchanged ones keep their bytes. Comments, order and everything else in FILE stay.
///
/// If something is invalid, the editor opens again with the reason at the top. Save it unchanged or empty to
/// cancel.
///
/// The text is kept in a folder in memory ($XDG_RUNTIME_DIR or /dev/shm, if they are tmpfs) that only you can read.
/// It is removed when the editor ends, even after Ctrl-C or SIGTERM. Without such storage, bulla asks first. A
/// SIGKILL leaves a folder bulla-edit-* behind, and memory may be swapped to disk. bulla tells vim, neovim and emacs
/// to keep no copies elsewhere; check other editors yourself.
#[derive(Args)]
pub(crate) struct Edit {
    /// The file with the SealedSecret
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    pick: PickFlags,

    #[command(flatten)]
    identities: IdentityFlags,

    #[command(flatten)]
    destination: DestinationFlags,

    /// Which Secrets may use the new values, each only under its own data key [default: the scope of the other
    /// values, else strict]
    #[arg(long, value_enum, help_heading = "Secret")]
    scope: Option<ScopeFlag>,

    #[command(flatten)]
    insist: InsistFlags,

    /// The editor, with arguments as in a shell [default: $EDITOR, or vi]
    #[arg(long, value_name = "COMMAND", env = "VISUAL", hide_env_values = true, help_heading = None::<&str>)]
    editor: Option<String>,

    #[arg(long, env = "EDITOR", hide = true, hide_env_values = true)]
    editor_without_visual: Option<String>,

    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, hide_env_values = true)]
    runtime_folder: Option<OsString>,

    #[arg(long, default_value = "/dev/shm", hide = true)]
    shared_folder: PathBuf,

    /// Use a folder on disk without asking if no storage in memory is available
    #[arg(long, help_heading = None::<&str>)]
    allow_disk: bool,
}

impl Edit {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.destination.recipients.recipients_files;
        input::refuse_stdin_twice(self.identities.identities.iter().chain(recipients_files))?;
        let is_given = |command: &&String| !command.trim().is_empty();
        let command = self.editor.iter().chain(&self.editor_without_visual).find(is_given);
        let editor = Editor::parse(command.map(String::as_str))?;
        let file = SealedFile::read(&self.file)?;
        let destination = self.destination.resolve(Some(&self.file))?;
        let given = destination.given_namespace(self.pick.namespace.as_deref())?;
        let picked = self.pick.pick(&file)?.in_namespace(given.as_ref())?;
        let sealed_secret = manifest::read_sealed_secret(&picked.object)?;
        let has_identity = !self.identities.identities.is_empty();
        let keyring = has_identity.then(|| self.identities.read()).transpose()?;
        let name = self.file.display().to_string();
        let form = Form::new(&name, &picked, &sealed_secret, keyring.as_ref())?;
        let insisted = self.insist.keys();
        let sealer = Sealer::new(&destination.recipients, self.scope);
        let sealer = Sealer { insisted: &insisted, ..sealer };
        let storage = self.storage()?;
        let signals = HeldSignals::new();
        let desk = Desk { editor, storage, file: &file, picked: &picked, form, sealer };
        let result = desk.rounds(&signals).and_then(|done| match done {
            Some((changes, new)) => self.write(&desk, &changes, &new),
            None => {
                output::summary(&format!("{name}: {}: nothing was changed", picked.object.title()));
                Ok(())
            }
        });
        signals.deliver();
        result.map(|()| Answer::Yes)
    }

    /// Where the text is edited: in memory if possible. Without storage in memory it asks first, as `pass` does. It
    /// does not refuse, because some systems have no such storage and people there would use something less safe.
    fn storage(&self) -> Result<Storage, Failure> {
        let storage = Storage::find(self.runtime_folder.as_deref(), &self.shared_folder);
        if let (Storage::Disk(folder), false) = (&storage, self.allow_disk) {
            let question = format!(
                "There is no in-memory storage here, so what you type would be on disk in {} while you edit. Continue?",
                folder.display()
            );
            terminal::agree(&question, "without a terminal, pass --allow-disk")?;
        }
        Ok(storage)
    }

    /// Replaces the old content with the new. Someone else's changes to other fields stay. If the file cannot be
    /// written, the changes are saved to another file, which is safe because they are sealed by now.
    fn write(
        &self,
        desk: &Desk<'_>,
        changes: &Changes,
        new: &Zeroizing<Vec<u8>>,
    ) -> Result<(), Failure> {
        match self.replace(desk, changes, new) {
            Ok(()) => {
                changes.warn();
                let (name, title) = (self.file.display(), desk.picked.object.title());
                output::summary(&format!("{name}: {title}: {}", changes.summary()));
                Ok(())
            }
            Err(failure) => Err(failure.hint(match changes::keep(new) {
                Ok(path) => format!(
                    "nothing was written; the file with your changes, all values sealed, is in {}: copy it by hand",
                    path.display()
                ),
                Err(_) => "nothing was written, and your changes could not be saved elsewhere".into(),
            })),
        }
    }

    fn replace(&self, desk: &Desk<'_>, changes: &Changes, new: &[u8]) -> Result<(), Failure> {
        let name = self.file.display();
        let mut replaced = write::replace_if_unchanged(&self.file, &desk.file.bytes(), new)?;
        for _ in 1..MAX_ATTEMPTS {
            if replaced == Replacement::Done {
                break;
            }
            let file = SealedFile::read(&self.file)?;
            let picked = self.pick.pick(&file)?;
            let is_it = picked.object.title() == desk.picked.object.title();
            let patches = changes.moved(&desk.picked.object, &picked.object);
            let Some(patches) = patches.filter(|_| is_it) else { break };
            let new = file.patched(&patches)?;
            replaced = write::replace_if_unchanged(&self.file, &file.bytes(), &new)?;
        }
        match replaced {
            Replacement::Done => Ok(write::sync_folders_of([self.file.as_path()])?),
            Replacement::ChangedMeanwhile => {
                Err(anyhow!("{name}: someone else changed the same fields in the meantime").into())
            }
        }
    }
}

/// What each round of editing needs.
struct Desk<'a> {
    editor: Editor,
    storage: Storage,
    file: &'a SealedFile,
    picked: &'a Picked<'a>,
    form: Form<'a>,
    sealer: Sealer<'a>,
}

/// The changes, and the new file with them.
type Done = (Changes, Zeroizing<Vec<u8>>);

impl Desk<'_> {
    /// Opens the editor until the text is valid, or the person gives up.
    fn rounds(&self, signals: &HeldSignals) -> Result<Option<Done>, Failure> {
        let original = self.form.to_text();
        let mut body = Zeroizing::new(original.as_bytes().to_vec());
        let mut refused: Option<Failure> = None;
        for _ in 0..MAX_ROUNDS {
            let head = self.form.head(refused.as_ref());
            let started = Instant::now();
            let typed = self.edit(&head, &body)?;
            signals.forget_interrupt();
            if signals.is_received() {
                return Err(anyhow!("interrupted, so nothing was written").into());
            }
            let typed = form::without_head(&typed);
            if typed.is_empty() {
                return Err(Failure::no(anyhow!("the file was emptied, so nothing was written")));
            }
            if typed == &body[..] {
                if refused.is_none() && started.elapsed() < AT_ONCE {
                    output::warning(NOT_WAITING);
                }
                return refused.map_or(Ok(None), Err);
            }
            let failure = match self.judge(typed, 0) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            // Read it again, so that the line numbers in messages include the head.
            let lines = self.form.head(Some(&failure)).lines().count() + BLANK_LINES;
            refused = self.judge(typed, lines).err();
            body = Zeroizing::new(typed.to_vec());
        }
        Err(refused.unwrap_or_else(|| anyhow!("gave up after {MAX_ROUNDS} rounds").into()))
    }

    /// The changes and the new file, or nothing if nothing changed.
    fn judge(&self, typed: &[u8], lines_before: usize) -> Result<Option<Done>, Failure> {
        let edited = self.form.read(typed, lines_before)?;
        let changes = Changes::between(self.picked, &self.form, &edited, self.sealer)?;
        if changes.patches.is_empty() {
            return Ok(None);
        }
        let new = self.file.patched(&changes.patches)?;
        Ok(Some((changes, new)))
    }

    /// One round: returns the text that the editor saved.
    fn edit(&self, head: &str, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let folder = self.storage.folder().display();
        let scratch = Scratch::new(&self.storage, &[head.as_bytes(), b"\n", body])
            .with_context(|| format!("could not create a folder in {folder}"))?;
        let ended = self.editor.edit(&scratch.file());
        let typed = scratch.read();
        let path = scratch.file();
        scratch
            .wipe()
            .with_context(|| format!("could not remove {}", path.display()))
            .or_hint("it may contain plaintext: delete its folder")?;
        let why = match ended? {
            Ended::Well => match typed {
                Ok(typed) => return Ok(typed),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let error = anyhow!(error);
                    return Err(error
                        .context("could not read the edited text, so nothing was written")
                        .into());
                }
                Err(_) => "the editor removed the file".into(),
            },
            Ended::Badly(code) => format!("the editor ended with exit code {code}"),
            Ended::Signalled(signal) => format!("signal {signal} ended the editor"),
        };
        Err(anyhow!("{why}, so nothing was written").into())
    }
}
