//! Keeps a list in pages small in memory, whatever the objects hold.
//!
//! The number of objects in a page does not limit its size: 100 of the largest SealedSecrets take 130 MB. So a page that
//! becomes too large while it is read is given up, and asked for again with half as many objects. Small pages make
//! the next ones larger again.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use tower::{BoxError, Service};

/// The size of a page, in bytes, unless a single object is larger.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Asks for pages of at most [`MAX_PAGE_BYTES`]. Other requests pass.
#[derive(Clone)]
pub(crate) struct Paging<S> {
    inner: S,
    largest: u32,
    /// How many objects to ask for next.
    limit: Arc<AtomicU32>,
}

impl<S> Paging<S> {
    /// Pages have at most `largest` objects.
    pub(crate) fn new(inner: S, largest: u32) -> Self {
        Self { inner, largest, limit: Arc::new(AtomicU32::new(largest)) }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for Paging<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone is not ready, so this call takes the one that is.
        let next = self.inner.clone();
        let ready = Self { inner: mem::replace(&mut self.inner, next), ..self.clone() };
        if is_page(&request) {
            return Box::pin(ready.page(request.into_parts().0));
        }
        let Self { mut inner, .. } = ready;
        let answer = inner.call(request);
        Box::pin(async {
            let answer = answer.await.map_err(Into::into)?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}

impl<S, B> Paging<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Asks until the page is small enough.
    async fn page(mut self, request: Parts) -> Result<Answer, BoxError> {
        loop {
            let limit = self.limit.load(Ordering::Relaxed);
            let mut smaller = request.clone();
            smaller.uri = with_limit(&request.uri, limit)?;
            let sent = self.inner.call(Request::from_parts(smaller, Body::empty()));
            let (head, body) = sent.await.map_err(Into::into)?.into_parts();
            let bound = if limit > 1 { MAX_PAGE_BYTES } else { usize::MAX };
            let Some(page) = collect(body, bound).await? else {
                self.limit.store(limit / 2, Ordering::Relaxed);
                std::future::poll_fn(|cx| self.inner.poll_ready(cx)).await.map_err(Into::into)?;
                continue;
            };
            if page.len() < MAX_PAGE_BYTES / 4 {
                self.limit.store((limit * 2).min(self.largest), Ordering::Relaxed);
            }
            let body = Full::new(page).map_err(|never| match never {}).boxed_unsync();
            return Ok(Response::from_parts(head, body));
        }
    }
}

fn is_page(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let is_set = |name: &str| query.split('&').any(|pair| pair.starts_with(name));
    request.method() == Method::GET && is_set("limit=") && !is_set("watch=")
}

fn with_limit(uri: &Uri, limit: u32) -> Result<Uri, BoxError> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| match pair.strip_prefix("limit=") {
        Some(_) => format!("limit={limit}"),
        None => pair.to_owned(),
    });
    let query = Vec::from_iter(pairs).join("&");
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", uri.path()))?);
    Ok(Uri::from_parts(parts)?)
}

/// The whole body, or `None` if it is larger than `bound` bytes. Then the rest is not read.
async fn collect<B>(mut body: B, bound: usize) -> Result<Option<Bytes>, BoxError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(Into::into)?.into_data() {
            if collected.len() + data.len() > bound {
                return Ok(None);
            }
            collected.extend_from_slice(&data);
        }
    }
    Ok(Some(collected.freeze()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn pages_are_asked_for_again_until_they_are_small_enough() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let object_bytes = Arc::new(AtomicU32::new(1_300_000));
        let server = {
            let (asked, object_bytes) = (asked.clone(), object_bytes.clone());
            service_fn(move |request: Request<Body>| {
                let query = request.uri().query().unwrap().to_owned();
                let limit: usize = query.rsplit_once("limit=").unwrap().1.parse().unwrap();
                asked.lock().unwrap().push(query);
                let bytes = object_bytes.load(Ordering::Relaxed) as usize;
                async move {
                    Ok::<_, BoxError>(Response::new(Full::new(Bytes::from(vec![
                        b' ';
                        bytes * limit
                    ]))))
                }
            })
        };
        let mut client = Paging::new(server, 100);
        let mut page = async |query: &str| {
            let request = Request::get(format!("/apis/x?{query}")).body(Body::empty()).unwrap();
            let answer = client.call(request).await.unwrap();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes().len();
            (bytes, mem::take(&mut *asked.lock().unwrap()))
        };
        let of =
            |limits: &[u32]| Vec::from_iter(limits.iter().map(|limit| format!("limit={limit}")));
        assert_eq!(page("limit=100").await, (3_900_000, of(&[100, 50, 25, 12, 6, 3])));
        assert_eq!(page("limit=100").await, (3_900_000, of(&[3])));
        object_bytes.store(5_000_000, Ordering::Relaxed);
        assert_eq!(page("limit=100").await, (5_000_000, of(&[3, 1])));
        object_bytes.store(1000, Ordering::Relaxed);
        for limit in [1, 2, 4, 8, 16, 32, 64, 100, 100] {
            let (_, queries) = page("continue=abc&limit=100").await;
            assert_eq!(queries, [format!("continue=abc&limit={limit}")]);
        }
        // A watch is not a page.
        assert_eq!(page("watch=true&limit=7").await.1, ["watch=true&limit=7"]);
    }
}
