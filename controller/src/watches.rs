//! The watches: of SealedSecrets, of the metadata of Secrets with the label of targets, of identities and their
//! backups, of SealingKeys, and of the metadata of Rekeys.
//!
//! Each watch is a task that feeds its cache and queues objects that may need work. A failed watch is always opened
//! again. kube's watcher handles the protocol. This module does what it leaves to its caller: start again when a
//! resource version has expired, and list in pages when the server cannot stream.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use bulla_crds::{
    BACKUP_SECRET_TYPE, IDENTITY_SECRET_TYPE, Rekey, SealingKey, TARGET_LABEL, WipedSecret,
};
use futures::StreamExt;
use futures::future::ready;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Secret;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::api::{PAGE_SIZE, RequestFailure};
use crate::context::Context;
use crate::keys;
use crate::rekey;
use crate::sealed_secret;
use crate::state::backoff::Reopening;
use crate::state::cache::{Cache, Glimpse, KnownSealedSecret, ObjectVersion};
use crate::state::key_store::Origin;
use crate::state::object_ref::ObjectRef;
use crate::state::queue::Lane;

/// Starts all watches.
pub(crate) fn spawn(ctx: &Arc<Context>, tasks: &mut JoinSet<()>) {
    for namespace in ctx.args.scopes() {
        tasks.spawn(sealed_secrets(ctx.clone(), namespace.clone()));
        tasks.spawn(targets(ctx.clone(), namespace.clone()));
        tasks.spawn(rekeys(ctx.clone(), namespace));
    }
    tasks.spawn(sealing_keys(ctx.clone()));
    tasks.spawn(identities(ctx.clone(), IDENTITY_SECRET_TYPE, Origin::Identities));
    tasks.spawn(identities(ctx.clone(), BACKUP_SECRET_TYPE, Origin::Backups));
    if let Some(folder) = ctx.args.identities_folder.clone() {
        let ctx = ctx.clone();
        tasks.spawn(async move { keys::follow(&ctx, &folder).await });
    }
}

async fn sealed_secrets(ctx: Arc<Context>, namespace: Option<String>) {
    let api: Api<Glimpse> = scoped(&ctx.client, namespace.as_deref());
    let mut config = watcher::Config::default();
    if let Some(selector) = &ctx.args.selector {
        config = config.labels(selector);
    }
    let events = follow(api, config, "SealedSecrets");
    let changed = |object, change: CacheChange<KnownSealedSecret>| match change {
        CacheChange::Now { before, now } => {
            sealed_secret_changed(&ctx, object, before.as_deref(), &now)
        }
        CacheChange::Gone => ctx.forget(&object),
    };
    feed(&ctx, &ctx.sealed_secrets, namespace.as_deref(), events, changed).await;
}

/// New and changed objects go before the backlog. This includes a changed annotation: people touch one to get an
/// object checked now. Only the controller's own writes do not shorten a delay.
fn sealed_secret_changed(
    ctx: &Context,
    object: ObjectRef,
    before: Option<&KnownSealedSecret>,
    now: &KnownSealedSecret,
) {
    let is_own_write = ctx.own_writes.note_status_event(&object, now);
    let is_as_before = before.is_some_and(|before| before.resource_version == now.resource_version);
    let lane = if is_own_write || is_as_before { Lane::Backlog } else { Lane::Changed };
    if ctx.is_working() && sealed_secret::needs_work(ctx, &object, now) {
        ctx.queue.push(object, lane);
    }
}

async fn targets(ctx: Arc<Context>, namespace: Option<String>) {
    let api: Api<PartialObjectMeta<Secret>> = scoped(&ctx.client, namespace.as_deref());
    let events = follow(api, watcher::Config::default().labels(TARGET_LABEL), "targets");
    let changed = |object, _: CacheChange<ObjectVersion>| target_changed(&ctx, object);
    feed(&ctx, &ctx.targets, namespace.as_deref(), events, changed).await;
}

/// Queues the SealedSecret of a target; both have the same namespace and name.
fn target_changed(ctx: &Context, object: ObjectRef) {
    ctx.own_writes.note_target_event(&object);
    if !ctx.is_working() {
        return;
    }
    let Some(known) = ctx.sealed_secrets.get(&object) else { return };
    if sealed_secret::needs_work(ctx, &object, &known) {
        ctx.queue.push(object, Lane::Changed);
    }
}

/// Watches identities or their backups. The other Secrets of the namespace never leave the server.
async fn identities(ctx: Arc<Context>, type_: &'static str, origin: Origin) {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
    let config = watcher::Config::default().fields(&format!("type={type_}"));
    let deliveries = deliveries(follow(api, config, type_));
    futures::pin_mut!(deliveries);
    while let Some(delivery) = deliveries.next().await {
        let changed = match delivery {
            Delivery::Changed(secret) => {
                Vec::from_iter(ctx.key_store.insert_secret(&WipedSecret::new(secret)))
            }
            Delivery::Deleted(secret) => {
                Vec::from_iter(ctx.key_store.remove_secret(&WipedSecret::new(secret).name_any()))
            }
            Delivery::Listed(listed) => {
                let gone = ctx.key_store.retain_secrets(type_, &names(&listed));
                ctx.key_store.first_list_is_done(origin);
                gone
            }
        };
        sealed_secret::keys_changed(&ctx, &changed);
    }
}

/// Watches SealingKeys. One that cannot be parsed is logged and skipped.
async fn sealing_keys(ctx: Arc<Context>) {
    let api: Api<DeserializeGuard<SealingKey>> =
        Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
    let deliveries = deliveries(follow(api, watcher::Config::default(), "SealingKeys"));
    futures::pin_mut!(deliveries);
    while let Some(delivery) = deliveries.next().await {
        let changed = match delivery {
            Delivery::Changed(DeserializeGuard(Ok(key))) => {
                Vec::from_iter(ctx.key_store.insert_sealing_key(key))
            }
            Delivery::Changed(unreadable) => {
                let name = unreadable.name_any();
                tracing::error!(key = name, "skipped a SealingKey that this version cannot parse");
                Vec::from_iter(ctx.key_store.remove_sealing_key(&name))
            }
            Delivery::Deleted(key) => {
                Vec::from_iter(ctx.key_store.remove_sealing_key(&key.name_any()))
            }
            Delivery::Listed(listed) => {
                let gone = ctx.key_store.retain_sealing_keys(&names(&listed));
                ctx.key_store.first_list_is_done(Origin::Declared);
                gone
            }
        };
        sealed_secret::keys_changed(&ctx, &changed);
    }
}

/// Watches the metadata of Rekeys. A Rekey itself is read when it is its turn.
async fn rekeys(ctx: Arc<Context>, namespace: Option<String>) {
    let api: Api<PartialObjectMeta<Rekey>> = scoped(&ctx.client, namespace.as_deref());
    let deliveries = deliveries(follow(api, watcher::Config::default(), "Rekeys"));
    futures::pin_mut!(deliveries);
    while let Some(delivery) = deliveries.next().await {
        match delivery {
            Delivery::Changed(rekey) => rekey::changed(&ctx, &rekey.metadata),
            Delivery::Deleted(rekey) => rekey::deleted(&ctx, &ObjectRef::of(&rekey.metadata)),
            Delivery::Listed(listed) => rekey::listed(&ctx, namespace.as_deref(), &listed),
        }
    }
}

/// What a watch delivers when no cache takes it.
enum Delivery<K> {
    /// An object, new or changed.
    Changed(K),
    /// A deleted object.
    Deleted(K),
    /// All objects of a list.
    Listed(HashSet<ObjectRef>),
}

fn deliveries<K: Resource>(
    events: impl futures::Stream<Item = WatchEvent<K>>,
) -> impl futures::Stream<Item = Delivery<K>> {
    let deliveries = events.scan(HashSet::new(), |listed, event| {
        let delivery = match event {
            WatchEvent::Forbidden => None,
            WatchEvent::Event(Event::Init) => {
                listed.clear();
                None
            }
            WatchEvent::Event(Event::InitApply(seen)) => {
                listed.insert(ObjectRef::of(seen.meta()));
                Some(Delivery::Changed(seen))
            }
            WatchEvent::Event(Event::Apply(seen)) => Some(Delivery::Changed(seen)),
            WatchEvent::Event(Event::Delete(seen)) => Some(Delivery::Deleted(seen)),
            WatchEvent::Event(Event::InitDone) => Some(Delivery::Listed(std::mem::take(listed))),
        };
        ready(Some(delivery))
    });
    deliveries.filter_map(ready)
}

fn names(listed: &HashSet<ObjectRef>) -> BTreeSet<String> {
    listed.iter().map(|object| object.name.to_string()).collect()
}

/// What has happened to an object in a cache.
enum CacheChange<V> {
    /// It is new or changed: its previous value, if there was one, and its new value.
    Now { before: Option<Arc<V>>, now: Arc<V> },
    /// It was deleted.
    Gone,
}

/// Stores what a watch of `namespace`, or of all namespaces, delivers in a cache. Then calls `changed`.
async fn feed<K, V>(
    ctx: &Context,
    cache: &Cache<V>,
    namespace: Option<&str>,
    events: impl futures::Stream<Item = WatchEvent<K>>,
    changed: impl Fn(ObjectRef, CacheChange<V>),
) where
    K: Resource,
    V: for<'a> From<&'a K>,
{
    let mut list = ListInProgress::default();
    futures::pin_mut!(events);
    while let Some(event) = events.next().await {
        let WatchEvent::Event(event) = event else {
            list.give_up(cache, namespace);
            continue;
        };
        match event {
            Event::Init => {
                list.begin();
                ctx.own_writes.clear();
            }
            Event::InitApply(seen) | Event::Apply(seen) => {
                let object = ObjectRef::of(seen.meta());
                list.note(&object);
                let (before, now) = cache.insert(object.clone(), V::from(&seen));
                changed(object, CacheChange::Now { before, now });
            }
            Event::Delete(seen) => {
                let object = ObjectRef::of(seen.meta());
                cache.remove(&object);
                changed(object, CacheChange::Gone);
            }
            Event::InitDone => {
                for object in list.end(cache, namespace) {
                    changed(object, CacheChange::Gone);
                }
            }
        }
    }
}

/// The objects of the list in progress.
#[derive(Default)]
struct ListInProgress {
    listed: HashSet<ObjectRef>,
    is_open: bool,
    is_done: bool,
}

impl ListInProgress {
    fn begin(&mut self) {
        self.listed.clear();
        self.is_open = true;
    }

    fn note(&mut self, object: &ObjectRef) {
        if self.is_open {
            self.listed.insert(object.clone());
        }
    }

    /// Counts the list as done. With several namespaces, one without rights must not keep the others waiting. Once
    /// the right is granted, the list comes.
    fn give_up<V>(&mut self, cache: &Cache<V>, namespace: Option<&str>) {
        if namespace.is_some() && !std::mem::replace(&mut self.is_done, true) {
            cache.first_list_is_done();
        }
    }

    /// Removes what was not listed from the cache. Returns it: its deletion was missed.
    fn end<V>(&mut self, cache: &Cache<V>, namespace: Option<&str>) -> Vec<ObjectRef> {
        let gone = cache.retain(namespace, &std::mem::take(&mut self.listed));
        self.is_open = false;
        if !std::mem::replace(&mut self.is_done, true) {
            cache.first_list_is_done();
        }
        gone
    }
}

/// An event of a watch.
enum WatchEvent<K> {
    Event(Event<K>),
    /// The controller has no right to watch this at present.
    Forbidden,
}

/// All events of a watch, without end. A failure is logged, and the watch is opened again after a delay.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    of: &'static str,
) -> impl futures::Stream<Item = WatchEvent<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let streaming = config.clone().streaming_lists();
    let follower = Follower {
        stream: kube::runtime::watcher(api.clone(), streaming).boxed(),
        pages: (api, config.page_size(PAGE_SIZE)),
        reopening: Reopening::default(),
        of,
    };
    futures::stream::unfold(follower, |mut follower| async {
        let event = follower.next().await;
        Some((event, follower))
    })
}

struct Follower<K: Resource + 'static> {
    stream: BoxStream<'static, Result<Event<K>, watcher::Error>>,
    /// For a server that does not stream lists, and to start again when one refuses to go on.
    pages: (Api<K>, watcher::Config),
    reopening: Reopening,
    of: &'static str,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> WatchEvent<K> {
        loop {
            let error = match self.stream.next().await {
                Some(Ok(event)) => return WatchEvent::Event(event),
                Some(Err(error)) => error,
                None => watcher::Error::NoResourceVersion, // kube's watcher never ends
            };
            let is_refused = is_refused(&error);
            let failure = RequestFailure::from(error);
            let delay = self.reopening.failed().max(failure.least_delay());
            tracing::warn!(of = self.of, %failure, ?delay, "a watch failed; opening it again");
            tokio::time::sleep(delay).await;
            if is_refused {
                let (api, config) = self.pages.clone();
                self.stream = kube::runtime::watcher(api, config).boxed();
            }
            if matches!(failure, RequestFailure::Forbidden(_)) {
                return WatchEvent::Forbidden;
            }
        }
    }
}

/// Whether kube would repeat the request and fail again: it asked for a streamed list from a server that has none
/// (422), or for a resource version that is compacted (410) or too large after a restore of etcd (504).
fn is_refused(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    status.code == 504 || (400..500).contains(&status.code) && status.code != 429
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
