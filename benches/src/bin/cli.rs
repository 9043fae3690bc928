//! `cargo bench-cli`: what the command line costs.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulla_benches::cli::main()
}
