//! The schema of Bulla's CustomResourceDefinition, checked without an API server.
//!
//! It covers what Bulla's schemas use. Rules that need CEL are written out in `bulla_crds::rules`.
//! A flaw names a field and never repeats its value, which may be plaintext that was pasted by mistake.

use std::fmt;
use std::sync::LazyLock;

use bulla_crds::SealedSecret;
use bulla_manifests::{Object, OwnedStep, Step, path_text};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::manifest::metadata::is_metadata_field;
use crate::report::output;

/// A place where an object does not match the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) kind: FlawKind,
    path: Vec<OwnedStep>,
    pub(crate) message: String,
}

/// What a flaw is, for the rule that reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlawKind {
    /// The API server would drop the field, or refuse it if asked to be strict.
    UnknownField,
    /// The API server would refuse the object.
    Schema,
}

impl Flaw {
    /// Where it is within the object.
    pub(crate) fn steps(&self) -> Vec<Step<'_>> {
        self.path.iter().map(OwnedStep::as_step).collect()
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.steps()[..] {
            [] => f.write_str(&self.message),
            steps => write!(f, "{}: {}", path_text(steps), self.message),
        }
    }
}

/// The schema of a SealedSecret, as it is installed.
static SCHEMA: LazyLock<JSONSchemaProps> = LazyLock::new(|| {
    let version = SealedSecret::crd().spec.versions.into_iter().next();
    version.and_then(|version| version.schema?.open_api_v3_schema).unwrap_or_default()
});

/// Everything about a SealedSecret that the schema does not allow.
pub(crate) fn flaws(object: &Object<'_>) -> Vec<Flaw> {
    let mut judge = Judge::default();
    for (field, value) in object.value.as_object().into_iter().flatten() {
        let schema = SCHEMA.properties.as_ref().and_then(|properties| properties.get(field));
        judge.within(OwnedStep::Key(field.clone()), |judge| match (field.as_str(), schema) {
            ("apiVersion" | "kind", _) => {}
            ("metadata", _) => judge.metadata(value),
            (_, Some(schema)) => judge.value(value, schema),
            (_, None) => judge.complain(FlawKind::UnknownField, "unknown field"),
        });
    }
    for field in ["metadata", "spec"] {
        if object.value.get(field).is_none() {
            judge.complain(FlawKind::Schema, format!("{field} is missing"));
        }
    }
    judge.flaws
}

#[derive(Default)]
struct Judge {
    path: Vec<OwnedStep>,
    flaws: Vec<Flaw>,
}

impl Judge {
    fn complain(&mut self, kind: FlawKind, message: impl Into<String>) {
        self.flaws.push(Flaw { kind, path: self.path.clone(), message: message.into() });
    }

    /// Judges a part of what is checked now.
    fn within(&mut self, step: OwnedStep, judge: impl FnOnce(&mut Self)) {
        self.path.push(step);
        judge(self);
        self.path.pop();
    }

    fn wrong(&mut self, message: impl Into<String>) {
        self.complain(FlawKind::Schema, message);
    }

    /// The API server judges metadata by a schema of its own.
    fn metadata(&mut self, value: &Value) {
        let Value::Object(map) = value else { return self.wrong("not a mapping") };
        for (field, value) in map {
            self.path.push(OwnedStep::Key(field.clone()));
            match (field.as_str(), value) {
                (field, _) if !is_metadata_field(field) => {
                    self.complain(FlawKind::UnknownField, "unknown field");
                }
                ("name" | "generateName" | "namespace", Value::String(_) | Value::Null) => {}
                ("name" | "generateName" | "namespace", _) => self.wrong("not text; quote it"),
                ("labels" | "annotations", Value::Null) => {}
                ("labels" | "annotations", Value::Object(marks)) => {
                    for (key, _) in marks.iter().filter(|(_, mark)| !mark.is_string()) {
                        let step = OwnedStep::Key(key.clone());
                        self.within(step, |judge| judge.wrong("not text; quote it"));
                    }
                }
                ("labels" | "annotations", _) => self.wrong("not a mapping of text to text"),
                _ => {}
            }
            self.path.pop();
        }
    }

    fn value(&mut self, value: &Value, schema: &JSONSchemaProps) {
        match (value, schema.type_.as_deref()) {
            (Value::Null, _) if schema.nullable == Some(true) => {}
            (Value::Object(map), Some("object")) => self.object(map, schema),
            (Value::Array(items), Some("array")) => self.array(items, schema),
            (Value::String(text), Some("string")) => self.text(text, schema),
            (Value::Bool(_), Some("boolean")) | (_, None) => {}
            (Value::Number(number), Some("integer")) if number.is_i64() || number.is_u64() => {}
            (Value::Number(_) | Value::Bool(_), Some("string")) => self.wrong("not text; quote it"),
            (_, Some(type_)) => self.wrong(format!("not of type {type_}")),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, schema: &JSONSchemaProps) {
        for (field, value) in map {
            let property = schema.properties.as_ref().and_then(|properties| properties.get(field));
            let field = OwnedStep::Key(field.clone());
            self.within(field, |judge| match (property, &schema.additional_properties) {
                (Some(property), _) => judge.value(value, property),
                (None, Some(JSONSchemaPropsOrBool::Schema(additional))) => {
                    judge.value(value, additional);
                }
                (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                (None, _) => judge.complain(FlawKind::UnknownField, "unknown field"),
            });
        }
        for field in schema.required.iter().flatten().filter(|field| !map.contains_key(*field)) {
            self.wrong(format!("{field} is missing"));
        }
        let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
        if schema.min_properties.is_some_and(|min| count < min) {
            self.wrong("must not be empty");
        }
        if let Some(max) = schema.max_properties.filter(|max| count > *max) {
            self.wrong(format!("more than {max} fields"));
        }
    }

    fn array(&mut self, items: &[Value], schema: &JSONSchemaProps) {
        if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
            for (index, value) in items.iter().enumerate() {
                self.within(OwnedStep::Index(index), |judge| judge.value(value, item));
            }
        }
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_items.filter(|max| count > *max) {
            self.wrong(format!("more than {max} items"));
        }
    }

    fn text(&mut self, text: &str, schema: &JSONSchemaProps) {
        let allowed = || schema.enum_.iter().flatten().filter_map(|json| json.0.as_str());
        if schema.enum_.is_some() && !allowed().any(|word| word == text) {
            self.wrong(format!("not one of {}", output::list(allowed())));
        }
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            self.wrong(format!("longer than {max} characters"));
        }
        if schema.min_length.is_some_and(|min| length < min) {
            self.wrong("empty");
        }
    }
}
