//! A test's own namespace, and the steps and checks that tests are made of.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::WipedSecret;
use bulla_sealing::{Recipients, Scope};
use bulla_tests::{Controller, Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    api::{self, Api},
    cluster::{Cluster, Fragile},
    marker::{in_base64, marked},
    searched::{found_in_objects, none},
};

/// Annotations that only the API server refuses: each is small enough, and together they are too large.
pub(crate) fn large_annotations() -> Value {
    let annotation = |number| (format!("example.com/{number}"), json!("a".repeat(60_000)));
    Value::Object((0..5).map(annotation).collect())
}

/// A namespace, and the recipient of its cluster. On the shared cluster, dropping it searches the namespace's Events
/// and statuses for secret values. On other clusters the search runs when the test gives its cluster back.
pub(crate) struct TestNamespace {
    pub(crate) api: Arc<Api>,
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) name: String,
    shared: Option<&'static Cluster>,
}

impl TestNamespace {
    /// Creates it on the control plane that tests share.
    pub(crate) fn shared(name: &str) -> Result<Self> {
        let namespace = Self::existing(name)?;
        create(&namespace.api, name)?;
        Ok(namespace)
    }

    /// An existing namespace on the control plane that tests share.
    pub(crate) fn existing(name: &str) -> Result<Self> {
        let cluster = Cluster::shared()?;
        Ok(Self {
            api: cluster.api.clone(),
            recipients: cluster.recipients.clone(),
            name: name.to_owned(),
            shared: Some(cluster),
        })
    }

    /// Creates it on the control plane that tests stop and break.
    pub(crate) fn fragile(fragile: &Fragile, name: &str) -> Result<Self> {
        Self::new(&fragile.api, &fragile.recipients, name)
    }

    /// Creates it on any other control plane.
    pub(crate) fn new(api: &Arc<Api>, recipients: &Arc<Recipients>, name: &str) -> Result<Self> {
        create(api, name)?;
        let (api, recipients) = (api.clone(), recipients.clone());
        Ok(Self { api, recipients, name: name.to_owned(), shared: None })
    }

    pub(crate) fn sealed_secrets(&self) -> String {
        format!("/apis/bulla.dev/v1alpha1/namespaces/{}/sealedsecrets", self.name)
    }

    pub(crate) fn sealed_secret_path(&self, name: &str) -> String {
        format!("{}/{name}", self.sealed_secrets())
    }

    pub(crate) fn secrets(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.name)
    }

    pub(crate) fn secret_path(&self, name: &str) -> String {
        format!("{}/{name}", self.secrets())
    }

    /// Seals data for this namespace, to the cluster's key.
    pub(crate) fn seal(&self, name: &str, data: &[(&str, &str)]) -> Result<Value> {
        self.seal_secret(secret(name, data))
    }

    /// Seals a whole Secret, including its template.
    pub(crate) fn seal_secret(&self, secret: Value) -> Result<Value> {
        seal_for(&self.name, secret, &self.recipients)
    }

    /// Applies a manifest, as GitOps tools do.
    pub(crate) fn apply(&self, sealed_secret: &Value) -> Result<Value> {
        let name = sealed_secret["metadata"]["name"].as_str().context("no name")?;
        let mut manifest = sealed_secret.clone();
        manifest["metadata"]["namespace"] = json!(self.name);
        self.api.apply(&self.sealed_secret_path(name), &manifest)
    }

    /// Seals, applies and waits until it is unsealed. Returns the SealedSecret.
    pub(crate) fn unseal(&self, name: &str, data: &[(&str, &str)]) -> Result<Value> {
        self.apply(&self.seal(name, data)?)?;
        self.done(name)
    }

    pub(crate) fn sealed_secret(&self, name: &str) -> Result<Value> {
        self.api.get(&self.sealed_secret_path(name))
    }

    pub(crate) fn secret(&self, name: &str) -> Result<Value> {
        self.api.get(&self.secret_path(name))
    }

    /// The Secret's plaintext values.
    pub(crate) fn data(&self, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        data(&self.secret(name)?)
    }

    pub(crate) fn has_secret(&self, name: &str) -> Result<bool> {
        Ok(self.api.get_opt(&self.secret_path(name))?.is_some())
    }

    /// Waits until the controller has unsealed the current generation.
    pub(crate) fn done(&self, name: &str) -> Result<Value> {
        self.wait_for_ready(name, "True", "Unsealed")
    }

    /// Waits until the controller has refused the current generation for this reason. Tools must see it as failed.
    pub(crate) fn refused(&self, name: &str, reason: &str) -> Result<Value> {
        let sealed_secret = self.wait_for_ready(name, "False", reason)?;
        let stalled = condition(&sealed_secret, "Stalled");
        ensure!(stalled["status"] == "True" && stalled["reason"] == reason, "{stalled}");
        let ready = condition(&sealed_secret, "Ready");
        ensure!(stalled["message"] == ready["message"], "{stalled} {ready}");
        ensure!(condition(&sealed_secret, "Reconciling").is_null(), "it is not being retried");
        let verdict = Verdict::of(&sealed_secret)?;
        ensure!(verdict.status == Status::Failed, "{verdict:?}");
        Ok(sealed_secret)
    }

    /// Waits until the controller retries the current generation for this reason. Tools must keep waiting.
    pub(crate) fn retried(&self, name: &str, reason: &str) -> Result<Value> {
        let sealed_secret = self.wait_for_ready(name, "Unknown", reason)?;
        let reconciling = condition(&sealed_secret, "Reconciling");
        ensure!(
            reconciling["status"] == "True" && reconciling["reason"] == reason,
            "{reconciling}"
        );
        ensure!(
            condition(&sealed_secret, "Stalled").is_null(),
            "Stalled is set although the controller retries"
        );
        Ok(sealed_secret)
    }

    fn wait_for_ready(&self, name: &str, ready: &str, reason: &str) -> Result<Value> {
        let what = format!("{}/{name} {ready} {reason}", self.name);
        eventually(&what, SOON, || {
            let sealed_secret = self.sealed_secret(name)?;
            let generation = &sealed_secret["metadata"]["generation"];
            let status = &sealed_secret["status"];
            let condition = condition(&sealed_secret, "Ready");
            ensure!(
                status["observedGeneration"] == *generation
                    && condition["status"] == ready
                    && condition["reason"] == reason,
                "generation {generation}: {status}"
            );
            Ok(sealed_secret)
        })
    }

    /// Waits until the Secret has exactly these values.
    pub(crate) fn restored(&self, name: &str, expected: &[(&str, &str)]) -> Result<Value> {
        eventually(&format!("{}/{name} as declared", self.name), SOON, || {
            let secret = self.secret(name)?;
            let found = data(&secret)?;
            let keys: Vec<_> = found.keys().collect();
            ensure!(
                found == clear(expected),
                "expected the declared values, found other ones under the keys {keys:?}"
            );
            Ok(secret)
        })
    }

    /// Unseals two more objects, one after the other. The controller handles them after all earlier work, so anything
    /// that has not happened by then will not happen.
    pub(crate) fn let_pass(&self) -> Result<()> {
        static PASSED: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..2 {
            let name = format!("passing-{}", PASSED.fetch_add(1, Ordering::Relaxed));
            self.unseal(&name, &[("key", "passing")])?;
        }
        Ok(())
    }

    /// Deletes one more object and waits for the garbage collector to handle it, and so all earlier ones.
    pub(crate) fn let_collect(&self) -> Result<()> {
        let name = "collected";
        self.unseal(name, &[("key", "collected")])?;
        self.api.delete(&self.sealed_secret_path(name), &Value::Null)?;
        self.gone(&self.secret_path(name))
    }

    /// The Events about an object with this reason.
    pub(crate) fn events(&self, name: &str, reason: &str) -> Result<Vec<Value>> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.name);
        let events = self.api.get(&path)?;
        let events = events["items"].as_array().context("no list")?;
        let about = events
            .iter()
            .filter(|event| event["regarding"]["name"] == name && event["reason"] == reason);
        Ok(about.cloned().collect())
    }

    /// Waits for the first Event about an object with this reason.
    pub(crate) fn event(&self, name: &str, reason: &str) -> Result<Value> {
        eventually(&format!("an Event {reason}"), SOON, || {
            self.events(name, reason)?.into_iter().next().context("no Event")
        })
    }

    /// Waits until the object at `path` is gone.
    pub(crate) fn gone(&self, path: &str) -> Result<()> {
        eventually(&format!("the end of {path}"), SOON, || {
            ensure!(self.api.get_opt(path)?.is_none(), "it still exists");
            Ok(())
        })
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let Some(cluster) = self.shared else { return };
        if thread::panicking() {
            return;
        }
        let mut said = Vec::new();
        for namespace in [self.name.as_str(), Controller::NAMESPACE] {
            // If the API server does not answer, there is nothing to search.
            said.extend(found_in_objects(&self.api, Some(namespace)).unwrap_or_default());
        }
        let outcome = cluster.controller.found().and_then(|more| none(&[said, more].concat()));
        if let Err(error) = outcome {
            panic!("{error:#}");
        }
    }
}

/// Creates a namespace.
fn create(api: &Api, name: &str) -> Result<()> {
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}))?;
    Ok(())
}

/// Seals a Secret for this namespace, to these recipients.
pub(crate) fn seal_for(namespace: &str, secret: Value, recipients: &Recipients) -> Result<Value> {
    let secret = WipedSecret::new(serde_json::from_value(secret)?);
    let sealed_secret = bulla_crds::seal(&secret, namespace, Scope::Strict, recipients)?;
    let mut manifest = serde_json::to_value(sealed_secret)?;
    manifest["apiVersion"] = json!(bulla_crds::API_VERSION);
    manifest["kind"] = json!("SealedSecret");
    Ok(manifest)
}

/// The manifest with this target policy.
pub(crate) fn with_policy(mut sealed_secret: Value, policy: &str) -> Value {
    sealed_secret["spec"]["target"] = json!({"policy": policy});
    sealed_secret
}

/// A plaintext Secret, each value with the marker.
pub(crate) fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = data.iter().map(|(key, value)| (*key, in_base64(value))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
}

/// A Secret's plaintext values.
pub(crate) fn data(secret: &Value) -> Result<BTreeMap<String, Vec<u8>>> {
    let Some(data) = secret["data"].as_object() else { return Ok(BTreeMap::new()) };
    data.iter()
        .map(|(key, value)| {
            let value = value.as_str().context("a value is not a string")?;
            Ok((key.clone(), BASE64_STANDARD.decode(value)?))
        })
        .collect()
}

/// The annotations of a target, without the one that names its source.
pub(crate) fn annotations(secret: &Value) -> Result<Value> {
    let mut annotations = secret["metadata"]["annotations"].clone();
    let source = annotations.as_object_mut().and_then(|map| map.remove("bulla.dev/source"));
    source.context("no annotation names the source")?;
    Ok(annotations)
}

/// What [`data`] returns for a [`secret`].
pub(crate) fn clear(data: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    data.iter().map(|(key, value)| ((*key).to_owned(), marked(value).into_bytes())).collect()
}

/// The condition of this type, or null.
pub(crate) fn condition<'a>(object: &'a Value, type_: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|condition| condition["type"] == type_).unwrap_or(&Value::Null)
}

/// The message of the Ready condition.
pub(crate) fn message(object: &Value) -> &str {
    condition(object, "Ready")["message"].as_str().unwrap_or_default()
}

/// The API server's message when it refused something as invalid.
pub(crate) fn refusal<T>(outcome: Result<T>) -> Result<String> {
    let error = outcome.err().context("it was not refused")?;
    let code = api::code(&error);
    ensure!(code == Some(422), "{code:?}: {error:#}");
    Ok(format!("{error:#}"))
}
