//! `bulla keys backup`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use anyhow::{Context, anyhow};
use bulla_crds::conditions::BACKED_UP;
use bulla_crds::keys::{self, Backup, OpenBackupError};
use bulla_sealing::{Fingerprint, Identity, Keyring, UnsealError};
use clap::Args;

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::{ApiError, Cluster, ClusterKey, SealingKeys, identity_secrets, sealing_keys};
use crate::files::input;
use crate::files::write::{self, Existing, Visibility};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{escape, output};
use crate::who::identities::{self, IdentityFlags};

/// What to do with a file that has other content.
const KEEP: &str =
    "it holds something else: choose another folder, or pass --force to overwrite it";

/// Write encrypted backups of a cluster's keys to a folder
///
/// Writes one age file for each key of the cluster: the copy that the controller sealed to the recovery recipients.
/// With --passphrase, reads the identities instead and encrypts each with a passphrase. Each file is read back and
/// compared before its key counts as backed up. With -i, first opens each copy with the recovery identity, to prove
/// that it opens.
///
/// You need the backups to rebuild a lost cluster. Store the folder outside of the cluster, and the recovery identity
/// or the passphrase in a third place.
///
/// A revoked key is left out. A file in the folder records that it is revoked, so that bulla keys restore skips older
/// backups of it.
#[derive(Args)]
pub(crate) struct BackupKeys {
    /// The folder to write to, created if missing
    #[arg(short, long, value_name = "FOLDER", help_heading = "Output")]
    output: PathBuf,

    /// Encrypt the identities with a passphrase that you choose
    #[arg(long, conflicts_with = "identities", help_heading = None::<&str>)]
    passphrase: bool,

    #[command(flatten)]
    identities: IdentityFlags,

    /// Overwrite files that have other content
    #[arg(long, help_heading = "Output")]
    force: bool,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// An encrypted identity, on its way into a file.
struct KeyCopy {
    of: Fingerprint,
    /// The age file, armored.
    armored: Vec<u8>,
    /// What the file must contain.
    content: KeyCopyContent,
}

enum KeyCopyContent {
    /// A sealed value, the same as in the cluster.
    Sealed { file: Vec<u8>, recovery: Vec<Fingerprint> },
    /// An identity that this passphrase decrypts.
    Protected { passphrase: SecretString },
}

impl BackupKeys {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recovery = self.identities.read()?;
        let (cluster, keys) = sealing_keys::connect(&self.cluster)?;
        let mut revoked = identity_secrets::marked_revoked(&cluster)?;
        // Other holders' keys are theirs to back up.
        let own = keys.revoked().filter(|key| keys.is_own(key));
        revoked.extend(own.map(ClusterKey::fingerprint));
        let copies = if self.passphrase {
            self.protected(&cluster, &revoked)?
        } else {
            let copies = sealed(&cluster)?.into_iter();
            copies.filter(|copy| !revoked.contains(&copy.of)).map(|copy| self.kept(copy)).collect()
        };
        let held =
            keys.keys.iter().filter(|key| key.is_held() && !revoked.contains(&key.fingerprint()));
        let held: BTreeSet<_> = held.map(ClusterKey::fingerprint).collect();
        let copied: BTreeSet<_> = copies.iter().map(|copy| copy.of).collect();
        if held.is_empty() && copied.is_empty() {
            return Err(anyhow!("the cluster holds no key to back up")).or_hint(
                "check that the controller is running; to see what it holds, run: bulla keys list",
            );
        }
        // Everything is checked before the first file is written.
        for copy in &copies {
            check(&keys, copy, &recovery)?;
        }
        make_folder(&self.output)?;
        for copy in &copies {
            self.write(copy)?;
            mark(&cluster, &keys, copy.of);
        }
        for of in revoked {
            self.record(of)?;
        }
        let missing = output::list(held.difference(&copied));
        if missing.is_empty() {
            return Ok(Answer::Yes);
        }
        Err(if self.passphrase {
            Failure::no(anyhow!("cannot back up {missing}: no identity Secret"))
                .hint("the controller reads it from a file; back up that file")
        } else {
            Failure::no(anyhow!(
                "cannot back up {missing}: the controller has made no encrypted copy"
            ))
            .hint("set BULLA_RECOVERY_RECIPIENTS of the controller, or pass --passphrase")
        })
    }

    /// The identities themselves, encrypted here.
    fn protected(
        &self,
        cluster: &Cluster,
        revoked: &BTreeSet<Fingerprint>,
    ) -> Result<Vec<KeyCopy>, Failure> {
        let mut found: Vec<Identity> = Vec::new();
        for (name, identity) in identity_secrets::identities(cluster)? {
            match identity {
                Ok(identity) if revoked.contains(&identity.recipient().fingerprint()) => {}
                Ok(identity) => found.push(identity),
                Err(error) => warn_of_skipped(&name, &error),
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let passphrase = self.identities.passphrase.chosen()?;
        let copy = |identity: &Identity| {
            let of = identity.recipient().fingerprint();
            // A copy that this passphrase opens is kept, because every encryption gives different bytes.
            let armored = match self.existing(of, &passphrase) {
                Some(armored) => armored,
                None => identities::protect(identity, &passphrase)?,
            };
            let content = KeyCopyContent::Protected { passphrase: passphrase.clone() };
            Ok(KeyCopy { of, armored, content })
        };
        found.iter().map(copy).collect()
    }

    /// A file that holds the identity already.
    fn existing(&self, of: Fingerprint, passphrase: &SecretString) -> Option<Vec<u8>> {
        let armored = fs::read(self.path(of)).ok()?;
        let file = identities::age_file("", &armored).ok()??;
        let held = identities::unprotect("", &file, passphrase.clone()).ok()?;
        (one_fingerprint(&held) == Some(of)).then_some(armored)
    }

    /// The existing copy, if it has the same identity and recovery recipients: after a recovery the controller seals it
    /// again, and the older copy is as good.
    fn kept(&self, copy: KeyCopy) -> KeyCopy {
        let existing = || {
            let armored = fs::read(self.path(copy.of)).ok()?;
            let file = identities::age_file("", &armored).ok()??.to_vec();
            let found = keys::read_backup(&file).ok()?;
            let KeyCopyContent::Sealed { recovery, .. } = &copy.content else { return None };
            let is_as_good = found.of == copy.of && found.recovery == *recovery;
            let content = KeyCopyContent::Sealed { file, recovery: found.recovery };
            is_as_good.then_some(KeyCopy { of: copy.of, armored, content })
        };
        existing().unwrap_or(copy)
    }

    fn path(&self, of: Fingerprint) -> PathBuf {
        self.output.join(format!("{of}.age"))
    }

    /// Records that a key is revoked. An older backup of it stays: its values may be in Git.
    fn record(&self, of: Fingerprint) -> Result<(), Failure> {
        let path = record_of(&self.output, of);
        if !path.exists() {
            let text = format!("Key {of} is revoked. bulla keys restore skips it.\n");
            write::file(&path, text.as_bytes(), Existing::Keep(KEEP), Visibility::Secret)?;
        }
        let line = format!("{}: records that the key is revoked\n", path.display());
        output::stdout(escape::lines(&line).as_bytes())?;
        let older = self.path(of);
        if older.exists() {
            output::note(&format!(
                "{} is an older backup of the revoked key: delete it unless you still need old values",
                older.display()
            ));
        }
        Ok(())
    }

    /// Writes the file, unless it exists, and reads it back.
    fn write(&self, copy: &KeyCopy) -> Result<(), Failure> {
        let path = self.path(copy.of);
        let is_there = fs::read(&path).is_ok_and(|existing| existing == copy.armored);
        if !is_there {
            let existing = if self.force { Existing::Replace } else { Existing::Keep(KEEP) };
            write::file(&path, &copy.armored, existing, Visibility::Secret)?;
        }
        let name = path.display();
        let not_the_same =
            || anyhow!("{name} was written, but does not read back as the backup of {}", copy.of);
        let read = input::read(&path)?;
        let file = identities::age_file(&read.name, &read.bytes)?.ok_or_else(not_the_same)?;
        let how = match &copy.content {
            KeyCopyContent::Sealed { file: expected, recovery } => {
                let backup = keys::read_backup(&file).map_err(|_| not_the_same())?;
                if backup.of != copy.of || *file != *expected {
                    return Err(not_the_same().into());
                }
                format!("sealed to {}", output::list(recovery))
            }
            KeyCopyContent::Protected { passphrase } => {
                let held = identities::unprotect(&read.name, &file, passphrase.clone())?;
                if one_fingerprint(&held) != Some(copy.of) {
                    return Err(not_the_same().into());
                }
                "protected by the passphrase".into()
            }
        };
        Ok(output::stdout(escape::lines(&format!("{name}: {how}\n")).as_bytes())?)
    }
}

/// The file in a folder of backups that records the revocation of a key.
pub(super) fn record_of(folder: &Path, of: Fingerprint) -> PathBuf {
    folder.join(format!("{of}.revoked"))
}

/// The copies that the controller has sealed.
fn sealed(cluster: &Cluster) -> Result<Vec<KeyCopy>, Failure> {
    let mut copies = Vec::new();
    for (name, file) in identity_secrets::backups(cluster)? {
        let Some(file) = file else {
            warn_of_skipped(&name, &"no backup in it");
            continue;
        };
        match keys::read_backup(&file) {
            Ok(backup) if keys::backup_name(backup.of) == name => copies.push(KeyCopy {
                of: backup.of,
                armored: identities::armor(&file)?,
                content: KeyCopyContent::Sealed { file, recovery: backup.recovery },
            }),
            Ok(Backup { of, .. }) => {
                warn_of_skipped(&name, &format_args!("it holds the backup of {of}"));
            }
            Err(error) => warn_of_skipped(&name, &error),
        }
    }
    Ok(copies)
}

fn warn_of_skipped(secret: &str, why: &dyn Display) {
    output::warning(&format!("Secret {secret} is skipped: {why}"));
}

/// Opens a sealed copy, if identities were passed, and compares its content.
fn check(keys: &SealingKeys, copy: &KeyCopy, recovery: &Keyring) -> Result<(), Failure> {
    let KeyCopyContent::Sealed { file, .. } = &copy.content else { return Ok(()) };
    if recovery.is_empty() {
        return Ok(());
    }
    let of = copy.of;
    let identity = keys::open_backup(file, recovery).map_err(|error| {
        let failure = Failure::no(anyhow!("the backup of {of} does not open: {error}"));
        failure.hint(match error {
            OpenBackupError::Unseal(UnsealError::NoIdentity { .. }) => {
                "pass the recovery identity with -i"
            }
            _ => "do not rely on it; delete the backup Secret, and the controller makes it again",
        })
    })?;
    let declared = keys.keys.iter().find(|key| key.fingerprint() == of);
    if declared.is_some_and(|key| key.recipient != identity.recipient()) {
        let error = anyhow!("the identity in the backup of {of} does not match its SealingKey");
        return Err(Failure::no(error));
    }
    Ok(())
}

/// Marks the key as backed up in the cluster. If that fails, the files are still good.
fn mark(cluster: &Cluster, keys: &SealingKeys, of: Fingerprint) {
    let is_marked = |key: &ClusterKey| key.is_held() || key.condition(BACKED_UP).is_some();
    if !keys.keys.iter().any(|key| key.fingerprint() == of && is_marked(key)) {
        return;
    }
    let trouble = match sealing_keys::mark_taken_out(cluster, of) {
        Ok(()) => return,
        Err(ApiError::Forbidden) => "you may not change its status",
        Err(ApiError::Conflict) => "someone else keeps changing it",
        Err(_) => "its status could not be changed",
    };
    output::warning(&format!("{of} is backed up, but its SealingKey does not show it: {trouble}"));
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let builder = DirBuilder::new();
    #[cfg(unix)]
    let builder = {
        let mut builder = builder;
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
    };
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => Ok(made.with_context(|| format!("cannot make the folder {}", path.display()))?),
    }
}

fn one_fingerprint(identities: &[Identity]) -> Option<Fingerprint> {
    match identities {
        [identity] => Some(identity.recipient().fingerprint()),
        _ => None,
    }
}
