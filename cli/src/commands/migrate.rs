//! `bulla migrate`.
//!
//! First it opens each value in all files with the other tool's keys and seals it again, without writing anything.
//! Then it replaces each file entirely or not at all. Plaintext is only in memory.

mod bitnami;
mod conversion;
mod draft;
mod report;
mod sops;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;

use self::draft::{Job, MigrateDraft};
use self::report::MigrateReport;
use crate::command_line::flags::ReportFormat;
use crate::files::write::{self, Existing, Visibility};
use crate::files::{self, input, walk};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;
use crate::who::destination::{Destination, DestinationFlags};

/// Migrate secrets from Sealed Secrets or SOPS to Bulla
///
/// Finds Bitnami SealedSecrets and SOPS-encrypted Secrets in files and folders and replaces each by a SealedSecret
/// in the same place. Comments and everything else in the files stay. Anything without an equivalent is reported; a
/// file with something that cannot be migrated stays unchanged.
///
/// Bitnami's SealedSecrets are opened offline with the controller's private keys (--from-key). SOPS-encrypted
/// Secrets are opened by the sops program, with the keys that it finds. No plaintext is written anywhere.
///
/// Values are sealed to the recipients of -r and -R; without these, to those that bulla.yaml pins for each file's
/// environment; without a bulla.yaml, to the cluster's own Active key and to the recovery keys that it declares.
///
/// In folders, *.yaml, *.yml and *.json that Git does not ignore are read. The exit code is 1 if something could
/// not be migrated; other files are still done.
#[derive(Args)]
pub(crate) struct Migrate {
    /// Files and folders
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// A private key of Bitnami's controller: PEM, or the output of kubectl get secret -o yaml; - for stdin;
    /// repeatable
    #[arg(long = "from-key", value_name = "FILE")]
    from_keys: Vec<PathBuf>,

    #[command(flatten)]
    destination: DestinationFlags,

    /// The namespace of the Secrets; must match manifests that name one
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Secret")]
    namespace: Option<String>,

    /// Open and seal everything, report what would change, and change nothing
    #[arg(long, conflicts_with = "output", help_heading = None::<&str>)]
    dry_run: bool,

    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: ReportFormat,

    /// Write the result to FILE, - for stdout, and leave the input unchanged; takes a single input file
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// Overwrite an existing output file
    #[arg(long, requires = "output", help_heading = "Output")]
    force: bool,
}

impl Migrate {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.destination.recipients.recipients_files;
        input::refuse_stdin_twice(self.from_keys.iter().chain(recipients_files))?;
        let found = walk::manifests(&self.paths)?;
        if self.output.is_some() && (found.len() != 1 || !found[0].is_named) {
            return Err(anyhow!("-o takes exactly one input file, not a folder"))
                .or_hint("pass one file, or leave -o out to change the files in place");
        }
        let keys = match &self.from_keys[..] {
            [] => None,
            files => Some(bitnami::read_keys(files)?),
        };
        let authority = self.destination.authority(&self.paths)?;
        let mut drafts =
            walk::each(&found, "opening and sealing", draft::INTEREST, |found, outcome| {
                // The recipients are those of the file that receives the values.
                let file = self.output_file().unwrap_or(&found.path);
                let destination = || {
                    let destination = self.destination.destination(&authority, Some(file))?;
                    let namespace = destination.given_namespace(self.namespace.as_deref())?;
                    Ok(Destination { namespace, ..destination })
                };
                let job = Job { keys: keys.as_ref(), destination: &destination };
                MigrateDraft::of(found, outcome, &job)
            })?;
        let mut is_unable = false;
        if self.output.is_some() {
            let existing = Existing::unless(self.force);
            for new in drafts.iter().filter_map(|draft| draft.file.new.as_ref()) {
                write::file_or_stdout(self.output_file(), new, existing, Visibility::Public)?;
            }
        } else if !self.dry_run {
            is_unable = files::draft::replace_all(drafts.iter_mut().map(|draft| &mut draft.file));
        }
        let report = MigrateReport { drafts: &drafts, is_dry_run: self.dry_run };
        let text = match self.format {
            ReportFormat::Human => report.to_text(),
            ReportFormat::Json => format!("{:#}\n", report.to_json()),
        };
        // If the result goes to stdout, the report goes to stderr.
        match self.output.as_deref() {
            Some(path) if input::is_stdin(path) => output::stderr(&text),
            _ => output::stdout(text.as_bytes())?,
        }
        output::stderr(&report.notes());
        let mut answer = files::draft::report(drafts.iter().map(|draft| &draft.file), is_unable);
        if let Some(missing) = report.missing_key() {
            missing.report();
            if answer == Answer::Yes {
                answer = Answer::No;
            }
        }
        output::summary(&report.summary());
        Ok(answer)
    }

    /// The file that `-o` names; none for stdout.
    fn output_file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }
}
