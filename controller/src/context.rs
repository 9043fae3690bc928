//! The reconciler's shared state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bulla_sealing::{Identity, Keyring};
use kube::Client;
use tokio::sync::watch;

use crate::args::Args;
use crate::backoff::Backoff;
use crate::cache::{Cache, Known, Version};
use crate::damping::Damping;
use crate::events::Events;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::object::Object;
use crate::queue::{Lane, Queue};
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
    keyring: RwLock<Keyring>,
    are_identities_loaded: watch::Sender<bool>,
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
            keyring: RwLock::default(),
            are_identities_loaded: watch::Sender::new(false),
            is_working: AtomicBool::default(),
            client,
            args,
        }
    }

    /// Whether all watches have delivered their first lists, so that objects can be judged.
    pub(crate) fn is_listed(&self) -> bool {
        self.are_identities_loaded() && self.sealed_secrets.is_listed() && self.targets.is_listed()
    }

    /// Waits for that.
    pub(crate) async fn listed(&self) {
        let _ = self.are_identities_loaded.subscribe().wait_for(|are_loaded| *are_loaded).await;
        self.sealed_secrets.listed().await;
        self.targets.listed().await;
    }

    /// Whether the first full list of identities has come: before it no value is judged.
    pub(crate) fn are_identities_loaded(&self) -> bool {
        *self.are_identities_loaded.borrow()
    }

    /// Says so.
    pub(crate) fn identities_are_loaded(&self) {
        self.are_identities_loaded.send_replace(true);
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
    }

    /// Leaves the work to another replica.
    pub(crate) fn end_work(&self) {
        self.is_working.store(false, Ordering::SeqCst);
        self.queue.clear();
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

    /// The identities held. The guard must not be kept over an `await`.
    pub(crate) fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        // A poisoned keyring is whole: nothing that holds the lock leaves it half changed.
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an identity; whether it was new.
    pub(crate) fn hold(&self, identity: Identity) -> bool {
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !keyring.is_held(identity.recipient().fingerprint());
        keyring.insert(identity);
        is_new
    }
}
