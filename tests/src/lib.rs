//! The harness of the tests that need a program or a cluster.
//!
//! [`ControlPlane`] is a real API server with its etcd and controller manager, [`Leashed`] a program that
//! cannot outlive the test which started it, [`Controller`] the half of ours that runs in a cluster, as
//! `deploy/base` installs it, `Proxy` a bad way from it to the API server, [`Shell`] a person at a terminal, [`steps`] what
//! a page has its reader do, [`program`] the path of one of the workspace's own programs, [`Verdict`] what the tools of the trade
//! conclude from an object's status, and [`eventually`] the way to wait.

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
    control_plane::{ControlPlane, Part},
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
