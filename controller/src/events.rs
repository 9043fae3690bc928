//! Kubernetes Events, as `kubectl describe` shows them.

use bulla_crds::SealedSecret;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// The API server limits the `note` of an Event to 1,024 bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// Publishes Events about SealedSecrets.
pub(crate) struct Events(Recorder);

impl Events {
    pub(crate) fn new(client: Client, pod: Option<String>) -> Self {
        Self(Recorder::new(
            client,
            Reporter { controller: "bulla.dev/controller".into(), instance: pod },
        ))
    }

    /// Reports that something was done.
    pub(crate) async fn normal(
        &self,
        sealed_secret: &SealedSecret,
        reason: &'static str,
        note: &str,
    ) {
        self.publish(sealed_secret, EventType::Normal, reason, note).await;
    }

    /// Reports that something needs attention.
    pub(crate) async fn warning(
        &self,
        sealed_secret: &SealedSecret,
        reason: &'static str,
        note: &str,
    ) {
        self.publish(sealed_secret, EventType::Warning, reason, note).await;
    }

    /// Publishes an Event. If that fails, the work goes on.
    async fn publish(
        &self,
        sealed_secret: &SealedSecret,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let note = &note[..note.floor_char_boundary(MAX_NOTE_BYTES)];
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note.into()),
            action: "Unseal".into(),
            secondary: None,
        };
        if self.0.publish(&event, &sealed_secret.object_ref(&())).await.is_err() {
            tracing::debug!(reason, "could not publish an Event");
        }
    }
}
