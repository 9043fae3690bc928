//! The state that all workers share. It is data only: workers import it, and it imports none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::Client;

use crate::args::Args;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::state::backoff::Backoff;
use crate::state::cache::{Cache, KnownSealedSecret, ObjectVersion};
use crate::state::damping::Damping;
use crate::state::holder::OwnHolder;
use crate::state::key_store::KeyStore;
use crate::state::object_ref::ObjectRef;
use crate::state::own_writes::OwnWrites;
use crate::state::queue::Queue;
use crate::state::rekeys::Rekeys;
use crate::state::room::Room;

/// What every worker may use.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) args: Args,
    pub(crate) holder: OwnHolder,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) backoff: Backoff,
    pub(crate) damping: Damping,
    pub(crate) own_writes: OwnWrites,
    pub(crate) queue: Arc<Queue>,
    pub(crate) sealed_secrets: Cache<KnownSealedSecret>,
    /// The Secrets that carry the label of targets.
    pub(crate) targets: Cache<ObjectVersion>,
    pub(crate) key_store: KeyStore,
    pub(crate) rekeys: Rekeys,
    /// For the objects that workers have open.
    pub(crate) room: Room,
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
            own_writes: OwnWrites::default(),
            queue: Arc::new(Queue::new(args.workers.into())),
            sealed_secrets: Cache::new(watches),
            targets: Cache::new(watches),
            key_store: KeyStore::new(args.identities_folder.is_some()),
            rekeys: Rekeys::default(),
            room: Room::new(),
            holder: OwnHolder::default(),
            is_working: AtomicBool::default(),
            client,
            args,
        }
    }

    /// Whether all watches have delivered their first lists. No object is checked before that.
    pub(crate) fn is_listed(&self) -> bool {
        self.key_store.is_listed() && self.sealed_secrets.is_listed() && self.targets.is_listed()
    }

    /// Waits until all watches have delivered their first lists.
    pub(crate) async fn listed(&self) {
        self.key_store.listed().await;
        self.sealed_secrets.listed().await;
        self.targets.listed().await;
    }

    /// Whether this replica works. Only then is the queue filled.
    pub(crate) fn is_working(&self) -> bool {
        self.is_working.load(Ordering::SeqCst)
    }

    /// Marks this replica as the one that works.
    pub(crate) fn begin_work(&self) {
        self.is_working.store(true, Ordering::SeqCst);
    }

    /// Leaves the work to another replica and empties the queues.
    pub(crate) fn end_work(&self) {
        self.is_working.store(false, Ordering::SeqCst);
        self.queue.clear();
        self.rekeys.clear();
    }

    /// How a status names this controller: another one may have the same holder in another namespace.
    pub(crate) fn controller(&self) -> String {
        format!("{}/{}", self.args.namespace, self.holder.name())
    }

    /// Whether this controller works on the SealedSecrets of the controller that a status names.
    pub(crate) fn is_in_charge(&self, controller: &str) -> bool {
        // Earlier versions wrote the holder alone.
        let (namespace, holder) =
            controller.split_once('/').unwrap_or((&self.args.namespace, controller));
        (namespace == self.args.namespace && holder == self.holder.name())
            || self.args.is_taken_over(namespace, holder)
    }

    /// Forgets what is kept about an object that is deleted or in order.
    pub(crate) fn forget(&self, object: &ObjectRef) {
        self.backoff.succeeded(&object.to_string());
        self.damping.forget(object);
        self.own_writes.forget(object);
    }
}
