//! What this replica knows, as facts for a plan.

use crate::context::Context;
use crate::keys::plan::Facts;
use crate::state::key_store::KeySnapshot;

/// What is to be decided on, but for what only the API server or the leader can tell.
pub(super) fn facts(ctx: &Context) -> Facts {
    let KeySnapshot { identities, declared, backups, unusable, held } = ctx.key_store.snapshot();
    Facts {
        holder: ctx.args.holder.clone(),
        declared,
        identities,
        held,
        backups,
        unusable,
        recovery: ctx.args.recovery_recipients(),
        ..Facts::default()
    }
}
