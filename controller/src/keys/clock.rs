//! The API server's time, which decides the age of keys. The controller's own clock may be wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use tokio::time::Instant;

use crate::api::{RequestFailure, post_params, within};
use crate::context::Context;

/// The Lease that a dry run creates. RBAC allows it by name.
const NAME: &str = "bulla-clock";

/// How long the process's monotonic clock is trusted. It may stand still while a machine sleeps.
const TRUSTED_FOR: Duration = Duration::from_hours(1);

/// The API server's last time, and when it came by the monotonic clock.
#[derive(Default)]
pub(super) struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// The API server's time, or `None` if keys are never renewed.
    pub(super) async fn now(&mut self, ctx: &Context) -> Result<Option<Timestamp>, RequestFailure> {
        if ctx.args.renewal_period().is_none() {
            return Ok(None);
        }
        match self.0 {
            Some((said, at)) if at.elapsed() < TRUSTED_FOR => {
                let elapsed = SignedDuration::try_from(at.elapsed()).unwrap_or_default();
                Ok(said.checked_add(elapsed).ok())
            }
            _ => self.ask(ctx).await.map(Some),
        }
    }

    /// Asks for the API server's time. The server stamps every object that is created, even in a dry run.
    pub(super) async fn ask(&mut self, ctx: &Context) -> Result<Timestamp, RequestFailure> {
        let api: Api<Lease> = Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
        let params = PostParams { dry_run: true, ..post_params() };
        let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
        // With a PUT, as in `create_lease`: no such Lease is ever stored.
        let tried = within(api.replace(NAME, &params, &Lease { metadata, spec: None })).await?;
        let said = tried.metadata.creation_timestamp.ok_or(RequestFailure::Unreadable)?.0;
        self.0 = Some((said, Instant::now()));
        Ok(said)
    }
}
