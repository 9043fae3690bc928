//! The folder in which plaintext is edited. It is private, in memory if possible, and overwritten and removed in
//! every case except a SIGKILL.
//!
//! Memory can still be swapped out, and files that an editor writes elsewhere are not removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, TempDir};
use zeroize::Zeroizing;

use crate::files::input;

/// The name of the edited file; its extension tells editors what it contains.
const FILE: &str = "secret.yaml";

/// How many times to try to empty the folder, because an editor that is about to end may still write into it.
const ATTEMPTS: usize = 5;

/// The open folder. Code that ends the process without unwinding wipes it.
static OPEN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Where the folder is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// In memory: nothing is written to a disk.
    Memory(PathBuf),
    /// On a disk, because no storage in memory is available.
    Disk(PathBuf),
}

impl Storage {
    /// The first available folder in memory: the session's own folder, then the one that all users share.
    pub(super) fn find(runtime_folder: Option<&OsStr>, shared_folder: &Path) -> Self {
        let runtime_folder = runtime_folder.map(PathBuf::from);
        let mut folders = runtime_folder.into_iter().chain([shared_folder.to_owned()]);
        match folders.find(|folder| is_in_memory(folder) && is_writable(folder)) {
            Some(folder) => Self::Memory(folder),
            None => Self::Disk(std::env::temp_dir()),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Memory(folder) | Self::Disk(folder) => folder,
        }
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    /// statfs(2).
    const TMPFS_MAGIC: u32 = 0x0102_1994;
    const RAMFS_MAGIC: u32 = 0x8584_58f6;
    // The type of this field depends on the processor: 32 bits or more, signed or unsigned.
    let kind = rustix::fs::statfs(folder).map(|found| found.f_type as u32);
    folder.is_absolute() && matches!(kind, Ok(TMPFS_MAGIC | RAMFS_MAGIC))
}

/// Other systems have no storage in memory that is always available.
#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

fn is_writable(folder: &Path) -> bool {
    Builder::new().prefix(".bulla-").tempdir_in(folder).is_ok()
}

/// A folder with the edited file.
pub(super) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes the folder with mode 0700 and the file in it with mode 0600.
    pub(super) fn new(storage: &Storage, parts: &[&[u8]]) -> io::Result<Self> {
        let mut builder = Builder::new();
        builder.prefix("bulla-edit-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o700));
        }
        let scratch = Self { folder: builder.tempdir_in(storage.folder())? };
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(scratch.folder.path().to_owned());
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(scratch.file())?;
        for part in parts {
            file.write_all(part)?;
        }
        Ok(scratch)
    }

    /// The path of the edited file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// The current content of the file.
    pub(super) fn read(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let file = File::open(self.file())?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        input::read_wiped(file, length)
    }

    /// Wipes the folder, with everything that an editor left in it.
    pub(super) fn wipe(self) -> io::Result<()> {
        wipe(self.folder.path())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // An error cannot be reported here; call `wipe` to get it.
        let _ = wipe(self.folder.path());
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Wipes the open folder, if there is one, because the process is about to end.
pub(crate) fn wipe_open() {
    // The panicking thread may hold the lock.
    if let Ok(mut open) = OPEN.try_lock()
        && let Some(folder) = open.take()
    {
        let _ = wipe(&folder);
    }
}

fn wipe(folder: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        let overwritten = overwrite(folder);
        last = match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(()) => return Ok(()),
            removed => overwritten.and(removed),
        };
    }
    last
}

/// Overwrites each file in the folder, but not the targets of links.
fn overwrite(folder: &Path) -> io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            overwrite(&entry.path())?;
        } else if kind.is_file() {
            let mut file = File::options().write(true).open(entry.path())?;
            let mut left = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
            while left > 0 {
                let some = left.min(ZEROS.len());
                file.write_all(&ZEROS[..some])?;
                left -= some;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::MutexGuard;

    use super::*;

    /// A process has one scratch folder at a time, so the tests that use it take turns.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn scratch(folder: &Path) -> Scratch {
        Scratch::new(&Storage::Disk(folder.to_owned()), &[b"# head\n", b"a: 1\n"]).unwrap()
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_folder_and_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch(folder.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(scratch.folder.path()), 0o700);
        assert_eq!(mode(&scratch.file()), 0o600);
        assert_eq!(*scratch.read().unwrap(), b"# head\na: 1\n");
    }

    #[cfg(unix)]
    #[test]
    fn everything_in_the_folder_is_overwritten_and_removed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("other"), "stays").unwrap();
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch(folder.path());
        let inside = scratch.folder.path().to_owned();
        fs::create_dir(inside.join("undo")).unwrap();
        fs::write(inside.join("undo/left"), vec![b'x'; 10_000]).unwrap();
        std::os::unix::fs::symlink(outside.path().join("other"), inside.join("link")).unwrap();
        // A hard link outside the folder shows that the file was overwritten.
        fs::hard_link(inside.join("undo/left"), outside.path().join("second")).unwrap();
        scratch.wipe().unwrap();
        assert!(is_empty(folder.path()));
        assert_eq!(fs::read(outside.path().join("second")).unwrap(), vec![0; 10_000]);
        assert_eq!(fs::read(outside.path().join("other")).unwrap(), b"stays");
    }

    #[test]
    fn the_open_folder_is_wiped_when_the_process_ends() {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch(folder.path());
        wipe_open();
        assert!(is_empty(folder.path()));
        drop(scratch);
        drop(self::scratch(folder.path()));
        assert!(is_empty(folder.path()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_on_a_disk_is_not_taken_for_memory() {
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("relative")));
        assert!(!is_in_memory(Path::new("/nowhere")));
        let found = Storage::find(Some(OsStr::new("/proc")), Path::new("/nowhere"));
        assert_eq!(found, Storage::Disk(std::env::temp_dir()));
    }
}
