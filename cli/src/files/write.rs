//! Files that are written whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tempfile::{Builder, NamedTempFile};

use crate::files::git;
use crate::files::input::MAX_FILE_BYTES;
use crate::report::failure::{Failure, OrHint};
use crate::report::output;
use crate::signals::HeldSignals;

/// What to do with an existing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is unchanged, and the command fails with this hint.
    Keep(&'static str),
    /// A new file replaces it at once.
    Replace,
}

impl Existing {
    /// What `--force` means for it.
    pub(crate) fn unless(force: bool) -> Self {
        if force { Self::Replace } else { Self::Keep("to overwrite it, pass --force") }
    }
}

/// Who may read the written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    /// Anyone: an existing file's mode is kept.
    Public,
    /// The owner: mode 0600.
    Secret,
}

/// Writes `data` to `path`, or to stdout if there is none.
pub(crate) fn file_or_stdout(
    path: Option<&Path>,
    data: &[u8],
    existing: Existing,
    visibility: Visibility,
) -> Result<(), Failure> {
    match path {
        Some(path) => file(path, data, existing, visibility),
        None => Ok(output::stdout(data)?),
    }
}

/// Writes `data` to `path`. At every moment the path has the old file or the new one, never a part.
pub(crate) fn file(
    path: &Path,
    data: &[u8],
    existing: Existing,
    visibility: Visibility,
) -> Result<(), Failure> {
    let name = path.display();
    refuse_too_large(path, data)?;
    let path = follow(path)?;
    let folder = folder_of(&path);
    let mode = match (fs::metadata(&path), existing) {
        (Ok(metadata), _) if !metadata.is_file() => {
            return Err(anyhow!("{name} is not a regular file").into());
        }
        (Ok(_), Existing::Keep(hint)) => {
            return Err(anyhow!("{name} already exists")).or_hint(hint);
        }
        (Ok(metadata), _) if visibility == Visibility::Public => Some(metadata.permissions()),
        (Ok(_) | Err(_), _) => None,
    };
    let signals = HeldSignals::new();
    let write = || -> io::Result<()> {
        let file = temporary_file(folder, data, visibility, mode)?;
        match existing {
            Existing::Keep(_) => file.persist_noclobber(&path),
            Existing::Replace => file.persist(&path),
        }?;
        sync_folder(folder)
    };
    let result = write().with_context(|| format!("cannot write {name}"));
    signals.deliver();
    Ok(result?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Replacement {
    /// It holds the new bytes.
    Done,
    /// Somebody else wrote to it, so it holds what they wrote.
    ChangedMeanwhile,
}

impl Replacement {
    /// Fails if somebody else wrote to the file at `path`.
    pub(crate) fn or_failure(self, path: &Path) -> Result<(), Failure> {
        if self == Self::Done {
            return Ok(());
        }
        Err(anyhow!("{}: someone else changed it in the meantime", path.display()))
            .or_hint("nothing was written; run the command again")
    }
}

/// Writes `new` over one file that holds `old`, and makes it last through a power failure.
pub(crate) fn replace(path: &Path, old: &[u8], new: &[u8]) -> Result<(), Failure> {
    replace_if_unchanged(path, old, new)?.or_failure(path)?;
    Ok(sync_folders_of([path])?)
}

/// Writes `new` over a file if it still holds `old`, and keeps its mode. At every moment the path has the old file or
/// the new one; [`sync_folders_of`] makes it last through a power failure.
pub(crate) fn replace_if_unchanged(path: &Path, old: &[u8], new: &[u8]) -> Result<Replacement> {
    let name = path.display();
    refuse_too_large(path, new)?;
    let path = follow(path)?;
    let folder = folder_of(&path);
    let signals = HeldSignals::new();
    let write = || -> io::Result<Replacement> {
        // Renaming over a file that may not be written would bypass its mode.
        let mode = File::options().write(true).open(&path)?.metadata()?.permissions();
        let file = temporary_file(folder, new, Visibility::Public, Some(mode))?;
        if fs::read(&path)? != old {
            return Ok(Replacement::ChangedMeanwhile);
        }
        file.persist(&path)?;
        Ok(Replacement::Done)
    };
    let result = write().with_context(|| format!("cannot write {name}"));
    signals.deliver();
    result
}

/// Refuses to write what no command would read again.
fn refuse_too_large(path: &Path, data: &[u8]) -> Result<()> {
    let length = data.len();
    ensure!(
        length <= MAX_FILE_BYTES,
        "{}: the result would be {length} bytes, more than the 16 MiB that bulla reads; use several files",
        path.display()
    );
    Ok(())
}

/// Refuses a file that [`replace_if_unchanged`] could not write, before anything is worked out.
pub(crate) fn check_replaceable(path: &Path) -> Result<()> {
    let name = path.display();
    let real = follow(path)?;
    let open = || File::options().write(true).open(&real)?.metadata();
    let metadata = open().with_context(|| format!("cannot write {name}"))?;
    ensure!(metadata.is_file(), "{name} is not a regular file");
    Ok(())
}

/// Makes the new names of replaced files last through a power failure: each folder once, because that takes as long
/// as writing a file.
pub(crate) fn sync_folders_of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut folders = BTreeSet::new();
    for path in paths {
        folders.insert(folder_of(&follow(path)?).to_owned());
    }
    for folder in folders {
        sync_folder(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
    }
    Ok(())
}

/// Refuses a path where `git add` would find a private file.
pub(crate) fn refuse_work_tree(path: &Path) -> Result<(), Failure> {
    let real = follow(path)?;
    let folder = fs::canonicalize(folder_of(&real))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let Some(root) = git::root_of(&folder) else { return Ok(()) };
    Err(anyhow!("{} is inside the Git work tree {}", path.display(), root.display()))
        .or_hint("write it elsewhere, or pass --force")
}

/// The file itself when `path` is a link, so that the link survives. It may not lead out of its folder, or a file
/// that seems to be in a repository would be written elsewhere.
fn follow(path: &Path) -> Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path.to_owned());
    }
    let resolve =
        || -> io::Result<_> { Ok((fs::canonicalize(folder_of(path))?, fs::canonicalize(path)?)) };
    let (folder, real) =
        resolve().with_context(|| format!("cannot follow the link {}", path.display()))?;
    if !real.starts_with(&folder) {
        bail!("{} is a link that leads out of its folder", path.display());
    }
    Ok(real)
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A complete file, to be renamed.
fn temporary_file(
    folder: &Path,
    data: &[u8],
    visibility: Visibility,
    mode: Option<Permissions>,
) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".bulla-").suffix(".tmp");
    #[cfg(unix)]
    if visibility == Visibility::Public {
        use std::os::unix::fs::PermissionsExt;
        // Less what the umask takes away; without this a temporary file is 0600.
        builder.permissions(Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = visibility;
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(data)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode)?;
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Makes the new name itself last through a power failure.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Existing = Existing::Keep("");

    fn write(path: &Path, existing: Existing, visibility: Visibility) -> Result<(), Failure> {
        file(path, b"new", existing, visibility)
    }

    #[test]
    fn an_existing_file_stays_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, KEEP, Visibility::Public).unwrap();
        fs::write(&path, "old").unwrap();
        assert!(write(&path, KEEP, Visibility::Public).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, Existing::Replace, Visibility::Public).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_result_that_no_command_would_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let large = vec![b' '; MAX_FILE_BYTES + 1];
        let refusal = file(&path, &large, Existing::Replace, Visibility::Public).unwrap_err();
        assert!(refusal.into_parts().0.contains("16777217 bytes, more than the 16 MiB"));
        assert!(!path.exists());
        fs::write(&path, "old").unwrap();
        assert!(replace(&path, b"old", &large).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_kept_and_secrets_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, Existing::Replace, Visibility::Public).unwrap();
        assert_eq!(mode(), 0o640);
        write(&path, Existing::Replace, Visibility::Secret).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_within_its_folder_only() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        for path in ["tree/sub/real", "outside"] {
            fs::write(folder.path().join(path), "old").unwrap();
        }
        symlink("sub/real", tree.join("inside")).unwrap();
        write(&tree.join("inside"), Existing::Replace, Visibility::Public).unwrap();
        assert!(tree.join("inside").is_symlink());
        assert_eq!(fs::read(tree.join("sub/real")).unwrap(), b"new");

        symlink("../outside", tree.join("out")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        for link in ["out", "dangling"] {
            assert!(write(&tree.join(link), Existing::Replace, Visibility::Public).is_err());
        }
        assert_eq!(fs::read(folder.path().join("outside")).unwrap(), b"old");
    }

    #[test]
    fn a_file_is_replaced_only_if_unchanged_since_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        let replaced = |old: &[u8], new: &[u8]| replace_if_unchanged(&path, old, new).unwrap();
        assert_eq!(replaced(b"old", b"new"), Replacement::Done);
        sync_folders_of([path.as_path(), &path]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(replaced(b"old", b"newer"), Replacement::ChangedMeanwhile);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), Existing::Replace, Visibility::Public).is_err());
        assert!(folder.path().is_dir());
    }

    #[test]
    fn work_trees_are_recognised_from_within() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("tree/sub")).unwrap();
        fs::write(folder.path().join("tree/.git"), "gitdir: elsewhere").unwrap();
        assert!(refuse_work_tree(&folder.path().join("tree/sub/f")).is_err());
        assert!(refuse_work_tree(&folder.path().join("f")).is_ok());
    }
}
