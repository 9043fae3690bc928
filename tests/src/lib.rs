//! The harness for tests that need a program or a cluster.
//!
//! - [`ControlPlane`]: a real API server with its etcd and controller manager.
//! - [`Controller`]: `bulla-controller` as `deploy/base` installs it.
//! - `Proxy`: injects faults between the controller and the API server.
//! - [`Leashed`]: a program that cannot outlive the test that started it.
//! - [`program`]: the path of one of the workspace's programs, built if necessary.
//! - [`Shell`]: runs command lines as a user types them.
//! - [`steps`]: the commands and files of a documentation page.
//! - [`Verdict`]: what GitOps tools conclude from an object's status.
//! - [`eventually`]: waits with a deadline.

mod assets;
mod control_plane;
mod controller;
mod eventually;
mod folder;
mod kstatus;
mod kubectl;
mod leashed;
mod page;
mod programs;
#[cfg(feature = "proxy")]
mod proxy;
mod shell;

#[cfg(feature = "proxy")]
pub use crate::proxy::{Asked, End, Fault, INJECTED, Injected, Proxy, Rule};
pub use crate::{
    assets::Asset,
    control_plane::{Component, ControlPlane},
    controller::Controller,
    eventually::eventually,
    folder::Folder,
    kstatus::{Status, Verdict},
    kubectl::Kubectl,
    leashed::{Leashed, Signal},
    page::{Step, outdented, steps},
    programs::{Program, program},
    shell::Shell,
};
