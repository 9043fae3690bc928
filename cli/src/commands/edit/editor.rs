//! The person's editor: which program it is, the flags that stop it from leaving copies, and waiting for it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, anyhow};

use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// The editor that POSIX systems have.
const DEFAULT: &str = "vi";

const NAME_ONE: &str = "set VISUAL or EDITOR, or pass --editor";

/// An editor with its arguments, before the name of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Editor {
    program: String,
    arguments: Vec<String>,
}

/// How the editor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With exit code 0: the person is done.
    Well,
    /// With another exit code.
    Badly(i32),
    /// By a signal, sent to the editor or passed on to it.
    Signalled(i32),
}

impl Editor {
    /// Splits the editor command as a shell would.
    pub(super) fn parse(command: Option<&str>) -> Result<Self, Failure> {
        let command = command.filter(|command| !command.trim().is_empty()).unwrap_or(DEFAULT);
        let mut words = shlex::split(command)
            .ok_or_else(|| anyhow!("the editor command has an unclosed quote"))
            .or_hint(NAME_ONE)?
            .into_iter();
        // A command that is only a shell comment has no words.
        let program = words.next().context("the editor command is empty").or_hint(NAME_ONE)?;
        let kind = EditorKind::of(&program);
        let words: Vec<_> = words.collect();
        if kind == EditorKind::KeepsHistory {
            output::warning(
                "this editor keeps a plaintext history of saved files on disk: \
                 turn its local history off, or use another editor",
            );
        }
        let waits = words.iter().any(|word| WAIT_FLAGS.contains(&word.as_str()));
        let wait = wait_flag(&program).filter(|_| !waits);
        let flags = wait.iter().chain(kind.flags()).map(|flag| (*flag).to_owned());
        Ok(Self { program, arguments: words.into_iter().chain(flags).collect() })
    }

    /// Opens the file and waits until the editor ends. While it runs, SIGINT and SIGQUIT are left to the editor.
    pub(super) fn edit(&self, file: &Path) -> Result<Ended, Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(file);
        run(&mut command)
            .with_context(|| format!("could not run {}", self.program))
            .or_hint(NAME_ONE)
    }
}

/// Flags with which a program with a window waits until the file is closed.
const WAIT_FLAGS: [&str; 7] = ["--wait", "-w", "-W", "--block", "-b", "--nofork", "-f"];

/// The flag with which an editor waits, if it does not wait by itself.
fn wait_flag(program: &str) -> Option<&'static str> {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is = |names: &[&str]| names.iter().any(|known| is_named(&name, known));
    match () {
        () if is(&["code", "code-insiders", "codium", "cursor", "windsurf", "zed"]) => {
            Some("--wait")
        }
        () if is(&["subl", "mate", "atom", "bbedit", "gedit", "gnome-text-editor", "pulsar"]) => {
            Some("--wait")
        }
        () if is(&["kate", "kwrite"]) => Some("--block"),
        () if is(&["gvim", "mvim"]) => Some("-f"),
        () => None,
    }
}

/// Kinds of editors, by the copies that they would leave elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EditorKind {
    Vim,
    Emacs,
    /// It keeps copies in a local history, and no flag turns that off.
    KeepsHistory,
    /// Any copies that it leaves beside the file are removed with the folder.
    Other,
}

impl EditorKind {
    /// From the name of the program itself: `vi` is often a link to another editor.
    fn of(program: &str) -> Self {
        let real = found(program).unwrap_or_else(|| program.into());
        let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is = |names: &[&str]| names.iter().any(|known| is_named(&name, known));
        match () {
            () if is(&["vim", "nvim", "gvim", "mvim"]) => Self::Vim,
            () if is(&["emacs"]) => Self::Emacs,
            () if is(&["code", "code-insiders", "codium", "cursor"]) => Self::KeepsHistory,
            () => Self::Other,
        }
    }

    /// Flags that turn off swap files, backups, undo files and saved registers. Each takes effect after the
    /// person's own settings.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Vim => &[
                "-n",
                "-i",
                "NONE",
                "-c",
                "silent! set noswapfile nobackup nowritebackup noundofile",
            ],
            Self::Emacs => &[
                "--eval",
                "(setq make-backup-files nil auto-save-default nil create-lockfiles nil)",
            ],
            Self::KeepsHistory | Self::Other => &[],
        }
    }
}

/// `vim`, `vim.basic`, `emacs-gtk`, `emacs-28.2`, `code.cmd`; but not `vimdiff`.
fn is_named(name: &str, known: &str) -> bool {
    name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}

/// The path of the program with this name, with all links resolved.
fn found(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 {
        return path.canonicalize().ok();
    }
    let folders: OsString = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).find_map(|folder| folder.join(path).canonicalize().ok())
}

#[cfg(unix)]
fn run(command: &mut Command) -> io::Result<Ended> {
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::Signals;

    // Registered before the editor starts, so that its end is not missed.
    let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let mut child = command.spawn()?;
    for signal in signals.forever() {
        match signal {
            SIGCHLD => {
                if let Some(status) = child.try_wait()? {
                    return Ok(ended(status));
                }
            }
            // A request to end this process is a request to end the editor.
            SIGHUP | SIGTERM => {
                end(&mut child, signal)?;
                return Ok(Ended::Signalled(signal));
            }
            // The terminal sends these signals to the editor too, and the editor decides what to do.
            _ => {}
        }
    }
    Ok(ended(child.wait()?))
}

fn ended(status: ExitStatus) -> Ended {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    match (status.code(), signal) {
        (Some(0), _) => Ended::Well,
        (Some(code), _) => Ended::Badly(code),
        (None, signal) => Ended::Signalled(signal.unwrap_or_default()),
    }
}

/// Passes the signal on, and kills the editor if it does not end: a file that is still open cannot be wiped safely.
#[cfg(unix)]
fn end(child: &mut Child, signal: i32) -> io::Result<()> {
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    const PATIENCE: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + PATIENCE;
    if let (Some(pid), Some(signal)) =
        (Pid::from_raw(child.id().cast_signed()), Signal::from_named_raw(signal))
    {
        let _ = kill_process(pid, signal);
    }
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

#[cfg(not(unix))]
fn run(command: &mut Command) -> io::Result<Ended> {
    let status = command.spawn().and_then(|mut child: Child| child.wait())?;
    Ok(ended(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(command: &str) -> (String, Vec<String>) {
        let Editor { program, arguments } = Editor::parse(Some(command)).unwrap();
        (program, arguments)
    }

    #[test]
    fn a_command_is_split_as_a_shell_splits_it() {
        let (program, arguments) = parsed(r#"'/opt/my editor/ed' -a "b c" d\ e"#);
        assert_eq!(program, "/opt/my editor/ed");
        assert_eq!(arguments, ["-a", "b c", "d e"]);
        assert!(Editor::parse(Some("vim 'x")).is_err());
        assert!(Editor::parse(Some("''")).is_ok_and(|editor| editor.program.is_empty()));
        for none in [None, Some(""), Some("  ")] {
            assert_eq!(Editor::parse(none).unwrap().program, "vi");
        }
    }

    #[test]
    fn known_editors_are_told_to_leave_no_copies() {
        for (program, kind) in [
            ("/nowhere/vim", EditorKind::Vim),
            ("/nowhere/vim.basic", EditorKind::Vim),
            ("nvim", EditorKind::Vim),
            ("/nowhere/emacs-28.2", EditorKind::Emacs),
            ("/nowhere/code", EditorKind::KeepsHistory),
            ("/nowhere/vimdiff", EditorKind::Other),
            ("/nowhere/emacsclient", EditorKind::Other),
            ("/nowhere/ed", EditorKind::Other),
        ] {
            assert_eq!(EditorKind::of(program), kind, "{program}");
        }
        let (_, arguments) = parsed("/nowhere/vim -O");
        assert_eq!(arguments[..4], ["-O", "-n", "-i", "NONE"]);
        assert_eq!(parsed("/nowhere/ed"), ("/nowhere/ed".into(), Vec::new()));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_an_editor_counts_as_that_editor() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vim.tiny"), "").unwrap();
        std::os::unix::fs::symlink("vim.tiny", folder.path().join("vi")).unwrap();
        assert_eq!(EditorKind::of(folder.path().join("vi").to_str().unwrap()), EditorKind::Vim);
    }
}
