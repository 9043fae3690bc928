//! After restarts and outages all work is done, and done once.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use bulla_tests::{Component, eventually};
use serde_json::{Value, json};

use crate::{SOON, api::Api, cluster::Fragile, marker::marked, test_namespace::TestNamespace};

#[test]
fn a_restart_with_unchanged_objects_costs_no_writes_and_no_request_per_object() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    // Objects that other tests have left in trouble are handled again at each start.
    fragile.plane.kubectl(&["delete", "sealedsecrets", "--all", "--all-namespaces"])?;
    let namespace = TestNamespace::fragile(&fragile, "settled")?;
    let name = |i: usize| format!("settled-{i}");
    for i in 0..200 {
        namespace.apply(&namespace.seal(&name(i), &[("password", "1")])?)?;
    }
    all_done(&namespace, 200)?;
    assert_eq!(fragile.controller.stop(SOON)?.code(), Some(0));

    let before = settled_requests(&fragile.api)?;
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    eventually("a look at each object", SOON, || {
        ensure!(fragile.controller.metric("bulla_leader")? == 1.0, "it does not work yet");
        let waiting = fragile.controller.metric("bulla_queue_depth")?;
        ensure!(waiting == 0.0, "{waiting} objects wait");
        Ok(())
    })?;
    let after = requests_by_object(&fragile.api)?;
    assert_eq!(after, before);
    assert_eq!(fragile.controller.metric("bulla_reconciles_total")?, 0.0);
    assert_eq!(fragile.controller.metric("bulla_api_errors_total")?, 0.0);

    // Changes while it is down are not lost.
    fragile.controller.stop(SOON)?;
    for i in 0..10 {
        namespace.apply(&namespace.seal(&name(i), &[("password", "2")])?)?;
    }
    for i in 10..20 {
        let patch = json!({"stringData": {"password": marked("edited"), "added": marked("1")}});
        namespace.api.merge(&namespace.secret_path(&name(i)), &patch)?;
    }
    for i in 20..30 {
        namespace.api.delete(&namespace.secret_path(&name(i)), &Value::Null)?;
    }
    for i in 30..40 {
        let patch = json!({
            "metadata": {"labels": {"bulla.dev/target": null}},
            "stringData": {"password": marked("edited without label")},
        });
        namespace.api.merge(&namespace.secret_path(&name(i)), &patch)?;
    }
    for i in 40..50 {
        namespace.api.delete(&namespace.sealed_secret_path(&name(i)), &Value::Null)?;
        namespace.apply(&namespace.seal(&name(i), &[("password", "2")])?)?;
    }
    for i in 50..60 {
        namespace.api.delete(&namespace.sealed_secret_path(&name(i)), &Value::Null)?;
    }
    fragile.controller.restart()?;
    for i in 0..50 {
        let password = if (10..40).contains(&i) { "1" } else { "2" };
        namespace.restored(&name(i), &[("password", password)])?;
        namespace.done(&name(i))?;
    }
    for i in 50..60 {
        namespace.gone(&namespace.secret_path(&name(i)))?;
    }
    fragile.controller.wait_until_ready()?;
    fragile.give_back()
}

#[test]
fn the_controller_survives_a_crash_of_the_api_server_while_objects_change() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "api-outage")?;
    let name = |i: usize| format!("object-{i}");
    for i in 0..30 {
        namespace.apply(&namespace.seal(&name(i), &[("password", "0")])?)?;
    }
    all_done(&namespace, 30)?;
    let versions: Vec<String> = (1..=3).map(|version| version.to_string()).collect();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in &versions {
                for i in 0..30 {
                    let sealed_secret = namespace.seal(&name(i), &[("password", version)])?;
                    eventually("an API server", SOON, || namespace.apply(&sealed_secret))?;
                }
            }
            anyhow::Ok(())
        });
        for pause in [200, 400] {
            // This waits for nothing. The next crash hits the writer at another moment.
            thread::sleep(Duration::from_millis(pause));
            fragile.plane.kill(Component::ApiServer)?;
            fragile.plane.restart(Component::ApiServer)?;
        }
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    for i in 0..30 {
        namespace.restored(&name(i), &[("password", "3")])?;
        namespace.done(&name(i))?;
    }
    // Its watches work as before.
    let patch = json!({"stringData": {"password": marked("edited")}});
    namespace.api.merge(&namespace.secret_path(&name(0)), &patch)?;
    namespace.restored(&name(0), &[("password", "3")])?;
    assert_eq!(fragile.controller.get("/readyz")?.0, 200);
    fragile.give_back()
}

#[test]
fn sigterm_ends_the_controller_even_while_the_api_server_hangs() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "api-hangs")?;
    for i in 0..50 {
        namespace.apply(&namespace.seal(&format!("object-{i}"), &[("password", "1")])?)?;
    }
    // The controller is handling some of them.
    fragile.plane.pause(Component::ApiServer)?;
    let stopped = fragile.controller.stop(Duration::from_secs(15));
    fragile.plane.resume(Component::ApiServer)?;
    assert_eq!(stopped?.code(), Some(0));
    fragile.controller.restart()?;
    all_done(&namespace, 50)?;
    fragile.controller.wait_until_ready()?;
    fragile.give_back()
}

/// Waits until this many SealedSecrets are done in their current version.
pub(crate) fn all_done(namespace: &TestNamespace, count: usize) -> Result<()> {
    eventually("all objects", SOON, || {
        let list = namespace.api.get(&namespace.sealed_secrets())?;
        let items = list["items"].as_array().context("no list")?;
        let is_done = |item: &&Value| {
            item["status"]["observedGeneration"] == item["metadata"]["generation"]
                && crate::test_namespace::condition(item, "Ready")["status"] == "True"
        };
        let done = items.iter().filter(is_done).count();
        ensure!(done == count, "{done} of {count}");
        Ok(())
    })
}

/// The API server's own count of requests that read or write single SealedSecrets, Secrets and Events.
/// Counts after the garbage collector has handled earlier deletions.
fn settled_requests(api: &Api) -> Result<BTreeMap<String, u64>> {
    let mut last = requests_by_object(api)?;
    eventually("a quiet API server", SOON, || {
        thread::sleep(Duration::from_secs(1));
        let now = requests_by_object(api)?;
        let before = std::mem::replace(&mut last, now);
        ensure!(before == last, "requests are still being made");
        Ok(())
    })?;
    Ok(last)
}

fn requests_by_object(api: &Api) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in api.text("/metrics")?.lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else { continue };
        let (labels, count) = labels.rsplit_once("} ").context("no count")?;
        let is_counted = ["sealedsecrets", "secrets", "events"]
            .iter()
            .any(|resource| labels.contains(&format!("resource=\"{resource}\"")))
            && !labels.contains("verb=\"LIST\"")
            && !labels.contains("verb=\"WATCH\"");
        if is_counted {
            counts.insert(labels.to_owned(), count.parse()?);
        }
    }
    ensure!(!counts.is_empty(), "the API server counts nothing");
    Ok(counts)
}
