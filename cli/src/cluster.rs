//! A cluster, asked through its API server.
//!
//! The only module that talks to an API server, and only when a command cannot work offline. This file connects and
//! sends requests; its children know the objects. Errors are fixed phrases: a client library's text can repeat a
//! kubeconfig or a credential plugin's output, and an API server's text can repeat what it received.

pub(crate) mod identity_secrets;
pub(crate) mod kubeconfig;
pub(crate) mod rekeys;
pub(crate) mod sealed_secrets;
pub(crate) mod sealing_keys;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use tokio::runtime::Runtime;

use self::kubeconfig::ClusterFlags;
pub(crate) use self::sealing_keys::{ClusterKey, Possession, SealingKeys};
use crate::report::failure::Failure;

/// How long a cluster may take to answer, credential plugins included.
const DEADLINE: Duration = Duration::from_secs(20);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The field manager of all writes. Flux strips managers whose name begins with `kubectl`.
const MANAGER: &str = "bulla";

/// A connection to a cluster whose API server's certificate is verified.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    pub(crate) context: String,
    /// The API server, as the kubeconfig names it.
    pub(crate) server: String,
    /// The namespace in which the controller keeps its keys.
    pub(crate) controller_namespace: String,
}

/// Why a cluster refused a request.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The user lacks the right, or a policy of the cluster forbids it.
    Forbidden,
    /// The object, or its kind, does not exist.
    NotFound,
    /// Someone else was faster: the object already exists, or has changed.
    Conflict,
    /// The object breaks a rule of its kind or of a policy.
    Invalid,
    /// Trouble that has nothing to do with the request.
    Other(Failure),
}

impl ApiError {
    /// A message for the user: `what` could not be done, and `right` says who may do it.
    pub(crate) fn of(self, what: impl fmt::Display, right: impl fmt::Display) -> Failure {
        match self {
            Self::Forbidden => Failure::unable(anyhow!("you may not {what}")).hint(right),
            Self::NotFound => {
                Failure::unable(anyhow!("cannot {what}: the cluster has no such object or kind"))
                    .hint("check that this is the right context, and that Bulla is installed there")
            }
            Self::Conflict => {
                Failure::unable(anyhow!("cannot {what}: someone else changed it at the same time"))
                    .hint("check it with bulla keys list, then try again")
            }
            Self::Invalid => Failure::unable(anyhow!(
                "the cluster refused to {what}: a validation rule or policy forbids it"
            ))
            .hint(right),
            Self::Other(failure) => failure,
        }
    }
}

impl Cluster {
    pub(crate) fn connect(flags: &ClusterFlags) -> Result<Self, Failure> {
        let (kubeconfig, context) = kubeconfig::read(flags)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let config = async {
            let mut config = kubeconfig::config(kubeconfig, flags).await?;
            config.connect_timeout = Some(CONNECT_TIMEOUT);
            config.read_timeout = Some(DEADLINE);
            let server = config.cluster_url.authority().map(ToString::to_string);
            let server = server.unwrap_or_default();
            let client = Client::try_from(config).map_err(|error| failure(&error, &server))?;
            Ok::<_, Failure>((client, server))
        };
        let (client, server) = runtime.block_on(in_time(config))?;
        let controller_namespace = flags.kubeconfig.controller_namespace.clone();
        Ok(Self { runtime, client, context, server, controller_namespace })
    }

    /// Waits for the answer to a request, for a limited time.
    fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
        self.runtime.block_on(self.answer(request))
    }

    /// The answer to a request, or why there is none. Waits for a limited time.
    async fn answer<T>(
        &self,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let request = async {
            request.await.map_err(|error| match error {
                kube::Error::Api(status) if status.code == 403 => ApiError::Forbidden,
                kube::Error::Api(status) if status.code == 404 => ApiError::NotFound,
                kube::Error::Api(status) if status.code == 409 => ApiError::Conflict,
                kube::Error::Api(status) if status.code == 422 => ApiError::Invalid,
                error => ApiError::Other(failure(&error, &self.server)),
            })
        };
        in_time(request).await
    }

    /// The objects of a kind in the controller's namespace.
    fn own<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.controller_namespace)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

async fn in_time<T, E: From<Failure>>(request: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    tokio::time::timeout(DEADLINE, request).await.unwrap_or_else(|_| {
        let seconds = DEADLINE.as_secs();
        let failure =
            Failure::unable(anyhow!("the cluster did not answer within {seconds} seconds"))
                .hint("check that this is the right context, and that you can reach it from here");
        Err(failure.into())
    })
}

/// Trouble that has nothing to do with the request.
fn failure(error: &kube::Error, server: &str) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            Failure::unable(anyhow!("{server} does not accept the kubeconfig's credentials"))
        }
        kube::Error::Api(status) => {
            Failure::unable(anyhow!("{server} answered with status {}", status.code))
        }
        kube::Error::Auth(_) => {
            Failure::unable(anyhow!("the kubeconfig's credential plugin or token file failed"))
                .hint("try kubectl with the same context")
        }
        kube::Error::SerdeError(_) => {
            Failure::unable(anyhow!("{server} sent an unexpected answer"))
                .hint("the cluster may run another version of Bulla")
        }
        error => Failure::unable(anyhow!("cannot reach {server}: {}", innermost(error)))
            .hint("check that this is the right context, and that you can reach it from here"),
    }
}

/// The last cause, which tells what happened to the connection.
fn innermost(error: &kube::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
