//! Applies allowances to the findings.

use std::path::Path;

use crate::commands::lint::allowance::{self, Allowance};
use crate::commands::lint::context::LintContext;
use crate::commands::lint::finding::Finding;
use crate::commands::lint::rule::{Basis, Rule};
use crate::commands::lint::tree::FileReport;

/// Marks what is allowed, and finds unused allowances, except for rules and files that could not be checked.
pub(super) fn apply(report: &mut FileReport, context: &LintContext<'_>) {
    let FileReport { findings, allowances, is_unreadable, .. } = report;
    for finding in findings.iter_mut().filter(|finding| finding.rule.basis() != Basis::Allowances) {
        for allowance in allowances.iter_mut() {
            if allowance.is_for(finding) {
                allowance.is_used = true;
                finding.allowed.get_or_insert_with(|| allowance.reason.clone());
            }
        }
    }
    let is_unused =
        |allowance: &&Allowance| !allowance.is_used && context.has(allowance.rule.basis());
    let unused = allowances.iter().filter(|allowance| !*is_unreadable && is_unused(allowance));
    findings.extend(unused.map(|allowance| {
        let message = format!("{} is allowed here, but there is no such finding", allowance.rule);
        Finding::at(Rule::UnusedAllowance, allowance.place.clone(), message)
    }));
}

/// Marks what bulla.yaml allows for whole files, and finds allowances that are wrong or unused in the checked files.
pub(super) fn apply_config(reports: &mut [FileReport], context: &LintContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(config) = context.config else { return findings };
    for allowed in &config.allowed {
        let mut tell = |rule, message: String| {
            let file = config.path.display().to_string();
            let mark = config.mark_of_allowed(allowed);
            findings.push(Finding::of_field(rule, &file, mark.as_ref(), message));
        };
        let rule = match allowance::rule(&allowed.rule) {
            Ok(rule) => rule,
            Err(what) => {
                tell(Rule::BadAllowance, what.to_owned());
                continue;
            }
        };
        let (mut is_checked, mut is_used) = (false, false);
        for report in reports.iter_mut() {
            if !config.allows_for(allowed, Path::new(&report.name)) {
                continue;
            }
            is_checked |= !report.is_unreadable;
            for finding in report.findings.iter_mut().filter(|finding| finding.rule == rule) {
                finding.allowed.get_or_insert_with(|| allowed.reason.clone());
                is_used = true;
            }
        }
        if is_checked && !is_used && context.has(rule.basis()) {
            tell(
                Rule::UnusedAllowance,
                format!("{rule} is allowed here, but there is no such finding"),
            );
        }
    }
    findings
}
