//! What we have just written and the watches have not yet brought back.
//!
//! Without it the event of our own write of a target would look like somebody else's, until that of the
//! status comes. It is never more than that: forgotten when the event comes, and at each new list, because
//! after a restore of etcd resource versions repeat.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cache::{Known, Version};
use crate::object::Object;

/// SealedSecrets as they are since our last write of their status.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<Object, Known>>);

impl Memory {
    /// Notes how the SealedSecret is since our write of its status.
    pub(crate) fn remember(&self, object: &Object, written: Known) {
        self.lock().insert(object.clone(), written);
    }

    /// Whether our last write made it so that nothing is to do, although the cache does not show it yet.
    pub(crate) fn is_done(&self, object: &Object, known: &Known, target: Option<&Version>) -> bool {
        let memory = self.lock();
        let Some(written) = memory.get(object) else { return false };
        let status = written.status.as_ref();
        let is_ready = |(ready, _): &(String, String)| ready == "True";
        written.uid == known.uid
            && written.generation == known.generation
            && !known.is_deleted
            && status.and_then(|status| status.ready.as_ref()).is_some_and(is_ready)
            && status
                .and_then(|status| status.target.as_ref())
                .is_some_and(|written| Some(&written.version) == target)
    }

    /// Whether what the watch has brought is what we wrote last. Then it need not be remembered any more.
    pub(crate) fn came(&self, object: &Object, known: &Known) -> bool {
        let mut memory = self.lock();
        let is_ours = |written: &Known| written.resource_version == known.resource_version;
        let is_ours = memory.get(object).is_some_and(is_ours);
        if is_ours {
            memory.remove(object);
        }
        is_ours
    }

    pub(crate) fn forget(&self, object: &Object) {
        self.lock().remove(object);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Object, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bulla_crds::Policy;

    use super::*;
    use crate::cache::{KnownStatus, Written};

    fn known(resource_version: &str, target: Option<Version>) -> Known {
        let written = |version| Written { version, policy: Policy::Owner, renderer: 1 };
        let status = KnownStatus {
            observed_generation: Some(1),
            ready: Some(("True".into(), "Unsealed".into())),
            target: target.map(written),
            fingerprints: Box::default(),
            controller: None,
        };
        Known {
            uid: "s1".into(),
            resource_version: resource_version.into(),
            generation: Some(1),
            is_deleted: false,
            status: Some(Box::new(status)),
        }
    }

    #[test]
    fn our_own_write_is_known_until_the_watch_has_brought_it() {
        let (memory, object) = (Memory::default(), Object::from("prod/db"));
        let target = Version { uid: "t1".into(), resource_version: "7".into() };
        let (before, after) = (known("5", None), known("8", Some(target.clone())));
        memory.remember(&object, after.clone());
        assert!(memory.is_done(&object, &before, Some(&target)));
        assert!(!memory.is_done(&object, &before, None));
        let edited = Version { resource_version: "9".into(), ..target.clone() };
        assert!(!memory.is_done(&object, &before, Some(&edited)));
        let changed = Known { generation: Some(2), ..before.clone() };
        assert!(!memory.is_done(&object, &changed, Some(&target)));

        assert!(!memory.came(&object, &before));
        assert!(memory.is_done(&object, &before, Some(&target)));
        assert!(memory.came(&object, &after));
        assert!(!memory.is_done(&object, &before, Some(&target)));
    }
}
