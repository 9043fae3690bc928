//! Reads Bitnami's template, and refuses anything that Bulla's template cannot express.

use std::collections::BTreeMap;

use bulla_crds::Policy;
use serde_json::{Map, Value};

use super::object::BitnamiObject;
use super::scope::{ANNOTATIONS, MANAGED, PATCH, SKIP_OWNER};
use super::template;
use crate::commands::migrate::conversion::MigrationNote;
use crate::manifest::{self, Step};
use crate::report::diagnostic::Diagnostic;

/// Metadata that the API server writes, or that Bitnami's controller replaced with its own.
const IGNORED_METADATA: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

const BY_HAND: &str = "write it by hand as docs/templates.md describes, or seal the finished text";

/// The parts of Bitnami's template that Bulla's template can express.
#[derive(Default)]
pub(super) struct BitnamiTemplate {
    pub(super) labels: BTreeMap<String, String>,
    /// Without Bitnami's own annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// Bitnami's own annotations.
    pub(super) marks: BTreeMap<String, String>,
    pub(super) type_: Option<String>,
    pub(super) immutable: Option<bool>,
    /// In Bulla's template language.
    pub(super) data: BTreeMap<String, String>,
    pub(super) policy: Policy,
}

impl BitnamiTemplate {
    /// Reads the template from the spec of the object with this name.
    pub(super) fn read(
        object: &BitnamiObject<'_>,
        spec: &Map<String, Value>,
        name: &str,
        notes: &mut Vec<MigrationNote>,
    ) -> Result<Self, Diagnostic> {
        let path = [Step::Key("spec"), Step::Key("template")];
        let mut template = Self::default();
        let fields = object.map(spec.get("template").unwrap_or(&Value::Null), &path)?;
        for (field, value) in fields.into_iter().flatten() {
            let path = [path[0], path[1], Step::Key(field)];
            match (field.as_str(), value) {
                (_, Value::Null) => {}
                ("metadata", value) => read_metadata(object, value, name, &mut template, notes)?,
                ("type", Value::String(type_)) => {
                    template.type_ = Some(type_.clone()).filter(|type_| !type_.is_empty());
                }
                ("type", _) => return Err(object.refuse(&path, "the type is not text")),
                ("immutable", Value::Bool(immutable)) => template.immutable = Some(*immutable),
                ("immutable", _) => {
                    return Err(object.refuse(&path, "immutable must be true or false"));
                }
                ("data", value) => {
                    template.data = read_data(object, object.map(value, &path)?, spec)?;
                }
                _ => return Err(object.no_equivalent(&path)),
            }
        }
        set_policy(object, &mut template, notes)?;
        Ok(template)
    }

    fn has(&self, mark: &str) -> bool {
        self.marks.get(mark).is_some_and(|value| value == "true")
    }
}

fn read_metadata(
    object: &BitnamiObject<'_>,
    value: &Value,
    name: &str,
    template: &mut BitnamiTemplate,
    notes: &mut Vec<MigrationNote>,
) -> Result<(), Diagnostic> {
    let path = [Step::Key("spec"), Step::Key("template"), Step::Key("metadata")];
    for (field, value) in object.map(value, &path)?.into_iter().flatten() {
        let path = [path[0], path[1], path[2], Step::Key(field)];
        match field.as_str() {
            "labels" => template.labels = texts(object, object.map(value, &path)?, &path)?,
            "annotations" => {
                let all = texts(object, object.map(value, &path)?, &path)?;
                let (marks, annotations) =
                    all.into_iter().partition(|(key, _)| ANNOTATIONS.contains(&key.as_str()));
                (template.marks, template.annotations) = (marks, annotations);
            }
            "name" if value.as_str().is_some_and(|other| !other.is_empty() && other != name) => {
                notes.push(object.note(
                    "the name in spec.template.metadata is dropped: Bitnami's controller named the Secret after the SealedSecret",
                ));
            }
            field if IGNORED_METADATA.contains(&field) => {}
            _ if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
            _ => return Err(object.no_equivalent(&path)),
        }
    }
    Ok(())
}

fn texts(
    object: &BitnamiObject<'_>,
    map: Option<&Map<String, Value>>,
    path: &[Step<'_>],
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        _ => {
            let path = [path, &[Step::Key(key)]].concat();
            let what = format!("{} is not text; quote it", manifest::path_text(&path));
            Err(object.refuse(&path, what))
        }
    };
    map.into_iter().flatten().map(text).collect()
}

fn read_data(
    object: &BitnamiObject<'_>,
    map: Option<&Map<String, Value>>,
    spec: &Map<String, Value>,
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let sealed = spec.get("encryptedData").and_then(Value::as_object);
    let is_sealed = |key: &str| sealed.is_some_and(|sealed| sealed.contains_key(key));
    let mut data = BTreeMap::new();
    for (key, value) in map.into_iter().flatten() {
        let path = [Step::Key("spec"), Step::Key("template"), Step::Key("data"), Step::Key(key)];
        let refuse = |what: String| Err(object.refuse(&path, what).hint(BY_HAND));
        let text = match value {
            Value::String(text) => text,
            Value::Null => {
                let what = format!("null keeps {key} out of the Secret; this has no equivalent");
                return refuse(what);
            }
            _ => return refuse(format!("the template of {key} is not text")),
        };
        if is_sealed(key) {
            return refuse(format!(
                "the template of {key} replaces a sealed value; this has no equivalent"
            ));
        }
        match template::translate(text, is_sealed) {
            Ok(text) => data.insert(key.clone(), text),
            Err(error) => return refuse(format!("the template of {key}, {error}")),
        };
    }
    Ok(data)
}

/// Sets the policy from the annotations that tell Bitnami's controller how to manage the Secret.
fn set_policy(
    object: &BitnamiObject<'_>,
    template: &mut BitnamiTemplate,
    notes: &mut Vec<MigrationNote>,
) -> Result<(), Diagnostic> {
    if template.has(PATCH) {
        let is_plain = template.type_.as_deref().is_none_or(|type_| type_ == "Opaque");
        if !is_plain
            || template.immutable == Some(true)
            || !template.labels.is_empty()
            || !template.annotations.is_empty()
        {
            let path = [Step::Key("spec"), Step::Key("template")];
            let what = "type, immutable, labels and annotations have no equivalent together with the annotation patch: policy Merge adds only data";
            return Err(object.refuse(&path, what).hint(BY_HAND));
        }
        (template.policy, template.type_, template.immutable) = (Policy::Merge, None, None);
        notes.push(object.note(
            "patch is now policy Merge: the Secret must consent with the label bulla.dev/target: merge",
        ));
        if template.has(MANAGED) {
            notes.push(object.note("managed together with patch has no equivalent: the merged keys stay when the SealedSecret is deleted"));
        }
    } else if template.has(SKIP_OWNER) {
        template.policy = Policy::Orphan;
        notes.push(object.note("skip-set-owner-references is now policy Orphan"));
    }
    if template.has(MANAGED) && template.policy != Policy::Merge {
        notes.push(object.note("managed is now consent from the Secret itself: an existing Secret needs the label bulla.dev/target: adopt"));
    }
    Ok(())
}
