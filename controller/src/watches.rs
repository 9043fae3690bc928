//! What is watched, and what of it is kept in memory.
//!
//! Caches hold no sealed data, annotations or managed fields, and of Secrets only the metadata of those
//! that carry our label: nothing that a cluster's other Secrets hold ever reaches this process.

use std::sync::Arc;

use bulla_crds::{SealedSecret, TARGET_LABEL};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch;

use crate::api::Failure;
use crate::backoff::Reopening;

/// Larger pages cost memory: 500 hybrid SealedSecrets are 25 MiB while they are read.
const PAGE_SIZE: u32 = 100;

/// A stream of changes and the cache that it feeds while it is read.
pub(crate) struct Watched<K: Resource + 'static>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    pub(crate) stream: BoxStream<'static, Result<K, watcher::Error>>,
    pub(crate) cache: Cache<K>,
}

/// What a watch has delivered so far.
///
/// Not a bare `Store`: of all that wait in `Store::wait_until_ready` it wakes only the last, and the others
/// would wait for ever. So that method has one user, kube's own controller.
#[derive(Clone)]
pub(crate) struct Cache<K: Resource + 'static>
where
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    store: Store<K>,
    is_listed: watch::Receiver<bool>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Cache<K> {
    /// Waits for the first full list; false when it will not come, because the watch has ended.
    pub(crate) async fn listed(&self) -> bool {
        self.is_listed.clone().wait_for(|is_listed| *is_listed).await.is_ok()
    }

    /// Whether the first full list has come.
    pub(crate) fn is_listed(&self) -> bool {
        *self.is_listed.borrow()
    }

    /// One object, as it was when it was last heard of.
    pub(crate) fn get(&self, object: &ObjectRef<K>) -> Option<Arc<K>> {
        self.store.get(object)
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// For kube's controller.
    pub(crate) fn into_store(self) -> Store<K> {
        self.store
    }
}

/// All SealedSecrets, without their sealed data.
pub(crate) fn sealed_secrets(client: Client) -> Watched<SealedSecret> {
    let config = watcher::Config::default().page_size(PAGE_SIZE);
    watched(
        watcher(Api::all(client), config),
        "SealedSecrets",
        |sealed_secret: &mut SealedSecret| {
            sealed_secret.spec.sealed_data.clear();
            sealed_secret.spec.template = None;
            sealed_secret.metadata.annotations = None;
            sealed_secret.metadata.labels = None;
            sealed_secret.metadata.managed_fields = None;
        },
    )
}

/// The metadata of all Secrets that carry our label.
pub(crate) fn targets(client: Client) -> Watched<PartialObjectMeta<Secret>> {
    let config = watcher::Config::default().page_size(PAGE_SIZE).labels(TARGET_LABEL);
    watched(
        watcher(Api::<PartialObjectMeta<Secret>>::all(client), config),
        "targets",
        |target: &mut PartialObjectMeta<Secret>| {
            target.metadata.annotations = None;
            target.metadata.managed_fields = None;
        },
    )
}

/// The SealedSecret that a target belongs to has its namespace and name.
pub(crate) fn sealed_secret_of(
    target: PartialObjectMeta<Secret>,
) -> Option<ObjectRef<SealedSecret>> {
    let name = target.metadata.name?;
    Some(ObjectRef::new(&name).within(target.metadata.namespace.as_deref()?))
}

/// A watch that is opened again when it fails, and tells nobody but the log.
///
/// An error that is passed on makes kube's controller deaf to all of its watches for a while, up to a
/// minute in the end, beside the delay of the one that failed.
pub(crate) fn reopened<K>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send,
    of: &'static str,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send
where
    K: Send,
{
    events.backoff(Reopening::default()).filter_map(move |event| {
        let event = event.map_err(Failure::from).inspect_err(|failure| {
            tracing::warn!(of, %failure, "a watch failed and is opened again");
        });
        std::future::ready(event.ok().map(Ok))
    })
}

fn watched<K>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    of: &'static str,
    prune: impl FnMut(&mut K) + Send + 'static,
) -> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (listed, is_listed) = watch::channel(false);
    // Pruned before it is stored. Deletions count as touches: a deleted target must be restored.
    let stream = reopened(events, of)
        .modify(prune)
        .reflect(writer)
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                listed.send_replace(true);
            }
        })
        .touched_objects()
        .boxed();
    Watched { stream, cache: Cache { store, is_listed } }
}
