//! What the CLI and the controller both know of keys: which declared keys can be trusted, which key is whose
//! successor, and how an identity is stored and backed up.

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
};
use crate::wiped::WipedSecret;

/// A SealingKey whose name was found to be the fingerprint of its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredKey {
    /// The public key.
    pub recipient: Recipient,
    /// Who has the private half.
    pub holder: String,
    /// What it is used for.
    pub state: State,
    /// When it was made.
    pub created: Timestamp,
}

/// Why a SealingKey cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDeclaration {
    /// Its recipient is none.
    #[error("its recipient is {0}")]
    Recipient(#[from] bulla_sealing::InvalidKey),
    /// Its name is not the fingerprint of its recipient: somebody may have put in a key of his own.
    #[error("it holds the recipient {0}, which is not its name")]
    Misnamed(Fingerprint),
}

impl TryFrom<&SealingKey> for DeclaredKey {
    type Error = InvalidDeclaration;

    /// The recipient decides; the name only has to agree.
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
    /// Nobody has declared the key.
    #[error("key {0} is not declared here by a SealingKey")]
    UnknownFingerprint(Fingerprint),
    /// Its holder seals to no key today.
    #[error("holder {0} has no Active key")]
    NoActiveKey(String),
    /// Its holder seals to several, so it cannot be told which is meant.
    #[error("holder {0} has several Active keys")]
    SeveralActiveKeys(String),
    /// The successors cannot stand in one header.
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
}

/// The keys that are declared, by fingerprint.
#[derive(Clone, Debug, Default)]
pub struct DeclaredKeys(BTreeMap<Fingerprint, DeclaredKey>);

impl DeclaredKeys {
    /// The declared key of this fingerprint.
    pub fn get(&self, fingerprint: Fingerprint) -> Option<&DeclaredKey> {
        self.0.get(&fingerprint)
    }

    /// All of them, by fingerprint.
    pub fn iter(&self) -> impl Iterator<Item = &DeclaredKey> {
        self.0.values()
    }

    /// The one key that this holder is sealed to today.
    pub fn active(&self, holder: &str) -> Result<&DeclaredKey, NoSuccessor> {
        let mut active =
            self.iter().filter(|key| key.holder == holder && key.state == State::Active);
        match (active.next(), active.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(NoSuccessor::NoActiveKey(holder.into())),
            (Some(_), Some(_)) => Err(NoSuccessor::SeveralActiveKeys(holder.into())),
        }
    }

    /// Today's recipients for what is sealed to `fingerprints`: the Active key of every holder that these name,
    /// no holder more and none less, in the order in which they name them.
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

/// Annotations by which Helm, Argo CD and Flux leave alone what must outlive an uninstallation.
pub const KEEP_ANNOTATIONS: [(&str, &str); 3] = [
    ("helm.sh/resource-policy", "keep"),
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
];

/// [`KEEP_ANNOTATIONS`] as metadata has them.
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

/// A SealingKey for `recipient`, as it is created.
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

/// An identity as an age identity file has it: a comment with the recipient, and the identity.
pub fn identity_file(identity: &Identity) -> Zeroizing<String> {
    let (recipient, secret) = (identity.recipient(), identity.to_secret_string());
    // At once, so that the buffer does not grow and leave a copy behind.
    let mut text =
        Zeroizing::new(String::with_capacity(32 + recipient.as_str().len() + secret.len()));
    text.extend(["# public key: ", recipient.as_str(), "\n", &**secret, "\n"]);
    text
}

/// Why a text is no identity file. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentityFile {
    /// It is not a text.
    #[error("it is not UTF-8")]
    NotText,
    /// A line is no identity.
    #[error("line {line}: {error}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: bulla_sealing::InvalidKey,
    },
    /// There is none in it.
    #[error("there is no identity in it")]
    Empty,
}

/// The identities of an age identity file: one on a line, `#` begins a comment.
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

/// The Secret that holds an identity, named by its fingerprint. It is immutable: emptied it would be as good as lost.
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

/// Why a Secret does not hold the identity that it is named for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentitySecret {
    /// It has no such key.
    #[error("it has no key {IDENTITY_SECRET_KEY}")]
    NoFile,
    /// What is there is no identity file.
    #[error("{IDENTITY_SECRET_KEY}: {0}")]
    File(#[from] InvalidIdentityFile),
    /// There is not one identity but several.
    #[error("{IDENTITY_SECRET_KEY}: it holds several identities; each is a Secret of its own")]
    Several,
    /// It is the identity of another recipient.
    #[error("it holds the identity of {0}, which is not its name")]
    Misnamed(Fingerprint),
}

/// The identity in a Secret: one, of the fingerprint that the Secret is named for.
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

/// Why an identity is not sealed to recovery recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// The recovery recipients would be the weaker half.
    #[error("a hybrid identity is backed up to hybrid recipients only, or its strength is lost")]
    WeakRecipients,
    /// The namespace is not valid.
    #[error(transparent)]
    Namespace(#[from] InvalidAddress),
    /// There is nothing to draw keys from.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Whether the identity of `recipient` may be sealed to these: a hybrid one sealed to a classical recipient
/// would be as weak as that.
pub fn can_back_up(recipient: &Recipient, recovery: &Recipients) -> bool {
    recipient.key_type() != KeyType::Hybrid
        || recovery.iter().all(|recovery| recovery.key_type() == KeyType::Hybrid)
}

/// Seals an identity file to the recovery recipients: an age file that any age implementation opens, and that
/// says, like every sealed value, what it is for: the identity Secret of this name in this namespace.
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

/// Why a backup does not give its identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenBackupError {
    /// It is no sealed value.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It is a sealed value, of something else.
    #[error("not the backup of an identity, but {0}")]
    NotABackup(Box<Binding>),
    /// It does not open.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// What is in it is not one identity.
    #[error("there is not one identity in it")]
    Content,
    /// It is the identity of another recipient.
    #[error("it holds the identity of {0}, which is not what it says")]
    Misnamed(Fingerprint),
}

/// What a backup says without a key: whose identity it holds, and to whom it is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The fingerprint of the identity in it.
    pub of: Fingerprint,
    /// The recovery recipients.
    pub recovery: Vec<Fingerprint>,
}

/// Reads what [`seal_identity`] wrote, as far as no key is needed.
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

/// A backup is not unsealed for an object, so its own word is taken; the identity itself proves whose it is.
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
    fn successors_are_the_active_keys_of_the_holders_named_and_of_no_other() {
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
    fn a_misnamed_declaration_is_not_trusted() {
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        let mut declared =
            sealing_key(&recipient, "bulla-system", "eu", Timestamp::UNIX_EPOCH, State::Active);
        assert_eq!(DeclaredKey::try_from(&declared).unwrap().recipient, recipient);
        declared.metadata.name = Some("0123456789abcdef".into());
        let error = DeclaredKey::try_from(&declared);
        assert_eq!(error, Err(InvalidDeclaration::Misnamed(recipient.fingerprint())));
    }

    #[test]
    fn a_backup_opens_with_the_recovery_identity_and_gives_what_went_in() {
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
    fn a_hybrid_identity_is_not_backed_up_to_a_weaker_recipient() {
        let identity = Identity::generate(KeyType::Hybrid).unwrap();
        let weak = Identity::generate(KeyType::X25519).unwrap().recipient();
        let recipients = Recipients::new(vec![weak]).unwrap();
        let error = seal_identity(&identity, "bulla-system", &recipients).err();
        assert_eq!(error, Some(BackupError::WeakRecipients));
    }

    #[test]
    fn an_identity_secret_gives_back_its_identity_and_no_other() {
        let identity = Identity::generate(KeyType::Hybrid).unwrap();
        let secret = identity_secret(&identity, "bulla-system");
        assert_eq!(identity_of(&secret).unwrap().recipient(), identity.recipient());
        let renamed = WipedSecret::new((*secret).clone())
            .with(|secret| secret.metadata.name = Some("0123456789abcdef".into()));
        let fingerprint = identity.recipient().fingerprint();
        assert_eq!(identity_of(&renamed).err(), Some(InvalidIdentitySecret::Misnamed(fingerprint)));
    }
}
