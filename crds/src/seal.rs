//! From a Secret to the SealedSecret that describes it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bulla_sealing::{Recipients, Scope};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use zeroize::Zeroizing;

use crate::address::Address;
use crate::error::SealError;
use crate::parsed_value::ParsedValues;
use crate::rules;
use crate::sealed_secret::{SealedSecret, SealedSecretSpec, Template, TemplateMetadata};
use crate::wiped::WipedSecret;

/// Seals every value of `secret` for `namespace` and the Secret's own name. Only scope `cluster` binds no
/// namespace and needs none; if you pass one, the SealedSecret still names it.
///
/// Labels and annotations go into the template, except those by which other tools track their own objects. Annotations
/// that tell a GitOps tool how to treat the object go onto the SealedSecret, which is what the tool applies.
pub fn seal<'a>(
    secret: &WipedSecret,
    namespace: impl Into<Option<&'a str>>,
    scope: Scope,
    recipients: &Recipients,
) -> Result<SealedSecret, SealError> {
    let namespace = namespace.into();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let Some(data) = secret.data.as_ref().filter(|data| !data.is_empty()) else {
        return Err(SealError::Empty);
    };
    let template = template_of(secret);
    check_values(data, &template)?;

    let address = Address { namespace, name };
    let mut sealed_data = BTreeMap::new();
    for (key, value) in data {
        sealed_data.insert(key.clone(), address.seal(key, &value.0, scope, recipients)?);
    }
    let sealed_secret = SealedSecret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: namespace.map(Into::into),
            annotations: steering(secret),
            ..ObjectMeta::default()
        },
        spec: SealedSecretSpec {
            sealed_data,
            template: (template != Template::default()).then_some(template),
            target: None,
        },
        status: None,
    };
    // Only templates of data depend on the lengths of the values, and a Secret has none.
    match rules::violations(&sealed_secret, &ParsedValues::default()).into_iter().next() {
        Some(violation) => Err(violation.into()),
        None => Ok(sealed_secret),
    }
}

/// The annotations that tell a GitOps tool how to treat the object.
fn steering(secret: &Secret) -> Option<BTreeMap<String, String>> {
    let annotations = secret.metadata.annotations.iter().flatten();
    let steering = annotations.filter(|(key, _)| rules::is_steering(key));
    let steering: BTreeMap<_, _> =
        steering.map(|(key, value)| (key.clone(), value.clone())).collect();
    (!steering.is_empty()).then_some(steering)
}

/// The template for everything in `secret` but its values.
fn template_of(secret: &Secret) -> Template {
    let untracked = |marks: &Option<_>| marks.as_ref().map(rules::untracked).unwrap_or_default();
    let mut metadata = TemplateMetadata {
        labels: untracked(&secret.metadata.labels),
        annotations: untracked(&secret.metadata.annotations),
    };
    metadata.annotations.retain(|key, _| !rules::is_steering(key));
    Template {
        type_: secret.type_.clone().filter(|type_| type_ != "Opaque"),
        immutable: secret.immutable.filter(|immutable| *immutable),
        metadata: (metadata != TemplateMetadata::default()).then_some(metadata),
        data: BTreeMap::new(),
    }
}

/// Refuses values that must not be in a SealedSecret with this template: its labels or annotations repeat them as
/// plaintext, or the API server would refuse them for its type. `data` may be some or all of its values.
pub fn check_values(
    data: &BTreeMap<String, ByteString>,
    template: &Template,
) -> Result<(), SealError> {
    if let Some(metadata) = &template.metadata {
        refuse_values_in_marks(data, metadata)?;
    }
    let type_ = template.type_.as_deref().unwrap_or_default();
    match rules::unfit_among(type_, data) {
        Some(key) => Err(SealError::Unfit { key, type_: type_.to_owned() }),
        None => Ok(()),
    }
}

/// The length of the shortest value to search for; shorter ones occur everywhere.
const MIN_SEARCHED_BYTES: usize = 4;

fn refuse_values_in_marks(
    data: &BTreeMap<String, ByteString>,
    metadata: &TemplateMetadata,
) -> Result<(), SealError> {
    let labels = metadata.labels.iter().map(|(mark, text)| ("label", mark, text));
    let annotations = metadata.annotations.iter().map(|(mark, text)| ("annotation", mark, text));
    let marks: Vec<_> = labels.chain(annotations).collect();
    for (key, value) in data {
        let value = value.0.trim_ascii();
        if value.len() < MIN_SEARCHED_BYTES {
            continue;
        }
        let in_base64 = Zeroizing::new(BASE64_STANDARD.encode(value));
        // The last group of three bytes is encoded differently when more bytes follow.
        let in_base64 = &in_base64[..value.len() / 3 * 4];
        let contains = |text: &str| {
            text.contains(in_base64)
                || str::from_utf8(value).is_ok_and(|value| text.contains(value))
        };
        if let Some((kind, mark, _)) =
            marks.iter().find(|(_, mark, text)| contains(text) || contains(mark))
        {
            let mark = if contains(mark) {
                format!("the key of a {kind}")
            } else {
                format!("{kind} {mark}")
            };
            return Err(SealError::InTheClear { mark, key: key.clone() });
        }
    }
    Ok(())
}
