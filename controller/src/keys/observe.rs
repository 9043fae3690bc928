//! Reads what this replica knows, as facts for a plan.

use crate::context::Context;
use crate::keys::plan::Facts;
use crate::state::key_store::KeySnapshot;

/// The facts for a plan, except those that only the API server or the leader knows.
pub(super) fn facts(ctx: &Context) -> Facts {
    let KeySnapshot { identities, declared, backups, unusable, held } = ctx.key_store.snapshot();
    Facts {
        holder: ctx.holder.name().to_owned(),
        declared,
        identities,
        held,
        backups,
        unusable,
        recovery: ctx.args.recovery_recipients(),
        recovery_keys: ctx.args.recovery_keys(),
        key_type: Some(ctx.args.key_type.into()),
        ..Facts::default()
    }
}
