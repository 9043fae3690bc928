//! Which `bulla.yaml` counts: the one that is named, or the one at the root of the Git work tree.

use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use zeroize::Zeroizing;

use super::parse::parse;
use super::{Config, NAME, real_path};
use crate::files::folder::Folder;
use crate::files::git::{self, Repository};
use crate::files::input::{self, Input};
use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// The file that `--config` names, or the one of the Git work tree that holds all of `paths`, or the current
/// folder if there are none.
pub(crate) fn find(named: Option<&Path>, paths: &[PathBuf]) -> Result<Option<Config>, Failure> {
    if let Some(path) = named {
        return read(path).map(Some);
    }
    let mut paths: Vec<_> = paths.iter().filter(|path| !input::is_stdin(path)).cloned().collect();
    if paths.is_empty() {
        paths.push(".".into());
    }
    let mut roots = Vec::new();
    for path in &paths {
        roots.push(git::root_of(&real_path(path)?));
    }
    roots.sort_unstable();
    roots.dedup();
    match &roots[..] {
        [Some(root)] => of_work_tree(root)?.map(|path| read(&path)).transpose(),
        [] | [None] => Ok(None),
        _ => Err(anyhow!(
            "the paths are in different Git work trees, and each may have its own {NAME}"
        ))
        .or_hint("run the command for each of them, or decide with --config or -r"),
    }
}

/// The same for a command that only takes the names of holders from it: an unreadable one is a warning.
pub(crate) fn of_names(config: Result<Option<Config>, Failure>) -> Option<Config> {
    config.unwrap_or_else(|failure| {
        let (message, _) = failure.into_parts();
        output::warning(&format!("could not read the names of key holders: {message}"));
        None
    })
}

/// The failure if an environment is named but there is no bulla.yaml.
pub(crate) fn none_for_environment() -> Failure {
    Failure::unable(anyhow!("no bulla.yaml found, so there is no environment"))
        .hint("run this in the Git work tree that has one, or pass --config")
}

fn read(path: &Path) -> Result<Config, Failure> {
    parse(path, input::read(path)?)
}

/// A file that is not written yet.
pub(crate) fn of_text(path: &Path, text: &str) -> Result<Config, Failure> {
    let name = path.display().to_string();
    parse(path, Input { name, bytes: Zeroizing::new(text.into()) })
}

/// Reads what the file at `path` was in another commit.
pub(crate) fn of_commit(path: &Path, blob: &str, bytes: &[u8]) -> Result<Config, Failure> {
    parse(path, Input { name: blob.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) })
}

/// What the last commit of the repository around a path pins, if it has a file.
pub(crate) fn of_head(path: &Path) -> Result<Option<Config>, Failure> {
    let Some(repository) = Repository::around(&real_path(path)?)? else { return Ok(None) };
    if !repository.is_commit("HEAD") {
        return Ok(None);
    }
    let blobs = repository.files("HEAD")?.into_iter();
    let blobs: Vec<_> = blobs.filter(|blob| blob.path == Path::new(NAME)).collect();
    let mut config = None;
    repository.read(&blobs, |blob, bytes| {
        config = Some(of_commit(&repository.root.join(NAME), &blob.name, bytes));
    })?;
    config.transpose()
}

/// The path of the file of the work tree around the current folder, whether it exists or not.
pub(crate) fn default_path() -> Result<PathBuf, Failure> {
    let root = git::root_of(&real_path(Path::new("."))?)
        .ok_or_else(|| anyhow!("not in a Git work tree, so {NAME} has no default place"))
        .or_hint("run git init, or pass --config")?;
    Ok(of_work_tree(&root)?.unwrap_or_else(|| shortest(&root.join(NAME))))
}

/// The `bulla.yaml` at the root of a work tree. It may have no other; folders above and other repositories may.
fn of_work_tree(root: &Path) -> Result<Option<PathBuf>, Failure> {
    let config = root.join(NAME);
    let is_other = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name == NAME) && path.parent() != Some(root)
    };
    if config.is_symlink() {
        return Err(anyhow!("{} is a link", config.display())).or_hint(
            "replace it with the file itself: a review does not show what a link leads to",
        );
    }
    let Some(other) = Folder::read(root)?.files.into_iter().find(is_other) else {
        return Ok(config.is_file().then(|| shortest(&config)));
    };
    let root = root.display();
    Err(anyhow!("{} is not at the root of the work tree", other.display()))
        .or_hint(format!("a work tree has one {NAME}, in {root}; for another file, pass --config"))
}

/// As a person in the current folder would write it.
fn shortest(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(std::fs::canonicalize);
    let within = here.ok().and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    within.filter(|path| path.components().next() != Some(Component::CurDir)).unwrap_or(path.into())
}
