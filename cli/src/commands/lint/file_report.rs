//! The result of checking one file, the allowances in it, and the duplicates among files.

use std::collections::HashMap;
use std::path::Path;

use crate::commands::lint::allowance::{self, Allowance};
use crate::commands::lint::context::LintContext;
use crate::commands::lint::finding::{Finding, FindingPlace, MAX_FINDINGS};
use crate::commands::lint::rule::{Basis, Rule};
use crate::report::diagnostic::Diagnostic;

/// The result of one check.
#[derive(Default)]
pub(super) struct FileReport {
    pub(super) name: String,
    pub(super) findings: Vec<Finding>,
    pub(super) allowances: Vec<Allowance>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
    /// Whether it looks like a manifest but has nothing to check.
    pub(super) is_other: bool,
    /// Whether it should have been checked and could not be read.
    pub(super) is_unreadable: bool,
    /// Why it was not checked.
    pub(super) diagnostic: Option<Diagnostic>,
    pub(super) environment: Option<String>,
    pub(super) seen: Vec<SeenObject>,
}

/// An object, kept to find duplicates.
pub(super) struct SeenObject {
    pub(super) kind: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// `namespace/name` as the manifest has it.
    pub(super) title: String,
    /// Where its document begins.
    pub(super) place: FindingPlace,
}

impl FileReport {
    /// Whether the check ends, because there are too many findings.
    pub(super) fn is_full(&self) -> bool {
        self.findings.len() >= MAX_FINDINGS
    }

    /// Cuts the findings off at the limit, and says so.
    pub(super) fn cap(&mut self) {
        if !self.is_full() {
            return;
        }
        self.findings.truncate(MAX_FINDINGS);
        let what =
            format!("more than {MAX_FINDINGS} findings, so the rest of the file was not checked");
        let place = FindingPlace::line(&self.name, 1);
        self.findings.push(Finding::at(Rule::UncheckedFile, place, what));
    }

    /// Adds allowances, and findings about those that cannot be read.
    pub(super) fn allow(&mut self, (allowances, findings): (Vec<Allowance>, Vec<Finding>)) {
        self.allowances.extend(allowances);
        self.findings.extend(findings);
    }

    /// Makes templates that were changed and could not be checked errors.
    pub(super) fn raise_templates(&mut self, is_raised: bool) {
        for finding in &mut self.findings {
            finding.is_raised |= is_raised && finding.rule == Rule::UnrenderedTemplate;
        }
    }

    /// Marks what is allowed, and finds unused allowances, except for rules and files that could not be checked.
    pub(super) fn apply_allowances(&mut self, context: &LintContext<'_>) {
        let before = context.base.and_then(|base| base.allowed_before(Path::new(&self.name)));
        let Self { findings, allowances, is_unreadable, .. } = self;
        let added = before.map(|before| added(allowances, before)).unwrap_or_default();
        let is_added = |allowance: &Allowance| added.contains(&allowance.place);
        for finding in
            findings.iter_mut().filter(|finding| finding.rule.basis() != Basis::Allowances)
        {
            for allowance in allowances.iter_mut() {
                if allowance.is_for(finding) {
                    allowance.is_used = true;
                    if finding.rule.is_gated() && is_added(allowance) {
                        continue;
                    }
                    finding.allowed.get_or_insert_with(|| allowance.reason.clone());
                }
            }
        }
        findings.extend(
            added
                .iter()
                .map(|place| Finding::at(Rule::AllowanceAdded, place.clone(), ALLOWANCE_ADDED)),
        );
        let is_unused = |allowance: &&Allowance| {
            !*is_unreadable && !allowance.is_used && context.has(allowance.rule.basis())
        };
        findings.extend(allowances.iter().filter(is_unused).map(
            |Allowance { rule, place, .. }| {
                Finding::at(Rule::UnusedAllowance, place.clone(), unused(*rule))
            },
        ));
    }
}

const ALLOWANCE_ADDED: &str = "the earlier commit does not allow this, so it is not allowed for plaintext, pins and unchecked files";

/// The places of the allowances that an earlier version of the file does not have.
fn added(
    allowances: &[Allowance],
    mut before: HashMap<(Rule, String), usize>,
) -> Vec<FindingPlace> {
    let mut added = Vec::new();
    for Allowance { rule, reason, place, .. } in allowances {
        match before.get_mut(&(*rule, reason.clone())) {
            Some(left) if *left > 0 => *left -= 1,
            _ => added.push(place.clone()),
        }
    }
    added
}

fn unused(rule: Rule) -> String {
    format!("{rule} is allowed here, but there is no such finding")
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
        let is_added = context.base.is_some_and(|base| {
            let item = config.item_of_allowed(allowed);
            let before = base.config.as_ref().zip(item.as_ref());
            !before.is_some_and(|(before, item)| before.has_allowed(item))
        });
        if is_added {
            tell(Rule::AllowanceAdded, ALLOWANCE_ADDED.to_owned());
        }
        let (mut is_checked, mut is_used) = (false, false);
        let is_covered = |name: &str| config.allows_for(allowed, Path::new(name));
        for report in reports.iter_mut().filter(|report| is_covered(&report.name)) {
            is_checked |= !report.is_unreadable;
            for finding in report.findings.iter_mut().filter(|finding| finding.rule == rule) {
                is_used = true;
                if !(is_added && rule.is_gated()) {
                    finding.allowed.get_or_insert_with(|| allowed.reason.clone());
                }
            }
        }
        if is_checked && !is_used && context.has(rule.basis()) {
            tell(Rule::UnusedAllowance, unused(rule));
        }
    }
    findings
}

/// Finds duplicate objects of an environment, or of a file or stream outside of environments.
pub(super) fn find_duplicates(reports: &mut [FileReport]) {
    let mut first: HashMap<_, FindingPlace> = HashMap::new();
    for FileReport { name: file, environment, seen, findings, .. } in reports {
        for SeenObject { kind, namespace, name, title, place } in std::mem::take(seen) {
            let extent = match (&environment, &namespace) {
                (Some(environment), Some(_)) => format!("environment {environment}"),
                // Without a namespace the same name in another file may be for another one.
                _ => format!("file {file}"),
            };
            let key = (extent, kind, namespace, name);
            if let Some(FindingPlace { file, line, .. }) = first.get(&key) {
                let message = format!("the same {kind} is in {file}, line {line}");
                let finding = Finding::at(Rule::DuplicateObject, place, message);
                findings.push(Finding { object: Some(title), ..finding });
            } else {
                first.insert(key, place);
            }
        }
    }
}
