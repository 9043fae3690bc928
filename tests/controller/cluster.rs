//! The control planes that tests run on, with the controller installed.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::{Context, Result, anyhow};
use bulla_sealing::{Recipient, Recipients};
use bulla_tests::{Component, ControlPlane, Controller, eventually};
use serde_json::Value;

use crate::{
    SOON,
    api::Api,
    searched::{Searched, search_objects},
};

/// The name under which the controller publishes its keys.
pub(crate) const HOLDER: &str = "prod-eu";

pub(crate) const SEALING_KEYS: &str =
    "/apis/bulla.dev/v1alpha1/namespaces/bulla-system/sealingkeys";

/// The shared cluster, for tests that break nothing.
pub(crate) struct Cluster {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) api: Arc<Api>,
    pub(crate) controller: Searched,
    /// The recipient of the published key.
    pub(crate) recipients: Arc<Recipients>,
}

impl Cluster {
    /// Starts the cluster at the first call.
    pub(crate) fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    fn start() -> Result<Self> {
        let plane = ControlPlane::shared()?;
        let api = Arc::new(Api::new(plane.admin().kubeconfig())?);
        Controller::install(plane)?;
        let mut command = Controller::command(plane)?;
        command.args(["--holder", HOLDER]);
        let controller = Searched::start(command)?;
        controller.wait_until_ready()?;
        let recipients = published(&api)?;
        Ok(Self { plane, api, controller, recipients })
    }
}

/// A control plane and a controller for tests that stop or break them. One test at a time has it.
pub(crate) struct Fragile {
    // Before the control plane, so that it can still reach the API server while it stops.
    pub(crate) controller: Searched,
    pub(crate) plane: ControlPlane,
    pub(crate) api: Arc<Api>,
    pub(crate) recipients: Arc<Recipients>,
}

impl Fragile {
    /// Waits for the test's turn. Everything is healthy, whatever the last test did.
    pub(crate) fn lock() -> Result<FragileGuard> {
        static FRAGILE: Mutex<Option<Fragile>> = Mutex::new(None);
        let mut guard = FRAGILE.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out for the test, so that a failed test drops its half-broken cluster.
        let fragile = match guard.take() {
            Some(fragile) => fragile,
            None => Self::start()?,
        };
        Ok(FragileGuard { guard, fragile: Some(fragile) })
    }

    fn start() -> Result<Self> {
        let mut plane = ControlPlane::start()?;
        let api = Arc::new(Api::new(plane.admin().kubeconfig())?);
        Controller::install(&plane)?;
        // Otherwise the garbage collector looks for new kinds of objects only every half minute.
        plane.restart(Component::ControllerManager)?;
        let mut command = Controller::command(&plane)?;
        command.args(["--holder", HOLDER, "--type", "x25519"]);
        let controller = Searched::start(command)?;
        controller.wait_until_ready()?;
        let recipients = published(&api)?;
        Ok(Self { controller, plane, api, recipients })
    }
}

/// Gives the cluster back after the test has reported that it is healthy again.
pub(crate) struct FragileGuard {
    guard: MutexGuard<'static, Option<Fragile>>,
    fragile: Option<Fragile>,
}

impl FragileGuard {
    /// Searches the output for secret values, then leaves the running control plane and controller to the next
    /// test.
    pub(crate) fn give_back(mut self) -> Result<()> {
        self.controller.search()?;
        search_objects(&self.api, None)?;
        *self.guard = self.fragile.take();
        Ok(())
    }

    /// Restarts the controller that the test has stopped, then [gives back](Self::give_back).
    pub(crate) fn restart_and_give_back(mut self) -> Result<()> {
        self.controller.restart()?;
        self.controller.wait_until_ready()?;
        self.give_back()
    }
}

impl Drop for FragileGuard {
    /// Prints the controller's log if the test has failed.
    fn drop(&mut self) {
        if let Some(fragile) = &self.fragile {
            let _ = writeln!(io::stderr(), "{}", fragile.controller.log_tail());
        }
    }
}

impl std::ops::Deref for FragileGuard {
    type Target = Fragile;

    fn deref(&self) -> &Fragile {
        self.fragile.as_ref().unwrap_or_else(|| {
            unreachable!("it is taken only by give_back, which consumes the guard")
        })
    }
}

impl std::ops::DerefMut for FragileGuard {
    fn deref_mut(&mut self) -> &mut Fragile {
        self.fragile.as_mut().unwrap_or_else(|| {
            unreachable!("it is taken only by give_back, which consumes the guard")
        })
    }
}

/// All SealingKeys.
pub(crate) fn sealing_keys(api: &Api) -> Result<Vec<Value>> {
    let keys = api.get(SEALING_KEYS)?;
    Ok(keys["items"].as_array().context("no list")?.clone())
}

/// The recipient of the one Active key.
pub(crate) fn published(api: &Api) -> Result<Arc<Recipients>> {
    eventually("a published key", SOON, || {
        let keys = sealing_keys(api)?;
        let active = keys.iter().find(|key| key["spec"]["state"] == "Active");
        let recipient = active.and_then(|key| key["spec"]["recipient"].as_str());
        let recipient: Recipient = recipient.context("no active key")?.parse()?;
        Ok(Arc::new(Recipients::new(vec![recipient])?))
    })
}
