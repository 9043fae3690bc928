//! The committed CustomResourceDefinitions match the types.
//!
//! `UPDATE=1 cargo test -p bulla-crds --test generated` refreshes them.

use std::path::Path;

use bulla_crds::crd;

#[test]
fn committed_definitions_are_current() {
    for crd in crd::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("generated")
            .join(format!("{}.yaml", crd.spec.names.plural));
        let current = format!(
            "# Generated from crds/src by `UPDATE=1 cargo test -p bulla-crds`.\n{}",
            yaml_serde::to_string(&crd).unwrap()
        );
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == current,
            "{} is out of date; refresh it with UPDATE=1",
            path.display()
        );
    }
}
