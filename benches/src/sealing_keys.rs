//! The keys that the controller publishes.

use anyhow::{Context, Result};
use bulla_sealing::Recipient;
use bulla_tests::Controller;
use serde_json::Value;

use crate::client::Connection;

/// Where they are.
pub(crate) fn path() -> String {
    format!("/apis/bulla.dev/v1alpha1/namespaces/{}/sealingkeys", Controller::NAMESPACE)
}

/// The one to seal to today.
pub(crate) async fn active(connection: &mut Connection) -> Result<Recipient> {
    let keys: Value = connection.get(&path()).await?;
    let keys = keys["items"].as_array().into_iter().flatten();
    let mut active = keys.filter(|key| key["spec"]["state"] == "Active");
    let key = active.next().context("the controller has published no active key")?;
    let recipient = key["spec"]["recipient"].as_str().context("a SealingKey without recipient")?;
    Ok(recipient.parse()?)
}
