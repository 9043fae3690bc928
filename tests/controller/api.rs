//! Requests as an administrator, without a process for each: polling should cost nothing.

use std::{fmt, path::Path};

use anyhow::{Context, Result};
use http::Method;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A client of one API server.
pub(crate) struct Api {
    client: Client,
    runtime: Runtime,
}

/// The API server said no.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Api {
    pub(crate) fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            Ok::<_, anyhow::Error>(Client::try_from(config)?)
        })?;
        Ok(Self { client, runtime })
    }

    /// What is at `path`, which must be there.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.get_opt(path)?.with_context(|| format!("there is nothing at {path}"))
    }

    /// What is at `path`, if anything.
    pub(crate) fn get_opt(&self, path: &str) -> Result<Option<Value>> {
        match self.request(Method::GET, path, "application/json", &Value::Null) {
            Ok(object) => Ok(Some(object)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Plain text, such as `/metrics`.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let request = http::Request::get(path).body(Vec::new())?;
        Ok(self.runtime.block_on(self.client.request_text(request))?)
    }

    /// Creates an object in the collection at `path`.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.request(Method::POST, path, "application/json", object)
    }

    /// Server-side apply, as the user who owns the manifests.
    pub(crate) fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        self.apply_as("git", path, object)
    }

    /// Server-side apply, as another manager, taking over what it names.
    pub(crate) fn apply_as(&self, manager: &str, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.request(Method::PATCH, &path, "application/apply-patch+yaml", object)
    }

    /// A JSON merge patch.
    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request(Method::PATCH, path, "application/merge-patch+json", patch)
    }

    /// A JSON merge patch under another manager's name.
    pub(crate) fn merge_as(&self, manager: &str, path: &str, patch: &Value) -> Result<Value> {
        self.merge(&format!("{path}?fieldManager={manager}"), patch)
    }

    /// Deletes what is at `path`; `options` may be null.
    pub(crate) fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.request(Method::DELETE, path, "application/json", options)
    }

    /// Deletes what a policy keeps, as somebody who means it.
    pub(crate) fn delete_kept(&self, path: &str) -> Result<Value> {
        let allow = json!({"metadata": {"annotations": {"bulla.dev/allow-delete": "true"}}});
        self.merge(path, &allow)?;
        self.delete(path, &Value::Null)
    }

    fn request(&self, method: Method, path: &str, content: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body)?;
        self.runtime.block_on(self.client.request(request)).map_err(|error| match error {
            kube::Error::Api(status) => {
                Refusal { code: status.code, message: status.message.clone() }.into()
            }
            error => error.into(),
        })
    }
}

/// The status code with which the API server refused.
pub(crate) fn code(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.code)
}
