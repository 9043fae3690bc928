//! Requests as an administrator. They start no process, so polling is cheap.

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

/// The API server refused the request.
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

    /// The object at `path`, which must exist.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.get_opt(path)?.with_context(|| format!("there is no object at {path}"))
    }

    /// The object at `path`, if there is one.
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

    /// Server-side apply as the field manager `git`, which owns the manifests.
    pub(crate) fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        self.apply_as("git", path, object)
    }

    /// Server-side apply as another field manager, which takes over the fields that it names.
    pub(crate) fn apply_as(&self, manager: &str, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.request(Method::PATCH, &path, "application/apply-patch+yaml", object)
    }

    /// A JSON merge patch.
    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request(Method::PATCH, path, "application/merge-patch+json", patch)
    }

    /// A JSON merge patch as another field manager.
    pub(crate) fn merge_as(&self, manager: &str, path: &str, patch: &Value) -> Result<Value> {
        self.merge(&format!("{path}?fieldManager={manager}"), patch)
    }

    /// Deletes the object at `path`. `options` may be null.
    pub(crate) fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.request(Method::DELETE, path, "application/json", options)
    }

    /// Deletes an object that a policy keeps, with the annotation that allows it.
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

/// The status code with which the API server refused a request.
pub(crate) fn code(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<Refusal>().map(|refusal| refusal.code)
}
