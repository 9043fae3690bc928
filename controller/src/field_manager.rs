//! The name under which all writes are made, and what the API server's record of writers says of it.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::ObjectMeta;

/// The name under which all writes are made.
pub(crate) const FIELD_MANAGER: &str = "bulla-controller";

/// The keys of the data that we applied.
pub(crate) fn applied_data_keys(metadata: &ObjectMeta) -> impl Iterator<Item = String> {
    entries_of_ours(metadata)
        .filter(|entry| entry.operation.as_deref() == Some("Apply"))
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:data")?.as_object())
        .flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")))
        .map(str::to_owned)
}

/// The labels or annotations that the API server's record says we set.
pub(crate) fn set_by_us(metadata: &ObjectMeta, field: &str) -> BTreeSet<String> {
    let fields = entries_of_ours(metadata)
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:metadata")?.get(field)?.as_object());
    fields
        .flat_map(|fields| {
            fields.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned)
        })
        .collect()
}

/// The other field manager that wrote last. A client chooses that name, so only what looks like one is shown.
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

fn entries_of_ours(metadata: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
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
