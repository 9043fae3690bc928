//! Which replica works: the one that holds the Lease.
//!
//! The Lease saves work; correctness never rests on it, because every write names what it was decided on.
//! The rules are those of Kubernetes' own components. Clocks are never compared: who does not hold the Lease
//! takes it over when it has stayed the same for its whole duration by his own monotonic clock, and who holds
//! it stops when he could not renew it for two thirds of that. Why no library: docs/decisions/0008.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::core::ObjectMeta;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{RequestFailure, post_params, within};
use crate::context::Context;
use crate::state::backoff::random;

/// The name of the Lease, in the controller's namespace.
const NAME: &str = "bulla-controller";

/// A replica that wants to work.
pub(crate) struct Candidate {
    api: Api<Lease>,
    /// Who we are: no two running processes have the same.
    identity: String,
    duration: Duration,
    seen: Option<SeenLease>,
}

/// The Lease as somebody else left it, and when we first saw it so.
struct SeenLease {
    resource_version: Option<String>,
    at: Instant,
}

impl Candidate {
    /// The pod's name is its own for as long as it runs, also over restarts of its container.
    pub(crate) fn new(ctx: &Context) -> Self {
        let unique = || format!("bulla-controller-{:016x}", random());
        Self {
            api: Api::namespaced(ctx.client.clone(), &ctx.args.namespace),
            identity: ctx.args.pod.clone().unwrap_or_else(unique),
            duration: ctx.args.lease_duration,
            seen: None,
        }
    }

    /// Runs for the Lease, and tells whether we hold it, until nobody listens. Then it is given back.
    pub(crate) async fn run(mut self, leads: watch::Sender<bool>) {
        let mut held = None;
        let mut until = Instant::now();
        loop {
            let asked = Instant::now();
            match self.campaign(held.take()).await {
                Ok(Some(lease)) => {
                    held = Some(lease);
                    until = asked + self.duration * 2 / 3;
                }
                Ok(None) => until = asked,
                Err(failure) => tracing::warn!(%failure, "cannot ask for the Lease"),
            }
            let is_leader = Instant::now() < until;
            if leads.send_if_modified(|leads| std::mem::replace(leads, is_leader) != is_leader) {
                tracing::info!(identity = self.identity, is_leader, "the Lease has a new state");
            }
            let pause = if is_leader { self.duration / 3 } else { self.duration / 8 };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tokio::time::sleep_until(until), if is_leader => {}
                () = leads.closed() => break,
            }
        }
        if let Some(lease) = held {
            self.give_back(lease).await;
        }
    }

    /// Renews or takes the Lease if it is ours to take; the Lease that we then hold.
    async fn campaign(&mut self, held: Option<Lease>) -> Result<Option<Lease>, RequestFailure> {
        let lease = match held {
            Some(lease) => Some(lease),
            None => within(self.api.get_opt(NAME)).await?,
        };
        let Some(lease) = lease else { return self.create().await };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_expired(&lease, &spec) {
            return Ok(None);
        }
        self.seen = None;
        let lease = Lease { spec: Some(self.taken(spec, &holder)), ..lease };
        // At the resource version that was read: of two that take it one loses.
        match within(self.api.replace(NAME, &post_params(), &lease)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(RequestFailure::Conflict | RequestFailure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether it has been left as it is for as long as it says.
    fn is_expired(&mut self, lease: &Lease, spec: &LeaseSpec) -> bool {
        let resource_version = &lease.metadata.resource_version;
        let at = match &self.seen {
            Some(seen) if seen.resource_version == *resource_version => seen.at,
            _ => Instant::now(),
        };
        self.seen = Some(SeenLease { resource_version: resource_version.clone(), at });
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        at.elapsed() >= seconds.map_or(self.duration, Duration::from_secs)
    }

    async fn create(&self) -> Result<Option<Lease>, RequestFailure> {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
            spec: Some(self.taken(LeaseSpec::default(), "")),
        };
        match within(self.api.create(&post_params(), &lease)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(RequestFailure::AlreadyExists) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The times are for people; nobody decides by them.
    fn taken(&self, spec: LeaseSpec, holder: &str) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let is_renewed = holder == self.identity;
        let transitions = spec.lease_transitions.unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            acquire_time: if is_renewed { spec.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(if is_renewed {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..spec
        }
    }

    /// So that the next one need not wait.
    async fn give_back(&self, lease: Lease) {
        let spec =
            LeaseSpec { holder_identity: Some(String::new()), ..lease.spec.unwrap_or_default() };
        let lease = Lease { spec: Some(spec), ..lease };
        if let Err(failure) = within(self.api.replace(NAME, &post_params(), &lease)).await {
            tracing::info!(%failure, "the Lease was not given back and will expire");
        }
    }
}
