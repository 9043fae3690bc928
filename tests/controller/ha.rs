//! Several replicas: one works and another takes over. Two that think they lead do no harm.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bulla_tests::{ControlPlane, Controller, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    cluster::{Fragile, HOLDER, sealing_keys},
    marker::{in_base64, unmarked},
    outage::all_done,
    searched::{Searched, search_objects},
    test_namespace::{TestNamespace, data},
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/bulla-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/bulla-system/leases/bulla-controller";

/// Short, so that tests do not wait long.
const LEASE_DURATION: Duration = Duration::from_secs(4);

#[test]
fn one_replica_works_and_another_takes_over() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "take-over")?;
    fragile.controller.stop(SOON)?;
    let mut replicas = [replica(&fragile.plane)?, replica(&fragile.plane)?];
    for round in 0..4 {
        let leader = leader(&replicas)?;
        for i in 0..20 {
            namespace.apply(
                &namespace.seal(&format!("object-{i}"), &[("password", &round.to_string())])?,
            )?;
        }
        all_done(&namespace, 20)?;
        ensure!(
            replicas[1 - leader].metric("bulla_reconciles_total")? == 0.0,
            "both replicas work"
        );
        let before = Instant::now();
        // Alternate between a crash and a replacement, as in a rollout.
        match round % 2 {
            0 => replicas[leader].kill()?,
            _ => drop(replicas[leader].stop(SOON)?),
        }
        let patch = json!({"data": {"password": in_base64("edited")}});
        namespace.api.merge(&namespace.secret_path("object-0"), &patch)?;
        eventually("another leader", SOON, || {
            ensure!(replicas[1 - leader].metric("bulla_leader")? == 1.0, "not yet");
            Ok(())
        })?;
        let away = before.elapsed();
        ensure!(
            round % 2 == 0 || away < LEASE_DURATION,
            "the Lease was not released, the takeover took {away:?}"
        );
        namespace.restored("object-0", &[("password", &round.to_string())])?;
        replicas[leader].restart()?;
        replicas[leader].wait_until_ready()?;
    }
    drop(replicas);
    fragile.restart_and_give_back()
}

#[test]
fn a_leader_paused_past_its_lease_does_no_harm_afterwards() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "paused")?;
    fragile.controller.stop(SOON)?;
    let mut replicas = [replica(&fragile.plane)?, replica(&fragile.plane)?];
    let name = |i: usize| format!("object-{i}");
    for round in 0..3 {
        let leader = leader(&replicas)?;
        // It is paused in the middle of these.
        for i in 0..60 {
            namespace
                .apply(&namespace.seal(&name(i), &[("password", &format!("old {round}"))])?)?;
            if i == 40 {
                replicas[leader].pause()?;
            }
        }
        eventually("another leader", SOON, || {
            ensure!(replicas[1 - leader].metric("bulla_leader")? == 1.0, "not yet");
            Ok(())
        })?;
        for i in 0..60 {
            // Deleted and created again, so it has the same generation as the object that the old leader knows.
            if i % 3 == 0 {
                namespace.api.delete(&namespace.sealed_secret_path(&name(i)), &Value::Null)?;
            }
            namespace
                .apply(&namespace.seal(&name(i), &[("password", &format!("new {round}"))])?)?;
        }
        for i in 0..60 {
            namespace.done(&name(i))?;
        }
        replicas[leader].resume()?;
        eventually("the old leader to see it", SOON, || {
            ensure!(replicas[leader].metric("bulla_leader")? == 0.0, "not yet");
            Ok(())
        })?;
        for i in 0..60 {
            namespace.done(&name(i))?;
            namespace.restored(&name(i), &[("password", &format!("new {round}"))])?;
        }
        no_more_writes(&namespace, &(0..60).map(name).collect::<Vec<_>>())?;
    }
    drop(replicas);
    fragile.restart_and_give_back()
}

#[test]
fn replicas_that_all_think_they_lead_do_no_harm() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "all-lead")?;
    fragile.controller.stop(SOON)?;
    let pods = ["pod-0", "pod-1", "pod-2"];
    let mut replicas = Vec::new();
    for pod in pods {
        let mut command = command(&fragile.plane)?;
        command.env("POD_NAME", pod);
        replicas.push(Searched::start(command)?);
    }
    for replica in &replicas {
        replica.wait_until_ready()?;
    }

    let name = |i: usize| format!("object-{i}");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Gives the Lease to each replica in turn, without the knowledge of its holder.
        let thief = scope.spawn(|| {
            for pod in pods.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let _ = namespace.api.merge(LEASE, &json!({"spec": {"holderIdentity": pod}}));
                // This waits for nothing in particular. It gives the next replica time to find that it holds the Lease.
                thread::sleep(Duration::from_millis(700));
            }
        });
        // A reader of the Secret never sees an older version after a newer one.
        let reader = scope.spawn(|| {
            let mut newest = BTreeMap::new();
            let mut regressions = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                for i in 0..5 {
                    let Ok(secret) = namespace.secret(&name(i)) else { continue };
                    let Some(password) = data(&secret)?.remove("password") else { continue };
                    let version: u32 = unmarked(str::from_utf8(&password)?).parse()?;
                    let newest = newest.entry(i).or_insert(version);
                    if version < *newest {
                        regressions.push((i, *newest, version));
                    }
                    *newest = version.max(*newest);
                }
            }
            anyhow::Ok(regressions)
        });
        let mut most_leaders = 0.0;
        for version in 1..=120 {
            let version = version.to_string();
            for i in 0..5 {
                namespace.apply(&namespace.seal(&name(i), &[("password", &version)])?)?;
            }
            let mut leaders = 0.0;
            for replica in &replicas {
                leaders += replica.metric("bulla_leader")?;
            }
            most_leaders = f64::max(most_leaders, leaders);
        }
        for i in 0..5 {
            namespace.restored(&name(i), &[("password", "120")])?;
            namespace.done(&name(i))?;
        }
        is_over.store(true, Ordering::Relaxed);
        thief.join().map_err(|_| anyhow::anyhow!("the thief panicked"))?;
        let regressions = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        ensure!(regressions.is_empty(), "object, newest and older version: {regressions:?}");
        ensure!(most_leaders > 1.0, "there never were two leaders");
        anyhow::Ok(())
    })
    .inspect_err(|_| is_over.store(true, Ordering::Relaxed))?;

    for i in 0..5 {
        namespace.api.delete(&namespace.secret_path(&name(i)), &Value::Null)?;
    }
    for i in 0..5 {
        namespace.restored(&name(i), &[("password", "120")])?;
        namespace.done(&name(i))?;
    }
    no_more_writes(&namespace, &(0..5).map(name).collect::<Vec<_>>())?;
    drop(replicas);
    fragile.restart_and_give_back()
}

#[test]
fn clocks_of_other_replicas_are_not_trusted() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "clocks")?;
    fragile.controller.stop(SOON)?;
    for renewed in ["2000-01-01T00:00:00.000000Z", "2100-01-01T00:00:00.000000Z"] {
        // A replica that crashed, with a clock that is far off.
        let spec = json!({
            "holderIdentity": "crashed", "leaseDurationSeconds": LEASE_DURATION.as_secs(),
            "acquireTime": renewed, "renewTime": renewed,
        });
        namespace.api.delete(LEASE, &Value::Null)?;
        let lease = json!({"metadata": {"name": "bulla-controller"}, "spec": spec});
        namespace.api.create(LEASES, &lease)?;
        let started = Instant::now();
        let replica = replica(&fragile.plane)?;
        eventually("a leader", SOON, || {
            ensure!(replica.metric("bulla_leader")? == 1.0, "not yet");
            Ok(())
        })?;
        let waited = started.elapsed();
        ensure!(waited >= LEASE_DURATION, "taken from a replica that may be alive: {waited:?}");
    }
    // A deleted Lease is created again.
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    namespace.unseal("before", &[("password", "1")])?;
    namespace.api.delete(LEASE, &Value::Null)?;
    eventually("a Lease", SOON, || namespace.api.get(LEASE))?;
    namespace.unseal("after", &[("password", "1")])?;
    fragile.give_back()
}

#[test]
fn replicas_that_start_together_for_the_first_time_generate_one_key() -> Result<()> {
    let plane = ControlPlane::start()?;
    Controller::install(&plane)?;
    let replicas = [Searched::start(command(&plane)?)?, Searched::start(command(&plane)?)?];
    for replica in &replicas {
        replica.wait_until_ready()?;
    }
    let api = crate::api::Api::new(plane.admin().kubeconfig())?;
    crate::cluster::published(&api)?;
    leader(&replicas)?;
    let keys = sealing_keys(&api)?;
    ensure!(keys.len() == 1, "{} keys", keys.len());
    let identities =
        "/api/v1/namespaces/bulla-system/secrets?fieldSelector=type=bulla.dev/identity";
    let identities = api.get(identities)?;
    ensure!(identities["items"].as_array().is_some_and(|items| items.len() == 1), "not one");
    search_objects(&api, None)
}

fn command(plane: &ControlPlane) -> Result<std::process::Command> {
    let mut command = Controller::command(plane)?;
    let duration = format!("{}s", LEASE_DURATION.as_secs());
    command.args(["--holder", HOLDER, "--type", "x25519", "--lease-duration", &duration]);
    Ok(command)
}

fn replica(plane: &ControlPlane) -> Result<Searched> {
    let controller = Searched::start(command(plane)?)?;
    controller.wait_until_ready()?;
    Ok(controller)
}

/// Waits until exactly one replica leads. Returns its index.
fn leader(replicas: &[Searched; 2]) -> Result<usize> {
    eventually("one leader", SOON, || {
        let leads = [replicas[0].metric("bulla_leader")?, replicas[1].metric("bulla_leader")?];
        ensure!(leads[0] + leads[1] == 1.0, "{leads:?}");
        leads.iter().position(|leads| *leads == 1.0).context("nobody")
    })
}

/// Waits until no more writes follow.
pub(crate) fn no_more_writes(namespace: &TestNamespace, names: &[String]) -> Result<()> {
    let versions = || {
        let mut versions = Vec::new();
        for name in names {
            for object in [namespace.secret(name)?, namespace.sealed_secret(name)?] {
                versions.push(object["metadata"]["resourceVersion"].clone());
            }
        }
        anyhow::Ok(versions)
    };
    eventually("an end of all writing", SOON, || {
        namespace.let_pass()?;
        let before = versions()?;
        namespace.let_pass()?;
        let after = versions()?;
        ensure!(before == after, "{before:?} {after:?}");
        Ok(())
    })
}
