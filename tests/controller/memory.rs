//! What the controller has in its memory when it has done its work.

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

/// A segment larger than this is reserved and not used.
const LARGEST_SEGMENT: u64 = 1 << 30;

#[test]
fn no_value_stays_in_memory_when_the_work_is_done() -> Result<()> {
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

    // Buffers of connections live on, and are written over by what comes next.
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

/// All that a process has in memory, of which only the text can be searched. Takes the right to trace other
/// users' processes, because the controller keeps its own user from reading it.
fn memory(pid: u32) -> Result<String> {
    let file = File::open(format!("/proc/{pid}/mem")).context("this test takes root")?;
    let mut memory = String::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let (range, rest) = line.split_once(' ').context("no range")?;
        let (from, to) = range.split_once('-').context("no range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        if !rest.starts_with('r') || to - from > LARGEST_SEGMENT {
            continue;
        }
        let mut segment = vec![0; usize::try_from(to - from)?];
        // Some of the kernel's own cannot be read.
        if file.read_exact_at(&mut segment, from).is_ok() {
            memory.push_str(&String::from_utf8_lossy(&segment));
        }
    }
    Ok(memory)
}
