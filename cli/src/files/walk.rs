//! The manifests in files and folders.
//!
//! In a folder these are the files that end like manifests, less what Git ignores and
//! does not track. Links are not followed: what
//! they lead to lies in the tree and is found by itself, or it is none of the tree's business.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ignore::WalkBuilder;

use crate::files::{git, input};
use crate::manifest::{ManifestFile, Object};
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// How the name of a manifest ends.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Whether it was named itself, and not found in a folder.
    pub(crate) is_named: bool,
}

/// The files that `paths` name, and the manifests in the folders that they name; each once, in order.
pub(crate) fn manifests(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    found(paths, is_manifest, |_| {})
}

/// The same for files of every kind. Where git does not say what it tracks, that is told.
pub(crate) fn everything(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let tell = |folder: &Path| {
        output::warning(&format!(
            "{}: git does not say what it tracks; what .gitignore names is not looked at",
            folder.display()
        ));
    };
    found(paths, |_| true, tell)
}

fn found(
    paths: &[PathBuf],
    is_wanted: fn(&Path) -> bool,
    tell_untold: impl Fn(&Path),
) -> Result<Vec<Found>, Failure> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for path in paths {
        if path == Path::new("-") {
            return Err(anyhow!("stdin cannot be looked through as a tree"))
                .or_hint("name a file or a folder");
        }
        let metadata =
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !metadata.is_dir() {
            found.push(Found { path: path.clone(), is_named: true });
            continue;
        }
        let mut paths = files(path, is_wanted)?;
        // What Git ignores and tracks all the same, because somebody added it first or insisted: it is in every clone.
        match git::tracked_though_ignored(path) {
            Ok(tracked) => {
                let wanted = tracked.iter().filter(|path| is_wanted(path));
                paths.extend(wanted.map(|path| without_dot(path)));
            }
            Err(_) => tell_untold(path),
        }
        found.extend(paths.into_iter().map(|path| Found { path, is_named: false }));
    }
    // A named file that a folder holds too is a named one.
    found.sort_by_key(|found| !found.is_named);
    found.retain(|found| {
        seen.insert(fs::canonicalize(&found.path).unwrap_or_else(|_| found.path.clone()))
    });
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Reads a file that was found, as far as there is anything of ours in it. One that was named must be readable; among
/// the files of a tree there may be anything, and one is refused only when it is ours.
pub(crate) fn read(found: &Found) -> Result<Option<Result<ManifestFile, Diagnostic>>, Failure> {
    let group = [bulla_crds::GROUP];
    read_mentioning(found, &group, &format!("{}/", bulla_crds::GROUP))
}

/// The same for what mentions one of `words`; what mentions `mark` must be readable even in a tree.
pub(crate) fn read_mentioning(
    found: &Found,
    words: &[&str],
    mark: &str,
) -> Result<Option<Result<ManifestFile, Diagnostic>>, Failure> {
    let name = found.path.display().to_string();
    let input = match input::read(&found.path) {
        Ok(input) => input,
        Err(error) if found.is_named => return Err(error.into()),
        Err(error) if is_too_large(&error) => {
            output::warning(&format!("{name}: larger than 16 MiB, not looked at"));
            return Ok(None);
        }
        Err(error) => return Ok(Some(Err(Diagnostic::file(&name, format!("{error:#}"), None)))),
    };
    if !found.is_named && !words.iter().any(|word| mentions(&input.bytes, word)) {
        return Ok(None);
    }
    let is_ours = mentions(&input.bytes, mark);
    match ManifestFile::parse(input) {
        Ok(manifests) => Ok(Some(Ok(manifests))),
        Err(error) if found.is_named => Err(error.into()),
        Err(_) if !is_ours => Ok(None),
        Err(error) => {
            let hint = format!(
                "it mentions {mark}, so it is not passed over: correct it, or let Git ignore it"
            );
            Ok(Some(Err(Diagnostic::file(&name, error, Some(&hint)))))
        }
    }
}

/// The objects of a file that was found, and how many documents are none.
pub(crate) fn objects<'a>(
    found: &Found,
    manifests: &'a ManifestFile,
) -> Result<(Vec<Object<'a>>, usize), Diagnostic> {
    let objects = match found.is_named {
        true => manifests.objects().map(|objects| (objects, 0)),
        false => manifests.objects_among_others(),
    };
    objects.map_err(|error| Diagnostic::file(&found.path.display().to_string(), error, None))
}

/// Whether a file was not read because it is larger than any manifest.
pub(crate) fn is_too_large(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
}

/// Whether a word stands in a file. What does not name our group, whatever follows it, need not be parsed to know
/// that nothing in it is ours.
pub(crate) fn mentions(bytes: &[u8], word: &str) -> bool {
    match str::from_utf8(bytes) {
        Ok(text) => text.contains(word),
        Err(_) => bytes.windows(word.len()).any(|window| window == word.as_bytes()),
    }
}

/// The regular files in a folder that are wanted, less what Git ignores.
pub(crate) fn files(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let walk = WalkBuilder::new(folder)
        .standard_filters(false)
        .parents(true)
        .git_ignore(true)
        .git_global(true)
        .git_exclude(true)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut files = Vec::new();
    for entry in walk {
        // The library's message names the path.
        let entry = entry
            .map_err(|error| anyhow!(error).context(format!("cannot read {}", folder.display())))?;
        let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
        if is_file && is_wanted(entry.path()) {
            files.push(without_dot(entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file is called like a manifest.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// As people write it.
fn without_dot(path: &Path) -> PathBuf {
    path.strip_prefix("./").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, paths: &[&str]) -> Vec<(String, bool)> {
        let paths: Vec<_> = paths.iter().map(|path| folder.join(path)).collect();
        let found = manifests(&paths).unwrap();
        let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        found.iter().map(|found| (name(&found.path), found.is_named)).collect()
    }

    #[test]
    fn a_tree_is_its_manifests_less_what_git_ignores() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for path in [
            ".git/config.yaml",
            ".github/a.yaml",
            "build/a.yaml",
            "b.yml",
            "c.json",
            "d.txt",
            "sub/ignored.yaml",
            "sub/e.yaml",
        ] {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), "").unwrap();
        }
        fs::write(folder.join(".gitignore"), "/build/\n").unwrap();
        fs::write(folder.join("sub/.gitignore"), "ignored.yaml\n").unwrap();
        fs::write(folder.join(".ignore"), "b.yml\n").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../b.yml", folder.join("sub/link.yaml")).unwrap();
            std::os::unix::fs::symlink("/", folder.join("sub/root")).unwrap();
        }
        let found = |name: &str| (name.to_owned(), false);
        let tree = [".github/a.yaml", "b.yml", "c.json", "sub/e.yaml"].map(found);
        assert_eq!(names(folder, &[""]), tree);
        assert_eq!(names(folder, &["sub", ""]), tree);
        // What is named is taken whatever it is called, and once.
        let named = |name: &str| (name.to_owned(), true);
        assert_eq!(
            names(folder, &["sub", "sub/e.yaml", "d.txt", "build/a.yaml"]),
            ["build/a.yaml", "d.txt", "sub/e.yaml"].map(named)
        );
    }
}
