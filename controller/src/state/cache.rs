//! What is kept of each watched object: a few dozen bytes.
//!
//! Sealed data, annotations and managed fields are not kept. Of Secrets, only the uid and resource version of those
//! with the label of targets are kept. The content of other Secrets never reaches this process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use bulla_crds::conditions::READY;
use bulla_crds::{Policy, SealedSecret, SealedSecretStatus};
use bulla_sealing::Fingerprint;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

use crate::state::object_ref::ObjectRef;

/// A SealedSecret as the watch parses it. The spec is skipped. A status that cannot be parsed counts as missing, so
/// that one odd object does not stop the watch.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = SealedSecret)]
pub(crate) struct Glimpse {
    #[serde(deserialize_with = "needed")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "understood")]
    status: Option<SealedSecretStatus>,
}

/// Parses only the metadata that is kept. Labels, annotations and managed fields would be most of the work.
fn needed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Needed {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        deletion_timestamp: Option<Time>,
    }
    let needed = Needed::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: needed.name,
        namespace: needed.namespace,
        uid: needed.uid,
        resource_version: needed.resource_version,
        generation: needed.generation,
        deletion_timestamp: needed.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

fn understood<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SealedSecretStatus>, D::Error> {
    let status = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(status).ok())
}

/// What is kept of a SealedSecret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownSealedSecret {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) is_deleted: bool,
    pub(crate) status: Option<Box<KnownStatus>>,
}

/// What is kept of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownStatus {
    pub(crate) observed_generation: Option<i64>,
    /// Status and reason of the condition Ready.
    pub(crate) ready: Option<(String, String)>,
    pub(crate) target: Option<WrittenTarget>,
    pub(crate) fingerprints: Box<[Fingerprint]>,
    pub(crate) controller: Option<String>,
}

impl KnownStatus {
    /// Whether the condition Ready is True.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(|(ready, _)| ready == "True")
    }
}

/// What the status records about the last write of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WrittenTarget {
    pub(crate) version: ObjectVersion,
    pub(crate) policy: Policy,
    pub(crate) renderer: i64,
}

/// An object and a state of it. Resource versions are compared for equality only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectVersion {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

impl From<&Glimpse> for KnownSealedSecret {
    fn from(glimpse: &Glimpse) -> Self {
        let metadata = &glimpse.metadata;
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation,
            is_deleted: metadata.deletion_timestamp.is_some(),
            status: glimpse.status.as_ref().map(|status| Box::new(status.into())),
        }
    }
}

impl From<&SealedSecretStatus> for KnownStatus {
    fn from(status: &SealedSecretStatus) -> Self {
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
        let written = |target: &bulla_crds::TargetStatus| WrittenTarget {
            version: ObjectVersion {
                uid: target.uid.clone(),
                resource_version: target.resource_version.clone(),
            },
            policy: target.policy,
            renderer: target.renderer,
        };
        Self {
            observed_generation: status.observed_generation,
            ready: ready.map(|ready| (ready.status.clone(), ready.reason.clone())),
            target: status.target.as_ref().map(written),
            fingerprints: status.fingerprints.iter().filter_map(|text| text.parse().ok()).collect(),
            controller: status.controller.clone(),
        }
    }
}

impl From<&PartialObjectMeta<Secret>> for ObjectVersion {
    fn from(secret: &PartialObjectMeta<Secret>) -> Self {
        (&secret.metadata).into()
    }
}

impl From<&ObjectMeta> for ObjectVersion {
    fn from(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// Objects as the watches last delivered them, fed by one watch or by one for each namespace.
pub(crate) struct Cache<V> {
    entries: RwLock<HashMap<ObjectRef, Arc<V>>>,
    /// How many watches have not delivered their first list.
    unlisted: watch::Sender<usize>,
}

impl<V> Cache<V> {
    /// A cache that this many watches feed.
    pub(crate) fn new(watches: usize) -> Self {
        Self { entries: RwLock::default(), unlisted: watch::Sender::new(watches) }
    }

    /// Whether every watch has delivered its first list.
    pub(crate) fn is_listed(&self) -> bool {
        *self.unlisted.borrow() == 0
    }

    /// Waits until every watch has delivered its first list.
    pub(crate) async fn listed(&self) {
        // An error is impossible: `self` holds the sender.
        let _ = self.unlisted.subscribe().wait_for(|unlisted| *unlisted == 0).await;
    }

    /// One object, if it is cached.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<Arc<V>> {
        self.read().get(object).cloned()
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<(ObjectRef, Arc<V>)> {
        self.read().iter().map(|(object, value)| (object.clone(), value.clone())).collect()
    }

    /// Stores an object. Returns its previous and its new value.
    pub(crate) fn insert(&self, object: ObjectRef, value: V) -> (Option<Arc<V>>, Arc<V>) {
        let value = Arc::new(value);
        (self.write().insert(object, value.clone()), value)
    }

    /// Removes an object. Returns whether it was cached.
    pub(crate) fn remove(&self, object: &ObjectRef) -> bool {
        self.write().remove(object).is_some()
    }

    /// Notes that one watch has delivered its first list.
    pub(crate) fn first_list_is_done(&self) {
        self.unlisted.send_modify(|unlisted| *unlisted = unlisted.saturating_sub(1));
    }

    /// Removes objects that a new list of `namespace`, or of all namespaces, does not have. Returns them.
    pub(crate) fn retain(
        &self,
        namespace: Option<&str>,
        listed: &HashSet<ObjectRef>,
    ) -> Vec<ObjectRef> {
        let is_of_list =
            |object: &ObjectRef| namespace.is_none_or(|namespace| *object.namespace == *namespace);
        let mut entries = self.write();
        let gone: Vec<_> = entries
            .keys()
            .filter(|object| is_of_list(object) && !listed.contains(*object))
            .cloned()
            .collect();
        for object in &gone {
            entries.remove(object);
        }
        gone
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<ObjectRef, Arc<V>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<ObjectRef, Arc<V>>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_that_cannot_be_parsed_counts_as_missing() {
        let glimpse: Glimpse = serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "prod", "generation": 3},
            "spec": "of a later version",
            "status": {"observedGeneration": "three"},
        }))
        .unwrap();
        let known = KnownSealedSecret::from(&glimpse);
        assert_eq!((known.generation, known.status), (Some(3), None));
    }

    #[test]
    fn a_new_list_of_one_namespace_leaves_the_others_alone() {
        let cache = Cache::new(2);
        for object in ["a/1", "a/2", "b/1"] {
            cache.insert(object.into(), ());
        }
        cache.first_list_is_done();
        assert!(!cache.is_listed());
        let gone = cache.retain(Some("a"), &HashSet::from(["a/2".into()]));
        assert_eq!(gone, ["a/1".into()]);
        assert!(cache.get(&"b/1".into()).is_some());
    }
}
