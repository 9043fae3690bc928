//! Benchmarks of whole programs against a real API server. Those of single operations stand in their crates.

pub mod cluster;
