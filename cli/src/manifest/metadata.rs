//! What of an object's metadata is looked at, the same for every kind.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::manifest::Object;
use crate::manifest::tree::Step;

/// Fields of metadata that the API server writes, or that mean nothing to us, and that `kubectl get` prints.
const IGNORED_FIELDS: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Every field that metadata can have.
pub(super) fn is_metadata_field(field: &str) -> bool {
    ["name", "generateName", "namespace", "labels", "annotations"].contains(&field)
        || IGNORED_FIELDS.contains(&field)
}

impl Object<'_> {
    /// Name, namespace, labels and annotations; the rest is not looked at.
    pub(super) fn read_metadata(&self) -> Result<ObjectMeta> {
        let Some(Value::Object(map)) = self.value.get("metadata") else {
            bail!(self.mistake(&[Step::Key("metadata")], "there is no metadata"));
        };
        Ok(ObjectMeta {
            name: self.metadata_text(map, "name")?,
            generate_name: self.metadata_text(map, "generateName")?,
            namespace: self.metadata_text(map, "namespace")?,
            labels: self.marks(map, "labels")?,
            annotations: self.marks(map, "annotations")?,
            ..ObjectMeta::default()
        })
    }

    /// A text that is not empty.
    fn metadata_text(&self, map: &Map<String, Value>, field: &str) -> Result<Option<String>> {
        match map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(_) => {
                bail!(
                    self.mistake(&[Step::Key("metadata"), Step::Key(field)], "not text; quote it")
                )
            }
        }
    }

    fn marks(
        &self,
        map: &Map<String, Value>,
        field: &str,
    ) -> Result<Option<BTreeMap<String, String>>> {
        let path = [Step::Key("metadata"), Step::Key(field)];
        let marks = match map.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(marks)) => marks,
            Some(_) => bail!(self.mistake(&path, "not a mapping of text to text")),
        };
        let text = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            _ => Err(self.mistake(&[path[0], path[1], Step::Key(key)], "not text; quote it")),
        };
        marks.iter().map(text).collect::<Result<_>>().map(Some)
    }
}

/// Name, namespace, labels and annotations of an object.
pub(crate) fn metadata_of(object: &Object<'_>) -> Result<ObjectMeta> {
    object.read_metadata()
}

/// The name of an object, which a sealed value may be bound to.
pub(crate) fn name_of<'a>(
    object: &Object<'_>,
    metadata: &'a ObjectMeta,
) -> Result<&'a str, Failure> {
    if let Some(name) = &metadata.name {
        return Ok(name);
    }
    let path = [Step::Key("metadata"), Step::Key("name")];
    match metadata.generate_name {
        Some(_) => {
            let path = [Step::Key("metadata"), Step::Key("generateName")];
            let what = "the API server would choose the name, and a sealed value is for one name";
            Err(Failure::unable(object.mistake(&path, what))
                .hint("give the Secret a metadata.name"))
        }
        None => Err(object.mistake(&path, "there is no name").into()),
    }
}

/// The namespace that an object is for: from the manifest or from `-n`, which must agree. The kubeconfig's
/// current one never counts, because it differs from one person to the next.
pub(crate) fn namespace_of<'a>(
    object: &Object<'_>,
    metadata: &'a ObjectMeta,
    given: Option<&'a str>,
) -> Result<Option<&'a str>, Failure> {
    match (metadata.namespace.as_deref(), given) {
        (Some(named), Some(given)) if named != given => {
            let path = [Step::Key("metadata"), Step::Key("namespace")];
            let what = format!("the manifest names {named} and -n names {given}");
            Err(Failure::unable(object.mistake(&path, &what))
                .hint("leave -n out, or correct the manifest"))
        }
        (named, given) => Ok(named.or(given)),
    }
}
