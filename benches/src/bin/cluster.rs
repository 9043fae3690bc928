//! `cargo bench-cluster`: the cost of the controller on a real control plane.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::cluster::main()
}
