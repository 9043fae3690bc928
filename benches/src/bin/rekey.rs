//! `cargo bench-rekey`: what a rekey costs, offline and through a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::rekey::main()
}
