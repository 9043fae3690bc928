//! The metadata that is read, the same for every kind of object.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use bulla_manifests::{Object, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use crate::report::failure::{Failure, OrHint};

/// Fields of metadata that `kubectl get` prints, and that the API server writes or Bulla ignores.
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

/// Name, namespace, labels and annotations of an object; the rest is ignored.
pub(crate) fn metadata_of(object: &Object<'_>) -> Result<ObjectMeta> {
    let Some(Value::Object(map)) = object.value.get("metadata") else {
        bail!(object.mistake(&[Step::Key("metadata")], "missing"));
    };
    Ok(ObjectMeta {
        name: text(object, map, "name")?,
        generate_name: text(object, map, "generateName")?,
        namespace: text(object, map, "namespace")?,
        labels: marks(object, map, "labels")?,
        annotations: marks(object, map, "annotations")?,
        ..ObjectMeta::default()
    })
}

/// A text that is not empty.
fn text(object: &Object<'_>, map: &Map<String, Value>, field: &str) -> Result<Option<String>> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => {
            bail!(object.mistake(&[Step::Key("metadata"), Step::Key(field)], "not text; quote it"))
        }
    }
}

fn marks(
    object: &Object<'_>,
    map: &Map<String, Value>,
    field: &str,
) -> Result<Option<BTreeMap<String, String>>> {
    let path = [Step::Key("metadata"), Step::Key(field)];
    let marks = match map.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(marks)) => marks,
        Some(_) => bail!(object.mistake(&path, "not a mapping of text to text")),
    };
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        _ => Err(object.mistake(&[path[0], path[1], Step::Key(key)], "not text; quote it")),
    };
    marks.iter().map(text).collect::<Result<_>>().map(Some)
}

/// The name of an object, which a sealed value may be bound to.
pub(crate) fn name_of<'a>(
    object: &Object<'_>,
    metadata: &'a ObjectMeta,
) -> Result<&'a str, Failure> {
    if let Some(name) = &metadata.name {
        return Ok(name);
    }
    if metadata.generate_name.is_none() {
        return Err(object.mistake(&["metadata", "name"].map(Step::Key), "missing").into());
    }
    let what = "the API server would choose the name, and a sealed value is for one name";
    Err(object.mistake(&["metadata", "generateName"].map(Step::Key), what))
        .or_hint("give the Secret a metadata.name")
}

/// A namespace that `-n` or bulla.yaml names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenNamespace {
    name: String,
    by: String,
    /// How to correct it.
    correction: &'static str,
}

impl GivenNamespace {
    /// By the flag `-n`.
    pub(crate) fn by_flag(name: &str) -> Self {
        Self { name: name.to_owned(), by: "-n".into(), correction: "leave -n out" }
    }

    /// By an environment of a `bulla.yaml`.
    pub(crate) fn by_environment(name: &str, environment: &str, config: &Path) -> Self {
        let by = format!("environment {environment} of {}", config.display());
        Self { name: name.to_owned(), by, correction: "correct bulla.yaml" }
    }

    /// The namespace that the flag and an environment name: they must agree.
    pub(crate) fn agreed(
        flag: Option<&str>,
        environment: Option<&Self>,
    ) -> Result<Option<Self>, Failure> {
        match (flag.map(Self::by_flag), environment) {
            (Some(flag), Some(environment)) if flag.name != environment.name => {
                let (by, name) = (&environment.by, &environment.name);
                Err(anyhow!("-n names namespace {}, but {by} names {name}", flag.name))
                    .or_hint("leave -n out, or correct bulla.yaml")
            }
            (flag, environment) => Ok(flag.or_else(|| environment.cloned())),
        }
    }
}

impl Deref for GivenNamespace {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

/// The namespace that an object is for: from the manifest, from `-n` or from `bulla.yaml`, which must agree. The
/// kubeconfig's current one never counts, because it differs from one person to the next.
pub(crate) fn namespace_of<'a>(
    object: &Object<'_>,
    metadata: &'a ObjectMeta,
    given: Option<&'a GivenNamespace>,
) -> Result<Option<&'a str>, Failure> {
    match (metadata.namespace.as_deref(), given) {
        (Some(named), Some(GivenNamespace { name, by, correction })) if named != name => {
            let path = [Step::Key("metadata"), Step::Key("namespace")];
            let what = format!("the manifest names {named}, but {by} names {name}");
            Err(object.mistake(&path, &what))
                .or_hint(format!("{correction}, or correct the manifest"))
        }
        (named, given) => Ok(named.or(given.map(Deref::deref))),
    }
}
