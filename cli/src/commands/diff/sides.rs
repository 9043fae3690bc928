//! The two sides of a comparison: which files they have, from Git, from folders or from stdin.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use zeroize::Zeroizing;

use crate::files::git::{self, Blob, Listed, Repository};
use crate::files::input::{self, Input};
use crate::files::walk::{self, FoundFile};
use crate::report::failure::{Failure, OrHint};
use crate::who::config::{self, Config};

/// The name of an existing revision, or an error with a hint at what was probably meant.
fn commit_named(repository: &Repository, name: &str) -> Result<String, Failure> {
    if repository.is_commit(name) {
        return Ok(name.to_owned());
    }
    let error = anyhow!("no such revision: {name}");
    if name == "-" || Path::new(name).exists() {
        Err(error).or_hint(
            "for two files or folders, run bulla diff --no-index OLD NEW; for a path in Git, bulla diff -- PATH",
        )
    } else {
        Err(error)
            .or_hint("name an existing branch, tag or commit; in a shallow clone, run git fetch --unshallow first")
    }
}

/// A path as Git names it. It may exist on one side only.
fn from_root(prefix: &Path, path: &Path) -> Result<PathBuf, Failure> {
    let mut from_root = prefix.components().as_path().to_owned();
    for component in path.components() {
        let is_within = match component {
            Component::CurDir => true,
            Component::Normal(name) => {
                from_root.push(name);
                true
            }
            Component::ParentDir => from_root.pop(),
            Component::RootDir | Component::Prefix(_) => false,
        };
        if !is_within {
            return Err(anyhow!("{} is not in the work tree", path.display()))
                .or_hint("pass its path relative to the current folder");
        }
    }
    Ok(from_root)
}

/// A file of one side.
pub(super) struct SideFile {
    /// The path under which the other side would have it.
    pub(super) path: PathBuf,
    /// Whether it was named on the command line, and so must be a manifest.
    pub(super) is_named: bool,
    pub(super) input: Input,
}

/// What is compared, without the files that are the same on both sides.
pub(super) struct Sides {
    pub(super) old: Vec<SideFile>,
    pub(super) new: Vec<SideFile>,
    /// The bulla.yaml of the new side first.
    pub(super) configs: Vec<Config>,
    /// Whether it matters that an object moved to another file.
    pub(super) are_trees: bool,
}

impl Sides {
    /// Two files or folders.
    pub(super) fn of_files(old: &Path, new: &Path) -> Result<Self, Failure> {
        input::refuse_stdin_twice([old, new])?;
        let are_trees = old.is_dir() && new.is_dir();
        let configs = config::of_names(config::find(None, &[])).into_iter().collect();
        Ok(Self::new(read_path(old)?, read_path(new)?, configs, are_trees))
    }

    /// A commit and something newer. Interprets the revisions as `git diff` does.
    pub(super) fn of_git(
        revisions: &[String],
        is_staged: bool,
        paths: &[PathBuf],
    ) -> Result<Self, Failure> {
        let repository = git::repository()?;
        // Before the first commit, all that is staged is new.
        let is_first = is_staged && revisions.is_empty() && !repository.is_commit("HEAD");
        let (old, new) = if is_first {
            (None, None)
        } else {
            let (old, new) = commits(&repository, revisions)?;
            (Some(old), new)
        };
        if new.is_some() && is_staged {
            return Err(anyhow!("--staged compares with one revision, not two"))
                .or_hint("pass one revision, or leave --staged out");
        }
        let paths = match paths {
            [] => Vec::new(),
            paths => {
                let prefix = repository.prefix()?;
                paths.iter().map(|path| from_root(&prefix, path)).collect::<Result<_, _>>()?
            }
        };
        let old_blobs = match &old {
            Some(old) => repository.files(old)?,
            None => Vec::new(),
        };
        let (new_blobs, work_tree) = match new {
            Some(commit) => (repository.files(&commit)?, None),
            None if is_staged => (repository.staged_files()?, None),
            None => {
                let listed = repository.listed(&repository.root)?;
                (not_checked_out(&repository, &listed)?, Some(listed))
            }
        };
        let of_tree = work_tree.iter().flatten().map(|listed| &listed.path);
        let blobs = old_blobs.iter().chain(&new_blobs);
        let all: Vec<&PathBuf> = blobs.map(|blob| &blob.path).chain(of_tree).collect();
        if let Some(path) = paths.iter().find(|path| !all.iter().any(|file| file.starts_with(path)))
        {
            return Err(anyhow!("{} exists on neither side", path.display())).or_hint(
                "pass a file or folder that exists on one side, relative to the current folder",
            );
        }
        let is_selected = |path: &Path| {
            walk::is_manifest(path)
                && (paths.is_empty() || paths.iter().any(|wanted| path.starts_with(wanted)))
        };
        let (old, old_config) = read_blobs(&repository, &old_blobs, &new_blobs, is_selected)?;
        let (mut new, mut new_config) =
            read_blobs(&repository, &new_blobs, &old_blobs, is_selected)?;
        if let Some(listed) = &work_tree {
            new.extend(read_work_tree(&repository.root, listed, is_selected)?);
            new_config = config::of_names(config::find(None, &[]));
        }
        Ok(Self::new(old, new, new_config.into_iter().chain(old_config).collect(), true))
    }

    /// Leaves out the files that did not change.
    fn new(
        mut old: Vec<SideFile>,
        mut new: Vec<SideFile>,
        configs: Vec<Config>,
        are_trees: bool,
    ) -> Self {
        let of_old: HashMap<_, _> =
            old.iter().map(|file| (&file.path, &file.input.bytes)).collect();
        let is_same = |file: &&SideFile| of_old.get(&file.path) == Some(&&file.input.bytes);
        let same: HashSet<_> = new.iter().filter(is_same).map(|file| file.path.clone()).collect();
        old.retain(|file| !same.contains(&file.path));
        new.retain(|file| !same.contains(&file.path));
        Self { old, new, configs, are_trees }
    }
}

/// The older commit, and the newer one if it is not the work tree or the index.
fn commits(
    repository: &Repository,
    revisions: &[String],
) -> Result<(String, Option<String>), Failure> {
    let named = |name: &str| commit_named(repository, name);
    let head = |name: &str| named(if name.is_empty() { "HEAD" } else { name });
    match revisions {
        [] => Ok(("HEAD".to_owned(), None)),
        [range] if let Some((one, other)) = range.split_once("...") => {
            let (one, other) = (head(one)?, head(other)?);
            Ok((repository.merge_base(&one, &other)?, Some(other)))
        }
        [range] if let Some((one, other)) = range.split_once("..") => {
            Ok((head(one)?, Some(head(other)?)))
        }
        [one] => Ok((named(one)?, None)),
        [one, other, ..] => Ok((named(one)?, Some(named(other)?))),
    }
}

/// The selected files of a commit that differ from the other side, and its bulla.yaml.
fn read_blobs(
    repository: &Repository,
    blobs: &[Blob],
    others: &[Blob],
    is_selected: impl Fn(&Path) -> bool,
) -> Result<(Vec<SideFile>, Option<Config>), Failure> {
    let others: HashMap<_, _> = others.iter().map(|blob| (&blob.path, blob)).collect();
    let is_config = |blob: &Blob| blob.path == Path::new(config::NAME);
    let is_same = |blob: &Blob| others.get(&blob.path).is_some_and(|other| other.is_same(blob));
    let wanted: Vec<Blob> = blobs
        .iter()
        .filter(|blob| is_config(blob) || is_selected(&blob.path) && !is_same(blob))
        .cloned()
        .collect();
    let (mut files, mut config) = (Vec::new(), None);
    repository.read(&wanted, |blob, bytes| {
        if is_config(blob) {
            let read = config::of_commit(&blob.path, &blob.name, bytes);
            config = config::of_names(read.map(Some));
        } else if has_ours(bytes) {
            let input = Input { name: blob.name.clone(), bytes: Zeroizing::new(bytes.to_vec()) };
            files.push(SideFile { path: blob.path.clone(), is_named: false, input });
        }
    })?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((files, config))
}

/// The staged files that the work tree is not expected to have, as in a sparse checkout, and does not have.
fn not_checked_out(repository: &Repository, listed: &[Listed]) -> Result<Vec<Blob>, Failure> {
    let is_missing = |listed: &&Listed| {
        listed.is_skipped && fs::symlink_metadata(repository.root.join(&listed.path)).is_err()
    };
    let missing: HashSet<_> = listed.iter().filter(is_missing).map(|listed| &listed.path).collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let staged = repository.staged_files()?.into_iter();
    Ok(staged.filter(|blob| missing.contains(&blob.path)).collect())
}

fn read_work_tree(
    root: &Path,
    listed: &[Listed],
    is_selected: impl Fn(&Path) -> bool,
) -> Result<Vec<SideFile>, Failure> {
    let mut files = Vec::new();
    for path in listed.iter().map(|listed| &listed.path).filter(|path| is_selected(path)) {
        let real = root.join(path);
        // The target of a link is listed itself; a deleted file may still be listed.
        if !fs::symlink_metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = input::read(&real)?.bytes;
        if has_ours(&bytes) {
            let input = Input { name: path.display().to_string(), bytes };
            files.push(SideFile { path: path.clone(), is_named: false, input });
        }
    }
    Ok(files)
}

/// A file, stdin, or the manifests of a folder.
fn read_path(path: &Path) -> Result<Vec<SideFile>, Failure> {
    if input::is_stdin(path) {
        let input = input::read(path)?;
        return Ok(vec![SideFile { path: PathBuf::new(), is_named: true, input }]);
    }
    let mut files = Vec::new();
    for FoundFile { path: found, is_named, .. } in walk::manifests(&[path.to_owned()])? {
        let input = input::read(&found)?;
        // A file that was named has the empty path, so that it is compared with any other.
        let within = found.strip_prefix(path).unwrap_or(&found).to_owned();
        if is_named || has_ours(&input.bytes) {
            files.push(SideFile { path: within, is_named, input });
        }
    }
    Ok(files)
}

/// Whether a file may contain a SealedSecret or a Secret; if not, it need not be parsed.
fn has_ours(bytes: &[u8]) -> bool {
    walk::mentions(bytes, "Secret")
}
