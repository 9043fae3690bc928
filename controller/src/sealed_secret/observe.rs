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
///
/// The target is read first. A write at the resource version of its metadata then fails when anybody has
/// written since, so nobody's work for a newer SealedSecret than the one read here is undone.
pub(super) async fn observe(
    ctx: &Context,
    cached: &SealedSecret,
    is_target_likely: bool,
) -> Result<Option<Observed>, Failure> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let target = match is_target_likely {
        true => target(ctx, &namespace, &name).await?,
        false => TargetState::Unseen,
    };
    let api = Api::<SealedSecret>::namespaced(ctx.client.clone(), &namespace);
    let sealed_secret = api.get_opt(&name).await?;
    Ok(sealed_secret
        .filter(|sealed_secret| sealed_secret.metadata.deletion_timestamp.is_none())
        .map(|sealed_secret| Observed { sealed_secret, target }))
}

/// Reads the metadata of the target.
async fn target(ctx: &Context, namespace: &str, name: &str) -> Result<TargetState, Failure> {
    let metadata = api::secret_metadata(&ctx.client, namespace, name).await?;
    Ok(metadata.map_or(TargetState::Absent, |metadata| TargetState::Present(Box::new(metadata))))
}
