//! The API server's counters. Bulla's own figures are not used for requests.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{client::Connection, program::progress};

/// The resources that the controller's work concerns. Leases and the control plane's own requests are left out.
const RESOURCES: [&str; 8] = [
    "secrets",
    "sealedsecrets",
    "sealedsecrets/status",
    "sealingkeys",
    "sealingkeys/status",
    "rekeys",
    "rekeys/status",
    "events",
];

/// The verbs that change something. `APPLY` is a PATCH by server-side apply.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

const POLL: Duration = Duration::from_millis(500);

const DEADLINE: Duration = Duration::from_secs(120);

/// The garbage collector looks for new kinds every 30 s.
const GARBAGE_COLLECTOR_DEADLINE: Duration = Duration::from_secs(90);

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    resource: String,
    verb: String,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// Answered requests by kind. Watches are counted when they end, so they are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests(BTreeMap<Kind, u64>);

impl Requests {
    /// Reads the counters.
    pub(crate) async fn read(connection: &mut Connection) -> Result<Self> {
        Ok(Self::parse(&connection.text("/metrics").await?))
    }

    /// Reads the counters once they have not changed for `quiet`.
    pub(crate) async fn settled(connection: &mut Connection, quiet: Duration) -> Result<Self> {
        let start = Instant::now();
        let mut last = Self::read(connection).await?;
        let mut still_since = Instant::now();
        while still_since.elapsed() < quiet {
            ensure!(start.elapsed() < DEADLINE, "the API server's counters keep changing");
            tokio::time::sleep(POLL).await;
            let next = Self::read(connection).await?;
            if next != last {
                (last, still_since) = (next, Instant::now());
            }
        }
        Ok(last)
    }

    fn parse(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for (labels, value) in samples(text, "apiserver_request_total") {
            let label = |name| label(labels, name).unwrap_or_default();
            let (resource, subresource) = (label("resource"), label("subresource"));
            let resource = match subresource {
                "" => resource.to_owned(),
                _ => format!("{resource}/{subresource}"),
            };
            if RESOURCES.contains(&resource.as_str()) && label("verb") != "WATCH" {
                let kind = Kind { resource, verb: label("verb").to_owned() };
                *counts.entry(kind).or_default() += value as u64;
            }
        }
        Self(counts)
    }

    /// The requests since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let more = |(kind, count): (&Kind, &u64)| {
            let more = count - earlier.0.get(kind).copied().unwrap_or_default();
            (more > 0).then(|| (kind.clone(), more))
        };
        Self(self.0.iter().filter_map(more).collect())
    }

    /// Requests that changed something.
    pub(crate) fn writes(&self) -> u64 {
        self.sum(|kind| WRITES.contains(&kind.verb.as_str()))
    }

    /// Reads of single objects.
    pub(crate) fn single_reads(&self) -> u64 {
        self.sum(|kind| {
            kind.verb == "GET" && ["secrets", "sealedsecrets"].contains(&kind.resource.as_str())
        })
    }

    /// How many requests of one kind.
    pub(crate) fn count(&self, verb: &str, resource: &str) -> u64 {
        self.sum(|kind| kind.verb == verb && kind.resource == resource)
    }

    /// All kinds that occurred.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Kind, u64)> {
        self.0.iter().map(|(kind, count)| (kind, *count))
    }

    fn sum(&self, is_counted: impl Fn(&Kind) -> bool) -> u64 {
        self.iter().filter(|(kind, _)| is_counted(kind)).map(|(_, count)| count).sum()
    }
}

/// Waits until the garbage collector watches SealedSecrets. Before that it requests the owner of each target singly,
/// and its list of SealedSecrets would fall into some turn.
pub(crate) async fn wait_for_garbage_collector(connection: &mut Connection) -> Result<()> {
    progress("  waiting for the garbage collector to discover Bulla's kinds");
    let start = Instant::now();
    while open_watches(connection, "sealedsecrets").await? == 0 {
        ensure!(
            start.elapsed() < GARBAGE_COLLECTOR_DEADLINE,
            "the garbage collector does not watch SealedSecrets"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

/// How many watches on all objects of a resource are open.
async fn open_watches(connection: &mut Connection, resource: &str) -> Result<u64> {
    let text = connection.text("/metrics").await?;
    let open = samples(&text, "apiserver_longrunning_requests").filter(|(labels, _)| {
        let has = |name, value| label(labels, name) == Some(value);
        has("resource", resource) && has("verb", "WATCH") && has("scope", "cluster")
    });
    Ok(open.map(|(_, value)| value as u64).sum())
}

/// The samples of a metric: the text between the braces, and the value.
fn samples<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels, value.parse().ok()?))
    })
}

/// The value of a label. The labels that are read here contain no quotes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="GET",version="v1"} 3
apiserver_request_total{code="404",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="GET",version="v1"} 2
apiserver_request_total{code="0",component="apiserver",dry_run="",group="",resource="secrets",scope="cluster",subresource="",verb="WATCH",version="v1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="bulla.dev",resource="sealedsecrets",scope="resource",subresource="status",verb="PATCH",version="v1alpha1"} 1.2e+03
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 77
apiserver_request_total{code="201",component="apiserver",dry_run="",group="events.k8s.io",resource="events",scope="resource",subresource="",verb="POST",version="v1"} 5
apiserver_longrunning_requests{component="apiserver",group="bulla.dev",resource="sealedsecrets",scope="cluster",subresource="",verb="WATCH",version="v1alpha1"} 2
"#;

    #[test]
    fn requests_are_counted_by_verb_and_resource_with_any_code() {
        let requests = Requests::parse(TEXT);
        let shown: Vec<_> =
            requests.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        assert_eq!(shown, ["POST events 5", "PATCH sealedsecrets/status 1200", "GET secrets 5"]);
        assert_eq!((requests.writes(), requests.single_reads()), (1205, 5));
        assert_eq!(requests.count("POST", "events"), 5);
    }

    #[test]
    fn a_difference_has_only_new_requests() {
        let earlier = Requests::parse(TEXT);
        let later = Requests::parse(&TEXT.replace(r#"version="v1"} 5"#, r#"version="v1"} 8"#));
        let since = later.since(&earlier);
        let shown: Vec<_> = since.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        assert_eq!(shown, ["POST events 3"]);
    }
}
