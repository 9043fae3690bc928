//! The files in a folder: in a work tree what Git has or would add, and elsewhere everything.
//!
//! Links are not followed: a target in the tree is found by itself, and a target outside does not belong to the tree.
//! Another repository inside of a work tree is left to its own commands.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::files::git::{Repository, is_repository};
use crate::report::failure::Failure;
use crate::report::output;

/// The regular files in a folder, and what is left out.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) files: Vec<PathBuf>,
    /// Links that Git has or would add.
    pub(crate) links: Vec<PathBuf>,
    /// Linked work trees, submodules and other repositories.
    repositories: Vec<PathBuf>,
    /// How many files a sparse checkout leaves out.
    missing: usize,
}

impl Folder {
    /// The files in the folder at `path`, below this path.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let real = fs::canonicalize(path).with_context(|| cannot_read(path))?;
        let mut folder = Self::default();
        match Repository::around(&real)? {
            Some(repository) => {
                folder.add_listed(&repository, &real, path)?;
                // The rules are for the repository. A person who names an ignored folder wants its files.
                if repository.ignores(&real) {
                    folder.add_all(path)?;
                }
            }
            None => folder.add_all(path)?,
        }
        for paths in [&mut folder.files, &mut folder.links, &mut folder.repositories] {
            paths.iter_mut().for_each(|path| *path = without_dot(path));
            paths.sort();
            paths.dedup();
        }
        Ok(folder)
    }

    /// Says what is left out.
    pub(crate) fn tell(&self) {
        for path in &self.repositories {
            output::note(&format!("{}: another Git repository, skipped", path.display()));
        }
        if self.missing > 0 {
            let files = output::count(self.missing, "file");
            output::warning(&format!("{files} skipped: not checked out (sparse checkout)"));
        }
    }

    /// Adds what Git lists in the folder `real`, below `path`.
    fn add_listed(
        &mut self,
        repository: &Repository,
        real: &Path,
        path: &Path,
    ) -> Result<(), Failure> {
        let prefix = real.strip_prefix(&repository.root).unwrap_or(Path::new(""));
        for listed in repository.listed(real)? {
            let Ok(within) = listed.path.strip_prefix(prefix) else { continue };
            let path = path.join(within);
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.files.push(path),
                Ok(metadata) if metadata.is_symlink() => self.links.push(path),
                Ok(metadata) if metadata.is_dir() => self.repositories.push(path),
                Ok(_) => {}
                Err(_) => self.missing += usize::from(listed.is_skipped),
            }
        }
        Ok(())
    }

    /// Adds everything in a folder that is in no work tree. The folder may contain repositories.
    fn add_all(&mut self, path: &Path) -> Result<(), Failure> {
        let mut folders = vec![path.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| cannot_read(&folder))?;
            for entry in entries {
                let entry = entry.with_context(|| cannot_read(&folder))?;
                let (path, kind) = (entry.path(), entry.file_type());
                let kind = kind.with_context(|| cannot_read(&path))?;
                if kind.is_dir() && is_repository(&path) {
                    let within = Self::read(&path)?;
                    self.files.extend(within.files);
                    self.links.extend(within.links);
                    self.repositories.extend(within.repositories);
                    self.missing += within.missing;
                } else if kind.is_dir() && entry.file_name() != ".git" {
                    folders.push(path);
                } else if kind.is_file() {
                    self.files.push(path);
                } else if kind.is_symlink() {
                    self.links.push(path);
                }
            }
        }
        Ok(())
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// Without `./` in front, as people write it.
fn without_dot(path: &Path) -> PathBuf {
    path.strip_prefix("./").unwrap_or(path).to_owned()
}
