//! What kubectl, kustomize and Helm would take as a Secret with values, however it is written: in lists of any kind,
//! with merge keys, without a version.

use bulla_crds::{BACKUP_SECRET_TYPE, IDENTITY_SECRET_TYPE, ParsedValue};
use serde_json::{Map, Value};

use crate::manifest::Step;

/// The fields of a Secret that hold values.
pub(super) const FIELDS: [&str; 2] = ["data", "stringData"];

/// How deep lists are searched. kubectl stops long before.
const MAX_LISTS: usize = 16;

/// What a Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretContent {
    /// Plaintext values, in this field.
    Plaintext(&'static str),
    /// The controller's own identity, in this field.
    Identity(&'static str),
    /// Values that SOPS encrypted.
    Sops,
    /// Nothing, or a sealed backup.
    Nothing,
}

/// A Secret in a document, and the way to it.
pub(super) struct Hidden<'a> {
    pub(super) path: Vec<Step<'a>>,
    pub(super) held: SecretContent,
}

/// What the Secret `value` holds.
pub(super) fn held(value: &Value) -> SecretContent {
    let Some(field) = FIELDS.into_iter().find(|field| has_values(value, field)) else {
        return SecretContent::Nothing;
    };
    match value.get("type").and_then(Value::as_str) {
        Some(IDENTITY_SECRET_TYPE) => SecretContent::Identity(field),
        Some(BACKUP_SECRET_TYPE) if is_backup(value) => SecretContent::Nothing,
        _ if is_sops(value) => SecretContent::Sops,
        _ => SecretContent::Plaintext(field),
    }
}

/// Whether a field has a value that is not empty. Anything but a mapping cannot be judged, so it counts.
pub(super) fn has_values(value: &Value, field: &str) -> bool {
    let is_value = |value: &Value| !matches!(value.as_str(), Some("")) && !value.is_null();
    match value.get(field) {
        Some(Value::Object(map)) => map.values().any(is_value),
        Some(other) => is_value(other),
        None => false,
    }
}

/// Whether `value` is a Secret. `/v1` is another spelling of `v1`, and patches need no version.
pub(super) fn is_secret(value: &Value) -> bool {
    let version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    value.get("kind").and_then(Value::as_str) == Some("Secret")
        && !version.trim_start_matches('/').contains('/')
}

/// The Secrets in a document that are not plain objects: items of lists of any kind, also nested, and Secrets that are
/// put together by merge keys. `is_known` tells which ones are found without this.
pub(super) fn hidden<'a>(
    document: &'a Value,
    is_known: &dyn Fn(&Value) -> bool,
) -> Vec<Hidden<'a>> {
    let mut found = Vec::new();
    search(document, None, &mut Vec::new(), is_known, &mut found);
    found
}

fn search<'a>(
    value: &'a Value,
    list_kind: Option<&str>,
    path: &mut Vec<Step<'a>>,
    is_known: &dyn Fn(&Value) -> bool,
    found: &mut Vec<Hidden<'a>>,
) {
    if path.len() > 2 * MAX_LISTS {
        return;
    }
    let merged = has_merge_key(value).then(|| merged(value));
    let view = merged.as_ref().unwrap_or(value);
    let kind = view.get("kind").and_then(Value::as_str);
    let is_item_of_secrets = kind.is_none() && list_kind == Some("SecretList");
    if (is_secret(view) || is_item_of_secrets) && !is_known(value) {
        match held(view) {
            SecretContent::Nothing => {}
            held => found.push(Hidden { path: path.clone(), held }),
        }
        return;
    }
    if let Some(Value::Array(items)) = value.get("items") {
        for (index, item) in items.iter().enumerate() {
            path.extend([Step::Key("items"), Step::Index(index)]);
            search(item, kind.or(list_kind), path, is_known, found);
            path.truncate(path.len() - 2);
        }
    } else if let Some(Value::Array(items)) = view.get("items") {
        // The items come from an anchor elsewhere, so the place is that of the list.
        let is_plaintext = |item: &&Value| is_secret(item) && held(item) != SecretContent::Nothing;
        let plaintext = items.iter().find(is_plaintext).map(held);
        found.extend(plaintext.map(|held| Hidden { path: path.clone(), held }));
    }
}

/// Whether a mapping, or a mapping in it, takes fields over from another one.
pub(super) fn has_merge_key(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.contains_key("<<") || map.values().any(has_merge_key),
        Value::Array(items) => items.iter().any(has_merge_key),
        _ => false,
    }
}

/// The value as the tools see it, with the fields that merge keys take over.
pub(super) fn merged(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(merged_map(map)),
        Value::Array(items) => Value::Array(items.iter().map(merged).collect()),
        other => other.clone(),
    }
}

fn merged_map(map: &Map<String, Value>) -> Map<String, Value> {
    let own = map.iter().filter(|(key, _)| *key != "<<");
    let mut all: Map<_, _> = own.map(|(key, value)| (key.clone(), merged(value))).collect();
    let sources = match map.get("<<") {
        Some(Value::Array(sources)) => &sources[..],
        Some(source) => std::slice::from_ref(source),
        None => &[],
    };
    for source in sources.iter().filter_map(Value::as_object) {
        for (key, value) in merged_map(source) {
            all.entry(key).or_insert(value);
        }
    }
    all
}

/// Whether all values are sealed values, as the controller's backups of its identities are.
fn is_backup(secret: &Value) -> bool {
    let is_sealed =
        |value: &Value| value.as_str().is_some_and(|text| ParsedValue::parse(text).is_ok());
    !has_values(secret, "stringData")
        && secret
            .get("data")
            .and_then(Value::as_object)
            .is_some_and(|map| map.values().all(is_sealed))
}

/// Whether SOPS has encrypted all values. It leaves its own field in the file.
fn is_sops(secret: &Value) -> bool {
    let is_sealed = |value: &Value| value.as_str().is_some_and(is_sops_value);
    let has_only = |field: &&str| match secret.get(field) {
        Some(Value::Object(map)) => map.values().all(is_sealed),
        other => other.is_none_or(Value::is_null),
    };
    secret.pointer("/sops/mac").is_some_and(Value::is_string) && FIELDS.iter().all(has_only)
}

/// `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`, or an empty text, which SOPS does not encrypt.
fn is_sops_value(text: &str) -> bool {
    let is_base64 = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    };
    if text.is_empty() {
        return true;
    }
    let parts = text.strip_prefix("ENC[AES256_GCM,").and_then(|rest| rest.strip_suffix(']'));
    let parts: Vec<_> = parts.unwrap_or_default().split(',').collect();
    let names = ["data:", "iv:", "tag:", "type:"];
    parts.len() == names.len()
        && parts
            .iter()
            .zip(names)
            .all(|(part, name)| part.strip_prefix(name).is_some_and(is_base64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_sops_differ_from_plaintext() {
        let value = "ENC[AES256_GCM,data:xx==,iv:yy==,tag:zz==,type:str]";
        let secret = |value: &str| json!({"kind": "Secret", "stringData": {"a": value}, "sops": {"mac": value}});
        assert_eq!(held(&secret(value)), SecretContent::Sops);
        for value in ["hunter2", "ENC[hunter2]", "ENC[AES256_GCM,data:a b,iv:,tag:,type:str]"] {
            assert_eq!(held(&secret(value)), SecretContent::Plaintext("stringData"), "{value}");
        }
        let mut without = secret(value);
        without["sops"] = json!({});
        assert_eq!(held(&without), SecretContent::Plaintext("stringData"));
    }

    #[test]
    fn lists_of_any_kind_and_merge_keys_hide_nothing() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "x"}});
        let part = json!({"kind": "Secret", "stringData": {"a": "x"}});
        let list =
            |kind: &str, items: Value| json!({"apiVersion": "v1", "kind": kind, "items": items});
        for document in [
            list("FooList", json!([secret])),
            list("List", json!([list("List", json!([list("XList", json!([secret]))]))])),
            list("SecretList", json!([{"stringData": {"a": "x"}}])),
            json!({"apiVersion": "v1", "<<": part}),
            json!({"apiVersion": "/v1", "kind": "Secret", "<<": [{"a": 1}, part]}),
            json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"<<": {"a": "x"}}}),
            list("List", json!([{"apiVersion": "v1", "<<": part}])),
            json!({"apiVersion": "v1", "kind": "List", "<<": {"items": [secret]}}),
        ] {
            assert_eq!(hidden(&document, &|_| false).len(), 1, "{document}");
        }
        for document in [
            list("List", json!([{"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x"}}])),
            json!({"apiVersion": "a/v1", "kind": "Secret", "data": {"a": "x"}}),
        ] {
            assert!(hidden(&document, &|_| false).is_empty(), "{document}");
        }
    }
}
