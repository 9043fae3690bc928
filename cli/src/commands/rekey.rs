//! `bulla rekey`.
//!
//! First it works out everything for all files and writes nothing: which values need a new header, their recipients,
//! and the header itself. Then it replaces each file as a whole, or not at all.

mod draft;
mod recipients;
mod report;

use std::path::PathBuf;

use anyhow::anyhow;
use bulla_sealing::{Fingerprint, Keyring};
use clap::Args;

use self::draft::RekeyDraft;
use self::recipients::Today;
use self::report::RekeyReport;
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, sealing_keys};
use crate::command_line::flags::{RecipientFlags, ReportFormat};
use crate::files::{self, input, walk};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;
use crate::report::terminal::Consent;
use crate::who::config;
use crate::who::destination::Authority;
use crate::who::identities::IdentityFlags;

/// Move sealed values to the current recipients without opening them
///
/// Finds values in files and folders that are not sealed to the current recipients, and gives each a new header over
/// the same payload. No value is opened. Before a file is written, bulla verifies that nothing else changed.
/// Comments, order, quotes and everything else in the file stay. A file changes as a whole or not at all.
///
/// The current recipients are those of -r and -R; without these, the Active ones that bulla.yaml pins for the file;
/// without a bulla.yaml, the Active key of every holder that a value is sealed to, according to the cluster.
///
/// With -i, bulla makes the new headers offline, with an identity that opens the old ones. Without -i, the controller
/// makes them. It returns only headers.
///
/// In folders, *.yaml, *.yml and *.json that Git does not ignore are read. The exit code is 1 if a value could not
/// be rekeyed; other files are still done.
#[derive(Args)]
pub(crate) struct Rekey {
    /// Files and folders [default: the current folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    recipients: RecipientFlags,

    #[command(flatten)]
    identities: IdentityFlags,

    /// The namespace of the SealedSecrets; must match manifests that name one
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Secret")]
    namespace: Option<String>,

    /// Report what would change, and change nothing
    #[arg(long, help_heading = None::<&str>)]
    dry_run: bool,

    /// Use this bulla.yaml [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipients", "recipients_files"], help_heading = "Recipients")]
    config: Option<PathBuf>,

    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = None::<&str>)]
    format: ReportFormat,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Where the new headers come from.
enum Maker {
    Keyring(Keyring),
    Cluster(Cluster),
}

impl Rekey {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.recipients.recipients_files;
        input::refuse_stdin_twice(self.identities.identities.iter().chain(recipients_files))?;
        let authority = self.authority()?;
        let found = walk::manifests(&self.paths)?;
        let (maker, cluster) = if self.identities.identities.is_empty() {
            let cluster = Cluster::connect(&self.cluster).map_err(|failure| {
                failure.context("no identity given with -i, and could not ask the cluster")
            })?;
            let declared = sealing_keys::of_today(&cluster)?.declared();
            (Maker::Cluster(cluster), Some(declared))
        } else {
            (Maker::Keyring(self.identities.read()?), None)
        };
        let today = Today { authority, cluster, namespace: self.namespace.clone() };
        let mut drafts = walk::each(&found, "reading", walk::OURS, |found, outcome| {
            let mut draft = RekeyDraft::of(found, outcome, &today)?;
            if let Maker::Keyring(keyring) = &maker {
                draft.make_headers(keyring);
                draft.finish();
            }
            Ok(draft)
        })?;
        if let Maker::Cluster(cluster) = &maker {
            draft::ask_cluster(cluster, &mut drafts)?;
            drafts.iter_mut().for_each(RekeyDraft::finish);
        }
        self.ask_about_strangers(&drafts, &today)?;
        let is_unable = !self.dry_run
            && files::draft::replace_all(drafts.iter_mut().map(|draft| &mut draft.file));
        let report = RekeyReport { drafts: &drafts, today: &today, is_dry_run: self.dry_run };
        match self.format {
            ReportFormat::Human => output::stdout(report.to_text().as_bytes())?,
            ReportFormat::Json => output::stdout(format!("{:#}\n", report.to_json()).as_bytes())?,
        }
        let answer = files::draft::report(drafts.iter().map(|draft| &draft.file), is_unable);
        if !self.dry_run {
            report.tell_who();
        }
        output::summary(&report.summary());
        Ok(answer)
    }

    /// Asks before values become readable with a key that the last commit does not pin: bulla.yaml, or a file of
    /// recipients, may be part of somebody else's change. A cluster only answers for the keys that it declares, and
    /// recipients on the command line are the person's own words.
    fn ask_about_strangers(&self, drafts: &[RekeyDraft], today: &Today) -> Result<(), Failure> {
        let is_named =
            !self.recipients.recipients.is_empty() && self.recipients.recipients_files.is_empty();
        if is_named || today.cluster.is_some() {
            return Ok(());
        }
        let added = report::added(drafts);
        let here = PathBuf::from(".");
        let path = self.paths.first().unwrap_or(&here);
        let Some(head) = config::of_head(path)?.filter(|_| !added.is_empty()) else {
            return Ok(());
        };
        let is_unknown = |fingerprint: &&Fingerprint| head.holder_of(**fingerprint).is_none();
        let strangers: Vec<_> = added.iter().filter(is_unknown).copied().collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let names = report::names(&strangers, today);
        let what = format!("{names}, not pinned by {} of the last commit", config::NAME);
        if self.dry_run {
            output::warning(&format!("the values would become readable to {what}"));
            return Ok(());
        }
        self.consent.ask(&format!("The values become readable to {what}. Continue?"))
    }

    fn authority(&self) -> Result<Authority, Failure> {
        let authority = Authority::find(&self.recipients, self.config.as_deref(), &self.paths)?;
        if matches!(authority, Authority::Cluster) && !self.identities.identities.is_empty() {
            return Err(anyhow!("no recipients given")).or_hint(
                "pass -r or -R, or pin recipients in a bulla.yaml at the root of the work tree",
            );
        }
        Ok(authority)
    }
}
