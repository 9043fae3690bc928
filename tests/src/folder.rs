//! A temporary folder that is removed when the last process that uses it ends.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A temporary folder that only its owner can read. If this process cannot remove it, the leashes of programs that run
/// in it do.
#[derive(Debug)]
pub struct Folder {
    /// Shared with the leashes of programs that use the folder.
    lock: File,
    path: PathBuf,
}

impl Folder {
    /// A new folder below the system's temporary folder.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn new(prefix: &str) -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .context("cannot create a temporary folder")?
            .keep();
        let lock = File::open(&path)?;
        lock.lock_shared()?;
        Ok(Self { lock, path })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If programs still run here, the last of their leashes removes the folder.
        if self.lock.unlock().is_ok() && self.lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
