//! The two sides of a comparison: which files they have, from Git, from folders or from stdin.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::anyhow;
use zeroize::Zeroizing;

use crate::files::git::{self, Blob, WorkTree};
use crate::files::input::{self, Input};
use crate::files::walk;
use crate::report::failure::{Failure, OrHint};
use crate::report::output;
use crate::who::config::{self, Config};

/// What to compare.
pub(super) enum Request {
    /// A commit and something newer.
    Git {
        old: String,
        new: Newer,
        /// Paths from the root of the work tree; if there are none, all files.
        paths: Vec<PathBuf>,
    },
    /// Two files or folders.
    Files { old: PathBuf, new: PathBuf },
}

/// What a commit is compared with.
pub(super) enum Newer {
    Commit(String),
    Staged,
    WorkTree,
}

impl Request {
    /// Two files or folders.
    pub(super) fn of_files(old: PathBuf, new: PathBuf) -> Result<Self, Failure> {
        if [&old, &new].iter().all(|path| *path == Path::new("-")) {
            return Err(anyhow!("'-' (stdin) can be given only once").into());
        }
        Ok(Self::Files { old, new })
    }

    /// Interprets the revisions as `git diff` does.
    pub(super) fn of_git(
        revisions: &[String],
        staged: bool,
        paths: &[PathBuf],
    ) -> Result<Self, Failure> {
        let head = |name: &str| if name.is_empty() { "HEAD".to_owned() } else { name.to_owned() };
        let commit = |name: &String| Newer::Commit(name.clone());
        let (old, new) = match revisions {
            [] => ("HEAD".to_owned(), None),
            [range] if let Some((one, other)) = range.split_once("...") => {
                let (one, other) = (commit_named(&head(one))?, commit_named(&head(other))?);
                (git::merge_base(&one, &other)?, Some(commit(&other)))
            }
            [range] if let Some((one, other)) = range.split_once("..") => {
                (commit_named(&head(one))?, Some(commit(&commit_named(&head(other))?)))
            }
            [one] => (commit_named(one)?, None),
            [one, other, ..] => (commit_named(one)?, Some(commit(&commit_named(other)?))),
        };
        let new = match (new, staged) {
            (Some(_), true) => {
                return Err(Failure::unable(anyhow!(
                    "--staged compares with one revision, not two"
                ))
                .hint("pass one revision, or leave --staged out"));
            }
            (Some(new), false) => new,
            (None, true) => Newer::Staged,
            (None, false) => Newer::WorkTree,
        };
        let paths = match paths {
            [] => Vec::new(),
            paths => {
                let prefix = git::work_tree()?.prefix;
                paths.iter().map(|path| from_root(&prefix, path)).collect::<Result<_, _>>()?
            }
        };
        Ok(Self::Git { old, new, paths })
    }
}

/// The name of an existing revision, or an error with a hint at what was probably meant.
fn commit_named(name: &str) -> Result<String, Failure> {
    if git::is_commit(name) {
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
    pub(super) name: String,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl SideFile {
    pub(super) fn input(&self) -> Input {
        Input { name: self.name.clone(), bytes: self.bytes.clone() }
    }
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
    /// Reads both sides.
    pub(super) fn read(request: &Request) -> Result<Self, Failure> {
        let mut sides = match request {
            Request::Git { old, new, paths } => Self::of_git(old, new, paths)?,
            Request::Files { old, new } => Self::of_files(old, new)?,
        };
        sides.leave_out_unchanged_files();
        Ok(sides)
    }

    fn of_git(old: &str, new: &Newer, paths: &[PathBuf]) -> Result<Self, Failure> {
        let old_blobs = git::files(old)?;
        let (new_blobs, work_tree) = match new {
            Newer::Commit(commit) => (git::files(commit)?, None),
            Newer::Staged => (git::staged_files()?, None),
            Newer::WorkTree => (Vec::new(), Some(git::work_tree()?)),
        };
        let new_paths: Vec<&Path> = match &work_tree {
            Some(work_tree) => work_tree.files.iter().map(PathBuf::as_path).collect(),
            None => new_blobs.iter().map(|blob| blob.path.as_path()).collect(),
        };
        for path in paths {
            let mut all = old_blobs.iter().map(|blob| blob.path.as_path()).chain(new_paths.clone());
            if !all.any(|file| file.starts_with(path)) {
                return Err(anyhow!("{} exists on neither side", path.display())).or_hint(
                    "pass a file or folder that exists on one side, relative to the current folder",
                );
            }
        }
        let is_selected = |path: &Path| {
            walk::is_manifest(path)
                && (paths.is_empty() || paths.iter().any(|wanted| path.starts_with(wanted)))
        };
        let (old_files, old_config) = read_blobs(&old_blobs, &new_blobs, is_selected)?;
        let (new, new_config) = match &work_tree {
            Some(work_tree) => (read_work_tree(work_tree, is_selected)?, config_here()),
            None => read_blobs(&new_blobs, &old_blobs, is_selected)?,
        };
        let configs = new_config.into_iter().chain(old_config).collect();
        Ok(Self { old: old_files, new, configs, are_trees: true })
    }

    fn of_files(old: &Path, new: &Path) -> Result<Self, Failure> {
        let are_trees = old.is_dir() && new.is_dir();
        let configs = config_here().into_iter().collect();
        Ok(Self { old: read_path(old)?, new: read_path(new)?, configs, are_trees })
    }

    fn leave_out_unchanged_files(&mut self) {
        let old: HashMap<&Path, &[u8]> =
            self.old.iter().map(|file| (file.path.as_path(), &file.bytes[..])).collect();
        let is_same = |file: &SideFile| {
            old.get(file.path.as_path()).is_some_and(|bytes| **bytes == file.bytes[..])
        };
        let same: Vec<_> =
            self.new.iter().filter(|file| is_same(file)).map(|file| file.path.clone()).collect();
        self.old.retain(|file| same.binary_search(&file.path).is_err());
        self.new.retain(|file| same.binary_search(&file.path).is_err());
    }
}

/// The selected files of a commit that differ from the other side, and its bulla.yaml.
fn read_blobs(
    blobs: &[Blob],
    others: &[Blob],
    is_selected: impl Fn(&Path) -> bool,
) -> Result<(Vec<SideFile>, Option<Config>), Failure> {
    let others: BTreeMap<_, _> = others.iter().map(|blob| (&blob.path, blob)).collect();
    let is_config = |blob: &Blob| blob.path == Path::new(config::NAME);
    let is_same = |blob: &Blob| others.get(&blob.path).is_some_and(|other| other.is_same(blob));
    let wanted: Vec<Blob> = blobs
        .iter()
        .filter(|blob| is_config(blob) || is_selected(&blob.path) && !is_same(blob))
        .cloned()
        .collect();
    let (mut files, mut config) = (Vec::new(), None);
    git::read(&wanted, |blob, bytes| {
        if is_config(blob) {
            config = told(config::of_commit(&blob.path, &blob.name, bytes));
        } else if has_ours(bytes) {
            files.push(SideFile {
                path: blob.path.clone(),
                is_named: false,
                name: blob.name.clone(),
                bytes: Zeroizing::new(bytes.to_vec()),
            });
        }
    })?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok((files, config))
}

fn read_work_tree(
    work_tree: &WorkTree,
    is_selected: impl Fn(&Path) -> bool,
) -> Result<Vec<SideFile>, Failure> {
    let mut files = Vec::new();
    for path in work_tree.files.iter().filter(|path| is_selected(path)) {
        let real = work_tree.root.join(path);
        // The target of a link is listed itself; a deleted file may still be listed.
        if !fs::symlink_metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = input::read(&real)?.bytes;
        if has_ours(&bytes) {
            let name = path.display().to_string();
            files.push(SideFile { path: path.clone(), is_named: false, name, bytes });
        }
    }
    Ok(files)
}

/// A file, stdin, or the manifests of a folder.
fn read_path(path: &Path) -> Result<Vec<SideFile>, Failure> {
    if path == Path::new("-") {
        let Input { name, bytes } = input::read(path)?;
        return Ok(vec![SideFile { path: PathBuf::new(), is_named: true, name, bytes }]);
    }
    let mut files = Vec::new();
    for found in walk::manifests(&[path.to_owned()])? {
        let Input { name, bytes } = input::read(&found.path)?;
        // A file that was named has the empty path, so that it is compared with any other.
        let within = found.path.strip_prefix(path).unwrap_or(&found.path).to_owned();
        if found.is_named || has_ours(&bytes) {
            files.push(SideFile { path: within, is_named: found.is_named, name, bytes });
        }
    }
    Ok(files)
}

/// Whether a file may contain a SealedSecret or a Secret; if not, it need not be parsed.
fn has_ours(bytes: &[u8]) -> bool {
    walk::mentions(bytes, "Secret")
}

/// The bulla.yaml of the work tree around the current folder, if any.
fn config_here() -> Option<Config> {
    told(config::find(None, &[])).flatten()
}

/// A bulla.yaml only provides names here, so an unreadable one does not stop the command.
fn told<T>(config: Result<T, Failure>) -> Option<T> {
    match config {
        Ok(config) => Some(config),
        Err(failure) => {
            let (message, _) = failure.into_parts();
            output::warning(&format!("could not read the names of key holders: {message}"));
            None
        }
    }
}
