//! The command as its users meet it: run as a program, checked by its output, files and exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkouts;
mod cluster;
mod config;
mod create;
mod diff;
mod edit;
mod encrypted_identities;
mod examples;
mod files;
mod fit;
mod git_repository;
mod habits;
mod hostile_repository;
mod init;
mod inspect;
#[cfg(unix)]
mod kills;
mod lint;
mod marker;
mod merge_driver;
mod messages;
#[cfg(target_os = "linux")]
mod no_plaintext;
#[cfg(target_os = "linux")]
mod pty;
mod refusals;
mod rekey;
mod round_trip;
mod sandbox;
mod seal_into_files;
mod set;
#[cfg(target_os = "linux")]
mod traced;
mod transcripts;
mod unseal;
