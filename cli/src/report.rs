//! What a command prints: results, messages, progress and failures, and how they are escaped.

pub(crate) mod diagnostic;
pub(crate) mod escape;
pub(crate) mod failure;
pub(crate) mod output;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod terminal;
