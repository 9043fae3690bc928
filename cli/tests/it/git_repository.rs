//! A Git repository in a sandbox, without the machine's own configuration.

use std::process::{Command, Output};

use crate::sandbox::Sandbox;

/// A sandbox that is a work tree, with the example keys outside what Git sees.
pub(crate) struct GitRepository(pub(crate) Sandbox);

impl GitRepository {
    pub(crate) fn new() -> Self {
        let repository = Self(Sandbox::with_keys());
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.0.write(".git/info/exclude", "*.txt\n*.pub\nsecret*\n");
        repository
    }

    /// Runs a Git command, which must succeed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.try_git(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn try_git(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let bulla = std::path::Path::new(env!("CARGO_BIN_EXE_bulla")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(args)
            .current_dir(self.0.path(""))
            .env("PATH", format!("{}:{path}", bulla.display()))
            .env("HOME", self.0.path(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    /// Commits everything.
    pub(crate) fn commit(&self, subject: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", subject]);
    }

    /// Seals values for `prod/NAME` to the key of a recipients file.
    pub(crate) fn sealed(&self, name: &str, values: &str, recipients: &str) -> String {
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: prod}}\nstringData: {{{values}}}\n"
        );
        self.0.write("secret.yaml", secret);
        self.0.done(&["seal", "-R", recipients, "secret.yaml"])
    }

    /// Seals values into a file of the work tree.
    pub(crate) fn seal(&self, file: &str, name: &str, values: &str) {
        let sealed = self.sealed(name, values, "x25519.pub");
        self.0.write(file, sealed);
    }

    /// Gives files or folders new headers, to the hybrid key.
    pub(crate) fn rekey(&self, paths: &[&str]) {
        let mut args = vec!["rekey", "-q", "--yes", "-i", "x25519.txt", "-R", "hybrid.pub"];
        args.extend(paths);
        self.0.done(&args);
    }
}
