//! The controller on a real control plane, as the ServiceAccount of `deploy/base` and with its rights alone.
//!
//! Most tests share one control plane and one controller, each in a namespace of its own. Those that stop
//! or break something take turns on another one, see [`cluster::Fragile`], and those of [`faults`] have a
//! third one for themselves. All that their controllers say is searched for values, see [`searched`].

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

use std::time::Duration;

/// Far longer than anything takes, for a machine that has other things to do.
pub(crate) const SOON: Duration = Duration::from_secs(60);
