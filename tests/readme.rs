//! The commands of the README do what it says, in its order.

use std::fs;
use std::path::Path;

use bulla_tests::{ControlPlane, Controller, Folder, Shell};

const README: &str = include_str!("../README.md");

/// Commands that a test cannot run, each with the reason.
const NOT_RUN: [(&str, &str); 4] = [
    ("cargo demo", "CI runs it by itself"),
    ("cargo test", "this is it"),
    ("cargo install --path cli", "the harness has built the same program"),
    ("docker build", "needs a container engine; CI builds the static binary that the image holds"),
];

const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: default
stringData:
  password: correct horse battery staple
";

#[test]
fn every_command_of_the_readme_works_in_its_order() {
    let plane = ControlPlane::shared().unwrap();
    let folder = Folder::new("bulla-readme-").unwrap();
    let shell = Shell::new(&folder, plane.admin().kubeconfig()).unwrap();
    fs::write(shell.path("secret.yaml"), SECRET).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["crds", "deploy"] {
        std::os::unix::fs::symlink(root.join(folder), shell.path(folder)).unwrap();
    }

    let mut controller = None;
    let mut count = 0;
    for line in
        commands().filter(|line| NOT_RUN.iter().all(|(command, _)| !line.starts_with(command)))
    {
        let printed = shell.run(line).unwrap_or_else(|error| panic!("{error:#}"));
        count += 1;
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
    assert!(controller.is_some() && count >= 8, "the README has lost its commands");
    let password =
        shell.run("kubectl get secret db -o jsonpath='{.data.password}' | base64 -d").unwrap();
    assert_eq!(password, "correct horse battery staple");
}

#[test]
fn what_is_not_run_is_still_there() {
    for (command, reason) in NOT_RUN {
        assert!(
            commands().any(|line| line.starts_with(command)),
            "{command} ({reason}) is not in the README"
        );
    }
}

/// The lines of the README's `console` blocks.
fn commands() -> impl Iterator<Item = &'static str> {
    let mut is_command = false;
    README.lines().filter(move |line| {
        let was_command = is_command && *line != "```";
        is_command = *line == "```console" || was_command;
        was_command
    })
}
