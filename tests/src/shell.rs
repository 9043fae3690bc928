//! Command lines as a user types them, with `bulla` and `kubectl` on the path.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{Asset, Folder, Program, program};

/// A shell in its own folder, with `bulla` and `kubectl` on its path.
#[derive(Debug)]
pub struct Shell {
    path: OsString,
    kubeconfig: PathBuf,
    work: PathBuf,
}

impl Shell {
    /// A shell that works in `work` within `folder`, as the user of `kubeconfig`.
    ///
    /// # Errors
    ///
    /// When a program does not build.
    pub fn new(folder: &Folder, kubeconfig: &Path) -> Result<Self> {
        let (programs, work) = (folder.path().join("bin"), folder.path().join("work"));
        fs::create_dir_all(&programs)?;
        fs::create_dir_all(&work)?;
        symlink(program(Program::Bulla)?, programs.join("bulla"))?;
        symlink(Asset::Kubectl.path()?, programs.join("kubectl"))?;
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Ok(Self { path, kubeconfig: kubeconfig.into(), work })
    }

    /// The path of a file or folder in its working folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// The command line, not yet run.
    #[must_use]
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(&self.work)
            .stdin(Stdio::null())
            .env("PATH", &self.path)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBERC", "off")
            .env("KUBECACHEDIR", self.work.with_file_name("cache"))
            // Ignore the user's Git configuration.
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "Developer")))
            .envs(
                ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "dev@example.com")),
            );
        command
    }

    /// Runs the line and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails. The message includes its standard error.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.command(line).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}`: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
