//! From a SealedSecret to the Secret that it describes.

use std::collections::BTreeMap;

use bulla_sealing::Keyring;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::address::Address;
use crate::error::UnsealSecretError;
use crate::parsed_value::{ParsedValues, ValueError};
use crate::rules::{self, Violation};
use crate::sealed_secret::SealedSecret;
use crate::template::TextTemplate;
use crate::wiped::WipedSecret;

/// Opens the whole Secret that `sealed_secret` describes, or fails.
///
/// It has the SealedSecret's own name and namespace, and the type, labels and annotations of the template
/// without the tracking marks of other tools. It has no other metadata of the SealedSecret. Its data are the
/// opened values and the rendered templates. With policy [`Merge`](crate::Policy::Merge) it is only the part
/// to add to an existing Secret, so it has no type. `values` are those of `sealed_secret`.
pub fn unseal(
    sealed_secret: &SealedSecret,
    values: &ParsedValues,
    keyring: &Keyring,
) -> Result<WipedSecret, UnsealSecretError> {
    if let Some(violation) = rules::violations(sealed_secret, values).into_iter().next() {
        return Err(violation.into());
    }
    let address = Address::of(sealed_secret);
    let mut secret = WipedSecret::new(bare_secret(sealed_secret, address));
    for (key, value) in values.iter() {
        let plaintext = value
            .as_ref()
            .map_err(ValueError::clone)
            .and_then(|value| address.unseal(key, value, keyring))
            .map_err(|error| UnsealSecretError::Value { key: key.to_owned(), error })?;
        secret = secret.with(|secret| {
            let value = ByteString(plaintext.as_bytes().to_vec());
            secret.data.get_or_insert_default().insert(key.to_owned(), value);
        });
    }
    let templates = sealed_secret.spec.template.as_ref().map(|template| &template.data);
    match rules::unfit_value(&secret) {
        // A template was checked before any value was known, and must not be checked by its rendering.
        Some(key) if !templates.is_some_and(|templates| templates.contains_key(key)) => {
            Err(UnsealSecretError::Unfit { key, type_: secret.type_.clone().unwrap_or_default() })
        }
        _ => render(templates.into_iter().flatten(), secret),
    }
}

/// Adds the templates, rendered with the values of `secret`.
fn render<'a>(
    templates: impl Iterator<Item = (&'a String, &'a String)>,
    mut secret: WipedSecret,
) -> Result<WipedSecret, UnsealSecretError> {
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

/// Everything but the values.
fn bare_secret(sealed_secret: &SealedSecret, address: Address<'_>) -> Secret {
    let template = sealed_secret.spec.template.as_ref();
    let metadata = template.and_then(|template| template.metadata.as_ref());
    let type_ = template.and_then(|template| template.type_.as_ref());
    let kept = |marks: Option<&BTreeMap<String, String>>| {
        marks.map(rules::untracked).filter(|marks| !marks.is_empty())
    };
    Secret {
        metadata: ObjectMeta {
            namespace: address.namespace.map(Into::into),
            name: Some(address.name.into()),
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
