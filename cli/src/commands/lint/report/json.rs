//! For programs.

use serde_json::{Value, json};

use super::Report;
use crate::commands::lint::finding::Finding;

pub(super) fn render(report: &Report) -> Value {
    json!({
        "findings": report.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "allowed": report.allowed.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "files": report.files.len(),
        "sealedSecrets": report.sealed_secrets,
        "values": report.values,
        "otherObjects": report.other_objects,
        "otherFiles": report.other_files,
    })
}
