//! The floor of converging: a bare client's time for the unavoidable writes.
//!
//! These are one POST of a Secret and one PATCH of a status for each object, both as the controller sends them. The
//! same code makes the status, which names the uid and resource version in the API server's answer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_crds::{
    API_VERSION, ParsedValues, Policy, SealedSecretStatus, TARGET_LABEL, TARGET_OWNED,
    TARGET_SOURCE, TargetStatus,
    conditions::{Reason, Situation},
};
use bulla_sealing::Identity;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    client::{Connection, Content, Metadata, Turns},
    cluster::{
        args::Args,
        converge::{Converge, Sizes},
        objects::{self, NAMESPACE},
        site::{Site, sealed_secrets_path, secrets_path},
    },
    process::Process,
    program::progress,
    server_metrics::Requests,
};

/// The same as the controller's, so that managed fields have the same size.
const FIELD_MANAGER: &str = "fieldManager=bulla-controller";

/// How much the sizes of the floor's and the controller's objects may differ.
const MAX_SIZE_DIFFERENCE: f64 = 0.05;

const QUIET: Duration = Duration::from_secs(3);

/// The cost of the bare client.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pub(crate) seconds: f64,
    pub(crate) cpu_ms_per_object: f64,
    pub(crate) control_plane_cpu_ms_per_object: f64,
    sizes: Sizes,
}

/// Measures the floor on its own control plane.
pub(crate) async fn measure(args: &Args) -> Result<Floor> {
    let site = Site::start(args).await?;
    let recipient = Identity::generate(args.key_type.into())?.recipient();
    let sealed_secrets = objects::seal_all(args, recipient)?;
    let stored = site.store(&sealed_secrets).await?;
    let fingerprints: BTreeSet<_> = sealed_secrets
        .iter()
        .flat_map(|sealed_secret| ParsedValues::of(sealed_secret).fingerprints())
        .collect();
    let fingerprints = fingerprints.iter().map(ToString::to_string).collect();
    drop(sealed_secrets);
    attach_watches(&site).await?;

    let mut admin = site.admin.connect().await?;
    let before = Requests::settled(&mut admin, QUIET).await?;
    progress("  writing");
    let (cpu_before, plane_before) = (Process::own().cpu()?, site.control_plane_cpu()?);
    let seconds = write_all(&site, stored, fingerprints).await?.as_secs_f64();
    let cpu = site.ms_per_object(Process::own().cpu()? - cpu_before);
    let plane_cpu = site.ms_per_object(site.control_plane_cpu()? - plane_before);
    progress(format!("  {seconds:.2} s"));
    let requests = Requests::settled(&mut admin, QUIET).await?.since(&before);
    check(args, &requests)?;
    let sizes = Sizes::read(&mut admin).await?;
    Ok(Floor { seconds, cpu_ms_per_object: cpu, control_plane_cpu_ms_per_object: plane_cpu, sizes })
}

/// Fails if the floor's objects differ from the controller's.
pub(crate) fn compare_sizes(floor: &Floor, converge: &Converge) -> Result<()> {
    let pairs = [
        ("Secret", floor.sizes.secret, converge.sizes.secret),
        ("SealedSecret", floor.sizes.sealed_secret, converge.sizes.sealed_secret),
    ];
    for (kind, floor, ours) in pairs {
        ensure!(
            (floor as f64 / ours as f64 - 1.0).abs() <= MAX_SIZE_DIFFERENCE,
            "the floor does not write what the controller writes: a {kind} of it has {floor} bytes, \
             one of the controller's {ours}; adapt benches/src/cluster/floor.rs"
        );
    }
    Ok(())
}

/// Opens the two watches that the controller has, and reads their events as fast as they arrive.
async fn attach_watches(site: &Site) -> Result<()> {
    let secrets = format!("/api/v1/secrets?labelSelector={TARGET_LABEL}");
    let sealed_secrets = "/apis/bulla.dev/v1alpha1/sealedsecrets?".to_owned();
    for (path, content) in [(sealed_secrets, Content::Whole), (secrets, Content::Metadata)] {
        let mut connection = site.account.connect().await?;
        let page = connection.page::<Value>(&path, 1, None).await?;
        let from = page.metadata.resource_version;
        let path = format!("{path}&watch=true&resourceVersion={from}");
        let watch = connection.watch(&path, content).await?;
        tokio::spawn(watch.discard());
    }
    Ok(())
}

/// Writes a Secret and a status for each stored object.
async fn write_all(
    site: &Site,
    stored: Vec<Metadata>,
    fingerprints: Vec<String>,
) -> Result<Duration> {
    let values = site.args.values;
    let secrets: Arc<[String]> = stored
        .iter()
        .enumerate()
        .map(|(index, metadata)| secret(index, values, &metadata.uid))
        .collect();
    let (stored, count) = (Arc::new(stored), secrets.len());
    let status = Arc::new(move |index: usize, secret: &Metadata| {
        status(&stored[index], secret, values, &fingerprints)
    });
    let create_path: Arc<str> = format!("{}?{FIELD_MANAGER}", secrets_path(NAMESPACE)).into();
    let write = |mut connection: Connection, turns: Turns| {
        let (secrets, status, create_path) = (secrets.clone(), status.clone(), create_path.clone());
        async move {
            while let Some(index) = turns.next() {
                let secret = connection.create(&create_path, secrets[index].clone()).await?;
                let name = objects::name(index);
                let path = format!("{}/{name}/status?{FIELD_MANAGER}", sealed_secrets_path());
                connection.merge(&path, status(index, &secret)).await?;
            }
            Ok(())
        }
    };
    site.account.in_parallel(site.args.workers, count, write).await
}

/// A target as the controller creates it.
fn secret(index: usize, values: u16, owner_uid: &str) -> String {
    let name = objects::name(index);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {TARGET_LABEL: TARGET_OWNED},
            "annotations": {TARGET_SOURCE: format!("{owner_uid}/1")},
            "ownerReferences": [{
                "apiVersion": API_VERSION,
                "kind": "SealedSecret",
                "name": name,
                "uid": owner_uid,
                "controller": true,
            }],
        },
        "type": "Opaque",
        "data": objects::declared(index, values),
    })
    .to_string()
}

/// A status as the controller writes it, at the resource version that it has read.
fn status(sealed: &Metadata, secret: &Metadata, values: u16, fingerprints: &[String]) -> String {
    let done =
        Situation::Done { reason: Reason::Unsealed, message: format!("unsealed {values} keys") };
    let status = SealedSecretStatus {
        observed_generation: Some(1),
        conditions: done.conditions(1, &[], Timestamp::now()),
        target: Some(TargetStatus {
            uid: secret.uid.clone(),
            resource_version: secret.resource_version.clone(),
            generation: 1,
            keys: objects::declared(0, values).into_keys().collect(),
            policy: Policy::Owner,
            renderer: 2,
        }),
        fingerprints: fingerprints.to_vec(),
        controller: Some("bulla-system/default".into()),
    };
    json!({"metadata": {"resourceVersion": sealed.resource_version}, "status": status}).to_string()
}

/// Checks that the API server has counted these writes and no others.
fn check(args: &Args, requests: &Requests) -> Result<()> {
    let objects = u64::from(args.objects);
    for (verb, resource) in [("POST", "secrets"), ("PATCH", "sealedsecrets/status")] {
        let count = requests.count(verb, resource);
        ensure!(count == objects, "{count} {verb} {resource} for {objects} objects");
    }
    let others: Vec<_> = requests.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let is_quiet = requests.writes() == 2 * objects && requests.single_reads() == 0;
    is_quiet.then_some(()).with_context(|| {
        format!(
            "expected only the bare client's requests, but the API server counts {}",
            others.join(", ")
        )
    })
}
