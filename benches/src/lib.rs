//! Benchmarks of whole programs. Benchmarks of single operations are in their crates.

pub mod cli;
mod client;
pub mod cluster;
mod key_type;
mod process;
mod program;
pub mod rekey;
mod sealing_keys;
mod server_metrics;
mod timing;
mod tree;
