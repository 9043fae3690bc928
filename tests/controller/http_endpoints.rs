//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bulla_tests::{ControlPlane, Controller, Fault, Proxy, Rule, eventually};

use crate::{
    SOON,
    api::Api,
    cluster::{Cluster, Fragile, HOLDER, published, sealing_keys},
    searched::Searched,
    test_namespace::TestNamespace,
};

#[test]
fn the_endpoints_answer_and_metrics_name_no_object() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("endpoints")?;
    namespace.unseal("named-nowhere", &[("key-named-nowhere", "1")])?;
    let controller = &cluster.controller;
    assert_eq!(controller.get("/healthz")?, (200, "ok\n".to_owned()));
    assert_eq!(controller.get("/readyz")?, (200, "ok\n".to_owned()));
    assert_eq!(controller.get("/v1/unseal")?.0, 404);

    let (code, text) = controller.get("/metrics")?;
    assert_eq!(code, 200);
    for name in [
        "bulla_reconciles_total{outcome=\"done\",reason=\"Unsealed\"}",
        "bulla_reconcile_duration_seconds_bucket{le=\"",
        "bulla_drift_repaired_total ",
        "bulla_identities ",
        "bulla_sealed_secrets{condition=\"Ready\",status=\"True\",reason=\"Unsealed\"}",
        "bulla_build_info{version=\"",
        "bulla_queue_depth{lane=\"changed\"}",
        "bulla_leader 1",
        "bulla_newest_key_created_timestamp_seconds 1",
        "bulla_sealed_secrets_by_key{fingerprint=\"",
        "bulla_sealed_secrets_of_another_controller 0",
    ] {
        ensure!(text.contains(name), "no {name} in\n{text}");
    }
    ensure!(text.ends_with("# EOF\n"), "not OpenMetrics");
    for label in ["namespace", "name", "object", "key"] {
        ensure!(
            !text.contains(&format!("{{{label}=")) && !text.contains(&format!(",{label}=")),
            "a label {label} in\n{text}"
        );
    }
    ensure!(!text.contains("named-nowhere") && !text.contains("endpoints"), "{text}");
    Ok(())
}

/// Anyone in the cluster may connect, so that must cost little.
#[test]
fn probes_are_answered_while_somebody_opens_connections_without_end() -> Result<()> {
    const LARGEST_RSS_KIB: u64 = 64 * 1024;
    let controller = &Cluster::shared()?.controller;
    let address = controller.address()?;
    let half = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(4096));
    let mut open = Vec::new();
    for round in 0..10 {
        for _ in 0..100 {
            let mut connection = TcpStream::connect(address)?;
            // It may be closed already, in favour of a later one.
            let _ = connection.write_all(half.as_bytes());
            open.push(connection);
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            let code = controller.get(path).with_context(|| format!("round {round}: {path}"))?.0;
            ensure!(code == 200, "{path}: {code}");
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", controller.pid()?))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let rss: u64 = rss.trim().trim_end_matches(" kB").parse()?;
    ensure!(rss <= LARGEST_RSS_KIB, "{rss} KiB");

    // A header that never ends, and a client that never reads.
    let mut slow = TcpStream::connect(address)?;
    slow.write_all(half.as_bytes())?;
    slow.set_read_timeout(Some(SOON))?;
    let closed = slow.read(&mut [0; 1]);
    ensure!(
        matches!(closed, Ok(0))
            || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "not closed"
    );
    Ok(())
}

#[test]
fn the_metrics_in_alerts_and_docs_exist() -> Result<()> {
    const ALERTS: &str = include_str!("../../deploy/monitoring/alerts.yaml");
    const DOCS: &str = include_str!("../../docs/monitoring.md");
    let (_, text) = Cluster::shared()?.controller.get("/metrics")?;
    let is_part_of_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    for (place, named) in [("alerts", ALERTS), ("docs", DOCS)] {
        let words = named.split(|letter| !is_part_of_name(letter));
        let metrics: BTreeSet<_> = words.filter(|word| word.starts_with("bulla_")).collect();
        ensure!(metrics.len() > 5, "{place} name {metrics:?}");
        for metric in metrics {
            let suffixes = ["_total", "_bucket", "_sum", "_count", "_info"];
            let family = suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix));
            let family = family.unwrap_or(metric);
            // This metric needs a flag.
            let is_there = text.contains(&format!("# TYPE {family} "));
            ensure!(is_there || metric == "bulla_sealed_secret_ready", "{place}: no {metric}");
        }
    }
    Ok(())
}

#[test]
fn a_controller_without_rights_on_its_lease_does_no_work_and_stops_on_request() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut command = Controller::command(cluster.plane)?;
    // In another namespace its account has no rights on Leases and SealingKeys.
    command.args(["--namespace", "elsewhere", "--holder", HOLDER]);
    let mut controller = Searched::start(command)?;
    eventually("the first failure", SOON, || {
        ensure!(controller.log()?.contains("a watch failed"), "not yet");
        Ok(())
    })?;
    assert_eq!(controller.get("/healthz")?.0, 200);
    // It cannot read the keys, so it handles no object.
    assert_eq!(controller.get("/readyz")?, (503, "keys are not loaded yet\n".to_owned()));
    assert_eq!(controller.metric("bulla_leader")?, 0.0);
    assert_eq!(controller.metric("bulla_reconciles_total")?, 0.0);
    assert_eq!(controller.stop(Duration::from_secs(10))?.code(), Some(0));
    Ok(())
}

#[test]
fn a_controller_is_ready_once_it_has_an_active_key() -> Result<()> {
    let plane = ControlPlane::start()?;
    let api = Api::new(plane.admin().kubeconfig())?;
    Controller::install(&plane)?;
    let proxy = Proxy::start(&plane)?;
    let activation = "PATCH */sealingkeys/*";
    let held = proxy.inject(Rule::new(activation, Fault::Hold));
    let controller = Searched::start(Controller::command_through(&plane, &proxy)?)?;
    eventually("the activation of the first key", SOON, || {
        ensure!(!proxy.asked(activation).is_empty(), "not yet");
        Ok(())
    })?;
    // It already holds the identity, and has declared its key.
    assert_eq!(sealing_keys(&api)?[0]["spec"]["state"], "Pending");
    let unready = (503, "no key of this cluster is Active yet\n".to_owned());
    assert_eq!(controller.get("/readyz")?, unready);
    drop(held);
    controller.wait_until_ready()?;
    assert_eq!(sealing_keys(&api)?[0]["spec"]["state"], "Active");

    // After the holder is renamed, the last old replica waits for the first new one, which does not have the Lease.
    let mut renamed = Controller::command(&plane)?;
    renamed.args(["--holder", "renamed", "--take-over", "default"]);
    let renamed = Searched::start(renamed)?;
    renamed.wait_until_ready()?;
    assert_eq!(renamed.metric("bulla_leader")?, 0.0);
    assert_eq!(sealing_keys(&api)?.len(), 1);
    Ok(())
}

#[test]
fn a_controller_that_starts_before_its_definitions_works_once_they_exist() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    fragile.controller.kill()?;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for plural in ["sealedsecrets", "sealingkeys", "rekeys"] {
        fragile.api.delete_kept(&format!("{definitions}/{plural}.bulla.dev"))?;
    }
    eventually("the end of the definitions", SOON, || {
        let left = fragile.plane.kubectl(&["get", "customresourcedefinitions", "-o", "name"])?;
        ensure!(!left.contains("bulla.dev"), "{left}");
        Ok(())
    })?;
    let log_before = fragile.controller.log()?.len();
    fragile.controller.restart()?;
    eventually("the first failure", SOON, || {
        let log = fragile.controller.log()?.split_off(log_before);
        ensure!(log.contains("opening it again"), "not yet");
        Ok(())
    })?;
    assert_eq!(fragile.controller.get("/readyz")?.0, 503);

    Controller::install(&fragile.plane)?;
    fragile.controller.wait_until_ready()?;
    fragile.recipients = published(&fragile.api)?;
    let namespace = TestNamespace::fragile(&fragile, "before-definitions")?;
    namespace.unseal("db", &[("password", "1")])?;
    let status = fragile.controller.stop(Duration::from_secs(10))?;
    assert_eq!(status.code(), Some(0));
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready().context("after a stop")?;
    fragile.give_back()
}
