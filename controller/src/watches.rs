//! What is watched: SealedSecrets, the metadata of the Secrets that carry our label, identities with their
//! backups, SealingKeys, and the metadata of Rekeys.
//!
//! Each watch is a task that feeds its cache, tells the queue what may need work, and is opened again for
//! ever. kube's watcher does the protocol. What it leaves to its caller is here: to begin anew where a
//! resource version has become useless, and to list in pages where the server cannot stream.

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

use crate::api::RequestFailure;
use crate::context::Context;
use crate::keys;
use crate::rekey;
use crate::sealed_secret;
use crate::state::backoff::Reopening;
use crate::state::cache::{Cache, Glimpse, KnownSealedSecret, ObjectVersion};
use crate::state::key_store::Origin;
use crate::state::object_ref::ObjectRef;
use crate::state::queue::Lane;

/// Larger pages cost memory: 500 hybrid SealedSecrets are 25 MiB while they are read.
const PAGE_SIZE: u32 = 100;

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

/// New and changed objects go before the backlog, also when it is an annotation that somebody has touched so
/// that the object is looked at now. Only what we wrote ourselves waits for the delay that the object may have.
fn sealed_secret_changed(
    ctx: &Context,
    object: ObjectRef,
    before: Option<&KnownSealedSecret>,
    now: &KnownSealedSecret,
) {
    let is_ours = ctx.own_writes.came(&object, now);
    let is_as_before = before.is_some_and(|before| before.resource_version == now.resource_version);
    let lane = if is_ours || is_as_before { Lane::Backlog } else { Lane::Changed };
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

/// The SealedSecret that a target belongs to has its namespace and name.
fn target_changed(ctx: &Context, object: ObjectRef) {
    ctx.own_writes.target_came(&object);
    if !ctx.is_working() {
        return;
    }
    let Some(known) = ctx.sealed_secrets.get(&object) else { return };
    if sealed_secret::needs_work(ctx, &object, &known) {
        ctx.queue.push(object, Lane::Changed);
    }
}

/// Identities and their backups: the namespace's other Secrets never leave the server.
async fn identities(ctx: Arc<Context>, type_: &'static str, origin: Origin) {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
    let config = watcher::Config::default().fields(&format!("type={type_}"));
    let told = told(follow(api, config, type_));
    futures::pin_mut!(told);
    while let Some(told) = told.next().await {
        let changed = match told {
            Delivery::Came(secret) => {
                Vec::from_iter(ctx.key_store.secret_came(&WipedSecret::new(secret)))
            }
            Delivery::Went(secret) => {
                Vec::from_iter(ctx.key_store.secret_went(&WipedSecret::new(secret).name_any()))
            }
            Delivery::Listed(listed) => {
                let gone = ctx.key_store.secrets_listed(type_, &names(&listed));
                ctx.key_store.first_list_is_done(origin);
                gone
            }
        };
        sealed_secret::keys_changed(&ctx, &changed);
    }
}

/// One that does not parse is told of and passed over.
async fn sealing_keys(ctx: Arc<Context>) {
    let api: Api<DeserializeGuard<SealingKey>> =
        Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
    let told = told(follow(api, watcher::Config::default(), "SealingKeys"));
    futures::pin_mut!(told);
    while let Some(told) = told.next().await {
        let changed = match told {
            Delivery::Came(DeserializeGuard(Ok(key))) => {
                Vec::from_iter(ctx.key_store.declaration_came(key))
            }
            Delivery::Came(unreadable) => {
                let name = unreadable.name_any();
                tracing::error!(key = name, "a SealingKey is of no form that is known here");
                Vec::from_iter(ctx.key_store.declaration_went(&name))
            }
            Delivery::Went(key) => Vec::from_iter(ctx.key_store.declaration_went(&key.name_any())),
            Delivery::Listed(listed) => {
                let gone = ctx.key_store.declarations_listed(&names(&listed));
                ctx.key_store.first_list_is_done(Origin::Declared);
                gone
            }
        };
        sealed_secret::keys_changed(&ctx, &changed);
    }
}

/// Their metadata: what they ask for is read when it is their turn.
async fn rekeys(ctx: Arc<Context>, namespace: Option<String>) {
    let api: Api<PartialObjectMeta<Rekey>> = scoped(&ctx.client, namespace.as_deref());
    let told = told(follow(api, watcher::Config::default(), "Rekeys"));
    futures::pin_mut!(told);
    while let Some(told) = told.next().await {
        match told {
            Delivery::Came(rekey) => rekey::came(&ctx, &rekey.metadata),
            Delivery::Went(rekey) => rekey::went(&ctx, &ObjectRef::of(&rekey.metadata)),
            Delivery::Listed(listed) => rekey::listed(&ctx, namespace.as_deref(), &listed),
        }
    }
}

/// What a watch tells when nobody caches what it brings.
enum Delivery<K> {
    /// One is there, as it is now.
    Came(K),
    /// One is not there any more.
    Went(K),
    /// These are all that there are.
    Listed(HashSet<ObjectRef>),
}

fn told<K: Resource>(
    events: impl futures::Stream<Item = Heard<K>>,
) -> impl futures::Stream<Item = Delivery<K>> {
    let told = events.scan(HashSet::new(), |listed, heard| {
        let told = match heard {
            Heard::Forbidden => None,
            Heard::Event(Event::Init) => {
                listed.clear();
                None
            }
            Heard::Event(Event::InitApply(seen)) => {
                listed.insert(ObjectRef::of(seen.meta()));
                Some(Delivery::Came(seen))
            }
            Heard::Event(Event::Apply(seen)) => Some(Delivery::Came(seen)),
            Heard::Event(Event::Delete(seen)) => Some(Delivery::Went(seen)),
            Heard::Event(Event::InitDone) => Some(Delivery::Listed(std::mem::take(listed))),
        };
        ready(Some(told))
    });
    told.filter_map(ready)
}

fn names(listed: &HashSet<ObjectRef>) -> BTreeSet<String> {
    listed.iter().map(|object| object.name.to_string()).collect()
}

/// What a watch has told of an object.
enum CacheChange<V> {
    /// How it was, if it was known, and how it is.
    Now { before: Option<Arc<V>>, now: Arc<V> },
    /// It is not there any more.
    Gone,
}

/// Brings what a watch of `namespace`, or of all, delivers into a cache, and then tells of it.
async fn feed<K, V>(
    ctx: &Context,
    cache: &Cache<V>,
    namespace: Option<&str>,
    events: impl futures::Stream<Item = Heard<K>>,
    changed: impl Fn(ObjectRef, CacheChange<V>),
) where
    K: Resource,
    V: for<'a> From<&'a K>,
{
    let mut list = ListInProgress::default();
    futures::pin_mut!(events);
    while let Some(heard) = events.next().await {
        let Heard::Event(event) = heard else {
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

/// What the list in progress has brought.
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

    /// One namespace of several to which we have no right must not keep the others waiting. When the right
    /// comes, so does the list.
    fn give_up<V>(&mut self, cache: &Cache<V>, namespace: Option<&str>) {
        if namespace.is_some() && !std::mem::replace(&mut self.is_done, true) {
            cache.first_list_is_done();
        }
    }

    /// Brings the cache to what was listed; what had gone unnoticed.
    fn end<V>(&mut self, cache: &Cache<V>, namespace: Option<&str>) -> Vec<ObjectRef> {
        let gone = cache.retain(namespace, &std::mem::take(&mut self.listed));
        self.is_open = false;
        if !std::mem::replace(&mut self.is_done, true) {
            cache.first_list_is_done();
        }
        gone
    }
}

/// What a watch tells.
enum Heard<K> {
    Event(Event<K>),
    /// We have no right to it, at present.
    Forbidden,
}

/// All events, for ever: failures are logged and waited out.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    of: &'static str,
) -> impl futures::Stream<Item = Heard<K>> + Send
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
        let heard = follower.next().await;
        Some((heard, follower))
    })
}

struct Follower<K: Resource + 'static> {
    stream: BoxStream<'static, Result<Event<K>, watcher::Error>>,
    /// For a server that does not stream lists, and for what follows a failure.
    pages: (Api<K>, watcher::Config),
    reopening: Reopening,
    of: &'static str,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Heard<K> {
        loop {
            let error = match self.stream.next().await {
                Some(Ok(event)) => return Heard::Event(event),
                Some(Err(error)) => error,
                None => watcher::Error::NoResourceVersion, // kube's watcher does not end
            };
            let is_refused = is_refused(&error);
            let failure = RequestFailure::from(error);
            let delay = self.reopening.failed().max(failure.least_delay());
            tracing::warn!(of = self.of, %failure, ?delay, "a watch failed and is opened again");
            tokio::time::sleep(delay).await;
            if is_refused {
                let (api, config) = self.pages.clone();
                self.stream = kube::runtime::watcher(api, config).boxed();
            }
            if failure == RequestFailure::Forbidden {
                return Heard::Forbidden;
            }
        }
    }
}

/// Whether kube would ask for the same again and be refused again: a streamed list from a server that has none
/// (422), a resource version that is compacted (410) or of another time line (504).
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
