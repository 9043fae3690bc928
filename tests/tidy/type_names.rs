//! A name has one meaning in the whole workspace: no two types of production code share one, and a type's methods
//! are in one file.
//!
//! Run it alone: `cargo test -p bulla-tests --test tidy type_names`.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::source_crate::crates;
use crate::{SEE_ALL, none};

/// Names that several types share, each with the reason.
const SHARED: &[(&str, &str)] = &[
    ("Identity", "sealing: each recipient type has its own, and `key` the enum over them"),
    ("Recipient", "sealing: each recipient type has its own, and `key` the enum over them"),
    ("Wrapped", "sealing: each recipient type has its own, and `key` the enum over them"),
];

#[test]
fn no_two_types_share_a_name() -> Result<()> {
    let is_shared = |name: &str| SHARED.iter().any(|(shared, _)| *shared == name);
    let findings = files_by_type_name()?
        .into_iter()
        .filter(|(name, files)| files.len() > 1 && !is_shared(name))
        .map(|(name, files)| format!("{name}: {}", files.join(", ")));
    none(
        "give each type a telling name of its own, or add the name to SHARED with a reason",
        findings,
    )
}

fn files_by_type_name() -> Result<BTreeMap<String, Vec<String>>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for read in crates()? {
        let folder = read.root().split('/').next().unwrap_or_default();
        if SEE_ALL.contains(&folder) || !read.root().contains("/src/") {
            continue;
        }
        for found in read.types() {
            files.entry(found.name.clone()).or_default().push(found.file.clone());
        }
    }
    Ok(files)
}

#[test]
fn a_types_methods_are_in_one_file() -> Result<()> {
    let mut findings = Vec::new();
    for read in crates()? {
        for (name, definer, other) in read.scattered_methods() {
            findings.push(format!("{name} of {definer}: {other}"));
        }
    }
    none("move the methods beside their type, or make them functions", findings)
}
