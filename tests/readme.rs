//! The commands of the README and of the pages for operators do what the pages claim, in order.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bulla_tests::{ControlPlane, Controller, Folder, Shell, Step, outdented, steps};

const README: &str = include_str!("../README.md");

const INSTALL: &str = include_str!("../docs/install.md");

const UPGRADE: &str = include_str!("../docs/upgrade.md");

/// The pages, followed one after the other by an operator whose cluster is restricted to two namespaces.
const FOR_OPERATORS: [(&str, &str); 6] = [
    ("namespaces.md", include_str!("../docs/namespaces.md")),
    ("target.md", include_str!("../docs/target.md")),
    ("status.md", include_str!("../docs/status.md")),
    ("keys.md", include_str!("../docs/keys.md")),
    ("operating.md", include_str!("../docs/operating.md")),
    ("troubleshooting.md", include_str!("../docs/troubleshooting.md")),
];

/// Commands that a test cannot run, each with the reason.
const NOT_RUN: [(&str, &str); 7] = [
    ("cargo demo", "CI runs it by itself"),
    ("cargo test", "this is it"),
    ("cargo install --locked --path ../bulla/cli", "the harness has built the same program"),
    ("docker build", "needs a container engine; CI builds the static binary that the image holds"),
    ("docker push", "needs a registry"),
    (
        ROLLOUT,
        "no node runs pods; the controller is started with the Deployment's settings instead",
    ),
    ("kubectl -n bulla-system logs", "no node runs pods"),
];

const ROLLOUT: &str = "kubectl -n bulla-system rollout status";

const PASSWORD: &str = "correct horse battery staple";

#[test]
fn every_command_of_the_readme_works_in_order() -> Result<()> {
    let mut reader = Reader::new()?;
    fs::write(reader.shell.path("../password.txt"), PASSWORD)?;
    let mut count = 0;
    for step in steps(README) {
        let Some((line, printed)) = reader.follow(step)? else { continue };
        count += 1;
        match line {
            "bulla diff" => ensure!(printed.contains("default/db"), "{printed}"),
            "bulla keys list" => {
                let (cluster, recovery) = (row(&printed, "prod")?, row(&printed, "recovery")?);
                ensure!(cluster.contains("Active") && is_held_and_backed_up(cluster), "{printed}");
                ensure!(recovery.contains("Active"), "{printed}");
            }
            "bulla rekey" => {
                let inspected = reader.shell.run("bulla lint --deny warnings")?;
                ensure!(!inspected.contains("retired-key"), "{inspected}");
            }
            line if line.starts_with("bulla unseal") => {
                ensure!(printed.contains("name: db"), "{printed}");
            }
            _ => {}
        }
    }
    ensure!(reader.controller.is_some() && count >= 20, "the README has lost its commands");
    let password =
        reader.shell.run("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d")?;
    assert_eq!(password, PASSWORD);
    Ok(())
}

#[test]
fn every_command_of_the_installation_and_of_an_upgrade_works_in_order() -> Result<()> {
    let mut reader = Reader::new()?;
    // The page assumes that the reader has a repository.
    reader.shell.run("git init -q")?;
    let mut count = 0;
    for step in [INSTALL, UPGRADE].into_iter().flat_map(steps) {
        let Some((line, printed)) = reader.follow(step)? else { continue };
        count += 1;
        if line == "bulla keys list" {
            ensure!(is_held_and_backed_up(row(&printed, "prod-eu")?), "{printed}");
            ensure!(row(&printed, "recovery")?.contains("Active"), "{printed}");
        }
        if line.contains("env[*].name") {
            ensure!(printed.trim() == "BULLA_LOG_FORMAT POD_NAME POD_NAMESPACE", "{printed}");
        }
    }
    ensure!(reader.controller.is_some() && count >= 15, "the pages have lost their commands");
    // The upgrades generated no other key.
    let keys = reader.shell.run("bulla keys list --format fingerprint")?;
    ensure!(keys.lines().count() == 2, "{keys}");
    Ok(())
}

#[test]
fn commands_that_no_test_runs_are_on_a_page() {
    for (command, reason) in NOT_RUN {
        let pages = FOR_OPERATORS.iter().map(|(_, page)| *page).chain([README, INSTALL, UPGRADE]);
        assert!(
            pages
                .flat_map(steps)
                .any(|step| matches!(step, Step::Run(line) if line.starts_with(command))),
            "{command} ({reason}) is on no page"
        );
    }
}

#[test]
fn every_command_for_operators_works_in_order() -> Result<()> {
    let mut reader = Reader::new()?;
    // The reader of these pages works in a namespace of the example.
    for line in [
        "kubectl create namespace team-a",
        "kubectl create namespace team-b",
        "kubectl config set-context --current --namespace team-a",
    ] {
        reader.shell.run(line)?;
    }
    for (name, page) in FOR_OPERATORS {
        let mut count = 0;
        for step in steps(page) {
            if let Step::Run(line) = step {
                prepare(&reader.shell, line)?;
            }
            let followed = reader.follow(step).with_context(|| name.to_owned())?;
            let Some((line, printed)) = followed else { continue };
            count += 1;
            if line.contains("deploy/namespaced/example") {
                reader.roll_out()?;
            }
            if line.contains("jsonpath='{.spec.holderIdentity}'") {
                ensure!(printed.starts_with("bulla-controller-"), "{printed}");
            }
        }
        ensure!(count > 0, "{name} has lost its commands");
    }
    ensure!(reader.controller.is_some(), "the pages have lost their commands");
    let password = "kubectl get secret db -o jsonpath='{.data.password}' | base64 -d";
    assert_eq!(reader.shell.run(password)?, "ours");
    let opened = reader.shell.run("bulla unseal -i identities.txt db.yaml")?;
    ensure!(opened.contains("password: b3Vycw=="), "{opened}");
    Ok(())
}

/// Does what the page assumes before the command.
fn prepare(shell: &Shell, line: &str) -> Result<()> {
    if line.starts_with("kubectl label secret db") {
        for line in [
            "kubectl create secret generic db --from-literal=password=theirs",
            "kubectl create secret generic db --from-literal=password=ours --dry-run=client \
             -o yaml | bulla seal -n team-a - > db.yaml",
            "kubectl apply -f db.yaml",
            "kubectl wait --for=jsonpath='{.status.conditions[0].reason}'=TargetExists \
             --timeout=60s sealedsecret/db",
        ] {
            shell.run(line)?;
        }
    }
    if line.starts_with("bulla inspect clusters/prod/db.yaml") {
        shell.run("mkdir -p clusters/prod && cp db.yaml clusters/prod/db.yaml")?;
    }
    Ok(())
}

/// A reader with a cluster, in an empty folder beside a clone of this repository.
struct Reader {
    // First, so that it ends before the control plane.
    controller: Option<Controller>,
    plane: ControlPlane,
    shell: Shell,
    _folder: Folder,
}

impl Reader {
    fn new() -> Result<Self> {
        let plane = ControlPlane::start()?;
        let folder = Folder::new("bulla-readme-")?;
        let shell = Shell::new(&folder, plane.admin().kubeconfig())?;
        symlink(root()?, shell.path("../bulla"))?;
        Ok(Self { controller: None, plane, shell, _folder: folder })
    }

    /// Does the step, and returns the command with its output. A command that a test cannot run has no output.
    fn follow<'a>(&mut self, step: Step<'a>) -> Result<Option<(&'a str, String)>> {
        match step {
            Step::Write(name, text) => self.write(name, text).map(|()| None),
            Step::Run(line) if line.starts_with(ROLLOUT) => self.roll_out().map(|()| None),
            Step::Run(line) if NOT_RUN.iter().any(|(command, _)| line.starts_with(command)) => {
                Ok(None)
            }
            Step::Run(line) => Ok(Some((line, self.shell.run(&typed(line))?))),
        }
    }

    /// Writes a kustomization with the reader's own recovery key, and checks that it renders.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.shell.path(name);
        let folder = path.parent().context("no folder")?;
        fs::create_dir_all(folder)?;
        let recovery = fs::read_to_string(self.shell.path("recovery.pub")).unwrap_or_default();
        fs::write(&path, outdented(text).replace("age1pq1…", recovery.trim()))?;
        self.shell.run(&format!("kubectl kustomize '{}'", folder.display())).map(drop)
    }

    /// Runs the controller with the Deployment's settings.
    fn roll_out(&mut self) -> Result<()> {
        self.controller = None;
        let controller = Controller::start(Controller::deployed(&self.plane)?)?;
        controller.wait_until_ready()?;
        self.controller = Some(controller);
        Ok(())
    }
}

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no root")
}

/// The line of a table about this holder.
fn row<'a>(table: &'a str, holder: &str) -> Result<&'a str> {
    let is_about = |line: &&str| line.split_whitespace().nth(1) == Some(holder);
    table.lines().find(is_about).with_context(|| format!("no {holder} in {table}"))
}

/// The command as a test runs it: questions are answered, the variable is set, and a difference is expected.
fn typed(line: &str) -> String {
    match line {
        line if line.starts_with("bulla keys fetch --environment") => format!("{line} --yes"),
        line if line.contains("--prompt password") => {
            line.replace("--prompt password", "--from-file password=../password.txt")
        }
        line if line.contains("DB_USER") => format!("DB_USER=shop {line}"),
        "bulla diff" => "bulla diff || test $? = 1".to_owned(),
        line => line.to_owned(),
    }
}

fn is_held_and_backed_up(row: &str) -> bool {
    row.split_whitespace().filter(|word| *word == "yes").count() == 2
}
