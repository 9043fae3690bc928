//! What `/metrics` shows. Label sets are fixed: no namespace, object or data key is a label.

use std::collections::BTreeMap;
use std::time::Instant;

use bulla_crds::SealedSecret;
use bulla_crds::conditions::READY;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::watches::Cache;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    condition: &'static str,
    status: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    reason: &'static str,
}

/// The counters, and the registry that names them.
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: Family<ReasonLabel, Counter>,
    seconds: Histogram,
    /// Targets that somebody had edited or deleted and that were restored.
    pub(crate) drift_repaired: Counter,
    /// Identities held.
    pub(crate) identities: Gauge,
    api_errors: Family<OperationLabels, Counter>,
    sealed_secrets: Family<ConditionLabels, Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("bulla");
        let metrics = (
            Family::<ReasonLabel, Counter>::default(),
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            Counter::default(),
            Gauge::default(),
            Family::<OperationLabels, Counter>::default(),
            Family::<ConditionLabels, Gauge>::default(),
        );
        let (reconciles, seconds, drift_repaired, identities, api_errors, sealed_secrets) = metrics;
        registry.register("reconciles", "Reconciles by what they came to", reconciles.clone());
        registry.register(
            "reconcile_duration_seconds",
            "Time from taking up to leaving an object",
            seconds.clone(),
        );
        registry.register(
            "drift_repaired",
            "Targets restored after an edit or deletion",
            drift_repaired.clone(),
        );
        registry.register("identities", "Identities held", identities.clone());
        registry.register("api_errors", "Failed requests to the API server", api_errors.clone());
        registry.register("sealed_secrets", "SealedSecrets by condition", sealed_secrets.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        Self {
            registry,
            reconciles,
            seconds,
            drift_repaired,
            identities,
            api_errors,
            sealed_secrets,
        }
    }

    /// Times a reconcile until the guard is dropped.
    pub(crate) fn reconcile(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { metrics: self, started: Instant::now(), reason: "Unchanged" }
    }

    /// Counts a failed request.
    pub(crate) fn api_error(&self, operation: &'static str, reason: &'static str) {
        self.api_errors.get_or_create(&OperationLabels { operation, reason }).inc();
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn render(&self, sealed_secrets: &Cache<SealedSecret>) -> String {
        let mut counts = BTreeMap::new();
        for sealed_secret in sealed_secrets.all() {
            let conditions = sealed_secret.status.iter().flat_map(|status| &status.conditions);
            let ready = conditions.into_iter().find(|condition| condition.type_ == READY);
            let labels = ready.map(|ready| (ready.status.clone(), ready.reason.clone()));
            *counts
                .entry(labels.unwrap_or_else(|| ("Unknown".into(), "Unseen".into())))
                .or_default() += 1;
        }
        self.sealed_secrets.clear();
        for ((status, reason), count) in counts {
            self.sealed_secrets
                .get_or_create(&ConditionLabels { condition: READY, status, reason })
                .set(count);
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(), // writing to a String does not fail
        }
    }
}

/// Records on drop.
pub(crate) struct ReconcileTimer<'a> {
    metrics: &'a Metrics,
    started: Instant,
    /// What it came to: a condition's reason, or `Unchanged`.
    pub(crate) reason: &'static str,
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        self.metrics.seconds.observe(self.started.elapsed().as_secs_f64());
        self.metrics.reconciles.get_or_create(&ReasonLabel { reason: self.reason }).inc();
    }
}
