//! What a command writes to stdout and stderr.

mod messages;

use std::io::{self, Write};

use anyhow::{Context, Result};

pub(crate) use self::messages::{
    Label, MessageFlags, is_quiet, note, stderr, styled, summary, warning,
};

/// Writes data to stdout. A closed pipe is not an error.
pub(crate) fn stdout(data: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    to_stdout(stdout.write_all(data).and_then(|()| stdout.flush()))
}

/// Writes a text for people to stdout, which may be styled.
pub(crate) fn text(text: &str) -> Result<()> {
    to_stdout(messages::write_to_stdout(text))
}

fn to_stdout(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// The items of a list, as a sentence names them: `a, b`.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// `; 2 objects of other kinds skipped`, or nothing if there are none.
pub(crate) fn others_skipped(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!("; {} of other kinds skipped", count(others, "object")),
    }
}
