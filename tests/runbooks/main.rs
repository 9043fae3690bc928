//! The runbooks, followed exactly on real clusters: each command of each page, in order, by a user with the rights that
//! the page requires. The tests check the state between the commands.

mod guide;
mod site;

use std::{fs, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_crds::{WipedSecret, decode_value, encode_value};
use bulla_sealing::{Fingerprint, Recipient, Recipients, Scope, SealedValue};
use bulla_tests::{eventually, steps};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::site::{Desk, Person, SOON, Site};

const NEW_CLUSTER: &str = include_str!("../../docs/runbooks/new-cluster.md");
const KEY_ROTATION: &str = include_str!("../../docs/runbooks/key-rotation.md");
const COMPROMISE: &str = include_str!("../../docs/runbooks/compromise.md");
const RECOVERY_KEY: &str = include_str!("../../docs/runbooks/recovery-key.md");
const LOST_CLUSTER: &str = include_str!("../../docs/runbooks/lost-cluster.md");
const RESTORE: &str = include_str!("../../docs/runbooks/restore.md");
const MOVING: &str = include_str!("../../docs/runbooks/moving.md");
const LEAVING: &str = include_str!("../../docs/runbooks/leaving.md");

/// The number of files in the repository whose keys are rotated.
const FILES: usize = 500;

/// Checks nothing between commands.
fn nobody(_: &mut Site, _: &mut Desk, _: &str) -> Result<()> {
    Ok(())
}

/// A manifest as people write it, with comments and their own order of fields.
fn manifest(name: &str, recipients: &Recipients) -> Result<String> {
    let secret = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "stringData": {"user": name, "password": format!("the password of {name}")},
    });
    let mut secret: Secret = serde_json::from_value(secret)?;
    let plain = secret.string_data.take().unwrap_or_default();
    secret.data = Some(
        plain
            .into_iter()
            .map(|(key, value)| (key, k8s_openapi::ByteString(value.into_bytes())))
            .collect(),
    );
    let sealed =
        bulla_crds::seal(&WipedSecret::new(secret), Some("shop"), Scope::Strict, recipients)?;
    let value = |key: &str| &sealed.spec.sealed_data[key];
    Ok(format!(
        "# {name} belongs to the shop\nkind: SealedSecret\napiVersion: bulla.dev/v1alpha1\n\
         metadata: {{namespace: shop, name: {name}}} # not sorted\nspec:\n    sealedData:\n\
         \x20       # asked for every quarter\n        password: \"{}\" # quoted\n        user: {}\n\
         \x20   template:\n        metadata: {{labels: {{team: shop}}}}\n",
        value("password"),
        value("user"),
    ))
}

fn values(text: &str) -> impl Iterator<Item = Result<Vec<u8>>> {
    let words = text.split(|c: char| c.is_whitespace() || c == '"');
    words.filter(|word| word.starts_with("YWdl")).map(|word| Ok(decode_value(word)?))
}

#[test]
fn the_runbook_for_rotation_works() -> Result<()> {
    let (mut site, mut desk) = (Site::new()?, Desk::new()?);
    site.follow(&mut desk, NEW_CLUSTER, nobody)?;
    let recovery = desk.recipient("recovery.pub")?;
    let active = site.run(&mut desk, "bulla keys fetch -o -")?;
    let of_cluster = active
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::parse)
        .collect::<Result<Vec<Recipient>, _>>()?
        .into_iter()
        .find(|recipient| *recipient != recovery)
        .context("no key")?;
    let recipients = Recipients::new(vec![of_cluster.clone(), recovery.clone()])?;
    for number in 0..FILES {
        let name = format!("app-{number:03}");
        let text = manifest(&name, &recipients)?;
        fs::write(desk.shell.path(&format!("clusters/prod/shop/{name}.yaml")), text)?;
    }
    desk.shell.run("git add clusters && git commit -q -m 'Add the applications of the shop'")?;
    let started = Instant::now();
    site.run(&mut desk, "kubectl apply -R -f clusters/prod")?;
    site.run(
        &mut desk,
        "kubectl wait --for=condition=Ready sealedsecrets --all --all-namespaces --timeout=10m",
    )?;
    let before = site.secrets("shop")?;
    ensure!(before.len() > FILES, "{} Secrets", before.len());
    println!("{FILES} files applied and unsealed in {:.1?}", started.elapsed());

    let old = of_cluster.fingerprint();
    let mut began = Instant::now();
    site.follow(&mut desk, KEY_ROTATION, |site, desk, line| {
        match line {
            "bulla rekey" => {
                // The pin is committed, so the rekey is a change of its own.
                let changed = desk.shell.run("git status --porcelain")?;
                ensure!(changed.trim().is_empty(), "the dry run has changed files: {changed}");
                began = Instant::now();
            }
            "git diff --stat" => {
                println!("{FILES} files rekeyed through the cluster in {:.1?}", began.elapsed());
                only_headers_changed(desk, old, &recovery)?;
            }
            line if line.starts_with("kubectl apply -R") => {
                // Live objects and the old commit still need the key.
                let revoke = |git: &str| format!("bulla keys revoke {old} {git} --yes");
                site.is_refused(desk, &revoke("--no-git"), 1, "still")?;
                site.is_refused(desk, &revoke("--git-ref HEAD"), 1, "still")?;
            }
            line if line.starts_with("bulla keys revoke") => {
                // Before that, someone reverts a commit. The old values return, and open.
                site.is_refused(
                    desk,
                    &format!("bulla keys revoke {old} --git-ref HEAD~1 --yes"),
                    1,
                    "app-",
                )?;
                desk.shell.run("git revert --no-edit HEAD")?;
                site.run(desk, "kubectl apply -f clusters/prod/shop/app-000.yaml")?;
                let wait =
                    "kubectl -n shop wait --for=condition=Ready sealedsecret/app-000 --timeout=60s";
                site.run(desk, wait)?;
                site.is_refused(
                    desk,
                    &format!("bulla keys revoke {old} --no-git --yes"),
                    1,
                    "app-000",
                )?;
                desk.shell.run("git revert --no-edit HEAD")?;
                site.run(desk, "kubectl apply -f clusters/prod/shop/app-000.yaml")?;
                site.run(desk, wait)?;
            }
            _ => {}
        }
        Ok(())
    })?;
    // The Secrets have not changed, and the files in Git open without the old key.
    ensure!(site.secrets("shop")? == before, "a Secret has changed");
    site.run(&mut desk, "bulla unseal --check -i ../recovery.txt clusters/prod")?;
    let key =
        site.plane.admin().json(&["get", "sealingkey", &old.to_string(), "-n", "bulla-system"])?;
    ensure!(key["spec"]["state"] == "Revoked", "{}", key["spec"]["state"]);
    Ok(())
}

/// Checks that each changed line is a sealed value or in `bulla.yaml`, and that each value differs only in its header.
fn only_headers_changed(desk: &Desk, old: Fingerprint, recovery: &Recipient) -> Result<()> {
    let diff = desk.shell.run("git diff --unified=0 -- clusters")?;
    let lines = |sign: &str| {
        let header = sign.repeat(3);
        diff.lines()
            .filter(|line| line.starts_with(sign) && !line.starts_with(&header))
            .map(|line| line[1..].to_owned())
            .collect::<Vec<_>>()
    };
    let (minus, plus) = (lines("-"), lines("+"));
    ensure!(minus.len() == plus.len() && minus.len() > 2 * FILES, "{} lines", minus.len());
    for (before, after) in minus.iter().zip(&plus) {
        let [Some(one), Some(other)] = [before, after].map(|line| values(line).next()) else {
            bail!("not a sealed value: {before}");
        };
        let (one, other) = (one?, other?);
        let (one, other) = (SealedValue::parse(&one)?, SealedValue::parse(&other)?);
        ensure!(one.payload() == other.payload() && one.binding() == other.binding(), "{after}");
        let fingerprints: Vec<_> = other.fingerprints().collect();
        ensure!(!fingerprints.contains(&old), "still sealed to the old key");
        ensure!(
            fingerprints.len() == 2 && fingerprints.contains(&recovery.fingerprint()),
            "{fingerprints:?}"
        );
        let stripped = |line: &str| {
            let value = line.split(|c: char| c.is_whitespace() || c == '"');
            let value = value.clone().find(|word| word.starts_with("YWdl")).unwrap_or_default();
            line.replace(value, "")
        };
        ensure!(stripped(before) == stripped(after), "more than the value has changed: {after}");
    }
    Ok(())
}

#[test]
fn a_lost_cluster_is_recovered_byte_for_byte() -> Result<()> {
    let (mut site, mut desk) = (Site::new()?, Desk::new()?);
    site.follow(&mut desk, NEW_CLUSTER, nobody)?;
    let recipients = site.run(&mut desk, "bulla keys fetch -o -")?;
    let recipients = recipients
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::parse)
        .collect::<Result<Vec<Recipient>, _>>()?;
    let recipients = Recipients::new(recipients)?;
    for number in 0..100 {
        let name = format!("app-{number:03}");
        let text = manifest(&name, &recipients)?;
        fs::write(desk.shell.path(&format!("clusters/prod/shop/{name}.yaml")), text)?;
    }
    // A second key, so that more than one must be recovered.
    site.run(&mut desk, "kubectl apply -R -f clusters/prod")?;
    site.run(&mut desk, "bulla keys renew")?;
    site.run(&mut desk, "bulla keys backup -o ../bulla-backups")?;
    site.run(
        &mut desk,
        "kubectl wait --for=condition=Ready sealedsecrets --all --all-namespaces --timeout=10m",
    )?;
    let before = site.secrets("shop")?;
    ensure!(before.len() == 101, "{}", before.len());

    drop(site); // with its data folder
    let started = Instant::now();
    let mut site = Site::new()?;
    site.follow(&mut desk, LOST_CLUSTER, nobody)?;
    ensure!(site.secrets("shop")? == before, "not byte for byte");
    println!(
        "100 SealedSecrets recovered in {:.1?}, the new control plane included",
        started.elapsed()
    );
    let keys = site.run(&mut desk, "bulla keys list")?;
    ensure!(keys.matches("Retired").count() == 2, "{keys}");
    Ok(())
}

#[test]
fn the_runbook_after_a_restore_works() -> Result<()> {
    let (mut site, mut desk) = (Site::new()?, Desk::new()?);
    site.follow(&mut desk, NEW_CLUSTER, nobody)?;
    let before = site.secrets("shop")?;
    ensure!(!before.is_empty(), "no Secrets");
    // The Secrets stay without an owner, and the new SealedSecrets have no status.
    let delete = "kubectl -n shop delete sealedsecrets.bulla.dev --all --cascade=orphan";
    site.run(&mut desk, delete)?;
    site.run(&mut desk, "kubectl apply -R -f clusters/prod")?;
    let refused = "kubectl -n shop wait --for=jsonpath='{.status.conditions[0].reason}'=TargetExists sealedsecrets.bulla.dev --all --timeout=60s";
    site.run(&mut desk, refused)?;
    site.follow(&mut desk, RESTORE, nobody)?;
    ensure!(site.secrets("shop")? == before, "the data changed");
    let owner = "-o=jsonpath={.metadata.ownerReferences[0].kind}";
    let owner = site.plane.kubectl(&["get", "secret", "first", "-n", "shop", owner])?;
    ensure!(owner == "SealedSecret", "{owner}");
    Ok(())
}

#[test]
fn the_runbooks_for_recovery_keys_compromise_moving_and_leaving_work() -> Result<()> {
    let (mut site, mut desk) = (Site::new()?, Desk::new()?);
    site.follow(&mut desk, NEW_CLUSTER, nobody)?;
    site.follow(&mut desk, RECOVERY_KEY, nobody)?;
    site.is_refused(&desk, "bulla unseal --check -i ../recovery.txt clusters/prod", 1, "first")?;

    site.follow(&mut desk, COMPROMISE, nobody)?;
    let leaked = desk.variables["OLD"].clone();
    let record = format!("../bulla-backups/{leaked}.revoked");
    ensure!(desk.shell.path(&record).exists(), "no {record}");
    let sealed = desk.shell.run("cat clusters/prod/shop/*.yaml")?;
    for file in values(&sealed) {
        let file = file?;
        let fingerprints: Vec<_> = SealedValue::parse(&file)?
            .fingerprints()
            .map(|fingerprint| fingerprint.to_string())
            .collect();
        ensure!(!fingerprints.contains(&leaked), "{fingerprints:?}");
    }

    let theirs = "kubectl -n shop create secret generic legacy --from-literal=password=legacy";
    site.run_as(&mut desk, Person::Operator, theirs)?;
    bitnami(&site, &mut desk)?;
    site.follow(&mut desk, MOVING, nobody)?;
    let moved = site.secrets("shop")?;
    ensure!(moved["legacy"][1]["password"] == "bGVnYWN5", "the moved Secret has another value");
    ensure!(moved["payments"][1]["token"] == BASE64_STANDARD.encode(PAYMENTS_TOKEN));

    // Bitnami's kind still exists, with the same short name as Bulla's.
    site.follow(&mut desk, LEAVING, |site, _, line| {
        if line == "kubectl delete -k ../bulla/deploy/controller" {
            site.controller = None; // its pods go
        }
        if line.starts_with("kubectl annotate namespace") {
            for kept in [
                &["delete", "namespace", "bulla-system"][..],
                &["delete", "crd", "sealedsecrets.bulla.dev"],
                &["delete", "sealingkeys", "--all", "-n", "bulla-system"],
            ] {
                let refused = site.plane.kubectl(kept).err().context("it was deleted")?;
                ensure!(format!("{refused:#}").contains("allow-delete"), "{refused:#}");
            }
        }
        Ok(())
    })?;
    let list = ["get", "secrets", "-n", "shop", "-o", "name"];
    let left = site.plane.kubectl(&list)?;
    ensure!(left.contains("secret/legacy") && left.contains("secret/first"), "{left}");
    for gone in [
        "namespace/bulla-system",
        "customresourcedefinition/sealedsecrets.bulla.dev",
        "customresourcedefinition/sealingkeys.bulla.dev",
        "validatingadmissionpolicy/bulla-keep",
        "validatingadmissionpolicybinding/bulla-keep",
        "clusterrole/bulla-controller",
    ] {
        eventually(&format!("the end of {gone}"), SOON, || {
            let said = site.plane.kubectl(&["get", gone]).err().context("it still exists")?;
            ensure!(format!("{said:#}").contains("not found"), "{said:#}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A SealedSecret of Bitnami's in the repository, the Secret that its controller made, and that controller's key.
const PAYMENTS: &str = include_str!("../../cli/tests/files/bitnami/payments.yaml");
const PAYMENTS_TOKEN: &str = "battery staple";
const PAYMENTS_KEY: &str = include_str!("../../cli/tests/files/bitnami/key.pem");

/// Creates Bitnami's kind and objects, as if its controller were installed.
fn bitnami(site: &Site, desk: &mut Desk) -> Result<()> {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "sealedsecrets.bitnami.com"},
        "spec": {
            "group": "bitnami.com",
            "scope": "Namespaced",
            "names": {"kind": "SealedSecret", "singular": "sealedsecret", "plural": "sealedsecrets"},
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    let key = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {
            "name": "sealed-secrets-key1",
            "namespace": "kube-system",
            "labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"},
        },
        "stringData": {"tls.crt": "", "tls.key": PAYMENTS_KEY},
    });
    let mut run = |line: &str| site.run_as(desk, Person::Operator, line);
    let write = |name: &str, text: &str| fs::write(name, text);
    run("mkdir -p clusters/prod/shop")?;
    let folder = run("pwd")?;
    let folder = folder.trim();
    write(&format!("{folder}/../theirs.json"), &format!("{crd}\n{key}\n"))?;
    write(&format!("{folder}/clusters/prod/shop/payments.yaml"), PAYMENTS)?;
    run("kubectl apply -f ../theirs.json")?;
    run("kubectl wait --for=condition=Established crd/sealedsecrets.bitnami.com --timeout=60s")?;
    run("kubectl apply -f clusters/prod/shop/payments.yaml")?;
    let get =
        "kubectl -n shop get sealedsecrets.bitnami.com payments -o jsonpath='{.metadata.uid}'";
    let uid = run(get)?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "payments",
            "namespace": "shop",
            "ownerReferences": [{
                "apiVersion": "bitnami.com/v1alpha1",
                "kind": "SealedSecret",
                "name": "payments",
                "uid": uid.trim(),
                "controller": true,
            }],
        },
        "stringData": {"token": PAYMENTS_TOKEN},
    });
    write(&format!("{folder}/../theirs.json"), &secret.to_string())?;
    run("kubectl apply -f ../theirs.json").map(drop)
}

/// Not a page, but a combination of the pages: two clusters and one repository.
#[test]
fn two_clusters_and_a_recovery_key_share_a_repository() -> Result<()> {
    let mut desk = Desk::new()?;
    let mut sites = [Site::new()?, Site::new()?];
    let holders = ["prod-eu", "prod-us"];
    desk.shell.run("bulla keys generate -o ../recovery.txt > recovery.pub")?;
    for (site, holder) in sites.iter_mut().zip(holders) {
        site.run(&mut desk, "kubectl apply -k ../bulla/deploy/base")?;
        let settings = format!(
            "kubectl -n bulla-system create configmap bulla-settings --from-literal=BULLA_HOLDER={holder} --from-literal=BULLA_RECOVERY_RECIPIENTS=\"$(cat recovery.pub)\""
        );
        site.run(&mut desk, &settings)?;
        site.roll_out()?;
        site.run(&mut desk, "kubectl create namespace shop")?;
    }
    fs::write(
        desk.shell.path("bulla.yaml"),
        "environments:\n  eu:\n    paths: [eu/**]\n    recipients: []\n  us:\n    paths: [us/**]\n    recipients: []\n  both:\n    paths: [both/**]\n    recipients: []\n",
    )?;
    // Each cluster's keeper declares the other's key, so that either cluster can rekey values sealed to both.
    let exchange = |sites: &mut [Site; 2], desk: &mut Desk| -> Result<()> {
        for (own, other) in [(0, 1), (1, 0)] {
            let holder = holders[other];
            let list = "kubectl -n bulla-system get sealingkeys -o jsonpath='{range .items[?(@.spec.state==\"Active\")]}{.spec.holder} {.spec.recipient}{\"\\n\"}{end}'";
            let active = sites[other].run_as(desk, Person::KeyKeeper, list)?;
            let recipient = active
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{holder} ")))
                .with_context(|| format!("no key of {holder} in {active}"))?;
            let declare = format!("bulla keys activate -r {recipient} --holder {holder} --yes");
            sites[own].run(desk, &declare)?;
        }
        Ok(())
    };
    exchange(&mut sites, &mut desk)?;
    let pin = |sites: &mut [Site; 2], desk: &mut Desk| -> Result<()> {
        let fetch = "bulla keys fetch --environment";
        sites[0].run(desk, &format!("{fetch} eu --holder prod-eu --holder recovery --yes"))?;
        sites[1].run(desk, &format!("{fetch} us --holder prod-us --holder recovery --yes"))?;
        let all = "--holder prod-eu --holder prod-us --holder recovery --yes";
        sites[0].run(desk, &format!("{fetch} both {all}")).map(drop)
    };
    pin(&mut sites, &mut desk)?;

    let recovery = desk.recipient("recovery.pub")?;
    let active = |site: &mut Site, desk: &mut Desk, holder: &str| -> Result<Recipient> {
        let list = format!("bulla keys list --holder {holder} --state Active --format fingerprint");
        let name = site.run(desk, &list)?;
        let get = ["get", "sealingkey", name.trim(), "-n", "bulla-system"];
        let key = site.plane.admin().json(&get)?;
        Ok(key["spec"]["recipient"].as_str().context("none")?.parse()?)
    };
    let eu = active(&mut sites[0], &mut desk, "prod-eu")?;
    let us = active(&mut sites[1], &mut desk, "prod-us")?;
    for (folder, to) in [
        ("eu", vec![eu.clone(), recovery.clone()]),
        ("us", vec![us.clone(), recovery.clone()]),
        ("both", vec![eu.clone(), us.clone(), recovery.clone()]),
    ] {
        fs::create_dir_all(desk.shell.path(folder))?;
        let recipients = Recipients::new(to)?;
        for number in 0..5 {
            let name = format!("{folder}-{number}");
            let text = manifest(&name, &recipients)?;
            fs::write(desk.shell.path(&format!("{folder}/{name}.yaml")), text)?;
        }
    }
    desk.shell.run("git add -A && git commit -q -m 'Seal for two clusters'")?;
    let wait =
        "kubectl wait --for=condition=Ready sealedsecrets --all --all-namespaces --timeout=60s";
    for (site, folder) in sites.iter_mut().zip(["eu", "us"]) {
        site.run(&mut desk, &format!("kubectl apply -f {folder} -f both"))?;
        site.run(&mut desk, wait)?;
        ensure!(
            site.secrets("shop")?.len() == 10,
            "expected the Secrets of its own environment and the shared one"
        );
    }
    // A value for the other cluster does not open in this one.
    sites[0].run(&mut desk, "kubectl apply -f us/us-0.yaml")?;
    let unknown = "kubectl -n shop wait --for=jsonpath='{.status.conditions[0].reason}'=UnknownKey sealedsecret/us-0 --timeout=60s";
    sites[0].run(&mut desk, unknown)?;
    sites[0].run(&mut desk, "kubectl -n shop delete sealedsecret us-0")?;

    // One cluster renews its key, and a rekey moves the values.
    sites[0].run(&mut desk, "bulla keys renew")?;
    exchange(&mut sites, &mut desk)?;
    pin(&mut sites, &mut desk)?;
    sites[0].run(&mut desk, "bulla rekey eu both")?;
    let changed = desk.shell.run("git diff --name-only")?;
    ensure!(changed.lines().filter(|file| file.starts_with("us/")).count() == 0, "{changed}");
    ensure!(changed.lines().count() == 11, "ten files and bulla.yaml: {changed}");
    let new = active(&mut sites[0], &mut desk, "prod-eu")?;
    for file in values(&desk.shell.run("cat both/*.yaml")?) {
        let file = file?;
        let value = SealedValue::parse(&file)?;
        let fingerprints: Vec<_> = value.fingerprints().collect();
        let expected = [&new, &us, &recovery].map(Recipient::fingerprint);
        ensure!(
            expected.iter().all(|fingerprint| fingerprints.contains(fingerprint)),
            "{fingerprints:?}"
        );
        ensure!(fingerprints.len() == 3 && encode_value(&file).len() > 3, "{fingerprints:?}");
    }
    for (site, folder) in sites.iter_mut().zip(["eu", "us"]) {
        site.run(&mut desk, &format!("kubectl apply -f {folder} -f both"))?;
        site.run(&mut desk, wait)?;
    }
    desk.shell.run("bulla unseal --check -i ../recovery.txt eu us both")?;
    Ok(())
}

#[test]
fn every_page_is_tested() -> Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/runbooks");
    let followed = [
        NEW_CLUSTER,
        KEY_ROTATION,
        COMPROMISE,
        RECOVERY_KEY,
        LOST_CLUSTER,
        RESTORE,
        MOVING,
        LEAVING,
    ];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let has_commands = !steps(&text).is_empty();
        ensure!(
            !has_commands || followed.contains(&text.as_str()),
            "no test follows {}",
            path.display()
        );
    }
    Ok(())
}
