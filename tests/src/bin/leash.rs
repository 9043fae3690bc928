//! `leash --remove DIR --log FILE --grace-millis N -- COMMAND ARGS…` runs a command that ends when its
//! holder does.
//!
//! The holder is the process that starts the leash and has the other end of its standard input. That end closes when
//! the holder closes it, panics or is killed. The command then gets SIGTERM, after the grace period SIGKILL, and DIR is
//! removed. So nothing stays behind, and the holder needs neither `Drop` nor a signal handler.
//!
//! * The only line on standard output is the command's process id. The command's output goes to FILE.
//! * A line on standard input that names a signal (`KILL`) sends it to the command.
//! * SIGINT, SIGTERM and SIGHUP to the leash have the same effect as the end of standard input.
//! * Leashes may share DIR. Each keeps a shared lock on it while it runs, as may the holder. The last one to
//!   end removes it.
//! * The exit code is the command's, or 128 plus the number of the signal that ended it.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// A client that is still running may write into the folder while it is removed.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // The holder shows this line, so it has no backtrace, even if the environment asks for one.
        let _ = writeln!(io::stderr(), "{error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let order = Order::parse(env::args_os().skip(1))?;
    // Declared before the command and therefore dropped after it.
    let _shared = SharedFolder::enter(order.remove)?;
    let (events, inbox) = mpsc::channel();
    // Before the command starts, so that its end cannot be missed.
    forward_signals(events.clone())?;

    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&order.log)
        .with_context(|| format!("cannot open {}", order.log.display()))?;
    let mut child = Command::new(&order.program)
        .args(&order.args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", order.program.display()))?;
    // If the holder has already ended, standard input ends too.
    let _ = writeln!(io::stdout(), "{}", child.id());
    forward_input(events);

    let status = supervise(&mut child, &inbox, order.grace)?;
    Ok(ExitCode::from(exit_code(status)))
}

struct Order {
    remove: PathBuf,
    log: PathBuf,
    grace: Duration,
    program: OsString,
    args: Vec<OsString>,
}

impl Order {
    /// Accepts only this order of arguments, because people do not call this program.
    fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut value_of = |flag: &str| {
            let found = words.next().is_some_and(|word| word == flag);
            found
                .then(|| words.next())
                .flatten()
                .with_context(|| format!("expected {flag} in its position"))
        };
        let remove = value_of("--remove")?.into();
        let log = value_of("--log")?.into();
        let grace = value_of("--grace-millis")?;
        let grace = Duration::from_millis(grace.to_str().context("not Unicode")?.parse()?);
        let program = value_of("--")?;
        Ok(Self { remove, log, grace, program, args: words.collect() })
    }
}

enum Event {
    /// Something may have happened to the command.
    Child,
    /// The holder asks for this signal to the command.
    Send(Signal),
    /// The holder has closed standard input or has ended.
    LetGo,
}

fn forward_signals(events: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let event = if signal == SIGCHLD { Event::Child } else { Event::LetGo };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn forward_input(events: Sender<Event>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let signal = match line.as_str() {
                "TERM" => Signal::TERM,
                "KILL" => Signal::KILL,
                "STOP" => Signal::STOP,
                "CONT" => Signal::CONT,
                _ => continue,
            };
            if events.send(Event::Send(signal)).is_err() {
                return;
            }
        }
        let _ = events.send(Event::LetGo);
    });
}

/// Runs until the command has ended. Only this function waits for it, so its process id cannot belong to another
/// process.
fn supervise(child: &mut Child, inbox: &Receiver<Event>, grace: Duration) -> Result<ExitStatus> {
    let pid = Pid::from_child(child);
    let mut kill_at: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let event = match kill_at {
            None => inbox.recv().map_err(RecvTimeoutError::from),
            Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Child) => {}
            Ok(Event::Send(signal)) => kill_process(pid, signal)?,
            Ok(Event::LetGo) if kill_at.is_some() => {}
            Ok(Event::LetGo) => {
                kill_process(pid, Signal::TERM)?;
                kill_at = Some(Instant::now() + grace);
            }
            Err(_) => {
                child.kill()?;
                return Ok(child.wait()?);
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// A folder that this leash may have to remove.
struct SharedFolder {
    path: PathBuf,
    folder: File,
}

impl SharedFolder {
    fn enter(path: PathBuf) -> Result<Self> {
        let lock = || -> io::Result<File> {
            let folder = File::open(&path)?;
            folder.lock_shared()?;
            Ok(folder)
        };
        let folder = lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path, folder })
    }
}

impl Drop for SharedFolder {
    fn drop(&mut self) {
        // Released first, so that of two leashes that end together, the later one does not see the lock of the
        // earlier one.
        let alone = self.folder.unlock().is_ok() && self.folder.try_lock().is_ok();
        let deadline = Instant::now() + REMOVAL_DEADLINE;
        while alone && fs::remove_dir_all(&self.path).is_err() {
            if !self.path.exists() || Instant::now() > deadline {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
