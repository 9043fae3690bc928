//! `bulla inspect`.

mod report;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_crds::AGE_PREFIX;
use clap::Args;
use serde_json::json;

use self::report::InspectReport;
use crate::command_line::flags::ReportFormat;
use crate::files::input::{self, Input};
use crate::files::walk::{self, SealedSecrets};
use crate::manifest::Manifests;
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Answer, Failure};
use crate::report::{diagnostic, output};
use crate::who::config::{self, Config};
use crate::who::identities;

/// Show what each sealed value is for and who can open it, with no key
///
/// Shows what the values say about themselves. The cluster verifies that when it opens them; nobody can verify it
/// without a key. The names of holders come from bulla.yaml, if there is one.
///
/// In a folder, *.yaml, *.yml and *.json that Git does not ignore are read. A file, or stdin, may also be a single
/// sealed value: its base64 from a manifest, or the age file itself, binary or armored.
///
/// The exit code is 1 if something cannot be read.
#[derive(Args)]
pub(crate) struct Inspect {
    /// Files and folders with manifests, or single values; - for stdin [default: stdin]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Take the names of holders from this bulla.yaml [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let mut inspection = Inspection::default();
        for path in input::paths(&self.files, [])? {
            if path.is_dir() {
                inspection.folder(path)?;
            } else {
                inspection.file(input::read(path)?)?;
            }
        }
        let Inspection { reports, diagnostics } = inspection;
        let config = self.config()?;
        let config = config.as_ref();
        match self.format {
            ReportFormat::Human => {
                let texts: Vec<_> = reports.iter().map(|report| report.to_text(config)).collect();
                output::text(&texts.join("\n"))?;
            }
            ReportFormat::Json => {
                let json: Vec<_> = reports.iter().map(|report| report.to_json(config)).collect();
                output::stdout(format!("{:#}\n", json!(json)).as_bytes())?;
            }
        }
        diagnostic::report(&diagnostics);
        let is_all_read = diagnostics.is_empty() && reports.iter().all(InspectReport::is_read);
        Ok(if is_all_read { Answer::Yes } else { Answer::No })
    }

    /// The bulla.yaml only provides the names of holders, so an unreadable one is fatal only if --config names it.
    fn config(&self) -> Result<Option<Config>, Failure> {
        let config = config::find(self.config.as_deref(), &self.files);
        if self.config.is_some() { config } else { Ok(config::of_names(config)) }
    }
}

/// What was found in all files.
#[derive(Default)]
struct Inspection {
    reports: Vec<InspectReport>,
    diagnostics: Vec<Diagnostic>,
}

impl Inspection {
    /// A file that was named, or stdin.
    fn file(&mut self, input: Input) -> Result<(), Failure> {
        if let Some(value) = single_value(&input)? {
            self.reports.push(InspectReport::of_value(&input.name, &value));
            return Ok(());
        }
        let name = input.name.clone();
        let manifests = Manifests::of(input)?;
        let (objects, others) = manifests.sealed_among_others()?;
        if others > 0 {
            let others = output::count(others, "object");
            output::note(&format!("{name}: {others} of other kinds skipped"));
        }
        for object in objects {
            self.reports.push(InspectReport::of_object(&object)?);
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), Failure> {
        let found = walk::manifests(&[path.to_owned()])?;
        let inspections = walk::each(&found, "reading", walk::OURS, |found, outcome| {
            let mut inspection = Self::default();
            let Some(open) = outcome.opened(&mut inspection.diagnostics) else {
                return Ok(inspection);
            };
            let SealedSecrets { objects, unknown, .. } = open.sealed_secrets();
            inspection.diagnostics = unknown;
            for object in objects {
                match InspectReport::of_object(&object) {
                    Ok(report) => inspection.reports.push(report),
                    Err(failure) => {
                        let name = found.path.display().to_string();
                        inspection.diagnostics.push(Diagnostic::of(&name, failure));
                    }
                }
            }
            Ok(inspection)
        })?;
        for Self { reports, diagnostics } in inspections {
            self.reports.extend(reports);
            self.diagnostics.extend(diagnostics);
        }
        Ok(())
    }
}

/// The age file in `input`, in any of its forms; none if the input is not one.
fn single_value(input: &Input) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(file) = identities::age_file(&input.name, &input.bytes)? {
        return Ok(Some(file.to_vec()));
    }
    if !input.bytes.trim_ascii_start().starts_with(AGE_PREFIX.as_bytes()) {
        return Ok(None);
    }
    let digits = input.bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    Ok(BASE64_STANDARD.decode(digits.collect::<Vec<u8>>()).ok())
}
