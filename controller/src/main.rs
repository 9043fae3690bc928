//! `bulla-controller`.

fn main() -> std::process::ExitCode {
    bulla_controller::main()
}
