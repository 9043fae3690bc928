//! Secrets that become SealedSecrets, and back, in the order of Flux (apply, then prune) and of Argo CD (prune first).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    marker::in_base64,
    test_namespace::{TestNamespace, clear},
};

/// The field manager of Flux.
const FLUX: &str = "kustomize-controller";

const VALUES: [(&str, &str); 1] = [("password", "1")];

/// How long a GitOps tool takes between two of its phases.
const PHASE: Duration = Duration::from_secs(3);

/// Secrets in a namespace, as a GitOps tool manages them.
struct Managed {
    namespace: TestNamespace,
    names: Vec<String>,
}

impl Managed {
    /// Applies twenty Secrets.
    fn secrets(namespace: &str) -> Result<Self> {
        let namespace = TestNamespace::shared(namespace)?;
        let names = (0..20).map(|number| format!("secret-{number}")).collect();
        let managed = Self { namespace, names };
        managed.apply_secrets(&json!({}))?;
        Ok(managed)
    }

    fn apply_secrets(&self, labels: &Value) -> Result<()> {
        for name in &self.names {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": {"name": name, "labels": labels},
                "data": {"password": in_base64("1")},
            });
            self.namespace.api.apply_as(FLUX, &self.namespace.secret_path(name), &secret)?;
        }
        Ok(())
    }

    fn apply_sealed_secrets(&self, policy: &str) -> Result<()> {
        for name in &self.names {
            let mut sealed_secret = self.namespace.seal(name, &VALUES)?;
            sealed_secret["spec"]["target"] = json!({"policy": policy});
            self.namespace.apply(&sealed_secret)?;
        }
        Ok(())
    }

    fn delete_secrets(&self) -> Result<()> {
        self.names.iter().try_for_each(|name| {
            self.namespace.api.delete(&self.namespace.secret_path(name), &Value::Null).map(drop)
        })
    }

    fn delete_sealed_secrets(&self) -> Result<()> {
        self.names.iter().try_for_each(|name| {
            let path = self.namespace.sealed_secret_path(name);
            self.namespace.api.delete(&path, &Value::Null).map(drop)
        })
    }

    fn all_done(&self) -> Result<()> {
        self.names.iter().try_for_each(|name| self.namespace.done(name).map(drop))
    }

    /// The uid of each Secret. A Secret that was missing for a moment has another one.
    fn uids(&self) -> Result<BTreeMap<String, String>> {
        let uid = |name: &String| {
            let secret = self.namespace.secret(name)?;
            ensure!(self.namespace.data(name)? == clear(&VALUES), "{name} has other values");
            let uid = secret["metadata"]["uid"].as_str().context("no uid")?;
            Ok((name.clone(), uid.to_owned()))
        };
        self.names.iter().map(uid).collect()
    }

    /// The longest time that any of the Secrets is missing during `work`.
    fn longest_gap(&self, work: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| self.watch(&is_over));
            let worked = work();
            is_over.store(true, Ordering::Relaxed);
            let longest = watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
            worked.and(longest)
        })
    }

    fn watch(&self, is_over: &AtomicBool) -> Result<Duration> {
        let mut missing_since = BTreeMap::new();
        let mut longest = Duration::ZERO;
        while !is_over.load(Ordering::Relaxed) {
            let list = self.namespace.api.get(&self.namespace.secrets())?;
            let items = list["items"].as_array().context("no list")?;
            let there: BTreeSet<_> =
                items.iter().filter_map(|secret| secret["metadata"]["name"].as_str()).collect();
            for name in &self.names {
                if there.contains(name.as_str()) {
                    missing_since.remove(name);
                } else {
                    let since = *missing_since.entry(name).or_insert_with(Instant::now);
                    longest = longest.max(since.elapsed());
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(longest)
    }
}

/// Nothing was prepared, so a Secret is missing until the controller looks again.
#[test]
fn a_secret_that_is_pruned_after_its_sealed_secret_was_applied_is_back_within_seconds() -> Result<()>
{
    let managed = Managed::secrets("moving-flux")?;
    let longest = managed.longest_gap(|| {
        managed.apply_sealed_secrets("Owner")?;
        thread::sleep(PHASE);
        managed.delete_secrets()?;
        managed.all_done()
    })?;
    println!("without preparation the longest gap was {longest:?}");
    ensure!(longest < Duration::from_secs(10), "{longest:?}");
    Ok(())
}

/// The way of docs/target.md.
#[test]
fn a_secret_that_consents_first_is_never_missing() -> Result<()> {
    let managed = Managed::secrets("moving-in")?;
    let before = managed.uids()?;
    // The first commit: the label, and the marks that keep the tools from pruning.
    managed.apply_secrets(&json!({"bulla.dev/target": "adopt"}))?;
    // The second commit. With these marks, no tool deletes the Secret, whichever order it has.
    managed.apply_sealed_secrets("Owner")?;
    managed.all_done()?;
    assert_eq!(managed.uids()?, before);

    // And back. The first commit: the target policy. The second: Flux applies the Secret and prunes the SealedSecret.
    managed.apply_sealed_secrets("Orphan")?;
    managed.all_done()?;
    managed.apply_secrets(&json!({}))?;
    managed.delete_sealed_secrets()?;
    thread::sleep(PHASE);
    assert_eq!(managed.uids()?, before);

    // In again, and back with Argo CD, which prunes the SealedSecret first.
    managed.apply_secrets(&json!({"bulla.dev/target": "adopt"}))?;
    managed.apply_sealed_secrets("Orphan")?;
    managed.all_done()?;
    managed.delete_sealed_secrets()?;
    thread::sleep(PHASE);
    managed.apply_secrets(&json!({}))?;
    assert_eq!(managed.uids()?, before);
    Ok(())
}

/// As a restore by Velero, or a deletion with `--cascade=orphan`, leaves them: without owners and status.
#[test]
fn restored_secrets_without_owner_and_status_are_adopted_with_one_label() -> Result<()> {
    let managed = Managed::secrets("moving-restored")?;
    managed.delete_secrets()?;
    managed.apply_sealed_secrets("Owner")?;
    managed.all_done()?;
    for name in &managed.names {
        let path = managed.namespace.sealed_secret_path(name);
        managed.namespace.api.delete(&path, &json!({"propagationPolicy": "Orphan"}))?;
        managed.namespace.gone(&path)?;
    }
    let before = managed.uids()?;
    managed.apply_sealed_secrets("Owner")?;
    for name in &managed.names {
        managed.namespace.refused(name, "TargetExists")?;
    }
    for name in &managed.names {
        let label = json!({"metadata": {"labels": {"bulla.dev/target": "adopt"}}});
        managed.namespace.api.merge(&managed.namespace.secret_path(name), &label)?;
    }
    managed.all_done()?;
    assert_eq!(managed.uids()?, before);
    Ok(())
}
