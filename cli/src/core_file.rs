//! No core file for a process that holds plaintext or identities: it would write all of them to a disk.

#[cfg(unix)]
use std::sync::OnceLock;

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit before.
#[cfg(unix)]
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// From now on a crash leaves no core file, of this process and of those that it starts.
pub(crate) fn forbid() {
    #[cfg(unix)]
    {
        let before = BEFORE.get_or_init(|| getrlimit(Resource::Core));
        // If the limit cannot be set, it stays unchanged; a crash is unlikely.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: before.maximum });
    }
}

/// Restores the limit, for a command of the user's own.
pub(crate) fn allow_again() {
    #[cfg(unix)]
    if let Some(before) = BEFORE.get() {
        let _ =
            setrlimit(Resource::Core, Rlimit { current: before.current, maximum: before.maximum });
    }
}
