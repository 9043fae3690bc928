//! A proxy between one client and the API server. It injects the faults that a test asks for.
//!
//! Without rules it changes nothing: it streams bodies, and the API server checks the client's own token. Every text
//! that the proxy makes up contains [`INJECTED`].

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow};
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    header,
    http::{request, response},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{oneshot, watch},
};

use crate::{ControlPlane, Kubectl};

/// Part of every text that the proxy makes up. Some texts of the API server quote a Secret's value in the same way, so
/// the controller must never repeat it.
pub const INJECTED: &str = "INJECTED-by-the-proxy";

/// A proxy of one API server, on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    folder: PathBuf,
    relay: Arc<Relay>,
    /// Taken out when the proxy is dropped.
    runtime: Option<Runtime>,
}

/// A request that the proxy has received.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it arrived.
    pub at: Instant,
    /// The text that patterns match, such as `PUT /api/v1/namespaces/prod/secrets/db`.
    pub line: String,
    /// The query, after the `?`.
    pub query: String,
    /// The `Accept` header.
    pub accept: String,
    /// The status code of the answer, if there was one.
    pub code: Option<u16>,
}

/// Which requests get a fault.
#[derive(Clone, Debug)]
pub struct Rule {
    pattern: String,
    faults: Vec<Fault>,
    times: usize,
    chance: f64,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The API server refuses with this code and does nothing.
    Status(u16),
    /// The API server asks the client to retry after this many seconds.
    TooMany(u64),
    /// An answer with this code that does not come from the API server, but from a load balancer, say.
    Garbage(u16),
    /// The API server claims to be this minor version of Kubernetes 1.
    Version(u32),
    /// The request takes longer.
    Delay(Duration),
    /// The request waits until the rule ends. Then the other rules apply to it.
    Hold,
    /// There is no answer, and the connection stays open until the end of the rule.
    Hang,
    /// The connection is cut before the API server receives the request.
    Cut,
    /// The API server handles the request, and then the connection is cut.
    LoseAnswer,
    /// The client gets half of the answer, or half of a watch's first events, as if that were all of it.
    Truncate,
    /// The client gets half of the answer, or half of a watch's first events. Then the connection is cut.
    CutHalfway,
    /// The watch ends after this many events.
    EndAfter(usize, End),
}

/// How a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Normally, as the API server ends it after a while.
    Close,
    /// The connection is cut.
    Cut,
    /// With the event that reports its resource version as compacted.
    Expire,
}

impl Proxy {
    /// Starts a proxy in front of `plane`. The proxy may outlive it: its client then finds no API server.
    ///
    /// # Errors
    ///
    /// When no port is free or the runtime does not start.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut kubeconfig = read_kubeconfig(plane.admin())?;
        // The client authenticates itself.
        kubeconfig["users"][0]["user"] = json!({});
        let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
        let (upstream, listener) = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            config.default_retry = false;
            anyhow::Ok((Client::try_from(config)?, TcpListener::bind(("127.0.0.1", 0)).await?))
        })?;
        let address = listener.local_addr()?;
        let relay = Arc::new(Relay::new(upstream));
        runtime.spawn(relay.clone().accept(listener));
        let folder = plane.folder().path().to_owned();
        Ok(Self { address, folder, relay, runtime: Some(runtime) })
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig file with which the client's user goes through the proxy.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn kubeconfig(&self, client: &Kubectl) -> Result<PathBuf> {
        let mut kubeconfig = read_kubeconfig(client)?;
        kubeconfig["clusters"][0]["cluster"] = json!({"server": self.url()});
        let path = self.folder.join(format!("proxy-{}.kubeconfig", self.address.port()));
        // Only its owner can read the folder.
        fs::write(&path, kubeconfig.to_string())?;
        Ok(path)
    }

    /// Adds the rule after the rules in force. It holds until the returned value is dropped.
    #[must_use = "the rule ends when this is dropped"]
    pub fn inject(&self, rule: Rule) -> Injected {
        let left = AtomicUsize::new(rule.times);
        let rule = Arc::new(InForce {
            rule,
            left,
            hits: AtomicUsize::new(0),
            ended: watch::channel(false).0,
        });
        lock(&self.relay.rules).push(rule.clone());
        Injected { rule, relay: self.relay.clone() }
    }

    /// The requests so far that match the pattern of a [`Rule`], in order.
    #[must_use]
    pub fn asked(&self, pattern: &str) -> Vec<Asked> {
        let asked = lock(&self.relay.asked);
        asked.iter().filter(|asked| matches(pattern, &asked.line)).cloned().collect()
    }

    /// How many requests so far match the pattern of a [`Rule`].
    #[must_use]
    pub fn count(&self, pattern: &str) -> usize {
        lock(&self.relay.asked).iter().filter(|asked| matches(pattern, &asked.line)).count()
    }

    /// Ends the open watches that match the pattern.
    pub fn end_watches(&self, pattern: &str, end: End) {
        let mut watches = lock(&self.relay.watches);
        for (_, watch) in watches.extract_if(.., |_, watch| matches(pattern, &watch.line)) {
            // A watch that has just ended by itself is fine too.
            let _ = watch.end.send(end);
        }
    }

    /// The open watches that match the pattern.
    #[must_use]
    pub fn open_watches(&self, pattern: &str) -> Vec<String> {
        let watches = lock(&self.relay.watches);
        let lines = watches.values().map(|watch| &watch.line);
        lines.filter(|line| matches(pattern, line)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Rule {
    /// The fault on all requests that match. A pattern is a method (`WATCH` for a watch), a space and a path; `*`
    /// stands for any text. A pattern with `?` is compared with the query too, in which each parameter ends with `&`.
    /// The path of a POST ends with the name of the new object, as if it already existed.
    #[must_use]
    pub fn new(pattern: &str, fault: Fault) -> Self {
        Self::one_of(pattern, &[fault])
    }

    /// One of these faults, chosen at random.
    #[must_use]
    pub fn one_of(pattern: &str, faults: &[Fault]) -> Self {
        Self {
            pattern: pattern.to_owned(),
            faults: faults.to_vec(),
            times: usize::MAX,
            chance: 1.0,
        }
    }

    /// Only for this many requests.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Only for this share of the requests, from 0 to 1.
    #[must_use]
    pub fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }
}

/// A rule that is in force until this is dropped.
#[derive(Debug)]
pub struct Injected {
    rule: Arc<InForce>,
    relay: Arc<Relay>,
}

impl Injected {
    /// How many requests got its fault so far.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.rule.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        lock(&self.relay.rules).retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        self.rule.ended.send_replace(true);
    }
}

#[derive(Debug)]
struct InForce {
    rule: Rule,
    left: AtomicUsize,
    hits: AtomicUsize,
    ended: watch::Sender<bool>,
}

impl InForce {
    /// The fault, if this request gets it.
    fn meet(&self, line: &str, query: &str) -> Option<Fault> {
        let rule = &self.rule;
        let is_meant = if rule.pattern.contains('?') {
            matches(&rule.pattern, &format!("{line}?{query}&"))
        } else {
            matches(&rule.pattern, line)
        };
        if !is_meant || random(1000) as f64 >= rule.chance * 1000.0 {
            return None;
        }
        let one_less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        rule.faults.get(random(rule.faults.len())).copied()
    }

    async fn end(&self) {
        // An error would mean that the sender is gone, but it lives as long as `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// An answer to the client. An error instead of it or within it cuts the connection.
type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

/// The part of the proxy that works in its runtime.
struct Relay {
    upstream: Client,
    rules: Mutex<Vec<Arc<InForce>>>,
    asked: Mutex<Vec<Asked>>,
    watches: Mutex<BTreeMap<usize, OpenWatch>>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("rules", &self.rules).finish_non_exhaustive()
    }
}

struct OpenWatch {
    line: String,
    end: oneshot::Sender<End>,
}

impl Relay {
    fn new(upstream: Client) -> Self {
        Self {
            upstream,
            rules: Mutex::default(),
            asked: Mutex::default(),
            watches: Mutex::default(),
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // A connection that ends before it is accepted concerns only the client.
            if let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(connection));
            }
        }
    }

    async fn serve(self: Arc<Self>, connection: TcpStream) {
        let service = service_fn(move |request| self.clone().answer(request));
        // An error is a cut, by the proxy or by the client.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let line = line(&head, &body);
        let number = {
            let query = head.uri.query().unwrap_or_default().to_owned();
            let accept = head.headers.get(header::ACCEPT).and_then(|form| form.to_str().ok());
            let accept = accept.unwrap_or_default().to_owned();
            let mut asked = lock(&self.asked);
            asked.push(Asked { at: Instant::now(), line: line.clone(), query, accept, code: None });
            asked.len() - 1
        };
        let answer = self.clone().meet(head, body, line).await?;
        lock(&self.asked)[number].code = Some(answer.status().as_u16());
        Ok(answer)
    }

    async fn meet(
        self: Arc<Self>,
        head: request::Parts,
        body: Bytes,
        line: String,
    ) -> Result<Answer> {
        loop {
            let query = head.uri.query().unwrap_or_default();
            let met = lock(&self.rules)
                .iter()
                .find_map(|rule| Some((rule.clone(), rule.meet(&line, query)?)));
            let Some((rule, fault)) = met else {
                return self.forward(head, body, line, None).await;
            };
            match fault {
                Fault::Status(code) => return refusal(code, &line, None),
                Fault::TooMany(seconds) => return refusal(429, &line, Some(seconds)),
                Fault::Garbage(code) => return garbage(code),
                Fault::Version(minor) => return version(minor),
                Fault::Delay(delay) => {
                    tokio::time::sleep(delay).await;
                    return self.forward(head, body, line, None).await;
                }
                Fault::Hold => rule.end().await,
                Fault::Hang => {
                    rule.end().await;
                    return Err(anyhow!("never answered"));
                }
                Fault::Cut => return Err(anyhow!("cut before it was forwarded")),
                Fault::LoseAnswer => {
                    self.forward(head, body, line, None).await?;
                    return Err(anyhow!("cut after it was forwarded"));
                }
                Fault::Truncate => {
                    return self.forward(head, body, line, Some(Tampering::Half(End::Close))).await;
                }
                Fault::CutHalfway => {
                    return self.forward(head, body, line, Some(Tampering::Half(End::Cut))).await;
                }
                Fault::EndAfter(events, end) => {
                    let tampering = Tampering::After(events, end);
                    return self.forward(head, body, line, Some(tampering)).await;
                }
            }
        }
    }

    async fn forward(
        self: Arc<Self>,
        mut head: request::Parts,
        body: Bytes,
        line: String,
        tampering: Option<Tampering>,
    ) -> Result<Answer> {
        // These headers concern the connection to the proxy, not the one to the API server.
        for name in
            [header::CONNECTION, header::CONTENT_LENGTH, header::HOST, header::TRANSFER_ENCODING]
        {
            head.headers.remove(name);
        }
        let request = Request::from_parts(head, Body::from(body));
        let (mut head, body) = self.upstream.send(request).await?.into_parts();
        for name in [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        if line.starts_with("WATCH ") && head.status.is_success() {
            return Ok(self.watch(head, body, line, tampering));
        }
        let Some(Tampering::Half(end)) = tampering else {
            return Ok(Response::from_parts(head, body.map_err(Error::from).boxed_unsync()));
        };
        let whole = body.collect().await?.to_bytes();
        let half = Frame::data(whole.slice(..whole.len() / 2));
        let cut = (end == End::Cut).then(|| Err(anyhow!("cut halfway")));
        let frames = stream::iter([Ok(half)].into_iter().chain(cut));
        Ok(Response::from_parts(head, StreamBody::new(frames).boxed_unsync()))
    }

    fn watch(
        self: Arc<Self>,
        head: response::Parts,
        source: Body,
        line: String,
        tampering: Option<Tampering>,
    ) -> Answer {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (end, told) = oneshot::channel();
        lock(&self.watches).insert(number, OpenWatch { line, end });
        let watched = Watched { source, told, tampering, is_over: false, number, relay: self };
        let frames = stream::unfold(watched, Watched::next);
        Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
    }
}

/// How the proxy changes an answer.
#[derive(Clone, Copy)]
enum Tampering {
    /// It ends in the middle.
    Half(End),
    /// A watch ends after this many events.
    After(usize, End),
}

/// A watch that the proxy forwards to the client.
struct Watched {
    source: Body,
    told: oneshot::Receiver<End>,
    tampering: Option<Tampering>,
    is_over: bool,
    number: usize,
    relay: Arc<Relay>,
}

impl Watched {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>>, Self)> {
        if self.is_over {
            return None;
        }
        if let Some(Tampering::After(0, end)) = self.tampering {
            return self.ended(end);
        }
        let frame = tokio::select! {
            Ok(end) = &mut self.told => return self.ended(end),
            frame = self.source.frame() => frame?,
        };
        let Ok(frame) = frame else { return self.ended(End::Cut) };
        let Ok(data) = frame.into_data() else { return self.ended(End::Close) };
        let data = match &mut self.tampering {
            None => data,
            Some(Tampering::Half(end)) => {
                self.tampering = Some(Tampering::After(0, *end));
                data.slice(..data.len() / 2)
            }
            Some(Tampering::After(events, _)) => {
                let ends = (1..).zip(&data).filter(|(_, byte)| **byte == b'\n').map(|(end, _)| end);
                let ends: Vec<_> = ends.take(*events).collect();
                *events -= ends.len();
                match (*events, ends.last()) {
                    (0, Some(end)) => data.slice(..*end),
                    _ => data,
                }
            }
        };
        Some((Ok(Frame::data(data)), self))
    }

    fn ended(mut self, end: End) -> Option<(Result<Frame<Bytes>>, Self)> {
        self.is_over = true;
        match end {
            End::Close => None,
            End::Cut => Some((Err(anyhow!("cut")), self)),
            End::Expire => {
                let event = json!({"type": "ERROR", "object": status(410, "WATCH", None)});
                Some((Ok(Frame::data(format!("{event}\n").into())), self))
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&self.relay.watches).remove(&self.number);
    }
}

/// The text that patterns are compared with.
fn line(head: &request::Parts, body: &[u8]) -> String {
    let query = head.uri.query().unwrap_or_default();
    let is_watch = query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1");
    let method = if is_watch { "WATCH" } else { head.method.as_str() };
    let mut line = format!("{method} {}", head.uri.path());
    if method == "POST" {
        let object: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(name) = object["metadata"]["name"].as_str() {
            line.push('/');
            line.push_str(name);
        }
    }
    line
}

fn refusal(code: u16, line: &str, retry_after: Option<u64>) -> Result<Answer> {
    let method = line.split(' ').next().unwrap_or_default();
    let mut answer =
        Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    Ok(answer.body(whole(status(code, method, retry_after).to_string()))?)
}

fn version(minor: u32) -> Result<Answer> {
    let version = json!({
        "major": "1", "minor": format!("{minor}+"), "gitVersion": format!("v1.{minor}.0-{INJECTED}"),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
    });
    let answer = Response::builder().header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(whole(version.to_string()))?)
}

fn garbage(code: u16) -> Result<Answer> {
    let page =
        format!("<html><body><h1>{INJECTED}</h1>{{\"kind\": \"{INJECTED}\"}}\n</body></html>\n");
    Ok(Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "text/html")
        .body(whole(page))?)
}

fn status(code: u16, method: &str, retry_after: Option<u64>) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if method == "POST" => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": INJECTED,
    });
    if let Some(seconds) = retry_after {
        status["details"] = json!({"retryAfterSeconds": seconds});
    }
    status
}

fn whole(text: String) -> UnsyncBoxBody<Bytes, Error> {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn read_kubeconfig(client: &Kubectl) -> Result<Value> {
    let path = client.kubeconfig();
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The harness writes kubeconfigs as JSON.
    Ok(serde_json::from_slice(&text)?)
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn random(below: usize) -> usize {
    let below = below.max(1) as u64;
    usize::try_from(RandomState::new().build_hasher().finish() % below).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let line = "PUT /api/v1/namespaces/prod/secrets/db";
        for pattern in [line, "*", "PUT *", "* */secrets/db", "*/prod/*", "PUT */prod/*db", "**"] {
            assert!(matches(pattern, line), "{pattern}");
        }
        for pattern in ["", "PUT", "GET *", "*/secrets", "*/secrets/*/db", "PUT */dev/*"] {
            assert!(!matches(pattern, line), "{pattern}");
        }
    }
}
