//! `cargo bench-cli`: the cost of the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::cli::main()
}
