//! The command line: flags that several commands share, completion, and how the program was invoked.

pub(crate) mod completion;
pub(crate) mod flags;
pub(crate) mod invocation;
#[cfg(test)]
mod reference;
