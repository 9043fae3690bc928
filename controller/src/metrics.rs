//! The metrics in `/metrics`. Label sets are fixed: no namespace, name or data key is a label. Only
//! `--metrics-per-object` adds namespaces and names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulla_crds::State;
use bulla_crds::conditions::{READY, Reason, Situation};
use bulla_sealing::Fingerprint;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::state::cache::KnownSealedSecret;
use crate::state::key_store::KeySummary;
use crate::state::object_ref::ObjectRef;
use crate::state::queue::Depth;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
    reason: &'static str,
}

impl From<&Situation> for OutcomeLabels {
    fn from(situation: &Situation) -> Self {
        let outcome = match situation {
            Situation::Done { .. } => "done",
            Situation::Retrying { .. } => "retrying",
            Situation::NeedsPerson { .. } => "stalled",
        };
        Self { outcome, reason: situation.reason().as_str() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    condition: &'static str,
    status: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    namespace: String,
    name: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    fingerprint: String,
}

/// What is counted at the moment of a scrape.
pub(crate) struct Snapshot {
    pub(crate) depth: Depth,
    /// The keys whose identities are held.
    pub(crate) held: Vec<Fingerprint>,
    pub(crate) keys: KeySummary,
    pub(crate) renewal_period: Duration,
    pub(crate) sealed_secrets: Vec<(ObjectRef, Arc<KnownSealedSecret>)>,
    /// How many of them belong to another controller.
    pub(crate) of_another: usize,
    /// Whether `--metrics-per-object` is set.
    pub(crate) is_per_object: bool,
}

/// The counters and the registry that names them.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<OutcomeLabels, Counter>,
    rekeys: Family<OutcomeLabels, Counter>,
    seconds: Histogram,
    queue: Family<LaneLabel, Gauge>,
    /// Targets that were edited or deleted and then restored.
    pub(crate) drift_repaired: Counter,
    /// SealedSecrets taken over from another controller.
    pub(crate) takeovers: Counter,
    identities: Gauge,
    identities_missing: Gauge,
    sealing_keys: Family<StateLabel, Gauge>,
    not_backed_up: Gauge,
    unusable: Gauge,
    newest_key: Gauge,
    renewal_period: Gauge,
    leader: Gauge,
    api_errors: Family<OperationLabels, Counter>,
    sealed_secrets: Family<ConditionLabels, Gauge>,
    of_another: Gauge,
    by_key: Family<KeyLabel, Gauge>,
    by_object: Family<ObjectLabels, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bulla");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let buckets =
            [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let metrics = Self {
            reconciles: Family::default(),
            rekeys: Family::default(),
            seconds: Histogram::new(buckets),
            queue: Family::default(),
            drift_repaired: Counter::default(),
            takeovers: Counter::default(),
            identities: Gauge::default(),
            identities_missing: Gauge::default(),
            sealing_keys: Family::default(),
            not_backed_up: Gauge::default(),
            unusable: Gauge::default(),
            newest_key: Gauge::default(),
            renewal_period: Gauge::default(),
            leader: Gauge::default(),
            api_errors: Family::default(),
            sealed_secrets: Family::default(),
            of_another: Gauge::default(),
            by_key: Family::default(),
            by_object: Family::default(),
            registry: Registry::default(),
        };
        metrics.name(&mut registry);
        Self { registry, ..metrics }
    }

    fn name(&self, registry: &mut Registry) {
        let r = registry;
        r.register("reconciles", "Reconciles by outcome and reason", self.reconciles.clone());
        r.register("rekeys", "Answered Rekeys by outcome and reason", self.rekeys.clone());
        // These series exist from the start, so that rate() does not miss the first increment.
        let rekeyed = OutcomeLabels { outcome: "done", reason: Reason::Rekeyed.as_str() };
        drop(self.rekeys.get_or_create(&rekeyed));
        let conflict = OperationLabels { operation: "status", reason: Reason::Conflict.as_str() };
        drop(self.api_errors.get_or_create(&conflict));
        let help = "Time to reconcile one SealedSecret";
        r.register_with_unit("reconcile_duration", help, Unit::Seconds, self.seconds.clone());
        r.register(
            "queue_depth",
            "SealedSecrets that wait for a worker or for a retry",
            self.queue.clone(),
        );
        let help = "Secrets restored after an edit or deletion";
        r.register("drift_repaired", help, self.drift_repaired.clone());
        let help = "SealedSecrets taken over from another controller";
        r.register("takeovers", help, self.takeovers.clone());
        r.register("identities", "Identities held", self.identities.clone());
        let help =
            "Keys of this holder that are not revoked and whose identity is missing or not stored";
        r.register("identities_missing", help, self.identities_missing.clone());
        r.register("sealing_keys", "Keys of this holder by state", self.sealing_keys.clone());
        let help = "Held keys without a copy outside of the cluster";
        r.register("keys_not_backed_up", help, self.not_backed_up.clone());
        let help = "Identities and SealingKeys that are invalid";
        r.register("keys_unusable", help, self.unusable.clone());
        let help = "Age at which a key is renewed; 0 for never";
        r.register_with_unit("renewal_period", help, Unit::Seconds, self.renewal_period.clone());
        let help = "When the newest key of this holder was made; 0 if there is none";
        let name = "newest_key_created_timestamp";
        r.register_with_unit(name, help, Unit::Seconds, self.newest_key.clone());
        r.register("leader", "1 on the replica that holds the Lease, else 0", self.leader.clone());
        r.register("api_errors", "Failed requests to the API server", self.api_errors.clone());
        r.register(
            "sealed_secrets",
            "SealedSecrets by status and reason of their Ready condition",
            self.sealed_secrets.clone(),
        );
        let help = "SealedSecrets that belong to another controller and are ignored";
        r.register("sealed_secrets_of_another_controller", help, self.of_another.clone());
        let help = "SealedSecrets with a value sealed to this held key";
        r.register("sealed_secrets_by_key", help, self.by_key.clone());
        let help = "1 if Ready, else 0; only with --metrics-per-object";
        r.register("sealed_secret_ready", help, self.by_object.clone());
    }

    /// Times a reconcile until the guard is dropped.
    pub(crate) fn reconcile(&self) -> ReconcileTimer<'_> {
        let labels = OutcomeLabels { outcome: "failed", reason: "Unavailable" };
        ReconcileTimer { metrics: self, started: Instant::now(), labels }
    }

    /// Counts an answered Rekey.
    pub(crate) fn rekey(&self, situation: &Situation) {
        self.rekeys.get_or_create(&OutcomeLabels::from(situation)).inc();
    }

    /// Counts a failed request.
    pub(crate) fn api_error(&self, operation: &'static str, reason: &'static str) {
        self.api_errors.get_or_create(&OperationLabels { operation, reason }).inc();
    }

    /// Notes whether this replica holds the Lease.
    pub(crate) fn is_leader(&self, is_leader: bool) {
        self.leader.set(is_leader.into());
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self, snapshot: &Snapshot) -> String {
        self.count_keys(snapshot);
        self.count_sealed_secrets(snapshot);
        let depth = snapshot.depth;
        for (lane, count) in
            [("changed", depth.changed), ("backlog", depth.backlog), ("delayed", depth.delayed)]
        {
            self.queue.get_or_create(&LaneLabel { lane }).set(gauge(count));
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(), // writing to a String does not fail
        }
    }

    fn count_sealed_secrets(&self, snapshot: &Snapshot) {
        let mut conditions = BTreeMap::<_, usize>::new();
        let mut keys: BTreeMap<_, usize> =
            snapshot.held.iter().map(|fingerprint| (*fingerprint, 0)).collect();
        self.by_object.clear();
        for (object, known) in &snapshot.sealed_secrets {
            let status = known.status.as_ref();
            let ready = status.and_then(|status| status.ready.clone());
            let (ready, reason) = ready.unwrap_or_else(|| ("Unknown".into(), "Unseen".into()));
            for fingerprint in status.iter().flat_map(|status| &status.fingerprints) {
                keys.entry(*fingerprint).and_modify(|count| *count += 1);
            }
            if snapshot.is_per_object {
                let (namespace, name) = (object.namespace.to_string(), object.name.to_string());
                let labels = ObjectLabels { namespace, name, reason: reason.clone() };
                self.by_object.get_or_create(&labels).set((ready == "True").into());
            }
            *conditions.entry((ready, reason)).or_default() += 1;
        }
        self.of_another.set(gauge(snapshot.of_another));
        self.sealed_secrets.clear();
        for ((status, reason), count) in conditions {
            let labels = ConditionLabels { condition: READY, status, reason };
            self.sealed_secrets.get_or_create(&labels).set(gauge(count));
        }
        self.by_key.clear();
        for (fingerprint, count) in keys {
            let labels = KeyLabel { fingerprint: fingerprint.to_string() };
            self.by_key.get_or_create(&labels).set(gauge(count));
        }
    }

    fn count_keys(&self, snapshot: &Snapshot) {
        let keys = &snapshot.keys;
        for state in [State::Pending, State::Active, State::Retired, State::Revoked] {
            let count = keys.by_state.get(&state).copied().unwrap_or_default();
            let labels = StateLabel { state: state.as_str() };
            self.sealing_keys.get_or_create(&labels).set(gauge(count));
        }
        self.identities.set(gauge(snapshot.held.len()));
        self.identities_missing.set(gauge(keys.missing));
        self.not_backed_up.set(gauge(keys.not_backed_up));
        self.unusable.set(gauge(keys.unusable));
        self.newest_key.set(keys.newest.map_or(0, Timestamp::as_second));
        let period = snapshot.renewal_period.as_secs();
        self.renewal_period.set(period.try_into().unwrap_or(i64::MAX));
    }
}

fn gauge(count: usize) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Records the time and outcome of a reconcile when it is dropped.
pub(crate) struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    labels: OutcomeLabels,
}

impl ReconcileTimer<'_> {
    /// The reconcile had nothing to do.
    pub(crate) fn nothing(&mut self) {
        self.labels = OutcomeLabels { outcome: "nothing", reason: "Unchanged" };
    }

    /// The reconcile ended in this situation.
    pub(crate) fn come_to(&mut self, situation: &Situation) {
        self.labels = situation.into();
    }
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        self.metrics.seconds.observe(self.started.elapsed().as_secs_f64());
        self.metrics.reconciles.get_or_create(&self.labels).inc();
    }
}
