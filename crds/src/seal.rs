//! From a Secret to the SealedSecret that describes it.

use std::collections::{BTreeMap, BTreeSet};

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
    seal_repeated(secret, namespace.into(), scope, recipients, &BTreeSet::new())
}

/// The same, where labels and annotations may contain the values of the keys in `insisted`.
pub fn seal_repeated(
    secret: &WipedSecret,
    namespace: Option<&str>,
    scope: Scope,
    recipients: &Recipients,
    insisted: &BTreeSet<String>,
) -> Result<SealedSecret, SealError> {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let Some(data) = secret.data.as_ref().filter(|data| !data.is_empty()) else {
        return Err(SealError::Empty);
    };
    let template = template_of(secret);
    check_values(data, &template, insisted)?;

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
pub fn template_of(secret: &Secret) -> Template {
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
/// plaintext, or the API server would refuse them for its type. `data` may be some or all of its values. The values of
/// the keys in `insisted` may be repeated.
pub fn check_values(
    data: &BTreeMap<String, ByteString>,
    template: &Template,
    insisted: &BTreeSet<String>,
) -> Result<(), SealError> {
    let secret = |repeated: &Repeated| !repeated.is_word && !insisted.contains(&repeated.key);
    if let Some(Repeated { mark, key, .. }) = repeated(data, template).into_iter().find(secret) {
        return Err(SealError::InTheClear { mark, key });
    }
    let type_ = template.type_.as_deref().unwrap_or_default();
    match rules::unfit_among(type_, data) {
        Some(key) => Err(SealError::Unfit { key, type_: type_.to_owned() }),
        None => Ok(()),
    }
}

/// The length of the shortest value to search for; shorter ones occur everywhere.
const MIN_SEARCHED_BYTES: usize = 4;

/// Numbers as long as those of ports, and words shorter than any password, are not secret.
const MAX_NUMBER_BYTES: usize = 5;
const MAX_SHORT_BYTES: usize = 5;

/// A label names things, so a value that is the whole label and looks like a name is probably a name.
const MAX_NAME_BYTES: usize = 16;

/// Words that are common in values and in labels, and guessed first where they are passwords.
const COMMON: [&str; 24] = [
    "backend",
    "cluster",
    "database",
    "default",
    "development",
    "disabled",
    "enabled",
    "external",
    "frontend",
    "internal",
    "kubernetes",
    "localhost",
    "mariadb",
    "mongodb",
    "postgres",
    "postgresql",
    "primary",
    "production",
    "rabbitmq",
    "replica",
    "service",
    "staging",
    "standby",
    "testing",
];

/// A value that a label or annotation contains as plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The data key.
    pub key: String,
    /// `label app`, or `annotation example.com/a`.
    pub mark: String,
    /// Whether the value is a word as names are made of, and so probably no secret.
    pub is_word: bool,
}

/// The values that labels or annotations of the template contain, as text or base64. Their keys do not count: they are
/// names that other people chose.
pub fn repeated(data: &BTreeMap<String, ByteString>, template: &Template) -> Vec<Repeated> {
    let Some(metadata) = &template.metadata else { return Vec::new() };
    let labels = metadata.labels.iter().map(|(mark, text)| ("label", mark, text));
    let annotations = metadata.annotations.iter().map(|(mark, text)| ("annotation", mark, text));
    let marks: Vec<_> = labels.chain(annotations).collect();
    let mut found = Vec::new();
    for (key, value) in data {
        let value = value.0.trim_ascii();
        if value.len() < MIN_SEARCHED_BYTES {
            continue;
        }
        let in_base64 = Zeroizing::new(BASE64_STANDARD.encode(value));
        // The last group of three bytes is encoded differently when more bytes follow.
        let in_base64 = &in_base64[..value.len() / 3 * 4];
        let text = str::from_utf8(value).ok();
        let contains =
            |mark: &str| mark.contains(in_base64) || text.is_some_and(|value| mark.contains(value));
        if let Some((kind, mark, found_in)) = marks.iter().find(|(_, _, text)| contains(text)) {
            let is_label = *kind == "label" && text == Some(found_in.as_str());
            let (key, mark) = (key.clone(), format!("{kind} {mark}"));
            let is_word = is_word(value) || is_label && is_name(value);
            found.push(Repeated { key, mark, is_word });
        }
    }
    found
}

fn is_word(value: &[u8]) -> bool {
    let is_number = value.iter().all(u8::is_ascii_digit) && value.len() <= MAX_NUMBER_BYTES;
    let is_short = value.iter().all(u8::is_ascii_lowercase) && value.len() <= MAX_SHORT_BYTES;
    is_number || is_short || COMMON.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_name(value: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_lowercase() || b"-_.".contains(byte);
    value.iter().all(is_of_name) && value.len() <= MAX_NAME_BYTES
}
