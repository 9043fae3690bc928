//! `cargo bench-rekey`: the cost of a rekey, offline and through a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::rekey::main()
}
