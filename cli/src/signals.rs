//! Signals that end the process, held back while work must not be left half done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Holds back signals that would end the process until it has tidied up. Once held, they no longer act by themselves,
/// so long work must keep holding them and ask whether one came.
pub(crate) struct HeldSignals {
    received: Arc<AtomicUsize>,
    registrations: Vec<signal_hook::SigId>,
}

impl HeldSignals {
    /// Holds them from now on.
    pub(crate) fn new() -> Self {
        #[cfg(unix)]
        const SIGNALS: [i32; 3] = [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ];
        #[cfg(not(unix))]
        const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let received = Arc::new(AtomicUsize::new(0));
        let register = |signal: i32| {
            signal_hook::flag::register_usize(
                signal,
                received.clone(),
                signal.unsigned_abs() as usize,
            )
        };
        // A signal that cannot be held keeps its usual effect.
        let registrations =
            SIGNALS.into_iter().filter_map(|signal| register(signal).ok()).collect();
        Self { received, registrations }
    }

    /// Whether one came.
    pub(crate) fn is_received(&self) -> bool {
        self.received.load(Ordering::SeqCst) != 0
    }

    /// Forgets a Ctrl-C that was for another program at the same terminal.
    pub(crate) fn forget_interrupt(&self) {
        let interrupt = signal_hook::consts::SIGINT.unsigned_abs() as usize;
        let _ = self.received.compare_exchange(interrupt, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Does what the signal asked for, if one came.
    pub(crate) fn deliver(self) {
        for id in self.registrations {
            signal_hook::low_level::unregister(id);
        }
        let received = i32::try_from(self.received.load(Ordering::SeqCst));
        if let Ok(signal @ 1..) = received {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }
}
