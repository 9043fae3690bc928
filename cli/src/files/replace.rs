//! Many files exchanged, one after the other: each as a whole or not at all, and what could not be is told.

use std::path::Path;

use zeroize::Zeroizing;

use crate::report::diagnostic::Diagnostic;
use crate::report::output::{self, Label, NotExchanged};
use crate::report::progress::Progress;
use crate::signals::HeldSignals;

/// A file that was read, and what it is to hold from now on.
pub(crate) trait Exchange {
    /// Where it is.
    fn path(&self) -> &Path;
    /// What was read.
    fn old_bytes(&self) -> Zeroizing<Vec<u8>>;
    /// What is to be written, if anything is.
    fn new_bytes(&self) -> Option<&[u8]>;
    /// Takes note of why it is still what it was.
    fn is_kept(&mut self, refused: Diagnostic);
}

/// Exchanges the files that have anything new; whether one could not be written. A signal ends it between two files.
pub(crate) fn exchange_all(files: &mut [impl Exchange]) -> bool {
    let mut is_unable = false;
    let mut written = Vec::new();
    let progress =
        Progress::new("writing", files.iter().filter(|file| file.new_bytes().is_some()).count());
    let signals = HeldSignals::new();
    for file in files {
        let Some(new) = file.new_bytes() else { continue };
        if signals.is_received() {
            break;
        }
        match output::exchange_file(file.path(), &file.old_bytes(), new) {
            Ok(()) => written.push(file.path()),
            Err(error) => {
                is_unable |= matches!(error, NotExchanged::Failed(_));
                let name = file.path().display().to_string();
                let (message, hint) = error.of(file.path()).into_parts();
                file.is_kept(Diagnostic::file(&name, message, hint.as_deref()));
            }
        }
        progress.step();
    }
    drop(progress);
    if let Err(error) = output::sync_folders_of(written) {
        is_unable = true;
        output::stderr(&Label::Error.line(&format!("{error:#}")));
    }
    signals.deliver();
    is_unable
}
