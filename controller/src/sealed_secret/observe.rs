//! Reads: the SealedSecret as it is now, and the metadata of its target. Values of Secrets are never read.

use bulla_crds::SealedSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};

use crate::api::{self, Failure};
use crate::context::Context;

/// Everything that a plan is made from, beside the keyring.
pub(super) struct Observed {
    pub(super) sealed_secret: SealedSecret,
    pub(super) target: TargetState,
}

/// What is known of the target.
pub(super) enum TargetState {
    /// Nothing hints at one, so it was not asked for; creating it will tell.
    Unseen,
    /// There is none.
    Absent,
    /// There is one.
    Present(Box<PartialObjectMeta<Secret>>),
}

/// Reads the object that `cached` stands for; `None` when there is nothing to do for it any more.
pub(super) async fn observe(
    ctx: &Context,
    cached: &SealedSecret,
    is_target_cached: bool,
) -> Result<Option<Observed>, Failure> {
    let namespace = cached.namespace().unwrap_or_default();
    let api = Api::<SealedSecret>::namespaced(ctx.client.clone(), &namespace);
    let Some(sealed_secret) = api.get_opt(&cached.name_any()).await? else { return Ok(None) };
    if sealed_secret.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let was_written = sealed_secret.status.as_ref().is_some_and(|status| status.target.is_some());
    let target = match is_target_cached || was_written {
        true => target(ctx, &sealed_secret).await?,
        false => TargetState::Unseen,
    };
    Ok(Some(Observed { sealed_secret, target }))
}

/// Reads the metadata of the target.
pub(super) async fn target(
    ctx: &Context,
    sealed_secret: &SealedSecret,
) -> Result<TargetState, Failure> {
    let namespace = sealed_secret.namespace().unwrap_or_default();
    let metadata = api::secret_metadata(&ctx.client, &namespace, &sealed_secret.name_any()).await?;
    Ok(metadata.map_or(TargetState::Absent, |metadata| TargetState::Present(Box::new(metadata))))
}
