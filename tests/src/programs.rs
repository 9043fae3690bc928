//! The workspace's own programs, built on demand.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A program of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// The command line tool.
    Bulla,
    /// The controller.
    Controller,
    /// Runs another program for as long as its holder lives; see [`Leashed`](crate::Leashed).
    Leash,
}

impl Program {
    const fn binary(self) -> &'static str {
        match self {
            Self::Bulla => "bulla",
            Self::Controller => "bulla-controller",
            Self::Leash => "leash",
        }
    }
}

/// The path of the program. Cargo builds it from the current sources, with the caller's profile, once per
/// process.
///
/// # Errors
///
/// When it does not build. The compiler's messages are on standard error.
pub fn program(program: Program) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<Program, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(&program) {
        return Ok(path.clone());
    }
    let path = build(program)?;
    built.insert(program, path.clone());
    Ok(path)
}

fn build(program: Program) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--message-format=json-render-diagnostics"])
        // A test among the targets gives dependencies the same features as `cargo test`. Otherwise the
        // Kubernetes client and more would be built twice.
        .args(["--workspace", "--bin", program.binary(), "--test", "tidy"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // Cargo sets these variables for this package's programs. Passed on to another Cargo, they would cause
    // rebuilds of the dependencies that read them.
    for (name, _) in env::vars_os() {
        let foreign = |name: &str| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|own| name.starts_with(own))
        };
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    let output = command.output().context("cannot run cargo")?;
    ensure!(output.status.success(), "{} does not build", program.binary());
    executable(&output.stdout, program.binary())
        .with_context(|| format!("cargo names no executable {}", program.binary()))
}

/// Finds the executable in Cargo's messages, which are one JSON object per line.
fn executable(messages: &[u8], binary: &str) -> Option<PathBuf> {
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == binary)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}
