//! The manifests in files and folders.
//!
//! In a folder these are the files with a manifest's extension, without those that Git ignores and does not track.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use memchr::memmem;

use crate::files::folder::Folder;
use crate::files::input::{self, Input};
use crate::manifest::{self, ManifestFile, Object, ObjectKind};
use crate::parallel::in_parallel;
use crate::report::diagnostic::{self, Diagnostic};
use crate::report::failure::{Failure, OrHint};
use crate::report::output;
use crate::report::progress::Progress;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    /// Whether it was named on the command line, and not found in a folder.
    pub(crate) is_named: bool,
    /// Whether a manifest's name leads to it, by a link.
    pub(crate) is_linked: bool,
}

/// The files that `paths` name, and the manifests in the folders that they name; each once, in order.
pub(crate) fn manifests(paths: &[PathBuf]) -> Result<Vec<FoundFile>, Failure> {
    found(paths, is_manifest)
}

/// The same for files of every kind.
pub(crate) fn everything(paths: &[PathBuf]) -> Result<Vec<FoundFile>, Failure> {
    found(paths, |_| true)
}

fn found(paths: &[PathBuf], is_selected: fn(&Path) -> bool) -> Result<Vec<FoundFile>, Failure> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here } else { paths };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for path in paths {
        if path == Path::new("-") {
            return Err(anyhow!("cannot scan stdin as a folder"))
                .or_hint("name a file or a folder");
        }
        let metadata =
            fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !metadata.is_dir() {
            found.push(FoundFile { path: path.clone(), is_named: true, is_linked: false });
            continue;
        }
        let folder = Folder::read(path)?;
        folder.tell();
        let linked = folder.links.iter().filter(|path| is_manifest(path));
        let linked: HashSet<_> = linked.filter_map(|path| fs::canonicalize(path).ok()).collect();
        let is_linked = |path: &PathBuf| {
            !linked.is_empty() && fs::canonicalize(path).is_ok_and(|real| linked.contains(&real))
        };
        for path in folder.files {
            let is_linked = is_linked(&path);
            if is_linked || is_selected(&path) {
                found.push(FoundFile { path, is_named: false, is_linked });
            }
        }
    }
    // A named file stays named if a folder holds it too.
    found.sort_by_key(|found| !found.is_named);
    found.retain(|found| {
        seen.insert(fs::canonicalize(&found.path).unwrap_or_else(|_| found.path.clone()))
    });
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Which files of a tree are of interest. A named file always is.
#[derive(Clone, Copy)]
pub(crate) struct Interest {
    /// A file without any of these words is not parsed.
    pub(crate) words: &'static [&'static str],
    /// A file with this word must be readable.
    pub(crate) mark: &'static str,
    /// Whether even a named file may have documents that are not objects.
    pub(crate) may_hold_others: fn(&ManifestFile) -> bool,
}

/// Files with objects of Bulla's API group.
pub(crate) const OURS: Interest =
    Interest { words: &[bulla_crds::GROUP], mark: "bulla.dev/", may_hold_others: |_| false };

/// What became of reading a file.
pub(crate) enum FileOutcome {
    /// Nothing in it is of interest.
    NotOurs,
    /// It should be a manifest, and is not.
    Unreadable(Diagnostic),
    Objects(OpenFile),
}

/// A file whose objects can be read.
pub(crate) struct OpenFile {
    pub(crate) manifests: ManifestFile,
    /// How many of its documents are not objects.
    pub(crate) other_documents: usize,
}

/// The SealedSecrets of a file.
pub(crate) struct SealedSecrets<'a> {
    pub(crate) objects: Vec<Object<'a>>,
    /// Those of a version that this tool does not know.
    pub(crate) unknown: Vec<Diagnostic>,
    /// How many other objects and documents there are.
    pub(crate) others: usize,
}

/// Opens each file and hands it to `work`, on all processors; the results in order.
pub(crate) fn each<T: Send>(
    found: &[FoundFile],
    doing: &'static str,
    interest: Interest,
    work: impl Fn(&FoundFile, FileOutcome) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    let progress = Progress::new(doing, found.len());
    let done = in_parallel(found.len(), |index| {
        let found = &found[index];
        let done = work(found, open(found, interest)?);
        progress.step();
        done
    });
    done.into_iter().collect()
}

/// Reads and parses a file. A named file must be a manifest; a file of a tree may be anything.
fn open(found: &FoundFile, interest: Interest) -> Result<FileOutcome, Failure> {
    let input = match input::read(&found.path) {
        Ok(input) => input,
        Err(error) if found.is_named => return Err(error.into()),
        Err(error) if is_too_large(&error) => {
            warn_of_too_large(&found.path);
            return Ok(FileOutcome::NotOurs);
        }
        Err(error) => {
            let name = found.path.display().to_string();
            return Ok(FileOutcome::Unreadable(Diagnostic::of(&name, error)));
        }
    };
    let has_word = |word: &&str| mentions(&input.bytes, word);
    if !found.is_named && !interest.words.iter().any(has_word) {
        return Ok(FileOutcome::NotOurs);
    }
    parse(input, found.is_named, interest)
}

/// Parses a file. A named file must hold only objects; another one counts only if it has the mark.
pub(crate) fn parse(
    input: Input,
    is_named: bool,
    interest: Interest,
) -> Result<FileOutcome, Failure> {
    let (name, mark) = (input.name.clone(), interest.mark);
    let is_ours = mentions(&input.bytes, mark);
    let open = manifest::parse(input).and_then(|manifests| {
        let other_documents = if is_named && !(interest.may_hold_others)(&manifests) {
            manifests.objects().map(|_| 0)
        } else {
            manifests.objects_among_others().map(|(_, others)| others)
        }?;
        Ok(OpenFile { manifests, other_documents })
    });
    match open {
        Ok(open) => Ok(FileOutcome::Objects(open)),
        Err(error) if is_named => Err(error.into()),
        Err(_) if !is_ours => Ok(FileOutcome::NotOurs),
        Err(error) => {
            let failure = Failure::from(error).hint(format_args!(
                "it mentions {mark}, so it is not skipped: correct it, or add it to .gitignore"
            ));
            Ok(FileOutcome::Unreadable(Diagnostic::of(&name, failure)))
        }
    }
}

impl FileOutcome {
    /// The file, if its objects can be read. Adds the reason if they should be readable and are not.
    pub(crate) fn opened(self, diagnostics: &mut Vec<Diagnostic>) -> Option<OpenFile> {
        match self {
            Self::NotOurs => None,
            Self::Unreadable(diagnostic) => {
                diagnostics.push(diagnostic);
                None
            }
            Self::Objects(open) => Some(open),
        }
    }
}

impl OpenFile {
    pub(crate) fn objects(&self) -> Vec<Object<'_>> {
        // They can be read, as opening the file has shown.
        self.manifests.objects_among_others().map(|(objects, _)| objects).unwrap_or_default()
    }

    pub(crate) fn sealed_secrets(&self) -> SealedSecrets<'_> {
        let (objects, unknown) = (Vec::new(), Vec::new());
        let mut found = SealedSecrets { objects, unknown, others: self.other_documents };
        for object in self.objects() {
            match ObjectKind::of(&object) {
                ObjectKind::SealedSecret => found.objects.push(object),
                ObjectKind::OtherOfOurs if manifest::is_unknown_version(&object) => {
                    found.unknown.push(diagnostic::unknown_version(&object));
                }
                _ => found.others += 1,
            }
        }
        found
    }
}

/// Warns that a file is skipped because it is larger than any manifest.
pub(crate) fn warn_of_too_large(path: &Path) {
    output::warning(&format!("{}: larger than 16 MiB, skipped", path.display()));
}

/// Whether a file was not read because it is larger than any manifest.
pub(crate) fn is_too_large(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
}

/// Whether a file has a word in it. A file without Bulla's API group need not be parsed: it has none of its objects.
pub(crate) fn mentions(bytes: &[u8], word: &str) -> bool {
    memmem::find(bytes, word.as_bytes()).is_some()
}

pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
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
    fn a_folder_is_its_manifests_without_ignored_files() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for path in [
            ".git/a.yaml",
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
        let git = std::process::Command::new("git").arg("init").arg("-q").arg(folder).status();
        assert!(git.unwrap().success());
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
        // A named file is taken whatever its name, and only once.
        let named = |name: &str| (name.to_owned(), true);
        assert_eq!(
            names(folder, &["sub", "sub/e.yaml", "d.txt", "build/a.yaml"]),
            ["build/a.yaml", "d.txt", "sub/e.yaml"].map(named)
        );
    }
}
