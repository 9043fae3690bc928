//! What is known of keys: filled by the watches, in every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bulla_crds::conditions;
use bulla_crds::keys::{self, BackupError, DeclaredKey, DeclaredKeys};
use bulla_crds::{
    BACKUP_SECRET_KEY, BACKUP_SECRET_TYPE, REVOKED_ANNOTATION, SealingKey, State, WipedSecret,
};
use bulla_sealing::{Fingerprint, Identity, Keyring, Recipient, Recipients};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use tokio::sync::watch;

use crate::state::cache::ObjectVersion;

/// Keys as far as this replica knows them.
pub(crate) struct KeyStore {
    keyring: RwLock<Keyring>,
    contents: Mutex<Contents>,
    declared: RwLock<Arc<DeclaredKeys>>,
    /// Which of the first lists are still to come.
    unlisted: watch::Sender<BTreeSet<Origin>>,
    changes: watch::Sender<u64>,
}

/// From where keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Secrets that hold identities.
    Identities,
    /// Secrets that hold backups of identities: before they are known none is made.
    Backups,
    /// SealingKeys.
    Declared,
    /// Mounted files.
    Files,
}

#[derive(Default)]
struct Contents {
    identities: BTreeMap<Fingerprint, StoredIdentity>,
    declared: BTreeMap<String, SealingKey>,
    backups: BTreeMap<Fingerprint, StoredBackup>,
    /// Names of identity Secrets that hold no identity, with the reason.
    unusable: BTreeMap<String, String>,
    /// The same of mounted files.
    unusable_files: BTreeMap<String, String>,
}

/// An identity, and where it lies beside our memory.
#[derive(Clone, Debug)]
pub(crate) struct StoredIdentity {
    pub(crate) recipient: Recipient,
    pub(crate) secret: Option<StoredSecret>,
    pub(crate) is_in_file: bool,
}

impl StoredIdentity {
    /// Whether it outlives this process.
    pub(crate) fn is_stored(&self) -> bool {
        self.secret.is_some() || self.is_in_file
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.secret.as_ref().is_some_and(|secret| secret.is_marked)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct StoredSecret {
    pub(crate) version: ObjectVersion,
    pub(crate) created: Option<Timestamp>,
    /// Whether it says that its key was revoked.
    pub(crate) is_marked: bool,
}

impl From<&ObjectMeta> for StoredSecret {
    fn from(metadata: &ObjectMeta) -> Self {
        let annotations = metadata.annotations.as_ref();
        Self {
            version: metadata.into(),
            created: metadata.creation_timestamp.as_ref().map(|created| created.0),
            is_marked: annotations
                .and_then(|annotations| annotations.get(REVOKED_ANNOTATION))
                .is_some_and(|value| value == "true"),
        }
    }
}

/// The encrypted copy of an identity.
#[derive(Clone, Debug)]
pub(crate) struct StoredBackup {
    pub(crate) version: ObjectVersion,
    /// To whom it is sealed; nobody, when it cannot be read.
    pub(crate) recovery: Vec<Fingerprint>,
}

/// What a [`KeyStore`] holds at one moment.
pub(crate) struct KeySnapshot {
    pub(crate) identities: BTreeMap<Fingerprint, StoredIdentity>,
    /// The SealingKeys by name.
    pub(crate) declared: BTreeMap<String, SealingKey>,
    pub(crate) backups: BTreeMap<Fingerprint, StoredBackup>,
    /// Names of identity Secrets that hold no identity, with the reason.
    pub(crate) unusable: BTreeMap<String, String>,
    /// The identities that open.
    pub(crate) held: BTreeSet<Fingerprint>,
}

/// Counts for the metrics, of this controller's own keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySummary {
    pub(crate) by_state: BTreeMap<State, usize>,
    pub(crate) newest: Option<Timestamp>,
    /// Not revoked, and not held or not stored any more.
    pub(crate) missing: usize,
    /// Held and not revoked, and nobody has taken a copy out.
    pub(crate) not_backed_up: usize,
    /// Identities and SealingKeys that are none.
    pub(crate) unusable: usize,
}

impl KeyStore {
    pub(crate) fn new(has_files: bool) -> Self {
        let mut unlisted = BTreeSet::from([Origin::Identities, Origin::Backups, Origin::Declared]);
        unlisted.extend(has_files.then_some(Origin::Files));
        Self {
            keyring: RwLock::default(),
            contents: Mutex::default(),
            declared: RwLock::default(),
            unlisted: watch::Sender::new(unlisted),
            changes: watch::Sender::default(),
        }
    }

    /// The identities that open. The guard must not be kept over an `await`.
    pub(crate) fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        // A poisoned keyring is whole: nothing that holds the lock leaves it half changed.
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SealingKeys that can be trusted.
    pub(crate) fn declared(&self) -> Arc<DeclaredKeys> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a key to seal to that this controller answers for: its holder's, or one that it holds from the
    /// time when its holder had another name. A new name waits for the Lease before it has a key of its own.
    pub(crate) fn can_be_sealed_for(&self, holder: &str) -> bool {
        let keyring = self.keyring();
        self.declared().iter().any(|key| {
            let is_ours = key.holder == holder || keyring.is_held(key.recipient.fingerprint());
            key.state == State::Active && is_ours
        })
    }

    /// The keys that were revoked.
    pub(crate) fn revoked(&self) -> BTreeSet<Fingerprint> {
        let contents = self.contents();
        let declared = contents.declared.values().filter(|key| key.spec.state == State::Revoked);
        let declared = declared.filter_map(|key| key.name_any().parse().ok());
        let marked = contents.identities.iter().filter(|(_, stored)| stored.is_marked());
        declared.chain(marked.map(|(fingerprint, _)| *fingerprint)).collect()
    }

    /// Whether all first lists have come: before that no value is judged.
    pub(crate) fn is_listed(&self) -> bool {
        self.unlisted.borrow().is_empty()
    }

    /// Waits for that.
    pub(crate) async fn listed(&self) {
        // The sender is ours, so it does not go while we wait.
        let _ = self.unlisted.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Says that one has come.
    pub(crate) fn first_list_is_done(&self, of: Origin) {
        self.unlisted.send_if_modified(|unlisted| unlisted.remove(&of));
    }

    /// Becomes ready when anything has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes up an identity Secret or a backup; the key whose opening has begun or ended by it.
    pub(crate) fn secret_came(&self, secret: &WipedSecret) -> Option<Fingerprint> {
        self.changed();
        if secret.type_.as_deref() == Some(BACKUP_SECRET_TYPE) {
            self.backup_came(secret);
            return None;
        }
        let name = secret.name_any();
        let identity = match keys::identity_of(secret) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::error!(secret = name, %error, "an identity Secret is unusable and was skipped");
                self.contents().unusable.insert(name.clone(), error.to_string());
                return self.lost(&name); // what it held before
            }
        };
        self.contents().unusable.remove(&name);
        let secret = StoredSecret::from(&secret.metadata);
        self.hold(identity, |stored| stored.secret = Some(secret))
    }

    /// Notes that an identity Secret says from now on that its key was revoked.
    pub(crate) fn secret_marked(&self, of: Fingerprint, metadata: &ObjectMeta) {
        let mut contents = self.contents();
        if let Some(stored) = contents.identities.get_mut(&of) {
            stored.secret = Some(StoredSecret { is_marked: true, ..metadata.into() });
        }
        self.review(&mut contents, of);
    }

    /// Seals an identity that is held to the recovery recipients.
    pub(crate) fn seal_identity(
        &self,
        of: Fingerprint,
        namespace: &str,
        recovery: &Recipients,
    ) -> Option<Result<Vec<u8>, BackupError>> {
        let keyring = self.keyring();
        let identity = keyring.identity(of)?;
        Some(keys::seal_identity(identity, namespace, recovery))
    }

    fn backup_came(&self, secret: &Secret) {
        let file = secret.data.as_ref().and_then(|data| data.get(BACKUP_SECRET_KEY));
        let backup = file.and_then(|file| keys::read_backup(&file.0).ok());
        let Some(of) = of_backup(&secret.name_any()) else { return };
        let recovery = backup.filter(|backup| backup.of == of).map(|backup| backup.recovery);
        let version = (&secret.metadata).into();
        let stored = StoredBackup { version, recovery: recovery.unwrap_or_default() };
        self.contents().backups.insert(of, stored);
    }

    /// A Secret is gone.
    pub(crate) fn secret_went(&self, name: &str) -> Option<Fingerprint> {
        self.contents().unusable.remove(name);
        self.lost(name)
    }

    /// A Secret holds its identity no more, which stays in memory as long as its key is declared and not revoked.
    fn lost(&self, name: &str) -> Option<Fingerprint> {
        self.changed();
        let mut contents = self.contents();
        if let Some(of) = of_backup(name) {
            contents.backups.remove(&of);
            return None;
        }
        let fingerprint = name.parse().ok()?;
        let stored = contents.identities.get_mut(&fingerprint)?;
        if stored.secret.take().is_some() && !stored.is_in_file {
            tracing::error!(
                key = name,
                "the Secret with an identity is gone: it is held in memory alone"
            );
        }
        self.review(&mut contents, fingerprint)
    }

    /// Secrets that a new list of this type no longer has are gone.
    pub(crate) fn secrets_listed(&self, type_: &str, names: &BTreeSet<String>) -> Vec<Fingerprint> {
        let gone: Vec<_> = {
            let mut contents = self.contents();
            match type_ {
                BACKUP_SECRET_TYPE => {
                    contents.backups.keys().map(|of| keys::backup_name(*of)).collect()
                }
                _ => {
                    contents.unusable.retain(|name, _| names.contains(name));
                    let stored = contents.identities.iter();
                    let stored = stored.filter(|(_, stored)| stored.secret.is_some());
                    stored.map(|(fingerprint, _)| fingerprint.to_string()).collect()
                }
            }
        };
        let gone = gone.into_iter().filter(|name| !names.contains(name));
        gone.filter_map(|name| self.secret_went(&name)).collect()
    }

    /// The identities in mounted files, and what else is there; keys whose opening has begun or ended by it.
    pub(crate) fn files_came(
        &self,
        identities: Vec<Identity>,
        unusable: BTreeMap<String, String>,
    ) -> Vec<Fingerprint> {
        let there: BTreeSet<_> =
            identities.iter().map(|identity| identity.recipient().fingerprint()).collect();
        let mut changed: Vec<_> = identities
            .into_iter()
            .filter_map(|identity| self.hold(identity, |stored| stored.is_in_file = true))
            .collect();
        let mut contents = self.contents();
        for (file, error) in &unusable {
            if contents.unusable_files.get(file) != Some(error) {
                tracing::error!(file, error, "a mounted file is no identity file and was skipped");
            }
        }
        contents.unusable_files = unusable;
        let gone: Vec<_> = contents
            .identities
            .iter_mut()
            .filter(|(fingerprint, stored)| stored.is_in_file && !there.contains(fingerprint))
            .map(|(fingerprint, stored)| {
                stored.is_in_file = false;
                *fingerprint
            })
            .collect();
        for fingerprint in gone {
            tracing::warn!(key = %fingerprint, "the file with an identity is gone");
            changed.extend(self.review(&mut contents, fingerprint));
        }
        drop(contents);
        self.changed();
        changed
    }

    /// Takes up a SealingKey; the key whose opening has begun or ended by it.
    pub(crate) fn declaration_came(&self, key: SealingKey) -> Option<Fingerprint> {
        let name = key.name_any();
        let mut contents = self.contents();
        if let Err(error) = DeclaredKey::try_from(&key) {
            tracing::error!(key = name, %error, "a SealingKey is unusable and was skipped");
        }
        contents.declared.insert(name.clone(), key);
        self.declarations_changed(&mut contents, &name)
    }

    /// A SealingKey is gone.
    pub(crate) fn declaration_went(&self, name: &str) -> Option<Fingerprint> {
        let mut contents = self.contents();
        contents.declared.remove(name)?;
        self.declarations_changed(&mut contents, name)
    }

    /// SealingKeys that a new list no longer has are gone.
    pub(crate) fn declarations_listed(&self, names: &BTreeSet<String>) -> Vec<Fingerprint> {
        let gone: Vec<_> = self
            .contents()
            .declared
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        gone.iter().filter_map(|name| self.declaration_went(name)).collect()
    }

    fn declarations_changed(&self, contents: &mut Contents, name: &str) -> Option<Fingerprint> {
        let trusted =
            contents.declared.values().filter_map(|key| DeclaredKey::try_from(key).ok()).collect();
        *self.declared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trusted);
        self.changed();
        self.review(contents, name.parse().ok()?)
    }

    /// Holds an identity, whose place `found` notes, unless its key was revoked.
    fn hold(
        &self,
        identity: Identity,
        found: impl FnOnce(&mut StoredIdentity),
    ) -> Option<Fingerprint> {
        let recipient = identity.recipient();
        let fingerprint = recipient.fingerprint();
        let mut contents = self.contents();
        let unstored = StoredIdentity { recipient, secret: None, is_in_file: false };
        found(contents.identities.entry(fingerprint).or_insert(unstored));
        if is_revoked(&contents, fingerprint) {
            return self.review(&mut contents, fingerprint);
        }
        let mut keyring = self.write_keyring();
        let is_new = !keyring.is_held(fingerprint);
        keyring.insert(identity);
        if is_new {
            tracing::info!(key = %fingerprint, "holding an identity");
        }
        is_new.then_some(fingerprint)
    }

    /// Takes an identity out of the keyring when its key was revoked, or when it is neither stored nor declared.
    fn review(&self, contents: &mut Contents, fingerprint: Fingerprint) -> Option<Fingerprint> {
        let is_stored = contents.identities.get(&fingerprint)?.is_stored();
        let is_declared = contents.declared.contains_key(&fingerprint.to_string());
        if !is_stored && (!is_declared || is_revoked(contents, fingerprint)) {
            contents.identities.remove(&fingerprint);
        } else if !is_revoked(contents, fingerprint) {
            return None;
        }
        let was_held = self.write_keyring().remove(fingerprint);
        if was_held {
            tracing::info!(key = %fingerprint, "an identity is held no more");
        }
        was_held.then_some(fingerprint)
    }

    /// What is stored, declared and held at this moment.
    pub(crate) fn snapshot(&self) -> KeySnapshot {
        let contents = self.contents();
        let keyring = self.keyring();
        KeySnapshot {
            identities: contents.identities.clone(),
            declared: contents.declared.clone(),
            backups: contents.backups.clone(),
            unusable: contents.unusable.clone(),
            held: keyring.fingerprints().collect(),
        }
    }

    /// For the metrics.
    pub(crate) fn summary(&self, holder: &str) -> KeySummary {
        let contents = self.contents();
        let keyring = self.keyring();
        let mut summary = KeySummary {
            unusable: contents.unusable.len() + contents.unusable_files.len(),
            ..KeySummary::default()
        };
        for key in contents.declared.values() {
            let Ok(declared) = DeclaredKey::try_from(key) else {
                summary.unusable += 1;
                continue;
            };
            let fingerprint = declared.recipient.fingerprint();
            let is_open = declared.state != State::Revoked;
            let is_held = is_open && keyring.is_held(fingerprint);
            let is_stored =
                contents.identities.get(&fingerprint).is_some_and(StoredIdentity::is_stored);
            let is_backed_up = key.status.as_ref().is_some_and(|status| {
                conditions::is_true(&status.conditions, conditions::BACKED_UP)
            });
            summary.not_backed_up += usize::from(is_held && !is_backed_up);
            if declared.holder == holder {
                *summary.by_state.entry(declared.state).or_default() += 1;
                summary.newest = summary.newest.max(Some(declared.created));
                summary.missing += usize::from(is_open && !(is_held && is_stored));
            }
        }
        summary
    }

    fn changed(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_keyring(&self) -> std::sync::RwLockWriteGuard<'_, Keyring> {
        self.keyring.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_revoked(contents: &Contents, fingerprint: Fingerprint) -> bool {
    let declared = contents.declared.get(&fingerprint.to_string());
    declared.is_some_and(|key| key.spec.state == State::Revoked)
        || contents.identities.get(&fingerprint).is_some_and(StoredIdentity::is_marked)
}

fn of_backup(name: &str) -> Option<Fingerprint> {
    name.strip_suffix("-backup")?.parse().ok()
}
