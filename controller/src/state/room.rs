//! Room for large objects: only a few are in memory at the same time, however many workers there are.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many large objects may be open. Each takes about five times its size: the answer, the values, the Secret.
const PLACES: usize = 2;

/// Answers that are larger than this wait for room.
pub(crate) const LARGE_BYTES: usize = 256 * 1024;

/// The places for large objects.
pub(crate) struct Room(Arc<Semaphore>);

/// A place, until it is dropped. Small objects need none.
#[derive(Default)]
pub(crate) struct Occupied(
    #[expect(dead_code, reason = "dropping it frees the place")] Option<OwnedSemaphorePermit>,
);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }

    /// Waits for a place.
    pub(crate) async fn occupy(&self) -> Occupied {
        Occupied(self.0.clone().acquire_owned().await.ok()) // it is never closed
    }
}
