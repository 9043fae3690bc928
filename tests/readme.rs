//! The commands of the README and of the guides do what they say, in their order.

use std::fs;
use std::path::Path;

use bulla_tests::{ControlPlane, Controller, Folder, Shell, Step, steps};

const README: &str = include_str!("../README.md");

const OPERATING: &str = include_str!("../docs/operating.md");

/// Commands that a test cannot run, each with the reason.
const NOT_RUN: [(&str, &str); 5] = [
    ("cargo demo", "CI runs it by itself"),
    ("cargo test", "this is it"),
    ("cargo install --path cli", "the harness has built the same program"),
    ("kubectl rollout status", "no node runs pods; the controller's own readiness is waited for"),
    ("docker build", "needs a container engine; CI builds the static binary that the image holds"),
];

const PASSWORD: &str = "correct horse battery staple";

#[test]
fn every_command_of_the_readme_works_in_its_order() {
    let plane = ControlPlane::shared().unwrap();
    let folder = Folder::new("bulla-readme-").unwrap();
    let shell = Shell::new(&folder, plane.admin().kubeconfig()).unwrap();
    fs::write(shell.path("password.txt"), PASSWORD).unwrap();
    shell
        .run("git init -q && git commit -q --allow-empty -m Begin && mkdir -p clusters/prod")
        .unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["crds", "deploy"] {
        std::os::unix::fs::symlink(root.join(folder), shell.path(folder)).unwrap();
    }

    let mut controller = None;
    let mut count = 0;
    for line in commands(README)
        .filter(|line| NOT_RUN.iter().all(|(command, _)| !line.starts_with(command)))
    {
        let printed = shell.run(&typed(line)).unwrap_or_else(|error| panic!("{error:#}"));
        count += 1;
        if line == "bulla diff" {
            assert!(printed.contains("default/db"), "{printed}");
        }
        if line == "kubectl apply -k deploy/base" {
            // No node runs the Deployment's pod.
            let started = Controller::start(Controller::command(plane).unwrap()).unwrap();
            started.wait_until_ready().unwrap();
            controller = Some(started);
        }
        if line.starts_with("bulla unseal") {
            assert!(printed.contains("name: db"), "{printed}");
        }
    }
    assert!(controller.is_some() && count >= 15, "the README has lost its commands");
    let password =
        shell.run("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d").unwrap();
    assert_eq!(password, PASSWORD);
}

/// What a person types who is asked, whose environment has a user, and who wants to see a difference.
fn typed(line: &str) -> String {
    match line {
        line if line.starts_with("bulla keys fetch --environment") => format!("{line} --yes"),
        line if line.contains("DB_USER") => format!("DB_USER=shop {line}"),
        "bulla diff" => "bulla diff || test $? = 1".to_owned(),
        line => line.to_owned(),
    }
}

#[test]
fn what_is_not_run_is_still_there() {
    for (command, reason) in NOT_RUN {
        assert!(
            commands(README).any(|line| line.starts_with(command)),
            "{command} ({reason}) is not in the README"
        );
    }
}

#[test]
fn every_command_for_operators_works_in_its_order() {
    let plane = ControlPlane::start().unwrap();
    let folder = Folder::new("bulla-operating-").unwrap();
    let shell = Shell::new(&folder, plane.admin().kubeconfig()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["crds", "deploy"] {
        std::os::unix::fs::symlink(root.join(folder), shell.path(folder)).unwrap();
    }
    // Whoever reads this works in a namespace of the example.
    for line in [
        "kubectl create namespace team-a",
        "kubectl create namespace team-b",
        "kubectl config set-context --current --namespace team-a",
    ] {
        shell.run(line).unwrap();
    }
    let mut controller = None;
    for line in commands(OPERATING) {
        if line.starts_with("kubectl label secret db") {
            for line in [
                "kubectl create secret generic db --from-literal=password=theirs",
                "kubectl create secret generic db --from-literal=password=ours --dry-run=client \
                 -o yaml | bulla seal -n team-a - > db.yaml",
                "kubectl apply -f db.yaml",
                "kubectl wait --for=jsonpath='{.status.conditions[0].reason}'=TargetExists \
                 --timeout=60s sealedsecret/db",
            ] {
                shell.run(line).unwrap();
            }
        }
        let printed = shell.run(line).unwrap_or_else(|error| panic!("{error:#}"));
        if line.starts_with("kubectl apply -k deploy/namespaced/example") {
            // No node runs the Deployment's pod.
            let mut command = Controller::command(&plane).unwrap();
            command.args(["--watch-namespace", "team-a,team-b"]);
            let started = Controller::start(command).unwrap();
            started.wait_until_ready().unwrap();
            controller = Some(started);
        }
        if line.contains("holderIdentity") {
            assert!(printed.starts_with("bulla-controller-"), "{printed}");
        }
    }
    assert!(controller.is_some(), "the guide has lost its commands");
    let password = "kubectl get secret db -o jsonpath='{.data.password}' | base64 -d";
    assert_eq!(shell.run(password).unwrap(), "ours");
    let opened = shell.run("bulla unseal -i identities.txt db.yaml").unwrap();
    assert!(opened.contains("password: b3Vycw=="), "{opened}");
}

/// The commands of a page.
fn commands(page: &'static str) -> impl Iterator<Item = &'static str> {
    steps(page).into_iter().filter_map(|step| match step {
        Step::Run(line) => Some(line),
        Step::Write(..) => None,
    })
}
