//! Rules about keys that the CLI and the controller share: which declared keys can be trusted, which key succeeds
//! which, and how an identity is stored and backed up.

use std::collections::BTreeMap;

use bulla_sealing::{
    Binding, Fingerprint, Identity, InvalidAddress, KeyType, Keyring, NoRandomness, ParseError,
    Recipient, Recipients, RecipientsError, Scope, SealedValue, UnsealError, ValueAddress, seal,
};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use zeroize::Zeroizing;

use crate::sealing_key::{SealingKey, SealingKeySpec, State};
use crate::well_known::{
    BACKUP_SECRET_KEY, BACKUP_SECRET_TYPE, IDENTITY_SECRET_KEY, IDENTITY_SECRET_TYPE,
    REVOKED_ANNOTATION,
};
use crate::wiped::WipedSecret;

/// A SealingKey whose name is the fingerprint of its recipient, which was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredKey {
    /// The public key.
    pub recipient: Recipient,
    /// Who has the private half.
    pub holder: String,
    /// What it is used for.
    pub state: State,
    /// When the key was made.
    pub created: Timestamp,
}

/// Why a SealingKey cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeclaration {
    /// Its recipient is not a valid recipient.
    #[error("its recipient is not valid: {0}")]
    Recipient(#[from] bulla_sealing::InvalidKey),
    /// Its name is not the fingerprint of its recipient: somebody may have put in a key of their own.
    #[error("its name is not {0}, the fingerprint of its recipient")]
    Misnamed(Fingerprint),
}

impl TryFrom<&SealingKey> for DeclaredKey {
    type Error = InvalidDeclaration;

    /// The fingerprint is computed from the recipient; the name only has to agree.
    fn try_from(key: &SealingKey) -> Result<Self, InvalidDeclaration> {
        let recipient: Recipient = key.spec.recipient.parse()?;
        let fingerprint = recipient.fingerprint();
        if key.name_any() != fingerprint.to_string() {
            return Err(InvalidDeclaration::Misnamed(fingerprint));
        }
        let (holder, state) = (key.spec.holder.clone(), key.spec.state);
        Ok(Self { recipient, holder, state, created: key.spec.created.0 })
    }
}

/// Why there are no recipients for a new header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuccessor {
    /// The key is not declared.
    #[error("key {0} is not declared here by a SealingKey")]
    UnknownFingerprint(Fingerprint),
    /// Its holder has no Active key.
    #[error("holder {0} has no Active key")]
    NoActiveKey(String),
    /// Its holder has several Active keys, so the successor is ambiguous.
    #[error("holder {0} has several Active keys")]
    SeveralActiveKeys(String),
    /// One header cannot name all the successors.
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
}

/// The declared keys, by fingerprint.
#[derive(Clone, Debug, Default)]
pub struct DeclaredKeys(BTreeMap<Fingerprint, DeclaredKey>);

impl DeclaredKeys {
    /// The declared key of this fingerprint.
    pub fn get(&self, fingerprint: Fingerprint) -> Option<&DeclaredKey> {
        self.0.get(&fingerprint)
    }

    /// All declared keys, in the order of their fingerprints.
    pub fn iter(&self) -> impl Iterator<Item = &DeclaredKey> {
        self.0.values()
    }

    /// The one Active key of this holder.
    pub fn active(&self, holder: &str) -> Result<&DeclaredKey, NoSuccessor> {
        let mut active =
            self.iter().filter(|key| key.holder == holder && key.state == State::Active);
        match (active.next(), active.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(NoSuccessor::NoActiveKey(holder.into())),
            (Some(_), Some(_)) => Err(NoSuccessor::SeveralActiveKeys(holder.into())),
        }
    }

    /// The current recipients for a value that is sealed to `fingerprints`: the Active keys of the holders of these
    /// keys and of no other holders, in the order in which `fingerprints` names the holders.
    pub fn successors(
        &self,
        fingerprints: impl IntoIterator<Item = Fingerprint>,
    ) -> Result<Recipients, NoSuccessor> {
        let mut holders: Vec<&str> = Vec::new();
        for fingerprint in fingerprints {
            let key = self.get(fingerprint).ok_or(NoSuccessor::UnknownFingerprint(fingerprint))?;
            if !holders.contains(&key.holder.as_str()) {
                holders.push(&key.holder);
            }
        }
        let recipients = holders
            .into_iter()
            .map(|holder| Ok(self.active(holder)?.recipient.clone()))
            .collect::<Result<_, NoSuccessor>>()?;
        Ok(Recipients::new(recipients)?)
    }
}

impl FromIterator<DeclaredKey> for DeclaredKeys {
    fn from_iter<I: IntoIterator<Item = DeclaredKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.recipient.fingerprint(), key)).collect())
    }
}

/// Annotations that make Helm, Argo CD and Flux keep an object that must outlive an uninstallation.
pub const KEEP_ANNOTATIONS: [(&str, &str); 3] = [
    ("helm.sh/resource-policy", "keep"),
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// [`KEEP_ANNOTATIONS`] in the form that metadata needs.
pub(crate) fn keep_annotations() -> BTreeMap<String, String> {
    KEEP_ANNOTATIONS.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn kept(name: String, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.into()),
        annotations: Some(keep_annotations()),
        ..ObjectMeta::default()
    }
}

/// A new SealingKey for `recipient`, to be created.
pub fn sealing_key(
    recipient: &Recipient,
    namespace: &str,
    holder: &str,
    created: Timestamp,
    state: State,
) -> SealingKey {
    let spec = SealingKeySpec {
        recipient: recipient.to_string(),
        holder: holder.into(),
        created: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created),
        state,
    };
    let metadata = kept(recipient.fingerprint().to_string(), namespace);
    SealingKey { metadata, ..SealingKey::new("", spec) }
}

/// Writes an age identity file: a comment with the recipient, then the identity.
pub fn identity_file(identity: &Identity) -> Zeroizing<String> {
    let (recipient, secret) = (identity.recipient(), identity.to_secret_string());
    // Reserves everything at once, so that the buffer does not grow and leave a copy behind.
    let mut text =
        Zeroizing::new(String::with_capacity(32 + recipient.as_str().len() + secret.len()));
    text.extend(["# public key: ", recipient.as_str(), "\n", &**secret, "\n"]);
    text
}

/// Why a text is not a valid identity file. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentityFile {
    /// It is not text.
    #[error("it is not UTF-8")]
    NotText,
    /// A line is not an identity.
    #[error("line {line}: {error}")]
    Line {
        /// The line number, counted from 1.
        line: usize,
        /// What is wrong with the line.
        error: bulla_sealing::InvalidKey,
    },
    /// It has no identity.
    #[error("it contains no identity")]
    Empty,
}

/// Reads the identities of an age identity file: one on each line; `#` begins a comment.
pub fn parse_identity_file(file: &[u8]) -> Result<Vec<Identity>, InvalidIdentityFile> {
    let text = str::from_utf8(file).map_err(|_| InvalidIdentityFile::NotText)?;
    let mut identities = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = Identity::parse(line)
            .map_err(|error| InvalidIdentityFile::Line { line: index + 1, error })?;
        identities.push(identity);
    }
    if identities.is_empty() {
        return Err(InvalidIdentityFile::Empty);
    }
    Ok(identities)
}

/// The Secret that holds an identity, named by its fingerprint. It is immutable, because emptying it would lose the
/// identity.
pub fn identity_secret(identity: &Identity, namespace: &str) -> WipedSecret {
    let text = identity_file(identity);
    let name = identity.recipient().fingerprint().to_string();
    WipedSecret::new(Secret {
        metadata: kept(name, namespace),
        type_: Some(IDENTITY_SECRET_TYPE.into()),
        immutable: Some(true),
        data: Some([(IDENTITY_SECRET_KEY.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
        ..Secret::default()
    })
}

/// Why a Secret does not hold the identity that its name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentitySecret {
    /// It does not have the data key.
    #[error("it has no key {IDENTITY_SECRET_KEY}")]
    NoFile,
    /// The data key does not hold a valid identity file.
    #[error("{IDENTITY_SECRET_KEY}: {0}")]
    File(#[from] InvalidIdentityFile),
    /// It holds several identities.
    #[error("{IDENTITY_SECRET_KEY}: it contains several identities; store each in its own Secret")]
    Several,
    /// It is the identity of another recipient.
    #[error("its name is not {0}, the fingerprint of its identity")]
    Misnamed(Fingerprint),
}

/// The one identity in a Secret, with the fingerprint that is the Secret's name.
pub fn identity_of(secret: &Secret) -> Result<Identity, InvalidIdentitySecret> {
    let file = secret.data.as_ref().and_then(|data| data.get(IDENTITY_SECRET_KEY));
    let file = file.ok_or(InvalidIdentitySecret::NoFile)?;
    let identities = parse_identity_file(&file.0)?;
    let [identity] =
        <[Identity; 1]>::try_from(identities).map_err(|_| InvalidIdentitySecret::Several)?;
    let fingerprint = identity.recipient().fingerprint();
    if secret.metadata.name != Some(fingerprint.to_string()) {
        return Err(InvalidIdentitySecret::Misnamed(fingerprint));
    }
    Ok(identity)
}

/// Why an identity cannot be sealed to these recovery recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The recovery recipients are weaker than the identity.
    #[error("a hybrid identity can be backed up only to hybrid recipients; x25519 would weaken it")]
    WeakRecipients,
    /// The namespace is not valid.
    #[error(transparent)]
    Namespace(#[from] InvalidAddress),
    /// There is no randomness for keys.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Whether the identity of `recipient` may be sealed to these recovery recipients. A hybrid identity that is sealed
/// to a classical recipient would be as weak as that recipient.
pub fn can_back_up(recipient: &Recipient, recovery: &Recipients) -> bool {
    recipient.key_type() != KeyType::Hybrid
        || recovery.iter().all(|recovery| recovery.key_type() == KeyType::Hybrid)
}

/// Seals an identity file to the recovery recipients. The result is an age file that any age implementation opens.
/// Like every sealed value it has a binding: to the identity Secret of this name in this namespace.
pub fn seal_identity(
    identity: &Identity,
    namespace: &str,
    recovery: &Recipients,
) -> Result<Vec<u8>, BackupError> {
    let recipient = identity.recipient();
    if !can_back_up(&recipient, recovery) {
        return Err(BackupError::WeakRecipients);
    }
    let name = recipient.fingerprint().to_string();
    let address = ValueAddress::new(namespace, &name, IDENTITY_SECRET_KEY)?;
    let binding = Binding::new(Scope::Strict, &address);
    Ok(seal(identity_file(identity).as_bytes(), &binding, recovery)?)
}

/// Why the identity of a backup cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenBackupError {
    /// It is not a sealed value.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It is a sealed value, but not the backup of an identity.
    #[error("not the backup of an identity; sealed for {0}")]
    NotABackup(Box<Binding>),
    /// It does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// Its content is not exactly one identity.
    #[error("it does not contain exactly one identity")]
    Content,
    /// It is the identity of another recipient.
    #[error("it contains the identity of {0}, not the identity that it names")]
    Misnamed(Fingerprint),
}

/// What can be read from a backup without a key: which identity it holds, and its recovery recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The fingerprint of the identity in it.
    pub of: Fingerprint,
    /// The recovery recipients.
    pub recovery: Vec<Fingerprint>,
}

/// Reads what [`seal_identity`] wrote, as far as possible without a key.
pub fn read_backup(file: &[u8]) -> Result<Backup, OpenBackupError> {
    let sealed_value = SealedValue::parse(file)?;
    let (of, _) = backup_address(sealed_value.binding())?;
    Ok(Backup { of, recovery: sealed_value.fingerprints().collect() })
}

/// Opens what [`seal_identity`] wrote.
pub fn open_backup(file: &[u8], keyring: &Keyring) -> Result<Identity, OpenBackupError> {
    let sealed_value = SealedValue::parse(file)?;
    let (of, address) = backup_address(sealed_value.binding())?;
    let plaintext = sealed_value.unseal(&address, keyring)?;
    let identities =
        parse_identity_file(plaintext.as_bytes()).map_err(|_| OpenBackupError::Content)?;
    let [identity] = <[Identity; 1]>::try_from(identities).map_err(|_| OpenBackupError::Content)?;
    let fingerprint = identity.recipient().fingerprint();
    if fingerprint != of {
        return Err(OpenBackupError::Misnamed(fingerprint));
    }
    Ok(identity)
}

/// A backup is not unsealed for an object, so its own binding is used; the identity inside proves which one it is.
fn backup_address(binding: &Binding) -> Result<(Fingerprint, ValueAddress), OpenBackupError> {
    let not_a_backup = || OpenBackupError::NotABackup(binding.clone().into());
    let (Some(namespace), Some(name)) = (binding.namespace(), binding.name()) else {
        return Err(not_a_backup());
    };
    let of = name.parse().map_err(|_| not_a_backup())?;
    let address =
        ValueAddress::new(namespace, name, IDENTITY_SECRET_KEY).map_err(|_| not_a_backup())?;
    if !binding.permits(&address) {
        return Err(not_a_backup());
    }
    Ok((of, address))
}

/// The name of the Secret that holds the backup of an identity.
pub fn backup_name(of: Fingerprint) -> String {
    format!("{of}-backup")
}

/// The key whose identity or backup is in the Secret of this name.
pub fn key_of_secret(name: &str) -> Option<Fingerprint> {
    name.strip_suffix("-backup").unwrap_or(name).parse().ok()
}

/// Whether the Secret of an identity or of its backup records that the key was revoked. The record outlives the
/// SealingKey.
pub fn is_marked_revoked(metadata: &ObjectMeta) -> bool {
    let annotations = metadata.annotations.as_ref();
    let mark = annotations.and_then(|annotations| annotations.get(REVOKED_ANNOTATION));
    mark.is_some_and(|mark| mark == "true")
}

/// The Secret that holds the identity of a revoked key: a controller opens nothing with it.
pub fn revoked_identity_secret(identity: &Identity, namespace: &str) -> WipedSecret {
    identity_secret(identity, namespace).with(|secret| {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(REVOKED_ANNOTATION.into(), "true".into());
    })
}

/// The Secret that holds the backup of an identity.
pub fn backup_secret(of: Fingerprint, file: Vec<u8>, namespace: &str) -> WipedSecret {
    WipedSecret::new(Secret {
        metadata: kept(backup_name(of), namespace),
        type_: Some(BACKUP_SECRET_TYPE.into()),
        data: Some([(BACKUP_SECRET_KEY.to_owned(), ByteString(file))].into()),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(holder: &str, state: State, key_type: KeyType) -> DeclaredKey {
        let recipient = Identity::generate(key_type).unwrap().recipient();
        let holder = holder.into();
        DeclaredKey { recipient, holder, state, created: Timestamp::UNIX_EPOCH }
    }

    fn fingerprint(key: &DeclaredKey) -> Fingerprint {
        key.recipient.fingerprint()
    }

    #[test]
    fn successors_are_the_active_keys_of_the_named_holders_only() {
        let old = key("eu", State::Revoked, KeyType::X25519);
        let older = key("eu", State::Retired, KeyType::X25519);
        let new = key("eu", State::Active, KeyType::X25519);
        let recovery = key("recovery", State::Active, KeyType::X25519);
        let other = key("us", State::Active, KeyType::X25519);
        let lost = key("asia", State::Retired, KeyType::X25519);
        let mixed = key("moon", State::Active, KeyType::Hybrid);
        let stranger = fingerprint(&key("x", State::Active, KeyType::X25519));
        let keys: DeclaredKeys = [&old, &older, &new, &recovery, &other, &lost, &mixed]
            .map(Clone::clone)
            .into_iter()
            .collect();
        let successors = |named: &[&DeclaredKey]| {
            let recipients = keys.successors(named.iter().map(|key| fingerprint(key)))?;
            Ok::<Vec<_>, NoSuccessor>(recipients.iter().map(Recipient::fingerprint).collect())
        };
        let expected = Ok(vec![fingerprint(&recovery), fingerprint(&new)]);
        assert_eq!(successors(&[&recovery, &old, &older]), expected);
        assert_eq!(successors(&[&lost]), Err(NoSuccessor::NoActiveKey("asia".into())));
        assert!(matches!(successors(&[&old, &mixed]), Err(NoSuccessor::Recipients(_))));
        assert_eq!(
            keys.successors([stranger]).err(),
            Some(NoSuccessor::UnknownFingerprint(stranger))
        );
        let twice: DeclaredKeys =
            [new, key("eu", State::Active, KeyType::X25519)].into_iter().collect();
        assert_eq!(twice.active("eu"), Err(NoSuccessor::SeveralActiveKeys("eu".into())));
    }

    #[test]
    fn a_key_with_a_wrong_name_is_not_trusted() {
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        let mut declared =
            sealing_key(&recipient, "bulla-system", "eu", Timestamp::UNIX_EPOCH, State::Active);
        assert_eq!(DeclaredKey::try_from(&declared).unwrap().recipient, recipient);
        declared.metadata.name = Some("0123456789abcdef".into());
        let error = DeclaredKey::try_from(&declared);
        assert_eq!(error, Err(InvalidDeclaration::Misnamed(recipient.fingerprint())));
    }

    #[test]
    fn a_backup_opens_with_the_recovery_identity_and_returns_the_same_identity() {
        for key_type in [KeyType::X25519, KeyType::Hybrid] {
            let (identity, recovery) = (
                Identity::generate(key_type).unwrap(),
                Identity::generate(KeyType::Hybrid).unwrap(),
            );
            let recipients = Recipients::new(vec![recovery.recipient()]).unwrap();
            let file = seal_identity(&identity, "bulla-system", &recipients).unwrap();
            let of = identity.recipient().fingerprint();
            let recovery_fingerprint = recovery.recipient().fingerprint();
            let backup = Backup { of, recovery: vec![recovery_fingerprint] };
            assert_eq!(read_backup(&file), Ok(backup));
            let keyring = Keyring::from_iter([recovery]);
            let opened = open_backup(&file, &keyring).unwrap();
            assert_eq!(opened.recipient(), identity.recipient());
            assert!(matches!(
                open_backup(&file, &Keyring::new()).err(),
                Some(OpenBackupError::Unseal(UnsealError::NoIdentity { .. }))
            ));
        }
    }

    #[test]
    fn a_backup_of_a_hybrid_identity_to_a_weaker_recipient_is_refused() {
        let identity = Identity::generate(KeyType::Hybrid).unwrap();
        let weak = Identity::generate(KeyType::X25519).unwrap().recipient();
        let recipients = Recipients::new(vec![weak]).unwrap();
        let error = seal_identity(&identity, "bulla-system", &recipients).err();
        assert_eq!(error, Some(BackupError::WeakRecipients));
    }

    #[test]
    fn an_identity_secret_returns_only_the_identity_it_is_named_for() {
        let identity = Identity::generate(KeyType::Hybrid).unwrap();
        let secret = identity_secret(&identity, "bulla-system");
        assert_eq!(identity_of(&secret).unwrap().recipient(), identity.recipient());
        let renamed = WipedSecret::new((*secret).clone())
            .with(|secret| secret.metadata.name = Some("0123456789abcdef".into()));
        let fingerprint = identity.recipient().fingerprint();
        assert_eq!(identity_of(&renamed).err(), Some(InvalidIdentitySecret::Misnamed(fingerprint)));
    }

    #[test]
    fn objects_of_a_key_are_in_their_namespace_and_are_kept_by_other_tools() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let recipient = identity.recipient();
        let of = recipient.fingerprint();
        let declared =
            sealing_key(&recipient, "bulla-system", "eu", Timestamp::UNIX_EPOCH, State::Active);
        let stored = identity_secret(&identity, "bulla-system");
        let backup = backup_secret(of, b"age file".to_vec(), "bulla-system");
        for (metadata, name) in [
            (&declared.metadata, of.to_string()),
            (&stored.metadata, of.to_string()),
            (&backup.metadata, format!("{of}-backup")),
        ] {
            assert_eq!(metadata.name, Some(name));
            assert_eq!(metadata.namespace.as_deref(), Some("bulla-system"));
            for (key, value) in KEEP_ANNOTATIONS {
                assert_eq!(metadata.annotations.as_ref().unwrap()[key], value);
            }
        }
        assert_eq!(backup_name(of), format!("{of}-backup"));
        assert_eq!(
            [&backup_name(of), &of.to_string()].map(|name| key_of_secret(name)),
            [Some(of); 2]
        );
    }

    #[test]
    fn an_identity_is_stored_in_an_immutable_secret_of_its_own_type() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let secret = identity_secret(&identity, "bulla-system");
        assert_eq!(secret.type_.as_deref(), Some(IDENTITY_SECRET_TYPE));
        assert_eq!(secret.immutable, Some(true));
    }

    #[test]
    fn the_secret_of_a_revoked_key_records_the_revocation() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let plain = identity_secret(&identity, "bulla-system");
        let revoked = revoked_identity_secret(&identity, "bulla-system");
        assert!(!is_marked_revoked(&plain.metadata));
        assert!(is_marked_revoked(&revoked.metadata));
        assert_eq!(identity_of(&revoked).unwrap().recipient(), identity.recipient());
    }

    #[test]
    fn a_backup_is_stored_in_a_secret_of_its_own_type() {
        let of = Identity::generate(KeyType::X25519).unwrap().recipient().fingerprint();
        let secret = backup_secret(of, b"age file".to_vec(), "bulla-system");
        assert_eq!(secret.type_.as_deref(), Some(BACKUP_SECRET_TYPE));
        let file = (BACKUP_SECRET_KEY.to_owned(), ByteString(b"age file".to_vec()));
        assert_eq!(secret.data, Some(BTreeMap::from([file])));
    }

    #[test]
    fn an_invalid_line_of_an_identity_file_is_reported_with_its_number() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let file = Zeroizing::new(format!("{}hunter2\n", *identity_file(&identity)));
        let error = bulla_sealing::InvalidKey::NotAnIdentity;
        assert_eq!(
            parse_identity_file(file.as_bytes()).err(),
            Some(InvalidIdentityFile::Line { line: 3, error })
        );
    }

    #[test]
    fn a_backup_that_contains_another_identity_is_refused() {
        let [named, contained, recovery] =
            [(); 3].map(|()| Identity::generate(KeyType::X25519).unwrap());
        let name = named.recipient().fingerprint().to_string();
        let address = ValueAddress::new("bulla-system", &name, IDENTITY_SECRET_KEY).unwrap();
        let binding = Binding::new(Scope::Strict, &address);
        let recipients = Recipients::new(vec![recovery.recipient()]).unwrap();
        let file = seal(identity_file(&contained).as_bytes(), &binding, &recipients).unwrap();
        let error = open_backup(&file, &Keyring::from_iter([recovery])).err();
        let fingerprint = contained.recipient().fingerprint();
        assert_eq!(error, Some(OpenBackupError::Misnamed(fingerprint)));
    }
}
