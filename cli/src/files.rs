//! Files: finding, reading and replacing them, and what Git knows about them.

pub(crate) mod draft;
pub(crate) mod folder;
pub(crate) mod git;
pub(crate) mod input;
pub(crate) mod sealed_file;
pub(crate) mod walk;
pub(crate) mod write;
