//! The parts of the schema that a Rust type cannot express, with their CEL rules.
//!
//! **A rule must never check a single value.** The API server's error for `pattern`, `minLength`,
//! `format: byte` and CEL on a single value repeats the whole rejected value, which may be plaintext
//! pasted by mistake. A rule over the whole map, whose message names only the key, does not repeat it.

use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::limits::{
    MAX_FINGERPRINTS, MAX_PLACEHOLDERS, MAX_SEALED_LENGTH, MAX_TEMPLATE_BYTES, MAX_TEMPLATES,
    MAX_VALUES,
};
use crate::secret_type::{REFUSED_TYPES, needed_keys};
use crate::template::OPEN;
use crate::well_known::SEALED_PREFIX;

/// A valid data key, by the same rule as `bulla_sealing::is_data_key`.
const DATA_KEY: &str =
    "k.size() <= 253 && k.matches('^[-._a-zA-Z0-9]+$') && k != '.' && !k.startsWith('..')";

fn first_key_that_breaks(rule: &str, complaint: &str) -> Value {
    json!({
        "rule": format!("self.all(k, {rule})"),
        "messageExpression": format!("'{complaint}: ' + self.filter(k, !({rule}))[0]"),
    })
}

/// A rule for the spec: the keys that the type requires exist, sealed or rendered.
pub(crate) fn type_needs_keys(type_: &str) -> Rule {
    let keys = needed_keys(type_);
    let rule = format!(
        "!has(self.template) || !has(self.template.type) || self.template.type != '{type_}' || {}.all(k, k in self.sealedData || (has(self.template.data) && k in self.template.data))",
        list(keys),
    );
    Rule::new(rule).message(&*format!("type {type_} needs {}", keys.join(" and ")))
}

/// Over the spec.
pub(crate) fn no_key_twice() -> Rule {
    const TWICE: &str = "self.template.data.filter(k, k in self.sealedData)";
    let rule = format!("!has(self.template) || !has(self.template.data) || {TWICE}.size() == 0");
    let message = format!("'both in sealedData and in template.data: ' + {TWICE}[0]");
    Rule::new(rule).message(Message::Expression(message))
}

/// Over the spec.
pub(crate) fn no_more_values() -> Rule {
    let rule = format!(
        "!has(self.template) || !has(self.template.data) || self.sealedData.size() + self.template.data.size() <= {MAX_VALUES}"
    );
    Rule::new(rule)
        .message(&*format!("more than {MAX_VALUES} values in one SealedSecret; split it"))
}

/// Over the spec.
pub(crate) fn merge_adds_keys_only() -> Rule {
    Rule::new("!has(self.target) || !has(self.target.policy) || self.target.policy != 'Merge' || !has(self.template) || !(has(self.template.type) || has(self.template.immutable) || has(self.template.metadata))")
        .message("policy Merge only adds keys to a Secret that somebody else owns; template may contain only data")
}

/// A list in CEL.
fn list(texts: &[&str]) -> String {
    json!(texts).to_string().replace('"', "'")
}

pub(crate) fn sealed_data(_: &mut SchemaGenerator) -> Schema {
    let is_sealed = format!("self[k].startsWith('{SEALED_PREFIX}')");
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": MAX_VALUES,
        "additionalProperties": {"type": "string", "maxLength": MAX_SEALED_LENGTH},
        "x-kubernetes-validations": [
            first_key_that_breaks(DATA_KEY, "not a valid Secret key"),
            first_key_that_breaks(&is_sealed, "not a sealed value (run bulla seal)"),
        ],
    })
}

/// The headers of a Rekey, which the controller is asked to replace.
pub(crate) fn asked_headers(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = headers(generator);
    schema.insert("minProperties".into(), json!(1));
    schema
}

pub(crate) fn headers(_: &mut SchemaGenerator) -> Schema {
    let is_sealed = format!("self[k].startsWith('{SEALED_PREFIX}')");
    json_schema!({
        "type": "object",
        "maxProperties": MAX_VALUES,
        "additionalProperties": {"type": "string", "maxLength": bulla_sealing::MAX_HEADER_BYTES.div_ceil(3) * 4},
        "x-kubernetes-validations": [
            first_key_that_breaks(DATA_KEY, "not a valid Secret key"),
            first_key_that_breaks(&is_sealed, "not the header of a sealed value"),
        ],
    })
}

pub(crate) fn secret_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 253,
        "x-kubernetes-validations": [{
            "rule": format!("!(self in {})", list(&REFUSED_TYPES)),
            "message": "a Secret of this type would be a credential that the cluster itself trusts",
        }],
    })
}

pub(crate) fn template_data(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_TEMPLATES,
        "additionalProperties": {"type": "string", "maxLength": MAX_TEMPLATE_BYTES},
        "x-kubernetes-validations": [
            first_key_that_breaks(DATA_KEY, "not a valid Secret key"),
            {
                "rule": format!("self.map(k, self[k].split('{OPEN}').size() - 1).sum() <= {MAX_PLACEHOLDERS}"),
                "message": format!("more than {MAX_PLACEHOLDERS} placeholders; split the SealedSecret"),
            },
        ],
    })
}

pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 63},
        "x-kubernetes-validations": [
            first_key_that_breaks("!format.qualifiedName().validate(k).hasValue()", "not a valid label key"),
            first_key_that_breaks("!format.labelValue().validate(self[k]).hasValue()", "not a valid label value at"),
        ],
    })
}

pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 65536},
        "x-kubernetes-validations": [
            first_key_that_breaks("!format.qualifiedName().validate(k).hasValue()", "not a valid annotation key"),
        ],
    })
}

pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let condition =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": condition,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

pub(crate) fn fingerprints(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 16},
        "maxItems": MAX_FINGERPRINTS,
        "x-kubernetes-list-type": "set",
    })
}

pub(crate) fn data_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "string", "maxLength": 253},
        "maxItems": MAX_VALUES,
        "x-kubernetes-list-type": "set",
    })
}

/// An error may repeat a public key, so a rule may check this value itself.
pub(crate) fn recipient(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 2200,
        "pattern": "^age1[02-9ac-hj-np-z]{58}$|^age1pq1[02-9ac-hj-np-z]+$",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "recipient is immutable"}],
    })
}

pub(crate) fn holder(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "holder is immutable"}],
    })
}

pub(crate) fn created(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "date-time",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "created is immutable"}],
    })
}

pub(crate) fn state(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["Pending", "Active", "Retired", "Revoked"],
        "x-kubernetes-validations": [
            {"rule": "oldSelf != 'Revoked' || self == 'Revoked'", "message": "a revoked key stays revoked"},
            {"rule": "self != 'Pending' || oldSelf == 'Pending'", "message": "a key cannot become Pending again"},
        ],
    })
}

pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253})
}
