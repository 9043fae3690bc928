//! `bulla lint`.
//!
//! Files are read and checked one by one, on all processors. Then come the checks across files and the allowances, and
//! one report at the end.

mod allowance;
mod context;
mod file_report;
mod finding;
mod history;
mod kustomization;
mod leaks;
mod lint_report;
mod objects;
mod recipients;
mod report;
mod rule;
mod secrets;
mod shown;
mod template_text;
mod tree;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use self::context::LintContext;
use self::file_report::FileReport;
use self::finding::Finding;
use self::history::Base;
use self::lint_report::LintReport;
use self::report::LintFormat;
use self::rule::{Level, Rule};
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, sealing_keys};
use crate::command_line::completion;
use crate::parallel::in_parallel;
use crate::report::diagnostic::{self, Diagnostic};
use crate::report::failure::{Answer, Failure};
use crate::report::output;
use crate::report::progress::Progress;
use crate::who::config::{self, Config};

/// Check SealedSecrets and find plaintext secrets, with no key needed
///
/// Checks files, whole trees and streams, offline. Each SealedSecret is checked against the schema, the rules of
/// the API server and the controller, what each value says it is for, and the recipients that bulla.yaml pins for
/// the file. So it finds values that were moved or are sealed to the wrong key. Plaintext Secrets and age
/// identities are findings in any file. Documents of other kinds are counted but not checked.
///
/// In a folder, all files that Git tracks or does not ignore are checked. A file that you name must be readable.
/// Use - for a pipe: kustomize build envs/prod | bulla lint --environment prod -
///
/// To allow a finding, add a comment with a reason: # bulla-lint: allow RULE: REASON
///
/// The exit code is 1 if a finding is an error.
#[derive(Args)]
pub(crate) struct Lint {
    /// Files, folders, or - for stdin [default: the current folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: LintFormat,

    /// Also exit with 1 for findings of this level
    #[arg(long, value_enum, value_name = "LEVEL")]
    deny: Option<Deny>,

    /// Compare with this branch, tag or commit: check against its pins and report what happened to each value
    #[arg(long, value_name = "REF", help_heading = "Recipients")]
    base: Option<String>,

    /// Check against this environment of bulla.yaml [default: the one whose paths include the file]
    #[arg(short, long, value_name = "NAME", add = completion::environments(), help_heading = "Recipients")]
    environment: Option<String>,

    /// Use this bulla.yaml [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", help_heading = "Recipients")]
    config: Option<PathBuf>,

    /// Also ask a cluster whether it has the keys that values are sealed to; implied by --context
    #[arg(long, help_heading = "Cluster")]
    cluster: bool,

    #[command(flatten)]
    cluster_flags: ClusterFlags,

    /// Explain a rule and how to fix its findings, and check nothing
    #[arg(long, value_name = "RULE", value_parser = PossibleValuesParser::new(Rule::ALL.iter().map(|rule| rule.id())), hide_possible_values = true, help_heading = None::<&str>)]
    explain: Option<String>,
}

/// What is denied besides errors.
#[derive(Clone, Copy, ValueEnum)]
enum Deny {
    /// Warnings
    Warnings,
    /// Warnings and notes
    Notes,
}

impl Lint {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if let Some(rule) = self.explain.as_deref().and_then(Rule::parse) {
            output::stdout(format!("{rule}\n\n{}\n", rule.explanation()).as_bytes())?;
            return Ok(Answer::Yes);
        }
        let sources = tree::sources(&self.paths)?;
        let config = self.config()?;
        let has_cluster = self.cluster || self.cluster_flags.context.is_some();
        let cluster = has_cluster.then(|| Cluster::connect(&self.cluster_flags)).transpose()?;
        let keys = cluster.as_ref().map(sealing_keys::all).transpose()?;
        let base = self.base.as_deref().map(|git_ref| Base::read(git_ref, config.as_ref()));
        let base = base.transpose()?;
        let context = LintContext {
            config: config.as_ref(),
            environment: self.environment.as_deref(),
            keys: keys.as_ref(),
            base: base.as_ref(),
        };
        let progress = Progress::new("checking", sources.len());
        let reports = in_parallel(sources.len(), |index| {
            let report = tree::check(&sources[index], &context);
            progress.step();
            report
        });
        drop(progress);
        let mut reports = reports.into_iter().collect::<Result<Vec<_>, Failure>>()?;
        file_report::find_duplicates(&mut reports);
        reports.iter_mut().for_each(|report| report.apply_allowances(&context));
        let mut of_config = file_report::apply_config(&mut reports, &context);
        of_config.extend(base.iter().flat_map(|base| base.recipients_changed(config.as_ref())));
        self.tell(of_config, reports)
    }

    /// The bulla.yaml of the work tree that contains all of the paths.
    fn config(&self) -> Result<Option<Config>, Failure> {
        let config = config::find(self.config.as_deref(), &self.paths)?;
        if let Some(name) = &self.environment {
            config.as_ref().ok_or_else(config::none_for_environment)?.environment(name)?;
        }
        Ok(config)
    }

    fn tell(&self, of_config: Vec<Finding>, reports: Vec<FileReport>) -> Result<Answer, Failure> {
        let (report, diagnostics) = collect(of_config, reports);
        let text = report::render(&report, self.format)?;
        match self.format {
            LintFormat::Human => output::text(&text)?,
            _ => output::stdout(text.as_bytes())?,
        }
        diagnostic::report(&diagnostics);
        output::summary(&report.summary());
        let denied = match self.deny {
            None => Level::Error,
            Some(Deny::Warnings) => Level::Warning,
            Some(Deny::Notes) => Level::Note,
        };
        Ok(if !diagnostics.is_empty() {
            Answer::Unable
        } else if report.findings.iter().any(|finding| finding.level() >= denied) {
            Answer::No
        } else {
            Answer::Yes
        })
    }
}

/// All files together, after the findings in bulla.yaml.
fn collect(of_config: Vec<Finding>, reports: Vec<FileReport>) -> (LintReport, Vec<Diagnostic>) {
    let sum = |of: fn(&FileReport) -> usize| reports.iter().map(of).sum();
    let mut whole = LintReport {
        findings: of_config,
        allowed: Vec::new(),
        files: Vec::new(),
        sealed_secrets: sum(|report| report.sealed_secrets),
        values: sum(|report| report.values),
        other_objects: sum(|report| report.other_objects),
        other_files: sum(|report| usize::from(report.is_other)),
    };
    let mut diagnostics = Vec::new();
    for mut report in reports {
        report.findings.sort_by_key(|finding| finding.place.line);
        let (allowed, findings): (Vec<_>, Vec<_>) =
            report.findings.into_iter().partition(|finding| finding.allowed.is_some());
        whole.findings.extend(findings);
        whole.allowed.extend(allowed);
        match report.diagnostic {
            Some(diagnostic) => diagnostics.push(diagnostic),
            None => whole.files.push(report.name),
        }
    }
    (whole, diagnostics)
}
