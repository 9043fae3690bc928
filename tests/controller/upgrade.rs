//! An upgrade from the manifests of an earlier version changes neither the cluster's name nor its keys.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bulla_sealing::{Identity, KeyType, Recipient, Recipients};
use bulla_tests::{ControlPlane, Controller, eventually};
use serde_json::Value;

use crate::{
    SOON,
    api::Api,
    cluster::sealing_keys,
    searched::Searched,
    test_namespace::{TestNamespace, clear},
};

/// `kubectl kustomize deploy/base` of a version whose manifests set the holder to `default`, and whose runbooks told
/// people to change that with `kubectl set env`.
const BEFORE: &str = include_str!("upgrade/before.yaml");

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/base");

const VALUES: [(&str, &str); 1] = [("password", "1")];

#[test]
fn an_upgrade_with_client_side_apply_keeps_name_and_keys() -> Result<()> {
    upgrade(|plane| plane.kubectl(&["apply", "--kustomize", BASE]).map(drop))
}

#[test]
fn an_upgrade_with_server_side_apply_keeps_name_and_keys() -> Result<()> {
    upgrade(|plane| {
        let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize", BASE];
        plane.kubectl(&apply).map(drop)
    })
}

/// Helm merges the manifests of the last release, the live object and the new manifests. kubectl does the same with the
/// manifests that an annotation holds.
#[test]
fn an_upgrade_with_a_three_way_merge_keeps_name_and_keys() -> Result<()> {
    upgrade(|plane| {
        let set = ["apply", "set-last-applied", "--create-annotation", "--filename=-"];
        plane.admin().run_with_input(&set, BEFORE)?;
        plane.kubectl(&["apply", "--kustomize", BASE]).map(drop)
    })
}

/// Upgrades with `apply`, and checks what must stay.
fn upgrade(apply: impl FnOnce(&ControlPlane) -> Result<()>) -> Result<()> {
    let plane = ControlPlane::start()?;
    let api = Arc::new(Api::new(plane.admin().kubeconfig())?);
    plane.admin().run_with_input(&["apply", "--filename=-"], BEFORE)?;
    let recovery = Identity::generate(KeyType::Hybrid)?.recipient();
    let recovery = format!("BULLA_RECOVERY_RECIPIENTS={recovery}");
    let set = ["set", "env", "deployment/bulla-controller", "--namespace=bulla-system"];
    plane.kubectl(&[&set[..], &["BULLA_HOLDER=prod-eu", &recovery]].concat())?;
    // This version's controller asks for the time in another way than the one that these manifests are for.
    let role = ["create", "role", "later", "--namespace=bulla-system", "--verb=create,update"];
    plane.kubectl(&[&role[..], &["--resource=leases.coordination.k8s.io"]].concat())?;
    let account = "--serviceaccount=bulla-system:bulla-controller";
    let bind = ["create", "rolebinding", "later", "--namespace=bulla-system", "--role=later"];
    plane.kubectl(&[&bind[..], &[account]].concat())?;
    let controller = Searched::start(Controller::deployed(&plane)?)?;
    controller.wait_until_ready()?;
    let namespace = TestNamespace::new(&api, &published_to(&api, "prod-eu")?, "upgraded")?;
    namespace.unseal("db", &VALUES)?;
    let (secret, keys) = (namespace.secret("db")?, specs(&api)?);
    let backups =
        || plane.kubectl(&["get", "secrets", "--namespace=bulla-system", "--output=name"]);
    let backups_before = backups()?;
    drop(controller);

    // docs/upgrade.md: the recovery key moves into the settings first.
    let literal = format!("--from-literal={recovery}");
    let settings = ["create", "configmap", "bulla-settings", "--namespace=bulla-system", &literal];
    plane.kubectl(&settings)?;
    apply(&plane)?;
    plane.kubectl(&["delete", "rolebinding", "later", "--namespace=bulla-system"])?;
    let controller = Searched::start(Controller::deployed(&plane)?)?;
    controller.wait_until_ready()?;
    eventually("its work", SOON, || {
        ensure!(controller.metric("bulla_leader")? == 1.0, "it does not work yet");
        ensure!(controller.metric("bulla_queue_depth")? == 0.0, "it is at work");
        Ok(())
    })?;
    assert_eq!(specs(&api)?, keys);
    assert_eq!(backups()?, backups_before);
    assert_eq!(namespace.secret("db")?, secret);
    assert_eq!(namespace.sealed_secret("db")?["status"]["controller"], "bulla-system/prod-eu");
    // It still works under its name.
    namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    namespace.restored("db", &VALUES)?;
    ensure!(namespace.data("db")? == clear(&VALUES), "other values");
    Ok(())
}

/// The recipients of the holder's Active key.
fn published_to(api: &Api, holder: &str) -> Result<Arc<Recipients>> {
    let keys = sealing_keys(api)?;
    let key =
        keys.iter().find(|key| key["spec"]["holder"] == holder && key["spec"]["state"] == "Active");
    let recipient: Recipient =
        key.and_then(|key| key["spec"]["recipient"].as_str()).context("no Active key")?.parse()?;
    Ok(Arc::new(Recipients::new(vec![recipient])?))
}

/// The specs of all keys.
fn specs(api: &Api) -> Result<Vec<Value>> {
    Ok(sealing_keys(api)?.into_iter().map(|mut key| key["spec"].take()).collect())
}
