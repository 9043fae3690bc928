//! `bulla keys` against a real API server: what it tells, writes and refuses.

mod backup;
mod life;
mod list;
mod place;
mod restore;
mod revoke;
mod states;
