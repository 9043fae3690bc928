//! One line each: `FILE:LINE:COLUMN: LEVEL: document 2, prod/db, key password: MESSAGE [RULE]`.

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;
use crate::report::escape;

pub(super) fn render(report: &LintReport) -> String {
    report.findings.iter().map(line).collect()
}

pub(super) fn line(finding: &Finding) -> String {
    let place = &finding.place;
    let column = place.columns.as_ref().map(|columns| format!(":{}", columns.start));
    let text = format!(
        "{}:{}{}: {}: {} [{}]",
        place.file,
        place.line,
        column.unwrap_or_default(),
        finding.level().as_str(),
        finding.sentence(),
        finding.rule
    );
    escape::line(&text) + "\n"
}
