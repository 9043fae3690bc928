//! A control plane with Bulla installed, a user who may rekey, and the tree's SealedSecrets unsealed.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bulla_crds::RENEW_ANNOTATION;
use bulla_sealing::Recipient;
use bulla_tests::{ControlPlane, Controller, Kubectl, eventually};
use serde_json::json;

use crate::{
    client::{Client, Connection, Turns},
    key_type::Type,
    program::progress,
    sealing_keys, server_metrics,
    tree::{NAMESPACE, Tree},
};

/// The user's ServiceAccount. It has a token, so that the bare client can be the same user.
const PERSON: &str = "person";

const CONTROLLER: &str = "bulla-controller";

/// The number of parallel requests during preparation.
const STORING: u16 = 16;

/// The controller's own count of the objects that are done.
const DONE: &str = r#"bulla_sealed_secrets{condition="Ready",status="True""#;

const DEADLINE: Duration = Duration::from_secs(300);

/// Everything needed for a rekey.
pub(crate) struct Site {
    pub(crate) plane: ControlPlane,
    pub(crate) admin: Client,
    /// A client with exactly the rights that `deploy/controller/people.yaml` names.
    pub(crate) person: Kubectl,
}

impl Site {
    /// Starts a control plane, installs Bulla, and grants the user the rights.
    pub(crate) async fn start() -> Result<Self> {
        progress("  starting a control plane");
        let plane = ControlPlane::start()?;
        Controller::install(&plane)?;
        let account = json!({"kind": "ServiceAccount", "name": PERSON, "namespace": NAMESPACE});
        let binding = |namespace: &str, kind: &str, role: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "person", "namespace": namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
                "subjects": [account],
            })
        };
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "ServiceAccount",
             "metadata": {"name": PERSON, "namespace": NAMESPACE}},
            binding(NAMESPACE, "ClusterRole", "bulla-rekey"),
            binding(Controller::NAMESPACE, "Role", "bulla-seal"),
        ]});
        plane.admin().run_with_input(&["apply", "-f", "-"], &objects.to_string())?;
        let admin = Client::new(plane.admin())?;
        server_metrics::wait_for_garbage_collector(&mut admin.connect().await?).await?;
        let person = plane.service_account(NAMESPACE, PERSON)?;
        Ok(Self { plane, admin, person })
    }

    /// Starts the controller, which generates its first key.
    pub(crate) fn start_controller(&self, key_type: Type) -> Result<Controller> {
        progress("  starting the controller");
        let mut command = Controller::command(&self.plane)?;
        command.args(["--type", key_type.as_str()]);
        let controller = Controller::start(command)?;
        controller.wait_until_ready()?;
        Ok(controller)
    }

    /// A client with the controller's account.
    pub(crate) fn account(&self) -> Result<Client> {
        Client::new(&self.plane.service_account(Controller::NAMESPACE, CONTROLLER)?)
    }

    /// The Active key.
    pub(crate) async fn active(&self) -> Result<Recipient> {
        sealing_keys::active(&mut self.admin.connect().await?, None).await
    }

    /// Stores the SealedSecrets of the tree and waits until they are unsealed.
    pub(crate) async fn store(&self, tree: &Tree, controller: &Controller) -> Result<()> {
        let count = tree.sealed_secrets.len();
        progress(format!("  storing {count} SealedSecrets"));
        let bodies: Arc<[String]> =
            tree.sealed_secrets.iter().map(|sealed| sealed.object().to_string()).collect();
        let path = format!("/apis/bulla.dev/v1alpha1/namespaces/{NAMESPACE}/sealedsecrets");
        let store = |mut connection: Connection, turns: Turns| {
            let (bodies, path) = (bodies.clone(), path.clone());
            async move {
                while let Some(turn) = turns.next() {
                    connection.create(&path, bodies[turn].clone()).await?;
                }
                Ok(())
            }
        };
        self.admin.in_parallel(STORING, count, store).await?;
        eventually("all SealedSecrets Ready", DEADLINE, || {
            let done = controller.metric(DONE)?;
            ensure!(done >= count as f64, "{done} of {count}");
            Ok(())
        })
    }

    /// Renews the key and returns the new one.
    pub(crate) async fn renew(&self, old: &Recipient) -> Result<Recipient> {
        progress("  renewing the key");
        let path = format!("{}/{}", sealing_keys::path(), old.fingerprint());
        let asked = json!({"metadata": {"annotations": {RENEW_ANNOTATION: "now"}}});
        let mut admin = self.admin.connect().await?;
        admin.merge(&path, asked.to_string()).await?;
        sealing_keys::active(&mut admin, Some(old)).await
    }
}
