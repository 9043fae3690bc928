//! Starts the program `git`, so that it runs nothing that the repository contains.
//!
//! Git looks for a repository upwards from the folder that it is started in, and then obeys its configuration, which may
//! name programs. A folder of plain files can look like a repository, so Git is never asked from there: it is started
//! in the root of the work tree, and told where the repository is. Hooks, the file system monitor and the network are off.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::report::failure::Failure;

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

/// A repository with a work tree.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// The root of its work tree, without links.
    pub(crate) root: PathBuf,
    git_folder: PathBuf,
    /// The index that the next commit is made from, in a hook.
    index: Option<OsString>,
}

/// The root of the work tree that holds a path without links.
pub(crate) fn root_of(real: &Path) -> Option<PathBuf> {
    // A file in place of the folder marks a linked work tree or a submodule.
    real.ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// Whether Git can be asked about a folder. An empty `.git` is no repository.
pub(crate) fn is_repository(root: &Path) -> bool {
    let git = root.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

impl Repository {
    /// The innermost repository around a path without links, if any.
    pub(crate) fn around(real: &Path) -> Result<Option<Self>, Failure> {
        root_of(real)
            .filter(|root| is_repository(root))
            .map_or(Ok(None), |root| Self::of_root(root).map(Some))
    }

    /// The repository around the current folder.
    pub(crate) fn here() -> Result<Option<Self>, Failure> {
        let here = std::env::current_dir().and_then(std::fs::canonicalize);
        Self::around(&here.context("cannot find the current folder")?)
    }

    /// The repository of a work tree. Git itself says where it is, and whether its owner is trusted.
    fn of_root(root: PathBuf) -> Result<Self, Failure> {
        let mut command = command(&root);
        // Not even a broken repository leads to another one above.
        command.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root));
        let found = output_of(command.args(["rev-parse", "--absolute-git-dir"]));
        let found = found.map_err(|error| {
            let what = format!("git cannot read the repository {}", root.display());
            let advice = error.downcast_ref::<GitSaid>().and_then(|said| said.advice.clone());
            let hint = advice.unwrap_or_else(|| "to see why, run git status there".to_owned());
            Failure::unable(error.context(what)).hint(hint)
        })?;
        let git_folder = path_of(found.strip_suffix(b"\n").unwrap_or(&found));
        let index = index_of_hook(&root, &git_folder);
        Ok(Self { root, git_folder, index })
    }

    /// A git command that changes nothing and asks no questions. It sees paths from the root.
    pub(super) fn git(&self, args: &[&str]) -> Command {
        let mut command = command(&self.root);
        command.args(args).env("GIT_DIR", &self.git_folder).env("GIT_WORK_TREE", &self.root);
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        command
    }

    /// The same without the programs that convert files. Git would run them to compare a file with its index.
    pub(super) fn git_without_filters(&self, args: &[&str]) -> Command {
        let mut command = self.git(args);
        let list = ["config", "--null", "--name-only", "--get-regexp", r"^filter\."];
        // It fails if there are none.
        let keys = self.run(&list).unwrap_or_default();
        let count = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok());
        let mut count: usize = count.unwrap_or(0);
        for key in keys.split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
            command.env(format!("GIT_CONFIG_KEY_{count}"), path_of(key));
            command.env(format!("GIT_CONFIG_VALUE_{count}"), "");
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        command
    }

    pub(super) fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        output_of(&mut self.git(args))
    }

    /// The same for one path in the work tree, which Git takes literally.
    pub(super) fn run_on(&self, args: &[&str], path: &Path) -> Result<Vec<u8>> {
        output_of(self.git(args).arg("--").arg(if path == Path::new("") {
            OsStr::new(".")
        } else {
            path.as_os_str()
        }))
    }
}

/// A hook of `git commit FILE` gets an index of its own, which counts for the repository of the hook only.
fn index_of_hook(root: &Path, git_folder: &Path) -> Option<OsString> {
    let index = std::env::var_os("GIT_INDEX_FILE")?;
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok()?;
    let is_this = match std::env::var_os("GIT_DIR") {
        Some(folder) => here.join(folder).canonicalize().ok()? == git_folder.canonicalize().ok()?,
        None => root_of(&here).as_deref() == Some(root),
    };
    is_this.then(|| root.join(index).into_os_string())
}

/// What every git command has in common.
fn command(root: &Path) -> Command {
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
    advice: Option<String>,
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
        OsStr::from_bytes(bytes).into()
    }
    #[cfg(not(unix))]
    {
        PathBuf::from(&*String::from_utf8_lossy(bytes))
    }
}
