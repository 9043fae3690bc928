//! The existing Rekeys, as the watch delivers them: a few dozen bytes for each, whatever its size.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::core::ObjectMeta;

use crate::state::object_ref::ObjectRef;
use crate::state::queue::{Lane, Queue};

/// How many Rekeys are worked on at a time. They have few workers, and these are their own, so that many Rekeys
/// hardly slow down SealedSecrets.
pub(crate) const WORKERS: usize = 2;

/// The existing Rekeys, and the queue of those to work on.
pub(crate) struct Rekeys {
    pub(crate) queue: Arc<Queue>,
    seen: Mutex<HashMap<ObjectRef, SeenRekey>>,
}

/// What is kept of a Rekey.
#[derive(Clone, Debug)]
pub(crate) struct SeenRekey {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    /// Whether it is known to be answered.
    pub(crate) is_answered: bool,
    since: Instant,
}

impl SeenRekey {
    /// How much longer it may exist.
    pub(crate) fn remaining(&self, lifetime: Duration) -> Duration {
        lifetime.saturating_sub(self.since.elapsed())
    }
}

impl Default for Rekeys {
    fn default() -> Self {
        Self { queue: Arc::new(Queue::new(WORKERS)), seen: Mutex::default() }
    }
}

impl Rekeys {
    /// Notes the current metadata of a Rekey. Returns whether it is new. A Rekey that is being deleted counts as gone.
    pub(crate) fn note(&self, metadata: &ObjectMeta) -> bool {
        let object = ObjectRef::of(metadata);
        let mut seen = self.lock();
        if metadata.deletion_timestamp.is_some() {
            seen.remove(&object);
            return false;
        }
        let uid = metadata.uid.clone().unwrap_or_default();
        let resource_version = metadata.resource_version.clone().unwrap_or_default();
        if let Some(known) = seen.get_mut(&object).filter(|known| known.uid == uid) {
            known.resource_version = resource_version;
            return false;
        }
        let since = Instant::now();
        seen.insert(object, SeenRekey { uid, resource_version, is_answered: false, since });
        true
    }

    /// Notes that a Rekey needs no answer any more.
    pub(crate) fn is_answered(&self, object: &ObjectRef, uid: &str) {
        if let Some(known) = self.lock().get_mut(object).filter(|known| known.uid == uid) {
            known.is_answered = true;
        }
    }

    /// Forgets a Rekey.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.lock().remove(object);
    }

    /// Forgets Rekeys that a list of `namespace`, or of all namespaces, does not have. Returns them.
    pub(crate) fn retain(
        &self,
        namespace: Option<&str>,
        listed: &HashSet<ObjectRef>,
    ) -> Vec<ObjectRef> {
        let is_gone = |object: &ObjectRef| {
            namespace.is_none_or(|namespace| *object.namespace == *namespace)
                && !listed.contains(object)
        };
        self.lock().extract_if(|object, _| is_gone(object)).map(|(object, _)| object).collect()
    }

    /// A Rekey, if it exists.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<SeenRekey> {
        self.lock().get(object).cloned()
    }

    /// Queues all Rekeys: to be answered, and to be deleted at the end of their lifetime.
    pub(crate) fn enqueue_all(&self) {
        let objects: Vec<_> = self.lock().keys().cloned().collect();
        for object in objects {
            self.queue.push(object, Lane::Backlog);
        }
    }

    /// Leaves the work to another replica.
    pub(crate) fn clear(&self) {
        self.queue.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, SeenRekey>> {
        // No code that holds the lock can panic half-way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str, uid: &str, resource_version: &str) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("prod".into()),
            name: Some(name.into()),
            uid: Some(uid.into()),
            resource_version: Some(resource_version.into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_known_rekey_keeps_its_age_and_its_answer() {
        let (rekeys, object) = (Rekeys::default(), ObjectRef::from("prod/db"));
        assert!(rekeys.note(&metadata("db", "1", "10")));
        rekeys.is_answered(&object, "1");
        let before = rekeys.get(&object).unwrap();
        assert!(!rekeys.note(&metadata("db", "1", "11")));
        let after = rekeys.get(&object).unwrap();
        assert!(after.is_answered && after.since == before.since);
        assert_eq!(after.resource_version, "11");
        assert_eq!(after.remaining(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_new_rekey_of_the_same_name_is_another_rekey() {
        let (rekeys, object) = (Rekeys::default(), ObjectRef::from("prod/db"));
        rekeys.note(&metadata("db", "1", "10"));
        assert!(rekeys.note(&metadata("db", "2", "12")));
        rekeys.is_answered(&object, "1");
        assert!(!rekeys.get(&object).unwrap().is_answered);
    }

    #[test]
    fn a_rekey_that_is_being_deleted_or_not_listed_is_forgotten() {
        let rekeys = Rekeys::default();
        for name in ["a", "b", "c"] {
            rekeys.note(&metadata(name, name, "1"));
        }
        let deleted = serde_json::from_value(serde_json::json!({
            "namespace": "prod", "name": "a", "uid": "a", "deletionTimestamp": "2026-11-01T00:00:00Z",
        }));
        assert!(!rekeys.note(&deleted.unwrap()));
        assert!(rekeys.retain(Some("dev"), &HashSet::new()).is_empty());
        assert_eq!(
            rekeys.retain(Some("prod"), &HashSet::from(["prod/b".into()])),
            ["prod/c".into()]
        );
        assert!(rekeys.get(&"prod/b".into()).is_some());
        assert!(rekeys.get(&"prod/a".into()).is_none());
    }
}
