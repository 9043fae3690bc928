//! Refuses to work on an API server that is too old.

use std::time::Duration;

use anyhow::anyhow;
use kube::Client;

use crate::api::{RequestFailure, within};

/// The lowest version of Kubernetes. The definitions use a CEL library of 1.32, so an older API server does not accept
/// them, or would not check the names of keys.
const LOWEST: (u32, u32) = (1, 32);

/// How long to wait before the version is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// Returns why the API server is too old. Never returns if it is new enough, or if nobody may ask.
pub(crate) async fn too_old(client: &Client) -> anyhow::Error {
    loop {
        match within(client.apiserver_version()).await {
            Ok(version) if is_too_old(&version.major, &version.minor) => {
                let (major, minor) = LOWEST;
                return anyhow!(
                    "the API server runs Kubernetes {}.{}, and Bulla needs {major}.{minor} or newer",
                    digits(&version.major),
                    digits(&version.minor),
                );
            }
            Ok(_) => break,
            Err(failure @ (RequestFailure::Forbidden(_) | RequestFailure::NotFound)) => {
                tracing::warn!(%failure, "could not check the version of the API server");
                break;
            }
            // The watches report that the API server does not answer.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    std::future::pending().await
}

/// A version that is not a number is not taken for an old one.
fn is_too_old(major: &str, minor: &str) -> bool {
    let version = digits(major).parse().ok().zip(digits(minor).parse().ok());
    version.is_some_and(|version: (u32, u32)| version < LOWEST)
}

/// The digits at its beginning: some distributions append a sign, as in `32+`.
fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_before_1_32_are_too_old() {
        for (major, minor, expected) in [
            ("1", "31", true),
            ("1", "31+", true),
            ("1", "9", true),
            ("0", "99", true),
            ("1", "32", false),
            ("1", "32+", false),
            ("1", "100", false),
            ("2", "0", false),
            ("", "", false),
        ] {
            assert_eq!(is_too_old(major, minor), expected, "{major}.{minor}");
        }
    }
}
