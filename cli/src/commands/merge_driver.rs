//! `bulla merge-driver`.

mod appended;
mod decide;
mod merge;
#[cfg(test)]
mod properties;
mod text;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use zeroize::Zeroizing;

use crate::commands::merge_driver::merge::{Conflict, merge};
use crate::commands::merge_driver::text::ConflictStyle;
use crate::files::write::{self, Existing, Visibility};
use crate::files::{git, input};
use crate::report::diagnostic::{self, Diagnostic};
use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// Merge two versions of a manifest value by value, as a Git merge driver
///
/// Takes the values that each side changed. If one side changed a value and the other rekeyed it, the changed one
/// is taken, with a note that it has the older recipients. Values that both sides changed are left between conflict
/// markers. Everything else is merged as text, as Git does it, and so is a file that is not a manifest. The result
/// is written to OURS. No key is needed.
///
/// Git runs it if .gitattributes says so and git config merge.bulla.driver is 'bulla merge-driver --marker-size %L
/// %O %A %B %P'. The exit code is 1 if there are conflicts.
#[derive(Args)]
pub(crate) struct MergeDriver {
    /// The common ancestor, %O; may be empty
    base: PathBuf,

    /// Our version, %A, which receives the result
    ours: PathBuf,

    /// Their version, %B
    theirs: PathBuf,

    /// The name of the file in the repository, %P, for messages
    path: Option<PathBuf>,

    /// The length of conflict markers, %L
    #[arg(long, value_name = "NUMBER", default_value_t = 7)]
    marker_size: u8,
}

impl MergeDriver {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let name = self.path.as_ref().unwrap_or(&self.ours).display().to_string();
        let [base, ours, theirs] =
            [&self.base, &self.ours, &self.theirs].map(|path| read_text(path, &name));
        let (base, ours, theirs) = (base?, ours?, theirs?);
        let marker_size = usize::from(self.marker_size.max(1));
        let style = ConflictStyle { marker_size, shows_base: git::conflicts_show_base() };
        let merged = merge([&base, &ours, &theirs], &style);
        if *merged.text != *ours {
            let bytes = merged.text.as_bytes();
            write::file(&self.ours, bytes, Existing::Replace, Visibility::Public)?;
        }
        for note in &merged.notes {
            output::note(&format!("{name}: {note}"));
        }
        let conflicts: Vec<_> =
            merged.conflicts.iter().map(|conflict| told(&name, conflict)).collect();
        diagnostic::report(&conflicts);
        if conflicts.is_empty() { Ok(Answer::Yes) } else { Ok(Answer::No) }
    }
}

/// A version as text. A version that is not text cannot be merged, and is unchanged.
fn read_text(path: &Path, name: &str) -> Result<Zeroizing<String>, Failure> {
    let bytes = input::read(path)?.bytes;
    let text = str::from_utf8(&bytes).map_err(|_| {
        let error = anyhow!("{name}: one of the versions is not text, so nothing was merged");
        Failure::no(error).hint("keep one side: git checkout --ours, or --theirs")
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn told(name: &str, conflict: &Conflict) -> Diagnostic {
    let hint = "keep one of the two between the conflict markers, then git add the file";
    Diagnostic::of(name, Failure::no(anyhow!("{name}: {conflict}")).hint(hint))
}
