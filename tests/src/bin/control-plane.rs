//! `cargo run --package bulla-tests --bin control-plane` starts a control plane to try things on. It prints the path of
//! an administrator's kubeconfig, and runs until its standard input ends.

use std::io::{self, Read, Write};

use anyhow::Result;
use bulla_tests::ControlPlane;

fn main() -> Result<()> {
    let plane = ControlPlane::start()?;
    writeln!(io::stdout(), "{}", plane.admin().kubeconfig().display())?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
