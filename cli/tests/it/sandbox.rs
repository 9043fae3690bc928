//! A folder of its own and the command run in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tempfile::TempDir;

/// A folder that commands run in, and their home, so that the machine's own configuration is not read.
pub(crate) struct Sandbox(TempDir);

/// How a command ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `hybrid.txt`, `hybrid.pub`, `x25519.txt` and `x25519.pub` of the example keys.
    pub(crate) fn with_keys() -> Self {
        let sandbox = Self::new();
        for key_type in ["hybrid", "x25519"] {
            for (from, to) in [("identity.txt", "txt"), ("recipient.txt", "pub")] {
                let example = example(&format!("{key_type}-{from}"));
                fs::copy(example, sandbox.path(&format!("{key_type}.{to}"))).unwrap();
            }
        }
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulla"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env_remove("KUBECONFIG")
            .env("HOME", self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// A copy of the program that every user may run, whatever the build folder's permissions are. Another process
    /// makes the copy: a child that another test starts in the meantime would inherit the file open for writing, and
    /// such a file cannot be run.
    #[cfg(unix)]
    pub(crate) fn own_program(&self) -> PathBuf {
        let copy = self.path("bulla");
        let status = Command::new("cp")
            .args([env!("CARGO_BIN_EXE_bulla").as_ref(), copy.as_path()])
            .status();
        assert!(status.unwrap().success());
        copy
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with_input(args, b"")
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command may fail before it reads stdin. That must not fail the test here.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        run.stdout
    }
}

/// Runs Git in the sandbox, without the machine's own configuration.
pub(crate) fn git(sandbox: &Sandbox, args: &[&str]) {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=x", "-c", "user.email=x@example.com"])
        .args(args)
        .current_dir(sandbox.0.path())
        .env("HOME", sandbox.0.path())
        .env("GIT_CONFIG_NOSYSTEM", "1");
    assert!(command.status().unwrap().success(), "git {args:?}");
}

/// A file of `keys-example/`.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys-example").join(name)
}

/// The documents of a YAML stream.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("---\n").map(|document| yaml_serde::from_str(document).unwrap()).collect()
}

/// The plaintext of a key of a Secret's `data`.
pub(crate) fn plaintext(secret: &Value, key: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap()
}
