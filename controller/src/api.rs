//! Requests to the API server that kube's typed client does not offer, and what failures mean.
//!
//! The API server's own texts are never kept: its refusal of a Secret can quote a value. A [`Failure`]
//! holds codes and field paths only.

use std::fmt;

use bulla_crds::conditions::Reason;
use bulla_crds::{SealedSecret, SealedSecretStatus, WipedSecret};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use crate::context::FIELD_MANAGER;

/// Asks for an answer without data.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The object is not there.
    NotFound,
    /// An object of this name is there.
    AlreadyExists,
    /// The object has changed since it was read.
    Conflict,
    /// No right to do it, or a quota is exceeded.
    Forbidden,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The object is immutable, or its type would change.
    Immutable,
    /// The API server refuses the object; the fields that it names.
    Invalid(Vec<String>),
    /// No answer, or none that helps; 0 when there was no answer.
    Unavailable(u16),
}

impl Failure {
    /// The reason for the conditions.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::NotFound | Self::AlreadyExists | Self::Conflict => Reason::Conflict,
            Self::Forbidden => Reason::Forbidden,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::Immutable => Reason::TargetImmutable,
            Self::Invalid(_) => Reason::TargetInvalid,
            Self::Unavailable(_) => Reason::Unavailable,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("the API server has no such object or kind"),
            Self::AlreadyExists => f.write_str("an object of this name is there"),
            Self::Conflict => f.write_str("somebody else wrote at the same moment"),
            Self::Forbidden => f.write_str(
                "the API server forbids it: the controller lacks a right, or a quota is exceeded",
            ),
            Self::NamespaceTerminating => f.write_str("the namespace is being deleted"),
            Self::Immutable => f.write_str("the Secret is immutable or has another type"),
            Self::Invalid(fields) => {
                write!(f, "the API server refuses the Secret at {}", fields.join(", "))
            }
            Self::Unavailable(0) => f.write_str("the API server does not answer"),
            Self::Unavailable(code) => write!(f, "the API server answers with code {code}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<kube::Error> for Failure {
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
            (403, _) => Self::Forbidden,
            (422, _) if has_cause("metadata.uid", "") => Self::Conflict,
            (422, _)
                if has_cause("type", "")
                    || has_cause("data", "FieldValueForbidden")
                    || has_cause("immutable", "FieldValueForbidden") =>
            {
                Self::Immutable
            }
            (422 | 400, _) => Self::Invalid(causes.map(|cause| cause.field.clone()).collect()),
            (code, _) => Self::Unavailable(code),
        }
    }
}

impl From<watcher::Error> for Failure {
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

/// Creates a Secret; the answer holds no data.
pub(crate) async fn create_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<PartialObjectMeta<Secret>, Failure> {
    let collection =
        kube::core::Request::new(Secret::url_path(&(), secret.metadata.namespace.as_deref()));
    let request = collection
        .create(&post_params(), body(secret)?)
        .map_err(|_| Failure::Invalid(Vec::new()))?;
    send(client, request).await
}

/// Replaces a Secret at the uid and resource version in its metadata; the answer holds no data.
pub(crate) async fn replace_secret(
    client: &Client,
    secret: &WipedSecret,
) -> Result<PartialObjectMeta<Secret>, Failure> {
    let collection =
        kube::core::Request::new(Secret::url_path(&(), secret.metadata.namespace.as_deref()));
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let request = collection
        .replace(name, &post_params(), body(secret)?)
        .map_err(|_| Failure::Invalid(Vec::new()))?;
    send(client, request).await
}

/// Writes a status at the resource version of `sealed_secret`; the answer holds no sealed data.
pub(crate) async fn patch_status(
    client: &Client,
    sealed_secret: &SealedSecret,
    status: &SealedSecretStatus,
) -> Result<(), Failure> {
    let collection =
        kube::core::Request::new(SealedSecret::url_path(&(), sealed_secret.namespace().as_deref()));
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": sealed_secret.resource_version()},
        "status": status,
    }));
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let request = collection
        .patch_subresource("status", &sealed_secret.name_any(), &params, &patch)
        .map_err(|_| Failure::Invalid(Vec::new()))?;
    send::<SealedSecret>(client, request).await.map(|_| ())
}

/// The metadata of a Secret, if it is there.
pub(crate) async fn secret_metadata(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<PartialObjectMeta<Secret>>, Failure> {
    Ok(Api::<Secret>::namespaced(client.clone(), namespace).get_metadata_opt(name).await?)
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

fn body(secret: &WipedSecret) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(&**secret).map_err(|_| Failure::Invalid(Vec::new()))
}

async fn send<K>(
    client: &Client,
    mut request: http::Request<Vec<u8>>,
) -> Result<PartialObjectMeta<K>, Failure> {
    request
        .headers_mut()
        .insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
    Ok(client.request(request).await?)
}
