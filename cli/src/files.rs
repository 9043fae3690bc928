//! Files: finding, reading and replacing them, and what Git knows about them.

pub(crate) mod git;
pub(crate) mod input;
pub(crate) mod replace;
pub(crate) mod sealed_file;
pub(crate) mod walk;
