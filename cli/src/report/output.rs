//! What a command writes to stdout, and messages on stderr beside it: with colours where they are enabled, and silent
//! with --quiet.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::Args;

use crate::report::escape;

/// Whether notes, warnings and summaries are suppressed. Like the choice of colours it is global, because messages
/// come from everywhere.
static QUIET: AtomicBool = AtomicBool::new(false);

/// How all commands print messages.
#[derive(Args)]
pub(crate) struct MessageFlags {
    /// When to use colors; auto also follows NO_COLOR and CLICOLOR_FORCE
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: clap::ColorChoice,

    /// Print errors only: no notes, warnings, summaries or progress
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl MessageFlags {
    /// Applies them from now on.
    pub(crate) fn apply(&self) {
        choice_of(self.color).write_global();
        QUIET.store(self.quiet, Ordering::Relaxed);
    }

    /// The colours alone, from a command line that was not understood, or that asks for help.
    pub(crate) fn apply_color_of<'a>(args: impl IntoIterator<Item = &'a str>) {
        let mut args = args.into_iter().take_while(|arg| *arg != "--");
        while let Some(arg) = args.next() {
            let value = match arg.strip_prefix("--color") {
                Some("") => args.next(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            if let Some(Ok(color)) = value.map(str::parse) {
                choice_of(color).write_global();
            }
        }
    }
}

fn choice_of(color: clap::ColorChoice) -> ColorChoice {
    match color {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    }
}

/// Whether notes, warnings, summaries and progress are suppressed.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// The word that a message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Error,
    Warning,
    Note,
    Hint,
}

impl Label {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Hint => "hint",
        }
    }

    pub(crate) fn style(self) -> Style {
        let color = match self {
            Self::Error => AnsiColor::Red,
            Self::Warning => AnsiColor::Yellow,
            Self::Note => AnsiColor::Cyan,
            Self::Hint => AnsiColor::Green,
        };
        color.on_default().bold()
    }

    /// One line: the label, and the text, which is escaped.
    pub(crate) fn line(self, text: &str) -> String {
        format!("{}: {}\n", styled(self.style(), self.as_str()), escape::line(text))
    }
}

/// `text`, which is not escaped here, in a style. Where colours are disabled, [`stderr`] and [`text`] remove them.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes a message to stderr. If that fails, there is no other place to report it.
pub(crate) fn stderr(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}

pub(crate) fn note(text: &str) {
    tell(&Label::Note.line(text));
}

/// Prints a warning about something that is likely not intended.
pub(crate) fn warning(text: &str) {
    tell(&Label::Warning.line(text));
}

/// Prints what was done, in one line or several.
pub(crate) fn summary(text: &str) {
    tell(&escape::lines(text));
}

fn tell(text: &str) {
    if !is_quiet() {
        stderr(text);
    }
}

/// Writes data to stdout. A closed pipe is not an error.
pub(crate) fn stdout(data: &[u8]) -> Result<()> {
    write_to(io::stdout().lock(), data)
}

/// Writes a text for people to stdout, which may be styled.
pub(crate) fn text(text: &str) -> Result<()> {
    write_to(anstream::stdout().lock(), text.as_bytes())
}

fn write_to(mut stdout: impl Write, data: &[u8]) -> Result<()> {
    match stdout.write_all(data).and_then(|()| stdout.flush()) {
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
