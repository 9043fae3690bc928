//! `bulla diff`.

mod compare;
mod markdown;
mod objects;
mod report;
mod sides;
mod textconv;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use crate::commands::diff::compare::compare;
use crate::commands::diff::sides::Sides;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{diagnostic, output};

/// Show how sealed values changed between revisions, with no key
///
/// Compares HEAD with the work tree; with one REF, that revision with the work tree; with two, or REF..REF, those
/// two; with REF...REF, the second with their merge base. As in Git, paths go after --. With --no-index it compares
/// two files or folders, and - is stdin.
///
/// SealedSecrets are matched by namespace and name, whichever file they are in. A value is `changed` if its payload
/// differs, and `rekeyed` if it has the same payload behind a new header. Nothing is opened; of a plaintext Secret
/// only the name is shown. Untracked files count too.
///
/// The exit code is 1 if there are differences.
#[derive(Args)]
pub(crate) struct Diff {
    /// The revisions to compare, or with --no-index two files or folders
    #[arg(value_name = "REF", num_args = 0..=2)]
    revisions: Vec<OsString>,

    /// Compare only these files and folders
    #[arg(value_name = "PATH", last = true)]
    paths: Vec<PathBuf>,

    /// Compare two files or folders without Git; - is stdin
    #[arg(long, conflicts_with_all = ["staged", "paths"])]
    no_index: bool,

    /// Compare with what is staged for the next commit instead of the work tree
    #[arg(long, alias = "cached")]
    staged: bool,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,

    /// Print FILE with a readable line for each sealed value, for git config diff.bulla.textconv
    #[arg(long, value_name = "FILE", exclusive = true)]
    textconv: Option<PathBuf>,
}

/// The format of the differences.
#[derive(Clone, Copy, Default, ValueEnum)]
enum DiffFormat {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
    /// For a comment in a code review
    Markdown,
}

impl Diff {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if let Some(file) = &self.textconv {
            return textconv::run(file);
        }
        let sides = self.sides()?;
        let comparison = compare(&sides)?;
        match self.format {
            DiffFormat::Human => output::text(&report::text(&comparison))?,
            DiffFormat::Json => {
                output::stdout(format!("{:#}\n", report::json(&comparison)).as_bytes())?;
            }
            DiffFormat::Markdown => output::stdout(markdown::text(&comparison).as_bytes())?,
        }
        diagnostic::report(&comparison.diagnostics);
        output::summary(&report::summary(&comparison));
        Ok(match (comparison.diagnostics.is_empty(), comparison.objects.is_empty()) {
            (false, _) => Answer::Unable,
            (true, true) => Answer::Yes,
            (true, false) => Answer::No,
        })
    }

    fn sides(&self) -> Result<Sides, Failure> {
        if self.no_index {
            let [old, new] = &self.revisions[..] else {
                return Err(anyhow!("--no-index takes two files or folders"))
                    .or_hint("run bulla diff --no-index OLD NEW");
            };
            return Sides::of_files(old.as_ref(), new.as_ref());
        }
        let revisions: Vec<_> =
            self.revisions.iter().map(|revision| revision.to_string_lossy().into_owned()).collect();
        Sides::of_git(&revisions, self.staged, &self.paths)
    }
}
