//! Benchmarks of whole programs. Those of single operations stand in their crates.

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
