//! Bytes from files and stdin, within a limit and wiped when dropped.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zeroize::Zeroizing;

pub(crate) use bulla_manifests::{Input, MAX_FILE_BYTES};

const READ_BYTES: usize = 64 * 1024;

const STDIN: &str = "-";

/// Reads `path`, or stdin for `-`.
pub(crate) fn read(path: &Path) -> Result<Input> {
    if is_stdin(path) {
        let name = "<stdin>".to_owned();
        let bytes = read_wiped(io::stdin().lock(), 0).context("cannot read <stdin>")?;
        return Ok(Input { name, bytes });
    }
    let name = path.display().to_string();
    let open = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        read_wiped(file, length)
    };
    let bytes = open().with_context(|| format!("cannot read {name}"))?;
    Ok(Input { name, bytes })
}

/// The paths that a command reads: stdin when none is given, and stdin only once.
pub(crate) fn paths<'a>(
    files: &'a [PathBuf],
    others: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Vec<&'a Path>> {
    let mut paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    if paths.is_empty() {
        paths.push(Path::new(STDIN));
    }
    refuse_stdin_twice(paths.iter().copied().chain(others.into_iter().map(PathBuf::as_path)))?;
    if files.is_empty() && io::stdin().is_terminal() {
        bail!("no FILE given, and nothing is piped in");
    }
    Ok(paths)
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN)
}

/// Refuses to read stdin twice: the second read would find it empty.
pub(crate) fn refuse_stdin_twice<'a, P: AsRef<Path> + ?Sized + 'a>(
    paths: impl IntoIterator<Item = &'a P>,
) -> Result<()> {
    match paths.into_iter().filter(|path| is_stdin(path.as_ref())).count() {
        0 | 1 => Ok(()),
        _ => bail!("'-' (stdin) can be given only once"),
    }
}

/// `read_to_end` for secrets: a buffer that grows leaves a copy behind, so each old one is wiped.
pub(crate) fn read_wiped(
    reader: impl Read,
    expected_bytes: usize,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let capacity = expected_bytes.clamp(READ_BYTES, MAX_FILE_BYTES) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut reader = reader.take(MAX_FILE_BYTES as u64 + 1);
    loop {
        if bytes.len() == bytes.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(bytes.capacity() * 2));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        let start = bytes.len();
        let end = bytes.capacity().min(start + READ_BYTES);
        bytes.resize(end, 0);
        let read = loop {
            match reader.read(&mut bytes[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        bytes.truncate(start + read);
        if bytes.len() > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        if read == 0 {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_larger_than_expected_is_read_whole() {
        let content: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        assert_eq!(*read_wiped(&content[..], 0).unwrap(), content);
        assert_eq!(*read_wiped(&content[..], content.len()).unwrap(), content);
    }

    #[test]
    fn too_much_is_refused() {
        let error = read_wiped(io::repeat(b' '), 0).unwrap_err();
        assert_eq!(error.to_string(), "larger than 16 MiB");
        assert!(read_wiped(io::repeat(b' ').take(MAX_FILE_BYTES as u64), 0).is_ok());
    }
}
