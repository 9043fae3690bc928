//! The plaintext Secret: read with care, because an overlooked value would not be sealed; written when unsealed.

use anyhow::{Result, bail};
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_crds::WipedSecret;
use bulla_manifests::{Object, Step, Tree};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};
use zeroize::{Zeroize, Zeroizing};

use crate::manifest::metadata::{is_metadata_field, metadata_of};

/// Base64 as the API server reads it: padded, and lenient only about the unused bits of the last digit.
const API_SERVER_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

const FIELDS: [&str; 7] =
    ["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"];

/// The Secret that `object` describes, `stringData` merged into `data` as the API server does it.
pub(crate) fn read_secret(object: &Object<'_>) -> Result<WipedSecret> {
    read_secret_beside(object, &[])
}

/// The same, but allows `others`: fields that no Secret has, and that the caller reads.
pub(crate) fn read_secret_beside(object: &Object<'_>, others: &[&str]) -> Result<WipedSecret> {
    let is_known = |field: &str| FIELDS.contains(&field) || others.contains(&field);
    if let Some(field) = fields(object.value).find(|field| !is_known(field)) {
        bail!(object.mistake(&[Step::Key(field)], "unknown field"));
    }
    let mut metadata_fields = object.value.get("metadata").into_iter().flat_map(fields);
    if let Some(field) = metadata_fields.find(|field| !is_metadata_field(field)) {
        bail!(object.mistake(&[Step::Key("metadata"), Step::Key(field)], "unknown field"));
    }
    let type_ = match object.value.get("type") {
        None | Some(Value::Null) => None,
        Some(Value::String(type_)) => Some(type_.clone()).filter(|type_| !type_.is_empty()),
        Some(_) => bail!(object.mistake(&[Step::Key("type")], "not text; quote it")),
    };
    let immutable = match object.value.get("immutable") {
        None | Some(Value::Null) => None,
        Some(Value::Bool(immutable)) => Some(*immutable),
        Some(_) => bail!(object.mistake(&[Step::Key("immutable")], "expected true or false")),
    };
    let bare = Secret { metadata: metadata_of(object)?, type_, immutable, ..Secret::default() };
    let mut secret = WipedSecret::new(bare);
    for (key, text) in values(object, "data")? {
        let value = decode(text).ok_or_else(|| {
            object.mistake(
                &[Step::Key("data"), Step::Key(key)],
                "not base64; plain text belongs under stringData",
            )
        })?;
        secret = secret.with(|secret| put(secret, key, value));
    }
    for (key, text) in values(object, "stringData")? {
        secret = secret.with(|secret| put(secret, key, text.as_bytes().to_vec()));
    }
    Ok(secret)
}

fn fields(value: &Value) -> impl Iterator<Item = &str> {
    value.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
}

fn put(secret: &mut Secret, key: &str, value: Vec<u8>) {
    let earlier = secret.data.get_or_insert_default().insert(key.to_owned(), ByteString(value));
    if let Some(mut earlier) = earlier {
        earlier.0.zeroize();
    }
}

/// Line breaks are allowed anywhere, as the API server allows them: `base64` wraps its output.
fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.contains(['\r', '\n']) {
        return API_SERVER_BASE64.decode(text).ok();
    }
    let mut joined = Zeroizing::new(String::with_capacity(text.len()));
    joined.extend(text.chars().filter(|character| !matches!(character, '\r' | '\n')));
    API_SERVER_BASE64.decode(joined.as_bytes()).ok()
}

/// The texts of `data` or `stringData`.
fn values<'a>(object: &Object<'a>, field: &str) -> Result<Vec<(&'a str, &'a str)>> {
    let map = match object.value.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(map)) => map,
        Some(_) => bail!(object.mistake(&[Step::Key(field)], "not a mapping of keys to text")),
    };
    let text = |(key, value): (&'a String, &'a Value)| {
        let what = match value {
            Value::String(text) => return Ok((key.as_str(), text.as_str())),
            Value::Null => {
                "the value is missing; write \"\" for an empty one, and quote a text that begins with & or !"
            }
            Value::Bool(_) => "expected text, found a boolean; quote it",
            Value::Number(_) => "expected text, found a number; quote it",
            Value::Array(_) => "expected text, found a list",
            Value::Object(_) => "expected text, found a mapping",
        };
        Err(object.mistake(&[Step::Key(field), Step::Key(key)], what))
    };
    map.iter().map(text).collect()
}

/// The manifest of a Secret, its values in base64 under `data`.
pub(crate) fn secret_to_tree(secret: &Secret) -> Tree {
    let given = |fields: Vec<(&str, Value)>| -> Value {
        fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
    };
    let metadata = &secret.metadata;
    let metadata = given(vec![
        ("annotations", json!(metadata.annotations)),
        ("labels", json!(metadata.labels)),
        ("name", json!(metadata.name)),
        ("namespace", json!(metadata.namespace)),
    ]);
    let data = secret.data.iter().flatten();
    let data = data.map(|(key, value)| (key.as_str(), BASE64_STANDARD.encode(&value.0)));
    Tree::new(given(vec![
        ("apiVersion", json!("v1")),
        ("kind", json!("Secret")),
        ("metadata", metadata),
        ("immutable", json!(secret.immutable)),
        ("type", json!(secret.type_)),
        ("data", data.collect()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_the_api_server_reads_it() {
        assert_eq!(decode("aHVudGVyMg==").unwrap(), b"hunter2");
        assert_eq!(decode("aHVu\r\ndGVy\nMg==\n").unwrap(), b"hunter2");
        assert_eq!(decode("aHVudGVyMh==").unwrap(), b"hunter2");
        assert_eq!(decode("").unwrap(), b"");
        for text in ["aHVudGVyMg", "aHVudGVyMg=", "aHVu dGVy", "aHVudGVyMg==A", "-_==", "%"] {
            assert!(decode(text).is_none(), "{text}");
        }
    }
}
