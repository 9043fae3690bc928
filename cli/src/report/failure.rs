//! How a command ends: an answer, or a failure with its kind and a hint.

use std::fmt;
use std::process::ExitCode;

use crate::report::output::Label;
use crate::report::{escape, output};

/// How a command that did its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, and nothing is wrong.
    Yes,
    /// Done, and the answer is "no", which is already printed.
    No,
    /// The command line was not understood; the error is already printed.
    NotUnderstood,
    /// Not all of it could be done; the errors are already printed.
    Unable,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Yes => Self::SUCCESS,
            Answer::No => Self::from(1),
            Answer::NotUnderstood | Answer::Unable => Self::from(2),
        }
    }
}

/// Why a command gave up, and what its user can do.
///
/// No error in here may carry plaintext, key material or input that failed to parse.
#[derive(Debug)]
pub(crate) struct Failure {
    /// It decides the exit code.
    answer: Answer,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// The answer is "no".
    pub(crate) fn no(error: impl Into<anyhow::Error>) -> Self {
        Self { answer: Answer::No, error: error.into(), hint: None }
    }

    /// It could not be done.
    pub(crate) fn unable(error: impl Into<anyhow::Error>) -> Self {
        Self { answer: Answer::Unable, error: error.into(), hint: None }
    }

    /// An identity was passed where the shell history and the process list show it.
    pub(crate) fn identity_in_arguments() -> Self {
        Self::unable(anyhow::anyhow!("an identity was passed as an argument")).hint(
            "pass it in a file: -i FILE. This identity is in the shell's history now: renew it",
        )
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds what to do, if anything.
    pub(crate) fn maybe_hint(self, hint: Option<impl fmt::Display>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Adds what it means here; the old message becomes the cause.
    pub(crate) fn context(self, context: &'static str) -> Self {
        Self { error: self.error.context(context), ..self }
    }

    /// The error, for a caller that looks for one of its own.
    pub(crate) fn error(&self) -> &anyhow::Error {
        &self.error
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message with its causes, and the hint: for one of several troubles.
    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        (format!("{:#}", self.error), self.hint)
    }

    /// Prints one line, then the causes, then the hint.
    pub(crate) fn report(&self) -> ExitCode {
        let mut causes = self.error.chain().map(ToString::to_string);
        let mut text = Label::Error.line(&causes.next().unwrap_or_default());
        text.extend(causes.map(|cause| format!("  caused by: {}\n", escape::line(&cause))));
        text.extend(self.hint.iter().map(|hint| Label::Hint.line(hint)));
        output::stderr(&text);
        self.answer.into()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::unable(error)
    }
}

pub(crate) trait OrHint<T> {
    /// Adds what to do when it fails.
    fn or_hint(self, hint: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> OrHint<T> for Result<T, E> {
    fn or_hint(self, hint: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| error.into().hint(hint))
    }
}
