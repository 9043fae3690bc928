//! `bulla keys revoke`.

mod need;

use anyhow::anyhow;
use bulla_crds::State;
use bulla_sealing::Fingerprint;
use clap::Args;

use self::need::{Need, Usable};
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{ApiError, Cluster, sealed_secrets, sealing_keys};
use crate::command_line::completion;
use crate::files::git;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::terminal::Consent;
use crate::report::{escape, output};

/// How many of the values that need the key are listed.
const NAMED: usize = 10;

/// Stop opening values with a key, permanently
///
/// Refused while anything still needs the key: a live SealedSecret in any namespace, or a file in Git, with a value
/// that no other key of this cluster opens. bulla rekey moves such values to the current keys. Revocation is
/// permanent. It does not undo disclosure: anyone who had the private half could read the values, so change the
/// credentials themselves first.
#[derive(Args)]
pub(crate) struct Revoke {
    /// The key, by the 16 digits that bulla keys list shows
    #[arg(value_name = "FINGERPRINT", add = completion::fingerprints())]
    fingerprint: Fingerprint,

    /// Check the files of this branch, tag or commit; repeatable [default: HEAD of the current repository]
    #[arg(long = "git-ref", value_name = "REF")]
    git_refs: Vec<String>,

    /// Do not check files in Git
    #[arg(long, conflicts_with = "git_refs")]
    no_git: bool,

    /// Revoke even if something still needs the key, or if that cannot be checked
    #[arg(long, help_heading = None::<&str>)]
    force: bool,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Revoke {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let fingerprint = self.fingerprint;
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let key = keys.find(fingerprint)?;
        let done = format!("{}: {fingerprint} is Revoked\n", key.holder);
        match key.state {
            State::Revoked => {
                output::stdout(escape::lines(&done).as_bytes())?;
                return Ok(Answer::Yes);
            }
            State::Active => {
                return Err(anyhow!("key {fingerprint} is the Active key of {}", key.holder))
                    .or_hint("first run bulla keys renew, or activate another; then bulla rekey the values sealed to this one");
            }
            State::Pending | State::Retired => {}
        }
        let usable = Usable::new(&keys, fingerprint);
        let live = self.live(&cluster, &usable)?;
        self.refuse("live SealedSecrets", &live)?;
        let in_git = self.in_git(&usable)?;
        self.refuse("files in Git", &in_git)?;
        output::note(&format!(
            "git revert or an old branch can bring back values that only {fingerprint} opens"
        ));
        output::note(
            "revoking does not undo disclosure: change credentials that may have been read first",
        );
        self.consent.ask(&format!("Revoke {fingerprint} of {} for good?", key.holder))?;
        sealing_keys::set_state(&cluster, key, State::Revoked)?;
        output::stdout(escape::lines(&done).as_bytes())?;
        output::note(
            "run bulla keys backup now: it records the revocation, and a restore then skips the key",
        );
        Ok(Answer::Yes)
    }

    /// The values of live SealedSecrets that need the key.
    fn live(&self, cluster: &Cluster, usable: &Usable) -> Result<Need, Failure> {
        let mut need = Need::default();
        let listed = sealed_secrets::for_each(cluster, |sealed_secret| {
            need.add_sealed_secret(&sealed_secret, usable);
        });
        match listed {
            Ok(()) => Ok(need),
            Err(ApiError::Forbidden) if self.force => {
                output::warning(
                    "live SealedSecrets were not checked: you may not list them in all namespaces",
                );
                Ok(need)
            }
            Err(refusal) => Err(refusal.of(
                "list SealedSecrets in all namespaces",
                "the ClusterRole bulla-view allows it; to revoke without knowing what needs the key, pass --force",
            )),
        }
    }

    /// The values in Git that need the key.
    fn in_git(&self, usable: &Usable) -> Result<Need, Failure> {
        let mut need = Need::default();
        if self.no_git {
            return Ok(need);
        }
        let default = ["HEAD".to_owned()];
        let git_refs = match &self.git_refs[..] {
            [] if !git::has_commits()? => {
                output::note("no Git repository here, so no files were checked");
                return Ok(need);
            }
            [] => &default,
            git_refs => git_refs,
        };
        git::repository()?.read_sealed(git_refs, |blob, content| {
            need.add_file(&blob.name, content, usable);
        })?;
        Ok(need)
    }

    /// Fails while something still needs the key.
    fn refuse(&self, what: &str, need: &Need) -> Result<(), Failure> {
        let (count, unreadable) = (need.places.len(), need.unreadable);
        if unreadable > 0 {
            output::warning(&format!(
                "{unreadable} values in {what} cannot be read, so they may still need the key"
            ));
        }
        if count == 0 {
            return Ok(());
        }
        let fingerprint = self.fingerprint;
        let mut text = format!("these {what} need {fingerprint}:\n");
        text.extend(need.places.iter().take(NAMED).map(|place| format!("  {place}\n")));
        if count > NAMED {
            text.push_str(&format!("  and {} more\n", count - NAMED));
        }
        output::stderr(&escape::lines(&text));
        if self.force {
            return Ok(());
        }
        let error = anyhow!("key {fingerprint} is still needed by {count} values in {what}");
        Err(Failure::no(error)
            .hint("bulla rekey moves them to the current keys; to revoke anyway, pass --force"))
    }
}
