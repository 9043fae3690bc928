//! The field manager name of all writes, and what `managedFields` records about it.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::ObjectMeta;

/// The field manager name of all writes.
pub(crate) const FIELD_MANAGER: &str = "bulla-controller";

/// The data keys that the controller applied.
pub(crate) fn applied_data_keys(metadata: &ObjectMeta) -> impl Iterator<Item = String> {
    own_entries(metadata)
        .filter(|entry| entry.operation.as_deref() == Some("Apply"))
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:data")?.as_object())
        .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")))
        .map(str::to_owned)
}

/// The labels or annotations that `managedFields` credits to the controller.
pub(crate) fn own_fields(metadata: &ObjectMeta, field: &str) -> BTreeSet<String> {
    let fields = own_entries(metadata)
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:metadata")?.get(field)?.as_object());
    fields
        .flat_map(|fields| {
            fields.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned)
        })
        .collect()
}

/// The field manager, other than the controller, that wrote last. Clients choose these names freely, so a name is
/// returned only if it looks like one.
pub(crate) fn last_writer(metadata: &ObjectMeta) -> Option<String> {
    let others = metadata.managed_fields.iter().flatten().filter_map(|entry| {
        let manager = entry.manager.as_deref().filter(|manager| *manager != FIELD_MANAGER)?;
        Some((entry.time.as_ref().map(|time| time.0), manager))
    });
    let (_, manager) = others.max()?;
    let is_name = manager.len() <= 64
        && manager.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    is_name.then(|| manager.to_owned())
}

fn own_entries(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    let entries = metadata.managed_fields.iter().flatten();
    entries.filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_other_writer_is_named_if_its_name_looks_like_one() {
        let metadata = |manager: &str| {
            let entry = |manager: &str, time: &str| json!({"manager": manager, "time": time});
            serde_json::from_value::<ObjectMeta>(json!({"managedFields": [
                entry("earlier", "2026-11-01T00:00:00Z"),
                entry(manager, "2026-11-02T00:00:00Z"),
                entry(FIELD_MANAGER, "2026-11-03T00:00:00Z"),
            ]}))
            .unwrap()
        };
        assert_eq!(last_writer(&metadata("kubectl-edit")).as_deref(), Some("kubectl-edit"));
        assert_eq!(last_writer(&metadata("what is this")), None);
        assert_eq!(last_writer(&ObjectMeta::default()), None);
    }
}
