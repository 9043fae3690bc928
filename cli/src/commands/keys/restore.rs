//! `bulla keys restore`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bulla_crds::State;
use bulla_sealing::{Fingerprint, Identity};
use clap::Args;

use super::backup;
use super::wait::Wait;
use crate::cluster::identity_secrets::{self, StoreAs, StoreOutcome};
use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{Cluster, ClusterKey, sealing_keys};
use crate::files::{input, write};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output::Label;
use crate::report::{escape, output};
use crate::who::identities::IdentityFlags;

/// What to do when every key was skipped.
const REVOKED: &str =
    "revocation is permanent; with --force their identities are stored, but open nothing";

/// Restore identities to a cluster
///
/// Reads backups, passphrase-encrypted files and plain identity files, and creates a Secret for each identity.
/// Existing Secrets are never overwritten. A running controller loads the new ones and unseals the values that were
/// waiting for them. A restored key opens existing values; new ones are not sealed to it until you run bulla keys
/// activate. Keys that the cluster or a file of bulla keys backup records as revoked are skipped.
#[derive(Args)]
pub(crate) struct Restore {
    /// Identity files, or folders of backups
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    identities: IdentityFlags,

    /// Store the identities of revoked keys too, marked as revoked: they open nothing
    #[arg(long, help_heading = None::<&str>)]
    force: bool,

    #[command(flatten)]
    wait: Wait,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Identities, each with the file that it was found in.
type FoundIdentities = BTreeMap<Fingerprint, (Identity, String)>;

/// The keys not to restore as usable, each with what records that it was revoked.
type RevokedKeys = BTreeMap<Fingerprint, String>;

impl Restore {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let mut found = self.find()?;
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let mut revoked = self.recorded(&found);
        let marked = identity_secrets::marked_revoked(&cluster)?;
        let here = keys.revoked().map(ClusterKey::fingerprint).chain(marked);
        revoked.extend(here.map(|key| (key, "in this cluster".to_owned())));
        if !self.force {
            skip(&mut found, &revoked)?;
        }
        show(&cluster, &found);
        let mut taken = Vec::new();
        let mut usable = Vec::new();
        for (fingerprint, (identity, _)) in &found {
            let is_revoked = revoked.contains_key(fingerprint);
            let store_as = if is_revoked { StoreAs::Revoked } else { StoreAs::Usable };
            let stored = identity_secrets::store(&cluster, identity, store_as)?;
            let text = match stored {
                StoreOutcome::Created if is_revoked => "restored, and is revoked",
                StoreOutcome::Created => "restored",
                StoreOutcome::Already => "already exists",
                StoreOutcome::Revoked => "already exists, and is revoked",
                StoreOutcome::Taken => "another Secret has its name",
            };
            output::stdout(format!("{fingerprint}: {text}\n").as_bytes())?;
            match stored {
                StoreOutcome::Taken => taken.push(fingerprint),
                StoreOutcome::Created | StoreOutcome::Already if !is_revoked => {
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

    /// The revocations that `bulla keys backup` recorded in the folders of the files.
    fn recorded(&self, found: &FoundIdentities) -> RevokedKeys {
        let folder = |path: &PathBuf| {
            if path.is_dir() { path.clone() } else { write::folder_of(path).to_owned() }
        };
        let folders: BTreeSet<_> = self.files.iter().map(folder).collect();
        let record = |of: &Fingerprint| {
            let records = folders.iter().map(|folder| backup::record_of(folder, *of));
            let record = records.into_iter().find(|record| record.exists())?;
            Some((*of, format!("according to {}", record.display())))
        };
        found.keys().filter_map(record).collect()
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

/// Removes revoked keys, and names each of them. Fails if nothing is left.
fn skip(found: &mut FoundIdentities, revoked: &RevokedKeys) -> Result<(), Failure> {
    let is_any_found = !found.is_empty();
    let mut text = String::new();
    found.retain(|fingerprint, _| {
        let by = revoked.get(fingerprint);
        text.extend(by.map(|by| format!("{fingerprint}: skipped, because it is revoked {by}\n")));
        by.is_none()
    });
    output::stdout(escape::lines(&text).as_bytes())?;
    if is_any_found && found.is_empty() {
        let error = anyhow!("nothing is restored, because all these keys are revoked");
        return Err(Failure::no(error).hint(REVOKED));
    }
    Ok(())
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
