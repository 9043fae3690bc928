//! What every replica knows: plain data behind locks. Workers fill it and read it.
//!
//! Nothing in this module makes a request or imports a worker.

pub(crate) mod backoff;
pub(crate) mod cache;
pub(crate) mod damping;
pub(crate) mod holder;
pub(crate) mod key_store;
pub(crate) mod object_ref;
pub(crate) mod own_writes;
pub(crate) mod queue;
pub(crate) mod rekeys;
pub(crate) mod room;
