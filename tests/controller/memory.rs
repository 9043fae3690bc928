//! After its work, the controller's memory holds no secret value.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use anyhow::{Context, Result, ensure};
use bulla_tests::{Controller, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::{Fragile, HOLDER},
    marker::{MARKER, Words, in_base64},
    searched::Searched,
    test_namespace::TestNamespace,
};

/// A larger segment is only reserved, not used.
const LARGEST_SEGMENT: u64 = 1 << 30;

#[test]
fn no_value_stays_in_memory_after_the_work() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let namespace = TestNamespace::fragile(&fragile, "memory")?;
    let mut command = Controller::command(&fragile.plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519"]);
    let controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    for i in 0..50 {
        namespace.unseal(&format!("db-{i}"), &[("password", "1"), ("user", "1")])?;
    }
    namespace.unseal("db-0", &[("password", "2")])?;
    let edit = json!({"data": {"password": in_base64("edited")}});
    namespace.api.merge(&namespace.secret_path("db-1"), &edit)?;
    namespace.restored("db-1", &[("password", "1"), ("user", "1")])?;
    let mut rendered = namespace.seal("rendered", &[("password", "1")])?;
    rendered["spec"]["template"] = json!({"data": {"url": "https://shop:{{ password }}@db"}});
    namespace.apply(&rendered)?;
    namespace.done("rendered")?;
    let theirs = json!({
        "metadata": {"name": "merged", "labels": {"bulla.dev/target": "merge"}},
        "data": {"theirs": in_base64("1")},
    });
    namespace.api.create(&namespace.secrets(), &theirs)?;
    let mut merged = namespace.seal("merged", &[("ours", "1")])?;
    merged["spec"]["target"] = json!({"policy": "Merge"});
    namespace.apply(&merged)?;
    namespace.done("merged")?;

    // Buffers of open connections stay until the next messages overwrite them.
    let values = Words::new(&[MARKER]);
    eventually("a memory without values", SOON, || {
        let text = memory(controller.pid()?)?;
        ensure!(text.contains("bulla-controller"), "the memory cannot be read");
        ensure!(!values.are_in(&text), "a value is in it");
        Ok(())
    })?;
    namespace.api.delete(&namespace.secret_path("merged"), &Value::Null)?;
    drop(controller);
    fragile.restart_and_give_back()
}

/// The memory of a process, as text. Needs the right to trace other users' processes, because the controller prevents
/// its own user from reading its memory.
fn memory(pid: u32) -> Result<String> {
    let file = File::open(format!("/proc/{pid}/mem")).context("this test needs root")?;
    let mut memory = String::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let (range, rest) = line.split_once(' ').context("no range")?;
        let (from, to) = range.split_once('-').context("no range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        if !rest.starts_with('r') || to - from > LARGEST_SEGMENT {
            continue;
        }
        let mut segment = vec![0; usize::try_from(to - from)?];
        // Some of the kernel's segments cannot be read.
        if file.read_exact_at(&mut segment, from).is_ok() {
            memory.push_str(&String::from_utf8_lossy(&segment));
        }
    }
    Ok(memory)
}
