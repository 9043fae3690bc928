//! A cluster with its users and its controller, and the repository that they work in.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_sealing::Recipient;
use bulla_tests::{ControlPlane, Controller, Folder, Kubectl, Shell, Step, outdented, steps};
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A user, with rights from `deploy/controller/people.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Person {
    /// The administrator, who may install Bulla.
    Operator,
    /// Has `bulla-keys`, and `bulla-view` in all namespaces.
    KeyKeeper,
    /// Has `bulla-seal`, and `bulla-rekey` in all namespaces. Cannot read Secrets.
    Developer,
    /// Applies manifests; has `edit` in all namespaces.
    GitOps,
}

impl Person {
    /// The user who runs a command.
    pub(crate) fn of(line: &str) -> Self {
        let developer = ["bulla keys fetch", "bulla keys generate", "bulla rekey", "bulla seal"];
        let gitops = ["kubectl apply -f", "kubectl apply -R", "kubectl wait", "kubectl -n shop"];
        let begins = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
        if begins(&developer) {
            Self::Developer
        } else if line.contains("bulla keys") {
            Self::KeyKeeper
        } else if begins(&gitops) {
            Self::GitOps
        } else if line.contains("kubectl") {
            Self::Operator
        } else {
            Self::Developer
        }
    }
}

/// A cluster with its users and its controller.
pub(crate) struct Site {
    // First, so that it ends before the control plane.
    pub(crate) controller: Option<Controller>,
    pub(crate) people: BTreeMap<Person, Kubectl>,
    pub(crate) plane: ControlPlane,
}

/// The shell in which all users work, with its variables.
pub(crate) struct Desk {
    pub(crate) shell: Shell,
    pub(crate) variables: BTreeMap<String, String>,
    _folder: Folder,
}

impl Desk {
    pub(crate) fn new() -> Result<Self> {
        let folder = Folder::new("bulla-runbooks-")?;
        let shell = Shell::new(&folder, &PathBuf::from("/dev/null"))?;
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        std::os::unix::fs::symlink(fs::canonicalize(root)?, shell.path("../bulla"))?;
        let desk = Self { shell, variables: BTreeMap::new(), _folder: folder };
        desk.shell.run("git init -q")?;
        Ok(desk)
    }

    /// Writes a file as the page shows it, with the recovery key in place of the one that the page leaves out.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.shell.path(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        let recovery = fs::read_to_string(self.shell.path("recovery.pub"))?;
        Ok(fs::write(path, outdented(text).replace("age1pq1…", recovery.trim()))?)
    }

    pub(crate) fn recipient(&self, file: &str) -> Result<Recipient> {
        Ok(fs::read_to_string(self.shell.path(file))?.trim().parse()?)
    }
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let plane = ControlPlane::start()?;
        let people = BTreeMap::from([(Person::Operator, plane.admin().clone())]);
        Ok(Self { controller: None, people, plane })
    }

    /// Binds the roles, which exist after the installation.
    pub(crate) fn bind(&mut self) -> Result<()> {
        let bind = |name: &str, kind: &str, role: &str, user: &str| {
            let user = format!("--user={user}");
            let role = format!("--{}={role}", if kind == "role" { "role" } else { "clusterrole" });
            let mut command = vec!["create"];
            match kind {
                "role" => command.extend(["rolebinding", name, &role, &user, "-n", "bulla-system"]),
                _ => command.extend(["clusterrolebinding", name, &role, &user]),
            }
            self.plane.kubectl(&command).map(drop)
        };
        bind("keeper", "role", "bulla-keys", "keeper")?;
        bind("keeper", "everywhere", "bulla-view", "keeper")?;
        bind("developer", "role", "bulla-seal", "developer")?;
        bind("developer", "everywhere", "bulla-rekey", "developer")?;
        bind("gitops", "everywhere", "edit", "gitops")?;
        // `bulla keys fetch` in moving.md and others.
        for (person, user) in [
            (Person::KeyKeeper, "keeper"),
            (Person::Developer, "developer"),
            (Person::GitOps, "gitops"),
        ] {
            self.people.insert(person, self.plane.user(user, &[])?);
        }
        Ok(())
    }

    /// Follows a page. Calls `look` before each command.
    pub(crate) fn follow(
        &mut self,
        desk: &mut Desk,
        page: &str,
        mut look: impl FnMut(&mut Self, &mut Desk, &str) -> Result<()>,
    ) -> Result<()> {
        for step in steps(page) {
            match step {
                Step::Write(name, text) => desk.write(name, text)?,
                Step::Run(line) => {
                    look(self, desk, line).with_context(|| format!("before `{line}`"))?;
                    self.run(desk, line)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn run(&mut self, desk: &mut Desk, line: &str) -> Result<String> {
        if line.contains("rollout status") {
            return self.roll_out().map(|()| String::new());
        }
        let printed = self.run_as(desk, Person::of(line), line)?;
        let is_bound = self.people.contains_key(&Person::KeyKeeper);
        if line.starts_with("kubectl apply -k ") && !is_bound {
            self.bind()?;
        }
        Ok(printed)
    }

    pub(crate) fn run_as(&self, desk: &mut Desk, person: Person, line: &str) -> Result<String> {
        // The roles do not exist before the installation.
        let operator = &self.people[&Person::Operator];
        let person = self.people.get(&person).unwrap_or(operator);
        let variable = line
            .split_once("=$(")
            .map(|(name, _)| name)
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase()));
        let script = match variable {
            Some(name) => format!("set -e; {line}; printf %s \"${name}\""),
            None => line.to_owned(),
        };
        let mut command = desk.shell.command(&script);
        command.env("KUBECONFIG", person.kubeconfig()).envs(&desk.variables);
        let output = command.output()?;
        let (said, printed) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        ensure!(output.status.success(), "`{line}`: {}\n{}", said.trim(), printed.trim());
        if let Some(name) = variable {
            ensure!(!printed.trim().is_empty(), "`{line}` prints nothing");
            desk.variables.insert(name.to_owned(), printed.trim().to_owned());
        }
        Ok(printed.into_owned())
    }

    /// Runs the controller with the Deployment's environment, because no node runs its pods.
    pub(crate) fn roll_out(&mut self) -> Result<()> {
        let command = Controller::deployed(&self.plane)?;
        self.controller = None;
        let controller = Controller::start(command)?;
        controller.wait_until_ready()?;
        self.controller = Some(controller);
        Ok(())
    }

    /// The data of all Secrets in a namespace that belong to SealedSecrets. An adopted one keeps its consent.
    pub(crate) fn secrets(&self, namespace: &str) -> Result<BTreeMap<String, Value>> {
        let list = ["get", "secrets", "-n", namespace, "-l", "bulla.dev/target in (adopt, owned)"];
        let list = self.plane.admin().json(&list)?;
        let items = list["items"].as_array().context("no list")?;
        let entry = |secret: &Value| {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            (name.to_owned(), json!([secret["type"], secret["data"]]))
        };
        Ok(items.iter().map(entry).collect())
    }

    /// Runs a command that must end with this code and this error.
    pub(crate) fn is_refused(&self, desk: &Desk, line: &str, code: i32, said: &str) -> Result<()> {
        let person = &self.people[&Person::of(line)];
        let mut command = desk.shell.command(line);
        let output =
            command.env("KUBECONFIG", person.kubeconfig()).envs(&desk.variables).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code),
            "`{line}` ends with {}: {stderr}",
            output.status
        );
        ensure!(stderr.contains(said), "`{line}` does not report {said}: {stderr}");
        Ok(())
    }
}
