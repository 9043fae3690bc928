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
use crate::commands::diff::sides::{Request, Sides};
use crate::report::failure::{Answer, Failure};
use crate::report::{diagnostic, output};

/// Show what became of sealed values between two revisions, folders or files, with no key
///
/// Compares HEAD with the work tree; with one REF that revision with the work tree; with two, or REF..REF,
/// those; with REF...REF the second with the commit where they parted. As in Git, paths stand behind --.
/// With --no-index two files or folders are compared, and - is stdin.
///
/// SealedSecrets are found by namespace and name, whatever file they stand in. A value is `changed` when it has
/// another payload, and `rekeyed` when it has the same payload behind a new header. Nothing is ever opened; of a
/// Secret in the clear only the name is shown. Files that Git does not track yet count too.
///
/// The exit code is 1 when there are differences.
#[derive(Args)]
pub(crate) struct Diff {
    /// The revisions to compare, or with --no-index the two files or folders
    #[arg(value_name = "REF", num_args = 0..=2)]
    revisions: Vec<OsString>,

    /// Compare only what is in these files and folders
    #[arg(value_name = "PATH", last = true)]
    paths: Vec<PathBuf>,

    /// Compare two files or folders, without Git; - is stdin
    #[arg(long, conflicts_with_all = ["staged", "paths"])]
    no_index: bool,

    /// Compare with what is staged for the next commit, not with the work tree
    #[arg(long, alias = "cached")]
    staged: bool,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: DiffFormat,

    /// Print FILE with a readable line for each sealed value: what git config diff.bulla.textconv runs
    #[arg(long, value_name = "FILE", exclusive = true)]
    textconv: Option<PathBuf>,
}

/// For whom the differences are written.
#[derive(Clone, Copy, Default, ValueEnum)]
enum DiffFormat {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
    /// For a comment in a review
    Markdown,
}

impl Diff {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if let Some(file) = &self.textconv {
            return textconv::run(file);
        }
        let sides = Sides::read(&self.request()?)?;
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

    fn request(&self) -> Result<Request, Failure> {
        if self.no_index {
            let [old, new] = &self.revisions[..] else {
                return Err(Failure::unable(anyhow!("--no-index compares two files or folders"))
                    .hint("bulla diff --no-index OLD NEW"));
            };
            return Request::of_files(old.into(), new.into());
        }
        let revisions: Vec<_> =
            self.revisions.iter().map(|revision| revision.to_string_lossy().into_owned()).collect();
        Request::of_git(&revisions, self.staged, &self.paths)
    }
}
