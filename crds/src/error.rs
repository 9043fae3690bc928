//! Why a Secret cannot be sealed, or a SealedSecret cannot be unsealed.

use bulla_sealing::{InvalidAddress, NoRandomness, Scope};

use crate::conditions::Reason;
use crate::parsed_value::ValueError;
use crate::rules::Violation;

/// Why a Secret cannot be sealed. Nothing here quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It has no data at all.
    #[error("there is no data to seal")]
    Empty,
    /// The scope binds a namespace, and none was named.
    #[error("scope {0} needs a namespace, and none is named")]
    NoNamespace(Scope),
    /// The namespace, name or a key is not valid.
    #[error("key {key}: {error}")]
    Address {
        /// The data key.
        key: String,
        /// Which name is not valid.
        error: InvalidAddress,
    },
    /// The SealedSecret would break a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A label or annotation contains a value as plaintext.
    #[error("{mark} contains the plaintext of key {key}")]
    InTheClear {
        /// Which label or annotation.
        mark: String,
        /// The data key.
        key: String,
    },
    /// The value is not valid for the Secret's type.
    #[error("key {key}: not valid for type {type_}")]
    Unfit {
        /// The data key.
        key: &'static str,
        /// The Secret's type.
        type_: String,
    },
    /// There is no randomness for keys.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Why a SealedSecret cannot be unsealed. Nothing here quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealSecretError {
    /// It breaks a rule that needs no key.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A value does not open.
    #[error("key {key}: {error}")]
    Value {
        /// The data key.
        key: String,
        /// What is wrong with its value.
        error: ValueError,
    },
    /// The API server would refuse a plaintext for the Secret's type, with an error that quotes it.
    #[error("key {key}: not valid for type {type_}")]
    Unfit {
        /// The data key.
        key: &'static str,
        /// The Secret's type.
        type_: String,
    },
}

impl UnsealSecretError {
    /// The reason for the object's conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Violation(Violation::TypeRefused(_)) => Reason::TypeRefused,
            Self::Violation(
                Violation::Template { .. }
                | Violation::TemplateTooLong(_)
                | Violation::TooManyPlaceholders
                | Violation::TooManyTemplates
                | Violation::TemplateNotJson(_)
                | Violation::RenderedTooLarge,
            ) => Reason::TemplateFailed,
            Self::Violation(_) => Reason::Invalid,
            Self::Unfit { .. } => Reason::InvalidForType,
            Self::Value { error, .. } => error.reason(),
        }
    }
}
