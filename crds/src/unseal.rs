//! From a SealedSecret to the Secret that it describes.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_sealing::{
    Binding, Fingerprint, InvalidTarget, Keyring, ParseError, Plaintext, SealedHeader, SealedValue,
    Target,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::conditions::Reason;
use crate::rules::{self, Violation};
use crate::seal::UNBOUND_NAMESPACE;
use crate::template::TextTemplate;
use crate::{SealedSecret, WipedSecret};

/// Why a SealedSecret does not give a Secret. Nothing here quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
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
    /// A plaintext that the API server would refuse for the Secret's type, quoting it.
    #[error("key {key}: not valid for type {type_}")]
    Unfit {
        /// The data key.
        key: &'static str,
        /// The Secret's type.
        type_: String,
    },
}

/// Why one value does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not base64 in its one canonical spelling.
    #[error("not base64, so not a sealed value")]
    NotBase64,
    /// The value is bound to a namespace and the object names none.
    #[error("sealed for {0}, and the object names no namespace")]
    NoNamespace(Box<Binding>),
    /// The namespace, name or key of the object is not valid.
    #[error(transparent)]
    InvalidTarget(#[from] InvalidTarget),
    /// Not a sealed value.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A sealed value that does not open here.
    #[error(transparent)]
    Unseal(#[from] bulla_sealing::UnsealError),
}

impl UnsealError {
    /// The reason for the conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Violation(Violation::TypeRefused(_)) => Reason::TypeRefused,
            Self::Violation(
                Violation::Template { .. }
                | Violation::TemplateTooLong(_)
                | Violation::TemplateNotJson(_)
                | Violation::RenderedTooLarge,
            ) => Reason::TemplateFailed,
            Self::Violation(_) => Reason::Invalid,
            Self::Unfit { .. } => Reason::InvalidForType,
            Self::Value { error, .. } => error.reason(),
        }
    }
}

impl ValueError {
    /// The reason for the conditions and for `lint`.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotBase64 | Self::Parse(ParseError::NotAge | ParseError::NoBinding) => {
                Reason::NotSealed
            }
            Self::Parse(ParseError::Malformed { .. }) => Reason::Malformed,
            Self::NoNamespace(_) | Self::InvalidTarget(_) => Reason::Invalid,
            Self::Unseal(bulla_sealing::UnsealError::WrongBinding { .. }) => Reason::WrongBinding,
            Self::Unseal(bulla_sealing::UnsealError::NoIdentity { .. }) => Reason::UnknownKey,
            Self::Unseal(bulla_sealing::UnsealError::Damaged) => Reason::Damaged,
        }
    }
}

/// The age file in a manifest's value: standard base64 on one line, padded.
pub fn decode_value(value: &str) -> Result<Vec<u8>, ValueError> {
    BASE64_STANDARD.decode(value).map_err(|_| ValueError::NotBase64)
}

/// The keys that any value of `sealed_secret` says it is sealed to. Values that do not parse name none.
pub fn fingerprints(sealed_secret: &SealedSecret) -> BTreeSet<Fingerprint> {
    let values = sealed_secret.spec.sealed_data.values();
    let files = values.filter_map(|value| decode_value(value).ok());
    files
        .flat_map(|file| {
            SealedHeader::parse(&file).map(|(header, _)| header.fingerprints().collect::<Vec<_>>())
        })
        .flatten()
        .collect()
}

/// The Secret that `sealed_secret` describes: all of it or nothing.
///
/// It has the SealedSecret's own name and namespace, the type, labels and annotations of the template less
/// the tracking marks of other tools, and nothing else of the SealedSecret's metadata. Its data are the
/// opened values and what the templates give for them. For policy [`Merge`](crate::Policy::Merge) it is no
/// whole Secret but what is added to one, so it has no type.
pub fn unseal(sealed_secret: &SealedSecret, keyring: &Keyring) -> Result<WipedSecret, UnsealError> {
    if let Some(violation) = rules::violations(sealed_secret).into_iter().next() {
        return Err(violation.into());
    }
    let namespace = sealed_secret.metadata.namespace.as_deref();
    let name = sealed_secret.metadata.name.as_deref().unwrap_or_default();
    let mut secret = WipedSecret::new(bare_secret(sealed_secret, namespace, name));
    for (key, value) in &sealed_secret.spec.sealed_data {
        let plaintext = unseal_value(namespace, name, key, value, keyring)
            .map_err(|error| UnsealError::Value { key: key.clone(), error })?;
        secret = secret.with(|secret| {
            let value = ByteString(plaintext.as_bytes().to_vec());
            secret.data.get_or_insert_default().insert(key.clone(), value);
        });
    }
    let templates = sealed_secret.spec.template.as_ref().map(|template| &template.data);
    match rules::unfit_value(&secret) {
        // A template was judged before any value was known, and must not be judged by what it rendered.
        Some(key) if !templates.is_some_and(|templates| templates.contains_key(key)) => {
            Err(UnsealError::Unfit { key, type_: secret.type_.clone().unwrap_or_default() })
        }
        _ => render(templates.into_iter().flatten(), secret),
    }
}

/// Adds what the templates give for the values of `secret`.
fn render<'a>(
    templates: impl Iterator<Item = (&'a String, &'a String)>,
    mut secret: WipedSecret,
) -> Result<WipedSecret, UnsealError> {
    let none = BTreeMap::new();
    let mut rendered = Vec::new();
    for (key, text) in templates {
        let template = TextTemplate::parse(text)
            .map_err(|error| Violation::Template { key: key.clone(), error })?;
        let values = secret.data.as_ref().unwrap_or(&none);
        rendered.push((key.clone(), template.render(values)));
    }
    for (key, mut text) in rendered {
        secret = secret.with(|secret| {
            let text = ByteString(std::mem::take(&mut *text));
            secret.data.get_or_insert_default().insert(key, text);
        });
    }
    Ok(secret)
}

/// What the value of `key` is to be opened for: where it stands. In an object without a namespace that is only
/// what any namespace may use.
pub fn target_of(
    namespace: Option<&str>,
    name: &str,
    key: &str,
    binding: &Binding,
) -> Result<Target, ValueError> {
    if namespace.is_none() && binding.namespace().is_some() {
        return Err(ValueError::NoNamespace(binding.clone().into()));
    }
    Ok(Target::new(namespace.unwrap_or(UNBOUND_NAMESPACE), name, key)?)
}

/// Opens one value where it stands: the one of `key` in the object of this name.
pub fn unseal_value(
    namespace: Option<&str>,
    name: &str,
    key: &str,
    value: &str,
    keyring: &Keyring,
) -> Result<Plaintext, ValueError> {
    let file = decode_value(value)?;
    let sealed_value = SealedValue::parse(&file)?;
    let target = target_of(namespace, name, key, sealed_value.binding())?;
    Ok(sealed_value.unseal(&target, keyring)?)
}

/// Everything but the values.
fn bare_secret(sealed_secret: &SealedSecret, namespace: Option<&str>, name: &str) -> Secret {
    let template = sealed_secret.spec.template.as_ref();
    let metadata = template.and_then(|template| template.metadata.as_ref());
    let type_ = template.and_then(|template| template.type_.as_ref());
    let kept = |marks: Option<&BTreeMap<String, String>>| {
        marks.map(rules::untracked).filter(|marks| !marks.is_empty())
    };
    Secret {
        metadata: ObjectMeta {
            namespace: namespace.map(Into::into),
            name: Some(name.into()),
            labels: kept(metadata.map(|metadata| &metadata.labels)),
            annotations: kept(metadata.map(|metadata| &metadata.annotations)),
            ..ObjectMeta::default()
        },
        type_: (!rules::is_merge(&sealed_secret.spec))
            .then(|| type_.cloned().unwrap_or_else(|| "Opaque".into())),
        immutable: template.and_then(|template| template.immutable),
        data: Some(BTreeMap::new()),
        ..Secret::default()
    }
}
