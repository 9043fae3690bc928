//! Uninstalling and installing again loses nothing, and neither does an accidental deletion. The runbook for leaving
//! Bulla is tested in `runbooks/`.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_crds::keys::KEEP_ANNOTATIONS;
use bulla_tests::{Component, ControlPlane, Controller, Folder, Kubectl, Shell, eventually};
use serde_json::Value;

const PAGE: &str = include_str!("../docs/uninstall.md");

/// The reader's own kustomization, without settings.
const KUSTOMIZATION: &str = "resources: [../../bulla/deploy/base]\n";

/// The number of Secrets that are committed at the start.
const COMMITTED: usize = 10;

const SOON: Duration = Duration::from_secs(60);

const DEFINITIONS: [&str; 3] = ["sealedsecrets", "sealingkeys", "rekeys"];

#[test]
fn neither_uninstalling_nor_an_accidental_deletion_loses_anything() -> Result<()> {
    let site = Site::start()?;
    let controller = site.start_controller()?;
    for number in 0..COMMITTED {
        site.seal(&format!("db-{number}"))?;
    }
    site.wait_until_unsealed()?;
    let before = site.kept()?;
    // Secrets, SealedSecrets, the identity and its SealingKey.
    assert_eq!(before.len(), 2 * COMMITTED + 2, "{before:#?}");

    site.follow("## Uninstall and install again", |line| {
        if line.contains("apply -k") {
            // A file committed in the meantime waits. The public key is still available.
            site.seal("later")?;
            site.let_collect()?;
            assert_eq!(site.kept()?, before);
        }
        Ok(())
    })?;
    // Its ServiceAccount is a new one of the same name, so the old pod's token is invalid.
    drop(controller);
    let controller = site.start_controller()?;
    site.wait_until_unsealed()?;
    ensure!(site.password("later")? == "correct horse later", "not the value");
    site.seal("after")?;
    site.wait_until_unsealed()?;
    assert_eq!(site.kept()?, before, "something was written");
    drop(controller);

    // Delete the whole folder by accident, and again because the first attempt left something.
    site.shell.run("kubectl delete secret,sealedsecret later after")?;
    for _ in 0..2 {
        let said = refusal(site.shell.run("kubectl delete -k bulla-system"))?;
        ensure!(said.contains("this namespace holds the identities"), "{said}");
        for plural in DEFINITIONS {
            let command = format!(
                "kubectl annotate customresourcedefinitions/{plural}.bulla.dev \
                 bulla.dev/allow-delete=true"
            );
            ensure!(said.contains(&command), "{said}");
        }
    }
    site.let_collect()?;
    // A policy marked as being deleted still protects, even after a restart of the API server.
    let mut site = site;
    site.plane.restart(Component::ApiServer)?;
    for object in site.guarded()? {
        eventually("the policy to be read again", SOON, || {
            refusal(site.shell.run(&format!("kubectl delete --dry-run=server {object}")))
        })?;
        let said = refusal(site.shell.run(&format!("kubectl delete {object}")))?;
        ensure!(said.contains("bulla.dev/allow-delete=true"), "{said}");
    }
    assert_eq!(site.kept()?, before);
    site.follow("## When everything was deleted by mistake", |_| Ok(()))?;
    let left = "kubectl get validatingadmissionpolicies,validatingadmissionpolicybindings \
                -o jsonpath='{.items[*].metadata.deletionTimestamp}'";
    ensure!(site.shell.run(left)?.is_empty(), "policies are still marked as being deleted");
    let controller = site.start_controller()?;
    site.shell.run("kubectl delete secret db-0")?;
    site.shell.run("kubectl wait --for=create secret/db-0 --timeout=60s")?;
    ensure!(site.password("db-0")? == "correct horse db-0", "not the value");
    drop(controller);
    Ok(())
}

#[test]
fn kept_objects_are_separate_and_tell_every_tool_to_keep_them() -> Result<()> {
    let (kept, controller) = (rendered("kept")?, rendered("controller")?);
    let objects = |objects: &[Value]| {
        let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        let mut names: Vec<_> = objects.iter().map(name).collect();
        names.sort();
        names
    };
    assert_eq!(objects(&rendered("base")?), objects(&[kept.clone(), controller.clone()].concat()));
    let kinds = kept.iter().map(|object| object["kind"].as_str().unwrap_or_default());
    let mut count = BTreeMap::new();
    kinds.for_each(|kind| *count.entry(kind).or_insert(0) += 1);
    let expected = [
        ("CustomResourceDefinition", 3),
        ("Namespace", 1),
        ("ValidatingAdmissionPolicy", 2),
        ("ValidatingAdmissionPolicyBinding", 2),
    ];
    assert_eq!(count, BTreeMap::from(expected));
    let alone = rendered("../crds/generated")?;
    assert_eq!(alone.len(), DEFINITIONS.len());
    for object in kept.iter().chain(&alone) {
        for (key, value) in KEEP_ANNOTATIONS {
            let name = &object["metadata"]["name"];
            assert_eq!(object["metadata"]["annotations"][key], value, "{name}: {key}");
        }
    }
    // Nothing else is left behind.
    for object in controller {
        for (key, _) in KEEP_ANNOTATIONS {
            ensure!(object["metadata"]["annotations"][key].is_null(), "{key} on {object}");
        }
    }
    Ok(())
}

#[test]
fn the_roles_for_people_are_not_bound() -> Result<()> {
    let is_binding = |object: &&Value| {
        object["kind"].as_str().is_some_and(|kind| {
            kind.ends_with("RoleBinding") && object["metadata"]["name"] != "bulla-controller"
        })
    };
    let base = rendered("base")?;
    ensure!(base.iter().find(is_binding).is_none(), "{:?}", base.iter().find(is_binding));
    for role in ["bulla-seal", "bulla-keys", "bulla-rekey", "bulla-view", "bulla-edit"] {
        ensure!(base.iter().any(|object| object["metadata"]["name"] == role), "no {role}");
    }
    Ok(())
}

/// A cluster with Bulla, and its administrator in a copy of this repository.
struct Site {
    shell: Shell,
    plane: ControlPlane,
    _folder: Folder,
}

impl Site {
    fn start() -> Result<Self> {
        let mut plane = ControlPlane::start()?;
        let folder = Folder::new("bulla-uninstall-")?;
        let shell = Shell::new(&folder, plane.admin().kubeconfig())?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no root")?;
        symlink(root, shell.path("../bulla"))?;
        fs::create_dir(shell.path("bulla-system"))?;
        fs::write(shell.path("bulla-system/kustomization.yaml"), KUSTOMIZATION)?;
        Controller::install(&plane)?;
        // Otherwise the garbage collector looks for new kinds of objects only every half minute.
        plane.restart(Component::ControllerManager)?;
        let site = Self { shell, plane, _folder: folder };
        eventually("the policy to be in force", SOON, || {
            refusal(site.shell.run("kubectl delete --dry-run=server namespace bulla-system"))
        })?;
        Ok(site)
    }

    /// Starts the controller with the Deployment's settings, because no node runs its pod.
    fn start_controller(&self) -> Result<Controller> {
        let mut command = Controller::command(&self.plane)?;
        command.args(["--lease-duration", "4s"]);
        let controller = Controller::start(command)?;
        controller.wait_until_ready()?;
        Ok(controller)
    }

    fn seal(&self, name: &str) -> Result<()> {
        let line = format!(
            "kubectl create secret generic {name} --from-literal='password=correct horse {name}' \
             --dry-run=client -o yaml | bulla seal -n default - | kubectl apply -f -"
        );
        self.shell.run(&line).map(drop)
    }

    fn wait_until_unsealed(&self) -> Result<()> {
        let line = "kubectl wait --for=condition=Ready sealedsecrets --all --timeout=60s";
        self.shell.run(line).map(drop)
    }

    fn password(&self, name: &str) -> Result<String> {
        let line =
            format!("kubectl get secret {name} -o 'jsonpath={{.data.password}}' | base64 -d");
        self.shell.run(&line)
    }

    /// The initial objects, each with the fields that would change if it were recreated or written. Of keys these are
    /// the specs, because their statuses have counts.
    fn kept(&self) -> Result<BTreeMap<String, Value>> {
        let admin = self.plane.admin();
        let kinds = "secrets,sealedsecrets,sealingkeys";
        let list = admin.json(&["get", kinds, "--all-namespaces"])?;
        let list = list["items"].as_array().context("no list")?;
        let is_later = |name: &str| ["later", "after"].contains(&name);
        let kept = list.iter().filter_map(|object| {
            let (kind, metadata) = (object["kind"].as_str()?, &object["metadata"]);
            let name = metadata["name"].as_str().filter(|name| !is_later(name))?;
            let state = match kind {
                "SealingKey" => &object["spec"],
                _ => &metadata["resourceVersion"],
            };
            Some((format!("{kind} {name} {}", metadata["uid"]), state.clone()))
        });
        Ok(kept.collect())
    }

    /// The objects that the policy protects, as arguments of `kubectl delete`.
    fn guarded(&self) -> Result<Vec<String>> {
        let name = |kind: &str| {
            let line = format!("kubectl get {kind} -n bulla-system -o name");
            anyhow::Ok(format!("{} -n bulla-system", self.shell.run(&line)?.trim()))
        };
        let identity = name("secrets --field-selector type=bulla.dev/identity")?;
        let definitions = DEFINITIONS.map(|plural| format!("crd {plural}.bulla.dev"));
        let guarded = ["namespace bulla-system".to_owned(), identity, name("sealingkeys")?];
        Ok(guarded.into_iter().chain(definitions).collect())
    }

    /// Deletes one more object and waits for the garbage collector to handle it, and so all earlier ones.
    fn let_collect(&self) -> Result<()> {
        let uid = self.shell.run(
            "kubectl create configmap owner > /dev/null && \
             kubectl get configmap owner -o jsonpath={.metadata.uid}",
        )?;
        let owned = format!(
            r#"{{"metadata": {{"ownerReferences": [{{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "{uid}"}}]}}}}"#
        );
        self.shell.run(&format!(
            "kubectl create configmap owned && kubectl patch configmap owned -p '{owned}' && \
             kubectl delete configmap owner && \
             kubectl wait --for=delete configmap/owned --timeout=60s"
        ))?;
        Ok(())
    }

    /// Runs the commands below this heading of the page. Calls `prepare` with each command first.
    fn follow(&self, headline: &str, prepare: impl Fn(&str) -> Result<()>) -> Result<()> {
        let (_, section) = PAGE.split_once(headline).with_context(|| headline.to_owned())?;
        let section = section.split("\n#").next().unwrap_or_default();
        let mut is_command = false;
        let mut count = 0;
        for line in section.lines() {
            match line {
                "```sh" => is_command = true,
                "```" => is_command = false,
                line if is_command => {
                    prepare(line)?;
                    self.shell.run(line)?;
                    count += 1;
                }
                _ => {}
            }
        }
        ensure!(count > 1, "{headline} has lost its commands");
        Ok(())
    }
}

/// The objects of a folder of `deploy`.
fn rendered(folder: &str) -> Result<Vec<Value>> {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    // This needs no cluster.
    let yaml = Kubectl::new("none")?.run(&["kustomize", &format!("{deploy}/{folder}")])?;
    yaml.split("\n---\n").map(|document| Ok(yaml_serde::from_str(document)?)).collect()
}

/// The error of a command that must not work.
fn refusal(outcome: Result<String>) -> Result<String> {
    let error = outcome.err().context("it was not refused")?;
    Ok(format!("{error:#}"))
}
