//! `bulla keys`, and `bulla rekey` through a cluster, with a real API server: output, writes and refusals.

mod backup;
mod fetch;
mod life;
mod lint;
mod list;
mod page;
mod place;
mod rekey;
mod restore;
mod revoke;
mod states;
