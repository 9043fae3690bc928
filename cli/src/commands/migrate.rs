//! `bulla migrate`.
//!
//! First everything is worked out for all files and nothing is written: each value is opened with the other tool's
//! keys and sealed again. Then each file is exchanged whole, or not at all. Plaintext is in memory only.

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
use crate::who::destination::DestinationFlags;

/// Turn what other tools sealed into SealedSecrets of ours
///
/// Looks through files and whole trees for SealedSecrets of Bitnami's controller, and for Secrets that SOPS
/// encrypted, and turns each into a SealedSecret in its place. Comments and everything else in the files stay. What
/// has no equivalent is told, and nothing is left out silently: a file in which something cannot be migrated stays
/// as it is.
///
/// Bitnami's are opened with their private keys (--from-key), offline. Those of SOPS are opened by the program sops,
/// with the keys that it finds itself. No plaintext is written anywhere.
///
/// Values are sealed to the recipients given with -r and -R. Without either, to those that bulla.yaml pins for
/// the environment of each file; and where there is no bulla.yaml, to the cluster's own Active key.
///
/// In folders, *.yaml, *.yml and *.json are looked at, less what Git ignores. Exit code 1 says that something
/// could not be migrated; the other files are done all the same.
#[derive(Args)]
pub(crate) struct Migrate {
    /// Files, and folders with all that is in them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// A private key of Bitnami's controller: a PEM file, or what kubectl get secret -o yaml prints of its keys; - for stdin; repeat for several
    #[arg(long = "from-key", value_name = "FILE")]
    from_keys: Vec<PathBuf>,

    #[command(flatten)]
    destination: DestinationFlags,

    /// The namespace of the Secrets; must agree with the manifests that name one
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Open and seal everything and say what would change, and change nothing
    #[arg(long, conflicts_with = "output")]
    dry_run: bool,

    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,

    /// With one file: write the result to FILE, or - for stdout, and leave the file as it is
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write over an existing file that -o names
    #[arg(long, requires = "output")]
    force: bool,
}

impl Migrate {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.destination.recipients.recipients_files;
        input::refuse_stdin_twice(self.from_keys.iter().chain(recipients_files))?;
        let found = walk::manifests(&self.paths)?;
        if self.output.is_some() && (found.len() != 1 || !found[0].is_named) {
            return Err(anyhow!("-o takes the result of one file that is named"))
                .or_hint("name one file, or leave -o out to change the files in place");
        }
        let keys = if self.from_keys.is_empty() {
            None
        } else {
            Some(bitnami::read_keys(&self.from_keys)?)
        };
        let authority = self.destination.authority(&self.paths)?;
        let mut drafts =
            walk::each(&found, "opening and sealing", draft::INTEREST, |found, outcome| {
                // What becomes of the values decides.
                let file = self.output_file().unwrap_or(&found.path);
                let job = Job {
                    keys: keys.as_ref(),
                    destination: &|| self.destination.destination(&authority, Some(file)),
                    namespace: self.namespace.as_deref(),
                };
                MigrateDraft::of(found, outcome, &job)
            })?;
        let mut is_unable = false;
        if self.output.is_some() {
            self.write_one(&drafts)?;
        } else if !self.dry_run {
            is_unable = files::draft::replace_all(drafts.iter_mut().map(|draft| &mut draft.file));
        }
        let report = MigrateReport { drafts: &drafts, is_dry_run: self.dry_run };
        let text = match self.format {
            ReportFormat::Human => report.to_text(),
            ReportFormat::Json => format!("{:#}\n", report.to_json()),
        };
        // Where data goes to stdout, the report does not.
        if self.output.as_deref() == Some(Path::new("-")) {
            output::stderr(&text);
        } else {
            output::stdout(text.as_bytes())?;
        }
        output::stderr(&report.notes());
        let answer = files::draft::report(drafts.iter().map(|draft| &draft.file), is_unable);
        output::summary(&report.summary());
        Ok(answer)
    }

    /// The file that `-o` names; none for stdout.
    fn output_file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn write_one(&self, drafts: &[MigrateDraft]) -> Result<(), Failure> {
        for new in drafts.iter().filter_map(|draft| draft.file.new.as_ref()) {
            let existing = Existing::unless(self.force);
            write::file_or_stdout(self.output_file(), new, existing, Visibility::Public)?;
        }
        Ok(())
    }
}
