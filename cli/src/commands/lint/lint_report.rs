//! All findings, in all files.

use serde_json::{Value, json};

use crate::commands::lint::finding::Finding;
use crate::commands::lint::rule::Level;
use crate::report::output;

/// All findings.
pub(super) struct LintReport {
    pub(super) findings: Vec<Finding>,
    /// Findings with a reason why they are allowed.
    pub(super) allowed: Vec<Finding>,
    /// The checked files, without those that were refused.
    pub(super) files: Vec<String>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
    pub(super) other_files: usize,
}

impl LintReport {
    pub(super) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level() == level).count()
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        let json = |findings: &[Finding]| findings.iter().map(Finding::to_json).collect::<Vec<_>>();
        json!({
            "findings": json(&self.findings),
            "allowed": json(&self.allowed),
            "files": self.files.len(),
            "sealedSecrets": self.sealed_secrets,
            "values": self.values,
            "otherObjects": self.other_objects,
            "otherFiles": self.other_files,
        })
    }

    /// One line that sums up the report.
    pub(super) fn summary(&self) -> String {
        let mut parts = vec![format!(
            "{}, {}: {}, {}",
            output::count(self.sealed_secrets, "SealedSecret"),
            output::count(self.values, "value"),
            output::count(self.count(Level::Error), "error"),
            output::count(self.count(Level::Warning), "warning"),
        )];
        let others: Vec<_> = [(self.other_objects, "object"), (self.other_files, "file")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, one)| output::count(count, one))
            .collect();
        if !others.is_empty() {
            parts.push(format!("{} of other kinds skipped", others.join(" and ")));
        }
        if !self.allowed.is_empty() {
            let of_leaks =
                match self.allowed.iter().filter(|finding| finding.rule.is_leak()).count() {
                    0 => String::new(),
                    leaks => format!(", {leaks} of them with a plaintext secret"),
                };
            let allowed = output::count(self.allowed.len(), "finding");
            parts.push(format!("{allowed} allowed with a reason{of_leaks}"));
        }
        parts.join("; ")
    }
}
