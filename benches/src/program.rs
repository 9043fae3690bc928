//! The common parts of the benchmark programs: measure, show progress, print.

use std::{
    io::{self, StdoutLock, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};

/// Measures and prints. Returns the exit code, which is 2 if the measurement failed.
pub(crate) fn run<R>(
    measure: impl Future<Output = Result<R>>,
    write: impl FnOnce(&R, &mut StdoutLock<'_>) -> io::Result<()>,
) -> ExitCode {
    match measured(measure, write) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn measured<R>(
    measure: impl Future<Output = Result<R>>,
    write: impl FnOnce(&R, &mut StdoutLock<'_>) -> io::Result<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    // The harness blocks the thread, which is fine here. Only the client's tasks run beside this future, and they
    // have their own threads.
    let report = runtime.block_on(measure)?;
    match write(&report, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a line of progress to standard error.
pub(crate) fn progress(what: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", what.as_ref());
}

/// Rounded, because more digits would only be noise.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}
