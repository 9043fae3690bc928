//! The controller, installed from `deploy/base` and run as its ServiceAccount, but outside of the cluster, which has
//! no nodes.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{ControlPlane, Folder, Leashed, Program, Signal, eventually, program};

/// The manifests to install, as a user would.
const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base");

const START_DEADLINE: Duration = Duration::from_secs(60);

const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// A controller that runs outside of its cluster, with the rights that it would have inside.
#[derive(Debug)]
pub struct Controller {
    // First, so that it has ended before its folder is removed.
    running: Option<Leashed>,
    command: Command,
    folder: Folder,
}

impl Controller {
    /// The namespace of `deploy/base`.
    pub const NAMESPACE: &str = "bulla-system";

    /// Installs `deploy/base` with `kubectl apply -k`. This includes the Deployment, but no node runs its pod.
    ///
    /// # Errors
    ///
    /// When the API server refuses something.
    pub fn install(plane: &ControlPlane) -> Result<()> {
        plane.kubectl(&["apply", "--kustomize", BASE])?;
        let definitions = ["sealedsecrets", "sealingkeys", "rekeys"]
            .map(|plural| format!("customresourcedefinition/{plural}.bulla.dev"));
        let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
        let definitions = definitions.each_ref().map(String::as_str);
        plane.kubectl(&[&wait[..], &definitions].concat())?;
        Ok(())
    }

    /// The command that runs it as the installed ServiceAccount, serving on a free port of this machine.
    /// Arguments and variables can be added.
    ///
    /// # Errors
    ///
    /// When it does not build, or its ServiceAccount is not installed.
    pub fn command(plane: &ControlPlane) -> Result<Command> {
        Self::command_in(plane, Self::NAMESPACE)
    }

    fn command_in(plane: &ControlPlane, namespace: &str) -> Result<Command> {
        let account = plane.service_account(namespace, "bulla-controller")?;
        let mut command = Command::new(program(Program::Controller)?);
        command.args(["--listen", "127.0.0.1:0"]).env("KUBECONFIG", account.kubeconfig());
        // Each command is like a pod of its own. A restart is like a restart of its container.
        static PODS: AtomicU32 = AtomicU32::new(0);
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        command.env("POD_NAME", format!("bulla-controller-{}-{number}", std::process::id()));
        Ok(command)
    }

    /// [`command`](Self::command) with the settings of the installed Deployment, whose pods no node runs.
    ///
    /// # Errors
    ///
    /// When it does not build, or is not installed.
    pub fn deployed(plane: &ControlPlane) -> Result<Command> {
        Self::deployed_in(plane, Self::NAMESPACE)
    }

    /// [`deployed`](Self::deployed), in another namespace.
    ///
    /// # Errors
    ///
    /// When it does not build, or is not installed there.
    pub fn deployed_in(plane: &ControlPlane, namespace: &str) -> Result<Command> {
        let get = ["get", "deployment", "bulla-controller", "--namespace", namespace];
        let deployment = plane.admin().json(&get)?;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let mut command = Self::command_in(plane, namespace)?;
        command.env("POD_NAMESPACE", namespace);
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let name = source["configMapRef"]["name"].as_str().context("no ConfigMap")?;
            let get = ["get", "configmap", name, "--namespace", namespace, "--ignore-not-found"];
            let found = plane.kubectl(&[&get[..], &["--output=json"]].concat())?;
            let settings: serde_json::Value = serde_json::from_str(&found).unwrap_or_default();
            for (name, value) in settings["data"].as_object().into_iter().flatten() {
                command.env(name, value.as_str().context("not a text")?);
            }
        }
        for variable in container["env"].as_array().context("no environment")? {
            if let (Some(name), Some(value)) =
                (variable["name"].as_str(), variable["value"].as_str())
            {
                command.env(name, value);
            }
        }
        Ok(command)
    }

    /// [`command`](Self::command), with every request through the proxy.
    ///
    /// # Errors
    ///
    /// When it does not build, or its ServiceAccount is not installed.
    #[cfg(feature = "proxy")]
    pub fn command_through(plane: &ControlPlane, proxy: &crate::Proxy) -> Result<Command> {
        let account = plane.service_account(Self::NAMESPACE, "bulla-controller")?;
        let mut command = Self::command(plane)?;
        command.env("KUBECONFIG", proxy.kubeconfig(&account)?);
        Ok(command)
    }

    /// Starts it without waiting until it is ready. It ends when dropped, and when this process ends for any reason.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(command: Command) -> Result<Self> {
        let folder = Folder::new("bulla-controller-")?;
        let mut controller = Self { running: None, command, folder };
        controller.restart()?;
        Ok(controller)
    }

    /// Starts it again with the same command. If it runs, it gets SIGTERM first.
    ///
    /// # Errors
    ///
    /// When it does not end or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        if self.running.is_some() {
            self.stop(START_DEADLINE)?;
        }
        self.running = Some(Leashed::spawn(&self.command, &self.folder, "bulla-controller")?);
        Ok(())
    }

    /// Ends it with SIGTERM, as Kubernetes does.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end within `deadline`.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut leashed = self.running.take().context("the controller does not run")?;
        leashed.signal(Signal::Terminate)?;
        leashed.wait(deadline).with_context(|| leashed.log_tail())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// When it does not run, or does not end within `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut leashed = self.running.take().context("the controller does not run")?;
        leashed.wait(deadline).with_context(|| leashed.log_tail())
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    ///
    /// When it still runs much later.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().map_or(Ok(()), Leashed::kill)
    }

    /// Pauses it, like a node that is out of memory or suspended.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::Stop)
    }

    /// Continues it after a pause.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::Continue)
    }

    /// The process id of the current run.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the controller does not run")?.pid())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.running.as_mut().context("the controller does not run")?.signal(signal)
    }

    /// Waits until `/readyz` answers with 200.
    ///
    /// # Errors
    ///
    /// When it is not ready in time. The message includes the last lines of its log.
    pub fn wait_until_ready(&self) -> Result<()> {
        eventually("a ready controller", START_DEADLINE, || {
            let (code, text) = self.get("/readyz")?;
            ensure!(code == 200, "{code} {text}");
            Ok(())
        })
        .with_context(|| format!("the controller's log ends:\n{}\n", self.log_tail()))
    }

    /// Requests a path such as `/readyz`. Returns the status code and the body.
    ///
    /// # Errors
    ///
    /// When it does not run or does not answer.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut connection = TcpStream::connect_timeout(&self.address()?, REQUEST_DEADLINE)?;
        connection.set_read_timeout(Some(REQUEST_DEADLINE))?;
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split_whitespace().nth(1).context("no status code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// The sum of a metric's samples. `series` is its name, which sums all samples, or its name and the
    /// beginning of the labels, which sums those that match.
    ///
    /// # Errors
    ///
    /// When it does not answer, or the answer is not valid for Prometheus.
    pub fn metric(&self, series: &str) -> Result<f64> {
        let (code, text) = self.get("/metrics")?;
        ensure!(code == 200, "{code} {text}");
        let mut sum = 0.0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').context("a sample without a value")?;
            let is_asked = sample.strip_prefix(series).is_some_and(|rest| {
                rest.is_empty() || series.contains('{') || rest.starts_with('{')
            });
            if is_asked {
                sum += value.parse::<f64>()?;
            }
        }
        Ok(sum)
    }

    /// The output of all runs.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.log_since(0)?).into_owned())
    }

    /// [`log`](Self::log) without its first `bytes` bytes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn log_since(&self, bytes: u64) -> Result<Vec<u8>> {
        let mut file = fs::File::open(self.folder.path().join("bulla-controller.log"))?;
        file.seek(SeekFrom::Start(bytes))?;
        let mut log = Vec::new();
        file.read_to_end(&mut log)?;
        Ok(log)
    }

    /// The last lines of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.running.as_ref().map(Leashed::log_tail).unwrap_or_default()
    }

    /// Its address. The operating system chose the port, so it is read from the log.
    ///
    /// # Errors
    ///
    /// When it does not serve yet.
    pub fn address(&self) -> Result<SocketAddr> {
        let running = self.running.as_ref().context("the controller does not run")?;
        let printed = running.printed()?;
        let Some(line) = printed.lines().find(|line| line.contains("serving /healthz")) else {
            bail!("the controller does not serve yet: {}", running.log_tail());
        };
        let number = |byte: char| byte.is_ascii_digit();
        let port = line.rsplit_once("127.0.0.1:").context("no address")?.1;
        let port: String = port.chars().take_while(|byte| number(*byte)).collect();
        Ok(SocketAddr::from(([127, 0, 0, 1], port.parse()?)))
    }
}
