//! Records what a program and its child processes write, to which files and under which names, and what the process
//! list shows of them. This checks every system call, as strace does. Not every system has strace, so
//! `traced/main.go` does it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

/// Everything that was recorded.
#[derive(Default)]
pub(crate) struct Traced {
    pub(crate) code: Option<i64>,
    pub(crate) writes: Vec<Write>,
    /// Names of files, and arguments and environments of programs: the kind, and the text.
    pub(crate) shown: Vec<(String, Vec<u8>)>,
}

/// One write.
pub(crate) struct Write {
    pub(crate) path: String,
    pub(crate) place: Place,
    /// None if the tracer does not see the bytes.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Disk,
    /// A file in memory.
    Memory,
    /// A pipe, a socket, a terminal or another device.
    Stream,
}

/// Built once and quickly: it needs only Go's standard library.
static TRACER: LazyLock<PathBuf> = LazyLock::new(|| {
    let tracer = Path::new(env!("CARGO_TARGET_TMPDIR")).join("traced");
    let status = Command::new("go")
        .args(["build", "-o", tracer.to_str().unwrap(), "main.go"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/traced"))
        .env("GOWORK", "off")
        .env("GOFLAGS", "-buildvcs=false")
        .status();
    assert!(status.expect("go is needed").success());
    tracer
});

/// Runs a command to its end, with a file as its stdin.
pub(crate) fn run(command: &Command, stdin: File) -> Traced {
    let mut tracer = Command::new(&*TRACER);
    tracer
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(stdin)
        .stderr(Stdio::inherit());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tracer.env(name, value),
            None => tracer.env_remove(name),
        };
    }
    let output = tracer.current_dir(command.get_current_dir().unwrap()).output().unwrap();
    assert!(output.status.success());
    let mut traced = Traced::default();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        traced.take(&serde_json::from_slice(line).unwrap());
    }
    traced
}

impl Traced {
    fn take(&mut self, seen: &Value) {
        let bytes = seen["bytes"].as_str().map(|bytes| BASE64_STANDARD.decode(bytes).unwrap());
        match seen["what"].as_str().unwrap() {
            "exit" => self.code = seen["code"].as_i64(),
            "write" => {
                let place = match seen["place"].as_str().unwrap() {
                    "disk" => Place::Disk,
                    "memory" => Place::Memory,
                    _ => Place::Stream,
                };
                let path = seen["path"].as_str().unwrap().to_owned();
                self.writes.push(Write { path, place, bytes });
            }
            what => self.shown.push((what.to_owned(), bytes.unwrap())),
        }
    }

    /// The files on disks that were written to.
    pub(crate) fn files_on_disk(&self) -> BTreeSet<&str> {
        let on_disk = self.writes.iter().filter(|write| write.place == Place::Disk);
        on_disk.map(|write| write.path.as_str()).collect()
    }
}
