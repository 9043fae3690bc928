//! Files that a command changes: each is replaced as a whole or not at all, and trouble with one does not stop the
//! others.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::files::walk::{FileOutcome, FoundFile, OpenFile};
use crate::files::write;
use crate::manifest::ManifestFile;
use crate::report::diagnostic::{self, Diagnostic};
use crate::report::failure::{Answer, Failure};
use crate::report::output::{self, Label};
use crate::report::progress::Progress;
use crate::signals::HeldSignals;

/// A file that was read, what is wrong in it, and its new content.
#[derive(Default)]
pub(crate) struct FileDraft {
    pub(crate) path: PathBuf,
    /// Its name, for messages.
    pub(crate) name: String,
    pub(crate) manifests: Option<ManifestFile>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Objects and documents of other kinds.
    pub(crate) others: usize,
    /// The new content, when it may be written.
    pub(crate) new: Option<Zeroizing<Vec<u8>>>,
}

impl FileDraft {
    /// A file that was found, and its objects if it has any of interest.
    pub(crate) fn of(found: &FoundFile, outcome: FileOutcome) -> (Self, Option<OpenFile>) {
        let name = found.path.display().to_string();
        let mut draft = Self { path: found.path.clone(), name, ..Self::default() };
        let open = outcome.opened(&mut draft.diagnostics);
        (draft, open)
    }

    pub(crate) fn trouble(&mut self, trouble: impl Into<Failure>) {
        self.diagnostics.push(Diagnostic::of(&self.name, trouble));
    }

    /// Whether something is wrong, so that the file stays.
    pub(crate) fn is_refused(&self) -> bool {
        !self.diagnostics.is_empty()
    }
}

/// Replaces the files that have new content, and returns whether one could not be written. A signal stops it between
/// two files.
pub(crate) fn replace_all<'a>(files: impl IntoIterator<Item = &'a mut FileDraft>) -> bool {
    let files: Vec<_> = files.into_iter().filter(|file| file.new.is_some()).collect();
    let mut is_unable = false;
    let mut written = Vec::new();
    let progress = Progress::new("writing", files.len());
    let signals = HeldSignals::new();
    for file in files {
        if signals.is_received() {
            break;
        }
        let Some(new) = file.new.take() else { continue };
        let old = file.manifests.as_ref().map(ManifestFile::bytes).unwrap_or_default();
        let replaced = write::replace_if_unchanged(&file.path, &old, &new);
        is_unable |= replaced.is_err();
        match replaced.map_err(Failure::from).and_then(|done| done.or_failure(&file.path)) {
            Ok(()) => {
                file.new = Some(new);
                written.push(file.path.as_path());
            }
            Err(failure) => file.trouble(failure),
        }
        progress.step();
    }
    drop(progress);
    if let Err(error) = write::sync_folders_of(written) {
        is_unable = true;
        output::stderr(&Label::Error.line(&format!("{error:#}")));
    }
    signals.deliver();
    is_unable
}

/// Prints what is wrong in the files, and returns the answer for all of them.
pub(crate) fn report<'a>(
    files: impl IntoIterator<Item = &'a FileDraft>,
    is_unable: bool,
) -> Answer {
    let diagnostics: Vec<_> =
        files.into_iter().flat_map(|file| &file.diagnostics).cloned().collect();
    diagnostic::report(&diagnostics);
    if is_unable {
        Answer::Unable
    } else if diagnostics.is_empty() {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// `, 2 files unchanged`, or nothing if no file was refused.
pub(crate) fn files_left<'a>(files: impl IntoIterator<Item = &'a FileDraft>) -> String {
    match files.into_iter().filter(|file| file.is_refused()).count() {
        0 => String::new(),
        count => format!(", {} unchanged", output::count(count, "file")),
    }
}
