//! `cargo demo`: follows a Secret from Git into a cluster, with a real API server and the real programs.
//!
//! It runs every command that it prints and checks every claim. It ends with `demo: ok`, or with what went
//! wrong and exit code 1.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulla_tests::{
    Asset, ControlPlane, Controller, Folder, Kubectl, Leashed, Program, Shell, eventually, program,
};
use serde_json::{Value, json};

/// The plaintext of the demo's Secret.
const PASSWORD: &str = "correct horse battery staple";

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: bulla-demo
stringData:
  user: shop
  password: correct horse battery staple
";

const HELP: &str = "\
usage: cargo demo [--context NAME]

  --context NAME  use the cluster of this kubeconfig context [default: start a local control plane];
                  the demo installs deploy/base there, works in the namespace bulla-demo, and at the
                  end deletes only that namespace
";

const DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let context = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--context", name] => Some(name),
        _ => {
            let _ = write!(io::stderr(), "{HELP}");
            return ExitCode::from(2);
        }
    };
    let outcome = Cluster::new(context).and_then(|cluster| {
        let outcome = tell(&cluster);
        cluster.clean_up().and(outcome)
    });
    let (line, code) = match outcome {
        Ok(()) => ("demo: ok".to_owned(), ExitCode::SUCCESS),
        Err(error) => (format!("demo: failed: {error:#}"), ExitCode::FAILURE),
    };
    let _ = writeln!(io::stdout(), "\n{line}");
    code
}

fn tell(cluster: &Cluster) -> Result<()> {
    let story = Story::new(cluster)?;
    let controller = install(&story, cluster)?;
    seal(&story)?;
    commit(&story)?;
    unseal(&story)?;
    heal(&story)?;
    if controller.is_some() {
        renew(&story)?;
    }
    refuse(&story)?;
    recover(&story)?;
    collect(&story)?;
    drop(controller);
    Ok(())
}

fn install(story: &Story, cluster: &Cluster) -> Result<Option<Controller>> {
    story.chapter("Install Bulla in a cluster")?;
    story.say(&cluster.description()?)?;
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    // A cluster with nodes would start the pod, but its image is not published. tests/demo starts no pod.
    let folder = if cluster.plane.is_some() { "deploy/base" } else { "tests/demo" };
    story.command(&format!("kubectl apply -k {folder}"))?;
    let applied = cluster.admin.command(&["apply", "-k", folder]).current_dir(&root).output()?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr).trim());
    story
        .show(&format!("{} objects\n", String::from_utf8_lossy(&applied.stdout).lines().count()))?;
    let people = root.join("tests/demo/people.yaml");
    cluster.admin.run(&["apply", "-f", &people.display().to_string()])?;

    let controller = if cluster.has_controller()? {
        None
    } else {
        story.say("Start the controller as its own ServiceAccount, with the rights in deploy/controller/rbac.yaml:")?;
        Some(start_controller(story, cluster)?)
    };
    story.say("The controller has published its public key:")?;
    story.run("kubectl get sealingkeys -n bulla-system")?;
    Ok(controller)
}

fn start_controller(story: &Story, cluster: &Cluster) -> Result<Controller> {
    story.command("bulla-controller --holder demo")?;
    let mut command = Command::new(program(Program::Controller)?);
    command
        .args(["--holder", "demo", "--listen", "127.0.0.1:0"])
        .env("KUBECONFIG", cluster.service_account("bulla-system", "bulla-controller")?);
    let controller = Controller::start(command)?;
    controller.wait_until_ready()?;
    story.show("")?;
    Ok(controller)
}

fn seal(story: &Story) -> Result<()> {
    story.chapter("Seal a Secret")?;
    fs::write(story.path("secret.yaml"), SECRET)?;
    story.say("This Secret holds a plaintext password, so it must not be committed:")?;
    story.run("cat secret.yaml")?;
    story.say("Fetch the cluster's public key, and generate a recovery key to keep offline:")?;
    story.run("bulla keys fetch -o recipients.txt")?;
    story.run("bulla keys generate -o recovery.txt > recovery.pub")?;
    story.say(
        "Seal each value to both keys. A sealed value works only for its namespace, name and key:",
    )?;
    story.run("bulla seal -R recipients.txt -R recovery.pub secret.yaml -o repo/db.yaml")?;
    story.run("cut -c 1-100 repo/db.yaml")?;
    story.say("Without any key, you can see what each value is sealed for:")?;
    let shown = story.run("bulla inspect repo/db.yaml")?;
    ensure!(shown.contains("strict"), "inspect does not name the scope");
    let sealed = fs::read_to_string(story.path("repo/db.yaml"))?;
    ensure!(!sealed.contains(PASSWORD), "the sealed file holds the password");
    Ok(())
}

fn commit(story: &Story) -> Result<()> {
    story.chapter("Commit it")?;
    story.say("Check the file, then commit it:")?;
    story.run("cd repo && bulla lint db.yaml")?;
    story.run("cd repo && git init -q && git add db.yaml && git commit -qm 'Add the database password' && git show --stat --format=%s")?;
    Ok(())
}

fn unseal(story: &Story) -> Result<()> {
    story.chapter("Unseal it in the cluster")?;
    story.say("Apply the file, as Argo CD or Flux would. The controller creates the Secret:")?;
    story.run("kubectl apply -f repo/db.yaml")?;
    story.run("kubectl wait --for=condition=Ready sealedsecrets.bulla.dev/db --timeout=60s")?;
    story.run("kubectl get sealedsecrets.bulla.dev,secrets")?;
    let password = story.run("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d")?;
    ensure!(password == PASSWORD, "the Secret does not hold the password");
    Ok(())
}

fn heal(story: &Story) -> Result<()> {
    story.chapter("Undo a manual edit")?;
    story.say("Someone edits the Secret by hand:")?;
    let edit = r#"kubectl patch secret db -p '{"stringData": {"password": "hunter2"}}'"#;
    let started = Instant::now();
    story.run(edit)?;
    eventually("the restored password", DEADLINE, || {
        let password =
            story.quietly("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d")?;
        ensure!(password == PASSWORD, "the password is still the edited one");
        Ok(())
    })?;
    let elapsed = started.elapsed().as_millis();
    story
        .say(&format!("The controller restored it within {elapsed} ms, and published an Event:"))?;
    let events = "kubectl get events -o custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message";
    eventually("the Event", DEADLINE, || {
        ensure!(story.quietly(events)?.contains("DriftRepaired"), "no Event yet");
        Ok(())
    })?;
    story.run(events)?;
    Ok(())
}

/// Runs only when the demo has started the controller, so that it renews no key of yours.
fn renew(story: &Story) -> Result<()> {
    story.chapter("Renew the key")?;
    story.say(
        "The key admin declares the recovery key, then has the controller generate a new key:",
    )?;
    story
        .run_as_keeper("bulla keys activate -r \"$(cat recovery.pub)\" --holder recovery --yes")?;
    story.run_as_keeper("bulla keys renew")?;
    story.say("Sealed values still open. The developer rekeys the file to the new key, with no private key:")?;
    story.run("cd repo && bulla rekey")?;
    story.run("cd repo && git diff --stat")?;
    story.run("cd repo && git commit -qam 'Rekey to the new key'")?;
    story.run("kubectl apply -f repo/db.yaml")?;
    story.run("kubectl wait --for=condition=Ready sealedsecrets.bulla.dev/db --timeout=60s")?;
    let keys = story.run_as_keeper("bulla keys list")?;
    ensure!(keys.contains("Retired") && keys.contains("recovery"), "the key was not renewed");
    let password =
        story.quietly("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d")?;
    ensure!(password == PASSWORD, "the Secret no longer holds the password");
    Ok(())
}

fn refuse(story: &Story) -> Result<()> {
    story.chapter("Refuse a copied value")?;
    story.say(
        "Copy the file under another name, as an attacker might. Neither lint nor the controller accepts it:",
    )?;
    story.run("sed 's/name: db/name: web/' repo/db.yaml > web.yaml")?;
    story.ends("bulla lint web.yaml", 1)?;
    story.run("kubectl apply -f web.yaml")?;
    story.run("kubectl wait --for=condition=Stalled sealedsecrets.bulla.dev/web --timeout=60s")?;
    let state = story.run("kubectl get sealedsecrets.bulla.dev -o wide")?;
    ensure!(state.contains("WrongBinding"), "the copied value is not refused for its binding");
    let secrets = story.quietly("kubectl get secrets -o name")?;
    ensure!(!secrets.contains("web"), "a Secret was created from a copied value");
    Ok(())
}

fn recover(story: &Story) -> Result<()> {
    story.chapter("Recover without the cluster")?;
    story.say("The recovery key alone opens the file in Git:")?;
    let secret = story.run("bulla unseal -i recovery.txt repo/db.yaml")?;
    let encoded = story.quietly(&format!("printf %s '{PASSWORD}' | base64 -w0"))?;
    ensure!(secret.contains(encoded.trim()), "the recovery key does not open the password");
    Ok(())
}

fn collect(story: &Story) -> Result<()> {
    story.chapter("Delete it")?;
    story.say("Delete the SealedSecrets. Kubernetes deletes the Secret with them:")?;
    story.run("kubectl delete -f repo/db.yaml -f web.yaml")?;
    eventually("the deletion of the Secret", DEADLINE, || {
        let secrets = story.quietly("kubectl get secrets -o name")?;
        ensure!(!secrets.contains("secret/db"), "the Secret still exists");
        Ok(())
    })?;
    story.run("kubectl get secrets")?;
    Ok(())
}

/// The cluster that the demo runs in.
struct Cluster {
    /// None with `--context`.
    plane: Option<ControlPlane>,
    admin: Kubectl,
    /// Removes the folder and the keys in it if the demo is interrupted.
    _keeper: Leashed,
    folder: Folder,
}

impl Cluster {
    fn new(context: Option<&str>) -> Result<Self> {
        let folder = Folder::new("bulla-demo-")?;
        let keeper = Leashed::spawn(Command::new("sleep").arg("infinity"), &folder, "keeper")?;
        let Some(context) = context else {
            let plane = ControlPlane::start()?;
            let admin = plane.admin().clone();
            return Ok(Self { plane: Some(plane), admin, _keeper: keeper, folder });
        };
        let view = [
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "--context",
            context,
            "--output=json",
        ];
        let output =
            Command::new(Asset::Kubectl.path()?).args(view).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let mut config: Value = serde_json::from_slice(&output.stdout)?;
        config["current-context"] = json!(context);
        let path = folder.path().join("admin.kubeconfig");
        write_private(&path, &config)?;
        Ok(Self { plane: None, admin: Kubectl::new(path)?, _keeper: keeper, folder })
    }

    fn description(&self) -> Result<String> {
        let version = self.admin.json(&["version"])?;
        let version =
            version["serverVersion"]["gitVersion"].as_str().unwrap_or_default().to_owned();
        Ok(match &self.plane {
            Some(plane) => format!(
                "This is a local control plane: kube-apiserver, etcd and kube-controller-manager {version} at {}.",
                plane.url()
            ),
            None => format!("This is your cluster, with Kubernetes {version}."),
        })
    }

    fn has_controller(&self) -> Result<bool> {
        let deployment = ["get", "deployment", "bulla-controller", "--namespace", "bulla-system"];
        Ok(self.admin.json(&deployment)?["status"]["readyReplicas"]
            .as_u64()
            .is_some_and(|ready| ready > 0))
    }

    /// A kubeconfig for another user than the administrator.
    fn kubeconfig(
        &self,
        name: &str,
        namespace: &str,
        user: impl FnOnce(&Value) -> Value,
    ) -> Result<PathBuf> {
        let mut config = self.admin.json(&["config", "view", "--raw", "--minify", "--flatten"])?;
        config["users"][0]["user"] = user(&config["users"][0]["user"]);
        config["contexts"][0]["context"]["namespace"] = json!(namespace);
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        write_private(&path, &config)?;
        Ok(path)
    }

    fn service_account(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.admin.run(&[
            "create",
            "token",
            name,
            "--namespace",
            namespace,
            "--duration",
            "1h",
        ])?;
        self.kubeconfig(name, namespace, |_| json!({"token": token.trim()}))
    }

    fn person(&self, name: &str) -> Result<PathBuf> {
        self.kubeconfig(name, "bulla-demo", |admin| {
            let mut user = admin.clone();
            user["as"] = json!(format!("bulla-demo-{name}"));
            user
        })
    }

    /// Deletes the demo's namespace. It leaves Bulla installed, because you may want to keep it.
    fn clean_up(&self) -> Result<()> {
        if self.plane.is_none() {
            self.admin.run(&["delete", "--ignore-not-found", "namespace", "bulla-demo"])?;
        }
        Ok(())
    }
}

fn write_private(path: &Path, config: &Value) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(config.to_string().as_bytes()).context("cannot write a kubeconfig")
}

/// Prints and runs commands, and checks how they end.
struct Story {
    shell: Shell,
    /// The kubeconfig of the key admin.
    keeper: PathBuf,
    chapters: std::cell::Cell<usize>,
}

impl Story {
    fn new(cluster: &Cluster) -> Result<Self> {
        let shell = Shell::new(&cluster.folder, &cluster.person("developer")?)?;
        fs::create_dir_all(shell.path("repo"))?;
        Ok(Self { shell, keeper: cluster.person("keeper")?, chapters: 0.into() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shell.path(name)
    }

    fn chapter(&self, title: &str) -> Result<()> {
        self.chapters.set(self.chapters.get() + 1);
        Ok(writeln!(io::stdout(), "\n{}. {title}\n", self.chapters.get())?)
    }

    fn say(&self, text: &str) -> Result<()> {
        Ok(writeln!(io::stdout(), "   {text}")?)
    }

    fn command(&self, line: &str) -> Result<()> {
        Ok(writeln!(io::stdout(), "   $ {line}")?)
    }

    fn show(&self, output: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        for line in output.lines() {
            writeln!(stdout, "     {line}")?;
        }
        Ok(writeln!(stdout)?)
    }

    /// Prints a command, runs it as the developer, and prints its output. Returns its standard output.
    fn run(&self, line: &str) -> Result<String> {
        let output = self.ends(line, 0)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// [`run`](Self::run) as the key admin.
    fn run_as_keeper(&self, line: &str) -> Result<String> {
        let mut command = self.shell.command(line);
        command.env("KUBECONFIG", &self.keeper);
        let output = self.ended(line, &mut command, 0)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// [`run`](Self::run) for a command that must end with this exit code.
    fn ends(&self, line: &str, code: i32) -> Result<Output> {
        self.ended(line, &mut self.shell.command(line), code)
    }

    fn ended(&self, line: &str, command: &mut Command, code: i32) -> Result<Output> {
        self.command(line)?;
        let output = command.output()?;
        self.show(&String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()))?;
        ensure!(
            output.status.code() == Some(code),
            "expected `{line}` to end with exit code {code}, found {}",
            output.status
        );
        Ok(output)
    }

    /// Runs a command without printing anything.
    fn quietly(&self, line: &str) -> Result<String> {
        self.shell.run(line)
    }
}
