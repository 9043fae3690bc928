//! A control plane for one turn, with Bulla installed and foreign Secrets stored.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::SealedSecret;
use bulla_tests::{ControlPlane, Controller};
use serde_json::json;

use crate::{
    client::{Client, Connection, Metadata, Turns},
    cluster::{args::Args, objects::NAMESPACE},
    process,
    program::progress,
    server_metrics,
};

/// The name of the controller's ServiceAccount in `deploy/base`.
const ACCOUNT: &str = "bulla-controller";

/// The number of parallel requests during preparation.
const STORING: u16 = 16;

const FOREIGN_NAMESPACES: usize = 10;
/// About the size of a Helm release.
const FOREIGN_BYTES: usize = 64 * 1024;

/// The control plane of one turn. Each turn has its own, so that all find the same state.
pub(crate) struct Site {
    pub(crate) args: Args,
    pub(crate) plane: ControlPlane,
    /// The administrator's client.
    pub(crate) admin: Client,
    /// A client with the controller's account, and so with its rights and its priority in the API server.
    pub(crate) account: Client,
}

impl Site {
    /// Starts a control plane, installs Bulla, and stores foreign Secrets.
    pub(crate) async fn start(args: &Args) -> Result<Self> {
        progress("  starting a control plane");
        let plane = ControlPlane::start()?;
        Controller::install(&plane)?;
        let admin = Client::new(plane.admin())?;
        let account = Client::new(&plane.service_account(Controller::NAMESPACE, ACCOUNT)?)?;
        let site = Self { args: args.clone(), plane, admin, account };
        site.create_namespace(NAMESPACE).await?;
        site.store_foreign().await?;
        server_metrics::wait_for_garbage_collector(&mut site.admin.connect().await?).await?;
        Ok(site)
    }

    /// Stores SealedSecrets. Returns their metadata from the API server.
    pub(crate) async fn store(&self, sealed_secrets: &[SealedSecret]) -> Result<Vec<Metadata>> {
        progress(format!("  storing {} SealedSecrets", sealed_secrets.len()));
        let bodies = sealed_secrets.iter().map(serde_json::to_string);
        let bodies: Arc<[String]> = bodies.collect::<Result<_, _>>()?;
        let stored = Arc::new(Mutex::new(vec![None; bodies.len()]));
        let path = sealed_secrets_path();
        let store = |mut connection: Connection, turns: Turns| {
            let (bodies, stored, path) = (bodies.clone(), stored.clone(), path.clone());
            async move {
                while let Some(turn) = turns.next() {
                    let metadata = connection.create(&path, bodies[turn].clone()).await?;
                    stored.lock().unwrap_or_else(PoisonError::into_inner)[turn] = Some(metadata);
                }
                Ok(())
            }
        };
        self.admin.in_parallel(STORING, bodies.len(), store).await?;
        let stored = std::mem::take(&mut *stored.lock().unwrap_or_else(PoisonError::into_inner));
        stored.into_iter().collect::<Option<_>>().context("an object was not stored")
    }

    /// The CPU time of all processes of the control plane so far.
    pub(crate) fn control_plane_cpu(&self) -> Result<Duration> {
        process::control_plane_cpu(&self.plane)
    }

    /// A time as milliseconds for each object.
    pub(crate) fn ms_per_object(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 / f64::from(self.args.objects)
    }

    /// Stores many large Secrets without Bulla's label, in other namespaces.
    async fn store_foreign(&self) -> Result<()> {
        let count = self.args.foreign_mib as usize * (1 << 20) / FOREIGN_BYTES;
        progress(format!("  storing {count} foreign Secrets"));
        for number in 0..FOREIGN_NAMESPACES {
            self.create_namespace(&format!("foreign-{number}")).await?;
        }
        let value: Arc<str> = BASE64_STANDARD.encode(vec![b'f'; FOREIGN_BYTES]).into();
        let store = |mut connection: Connection, turns: Turns| {
            let value = value.clone();
            async move {
                while let Some(turn) = turns.next() {
                    let namespace = format!("foreign-{}", turn % FOREIGN_NAMESPACES);
                    let body = json!({
                        "metadata": {"name": format!("release-{turn}")},
                        "data": {"release": &*value},
                    });
                    connection.create(&secrets_path(&namespace), body.to_string()).await?;
                }
                Ok(())
            }
        };
        self.admin.in_parallel(STORING, count, store).await?;
        Ok(())
    }

    async fn create_namespace(&self, name: &str) -> Result<()> {
        let body = json!({"metadata": {"name": name}}).to_string();
        self.admin.connect().await?.create("/api/v1/namespaces", body).await?;
        Ok(())
    }
}

/// The SealedSecrets of the benchmark.
pub(crate) fn sealed_secrets_path() -> String {
    format!("/apis/bulla.dev/v1alpha1/namespaces/{NAMESPACE}/sealedsecrets")
}

/// The Secrets of a namespace.
pub(crate) fn secrets_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}
