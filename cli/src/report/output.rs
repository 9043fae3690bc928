//! Where results go: stdout, or a file that is written whole or not at all.

mod messages;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::{Builder, NamedTempFile};

pub(crate) use self::messages::{
    Label, MessageFlags, is_quiet, note, stderr, styled, summary, warning,
};
use crate::files::git;
use crate::report::failure::{Failure, OrHint};
use crate::signals::HeldSignals;

/// Whether a file that is there may be written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It stays as it is, and the command fails with this hint.
    Keep(&'static str),
    /// It is replaced at once by a new one.
    Replace,
}

impl Existing {
    /// What `--force` means for it.
    pub(crate) fn unless(force: bool) -> Self {
        match force {
            true => Self::Replace,
            false => Self::Keep("write over it with --force"),
        }
    }
}

/// Who may see what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Anyone: an existing file's mode is kept.
    Public,
    /// The owner: mode 0600.
    Secret,
}

/// Writes data to stdout. A reader that has seen enough is no failure.
pub(crate) fn stdout(data: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    to_stdout(stdout.write_all(data).and_then(|()| stdout.flush()))
}

/// Writes a text for people to stdout, which may be styled.
pub(crate) fn text(text: &str) -> Result<()> {
    to_stdout(messages::write_to_stdout(text))
}

fn to_stdout(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Whether `-o` asks for stdout: it is not given, or `-`.
pub(crate) fn file(output: Option<&Path>) -> Option<&Path> {
    output.filter(|path| *path != Path::new("-"))
}

/// Writes `data` to `path` so that there is the old file or the new one at every moment, and never half.
pub(crate) fn write_file(
    path: &Path,
    data: &[u8],
    existing: Existing,
    content: Content,
) -> Result<(), Failure> {
    let name = path.display();
    let path = follow(path)?;
    let folder = folder_of(&path);
    let mode = match (fs::metadata(&path), existing) {
        (Ok(metadata), _) if !metadata.is_file() => {
            return Err(anyhow!("{name} is not a regular file").into());
        }
        (Ok(_), Existing::Keep(hint)) => {
            return Err(anyhow!("{name} is there already")).or_hint(hint);
        }
        (Ok(metadata), _) if content == Content::Public => Some(metadata.permissions()),
        (Ok(_) | Err(_), _) => None,
    };
    let signals = HeldSignals::new();
    let write = || -> io::Result<()> {
        let mut file = temporary_file(folder, content)?;
        file.write_all(data)?;
        if let Some(mode) = mode {
            file.as_file().set_permissions(mode)?;
        }
        file.as_file().sync_all()?;
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

/// Why a file is still what it was.
#[derive(Debug)]
pub(crate) enum NotExchanged {
    /// Somebody else wrote to it.
    Changed,
    /// It could not be written.
    Failed(anyhow::Error),
}

impl NotExchanged {
    /// As its user is told, of the file at `path`.
    pub(crate) fn of(self, path: &Path) -> Failure {
        match self {
            Self::Changed => {
                let name = path.display();
                Failure::unable(anyhow!("{name}: it was changed by somebody else meanwhile"))
                    .hint("nothing was written to it: run the command again")
            }
            Self::Failed(error) => error.into(),
        }
    }
}

/// Writes `new` over a file that holds `old`, and only while it does. Its mode is kept. There is the old file or
/// the new one at every moment; that it is the new one after a power failure is for [`sync_folders_of`].
pub(crate) fn exchange_file(path: &Path, old: &[u8], new: &[u8]) -> Result<(), NotExchanged> {
    let failed = |error: io::Error| {
        let error = anyhow!(error).context(format!("cannot write {}", path.display()));
        NotExchanged::Failed(error)
    };
    let path = follow(path).map_err(NotExchanged::Failed)?;
    let folder = folder_of(&path);
    let signals = HeldSignals::new();
    let write = || -> io::Result<bool> {
        // To rename over a file that may not be written to would be to get round its mode.
        let mode = File::options().write(true).open(&path)?.metadata()?.permissions();
        let mut file = temporary_file(folder, Content::Public)?;
        file.write_all(new)?;
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        if fs::read(&path)? != old {
            return Ok(false);
        }
        file.persist(&path)?;
        Ok(true)
    };
    let result = write();
    signals.deliver();
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(NotExchanged::Changed),
        Err(error) => Err(failed(error)),
    }
}

/// Refuses a file that [`exchange_file`] could not write, before there is anything to write.
pub(crate) fn check_exchangeable(path: &Path) -> Result<()> {
    let name = path.display();
    let real = follow(path)?;
    let open = || File::options().write(true).open(&real)?.metadata();
    let metadata = open().with_context(|| format!("cannot write {name}"))?;
    match metadata.is_file() {
        true => Ok(()),
        false => bail!("{name} is not a regular file"),
    }
}

/// Makes the new names of exchanged files last through a power failure: each folder once, because that takes as long
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

/// Refuses a place in which `git add` would find a private file.
pub(crate) fn refuse_work_tree(path: &Path) -> Result<(), Failure> {
    let real = follow(path)?;
    let folder = fs::canonicalize(folder_of(&real))
        .with_context(|| format!("cannot write {}", path.display()))?;
    match git::root_of(&folder) {
        Some(root) => {
            Err(anyhow!("{} is inside the Git work tree {}", path.display(), root.display()))
                .or_hint("write it elsewhere, or insist with --force")
        }
        None => Ok(()),
    }
}

/// The file itself when `path` is a link, so that the link survives. It may not lead out of its folder: what
/// seems to lie in a repository would be written somewhere else.
fn follow(path: &Path) -> Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path.to_owned());
    }
    let resolve =
        || -> io::Result<_> { Ok((fs::canonicalize(folder_of(path))?, fs::canonicalize(path)?)) };
    let (folder, real) =
        resolve().with_context(|| format!("cannot follow the link {}", path.display()))?;
    match real.starts_with(&folder) {
        true => Ok(real),
        false => bail!("{} is a link that leads out of its folder", path.display()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn temporary_file(folder: &Path, content: Content) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".bulla-").suffix(".tmp");
    #[cfg(unix)]
    if content == Content::Public {
        use std::os::unix::fs::PermissionsExt;
        // Less what the umask takes away; without this a temporary file is 0600.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    #[cfg(not(unix))]
    let _ = content;
    builder.tempfile_in(folder)
}

/// Makes the new name itself last through a power failure.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Existing = Existing::Keep("");

    fn write(path: &Path, existing: Existing, content: Content) -> Result<(), Failure> {
        write_file(path, b"new", existing, content)
    }

    #[test]
    fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, KEEP, Content::Public).unwrap();
        fs::write(&path, "old").unwrap();
        assert!(write(&path, KEEP, Content::Public).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, Existing::Replace, Content::Public).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_kept_and_secrets_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, Existing::Replace, Content::Public).unwrap();
        assert_eq!(mode(), 0o640);
        write(&path, Existing::Replace, Content::Secret).unwrap();
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
        write(&tree.join("inside"), Existing::Replace, Content::Public).unwrap();
        assert!(tree.join("inside").is_symlink());
        assert_eq!(fs::read(tree.join("sub/real")).unwrap(), b"new");

        symlink("../outside", tree.join("out")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        for link in ["out", "dangling"] {
            assert!(write(&tree.join(link), Existing::Replace, Content::Public).is_err());
        }
        assert_eq!(fs::read(folder.path().join("outside")).unwrap(), b"old");
    }

    #[test]
    fn a_file_is_exchanged_only_while_it_is_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "old").unwrap();
        exchange_file(&path, b"old", b"new").unwrap();
        sync_folders_of([path.as_path(), &path]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let error = exchange_file(&path, b"old", b"newer").unwrap_err();
        assert!(matches!(error, NotExchanged::Changed));
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_regular_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path(), Existing::Replace, Content::Public).is_err());
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
