//! What we have just written and the watches have not yet brought back.
//!
//! Without it the event of our own write of a target would look like somebody else's until that of the status
//! comes, and that of the status like a lost target until that of the target comes. It is never more than
//! that: forgotten when both events have come, and at each new list, because after a restore of etcd resource
//! versions repeat.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::cache::{Cache, KnownSealedSecret, ObjectVersion};
use crate::state::object_ref::ObjectRef;

/// Objects that are worked on, or as they are since our last write of their status.
#[derive(Default)]
pub(crate) struct OwnWrites(Mutex<HashMap<ObjectRef, Noted>>);

/// What has happened to an object since the work on it began.
#[derive(Clone, Debug, Default)]
struct Noted {
    /// As it is since our write of its status.
    written: Option<KnownSealedSecret>,
    /// Whether the watch has brought that status.
    has_status_come: bool,
    /// Whether the watch has brought anything of the target: ours, or what somebody did before or after.
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
    /// Work on the object begins.
    pub(crate) fn begin(&self, object: &ObjectRef) {
        self.lock().insert(object.clone(), Noted::default());
    }

    /// Work on the object has ended.
    pub(crate) fn end(&self, object: &ObjectRef) {
        let mut memory = self.lock();
        if memory.get(object).is_some_and(|noted| noted.written.is_none()) {
            memory.remove(object);
        }
    }

    /// Notes how the SealedSecret is since our write of its status.
    pub(crate) fn remember(
        &self,
        object: &ObjectRef,
        written: KnownSealedSecret,
        sealed_secrets: &Cache<KnownSealedSecret>,
        targets: &Cache<ObjectVersion>,
    ) {
        // The caches are read under the lock: what a watch brings later finds what is noted here.
        let mut memory = self.lock();
        let noted = memory.entry(object.clone()).or_default();
        noted.has_status_come = sealed_secrets
            .get(object)
            .is_some_and(|known| known.resource_version == written.resource_version);
        noted.written = Some(written);
        // A write that changed nothing has no event.
        noted.has_target_come |= noted.target() == targets.get(object).as_deref();
        if noted.is_over() {
            memory.remove(object);
        }
    }

    /// Whether our last write made it so that nothing is to do, although the caches do not show it yet.
    pub(crate) fn is_done(
        &self,
        object: &ObjectRef,
        known: &KnownSealedSecret,
        target: Option<&ObjectVersion>,
    ) -> bool {
        let memory = self.lock();
        let Some(noted) = memory.get(object) else { return false };
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

    /// Whether what the watch has brought is what we wrote last.
    pub(crate) fn came(&self, object: &ObjectRef, known: &KnownSealedSecret) -> bool {
        let mut memory = self.lock();
        let Some(noted) = memory.get_mut(object) else { return false };
        let is_ours = noted
            .written
            .as_ref()
            .is_some_and(|written| written.resource_version == known.resource_version);
        noted.has_status_come |= is_ours;
        if noted.is_over() {
            memory.remove(object);
        }
        is_ours
    }

    /// The watch has brought a target, or that it is gone.
    pub(crate) fn target_came(&self, object: &ObjectRef) {
        let mut memory = self.lock();
        let Some(noted) = memory.get_mut(object) else { return };
        noted.has_target_come = true;
        if noted.is_over() {
            memory.remove(object);
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

    /// What the controller has: its memory and its caches, and the watches that feed both.
    struct Replica {
        memory: OwnWrites,
        object: ObjectRef,
        sealed_secrets: Cache<KnownSealedSecret>,
        targets: Cache<ObjectVersion>,
    }

    impl Replica {
        /// A first status has been judged; there is no target.
        fn at_work() -> Self {
            let (sealed_secrets, targets) = (Cache::new(1), Cache::new(1));
            let fixture = Self {
                memory: OwnWrites::default(),
                object: "prod/db".into(),
                sealed_secrets,
                targets,
            };
            fixture.sealed_secrets.insert(fixture.object.clone(), known("5", None));
            fixture.memory.begin(&fixture.object);
            fixture
        }

        fn wrote(&self, known: KnownSealedSecret) {
            self.memory.remember(&self.object, known, &self.sealed_secrets, &self.targets);
        }

        fn status_comes(&self, known: KnownSealedSecret) -> bool {
            let (_, known) = self.sealed_secrets.insert(self.object.clone(), known);
            self.memory.came(&self.object, &known)
        }

        fn target_comes(&self, version: ObjectVersion) {
            self.targets.insert(self.object.clone(), version);
            self.memory.target_came(&self.object);
        }

        fn target_goes(&self) {
            self.targets.remove(&self.object);
            self.memory.target_came(&self.object);
        }

        fn is_done(&self) -> bool {
            let known = self.sealed_secrets.get(&self.object).unwrap();
            self.memory.is_done(&self.object, &known, self.targets.get(&self.object).as_deref())
        }

        fn is_forgotten(&self) -> bool {
            self.memory.lock().is_empty()
        }
    }

    fn ours() -> KnownSealedSecret {
        known("8", Some(version("7")))
    }

    #[test]
    fn both_events_of_our_write_may_come_in_any_order() {
        let target_first = Replica::at_work();
        assert!(!target_first.is_done());
        target_first.target_comes(version("7"));
        assert!(!target_first.is_done());
        target_first.wrote(ours());
        assert!(target_first.is_done());
        assert!(target_first.status_comes(ours()));
        assert!(target_first.is_forgotten());

        let status_first = Replica::at_work();
        status_first.wrote(ours());
        assert!(status_first.status_comes(ours()));
        assert!(status_first.is_done());
        status_first.target_comes(version("7"));
        assert!(status_first.is_forgotten());

        let all_before_the_answer = Replica::at_work();
        assert!(!all_before_the_answer.status_comes(ours()));
        all_before_the_answer.target_comes(version("7"));
        all_before_the_answer.wrote(ours());
        assert!(all_before_the_answer.is_forgotten());
    }

    #[test]
    fn what_others_do_meanwhile_is_seen() {
        let edited = Replica::at_work();
        edited.wrote(ours());
        edited.target_comes(version("9"));
        assert!(!edited.is_done());

        let edited_before_the_answer = Replica::at_work();
        edited_before_the_answer.target_comes(version("7"));
        edited_before_the_answer.target_comes(version("9"));
        edited_before_the_answer.wrote(ours());
        assert!(!edited_before_the_answer.is_done());

        let deleted_before_the_answer = Replica::at_work();
        deleted_before_the_answer.target_comes(version("7"));
        deleted_before_the_answer.target_goes();
        deleted_before_the_answer.wrote(ours());
        assert!(!deleted_before_the_answer.is_done());

        let changed = Replica::at_work();
        changed.wrote(ours());
        assert!(
            !changed.status_comes(KnownSealedSecret { generation: Some(2), ..known("6", None) })
        );
        assert!(!changed.is_done());
    }

    #[test]
    fn work_without_a_write_leaves_nothing() {
        let idle = Replica::at_work();
        idle.memory.end(&idle.object);
        assert!(idle.is_forgotten());

        let unchanged = Replica::at_work();
        unchanged.targets.insert(unchanged.object.clone(), version("7"));
        unchanged.wrote(ours());
        unchanged.memory.end(&unchanged.object);
        assert!(unchanged.is_done());
        unchanged.status_comes(ours());
        assert!(unchanged.is_forgotten());
    }
}
