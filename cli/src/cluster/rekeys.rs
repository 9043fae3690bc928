//! New headers through the cluster: the controller answers a Rekey for each SealedSecret, and the Rekey is deleted
//! in any case. Only headers are sent, and only headers come back.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::anyhow;
use bulla_crds::{Rekey, RekeySpec, RekeyStatus, decode_value, encode_value};
use futures::{StreamExt, stream};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::{ApiError, Cluster, MANAGER};
use crate::report::failure::Failure;
use crate::report::output;
use crate::signals::HeldSignals;

/// How long the controller may take for one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// The wait before the first read, and the longest wait between two reads.
const DELAYS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

const AT_ONCE: usize = 8;

/// The most base64 that the headers of one Rekey may have: far below the API server's limit, answer included.
const MAX_HEADERS_LENGTH: usize = 128 * 1024;

/// The right to create Rekeys.
const REKEYERS: &str = "ask an administrator to bind the ClusterRole bulla-rekey to you there, or pass an identity with -i";

/// Headers by data key.
pub(crate) type Headers = BTreeMap<String, Vec<u8>>;

/// A request for new headers for values of one SealedSecret.
pub(crate) struct HeaderRequest {
    namespace: String,
    sealed_secret: String,
    /// The old ones.
    pub(crate) headers: Headers,
}

impl HeaderRequest {
    /// With no headers yet.
    pub(crate) fn new(namespace: &str, sealed_secret: &str) -> Self {
        let (namespace, sealed_secret) = (namespace.to_owned(), sealed_secret.to_owned());
        Self { namespace, sealed_secret, headers: Headers::new() }
    }

    /// As many Rekeys as its headers need.
    fn rekeys(&self) -> Vec<Rekey> {
        let mut parts: Vec<BTreeMap<String, String>> = Vec::new();
        let mut length = 0;
        for (key, header) in &self.headers {
            let header = encode_value(header);
            length += key.len() + header.len();
            if parts.is_empty() || length > MAX_HEADERS_LENGTH {
                length = key.len() + header.len();
                parts.push(BTreeMap::new());
            }
            if let Some(part) = parts.last_mut() {
                part.insert(key.clone(), header);
            }
        }
        let rekey = |headers| {
            let spec = RekeySpec { sealed_secret: self.sealed_secret.clone(), headers };
            let mut rekey = Rekey::new("", spec);
            rekey.metadata.name = None;
            rekey.metadata.generate_name = Some("bulla-".into());
            rekey
        };
        parts.into_iter().map(rekey).collect()
    }
}

/// Why there are no new headers for one request.
pub(crate) struct RefusedHeaders {
    /// The data key at fault, when the controller names one.
    pub(crate) key: Option<String>,
    pub(crate) failure: Failure,
}

/// A failure before the controller's answer.
impl From<Failure> for RefusedHeaders {
    fn from(failure: Failure) -> Self {
        Self { key: None, failure }
    }
}

/// Why new headers are missing: for one request, or for all of them.
enum NoHeaders {
    Refused(RefusedHeaders),
    GivenUp(Failure),
}

/// The answer to each request: new headers, or none for this SealedSecret. Calls `done` after each.
pub(crate) fn new_headers(
    cluster: &Cluster,
    requests: &[HeaderRequest],
    done: impl Fn(),
) -> Result<Vec<Result<Headers, RefusedHeaders>>, Failure> {
    let asking = Asking { cluster, signals: HeldSignals::new(), is_over: Cell::new(false) };
    let answers = stream::iter(requests).map(async |request| {
        let answer = asking.ask(request).await;
        done();
        answer
    });
    // All of them run to completion, so that no Rekey is left in the cluster.
    let answers: Vec<_> = cluster.runtime.block_on(answers.buffered(AT_ONCE).collect());
    asking.signals.deliver();
    answers
        .into_iter()
        .map(|answer| match answer {
            Ok(headers) => Ok(Ok(headers)),
            Err(NoHeaders::Refused(refused)) => Ok(Err(refused)),
            Err(NoHeaders::GivenUp(failure)) => Err(failure),
        })
        .collect()
}

struct Asking<'a> {
    cluster: &'a Cluster,
    signals: HeldSignals,
    /// Whether another request failed in a way that would stop all of them.
    is_over: Cell<bool>,
}

impl Asking<'_> {
    async fn ask(&self, request: &HeaderRequest) -> Result<Headers, NoHeaders> {
        let api: Api<Rekey> = Api::namespaced(self.cluster.client.clone(), &request.namespace);
        let mut headers = Headers::new();
        for rekey in request.rekeys() {
            let answer = self.answer(&api, &request.namespace, &rekey).await;
            self.is_over.set(self.is_over.get() || matches!(answer, Err(NoHeaders::GivenUp(_))));
            headers.extend(answer?);
        }
        Ok(headers)
    }

    /// Creates a Rekey, waits for its answer, and deletes it.
    async fn answer(
        &self,
        api: &Api<Rekey>,
        namespace: &str,
        rekey: &Rekey,
    ) -> Result<Headers, NoHeaders> {
        self.go_on()?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let created = self.cluster.answer(api.create(&params, rekey)).await.map_err(|error| {
            let gone = anyhow!("the cluster has no namespace {namespace}, or no Rekey kind");
            let gone = Failure::unable(gone).hint("check that this is the right context");
            no_headers(error, gone, format_args!("create Rekeys in namespace {namespace}"))
        })?;
        let name = created.name_any();
        let answer = self.wait(api, namespace, &name).await;
        match self.cluster.answer(api.delete(&name, &DeleteParams::default())).await {
            Ok(_) | Err(ApiError::NotFound) => {}
            Err(_) => output::warning(&format!(
                "Rekey {namespace}/{name} could not be deleted; the controller deletes it within ten minutes"
            )),
        }
        answer
    }

    async fn wait(
        &self,
        api: &Api<Rekey>,
        namespace: &str,
        name: &str,
    ) -> Result<Headers, NoHeaders> {
        let start = Instant::now();
        let [mut delay, longest] = DELAYS;
        loop {
            tokio::time::sleep(delay).await;
            delay = longest.min(delay * 2);
            self.go_on()?;
            let rekey = self.cluster.answer(api.get(name)).await.map_err(|error| {
                let gone = anyhow!("someone deleted the Rekey before the controller answered it");
                let gone = Failure::unable(gone).hint("try again");
                no_headers(error, gone, format_args!("read Rekeys in namespace {namespace}"))
            })?;
            if let Some(answer) = rekey.status.as_ref().and_then(answer_in) {
                return answer.map_err(NoHeaders::Refused);
            }
            if start.elapsed() > DEADLINE {
                let seconds = DEADLINE.as_secs();
                let message = anyhow!(
                    "no controller answered a Rekey in namespace {namespace} within {seconds} seconds"
                );
                return Err(NoHeaders::GivenUp(Failure::unable(message).hint(
                    "check that the controller is running, and that it manages this namespace",
                )));
            }
        }
    }

    /// Fails if a signal came, or if another request failed for all of them.
    fn go_on(&self) -> Result<(), NoHeaders> {
        if self.signals.is_received() || self.is_over.get() {
            Err(NoHeaders::GivenUp(Failure::unable(anyhow!("interrupted; nothing was written"))))
        } else {
            Ok(())
        }
    }
}

/// Why a request failed: `gone` if its object or namespace does not exist.
fn no_headers(error: ApiError, gone: Failure, what: impl fmt::Display) -> NoHeaders {
    match error {
        ApiError::NotFound => NoHeaders::Refused(gone.into()),
        ApiError::Other(failure) => NoHeaders::GivenUp(failure),
        refusal => NoHeaders::Refused(refusal.of(what, REKEYERS).into()),
    }
}

/// The answer in a status, if it is final.
fn answer_in(status: &RekeyStatus) -> Option<Result<Headers, RefusedHeaders>> {
    let condition =
        |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_);
    let ready = condition("Ready")?;
    match ready.status.as_str() {
        "True" => {
            let headers = status.headers.iter().map(|(key, header)| {
                let header = decode_value(header)
                    .map_err(|_| anyhow!("the cluster's answer for key {key} is not base64"))?;
                Ok((key.clone(), header))
            });
            let headers = headers.collect::<anyhow::Result<_>>();
            Some(headers.map_err(|error| Failure::unable(error).into()))
        }
        "False"
            if condition("Reconciling").is_none_or(|reconciling| reconciling.status != "True") =>
        {
            let failure = Failure::unable(if ready.message.is_empty() {
                anyhow!("the cluster refused it: {}", ready.reason)
            } else {
                anyhow!(ready.message.clone())
            });
            Some(Err(RefusedHeaders { key: status.refused_key.clone(), failure }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;

    fn status(conditions: &[(&str, &str)]) -> RekeyStatus {
        let condition = |&(type_, status): &(&str, &str)| Condition {
            type_: type_.into(),
            status: status.into(),
            reason: "NoActiveKey".into(),
            message: "holder eu has no Active key".into(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        RekeyStatus {
            conditions: conditions.iter().map(condition).collect(),
            headers: [("a".to_owned(), "aGVhZGVy".to_owned())].into(),
            refused_key: Some("password".into()),
            ..RekeyStatus::default()
        }
    }

    #[test]
    fn only_a_final_status_is_an_answer() {
        for open in
            [&[][..], &[("Ready", "Unknown")], &[("Ready", "False"), ("Reconciling", "True")]]
        {
            assert!(answer_in(&status(open)).is_none(), "{open:?}");
        }
        let headers = answer_in(&status(&[("Ready", "True")])).unwrap().ok().unwrap();
        assert_eq!(headers["a"], b"header");
        let refused = answer_in(&status(&[("Ready", "False"), ("Stalled", "True")])).unwrap();
        let RefusedHeaders { key, failure } = refused.err().unwrap();
        assert_eq!(failure.into_parts().0, "holder eu has no Active key");
        assert_eq!(key.as_deref(), Some("password"));
    }

    #[test]
    fn many_headers_are_requested_in_parts() {
        let mut request = HeaderRequest::new("prod", "db");
        for number in 0..100 {
            request.headers.insert(format!("key-{number}"), vec![b'x'; 3000]);
        }
        let rekeys = request.rekeys();
        let lengths = rekeys.iter().map(|rekey| {
            rekey.spec.headers.iter().map(|(key, header)| key.len() + header.len()).sum::<usize>()
        });
        assert!(lengths.clone().all(|length| length <= MAX_HEADERS_LENGTH));
        assert_eq!(
            (rekeys.len(), rekeys.iter().map(|rekey| rekey.spec.headers.len()).sum()),
            (4, 100)
        );
        // One that is too large by itself goes alone, and the API server judges it.
        request.headers = [("a".to_owned(), vec![0; 200_000]), ("b".to_owned(), vec![0])].into();
        assert_eq!(request.rekeys().len(), 2);
    }
}
