//! The controller's own writes that the watches have not delivered yet.
//!
//! A reconcile writes a target and a status, and each write causes an event. Until the status event comes, the target
//! event looks like somebody else's write. Until the target event comes, the status event looks like a lost
//! target. A record is dropped when both events have come. All records are dropped at each new list, because
//! resource versions repeat after etcd is restored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::cache::{Cache, KnownSealedSecret, ObjectVersion};
use crate::state::object_ref::ObjectRef;

/// Objects that are being reconciled, or that are as their last status write left them.
#[derive(Default)]
pub(crate) struct OwnWrites(Mutex<HashMap<ObjectRef, Noted>>);

/// What has happened to an object since its reconcile began.
#[derive(Clone, Debug, Default)]
struct Noted {
    /// The object as the status write left it.
    written: Option<KnownSealedSecret>,
    /// Whether the watch has delivered that status.
    has_status_come: bool,
    /// Whether the watch has delivered any event of the target: for this write, or for a write by somebody else.
    has_target_come: bool,
}

impl Noted {
    fn target(&self) -> Option<&ObjectVersion> {
        let status = self.written.as_ref()?.status.as_ref()?;
        status.target.as_ref().map(|written| &written.version)
    }

    fn is_over(&self) -> bool {
        self.has_status_come && self.has_target_come
    }
}

impl OwnWrites {
    /// Notes that a reconcile of the object begins.
    pub(crate) fn begin(&self, object: &ObjectRef) {
        self.lock().insert(object.clone(), Noted::default());
    }

    /// Notes that the reconcile of the object has ended.
    pub(crate) fn end(&self, object: &ObjectRef) {
        let mut objects = self.lock();
        if objects.get(object).is_some_and(|noted| noted.written.is_none()) {
            objects.remove(object);
        }
    }

    /// Notes the SealedSecret as the status write left it.
    pub(crate) fn remember(
        &self,
        object: &ObjectRef,
        written: KnownSealedSecret,
        sealed_secrets: &Cache<KnownSealedSecret>,
        targets: &Cache<ObjectVersion>,
    ) {
        // The caches are read under the lock, so an event that a watch delivers later finds this record.
        let mut objects = self.lock();
        let noted = objects.entry(object.clone()).or_default();
        noted.has_status_come = sealed_secrets
            .get(object)
            .is_some_and(|known| known.resource_version == written.resource_version);
        noted.written = Some(written);
        // A write that changes nothing causes no event.
        noted.has_target_come |= noted.target() == targets.get(object).as_deref();
        if noted.is_over() {
            objects.remove(object);
        }
    }

    /// Whether the last write left nothing to do, although the caches do not show it yet.
    pub(crate) fn is_done(
        &self,
        object: &ObjectRef,
        known: &KnownSealedSecret,
        target: Option<&ObjectVersion>,
    ) -> bool {
        let objects = self.lock();
        let Some(noted) = objects.get(object) else { return false };
        let Some(written) = &noted.written else { return false };
        let ready = written.status.as_ref().and_then(|status| status.ready.as_ref());
        written.uid == known.uid
            && written.generation == known.generation
            && !known.is_deleted
            && (!noted.has_status_come || written.resource_version == known.resource_version)
            && ready.is_some_and(|(ready, _)| ready == "True")
            && noted.target().is_some()
            && (noted.target() == target || !noted.has_target_come)
    }

    /// Notes a SealedSecret that the watch has delivered. Returns whether it is the last own write.
    pub(crate) fn note_status_event(&self, object: &ObjectRef, known: &KnownSealedSecret) -> bool {
        let mut objects = self.lock();
        let Some(noted) = objects.get_mut(object) else { return false };
        let is_own = noted
            .written
            .as_ref()
            .is_some_and(|written| written.resource_version == known.resource_version);
        noted.has_status_come |= is_own;
        if noted.is_over() {
            objects.remove(object);
        }
        is_own
    }

    /// Notes that the watch has delivered a change or the deletion of a target.
    pub(crate) fn note_target_event(&self, object: &ObjectRef) {
        let mut objects = self.lock();
        let Some(noted) = objects.get_mut(object) else { return };
        noted.has_target_come = true;
        if noted.is_over() {
            objects.remove(object);
        }
    }

    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.lock().remove(object);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectRef, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bulla_crds::Policy;

    use super::*;
    use crate::state::cache::{self, KnownStatus};

    fn version(resource_version: &str) -> ObjectVersion {
        ObjectVersion { uid: "t1".into(), resource_version: resource_version.into() }
    }

    fn known(resource_version: &str, target: Option<ObjectVersion>) -> KnownSealedSecret {
        let written =
            |version| cache::WrittenTarget { version, policy: Policy::Owner, renderer: 1 };
        let status = KnownStatus {
            observed_generation: Some(1),
            ready: Some(("True".into(), "Unsealed".into())),
            target: target.map(written),
            fingerprints: Box::default(),
            controller: None,
        };
        KnownSealedSecret {
            uid: "s1".into(),
            resource_version: resource_version.into(),
            generation: Some(1),
            is_deleted: false,
            status: Some(Box::new(status)),
        }
    }

    /// The own writes and caches of one replica, and the events that its watches deliver.
    struct Replica {
        own_writes: OwnWrites,
        object: ObjectRef,
        sealed_secrets: Cache<KnownSealedSecret>,
        targets: Cache<ObjectVersion>,
    }

    impl Replica {
        /// A SealedSecret is being reconciled for the first time, and has no target.
        fn at_work() -> Self {
            let (sealed_secrets, targets) = (Cache::new(1), Cache::new(1));
            let replica = Self {
                own_writes: OwnWrites::default(),
                object: "prod/db".into(),
                sealed_secrets,
                targets,
            };
            replica.sealed_secrets.insert(replica.object.clone(), known("5", None));
            replica.own_writes.begin(&replica.object);
            replica
        }

        fn wrote(&self, known: KnownSealedSecret) {
            self.own_writes.remember(&self.object, known, &self.sealed_secrets, &self.targets);
        }

        fn status_comes(&self, known: KnownSealedSecret) -> bool {
            let (_, known) = self.sealed_secrets.insert(self.object.clone(), known);
            self.own_writes.note_status_event(&self.object, &known)
        }

        fn target_comes(&self, version: ObjectVersion) {
            self.targets.insert(self.object.clone(), version);
            self.own_writes.note_target_event(&self.object);
        }

        fn target_goes(&self) {
            self.targets.remove(&self.object);
            self.own_writes.note_target_event(&self.object);
        }

        fn is_done(&self) -> bool {
            let known = self.sealed_secrets.get(&self.object).unwrap();
            self.own_writes.is_done(&self.object, &known, self.targets.get(&self.object).as_deref())
        }

        fn is_forgotten(&self) -> bool {
            self.own_writes.lock().is_empty()
        }
    }

    fn own_write() -> KnownSealedSecret {
        known("8", Some(version("7")))
    }

    #[test]
    fn the_events_of_an_own_write_may_come_in_any_order() {
        let target_first = Replica::at_work();
        assert!(!target_first.is_done());
        target_first.target_comes(version("7"));
        assert!(!target_first.is_done());
        target_first.wrote(own_write());
        assert!(target_first.is_done());
        assert!(target_first.status_comes(own_write()));
        assert!(target_first.is_forgotten());

        let status_first = Replica::at_work();
        status_first.wrote(own_write());
        assert!(status_first.status_comes(own_write()));
        assert!(status_first.is_done());
        status_first.target_comes(version("7"));
        assert!(status_first.is_forgotten());

        let all_before_the_answer = Replica::at_work();
        assert!(!all_before_the_answer.status_comes(own_write()));
        all_before_the_answer.target_comes(version("7"));
        all_before_the_answer.wrote(own_write());
        assert!(all_before_the_answer.is_forgotten());
    }

    #[test]
    fn a_change_by_somebody_else_in_the_meantime_is_noticed() {
        let edited = Replica::at_work();
        edited.wrote(own_write());
        edited.target_comes(version("9"));
        assert!(!edited.is_done());

        let edited_before_the_answer = Replica::at_work();
        edited_before_the_answer.target_comes(version("7"));
        edited_before_the_answer.target_comes(version("9"));
        edited_before_the_answer.wrote(own_write());
        assert!(!edited_before_the_answer.is_done());

        let deleted_before_the_answer = Replica::at_work();
        deleted_before_the_answer.target_comes(version("7"));
        deleted_before_the_answer.target_goes();
        deleted_before_the_answer.wrote(own_write());
        assert!(!deleted_before_the_answer.is_done());

        let changed = Replica::at_work();
        changed.wrote(own_write());
        assert!(
            !changed.status_comes(KnownSealedSecret { generation: Some(2), ..known("6", None) })
        );
        assert!(!changed.is_done());
    }

    #[test]
    fn a_reconcile_without_a_write_leaves_no_record() {
        let idle = Replica::at_work();
        idle.own_writes.end(&idle.object);
        assert!(idle.is_forgotten());

        let unchanged = Replica::at_work();
        unchanged.targets.insert(unchanged.object.clone(), version("7"));
        unchanged.wrote(own_write());
        unchanged.own_writes.end(&unchanged.object);
        assert!(unchanged.is_done());
        unchanged.status_comes(own_write());
        assert!(unchanged.is_forgotten());
    }
}
