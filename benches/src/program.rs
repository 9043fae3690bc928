//! What the benchmarks have in common as programs: they measure, say what they are at, and print.

use std::{
    io::{self, StdoutLock, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};

/// Measures, prints, and gives the exit code; 2 when it could not be measured.
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
    // The harness blocks, which is no harm here: beside this future only the client's own tasks run, and
    // those have threads of their own.
    let report = runtime.block_on(measure)?;
    match write(&report, &mut io::stdout().lock()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says on standard error what is being done.
pub(crate) fn progress(what: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", what.as_ref());
}

/// More digits than these would only be noise.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}
