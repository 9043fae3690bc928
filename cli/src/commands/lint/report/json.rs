//! For programs.

use serde_json::{Value, json};

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;

pub(super) fn render(report: &LintReport) -> Value {
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
