//! The report at the end, in the format that its reader needs.

mod github;
mod human;
mod junit;
mod sarif;

use anyhow::Result;
use clap::ValueEnum;

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;

/// Who or what reads the findings.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum LintFormat {
    /// For people, with the line and what to do
    #[default]
    Human,
    /// For people and editors, one line each
    Concise,
    /// For programs
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations in the log of a GitHub workflow
    Github,
    /// JUnit's XML, for CI servers
    Junit,
}

/// The whole report in one format.
pub(super) fn render(report: &LintReport, form: LintFormat) -> Result<String> {
    match form {
        LintFormat::Human => Ok(human::render(report)),
        LintFormat::Concise => Ok(report.findings.iter().map(Finding::to_line).collect()),
        LintFormat::Json => Ok(format!("{:#}\n", report.to_json())),
        LintFormat::Sarif => Ok(format!("{:#}\n", sarif::render(report))),
        LintFormat::Github => Ok(github::render(report)),
        LintFormat::Junit => junit::render(report),
    }
}
