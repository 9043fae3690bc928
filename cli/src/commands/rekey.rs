//! `bulla rekey`.
//!
//! First everything is worked out for all files and nothing is written: which values need a new header, for whom,
//! and the header itself. Then each file is exchanged whole, or not at all.

mod draft;
mod recipients;
mod report;

use std::path::PathBuf;

use anyhow::anyhow;
use bulla_sealing::Keyring;
use clap::Args;

use self::draft::Draft;
use self::recipients::{Source, Today};
use self::report::Report;
use crate::cluster::Cluster;
use crate::command_line::flags::{ClusterFlags, Format, RecipientFlags};
use crate::files::replace::exchange_all;
use crate::files::{input, walk};
use crate::parallel::in_parallel;
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::progress::Progress;
use crate::report::{diagnostic, output};
use crate::who::config::Config;
use crate::who::identities::IdentityFlags;

/// Seal values again to today's recipients, without opening them
///
/// Looks through files and whole trees for values that are not sealed to today's recipients, and gives each a
/// new header over the same payload. No value is opened, and that nothing else changed is verified before a
/// file is written. Comments, order, quotes and everything else in the files stay as they are. A file is
/// changed as a whole or not at all.
///
/// Today's recipients are those given with -r and -R; without either the Active ones that bulla.yaml pins for
/// the file; and without a bulla.yaml the Active key of every holder that a value is sealed to, as the
/// cluster says.
///
/// The old values are taken over with an identity given with -i, offline, or else through the cluster, which
/// gives out nothing but new headers.
///
/// In folders, *.yaml, *.yml and *.json are looked at, less what Git ignores. Exit code 1 says that a value
/// could not be rekeyed; the other files are done all the same.
#[derive(Args)]
pub(crate) struct Rekey {
    /// Files, and folders with all that is in them [default: the current folder]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    recipients: RecipientFlags,

    #[command(flatten)]
    identities: IdentityFlags,

    /// The namespace of the SealedSecrets; must agree with the manifests that name one
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// The bulla.yaml to use [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipients", "recipients_files"])]
    config: Option<PathBuf>,

    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,

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
        let today =
            Today { source: self.source()?, cluster: None, namespace: self.namespace.clone() };
        let found = walk::manifests(&self.paths)?;
        let (maker, today) = match self.identities.identities.is_empty() {
            false => (Maker::Keyring(self.identities.read()?), today),
            true => {
                let cluster = Cluster::connect(&self.cluster).map_err(|failure| {
                    failure.context("no identity is given with -i, and the cluster cannot be asked")
                })?;
                let declared = cluster.sealing_keys_of_today()?.declared();
                (Maker::Cluster(cluster), Today { cluster: Some(declared), ..today })
            }
        };
        let progress = Progress::new("reading", found.len());
        let drafts = in_parallel(found.len(), |index| {
            let mut draft = Draft::read(&found[index], &today)?;
            if let Maker::Keyring(keyring) = &maker {
                draft.make_headers(keyring);
                draft.finish();
            }
            progress.step();
            Ok(draft)
        });
        let mut drafts = drafts.into_iter().collect::<Result<Vec<_>, Failure>>()?;
        drop(progress);
        if let Maker::Cluster(cluster) = &maker {
            draft::ask_cluster(cluster, &mut drafts)?;
            drafts.iter_mut().for_each(Draft::finish);
        }
        let is_unable = match self.dry_run {
            true => false,
            false => exchange_all(&mut drafts),
        };
        self.tell(&Report { drafts: &drafts, today: &today, is_dry_run: self.dry_run })?;
        match drafts.iter().any(|draft| !draft.refused.is_empty()) {
            _ if is_unable => Ok(Answer::Unable),
            true => Ok(Answer::No),
            false => Ok(Answer::Yes),
        }
    }

    fn source(&self) -> Result<Source, Failure> {
        if let Some(recipients) = crate::who::recipients::read(&self.recipients)? {
            return Ok(Source::Given(recipients));
        }
        match Config::find(self.config.as_deref(), &self.paths)? {
            Some(config) => Ok(Source::Config(config)),
            None if self.identities.identities.is_empty() => Ok(Source::Cluster),
            None => Err(anyhow!("it is not said whom values are to be sealed to"))
                .or_hint("name the recipients with -r or -R, or pin them in a bulla.yaml at the root of the work tree"),
        }
    }

    fn tell(&self, report: &Report<'_>) -> Result<(), Failure> {
        match self.format {
            Format::Human => output::stdout(report.to_text().as_bytes())?,
            Format::Json => output::stdout(format!("{:#}\n", report.to_json()).as_bytes())?,
        }
        let all: Vec<Diagnostic> = report.refused().cloned().collect();
        diagnostic::report(&all);
        output::summary(&report.summary());
        Ok(())
    }
}
