//! Child processes that cannot outlive this process.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{Folder, Program, eventually, program};

const GRACE: Duration = Duration::from_secs(5);

/// Longer than any grace period here.
const END_DEADLINE: Duration = Duration::from_secs(20);

const LOG_TAIL_LINES: usize = 30;

/// A running program that ends with this process, however this process ends. Dropping it ends the program and waits.
/// In both cases it gets SIGTERM first, and SIGKILL after its grace period.
///
/// Its output is in [`log`](Self::log) and its standard input is empty. It has its own process group, so that
/// Ctrl-C in a terminal does not reach it before its holder.
#[derive(Debug)]
pub struct Leashed {
    leash: Child,
    pid: u32,
    log: PathBuf,
    log_start: u64,
}

/// A signal that can be sent to a [`Leashed`] program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: ends it, with time to clean up.
    Terminate,
    /// SIGKILL: ends it at once.
    Kill,
    /// SIGSTOP: pauses it.
    Stop,
    /// SIGCONT: continues it.
    Continue,
}

impl Leashed {
    /// Starts the command with its arguments, environment and working folder, but without its redirections. Its
    /// output is appended to `name.log` in `folder`. Its grace period is 5 s.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(command: &Command, folder: &Folder, name: &str) -> Result<Self> {
        Self::spawn_with_grace(command, folder, name, GRACE)
    }

    /// [`spawn`](Self::spawn) with another grace period.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn_with_grace(
        command: &Command,
        folder: &Folder,
        name: &str,
        grace: Duration,
    ) -> Result<Self> {
        let log = folder.path().join(name).with_extension("log");
        let log_start = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let log_file = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut leash = Command::new(program(Program::Leash)?);
        leash.arg("--remove").arg(folder.path()).arg("--log").arg(&log);
        leash.arg("--grace-millis").arg(grace.as_millis().to_string());
        leash.arg("--").arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => leash.env(variable, value),
                None => leash.env_remove(variable),
            };
        }
        if let Some(path) = command.get_current_dir() {
            leash.current_dir(path);
        }
        let leash = leash
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .process_group(0)
            .spawn()
            .context("cannot start a leash")?;

        let mut leashed = Self { leash, pid: 0, log, log_start };
        match leashed.first_line()?.trim().parse() {
            Ok(pid) => leashed.pid = pid,
            Err(_) => {
                let _ = leashed.wait(END_DEADLINE);
                bail!("cannot start {name}: {}", leashed.log_tail());
            }
        }
        Ok(leashed)
    }

    fn first_line(&mut self) -> Result<String> {
        let mut line = String::new();
        let output = self.leash.stdout.take().context("the leash's output is not piped")?;
        BufReader::new(output).read_line(&mut line)?;
        Ok(line)
    }

    /// The program's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with all output of the program.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The output of this run so far.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn printed(&self) -> Result<String> {
        let mut file = fs::File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_start))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The last lines of this run's output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = self.printed().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Sends a signal to the program, and never to another process with the same id.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let word = match signal {
            Signal::Terminate => "TERM",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        let input = self.leash.stdin.as_mut().context("the program is being ended")?;
        writeln!(input, "{word}").context("the program has ended")
    }

    /// The exit status, if it has ended. A program ended by a signal has the code 128 plus the signal's number.
    ///
    /// # Errors
    ///
    /// When the operating system reports an error.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.leash.try_wait()?)
    }

    /// Waits until it has ended. Returns the status as [`try_wait`](Self::try_wait) does.
    ///
    /// # Errors
    ///
    /// When it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        eventually("end of the program", deadline, || {
            self.leash.try_wait()?.ok_or_else(|| anyhow!("it still runs"))
        })
    }

    /// Ends it at once and waits.
    ///
    /// # Errors
    ///
    /// When it still runs much later.
    pub fn kill(mut self) -> Result<()> {
        // It is fine if it has already ended by itself.
        let _ = self.signal(Signal::Kill);
        self.wait(END_DEADLINE).map(drop)
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.wait(END_DEADLINE);
    }
}
