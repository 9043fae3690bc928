//! The API server as one user sees it, through `kubectl`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Asset;

/// `kubectl` with one kubeconfig file, which other clients may use too.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// `kubectl` with this kubeconfig and its current context.
    ///
    /// # Errors
    ///
    /// When `kubectl` does not build.
    pub fn new(kubeconfig: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { program: Asset::Kubectl.path()?, kubeconfig: kubeconfig.into() })
    }

    /// The kubeconfig file.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The command, not yet run. Use it for long-lived commands such as `get --watch`, which need a leash.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            // Ignore the user's preferences and the cache of another API server on this port.
            .env("KUBERC", "off")
            .env("KUBECACHEDIR", self.kubeconfig.with_file_name("cache"));
        command
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails. The message includes its standard error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        self.run_with_input(args, "")
    }

    /// [`run`](Self::run) with standard input, as for `["apply", "-f", "-"]`.
    ///
    /// # Errors
    ///
    /// When it fails. The message includes its standard error.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // If kubectl does not read all input, it prints the reason to standard error.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", args.join(" "), said.trim());
        String::from_utf8(output.stdout).context("kubectl printed something that is not Unicode")
    }

    /// [`run`](Self::run) with `--output=json`.
    ///
    /// # Errors
    ///
    /// When it fails or prints something else.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let printed = self.run(&[args, &["--output=json"]].concat())?;
        serde_json::from_str(&printed).context("kubectl printed no JSON")
    }
}
