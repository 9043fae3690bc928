//! Decides which replica works: the one that holds the Lease.
//!
//! The Lease only saves work. Correctness never depends on it, because every write names the state that it was
//! decided on. The rules are those of Kubernetes' own components, and clocks are never compared. A replica takes
//! the Lease over when it has not changed for its whole duration by the replica's own monotonic clock. The
//! holder stops when it could not renew the Lease for two thirds of that time. Why no library:
//! docs/decisions/0008.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::core::ObjectMeta;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::{self, RequestFailure, post_params, within};
use crate::context::Context;
use crate::state::backoff::random;

/// The name of the Lease, in the controller's namespace.
const NAME: &str = "bulla-controller";

/// A replica that runs for the Lease.
pub(crate) struct Candidate {
    api: Api<Lease>,
    /// The identity of this replica. No two running processes have the same.
    identity: String,
    duration: Duration,
    seen: Option<SeenLease>,
}

/// The Lease as another replica left it, and when this replica first saw it in that state.
struct SeenLease {
    resource_version: Option<String>,
    at: Instant,
}

impl Candidate {
    /// A pod's name is unique while the pod runs, also across restarts of its container.
    pub(crate) fn new(ctx: &Context) -> Self {
        let unique = || format!("bulla-controller-{:016x}", random());
        Self {
            api: Api::namespaced(ctx.client.clone(), &ctx.args.namespace),
            identity: ctx.args.pod.clone().unwrap_or_else(unique),
            duration: ctx.args.lease_duration,
            seen: None,
        }
    }

    /// Runs for the Lease and reports whether this replica holds it. When the receiver is gone, gives it back.
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
                Err(failure) => tracing::warn!(%failure, "could not renew or take the Lease"),
            }
            let is_leader = Instant::now() < until;
            if leads.send_if_modified(|leads| std::mem::replace(leads, is_leader) != is_leader) {
                tracing::info!(identity = self.identity, is_leader, "leadership changed");
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

    /// Renews or takes the Lease if this replica may take it. Returns the Lease if this replica then holds it.
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
        // The write names the resource version that was read, so of two replicas that take it one fails.
        match within(self.api.replace(NAME, &post_params(), &lease)).await {
            Ok(lease) => Ok(Some(lease)),
            Err(RequestFailure::Conflict | RequestFailure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the Lease has not changed for its whole duration.
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
        match api::create_lease(&self.api, &lease).await {
            Ok(lease) => Ok(Some(lease)),
            Err(RequestFailure::AlreadyExists) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The Lease's new content. Its times are for people; no decision depends on them.
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

    /// Gives the Lease back, so that the next replica need not wait.
    async fn give_back(&self, lease: Lease) {
        let spec =
            LeaseSpec { holder_identity: Some(String::new()), ..lease.spec.unwrap_or_default() };
        let lease = Lease { spec: Some(spec), ..lease };
        if let Err(failure) = within(self.api.replace(NAME, &post_params(), &lease)).await {
            tracing::info!(%failure, "could not give the Lease back; it will expire");
        }
    }
}
