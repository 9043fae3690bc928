//! Reads: the SealedSecret as it is now, and of its target as little as the policy allows. Values of Secrets
//! are never looked at.

use std::collections::BTreeSet;

use bulla_crds::SealedSecret;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;

use crate::api::{self, Failure};
use crate::cache::Known;
use crate::context::Context;
use crate::object::Object;

/// What is read of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Nothing hints at one; creating it will tell.
    Nothing,
    /// Its metadata.
    Metadata,
    /// Its metadata; and a replacement was refused, because it is immutable or has another type.
    Immutable,
    /// Its metadata and the names of its keys.
    Keys,
}

/// Everything that a plan is made from, beside the keyring.
pub(super) struct Observed {
    pub(super) sealed_secret: SealedSecret,
    pub(super) target: TargetState,
}

/// What is known of the target.
pub(super) enum TargetState {
    /// It was not asked for.
    Unseen,
    /// There is none.
    Absent,
    /// There is one.
    Present(Box<Present>),
}

impl TargetState {
    /// Whether it is known which keys it has.
    pub(super) fn is_known_by_keys(&self) -> bool {
        match self {
            Self::Unseen => false,
            Self::Absent => true,
            Self::Present(present) => present.keys.is_some(),
        }
    }
}

/// A target that is there.
pub(super) struct Present {
    pub(super) found: PartialObjectMeta<Secret>,
    /// The names of its keys, if they were read.
    pub(super) keys: Option<BTreeSet<String>>,
    /// Whether the API server has refused to replace it.
    pub(super) is_immutable: bool,
}

/// Reads the object; `None` when there is nothing to do for it any more.
///
/// The target is read first. A write at the resource version of its metadata then fails when anybody has
/// written since, so nobody's work for a newer SealedSecret than the one read here is undone. Where no target
/// is read the only write is a create, which undoes nothing, so there the SealedSecret may be as old as what
/// the watch has brought.
pub(super) async fn observe(
    ctx: &Context,
    object: &Object,
    known: &Known,
    reading: Reading,
) -> Result<Option<Observed>, Failure> {
    let target = target(ctx, object, reading).await?;
    let not_older_than = (reading == Reading::Nothing).then_some(known.resource_version.as_str());
    let sealed_secret = api::sealed_secret(&ctx.client, object, not_older_than).await?;
    Ok(sealed_secret
        .filter(|sealed_secret| sealed_secret.metadata.deletion_timestamp.is_none())
        .map(|sealed_secret| Observed { sealed_secret, target }))
}

async fn target(ctx: &Context, object: &Object, reading: Reading) -> Result<TargetState, Failure> {
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
