//! A Kubernetes control plane without nodes: etcd, API server, controller manager, on loopback.

use std::{
    collections::BTreeMap,
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::{Asset, Folder, Kubectl, Leashed, Signal, eventually};

const START_DEADLINE: Duration = Duration::from_secs(60);

/// How many ports are tried.
const PORT_ATTEMPTS: usize = 5;

/// Below the range from which Linux takes the local ports of outgoing connections. Otherwise a client that connects
/// while its server is down could get that very port and talk to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A process of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controller manager: garbage collection, namespaces, service accounts, quota.
    ControllerManager,
}

impl Component {
    const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// A running control plane, with RBAC and every admission plugin that a default API server has.
///
/// It has no nodes, so no pod ever runs. All its files are in one temporary folder. It ends when dropped, and
/// also when this process ends for any reason.
#[derive(Debug)]
pub struct ControlPlane {
    running: BTreeMap<Component, Leashed>,
    api_port: u16,
    admin_token: String,
    admin: Kubectl,
    // Last, so that it is removed after everything that runs in it has ended.
    folder: Folder,
}

impl ControlPlane {
    /// Starts a control plane and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When a component does not become ready. The message includes the last lines of its log.
    pub fn start() -> Result<Self> {
        Self::start_on(free_port()?)
    }

    fn start_on(api_port: u16) -> Result<Self> {
        let folder = Folder::new("bulla-cluster-")?;
        let admin = Kubectl::new(folder.path().join("admin.kubeconfig"))?;
        let admin_token = random_token()?;
        let running = BTreeMap::new();
        let mut plane = Self { running, api_port, admin_token, admin, folder };
        // The administrator and the controller manager are in the group that has every right.
        let tokens = format!("{},admin,admin,\"system:masters\"\n", plane.admin_token);
        write_private(&plane.file("tokens.csv"), &tokens)?;
        plane.launch(Component::Etcd)?;
        plane.launch_api_server_on_free_port()?;
        plane.launch(Component::ControllerManager)?;
        Ok(plane)
    }

    /// The control plane that all tests of a process share, started at the first call. Each test should use its own
    /// namespaces.
    ///
    /// # Errors
    ///
    /// When it did not start at the first call.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<ControlPlane>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    /// Runs `kubectl` as an administrator and returns what it printed.
    ///
    /// # Errors
    ///
    /// When `kubectl` fails. The message includes its standard error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.admin.run(args)
    }

    /// An administrator.
    #[must_use]
    pub fn admin(&self) -> &Kubectl {
        &self.admin
    }

    /// A client that is the service account, which must exist, with a new token.
    ///
    /// # Errors
    ///
    /// When no token can be created.
    pub fn service_account(&self, namespace: &str, name: &str) -> Result<Kubectl> {
        let command = ["create", "token", name, "--namespace", namespace, "--duration", "24h"];
        let token = self.kubectl(&command)?;
        self.client(&format!("{namespace}.{name}"), &json!({"token": token.trim()}))
    }

    /// A client that is any user, by impersonation.
    ///
    /// # Errors
    ///
    /// When its kubeconfig cannot be written.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Kubectl> {
        let user = json!({"token": self.admin_token, "as": name, "as-groups": groups});
        self.client(&format!("user.{name}"), &user)
    }

    /// The API server's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_port)
    }

    /// The folder of all files and logs. A program leashed in it ends with the control plane.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The process id of a running component.
    #[must_use]
    pub fn pid(&self, component: Component) -> Option<u32> {
        self.running.get(&component).map(Leashed::pid)
    }

    /// Ends a component as a crash would.
    ///
    /// # Errors
    ///
    /// When it still runs much later.
    pub fn kill(&mut self, component: Component) -> Result<()> {
        self.running.remove(&component).map_or(Ok(()), Leashed::kill)
    }

    /// Starts a component again with the same address and data. Kills it first if it runs.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub fn restart(&mut self, component: Component) -> Result<()> {
        self.kill(component)?;
        self.launch(component)
    }

    /// Stops a component with its connections open, so its clients think that the network is down.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&mut self, component: Component) -> Result<()> {
        self.signal(component, Signal::Stop)
    }

    /// Continues a paused component.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&mut self, component: Component) -> Result<()> {
        self.signal(component, Signal::Continue)
    }

    fn signal(&mut self, component: Component, signal: Signal) -> Result<()> {
        let leashed = self.running.get_mut(&component);
        leashed.with_context(|| format!("{} does not run", component.name()))?.signal(signal)
    }

    /// Another program may take the port between its choice and its use.
    fn launch_api_server_on_free_port(&mut self) -> Result<()> {
        for _ in 1..PORT_ATTEMPTS {
            match self.launch(Component::ApiServer) {
                Err(error) if format!("{error:#}").contains("address already in use") => {
                    self.api_port = free_port()?;
                }
                outcome => return outcome,
            }
        }
        self.launch(Component::ApiServer)
    }

    fn launch(&mut self, component: Component) -> Result<()> {
        if component == Component::ApiServer {
            self.write_kubeconfig(self.admin.kubeconfig(), &json!({"token": self.admin_token}))?;
        }
        let mut leashed = self.spawn(component)?;
        let outcome = eventually("readiness", START_DEADLINE, || match leashed.try_wait()? {
            Some(status) => Ok(Err(anyhow!("it ended: {status}"))),
            None => self.check_ready(component).map(Ok),
        });
        outcome.flatten().with_context(|| {
            format!("{} does not start; its log ends:\n{}\n", component.name(), leashed.log_tail())
        })?;
        self.running.insert(component, leashed);
        Ok(())
    }

    fn spawn(&self, component: Component) -> Result<Leashed> {
        let command = self.command(component)?;
        // Nothing reads the data afterwards, so no component needs time to shut down cleanly.
        Leashed::spawn_with_grace(&command, &self.folder, component.name(), Duration::ZERO)
    }

    fn check_ready(&self, component: Component) -> Result<()> {
        match component {
            Component::Etcd => {
                let mut connection = UnixStream::connect(self.etcd_socket())?;
                connection.set_read_timeout(Some(Duration::from_secs(5)))?;
                connection.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
                let mut answer = String::new();
                connection.read_to_string(&mut answer)?;
                ensure!(answer.contains(" 200 OK"), "not ready: {answer}");
            }
            Component::ApiServer => {
                // Trying to connect is far cheaper than starting kubectl.
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.api_port))?;
                self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=5s"])?;
            }
            // If it has created a namespace's service account, it reads and writes.
            Component::ControllerManager => {
                self.kubectl(&["get", "serviceaccount", "default", "--namespace", "default"])?;
            }
        }
        Ok(())
    }

    fn command(&self, component: Component) -> Result<Command> {
        match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
        }
    }

    fn etcd(&self) -> Result<Command> {
        let mut command = Command::new(Asset::Etcd.path()?);
        command
            .arg(format!("--data-dir={}", self.file("etcd").display()))
            // A socket in this private folder: no other etcd can be there, and no other user can reach this one.
            .arg(format!("--listen-client-urls=unix://{}", self.etcd_socket().display()))
            // It has no peers, and nothing asks for its address.
            .arg("--listen-peer-urls=http://127.0.0.1:0")
            .arg("--advertise-client-urls=http://127.0.0.1:0")
            // The data must survive the end of the process, not of the machine.
            .arg("--unsafe-no-fsync");
        Ok(command)
    }

    fn api_server(&self) -> Result<Command> {
        let mut command = Command::new(Asset::ApiServer.path()?);
        // If this TLS key is missing, the API server generates it before it reads the keys for service
        // accounts.
        let key = self.file("apiserver/apiserver.key");
        command
            .arg(format!("--etcd-servers=unix://{}", self.etcd_socket().display()))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.api_port))
            .arg(format!("--cert-dir={}", self.file("apiserver").display()))
            // A loopback address is not valid in the `kubernetes` service's endpoints.
            .arg("--endpoint-reconciler-type=none")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            .arg("--authorization-mode=RBAC")
            .arg(format!("--token-auth-file={}", self.file("tokens.csv").display()))
            .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()));
        Ok(command)
    }

    fn controller_manager(&self) -> Result<Command> {
        let mut command = Command::new(Asset::ControllerManager.path()?);
        let controllers = [
            "clusterrole-aggregation-controller",
            "garbage-collector-controller",
            "namespace-controller",
            "resourcequota-controller",
            "root-ca-certificate-publisher-controller",
            "serviceaccount-controller",
            "validatingadmissionpolicy-status-controller",
        ];
        command
            .arg(format!("--kubeconfig={}", self.admin.kubeconfig().display()))
            .arg(format!("--controllers={}", controllers.join(",")))
            .arg(format!("--root-ca-file={}", self.certificate().display()))
            .args(["--leader-elect=false", "--secure-port=0"])
            // The default limit would let it delete only 20 objects a second.
            .args(["--kube-api-qps=500", "--kube-api-burst=1000"]);
        Ok(command)
    }

    fn client(&self, name: &str, user: &Value) -> Result<Kubectl> {
        let path = self.file(&format!("{name}.kubeconfig"));
        self.write_kubeconfig(&path, user)?;
        Kubectl::new(path)
    }

    fn write_kubeconfig(&self, path: &Path, user: &Value) -> Result<()> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{
                "name": "test",
                "cluster": {"server": self.url(), "certificate-authority": self.certificate()},
            }],
            "users": [{"name": "test", "user": user}],
        });
        write_private(path, &kubeconfig.to_string())
    }

    /// The API server's certificate, followed by its authority's.
    fn certificate(&self) -> PathBuf {
        self.file("apiserver/apiserver.crt")
    }

    fn etcd_socket(&self) -> PathBuf {
        self.file("etcd.sock")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn free_port() -> Result<u16> {
    let span = u64::from(PORTS.end - PORTS.start);
    let start = RandomState::new().build_hasher().finish();
    (0..span)
        .filter_map(|step| u16::try_from(start.wrapping_add(step) % span).ok())
        .map(|offset| PORTS.start + offset)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no free port")
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file atomically. Only its owner can read it.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("no folder")?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_not_used() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap();
        let port = taken.local_addr().unwrap().port();
        let plane = ControlPlane::start_on(port).unwrap();
        assert_ne!(plane.api_port, port);
        assert_eq!(plane.kubectl(&["get", "--raw", "/readyz"]).unwrap(), "ok");
    }
}
