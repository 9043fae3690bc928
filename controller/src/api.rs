//! Requests that kube's typed client does not offer, and what failed requests mean.
//!
//! The API server's own texts are never kept, because its refusal of a Secret can quote a value. A
//! [`RequestFailure`] holds codes and field paths only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bulla_crds::conditions::Reason;
use bulla_crds::{Rekey, SealedSecret, SealingKey, WipedSecret, proxy};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
    VersionMatch,
};
use kube::client::Body;
use kube::config::Kubeconfig;
use kube::core::{ObjectList, ObjectMeta, PartialObjectMeta, Status};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::field_manager::FIELD_MANAGER;
use crate::paging::Paging;
use crate::state::object_ref::ObjectRef;
use crate::state::room::{LARGE_BYTES, Occupied, Room};

/// Asks for an answer that holds metadata only.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestFailure {
    /// The object does not exist.
    NotFound,
    /// An object of this name already exists.
    AlreadyExists,
    /// The object changed since it was read.
    Conflict,
    /// A right is missing, a quota is exceeded, or a policy denies it. Holds what denies it, if the answer names it.
    Forbidden(Option<String>),
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The object is immutable, or its type would have to change.
    Immutable,
    /// The API server rejects the object. Holds the paths of the fields that it names.
    Invalid(Vec<String>),
    /// The object is larger than the API server or its store accepts.
    TooLarge,
    /// The answer is not what was asked for, or not in a form that this version can read.
    Unreadable,
    /// The API server is overloaded. Holds how long to wait before the next request.
    Busy(Duration),
    /// The API server did not answer (code 0), or answered with this code.
    Unavailable(u16),
}

impl RequestFailure {
    /// The reason for the conditions.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NotFound | Self::AlreadyExists | Self::Conflict => Reason::Conflict,
            Self::Forbidden(_) => Reason::Forbidden,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::Immutable => Reason::TargetImmutable,
            Self::Invalid(_) | Self::TooLarge => Reason::TargetInvalid,
            Self::Unreadable | Self::Busy(_) | Self::Unavailable(_) => Reason::Unavailable,
        }
    }

    /// The shortest time to wait before the next attempt.
    pub(crate) fn least_delay(&self) -> Duration {
        match self {
            Self::Busy(pause) => *pause,
            _ => Duration::ZERO,
        }
    }

    /// The meaning of an answer if only its code is known.
    fn from_code(code: u16) -> Self {
        match code {
            403 => Self::Forbidden(None),
            413 => Self::TooLarge,
            429 => Self::Busy(SHORTEST_PAUSE),
            code => Self::Unavailable(code),
        }
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("the API server has no such object or kind"),
            Self::AlreadyExists => f.write_str("an object of this name already exists"),
            Self::Conflict => f.write_str("another client changed the object at the same time"),
            Self::Forbidden(None) => f.write_str(
                "the API server denies it: a right is missing, a quota is exceeded, or a policy rejects it",
            ),
            Self::Forbidden(Some(by)) => write!(f, "the API server denies it because of {by}"),
            Self::NamespaceTerminating => f.write_str("the namespace is being deleted"),
            Self::Immutable => f.write_str("the Secret is immutable or has another type"),
            Self::Invalid(fields) if fields.is_empty() => {
                f.write_str("the API server rejects the Secret")
            }
            Self::Invalid(fields) => {
                write!(f, "the API server rejects the Secret at {}", fields.join(", "))
            }
            Self::TooLarge => f.write_str("the object is too large for the API server; split it"),
            Self::Unreadable => f.write_str("could not read the API server's answer"),
            Self::Busy(_) => f.write_str("the API server is overloaded"),
            Self::Unavailable(0) => f.write_str("the API server does not answer"),
            Self::Unavailable(code) => write!(f, "the API server answered with code {code}"),
        }
    }
}

impl std::error::Error for RequestFailure {}

impl From<kube::Error> for RequestFailure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Unavailable(0) };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let has_cause = |field: &str, reason: &str| {
            causes
                .clone()
                .any(|cause| cause.field == field && (reason.is_empty() || cause.reason == reason))
        };
        match (status.code, status.reason.as_str()) {
            (404, _) => Self::NotFound,
            (409, "AlreadyExists") => Self::AlreadyExists,
            (409, _) => Self::Conflict,
            (403, _) if causes.clone().any(|cause| cause.reason == "NamespaceTerminating") => {
                Self::NamespaceTerminating
            }
            (403, _) => Self::Forbidden(denier(&status.message)),
            (422, _) if has_cause("metadata.uid", "") => Self::Conflict,
            (422, _)
                if has_cause("type", "")
                    || has_cause("data", "FieldValueForbidden")
                    || has_cause("immutable", "FieldValueForbidden") =>
            {
                Self::Immutable
            }
            (422 | 400, _) => {
                let fields = causes.map(|cause| cause.field.clone());
                let fields: Vec<_> = fields.filter(|field| !field.is_empty()).collect();
                // The API server's own checks name a field. Policies and webhooks need not.
                if fields.is_empty() {
                    Self::Forbidden(denier(&status.message))
                } else {
                    Self::Invalid(fields)
                }
            }
            (code, _) => Self::from_code(code),
        }
    }
}

/// The policy, webhook or quota that an answer names as the one that denies a request. Nothing else of the answer is kept,
/// because it can quote a value, and the name only if it is a DNS name.
fn denier(message: &str) -> Option<String> {
    const DENIERS: [(&str, &str, char); 3] = [
        ("ValidatingAdmissionPolicy '", "the ValidatingAdmissionPolicy", '\''),
        ("admission webhook \"", "the admission webhook", '"'),
        ("exceeded quota: ", "the ResourceQuota", ','),
    ];
    DENIERS.iter().find_map(|(before, kind, after)| {
        let (_, rest) = message.split_once(before)?;
        let (name, _) = rest.split_once(*after)?;
        bulla_sealing::is_dns_subdomain(name).then(|| format!("{kind} {name}"))
    })
}

impl From<watcher::Error> for RequestFailure {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
            watcher::Error::NoResourceVersion => Self::Unavailable(0),
        }
    }
}

/// The shortest and longest pause that is accepted from an overloaded API server.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// How long the API server asks to wait, from `Retry-After`.
fn pause(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

/// The most objects in a page of a list: 500 hybrid SealedSecrets take 25 MiB while they are parsed.
pub(crate) const PAGE_SIZE: u32 = 100;

/// How long the API server may take to answer. A lost request is sent again.
const DEADLINE: Duration = Duration::from_secs(20);

/// A client for the cluster that this process runs in, or for the cluster of the kubeconfig.
pub(crate) async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await?;
    refuse_unverified(&config)?;
    config.proxy_url = proxy_of(&config)?;
    // kube's retries take many seconds, and would keep a worker from other objects.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config)?;
    let send = tower::service_fn(move |request| {
        let client = client.clone();
        async move { client.send(request).await }
    });
    Ok(Client::new(Paging::new(send, PAGE_SIZE), namespace))
}

/// The proxy on the way to the API server of a kubeconfig. Inside of a cluster no proxy is used.
fn proxy_of(config: &kube::Config) -> anyhow::Result<Option<http::Uri>> {
    let Ok(kubeconfig) = Kubeconfig::read() else { return Ok(None) };
    let current = kubeconfig.current_context.unwrap_or_default();
    let context = kubeconfig.contexts.into_iter().find(|context| context.name == current);
    let name = context.and_then(|context| context.context).map(|context| context.cluster);
    let cluster =
        kubeconfig.clusters.into_iter().find(|cluster| Some(&cluster.name) == name.as_ref());
    let declared =
        cluster.and_then(|cluster| cluster.cluster).and_then(|cluster| cluster.proxy_url);
    let server = &config.cluster_url;
    let (host, port) = (server.host().unwrap_or_default(), server.port_u16().unwrap_or(443));
    let url = proxy::url(declared.as_deref(), host, port, |name| std::env::var(name).ok())?;
    // The parser's error would not repeat the address, but says nothing either.
    url.map(|url| url.parse().map_err(|_| anyhow::anyhow!("the proxy's address is not valid")))
        .transpose()
}

/// Refuses a server that anyone on the network could be. Plain HTTP is allowed only to this machine, as `kubectl proxy`
/// serves it.
fn refuse_unverified(config: &kube::Config) -> anyhow::Result<()> {
    let host = config.cluster_url.host().unwrap_or_default();
    let is_here = host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_https = config.cluster_url.scheme_str() == Some("https");
    anyhow::ensure!(
        !config.accept_invalid_certs && (is_https || is_here),
        "the connection to the API server is not verified: use https and certificate-authority-data"
    );
    Ok(())
}

/// A request through kube's typed client, with a deadline. The client itself would wait forever.
pub(crate) async fn within<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, RequestFailure> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestFailure::Unavailable(0)),
    }
}

/// Creates a Secret. The answer holds no data.
pub(crate) async fn create_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<PartialObjectMeta<Secret>, RequestFailure> {
    let request = secrets(secret.metadata.namespace.as_deref()).create(&post_params(), Vec::new());
    send(client, request, Some(body(secret))).await
}

/// Checks with a dry run whether the API server would accept a Secret in place of an existing one of this name. Its own
/// checks, policies and webhooks come first: only a Secret that passes all of them fails because the name is taken.
pub(crate) async fn try_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<(), RequestFailure> {
    let params = PostParams { dry_run: true, ..post_params() };
    let request = secrets(secret.metadata.namespace.as_deref()).create(&params, Vec::new());
    match send::<IgnoredAny>(client, request, Some(body(secret))).await {
        Ok(_) | Err(RequestFailure::AlreadyExists) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Replaces a Secret at the uid and resource version in its metadata. The answer holds no data.
pub(crate) async fn replace_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<PartialObjectMeta<Secret>, RequestFailure> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let request =
        secrets(secret.metadata.namespace.as_deref()).replace(name, &post_params(), Vec::new());
    send(client, request, Some(body(secret))).await
}

/// Applies `secret` to an existing Secret at the uid and resource version in its metadata. The answer holds no
/// data.
pub(crate) async fn merge_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<PartialObjectMeta<Secret>, RequestFailure> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let patch: Patch<&serde_json::Value> = Patch::Apply(&serde_json::Value::Null);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let request = secrets(secret.metadata.namespace.as_deref()).patch(name, &params, &patch);
    send(client, request, Some(body(secret))).await
}

/// Changes the metadata of a Secret at the resource version in `patch`. The answer holds no data.
pub(crate) async fn patch_secret(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &serde_json::Value,
) -> Result<PartialObjectMeta<Secret>, RequestFailure> {
    let request = secrets(Some(namespace)).patch(name, &patch_params(), &Patch::Merge(patch));
    send(client, request, None).await
}

/// Deletes a Secret if its uid and resource version are still those of `found`.
pub(crate) async fn delete_secret(
    client: &Client,
    found: &ObjectMeta,
) -> Result<(), RequestFailure> {
    let name = found.name.as_deref().unwrap_or_default();
    let preconditions =
        Preconditions { uid: found.uid.clone(), resource_version: found.resource_version.clone() };
    let params = DeleteParams::default().preconditions(preconditions);
    let request = secrets(found.namespace.as_deref()).delete(name, &params);
    send::<IgnoredAny>(client, request, None).await.map(|_| ())
}

/// Writes a status at the resource version in `judged`. Returns the new resource version.
pub(crate) async fn patch_status<K>(
    client: &Client,
    judged: &ObjectMeta,
    status: &impl Serialize,
) -> Result<Option<String>, RequestFailure>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": judged.resource_version},
        "status": status,
    }));
    let name = judged.name.as_deref().unwrap_or_default();
    let request = collection::<K>(judged.namespace.as_deref()).patch_subresource(
        "status",
        name,
        &patch_params(),
        &patch,
    );
    let written: PartialObjectMeta<K> = send(client, request, None).await?;
    Ok(written.metadata.resource_version)
}

/// A SealedSecret, if it exists. With `not_older_than` it comes from the API server's cache, at least as new as
/// that resource version; this costs the API server far less.
pub(crate) async fn sealed_secret(
    client: &Client,
    object: &ObjectRef,
    not_older_than: Option<&str>,
    room: &Room,
) -> Result<Option<(SealedSecret, Occupied)>, RequestFailure> {
    let params = GetParams { resource_version: not_older_than.map(str::to_owned) };
    let request = collection::<SealedSecret>(Some(&object.namespace)).get(&object.name, &params);
    let request = request.map_err(|_| RequestFailure::Invalid(Vec::new()))?;
    let mut occupied = Occupied::default();
    let answer = answer_within(client, request.map(Bytes::from), Some((room, &mut occupied))).await;
    Ok(if_there(answer)?.map(|sealed_secret| (sealed_secret, occupied)))
}

/// A Rekey, if it exists, from the API server's cache, at least as new as a resource version. The request is a list
/// of one object, because the controller has no right to `get` Rekeys: the watch does not need it.
pub(crate) async fn rekey(
    client: &Client,
    object: &ObjectRef,
    not_older_than: &str,
) -> Result<Option<Rekey>, RequestFailure> {
    let params = ListParams::default()
        .fields(&format!("metadata.name={}", object.name))
        .at(not_older_than)
        .matching(VersionMatch::NotOlderThan);
    let request = collection::<Rekey>(Some(&object.namespace)).list(&params);
    let list: ObjectList<Rekey> = whole(client, request).await?;
    Ok(list.items.into_iter().next())
}

/// Deletes a Rekey if it still has this uid.
pub(crate) async fn delete_rekey(
    client: &Client,
    object: &ObjectRef,
    uid: &str,
) -> Result<(), RequestFailure> {
    let preconditions = Preconditions { uid: Some(uid.into()), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    let request = collection::<Rekey>(Some(&object.namespace)).delete(&object.name, &params);
    send::<IgnoredAny>(client, request, None).await.map(|_| ())
}

/// Creates a Lease with a PUT: RBAC can limit the right to create to one name only if the request names it. An existing
/// Lease stays, because a PUT without a resource version does not replace one.
pub(crate) async fn create_lease(api: &Api<Lease>, lease: &Lease) -> Result<Lease, RequestFailure> {
    let name = lease.metadata.name.as_deref().unwrap_or_default();
    match within(api.replace(name, &post_params(), lease)).await {
        Err(RequestFailure::Invalid(fields)) if fields == ["metadata.resourceVersion"] => {
            Err(RequestFailure::AlreadyExists)
        }
        created => created,
    }
}

/// The metadata of a Secret, if it exists.
pub(crate) async fn secret_metadata(
    client: &Client,
    object: &ObjectRef,
) -> Result<Option<PartialObjectMeta<Secret>>, RequestFailure> {
    let request = secrets(Some(&object.namespace)).get(&object.name, &GetParams::default());
    if_there(send(client, request, None).await)
}

/// The metadata of a Secret and the names of its keys, if it exists. No request returns the names alone, so the
/// values are skipped where the answer is parsed.
pub(crate) async fn secret_keys(
    client: &Client,
    object: &ObjectRef,
) -> Result<Option<(PartialObjectMeta<Secret>, BTreeSet<String>)>, RequestFailure> {
    #[derive(Deserialize)]
    struct SecretKeys {
        metadata: ObjectMeta,
        #[serde(default)]
        data: Option<BTreeMap<String, IgnoredAny>>,
    }
    let request = secrets(Some(&object.namespace)).get(&object.name, &GetParams::default());
    let keys: Option<SecretKeys> = if_there(whole(client, request).await)?;
    Ok(keys.map(|SecretKeys { metadata, data }| {
        let found = PartialObjectMeta { metadata, ..PartialObjectMeta::default() };
        (found, data.unwrap_or_default().into_keys().collect())
    }))
}

fn if_there<T>(answer: Result<T, RequestFailure>) -> Result<Option<T>, RequestFailure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(RequestFailure::NotFound) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn secrets(namespace: Option<&str>) -> kube::core::Request {
    collection::<Secret>(namespace)
}

fn collection<K: Resource<DynamicType = ()>>(namespace: Option<&str>) -> kube::core::Request {
    kube::core::Request::new(K::url_path(&(), namespace))
}

/// The SealingKeys in `namespace`.
pub(crate) fn sealing_keys(client: &Client, namespace: &str) -> Api<SealingKey> {
    Api::namespaced(client.clone(), namespace)
}

/// The parameters of a merge patch by the controller.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// The parameters of a create or replace by the controller.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

/// The body of a request, made without a copy.
fn body(secret: &WipedSecret) -> Bytes {
    Bytes::from_owner(secret.to_json())
}

type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Sends a request that asks for an answer without data.
async fn send<T: DeserializeOwned>(
    client: &Client,
    request: Built,
    body: Option<Bytes>,
) -> Result<T, RequestFailure> {
    let mut request = request.map_err(|_| RequestFailure::Invalid(Vec::new()))?;
    request
        .headers_mut()
        .insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
    answer(client, request.map(|built| body.unwrap_or_else(|| built.into()))).await
}

/// Sends a request whose answer is the whole object.
async fn whole<T: DeserializeOwned>(client: &Client, request: Built) -> Result<T, RequestFailure> {
    let request = request.map_err(|_| RequestFailure::Invalid(Vec::new()))?;
    answer(client, request.map(Bytes::from)).await
}

/// Sends a request. kube's own methods would copy the answer, and log it when it is not JSON.
async fn answer<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Bytes>,
) -> Result<T, RequestFailure> {
    answer_within(client, request, None).await
}

/// The same. A large answer waits for room before it is read to its end.
async fn answer_within<T: DeserializeOwned>(
    client: &Client,
    request: http::Request<Bytes>,
    mut room: Option<(&Room, &mut Occupied)>,
) -> Result<T, RequestFailure> {
    let read = async {
        let response = client.send(request.map(Body::from)).await?;
        let (code, pause) = (response.status(), pause(response.headers()));
        let (mut body, mut bytes) = (response.into_body(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            bytes.extend_from_slice(&data);
            if bytes.len() > LARGE_BYTES
                && let Some((room, occupied)) = room.take()
            {
                *occupied = room.occupy().await;
            }
        }
        Ok::<_, kube::Error>((code, pause, bytes.freeze()))
    };
    let (code, pause, bytes) = within(read).await?;
    // `Retry-After` counts only for an overloaded server. Other errors are told apart by their cause.
    let is_busy = code.as_u16() == 429 || code.is_server_error();
    if code.is_success() {
        return serde_json::from_slice(&bytes).map_err(|_| RequestFailure::Unreadable);
    }
    if let Some(pause) = pause.filter(|_| is_busy) {
        return Err(RequestFailure::Busy(pause));
    }
    Err(match serde_json::from_slice::<Status>(&bytes) {
        Ok(status) if status.code == code.as_u16() => kube::Error::Api(status.boxed()).into(),
        _ => RequestFailure::from_code(code.as_u16()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: u16, message: &str, fields: &[&str]) -> RequestFailure {
        let causes: Vec<_> = fields.iter().map(|field| json!({"field": field})).collect();
        let status = json!({
            "status": "Failure", "code": code, "message": message, "reason": "",
            "details": {"causes": causes},
        });
        kube::Error::Api(serde_json::from_value::<Status>(status).unwrap().boxed()).into()
    }

    #[test]
    fn a_denial_by_a_policy_names_it_and_nothing_else() {
        let policy = "secrets \"db\" is forbidden: ValidatingAdmissionPolicy 'no-plain.example.com' with binding 'b' denied request: hunter2";
        let webhook = "admission webhook \"validate.kyverno.svc-fail\" denied the request: hunter2";
        let quota =
            "secrets \"db\" is forbidden: exceeded quota: team-a, requested: count/secrets=1";
        for (code, message, by) in [
            (422, policy, Some("the ValidatingAdmissionPolicy no-plain.example.com")),
            (403, policy, Some("the ValidatingAdmissionPolicy no-plain.example.com")),
            (400, webhook, Some("the admission webhook validate.kyverno.svc-fail")),
            (403, quota, Some("the ResourceQuota team-a")),
            (400, "denied the request: hunter2", None),
            (403, "admission webhook \"not a name\" denied the request", None),
        ] {
            let denied = failure(code, message, &[]);
            assert_eq!(
                denied,
                RequestFailure::Forbidden(by.map(str::to_owned)),
                "{code} {message}"
            );
            assert!(!denied.to_string().contains("hunter2"));
        }
        // The API server's own checks name a field.
        let invalid = failure(422, policy, &["", "metadata.labels"]);
        assert_eq!(invalid, RequestFailure::Invalid(vec!["metadata.labels".into()]));
    }
}
