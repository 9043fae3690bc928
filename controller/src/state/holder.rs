//! The name of this cluster, once it is known, and what stands against the one that was asked for.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The holder of the keys that this controller makes.
#[derive(Default)]
pub(crate) struct OwnHolder {
    name: OnceLock<String>,
    contradiction: Mutex<Option<String>>,
}

impl OwnHolder {
    /// The name; empty until it is known. No work is done before that.
    pub(crate) fn name(&self) -> &str {
        self.name.get().map_or("", String::as_str)
    }

    /// Sets the name for the life of this process.
    pub(crate) fn settle(&self, name: String) {
        *self.lock() = None;
        let _ = self.name.set(name); // it is set once only
    }

    /// Why the name that was asked for is not taken.
    pub(crate) fn contradiction(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Keeps the replica from being ready.
    pub(crate) fn contradict(&self, why: String) {
        *self.lock() = Some(why);
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.contradiction.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
