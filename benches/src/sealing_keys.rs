//! The keys that the controller publishes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulla_sealing::Recipient;
use bulla_tests::Controller;
use serde_json::Value;

use crate::client::Connection;

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Where they are.
pub(crate) fn path() -> String {
    format!("/apis/bulla.dev/v1alpha1/namespaces/{}/sealingkeys", Controller::NAMESPACE)
}

/// Waits until a key other than `old` is Active, and returns its recipient. Between two keys none is Active.
pub(crate) async fn active(
    connection: &mut Connection,
    old: Option<&Recipient>,
) -> Result<Recipient> {
    let start = Instant::now();
    loop {
        let keys: Value = connection.get(&path()).await?;
        let keys = keys["items"].as_array().into_iter().flatten();
        for key in keys.filter(|key| key["spec"]["state"] == "Active") {
            let recipient = key["spec"]["recipient"].as_str();
            let recipient: Recipient =
                recipient.context("a SealingKey without recipient")?.parse()?;
            if old.is_none_or(|old| old.fingerprint() != recipient.fingerprint()) {
                return Ok(recipient);
            }
        }
        ensure!(start.elapsed() < DEADLINE, "no key of the controller is Active");
        tokio::time::sleep(POLL).await;
    }
}
