//! Controllers that serve a part of the cluster, and two side by side.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bulla_sealing::{Identity, KeyType, Recipient, Recipients};
use bulla_tests::{Controller, Folder, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::{Fragile, HOLDER},
    rekeys,
    searched::Searched,
    test_namespace::{TestNamespace, clear, condition, seal_for, secret},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/namespaced/example");

const VALUES: [(&str, &str); 1] = [("password", "sealed")];

#[test]
fn a_controller_of_some_namespaces_needs_no_rights_outside_of_them() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let teams = ["team-a", "team-b"].map(|team| TestNamespace::fragile(&fragile, team));
    let [team_a, team_b] = teams;
    let (team_a, team_b) = (team_a?, team_b?);
    let outside = TestNamespace::fragile(&fragile, "outside")?;
    let roles = ["clusterrole/bulla-controller", "clusterrolebinding/bulla-controller"];
    fragile.plane.kubectl(&[&["delete"][..], &roles].concat())?;
    fragile.plane.kubectl(&["apply", "--kustomize", EXAMPLE])?;
    for denied in [
        &["get", "secrets", "--all-namespaces"][..],
        &["get", "sealedsecrets", "--all-namespaces"],
        &["get", "secrets", "--namespace=outside"],
        &["get", "secrets", "--namespace=kube-system"],
        &["delete", "secret", "any", "--namespace=bulla-system"],
    ] {
        let account = fragile.plane.service_account("bulla-system", "bulla-controller")?;
        ensure!(account.run(denied).is_err(), "{denied:?} is allowed");
    }

    // The last namespace has no Role. That delays no other object.
    let mut command = command(&fragile)?;
    command.env("BULLA_WATCH_NAMESPACES", "team-a,team-b,without-role");
    let controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    for namespace in [&team_a, &team_b, &outside] {
        namespace.apply(&namespace.seal("db", &VALUES)?)?;
    }
    for namespace in [&team_a, &team_b] {
        namespace.done("db")?;
        namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
        namespace.restored("db", &VALUES)?;
        namespace.event("db", "DriftRepaired")?;
    }
    for namespace in [&team_a, &outside] {
        rekeys::ask_for(namespace, "db")?;
    }
    rekeys::answered(&team_a, "db")?;
    team_a.let_pass()?;
    ensure!(!outside.has_secret("db")?, "it works outside of its namespaces");
    assert_eq!(rekeys::status(&outside, "db")?, json!({"observedGeneration": -1}));
    assert_eq!(outside.sealed_secret("db")?["status"], json!({"observedGeneration": -1}));

    // A Role created later takes effect.
    let late = TestNamespace::fragile(&fragile, "without-role")?;
    late.apply(&late.seal("db", &VALUES)?)?;
    let role =
        fragile.plane.kubectl(&["get", "role,rolebinding", "--namespace=team-a", "-o", "json"])?;
    let role: Value = serde_json::from_str(&role)?;
    for object in role["items"].as_array().context("no list")? {
        let mut object = object.clone();
        let name = object["metadata"]["name"].clone();
        object["metadata"] = json!({"name": name});
        let plural = if object["kind"] == "Role" { "roles" } else { "rolebindings" };
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{plural}", late.name);
        late.api.create(&path, &object)?;
    }
    late.done("db")?;

    drop(controller);
    Controller::install(&fragile.plane)?;
    fragile.restart_and_give_back()
}

#[test]
fn a_namespaces_role_has_the_rules_of_the_cluster_role() -> Result<()> {
    let fragile = Fragile::lock()?;
    let rules = |path: &str, kind: &str| {
        let manifest = ["create", "--dry-run=client", "--output=json", "--filename", path];
        let objects = fragile.plane.kubectl(&manifest)?;
        let objects: Vec<Value> =
            serde_json::Deserializer::from_str(&objects).into_iter().collect::<Result<_, _>>()?;
        let role = objects.into_iter().find(|object| {
            object["kind"] == kind && object["metadata"]["name"] == "bulla-controller"
        });
        anyhow::Ok(role.context("no role")?["rules"].clone())
    };
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let role = rules(&format!("{deploy}/namespaced/watched/rbac.yaml"), "Role")?;
    let cluster_role = rules(&format!("{deploy}/controller/rbac.yaml"), "ClusterRole")?;
    assert_eq!(role, cluster_role);
    fragile.give_back()
}

#[test]
fn a_selector_leaves_other_objects_alone() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let namespace = TestNamespace::fragile(&fragile, "selector")?;
    let mut command = command(&fragile)?;
    command.args(["--selector", "tier=web,stage!=test"]);
    let controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    for (name, labels) in [
        ("selected", json!({"tier": "web"})),
        ("unlabelled", json!({})),
        ("excluded", json!({"tier": "web", "stage": "test"})),
    ] {
        let mut sealed_secret = namespace.seal(name, &VALUES)?;
        sealed_secret["metadata"]["labels"] = labels;
        namespace.apply(&sealed_secret)?;
    }
    let selected = namespace.done("selected")?;
    for name in ["unlabelled", "excluded"] {
        ensure!(!namespace.has_secret(name)?, "{name} was worked on");
        let label = json!({"metadata": {"labels": {"tier": "web", "stage": "live"}}});
        namespace.api.merge(&namespace.sealed_secret_path(name), &label)?;
        namespace.done(name)?;
    }
    // An object that is no longer selected stays unchanged.
    let label = json!({"metadata": {"labels": {"tier": null}}});
    namespace.api.merge(&namespace.sealed_secret_path("selected"), &label)?;
    namespace.api.delete(&namespace.secret_path("selected"), &Value::Null)?;
    let touch = json!({"metadata": {"annotations": {"look": "again"}}});
    namespace.api.merge(&namespace.sealed_secret_path("excluded"), &touch)?;
    namespace.api.delete(&namespace.secret_path("excluded"), &Value::Null)?;
    namespace.restored("excluded", &VALUES)?;
    ensure!(!namespace.has_secret("selected")?, "it was restored");
    assert_eq!(namespace.sealed_secret("selected")?["status"], selected["status"]);
    drop(controller);
    fragile.restart_and_give_back()
}

#[test]
fn a_controller_under_another_name_is_not_ready_until_it_says_that_it_takes_over() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "in-charge")?;
    namespace.unseal("db", &VALUES)?;
    assert_eq!(namespace.sealed_secret("db")?["status"]["controller"], charge(HOLDER));
    fragile.controller.stop(SOON)?;
    let keys = || Ok::<_, anyhow::Error>(crate::cluster::sealing_keys(&fragile.api)?.len());
    let keys_before = keys()?;

    let mut other = Controller::command(&fragile.plane)?;
    other.args(["--holder", "other", "--type", "x25519"]);
    let controller = Searched::start(other)?;
    let said = eventually("the contradiction", SOON, || {
        let (code, said) = controller.get("/readyz")?;
        ensure!(code == 503 && said.contains("--holder"), "{code} {said}");
        Ok(said)
    })?;
    ensure!(said.contains("is other, but this cluster holds the Active key of prod-eu"), "{said}");
    ensure!(controller.log()?.contains(said.trim()), "the log does not say it");
    namespace.apply(&namespace.seal("db", &[("password", "changed")])?)?;
    namespace.api.delete(&namespace.secret_path("db"), &Value::Null)?;
    assert_eq!(controller.metric("bulla_leader")?, 0.0);
    drop(controller);
    ensure!(!namespace.has_secret("db")?, "it worked under another name");
    assert_eq!(keys()?, keys_before);

    // Without a name it is the cluster that it was.
    let mut unnamed = Controller::command(&fragile.plane)?;
    unnamed.args(["--type", "x25519"]);
    let controller = Searched::start(unnamed)?;
    namespace.restored("db", &[("password", "changed")])?;
    assert_eq!(namespace.sealed_secret("db")?["status"]["controller"], charge(HOLDER));
    assert_eq!(keys()?, keys_before);
    drop(controller);

    let mut heir = Controller::command(&fragile.plane)?;
    heir.args(["--holder", "other", "--type", "x25519", "--take-over", HOLDER]);
    let controller = Searched::start(heir)?;
    eventually("the heir in charge", SOON, || {
        let controller = namespace.sealed_secret("db")?["status"]["controller"].clone();
        ensure!(controller == charge("other"), "{controller}");
        Ok(())
    })?;
    namespace.done("db")?;
    ensure!(controller.metric("bulla_takeovers_total")? >= 1.0, "not counted");
    drop(controller);

    // And back, for later tests.
    let mut command = command(&fragile)?;
    command.args(["--take-over", "other"]);
    let controller = Searched::start(command)?;
    eventually("the first in charge", SOON, || {
        let controller = namespace.sealed_secret("db")?["status"]["controller"].clone();
        ensure!(controller == charge(HOLDER), "it belongs to {controller}");
        Ok(())
    })?;
    drop(controller);
    for key in crate::cluster::sealing_keys(&fragile.api)? {
        if key["spec"]["holder"] == "other" {
            let name = key["metadata"]["name"].as_str().context("no name")?;
            let path = format!("{}/{name}", crate::cluster::SEALING_KEYS);
            fragile.api.delete_kept(&path)?;
        }
    }
    fragile.restart_and_give_back()
}

#[test]
fn two_controllers_side_by_side_handle_only_their_own_objects() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let mine = TestNamespace::fragile(&fragile, "mine")?;
    let yours = TestNamespace::fragile(&fragile, "yours")?;
    let mut command = command(&fragile)?;
    command.args(["--watch-namespace", "mine"]);
    let first = Searched::start(command)?;
    let neighbour = Neighbour::install(&fragile)?;
    let mut command = neighbour.command(&fragile)?;
    command.args(["--holder", "other", "--watch-namespace", "yours"]);
    let second = Searched::start(command)?;
    first.wait_until_ready()?;
    second.wait_until_ready()?;
    let theirs = neighbour.recipients(&fragile)?;

    mine.unseal("db", &VALUES)?;
    yours.apply(&seal_for(&yours.name, secret("db", &VALUES), &theirs)?)?;
    yours.done("db")?;
    assert_eq!(yours.sealed_secret("db")?["status"]["controller"], "bulla-other/other");
    assert_eq!(mine.sealed_secret("db")?["status"]["controller"], charge(HOLDER));
    // A value sealed to one does not open with the other.
    yours.apply(&yours.seal("not-for-yours", &VALUES)?)?;
    yours.refused("not-for-yours", "UnknownKey")?;
    drop((first, second));
    neighbour.remove(&fragile)?;
    fragile.restart_and_give_back()
}

/// Nothing separates the two but their keys. Their names are the same, or not.
#[test]
fn two_controllers_of_the_same_objects_handle_those_that_they_have_the_keys_of() -> Result<()> {
    for holder in [HOLDER, "other"] {
        let fragile = Fragile::lock()?;
        let shared = TestNamespace::fragile(&fragile, "shared-by-two")?;
        let neighbour = Neighbour::install(&fragile)?;
        let mut command = neighbour.command(&fragile)?;
        command.args(["--holder", holder]);
        let second = Searched::start(command)?;
        second.wait_until_ready()?;
        let theirs = neighbour.recipients(&fragile)?;
        let names =
            |prefix: &str| Vec::from_iter((0..6).map(|number| format!("{prefix}-{number}")));
        let (own, others) = (names("own"), names("others"));
        for name in &own {
            shared.apply(&shared.seal(name, &VALUES)?)?;
        }
        for name in &others {
            shared.apply(&seal_for(&shared.name, secret(name, &VALUES), &theirs)?)?;
        }
        let nobodys = Identity::generate(KeyType::X25519)?.recipient();
        let nobodys = Recipients::new(vec![nobodys])?;
        shared.apply(&seal_for(&shared.name, secret("nobodys", &VALUES), &nobodys)?)?;
        for name in own.iter().chain(&others) {
            shared.done(name)?;
        }
        let nobodys = shared.refused("nobodys", "UnknownKey")?;
        assert_eq!(nobodys["status"]["controller"], Value::Null);
        let theirs_in_charge = format!("bulla-other/{holder}");
        for (names, controller) in [(&own, charge(HOLDER)), (&others, theirs_in_charge)] {
            for name in names {
                assert_eq!(shared.sealed_secret(name)?["status"]["controller"], controller);
            }
        }
        // A new version may be sealed to the other one's key.
        let moved = &own[0];
        shared.apply(&seal_for(&shared.name, secret(moved, &[("password", "2")]), &theirs)?)?;
        shared.restored(moved, &[("password", "2")])?;
        shared.done(moved)?;

        // Neither writes any more.
        let list = shared.sealed_secret_path("");
        let versions =
            || -> Result<Value> { Ok(shared.api.get(list.trim_end_matches('/'))?["items"].take()) };
        let before = versions()?;
        std::thread::sleep(Duration::from_secs(5));
        ensure!(versions()? == before, "somebody keeps writing");
        drop(second);
        shared.api.delete(&list, &Value::Null).ok();
        neighbour.remove(&fragile)?;
        fragile.plane.kubectl(&["delete", "namespace", "shared-by-two"])?;
        fragile.give_back()?;
    }
    Ok(())
}

/// The example of docs/operating.md, unchanged.
#[test]
fn the_example_of_two_controllers_works() -> Result<()> {
    let page = include_str!("../../docs/operating.md");
    let (_, example) = page.split_once("# bulla-green/kustomization.yaml").context("no example")?;
    let (example, _) = example.split_once("```").context("no end")?;
    let fragile = Fragile::lock()?;
    let folder = Folder::new("bulla-green-")?;
    std::os::unix::fs::symlink(
        concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
        folder.path().join("bulla"),
    )?;
    let green = folder.path().join("work/bulla-green");
    std::fs::create_dir_all(&green)?;
    std::fs::write(green.join("kustomization.yaml"), example)?;
    let example = green.to_str().context("not UTF-8")?;
    fragile.plane.kubectl(&["apply", "--kustomize", example])?;
    let mut second = Controller::deployed_in(&fragile.plane, "bulla-green")?;
    second.args(["--type", "x25519"]);
    let second = Searched::start(second)?;
    second.wait_until_ready()?;
    let theirs = recipients_in(&fragile, "bulla-green")?;

    let shared = TestNamespace::fragile(&fragile, "blue-and-green")?;
    for number in 0..6 {
        let name = format!("green-{number}");
        let mut green = seal_for(&shared.name, secret(&name, &VALUES), &theirs)?;
        green["metadata"]["labels"] = json!({"controller": "green"});
        shared.apply(&green)?;
        shared.apply(&shared.seal(&format!("blue-{number}"), &VALUES)?)?;
    }
    for number in 0..6 {
        for (name, controller) in
            [("blue", charge(HOLDER)), ("green", "bulla-green/prod-green".into())]
        {
            let done = shared.done(&format!("{name}-{number}"))?;
            assert_eq!(done["status"]["controller"], controller);
        }
    }
    drop(second);
    fragile.plane.kubectl(&["delete", "clusterrolebinding", "bulla-controller-green"])?;
    forget(&fragile, "bulla-green")?;
    fragile.plane.kubectl(&["delete", "namespace", "blue-and-green"])?;
    fragile.give_back()
}

/// Another installation with its own namespace, account, Lease and keys.
struct Neighbour;

impl Neighbour {
    const NAMESPACE: &str = "bulla-other";

    fn install(fragile: &Fragile) -> Result<Self> {
        let system = Self::NAMESPACE;
        let account = format!("--serviceaccount={system}:bulla-controller");
        let verbs = "--verb=get,list,watch,create,update,patch";
        let resources = "--resource=sealingkeys.bulla.dev,sealingkeys.bulla.dev/status,leases.coordination.k8s.io";
        for command in [
            &["namespace", system][..],
            &["serviceaccount", "bulla-controller", "-n", system],
            &["clusterrolebinding", system, "--clusterrole=bulla-controller", &account],
            &["role", system, "-n", system, verbs, resources],
            &["rolebinding", system, "-n", system, "--role=bulla-other", &account],
        ] {
            fragile.plane.kubectl(&[&["create"], command].concat())?;
        }
        Ok(Self)
    }

    fn command(&self, fragile: &Fragile) -> Result<Command> {
        let client = fragile.plane.service_account(Self::NAMESPACE, "bulla-controller")?;
        let mut command = Controller::command(&fragile.plane)?;
        command.env("KUBECONFIG", client.kubeconfig());
        command.args(["--namespace", Self::NAMESPACE, "--type", "x25519"]);
        Ok(command)
    }

    fn recipients(&self, fragile: &Fragile) -> Result<Recipients> {
        recipients_in(fragile, Self::NAMESPACE)
    }

    fn remove(self, fragile: &Fragile) -> Result<()> {
        fragile.plane.kubectl(&["delete", "clusterrolebinding", Self::NAMESPACE])?;
        forget(fragile, Self::NAMESPACE)
    }
}

/// The key that the controller of a namespace has made.
fn recipients_in(fragile: &Fragile, namespace: &str) -> Result<Recipients> {
    let keys = format!("/apis/bulla.dev/v1alpha1/namespaces/{namespace}/sealingkeys");
    let recipient = eventually("the key of the other", SOON, || {
        let keys = fragile.api.get(&keys)?;
        let recipient = keys["items"][0]["spec"]["recipient"].as_str().context("no key")?;
        Ok(recipient.parse::<Recipient>()?)
    })?;
    Ok(Recipients::new(vec![recipient])?)
}

/// Deletes an installation with its keys.
fn forget(fragile: &Fragile, namespace: &str) -> Result<()> {
    let allow = "bulla.dev/allow-delete=true";
    fragile.plane.kubectl(&["annotate", "namespace", namespace, allow, "--overwrite"])?;
    fragile.plane.kubectl(&["delete", "namespace", namespace]).map(drop)
}

#[test]
fn types_labels_and_annotations_are_refused_until_the_flags_allow_them() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let namespace = TestNamespace::fragile(&fragile, "flags")?;
    let mut refusing = command(&fragile)?;
    refusing.args(["--refuse-types", "example.com/a,example.com/b", "--refuse-labels", "team"]);
    refusing.args(["--refuse-annotations", "example.com/copy-to"]);
    let controller = Searched::start(refusing)?;
    for (name, template) in [
        ("typed", json!({"type": "example.com/b"})),
        ("labelled", json!({"metadata": {"labels": {"team": "storage"}}})),
        ("annotated", json!({"metadata": {"annotations": {"example.com/copy-to": "all"}}})),
        ("allowed", json!({"type": "example.com/c", "metadata": {"labels": {"tier": "web"}}})),
    ] {
        let mut sealed_secret = namespace.seal(name, &VALUES)?;
        sealed_secret["spec"]["template"] = template;
        namespace.apply(&sealed_secret)?;
    }
    namespace.done("allowed")?;
    let typed = namespace.refused("typed", "TypeRefused")?;
    let said = condition(&typed, "Ready")["message"].clone();
    assert_eq!(
        said,
        "this controller refuses Secrets of type example.com/b (see its flag --refuse-types)"
    );
    namespace.refused("labelled", "LabelRefused")?;
    namespace.refused("annotated", "AnnotationRefused")?;
    drop(controller);

    let controller = Searched::start(command(&fragile)?)?;
    for name in ["typed", "labelled", "annotated"] {
        namespace.done(name)?;
        ensure!(namespace.data(name)? == clear(&VALUES), "other data");
    }
    drop(controller);
    fragile.restart_and_give_back()
}

#[test]
fn a_full_check_of_an_unchanged_cluster_writes_nothing_and_metrics_can_name_objects() -> Result<()>
{
    let mut fragile = Fragile::lock()?;
    fragile.controller.stop(SOON)?;
    let namespace = TestNamespace::fragile(&fragile, "full-check")?;
    let mut command = command(&fragile)?;
    command.args(["--full-check", "4s", "--metrics-per-object"]);
    let controller = Searched::start(command)?;
    let names: Vec<_> = (0..40).map(|i| format!("object-{i}")).collect();
    for name in &names {
        namespace.unseal(name, &VALUES)?;
    }
    let ready =
        r#"bulla_sealed_secret_ready{namespace="full-check",name="object-7",reason="Unsealed"}"#;
    assert_eq!(controller.metric(ready)?, 1.0);
    let before = controller.metric("bulla_reconciles_total")?;
    let versions = |names: &[String]| {
        let version = |name: &String| {
            let secret = namespace.secret(name)?["metadata"]["resourceVersion"].clone();
            anyhow::Ok((
                secret,
                namespace.sealed_secret(name)?["metadata"]["resourceVersion"].clone(),
            ))
        };
        names.iter().map(version).collect::<Result<Vec<_>>>()
    };
    let written = versions(&names)?;
    eventually("a full check of all, twice", SOON, || {
        let checked = controller.metric("bulla_reconciles_total")? - before;
        ensure!(checked >= 80.0, "{checked}");
        Ok(())
    })?;
    assert_eq!(versions(&names)?, written);
    drop(controller);
    fragile.restart_and_give_back()
}

fn command(fragile: &Fragile) -> Result<Command> {
    let mut command = Controller::command(&fragile.plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519", "--lease-duration", "4s"]);
    Ok(command)
}

/// How a status names a controller in `bulla-system`.
fn charge(holder: &str) -> String {
    format!("bulla-system/{holder}")
}
