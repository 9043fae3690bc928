//! The bare client: HTTP/1.1 over TLS, without a pool or retries, and it parses only what is needed.
//!
//! The controller is compared with it, so it must be as cheap as possible.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bulla_tests::Kubectl;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
/// Requests an answer without data, as the controller does.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// How many bytes of a refusal are shown.
const SHOWN_BYTES: usize = 500;

/// A user of an API server.
#[derive(Clone)]
pub(crate) struct Client {
    tls: TlsConnector,
    address: SocketAddr,
    authorization: HeaderValue,
}

/// One connection, for one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<String>,
    address: SocketAddr,
    authorization: HeaderValue,
}

/// The metadata of an object in an API server's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

/// A page of a list. Its items may be left unparsed.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) metadata: PageMetadata,
    #[serde(default = "Vec::new")]
    pub(crate) items: Vec<T>,
}

/// The metadata of a page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMetadata {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl Client {
    /// Reads the user and the API server from a kubeconfig that the harness wrote.
    pub(crate) fn new(kubectl: &Kubectl) -> Result<Self> {
        let kubeconfig: Value = serde_json::from_slice(&fs::read(kubectl.kubeconfig())?)?;
        let text = |pointer: &str| {
            let text = kubeconfig.pointer(pointer).and_then(Value::as_str);
            text.with_context(|| format!("the kubeconfig has no {pointer}"))
        };
        let mut roots = RootCertStore::empty();
        let authority = text("/clusters/0/cluster/certificate-authority")?;
        for certificate in CertificateDer::pem_file_iter(authority)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = text("/clusters/0/cluster/server")?;
        let address = server.strip_prefix("https://").context("the API server speaks no TLS")?;
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", text("/users/0/user/token")?))?;
        authorization.set_sensitive(true);
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            address: address.parse()?,
            authorization,
        })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let server = ServerName::from(self.address.ip());
        let stream = self.tls.connect(server, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with its sender.
        tokio::spawn(connection);
        let authorization = self.authorization.clone();
        Ok(Connection { sender, address: self.address, authorization })
    }

    /// Runs `work` on this many connections at the same time, which share `count` turns. Returns the time of
    /// the work, without the time to open the connections.
    pub(crate) async fn in_parallel<F>(
        &self,
        connections: u16,
        count: usize,
        work: impl Fn(Connection, Turns) -> F,
    ) -> Result<Duration>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(self.connect().await?);
        }
        let turns = Turns { taken: Arc::default(), count };
        let start = Instant::now();
        let mut tasks: JoinSet<_> =
            open.into_iter().map(|connection| work(connection, turns.clone())).collect();
        while let Some(outcome) = tasks.join_next().await {
            outcome.context("a client's task panicked")??;
        }
        Ok(start.elapsed())
    }
}

impl Connection {
    /// Parses JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        Ok(serde_json::from_slice(&self.read(path).await?)?)
    }

    /// Accepts any content.
    pub(crate) async fn text(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8(self.read(path).await?)?)
    }

    /// Reads the first or the next page of a list.
    pub(crate) async fn page<T: DeserializeOwned>(
        &mut self,
        path: &str,
        limit: u32,
        after: Option<&PageMetadata>,
    ) -> Result<Page<T>> {
        let next = after.and_then(|page| page.next.as_deref());
        let next = next.map(|token| format!("&continue={token}")).unwrap_or_default();
        let separator = if path.contains('?') { '&' } else { '?' };
        self.get(&format!("{path}{separator}limit={limit}{next}")).await
    }

    /// Creates an object. `path` is the collection's.
    pub(crate) async fn create(&mut self, path: &str, body: String) -> Result<Metadata> {
        let request = self.request(Method::POST, path, METADATA_ONLY).header(CONTENT_TYPE, JSON);
        self.written(request.body(body)?).await
    }

    /// Changes an object by a merge patch.
    pub(crate) async fn merge(&mut self, path: &str, patch: String) -> Result<Metadata> {
        let request = self.request(Method::PATCH, path, METADATA_ONLY);
        self.written(request.header(CONTENT_TYPE, MERGE_PATCH).body(patch)?).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&mut self, path: &str) -> Result<()> {
        let request = self.request(Method::DELETE, path, METADATA_ONLY).body(String::new())?;
        self.send(request).await?.into_body().collect().await?;
        Ok(())
    }

    /// Starts a watch. `path` has its parameters. `content` may be metadata only.
    pub(crate) async fn watch(mut self, path: &str, content: Content) -> Result<Watch> {
        let accept = match content {
            Content::Whole => JSON,
            Content::Metadata => METADATA_ONLY,
        };
        let request = self.request(Method::GET, path, accept).body(String::new())?;
        let body = self.send(request).await?.into_body();
        Ok(Watch { _connection: self, body, read: Vec::new() })
    }

    async fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        let request = self.request(Method::GET, path, JSON).body(String::new())?;
        let response = self.send(request).await?;
        Ok(response.into_body().collect().await?.to_bytes().into())
    }

    async fn written(&mut self, request: Request<String>) -> Result<Metadata> {
        #[derive(Deserialize)]
        struct Written {
            metadata: Metadata,
        }
        let body = self.send(request).await?.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice::<Written>(&body)?.metadata)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
    ) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, accept)
    }

    /// Sends a request. Any answer but a success is an error, because a floor must not retry.
    async fn send(&mut self, request: Request<String>) -> Result<Response<Incoming>> {
        let what = format!("{} {}", request.method(), request.uri().path());
        self.sender.ready().await.with_context(|| what.clone())?;
        let response = self.sender.send_request(request).await.with_context(|| what.clone())?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        bail!("{what}: {status}: {}", String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]))
    }
}

/// How much of each object a watch shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whole objects.
    Whole,
    /// Only metadata.
    Metadata,
}

/// A stream of events.
pub(crate) struct Watch {
    // The connection's task ends when this is dropped.
    _connection: Connection,
    body: Incoming,
    read: Vec<u8>,
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        let end = loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            let chunk = self.chunk().await?;
            self.read.extend_from_slice(&chunk);
        };
        let line: Vec<u8> = self.read.drain(..=end).collect();
        let event: Value = serde_json::from_slice(&line)?;
        ensure!(event["type"] != "ERROR", "a watch failed: {}", event["object"]["reason"]);
        Ok(event)
    }

    /// Reads all events without parsing them, until the API server or this process ends.
    pub(crate) async fn discard(mut self) {
        while self.chunk().await.is_ok() {}
    }

    async fn chunk(&mut self) -> Result<Vec<u8>> {
        let frame = self.body.frame().await.context("a watch ended")??;
        Ok(frame.into_data().map(Into::into).unwrap_or_default())
    }
}

/// Turns that several tasks share. Each turn is taken once.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Turns {
    /// The next turn, counted from 0.
    pub(crate) fn next(&self) -> Option<usize> {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        (turn < self.count).then_some(turn)
    }
}

impl PageMetadata {
    /// Whether this was the last page.
    pub(crate) fn is_last(&self) -> bool {
        self.next.as_deref().unwrap_or_default().is_empty()
    }
}
