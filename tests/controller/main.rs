//! The controller on a real control plane, as the ServiceAccount of `deploy/base` and with its rights only.
//!
//! Most tests share one control plane and one controller, and each has its own namespace. Tests that stop or
//! break something take turns on a second control plane, see [`cluster::Fragile`]. The tests of [`faults`] have
//! further ones. All output of all controllers is searched for secret values, see [`searched`].

mod api;
mod bad_input;
mod cluster;
mod conflict;
mod deletion;
mod drift;
mod faults;
mod guards;
mod ha;
mod http_endpoints;
mod key_states;
mod keys;
mod leaks;
mod marker;
mod memory;
mod modes;
mod moving;
mod outage;
mod people;
mod policies;
mod refusal;
mod rekeys;
mod renewal;
mod rights;
mod rules;
mod searched;
mod status;
mod templates;
mod test_namespace;
mod unseal;
mod upgrade;

use std::time::Duration;

/// Far longer than any step takes, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
