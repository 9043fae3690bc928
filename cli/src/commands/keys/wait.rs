//! How long commands wait for the controller.

use std::time::Duration;

use clap::Args;

/// How long a command waits for the controller to do its part.
#[derive(Args)]
pub(super) struct Wait {
    /// How many seconds to wait for the controller
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = None::<&str>)]
    pub(super) timeout: u64,

    /// Do not wait for the controller
    #[arg(long, help_heading = None::<&str>)]
    no_wait: bool,
}

impl Wait {
    /// How long, if at all.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.no_wait).then(|| Duration::from_secs(self.timeout))
    }
}
