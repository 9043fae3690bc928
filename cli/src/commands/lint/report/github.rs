//! Workflow commands, which GitHub shows beside the lines of a change.

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;
use crate::commands::lint::rule::Level;
use crate::report::escape;

pub(super) fn render(report: &LintReport) -> String {
    report.findings.iter().map(command).collect()
}

/// `::error file=…,line=…,col=…,endColumn=…,title=…::MESSAGE`.
fn command(finding: &Finding) -> String {
    let place = &finding.place;
    let word = match finding.level() {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let mut properties = format!("file={},line={}", property(&place.file), place.line);
    if let Some(columns) = &place.columns {
        properties.push_str(&format!(",col={},endColumn={}", columns.start, columns.end));
    }
    let title = property(&format!("bulla: {}", finding.rule));
    let message = data(&format!("{} ({})", finding.sentence(), finding.rule.hint()));
    format!("::{word} {properties},title={title}::{message}\n")
}

/// Text after the second `::`. A line break would begin another command.
fn data(text: &str) -> String {
    escape::line(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Text as the value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::lint::finding::FindingPlace;
    use crate::commands::lint::rule::Rule;

    #[test]
    fn nothing_in_a_finding_begins_another_command() {
        let place =
            FindingPlace { columns: Some(3..5), ..FindingPlace::line("a,b:100%\n::error::x", 2) };
        let finding = Finding::at(Rule::Schema, place, "50% of\n::warning::it");
        assert_eq!(
            command(&finding),
            "::error file=a%2Cb%3A100%25\\u{a}%3A%3Aerror%3A%3Ax,line=2,col=3,endColumn=5,title=bulla%3A schema::50%25 of\\u{a}::warning::it (correct it: the API server refuses the object)\n"
        );
    }
}
