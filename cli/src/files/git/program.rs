//! Starts the program `git`, so that it runs nothing that the repository contains.
//!
//! Git looks for a repository upwards from the folder that it is started in, and then obeys its configuration, which may
//! name programs. A folder of plain files can look like a repository, so Git is never asked from there: it is started
//! in the root of the work tree, and told where the repository is. Hooks, the file system monitor and the network are off.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow};

/// Settings that keep Git from running programs, whatever the configuration says.
const SETTINGS: [&str; 4] = [
    "safe.bareRepository=explicit",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
];

/// Variables that a hook inherits and that may be about another repository.
const INHERITED: [&str; 10] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_EXTERNAL_DIFF",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_WORK_TREE",
];

/// The root of the work tree that holds a path without links.
pub(crate) fn root_of(real: &Path) -> Option<PathBuf> {
    // A file in place of the folder marks a linked work tree or a submodule.
    real.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// Whether Git can be asked about a folder. An empty `.git` does not count.
pub(crate) fn is_repository(root: &Path) -> bool {
    let git = root.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

/// A hook of `git commit FILE` gets an index of its own, which counts for the repository of the hook only.
pub(super) fn index_of_hook(root: &Path, git_folder: &Path) -> Option<OsString> {
    let index = std::env::var_os("GIT_INDEX_FILE")?;
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok()?;
    let is_this = match std::env::var_os("GIT_DIR") {
        Some(folder) => here.join(folder).canonicalize().ok()? == git_folder.canonicalize().ok()?,
        None => root_of(&here).as_deref() == Some(root),
    };
    is_this.then(|| root.join(index).into_os_string())
}

/// What every git command has in common.
pub(super) fn command(root: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["--no-replace-objects", "--literal-pathspecs"]);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    for variable in INHERITED {
        command.env_remove(variable);
    }
    command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        // No file is fetched, not even in a partial clone.
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_ALLOW_PROTOCOL", "none")
        .current_dir(root)
        .stdin(Stdio::null());
    command
}

/// Why git failed, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{first}")]
pub(super) struct GitSaid {
    first: String,
    /// What it advises, if anything.
    pub(super) advice: Option<String>,
}

impl GitSaid {
    fn new(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().map(|line| line.strip_prefix("fatal: ").unwrap_or(line));
        let first =
            first.map_or("git exited with an error".to_owned(), |line| format!("git: {line}"));
        let advice = Vec::from_iter(lines).join(" ");
        Self { first, advice: Some(advice).filter(|advice| !advice.is_empty()) }
    }
}

pub(super) fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow!("the program git is not installed"),
        _ => anyhow!(error).context("cannot run git"),
    })?;
    if !output.status.success() {
        return Err(GitSaid::new(&output.stderr).into());
    }
    Ok(output.stdout)
}

/// A path as Git writes it with `-z`: any bytes.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        std::ffi::OsStr::from_bytes(bytes).into()
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(&*String::from_utf8_lossy(bytes))
    }
}
