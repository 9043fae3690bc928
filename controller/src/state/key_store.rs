//! The keys that a replica knows. Watches fill it in every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use bulla_crds::conditions;
use bulla_crds::keys::{self, BackupError, DeclaredKey, DeclaredKeys};
use bulla_crds::{BACKUP_SECRET_KEY, BACKUP_SECRET_TYPE, SealingKey, State, WipedSecret};
use bulla_sealing::{Fingerprint, Identity, Keyring, Recipient, Recipients};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use tokio::sync::watch;

use crate::state::cache::ObjectVersion;

/// The keys that this replica knows.
pub(crate) struct KeyStore {
    keyring: RwLock<Keyring>,
    contents: Mutex<Contents>,
    declared: RwLock<Arc<DeclaredKeys>>,
    /// The sources whose first list has not come yet.
    unlisted: watch::Sender<BTreeSet<Origin>>,
    changes: watch::Sender<u64>,
}

/// Where keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// Secrets that hold identities.
    Identities,
    /// Secrets that hold backups of identities. No backup is made before these are known.
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
    /// The same for mounted files.
    unusable_files: BTreeMap<String, String>,
}

/// An identity, and where else it is stored besides memory.
#[derive(Clone, Debug)]
pub(crate) struct StoredIdentity {
    pub(crate) recipient: Recipient,
    pub(crate) secret: Option<StoredSecret>,
    pub(crate) is_in_file: bool,
}

impl StoredIdentity {
    /// Whether it is stored outside of this process.
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
    /// Whether the Secret records that its key was revoked.
    pub(crate) is_marked: bool,
}

impl From<&ObjectMeta> for StoredSecret {
    fn from(metadata: &ObjectMeta) -> Self {
        Self {
            version: metadata.into(),
            created: metadata.creation_timestamp.as_ref().map(|created| created.0),
            is_marked: keys::is_marked_revoked(metadata),
        }
    }
}

/// The encrypted copy of an identity.
#[derive(Clone, Debug)]
pub(crate) struct StoredBackup {
    pub(crate) version: ObjectVersion,
    /// The recipients that it is sealed to; empty if it cannot be read.
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
    /// The identities that unseal.
    pub(crate) held: BTreeSet<Fingerprint>,
}

/// Counts for the metrics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySummary {
    pub(crate) by_state: BTreeMap<State, usize>,
    pub(crate) newest: Option<Timestamp>,
    /// Keys of this holder that are not revoked and whose identity is not held or not stored.
    pub(crate) missing: usize,
    /// Keys that are held, not revoked, and have no copy outside of the cluster.
    pub(crate) not_backed_up: usize,
    /// Identities and SealingKeys that are invalid.
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

    /// The identities that unseal. Do not keep the guard over an `await`.
    pub(crate) fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        // A poisoned keyring is still consistent: nothing that holds the lock leaves it half changed.
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SealingKeys that can be trusted.
    pub(crate) fn declared(&self) -> Arc<DeclaredKeys> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this controller can unseal for an Active key: one of its holder, or one that it held under an earlier
    /// holder name. A new holder name gets a key of its own only once this replica holds the Lease.
    pub(crate) fn has_active_key_for(&self, holder: &str) -> bool {
        let keyring = self.keyring();
        self.declared().iter().any(|key| {
            let is_own = key.holder == holder || keyring.is_held(key.recipient.fingerprint());
            key.state == State::Active && is_own
        })
    }

    /// The holders of held keys that are not revoked, and whether one of these keys is Active.
    pub(crate) fn holders(&self) -> BTreeMap<String, bool> {
        let keyring = self.keyring();
        let mut holders = BTreeMap::new();
        for key in self.declared().iter() {
            if key.state != State::Revoked && keyring.is_held(key.recipient.fingerprint()) {
                *holders.entry(key.holder.clone()).or_default() |= key.state == State::Active;
            }
        }
        holders
    }

    /// The keys that were revoked.
    pub(crate) fn revoked(&self) -> BTreeSet<Fingerprint> {
        let contents = self.contents();
        let declared = contents.declared.values().filter(|key| key.spec.state == State::Revoked);
        let declared = declared.filter_map(|key| key.name_any().parse().ok());
        let marked = contents.identities.iter().filter(|(_, stored)| stored.is_marked());
        declared.chain(marked.map(|(fingerprint, _)| *fingerprint)).collect()
    }

    /// Whether all first lists have come. No value is unsealed before that.
    pub(crate) fn is_listed(&self) -> bool {
        self.unlisted.borrow().is_empty()
    }

    /// Waits until all first lists have come.
    pub(crate) async fn listed(&self) {
        // An error is impossible: `self` holds the sender.
        let _ = self.unlisted.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Notes that the first list of a source has come.
    pub(crate) fn first_list_is_done(&self, of: Origin) {
        self.unlisted.send_if_modified(|unlisted| unlisted.remove(&of));
    }

    /// A receiver that becomes ready when anything changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Stores an identity Secret or a backup. Returns the key if the identity is now held, or is no longer held.
    pub(crate) fn insert_secret(&self, secret: &WipedSecret) -> Option<Fingerprint> {
        self.changed();
        if secret.type_.as_deref() == Some(BACKUP_SECRET_TYPE) {
            self.insert_backup(secret);
            return None;
        }
        let name = secret.name_any();
        let identity = match keys::identity_of(secret) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::error!(secret = name, %error, "skipped an invalid identity Secret");
                self.contents().unusable.insert(name.clone(), error.to_string());
                return self.lose_secret(&name); // the identity that it held before
            }
        };
        self.contents().unusable.remove(&name);
        let secret = StoredSecret::from(&secret.metadata);
        self.hold(identity, |stored| stored.secret = Some(secret))
    }

    /// Notes that an identity Secret now records that its key was revoked.
    pub(crate) fn mark_secret(&self, of: Fingerprint, metadata: &ObjectMeta) {
        let mut contents = self.contents();
        if let Some(stored) = contents.identities.get_mut(&of) {
            stored.secret = Some(StoredSecret { is_marked: true, ..metadata.into() });
        }
        self.review(&mut contents, of);
    }

    /// Seals a held identity to the recovery recipients. `None` if it is not held.
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

    fn insert_backup(&self, secret: &Secret) {
        let file = secret.data.as_ref().and_then(|data| data.get(BACKUP_SECRET_KEY));
        let backup = file.and_then(|file| keys::read_backup(&file.0).ok());
        let Some(of) = of_backup(&secret.name_any()) else { return };
        let recovery = backup.filter(|backup| backup.of == of).map(|backup| backup.recovery);
        let version = (&secret.metadata).into();
        let stored = StoredBackup { version, recovery: recovery.unwrap_or_default() };
        self.contents().backups.insert(of, stored);
    }

    /// Notes that a Secret is gone. Returns the key if its identity is no longer held.
    pub(crate) fn remove_secret(&self, name: &str) -> Option<Fingerprint> {
        self.contents().unusable.remove(name);
        self.lose_secret(name)
    }

    /// Notes that a Secret does not hold its identity any more. The identity stays in memory while its key is declared
    /// and not revoked.
    fn lose_secret(&self, name: &str) -> Option<Fingerprint> {
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
                "the Secret of an identity is gone; the identity is only in memory"
            );
        }
        self.review(&mut contents, fingerprint)
    }

    /// Removes Secrets of this type that a new list does not have. Returns the keys that are no longer held.
    pub(crate) fn retain_secrets(&self, type_: &str, names: &BTreeSet<String>) -> Vec<Fingerprint> {
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
        gone.filter_map(|name| self.remove_secret(&name)).collect()
    }

    /// Stores the identities in mounted files, and the files that are invalid. Returns the keys that are now held, or
    /// no longer held.
    pub(crate) fn replace_files(
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
                tracing::error!(file, error, "skipped a mounted file that is not an identity file");
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
            tracing::warn!(key = %fingerprint, "the file of an identity is gone");
            changed.extend(self.review(&mut contents, fingerprint));
        }
        drop(contents);
        self.changed();
        changed
    }

    /// Stores a SealingKey. Returns the key if its identity is now held, or is no longer held.
    pub(crate) fn insert_sealing_key(&self, key: SealingKey) -> Option<Fingerprint> {
        let name = key.name_any();
        let mut contents = self.contents();
        if let Err(error) = DeclaredKey::try_from(&key) {
            tracing::error!(key = name, %error, "skipped an invalid SealingKey");
        }
        contents.declared.insert(name.clone(), key);
        self.sealing_keys_changed(&mut contents, &name)
    }

    /// Notes that a SealingKey is gone. Returns the key if its identity is no longer held.
    pub(crate) fn remove_sealing_key(&self, name: &str) -> Option<Fingerprint> {
        let mut contents = self.contents();
        contents.declared.remove(name)?;
        self.sealing_keys_changed(&mut contents, name)
    }

    /// Removes SealingKeys that a new list does not have. Returns the keys that are no longer held.
    pub(crate) fn retain_sealing_keys(&self, names: &BTreeSet<String>) -> Vec<Fingerprint> {
        let gone: Vec<_> = self
            .contents()
            .declared
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        gone.iter().filter_map(|name| self.remove_sealing_key(name)).collect()
    }

    fn sealing_keys_changed(&self, contents: &mut Contents, name: &str) -> Option<Fingerprint> {
        let trusted =
            contents.declared.values().filter_map(|key| DeclaredKey::try_from(key).ok()).collect();
        *self.declared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trusted);
        self.changed();
        self.review(contents, name.parse().ok()?)
    }

    /// Holds an identity unless its key was revoked. `found` notes where it is stored.
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
            tracing::info!(key = %fingerprint, "now holding an identity");
        }
        is_new.then_some(fingerprint)
    }

    /// Removes an identity from the keyring if its key was revoked, or if it is neither stored nor declared.
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
            tracing::info!(key = %fingerprint, "no longer holding an identity");
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

    /// Counts keys for the metrics.
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
