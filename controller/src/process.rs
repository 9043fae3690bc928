//! Keeps secrets in memory from being dumped, read by other processes or left behind.

use std::alloc::System;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// The controller wipes its own secrets. Libraries hold copies too: requests, answers and TLS records pass
/// through their buffers. This allocator wipes all memory when it is freed.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<System> = zeroizing_alloc::ZeroAlloc(System);

/// Forbids core files, and forbids other processes of the same user to read this process's memory.
pub(crate) fn keep_from_being_read() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let outcome = setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = outcome {
        tracing::warn!(%error, "could not protect the process's memory from being dumped");
    }
}
