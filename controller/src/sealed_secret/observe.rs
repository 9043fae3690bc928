//! Reads the SealedSecret, and as little of its target as the policy allows. The values of Secrets are never read.

use crate::api::{self, RequestFailure};
use crate::context::Context;
use crate::sealed_secret::plan::{Observed, Present, Reading, TargetState};
use crate::state::cache::KnownSealedSecret;
use crate::state::object_ref::ObjectRef;

/// Reads the object. `None` if it is gone or being deleted.
///
/// The target is read first. A write at the resource version of its metadata fails if anybody has written since.
/// So a target that was written for a newer SealedSecret is never overwritten for the SealedSecret read here. If no
/// target is read, the only write is a create, which overwrites nothing. Then the SealedSecret may be as old as the
/// one that the watch delivered.
pub(super) async fn observe(
    ctx: &Context,
    object: &ObjectRef,
    known: &KnownSealedSecret,
    reading: Reading,
) -> Result<Option<Observed>, RequestFailure> {
    let target = target(ctx, object, reading).await?;
    let not_older_than = (reading == Reading::Nothing).then_some(known.resource_version.as_str());
    let found = api::sealed_secret(&ctx.client, object, not_older_than, &ctx.room).await?;
    Ok(found.filter(|(sealed_secret, _)| sealed_secret.metadata.deletion_timestamp.is_none()).map(
        |(sealed_secret, occupied)| Observed { occupied, ..Observed::new(sealed_secret, target) },
    ))
}

async fn target(
    ctx: &Context,
    object: &ObjectRef,
    reading: Reading,
) -> Result<TargetState, RequestFailure> {
    let present = match reading {
        Reading::Nothing => return Ok(TargetState::Unseen),
        Reading::Metadata | Reading::Immutable => {
            api::secret_metadata(&ctx.client, object).await?.map(|found| Present {
                found,
                keys: None,
                is_immutable: reading == Reading::Immutable,
            })
        }
        Reading::Keys => api::secret_keys(&ctx.client, object)
            .await?
            .map(|(found, keys)| Present { found, keys: Some(keys), is_immutable: false }),
    };
    Ok(present.map_or(TargetState::Absent, |present| TargetState::Present(Box::new(present))))
}
