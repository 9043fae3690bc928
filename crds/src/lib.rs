//! The Kubernetes face of Bulla: the types of `bulla.dev/v1alpha1` with their schema, the conditions
//! that Argo CD, Flux and people read, the conversions between a Secret and a SealedSecret, and the
//! rules that the CLI and the controller share.
//!
//! This crate has no client and does no I/O: plain data in, plain data out.
//!
//! ```
//! use bulla_crds::{ParsedValues, WipedSecret, conditions::Reason, rules, seal, unseal};
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
//! let values = ParsedValues::of(&sealed_secret);
//! assert!(rules::violations(&sealed_secret, &values).is_empty());
//!
//! let keyring = Keyring::from_iter([identity]);
//! assert_eq!(unseal(&sealed_secret, &values, &keyring)?.data, secret.data);
//!
//! sealed_secret.metadata.namespace = Some("dev".into());
//! let error = unseal(&sealed_secret, &values, &keyring).unwrap_err();
//! assert_eq!(error.reason(), Reason::WrongBinding);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
pub mod conditions;
pub mod crd;
mod error;
pub mod keys;
mod length;
pub mod limits;
mod parsed_value;
pub mod proxy;
mod rekey;
pub mod rules;
mod schema;
mod seal;
mod sealed_secret;
mod sealing_key;
mod secret_type;
pub mod template;
mod unseal;
mod well_known;
mod wiped;

pub use address::Address;
pub use error::{SealError, UnsealSecretError};
pub use length::json_length;
pub use parsed_value::{
    ParsedValue, ParsedValues, ValueError, WrongHeader, decode_value, decoded_values, encode_value,
};
pub use rekey::{Rekey, RekeySpec, RekeyStatus};
pub use seal::{Repeated, check_values, repeated, seal, seal_repeated, template_of};
pub use sealed_secret::{
    Policy, SEALED_DATA_PATH, SealedSecret, SealedSecretSpec, SealedSecretStatus, TargetSpec,
    TargetStatus, Template, TemplateMetadata, sealed_value_path,
};
pub use sealing_key::{LiveSealedSecrets, SealingKey, SealingKeySpec, SealingKeyStatus, State};
pub use secret_type::REFUSED_TYPES;
pub use unseal::unseal;
pub use well_known::{
    ACTIVATED_ANNOTATION, AGE_PREFIX, ALLOW_DELETE_ANNOTATION, API_VERSION, BACKUP_SECRET_KEY,
    BACKUP_SECRET_TYPE, GROUP, IDENTITY_SECRET_KEY, IDENTITY_SECRET_TYPE, LAST_APPLIED_ANNOTATION,
    RECOVERY_ANNOTATION, RECOVERY_HOLDER, RENEW_ANNOTATION, REVOKED_ANNOTATION, SEALED_PREFIX,
    SUCCESSOR_ANNOTATION, TARGET_ADOPT, TARGET_LABEL, TARGET_MERGE, TARGET_OWNED, TARGET_SOURCE,
};
pub use wiped::WipedSecret;
