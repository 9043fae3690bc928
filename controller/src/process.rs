//! What the operating system may do with our memory, and what stays in it.

use std::alloc::System;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// What we hold is wiped where it lies. What libraries held is wiped when they free it: requests, answers and
/// TLS records pass through buffers that we never see.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<System> = zeroizing_alloc::ZeroAlloc(System);

/// Identities and values are in memory: no core file, and no other process of our user may read it.
pub(crate) fn keep_from_being_read() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let outcome = setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = outcome {
        tracing::warn!(%error, "memory may be dumped");
    }
}
