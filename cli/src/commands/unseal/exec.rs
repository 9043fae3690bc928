//! `bulla unseal --exec`: a command with the values in its environment, and nowhere else.

use std::ffi::OsString;
use std::io;
use std::process::Command;

use anyhow::anyhow;

use super::variables::Variables;
use crate::core_file;
use crate::report::failure::{Answer, Failure, OrHint};

/// Runs a command and ends this process as the command ends. Returns only if the command could not be started.
pub(super) fn run(command: &[OsString], variables: &Variables<'_>) -> Result<Answer, Failure> {
    let Some((program, args)) = command.split_first() else {
        return Err(anyhow!("no command given")).or_hint("put it after --");
    };
    let mut started = Command::new(program);
    started.args(args);
    for (name, value) in variables {
        let value = value_of(value)
            .ok_or_else(|| anyhow!("{name}: an environment variable cannot hold this value"))
            .or_hint("it is binary: use --key")?;
        started.env(name, value);
    }
    core_file::allow_again();
    let error = become_it(&mut started);
    let program = program.to_string_lossy();
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("no such command: {program}"),
        io::ErrorKind::PermissionDenied => format!("no permission to run {program}"),
        io::ErrorKind::ArgumentListTooLong => {
            format!("{program}: its arguments and environment are larger than the system allows")
        }
        _ => return Err(anyhow!(error).context(format!("cannot run {program}")).into()),
    };
    Err(anyhow!(what).into())
}

#[cfg(unix)]
fn value_of(value: &[u8]) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    (!value.contains(&0)).then(|| OsString::from_vec(value.to_vec()))
}

#[cfg(not(unix))]
fn value_of(value: &[u8]) -> Option<OsString> {
    let text = str::from_utf8(value).ok()?;
    (!text.contains('\0')).then(|| OsString::from(text))
}

/// This process becomes the command: signals, the terminal and the exit code are the command's, and nothing of this
/// program stays in memory.
#[cfg(unix)]
fn become_it(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    command.exec()
}

/// Elsewhere a process cannot become another one, so this one waits. Ctrl-C reaches both, and the command handles it.
#[cfg(not(unix))]
fn become_it(command: &mut Command) -> io::Error {
    let _held = crate::signals::HeldSignals::new();
    let status = command.spawn().and_then(|mut child| child.wait());
    match status {
        Ok(status) => std::process::exit(status.code().unwrap_or(2)),
        Err(error) => error,
    }
}
