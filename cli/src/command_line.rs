//! The command line as it is typed: flags that several commands share, completion, and how the program is invoked.

pub(crate) mod completion;
pub(crate) mod flags;
pub(crate) mod invocation;
#[cfg(test)]
mod reference;
