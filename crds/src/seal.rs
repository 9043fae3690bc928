//! From a Secret to the SealedSecret that describes it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_sealing::{Binding, InvalidTarget, NoRandomness, Recipients, Scope, Target};
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use zeroize::Zeroizing;

use crate::rules::{self, Violation};
use crate::{SealedSecret, SealedSecretSpec, Template, TemplateMetadata, WipedSecret};

/// Why a Secret cannot be sealed. Nothing here quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It has no data at all.
    #[error("there is no data to seal")]
    Empty,
    /// The scope binds a namespace and none is named.
    #[error("no namespace is named, and scope {0} binds one")]
    NoNamespace(Scope),
    /// The namespace, name or a key is not valid.
    #[error("key {key}: {error}")]
    Target {
        /// The data key.
        key: String,
        /// What is not valid.
        error: InvalidTarget,
    },
    /// The SealedSecret would break a rule.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// A label or annotation repeats a value in the clear.
    #[error("{mark} contains the value of key {key} in the clear")]
    InTheClear {
        /// Which label or annotation. It is named only when its own key is not what contains the value.
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
    /// There is nothing to draw keys from.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Seals every value of `secret` for `namespace` and the Secret's own name. Only scope `cluster` binds no
/// namespace and needs none; one that is given stands in the SealedSecret all the same.
///
/// Labels and annotations go into the template, less those by which other tools track their own objects.
pub fn seal<'a>(
    secret: &WipedSecret,
    namespace: impl Into<Option<&'a str>>,
    scope: Scope,
    recipients: &Recipients,
) -> Result<SealedSecret, SealError> {
    let namespace = namespace.into();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let values = secret.data.iter().flatten();
    if values.clone().next().is_none() {
        return Err(SealError::Empty);
    }
    let metadata = TemplateMetadata {
        labels: secret.metadata.labels.as_ref().map(rules::untracked).unwrap_or_default(),
        annotations: secret.metadata.annotations.as_ref().map(rules::untracked).unwrap_or_default(),
    };
    refuse_values_in_the_clear(secret, &metadata)?;
    if let Some(key) = rules::unfit_value(secret) {
        return Err(SealError::Unfit { key, type_: secret.type_.clone().unwrap_or_default() });
    }

    let mut sealed_data = BTreeMap::new();
    for (key, value) in values {
        let sealed = seal_value(&value.0, namespace, name, key, scope, recipients)?;
        sealed_data.insert(key.clone(), sealed);
    }
    let template = Template {
        type_: secret.type_.clone().filter(|type_| type_ != "Opaque"),
        immutable: secret.immutable.filter(|immutable| *immutable),
        metadata: (metadata != TemplateMetadata::default()).then_some(metadata),
        data: BTreeMap::new(),
    };
    let sealed_secret = SealedSecret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: namespace.map(Into::into),
            ..ObjectMeta::default()
        },
        spec: SealedSecretSpec {
            sealed_data,
            template: (template != Template::default()).then_some(template),
            target: None,
        },
        status: None,
    };
    match rules::violations(&sealed_secret).into_iter().next() {
        Some(violation) => Err(violation.into()),
        None => Ok(sealed_secret),
    }
}

/// Seals one value, as it stands in `sealedData`. Only scope `cluster` needs no namespace.
pub fn seal_value(
    value: &[u8],
    namespace: Option<&str>,
    name: &str,
    key: &str,
    scope: Scope,
    recipients: &Recipients,
) -> Result<String, SealError> {
    let namespace = match (namespace, scope) {
        (Some(namespace), _) => namespace,
        (None, Scope::Cluster) => UNBOUND_NAMESPACE,
        (None, _) => return Err(SealError::NoNamespace(scope)),
    };
    let target = Target::new(namespace, name, key)
        .map_err(|error| SealError::Target { key: key.to_owned(), error })?;
    let file = bulla_sealing::seal(value, &Binding::new(scope, &target), recipients)?;
    Ok(BASE64_STANDARD.encode(file))
}

/// Stands where a target wants a namespace and the binding, of scope `cluster`, does not look at it.
pub(crate) const UNBOUND_NAMESPACE: &str = "any";

/// The shortest value that is searched for: shorter ones stand in everything.
const MIN_SEARCHED_BYTES: usize = 4;

fn refuse_values_in_the_clear(
    secret: &Secret,
    metadata: &TemplateMetadata,
) -> Result<(), SealError> {
    let labels = metadata.labels.iter().map(|(mark, text)| ("label", mark, text));
    let annotations = metadata.annotations.iter().map(|(mark, text)| ("annotation", mark, text));
    let marks: Vec<_> = labels.chain(annotations).collect();
    for (key, value) in secret.data.iter().flatten() {
        let value = value.0.trim_ascii();
        if value.len() < MIN_SEARCHED_BYTES {
            continue;
        }
        let in_base64 = Zeroizing::new(BASE64_STANDARD.encode(value));
        // The last group of three bytes is spelled otherwise when more bytes follow.
        let in_base64 = &in_base64[..value.len() / 3 * 4];
        let contains = |text: &str| {
            text.contains(in_base64)
                || str::from_utf8(value).is_ok_and(|value| text.contains(value))
        };
        if let Some((kind, mark, _)) =
            marks.iter().find(|(_, mark, text)| contains(text) || contains(mark))
        {
            let mark = match contains(mark) {
                true => format!("the key of a {kind}"),
                false => format!("{kind} {mark}"),
            };
            return Err(SealError::InTheClear { mark, key: key.clone() });
        }
    }
    Ok(())
}
