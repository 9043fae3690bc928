//! The harness of the tests that need a program or a cluster.
//!
//! [`ControlPlane`] is a real API server with its etcd and controller manager, [`Leashed`] a program that
//! cannot outlive the test which started it, [`program`] the path of one of the workspace's own programs,
//! [`Verdict`] what the tools of the trade conclude from an object's status, and [`eventually`] the way to
//! wait.

mod assets;
mod control_plane;
mod eventually;
mod folder;
mod kstatus;
mod kubectl;
mod leashed;
mod programs;

pub use crate::{
    assets::Asset,
    control_plane::{ControlPlane, Part},
    eventually::eventually,
    folder::Folder,
    kstatus::{Status, Verdict},
    kubectl::Kubectl,
    leashed::{Leashed, Signal},
    programs::{Program, program},
};
