//! The Kubernetes face of Bulla: the types of `bulla.dev/v1alpha1` with their schema, the conditions
//! that Argo CD, Flux and people read, the conversions between a Secret and a SealedSecret, and the
//! rules that the CLI and the controller share.
//!
//! There is no client and no I/O here; everything is plain data in, plain data out.
//!
//! ```
//! use bulla_crds::{WipedSecret, conditions::Reason, rules, seal, unseal};
//! use bulla_sealing::{Identity, KeyType, Keyring, Recipients, Scope};
//! use k8s_openapi::api::core::v1::Secret;
//! use serde_json::json;
//!
//! let manifest = json!({"metadata": {"name": "db"}, "data": {"password": "aHVudGVyMg=="}});
//! let secret = WipedSecret::new(serde_json::from_value::<Secret>(manifest)?);
//! let identity = Identity::generate(KeyType::X25519)?;
//! let recipients = Recipients::new(vec![identity.recipient()])?;
//!
//! let mut sealed_secret = seal(&secret, Some("prod"), Scope::Strict, &recipients)?;
//! assert!(rules::violations(&sealed_secret).is_empty());
//!
//! let keyring = Keyring::from_iter([identity]);
//! assert_eq!(unseal(&sealed_secret, &keyring)?.data, secret.data);
//!
//! sealed_secret.metadata.namespace = Some("dev".into());
//! assert_eq!(unseal(&sealed_secret, &keyring).unwrap_err().reason(), Reason::WrongBinding);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conditions;
pub mod crd;
pub mod keys;
mod length;
mod rekey;
pub mod rules;
mod schema;
mod seal;
mod sealed_secret;
mod sealing_key;
pub mod template;
mod unseal;
mod wiped;

pub use length::json_length;
pub use rekey::{MAX_REKEY_BYTES, Rekey, RekeySpec, RekeyStatus};
pub use seal::{SealError, check_values, seal, seal_value};
pub use sealed_secret::{
    Policy, SealedSecret, SealedSecretSpec, SealedSecretStatus, Target, TargetStatus, Template,
    TemplateMetadata,
};
pub use sealing_key::{LiveSealedSecrets, SealingKey, SealingKeySpec, SealingKeyStatus, State};
pub use unseal::{
    UnsealError, ValueError, decode_value, fingerprints, target_of, unseal, unseal_value,
};
pub use wiped::WipedSecret;

/// The API group, and the prefix of our labels and annotations.
pub const GROUP: &str = "bulla.dev";
/// `apiVersion` of all our kinds.
pub const API_VERSION: &str = "bulla.dev/v1alpha1";
/// The label by which targets are watched: `owned` on ours, `adopt` or `merge` where somebody consents.
pub const TARGET_LABEL: &str = "bulla.dev/target";
/// The value of [`TARGET_LABEL`] on a Secret that a SealedSecret keeps.
pub const TARGET_OWNED: &str = "owned";
/// The value of [`TARGET_LABEL`] on a Secret that may be taken over whole.
pub const TARGET_ADOPT: &str = "adopt";
/// The value of [`TARGET_LABEL`] on a Secret to which keys may be added.
pub const TARGET_MERGE: &str = "merge";
/// The `type` of the Secret that holds an identity, so that a field selector finds just these.
pub const IDENTITY_SECRET_TYPE: &str = "bulla.dev/identity";
/// The data key of an identity Secret: an age identity file, as `age-keygen` writes it.
pub const IDENTITY_SECRET_KEY: &str = "identity.txt";
/// The `type` of the Secret that holds an identity sealed to the recovery recipients.
pub const BACKUP_SECRET_TYPE: &str = "bulla.dev/identity-backup";
/// The data key of a backup Secret: an age file, see [`keys::seal_identity`].
pub const BACKUP_SECRET_KEY: &str = "identity.age";
/// On an Active SealingKey, with any value: the controller is asked to make its successor now.
pub const RENEW_ANNOTATION: &str = "bulla.dev/renew";
/// On a SealingKey: since when it is Active, by the API server's time, if not since it was made.
pub const ACTIVATED_ANNOTATION: &str = "bulla.dev/activated";
/// On a SealingKey that was Active: the name of the key that takes over. It is written together with the state
/// Retired, so that of two who renew at the same time one loses.
pub const SUCCESSOR_ANNOTATION: &str = "bulla.dev/successor";
/// On an identity Secret, `true`: its key was revoked, whatever becomes of its SealingKey.
pub const REVOKED_ANNOTATION: &str = "bulla.dev/revoked";
/// On what the cluster refuses to delete, `true`: it may be deleted after all.
pub const ALLOW_DELETE_ANNOTATION: &str = "bulla.dev/allow-delete";
