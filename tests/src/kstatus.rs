//! What Flux, Argo CD, Helm and others conclude from an object's status.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Asset;

/// The kstatus library's verdict on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The conclusion.
    pub status: Status,
    /// The reason, in the words of the library or the condition.
    pub message: String,
}

/// How far along an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is as its spec declares.
    Current,
    /// It is not yet as its spec declares.
    InProgress,
    /// It will not become as declared by itself.
    Failed,
    /// It is being deleted.
    Terminating,
    /// The library cannot tell.
    Unknown,
}

impl Verdict {
    /// Evaluates one object.
    ///
    /// # Errors
    ///
    /// When it is not a Kubernetes object.
    pub fn of(object: &Value) -> Result<Self> {
        Self::of_each(std::slice::from_ref(object))?.pop().context("kstatus gave no verdict")
    }

    /// Evaluates many objects, in order.
    ///
    /// # Errors
    ///
    /// When one of them is not a Kubernetes object.
    pub fn of_each(objects: &[Value]) -> Result<Vec<Self>> {
        let mut child = Command::new(Asset::Kstatus.path()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kstatus")?;
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // If kstatus does not read all input, it prints the reason to standard error.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(lines.as_bytes())));
            child.wait_with_output()
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", said.trim());
        String::from_utf8_lossy(&output.stdout).lines().map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let (status, message) = line.split_once('\t').context("kstatus printed no tab")?;
        let status = match status {
            "Current" => Status::Current,
            "InProgress" => Status::InProgress,
            "Failed" => Status::Failed,
            "Terminating" => Status::Terminating,
            _ => Status::Unknown,
        };
        Ok(Self { status, message: message.to_owned() })
    }
}
