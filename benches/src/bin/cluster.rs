//! `cargo bench-cluster`: what the controller costs on a real control plane.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::cluster::main()
}
