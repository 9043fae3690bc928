//! Measures how soon an edited target is restored.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{
    client::{Client, Content, Watch},
    cluster::{
        objects::{self, NAMESPACE},
        site::{Site, secrets_path},
    },
};

/// Ten a second, like a user's script. A flood would measure throughput again.
const BETWEEN: Duration = Duration::from_millis(100);

/// How long to wait for the last restoration after the last edit.
const DEADLINE: Duration = Duration::from_secs(60);

/// The data key that is edited.
const KEY: &str = "key-0";

/// How long targets differed from their declaration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drift {
    pub(crate) p50_s: f64,
    pub(crate) p99_s: f64,
}

/// Edits targets, each once, and watches their restoration.
pub(crate) async fn measure(site: &Site) -> Result<Drift> {
    let path = secrets_path(NAMESPACE);
    let mut connection = site.admin.connect().await?;
    let page = connection.page::<Value>(&path, 1, None).await?;
    let from = page.metadata.resource_version;
    let watch_path = format!("{path}?watch=true&resourceVersion={from}");
    let watch = connection.watch(&watch_path, Content::Whole).await?;

    let deadline = BETWEEN * site.args.edits() + DEADLINE;
    let both = async { tokio::try_join!(edit(site, &site.admin), restored(site, watch)) };
    let (edited, restored) =
        timeout(deadline, both).await.context("not every edited Secret was restored in time")??;
    let mut seconds = Vec::new();
    for (name, at) in edited {
        let back = restored.get(&name).context("a Secret that was not edited was restored")?;
        seconds.push(back.duration_since(at).as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Drift { p50_s: percentile(&seconds, 50), p99_s: percentile(&seconds, 99) })
}

/// Edits targets. Returns when each edit was sent.
async fn edit(site: &Site, client: &Client) -> Result<BTreeMap<String, Instant>> {
    let mut connection = client.connect().await?;
    let patch = json!({"data": {KEY: BASE64_STANDARD.encode("edited by somebody")}}).to_string();
    let mut edited = BTreeMap::new();
    let mut pace = interval(BETWEEN);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for index in objects::spaced(site.args.edits(), site.args.objects) {
        pace.tick().await;
        let name = objects::name(index);
        let sent = Instant::now();
        connection.merge(&format!("{}/{name}", secrets_path(NAMESPACE)), patch.clone()).await?;
        edited.insert(name, sent);
    }
    Ok(edited)
}

/// Watches until all are restored. Returns when each was. Each object is edited once, so the only event with the
/// declared value is its restoration.
async fn restored(site: &Site, mut watch: Watch) -> Result<BTreeMap<String, Instant>> {
    let declared = |index| objects::declared(index, site.args.values).remove(KEY);
    let mut missing: BTreeMap<_, _> = objects::spaced(site.args.edits(), site.args.objects)
        .map(|index| (objects::name(index), declared(index)))
        .collect();
    let mut restored = BTreeMap::new();
    while !missing.is_empty() {
        let event = watch.next().await?;
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        let value = event["object"]["data"][KEY].as_str();
        if missing.get(name).is_some_and(|declared| declared.as_deref() == value) {
            missing.remove(name);
            restored.insert(name.to_owned(), Instant::now());
        }
    }
    Ok(restored)
}

/// The smallest of the sorted values that this percentage of the values does not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let values: Vec<_> = (1..=300).map(f64::from).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (150.0, 297.0));
        assert_eq!(percentile(&[7.0], 99), 7.0);
        assert_eq!(percentile(&[1.0, 2.0], 50), 1.0);
    }
}
