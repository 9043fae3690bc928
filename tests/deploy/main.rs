//! The manifests in `deploy/`, as a user applies them to a real control plane, and the ways to reach one.

mod reach;

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_tests::{ControlPlane, Folder, Kubectl, eventually};
use serde_json::{Value, json};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

fn apply(kubectl: &Kubectl, folder: &str) -> Result<String> {
    kubectl.run(&["apply", "--kustomize", &format!("{DEPLOY}/{folder}")])
}

/// The objects of a folder, as kustomize renders them.
fn rendered(folder: &str) -> Result<Vec<Value>> {
    let rendered =
        Kubectl::new("/nonexistent")?.run(&["kustomize", &format!("{DEPLOY}/{folder}")])?;
    let documents = rendered.split("\n---\n");
    documents.map(|document| Ok(yaml_serde::from_str(document)?)).collect()
}

#[test]
fn applying_the_manifests_again_changes_nothing() -> Result<()> {
    let plane = ControlPlane::start()?;
    let kubectl = plane.admin();
    for namespace in ["team-a", "team-b"] {
        kubectl.run(&["create", "namespace", namespace])?;
    }
    for folder in ["base", "namespaced/example"] {
        apply(kubectl, folder)?;
        let path = format!("{DEPLOY}/{folder}");
        let versions = || -> Result<BTreeMap<String, Value>> {
            let list = kubectl.json(&["get", "--kustomize", &path])?;
            let objects = list["items"].as_array().context("no items")?;
            let version = |object: &Value| {
                let metadata = &object["metadata"];
                (
                    format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"]),
                    metadata["resourceVersion"].clone(),
                )
            };
            Ok(objects.iter().map(version).collect())
        };
        let before = versions()?;
        ensure!(before.len() > 10, "{before:?}");
        let said = apply(kubectl, folder)?;
        for line in said.lines() {
            // It says so of every PodDisruptionBudget, because it never compares their selectors.
            let is_budget = line == "poddisruptionbudget.policy/bulla-controller configured";
            ensure!(line.ends_with(" unchanged") || is_budget, "{folder}: {line}");
        }
        assert_eq!(said.lines().count(), before.len(), "{said}");
        assert_eq!(versions()?, before, "{folder}");
        // Nothing differs for tools that compare what the server would store: they take over no field with another value.
        let diff =
            kubectl.run(&["diff", "--server-side", "--field-manager=any", "--kustomize", &path]);
        ensure!(diff.as_ref().is_ok_and(String::is_empty), "{folder}: {diff:?}");
    }
    Ok(())
}

#[test]
fn definitions_come_before_the_objects_of_their_kinds() -> Result<()> {
    let objects = rendered("base")?;
    let definitions = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    let definitions: Vec<_> = definitions.collect();
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        let wave = &definition["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"];
        assert_eq!(wave, "-1", "{}", definition["metadata"]["name"]);
    }
    Ok(())
}

/// By Kubernetes' own restricted profile, and by what OpenShift's restricted-v2 adds: it assigns users by namespace, and
/// refuses a pod that names another one.
#[test]
fn the_pod_runs_under_any_restricted_policy_on_any_linux_node() -> Result<()> {
    let objects = rendered("base")?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment");
    let pod = &deployment.context("no Deployment")?["spec"]["template"];
    assert_eq!(pod["spec"]["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
    let text = pod.to_string();
    for fixed in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions"] {
        ensure!(!text.contains(fixed), "{fixed}");
    }
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);

    // The API server's own check refuses a pod that is not restricted, in this namespace.
    let plane = ControlPlane::start()?;
    let folder = Folder::new("bulla-deploy-")?;
    apply(plane.admin(), "base")?;
    let create = |pod: &Value| {
        let path = folder.path().join("pod.json");
        fs::write(&path, pod.to_string())?;
        let path = path.display().to_string();
        plane.kubectl(&["create", "--dry-run=server", "-n", "bulla-system", "-f", &path])
    };
    let mut alone = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "alone"}, "spec": pod["spec"],
    });
    create(&alone)?;
    alone["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    let refused = create(&alone).err().context("a pod that may be root was created")?;
    ensure!(format!("{refused:#}").contains("violates PodSecurity"), "{refused:#}");

    // A namespace whose quota demands limits: the patch from docs/install.md.
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "limits", "namespace": "bulla-system"},
        "spec": {"hard": {"limits.cpu": "4", "limits.memory": "4Gi"}},
    });
    plane.admin().run_with_input(&["create", "-f", "-"], &quota.to_string())?;
    alone["spec"]["securityContext"]["runAsNonRoot"] = json!(true);
    eventually("the quota to count", Duration::from_secs(60), || {
        let refused = create(&alone).err().context("a pod without a limit was created")?;
        ensure!(format!("{refused:#}").contains("limits.cpu"), "{refused:#}");
        Ok(())
    })?;
    let (_, patch) = include_str!("../../docs/install.md")
        .split_once("containers/0/resources/limits/cpu, value: ")
        .context("the page has lost its patch for a quota")?;
    let limit = patch.split('}').next().unwrap_or_default().trim_matches('"');
    alone["spec"]["containers"][0]["resources"]["limits"]["cpu"] = json!(limit);
    create(&alone).map(drop)
}

#[test]
fn alerts_rest_on_the_controllers_own_metrics_and_reach_each_team() -> Result<()> {
    let alerts: Value = yaml_serde::from_str(include_str!("../../deploy/monitoring/alerts.yaml"))?;
    let groups = alerts["spec"]["groups"].as_array().context("no groups")?;
    let rules = |group: &Value| group["rules"].as_array().cloned().unwrap_or_default();
    let mut of_objects = 0;
    for rule in groups.iter().flat_map(rules) {
        let (name, expression) = (&rule["alert"], rule["expr"].as_str().context("no expression")?);
        ensure!(
            expression.contains("bulla_") && !expression.contains("job="),
            "{name}: {expression}"
        );
        ensure!(expression.contains("namespace") || name == "BullaDown", "{name}: {expression}");
        of_objects += usize::from(expression.contains("bulla_sealed_secret_ready"));
    }
    assert_eq!(of_objects, 2);
    Ok(())
}
