//! The API server's time, by which the age of keys is judged: our own clock may be wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use tokio::time::Instant;

use crate::api::{RequestFailure, post_params, within};
use crate::context::Context;

/// How long our own steady clock is relied upon. It may stand still while a machine sleeps.
const RELIED_UPON: Duration = Duration::from_hours(1);

/// What the API server said, and when by our steady clock.
#[derive(Default)]
pub(super) struct Clock(Option<(Timestamp, Instant)>);

impl Clock {
    /// The API server's time, as far as it is needed: `None` when keys are never renewed.
    pub(super) async fn now(&mut self, ctx: &Context) -> Result<Option<Timestamp>, RequestFailure> {
        if ctx.args.renewal_period().is_none() {
            return Ok(None);
        }
        match self.0 {
            Some((said, at)) if at.elapsed() < RELIED_UPON => {
                let elapsed = SignedDuration::try_from(at.elapsed()).unwrap_or_default();
                Ok(said.checked_add(elapsed).ok())
            }
            _ => self.ask(ctx).await.map(Some),
        }
    }

    /// The API server's time. It stamps whatever is created, also when that is only tried.
    pub(super) async fn ask(&mut self, ctx: &Context) -> Result<Timestamp, RequestFailure> {
        let api: Api<Lease> = Api::namespaced(ctx.client.clone(), &ctx.args.namespace);
        let params = PostParams { dry_run: true, ..post_params() };
        let metadata =
            ObjectMeta { generate_name: Some("bulla-clock-".into()), ..ObjectMeta::default() };
        let tried = within(api.create(&params, &Lease { metadata, spec: None })).await?;
        let said = tried.metadata.creation_timestamp.ok_or(RequestFailure::Unreadable)?.0;
        self.0 = Some((said, Instant::now()));
        Ok(said)
    }
}
