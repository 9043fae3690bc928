//! The reconciler's shared state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLockReadGuard};

use bulla_crds::keys::DeclaredKeys;
use bulla_sealing::{Fingerprint, Keyring};
use kube::Client;

use crate::args::Args;
use crate::backoff::Backoff;
use crate::cache::{Cache, Known, Version};
use crate::damping::Damping;
use crate::events::Events;
use crate::keys::Ring;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::object::Object;
use crate::queue::{Lane, Queue};
use crate::rekey::Rekeys;
use crate::sealed_secret;

/// The name under which all writes are made.
pub(crate) const FIELD_MANAGER: &str = "bulla-controller";

/// What every reconcile may use.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) args: Args,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) backoff: Backoff,
    pub(crate) damping: Damping,
    pub(crate) memory: Memory,
    pub(crate) queue: Arc<Queue>,
    pub(crate) sealed_secrets: Cache<Known>,
    /// The Secrets that carry our label.
    pub(crate) targets: Cache<Version>,
    pub(crate) ring: Ring,
    pub(crate) rekeys: Rekeys,
    is_working: AtomicBool,
}

impl Context {
    pub(crate) fn new(client: Client, args: Args) -> Self {
        let watches = args.scopes().len();
        Self {
            events: Events::new(client.clone(), args.pod.clone()),
            metrics: Metrics::new(),
            backoff: Backoff::default(),
            damping: Damping::default(),
            memory: Memory::default(),
            queue: Arc::new(Queue::new(args.workers.into())),
            sealed_secrets: Cache::new(watches),
            targets: Cache::new(watches),
            ring: Ring::new(args.identities_folder.is_some()),
            rekeys: Rekeys::default(),
            is_working: AtomicBool::default(),
            client,
            args,
        }
    }

    /// Whether all watches have delivered their first lists, so that objects can be judged.
    pub(crate) fn is_listed(&self) -> bool {
        self.ring.is_listed() && self.sealed_secrets.is_listed() && self.targets.is_listed()
    }

    /// Waits for that.
    pub(crate) async fn listed(&self) {
        self.ring.listed().await;
        self.sealed_secrets.listed().await;
        self.targets.listed().await;
    }

    /// Whether this replica works, so that the queue is worth filling.
    pub(crate) fn is_working(&self) -> bool {
        self.is_working.load(Ordering::SeqCst)
    }

    /// Begins to work on everything that needs it.
    pub(crate) fn begin_work(&self) {
        // In this order: what a watch brings meanwhile is queued by it, or found here.
        self.is_working.store(true, Ordering::SeqCst);
        self.enqueue_all();
        // What the last controller refused may be allowed by our flags.
        for (object, known) in self.sealed_secrets.all() {
            if sealed_secret::is_refused_by_flags(&known) {
                self.queue.push_check(object);
            }
        }
        self.rekeys.enqueue_all();
    }

    /// Leaves the work to another replica.
    pub(crate) fn end_work(&self) {
        self.is_working.store(false, Ordering::SeqCst);
        self.queue.clear();
        self.rekeys.clear();
    }

    /// Queues every object on which something may be to do.
    pub(crate) fn enqueue_all(&self) {
        for (object, known) in self.sealed_secrets.all() {
            if sealed_secret::needs_work(self, &object, &known) {
                self.queue.push(object, Lane::Backlog);
            }
        }
    }

    /// Forgets what is only worth knowing of an object that is there.
    pub(crate) fn forget(&self, object: &Object) {
        self.backoff.succeeded(&object.to_string());
        self.damping.forget(object);
        self.memory.forget(object);
    }

    /// The identities that open. The guard must not be kept over an `await`.
    pub(crate) fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        self.ring.keyring()
    }

    /// The SealingKeys that can be trusted.
    pub(crate) fn declared_keys(&self) -> Arc<DeclaredKeys> {
        self.ring.declared()
    }

    /// Looks again at what is sealed to keys that open from now on, or do not any more.
    pub(crate) fn keys_changed(&self, changed: &[Fingerprint]) {
        if changed.is_empty() || !self.is_working() {
            return;
        }
        let is_named = |known: &Known| {
            let status = known.status.as_ref();
            status.is_some_and(|status| status.fingerprints.iter().any(|it| changed.contains(it)))
        };
        for (object, known) in self.sealed_secrets.all() {
            if is_named(&known) && known.status.as_ref().is_some_and(|status| status.is_ready()) {
                self.queue.push_check(object);
            } else if sealed_secret::needs_work(self, &object, &known) {
                self.queue.push(object, Lane::Backlog);
            }
        }
    }
}
