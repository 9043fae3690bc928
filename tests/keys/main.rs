//! `bulla keys`, and what of `bulla rekey` asks a cluster, against a real API server: what it tells, writes and refuses.

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
