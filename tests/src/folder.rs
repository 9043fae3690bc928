//! A temporary folder that goes when the last process using it does.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// A temporary folder, readable by its owner only. Programs that are leashed in it remove it when this
/// process could not.
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

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Programs that still run here are leashed, and the last leash does the same.
        if self.lock.unlock().is_ok() && self.lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
