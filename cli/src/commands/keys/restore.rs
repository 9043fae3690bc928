//! `bulla keys restore`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bulla_crds::State;
use bulla_sealing::{Fingerprint, Identity};
use clap::Args;

use super::wait::Wait;
use crate::cluster::identity_secrets::{self, StoreOutcome};
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, SealingKeys, sealing_keys};
use crate::files::input;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output::Label;
use crate::report::{escape, output};
use crate::who::identities::IdentityFlags;

/// Why the identity of a revoked key is refused.
const REVOKED: &str = "a revoked key opens nothing, and revocation is permanent; to store its identity anyway, pass --force";

/// Restore identities to a cluster
///
/// Reads backups, passphrase-encrypted files and plain identity files, and creates a Secret for each identity.
/// Existing Secrets are never overwritten. A running controller loads the new ones and unseals the values that were
/// waiting for them. A restored key opens existing values; new ones are not sealed to it until you run bulla keys
/// activate.
#[derive(Args)]
pub(crate) struct Restore {
    /// Identity files, or folders of backups
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    identities: IdentityFlags,

    /// Store the identities of revoked keys too
    #[arg(long, help_heading = None::<&str>)]
    force: bool,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Identities, each with the file that it was found in.
type FoundIdentities = BTreeMap<Fingerprint, (Identity, String)>;

impl Restore {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let found = self.find()?;
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        self.refuse_revoked(&keys, &found)?;
        show(&cluster, &found);
        let mut taken = Vec::new();
        let mut usable = Vec::new();
        for (fingerprint, (identity, _)) in &found {
            let stored = identity_secrets::store(&cluster, identity)?;
            let text = match stored {
                StoreOutcome::Created => "restored",
                StoreOutcome::Already => "already exists",
                StoreOutcome::Revoked => "already exists, and is revoked",
                StoreOutcome::Taken => "another Secret has its name",
            };
            output::stdout(format!("{fingerprint}: {text}\n").as_bytes())?;
            match stored {
                StoreOutcome::Taken => taken.push(fingerprint),
                StoreOutcome::Created | StoreOutcome::Already
                    if !is_revoked(&keys, *fingerprint) =>
                {
                    usable.push(*fingerprint);
                }
                StoreOutcome::Created | StoreOutcome::Already | StoreOutcome::Revoked => {}
            }
        }
        self.wait_until_held(&cluster, &usable)?;
        if taken.is_empty() {
            return Ok(Answer::Yes);
        }
        let taken = output::list(taken);
        Err(anyhow!("not restored, because another Secret has its name: {taken}"))
            .or_hint("find out who created it; bulla never overwrites it")
    }

    /// The identities of all files, each once.
    fn find(&self) -> Result<FoundIdentities, Failure> {
        input::paths(&self.files, &self.identities.identities)?;
        let opening = self.identities.hold()?;
        let mut all = BTreeMap::new();
        for path in self.paths()? {
            for identity in opening.read_file(&path, &self.identities.passphrase)? {
                let fingerprint = identity.recipient().fingerprint();
                let file = path.display().to_string();
                all.entry(fingerprint).or_insert((identity, file));
            }
        }
        Ok(all)
    }

    /// The files, and for a folder the backups in it.
    fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut paths = Vec::new();
        for path in &self.files {
            if path.is_dir() { paths.extend(backups_in(path)?) } else { paths.push(path.clone()) }
        }
        Ok(paths)
    }

    fn refuse_revoked(&self, keys: &SealingKeys, found: &FoundIdentities) -> Result<(), Failure> {
        let revoked = found.keys().find(|fingerprint| is_revoked(keys, **fingerprint));
        match revoked.filter(|_| !self.force) {
            Some(fingerprint) => {
                Err(anyhow!("key {fingerprint} is Revoked in this cluster")).or_hint(REVOKED)
            }
            None => Ok(()),
        }
    }

    fn wait_until_held(&self, cluster: &Cluster, restored: &[Fingerprint]) -> Result<(), Failure> {
        let Some(deadline) = self.wait.deadline().filter(|_| !restored.is_empty()) else {
            return Ok(());
        };
        let mut missing = String::new();
        let held = sealing_keys::wait_for(cluster, deadline, |keys| {
            let state = |fingerprint: &Fingerprint| {
                let mut keys = keys.keys.iter();
                let key = keys.find(|key| key.fingerprint() == *fingerprint && key.is_held());
                key.map(|key| (*fingerprint, key.state))
            };
            missing =
                output::list(restored.iter().filter(|fingerprint| state(fingerprint).is_none()));
            missing.is_empty().then(|| restored.iter().filter_map(state).collect::<Vec<_>>())
        })?;
        let Some(held) = held else {
            let seconds = self.wait.timeout;
            return Err(anyhow!("stored, but the controller did not load it within {seconds} seconds: {missing}"))
                .or_hint("check that it is running; it loads them when it starts. To see what it holds, run: bulla keys list");
        };
        for (fingerprint, state) in held {
            let text = match state {
                State::Active => "is held and Active",
                _ => "opens existing values; nothing new is sealed to it",
            };
            output::note(&format!("{fingerprint} {text}"));
        }
        Ok(())
    }
}

fn is_revoked(keys: &SealingKeys, fingerprint: Fingerprint) -> bool {
    let mut keys = keys.keys.iter();
    keys.any(|key| key.fingerprint() == fingerprint && key.state == State::Revoked)
}

fn show(cluster: &Cluster, found: &FoundIdentities) {
    let (server, namespace) = (&cluster.server, &cluster.controller_namespace);
    let mut text = format!("restoring into namespace {namespace} of {server}:\n");
    for (fingerprint, (_, file)) in found {
        text.push_str(&format!("  {fingerprint} from {file}\n"));
    }
    let warning = "while two clusters share a key, anyone who can read Secrets in one can open values sealed for the other";
    // A question follows, so this is printed even with --quiet.
    output::stderr(&(escape::lines(&text) + &Label::Warning.line(warning)));
}

fn backups_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let name = folder.display();
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {name}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {name}"))?.path();
        if path.extension().is_some_and(|extension| extension == "age") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(anyhow!("no backup in {name}")).or_hint(
            "bulla keys backup writes files that end in .age; name other files one by one",
        );
    }
    Ok(paths)
}
