//! The SealedSecret as a manifest describes it.

use anyhow::{Result, anyhow, bail};
use bulla_crds::{SEALED_DATA_PATH, SealedSecret, sealed_value_path};
use bulla_manifests::{Object, Step};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifest::kinds::ObjectKind;
use crate::manifest::metadata::metadata_of;
use crate::manifest::schema::{FlawKind, flaws};

/// The SealedSecret that `object` describes.
///
/// Fields that this version does not know are left to the caller, who finds them with [`flaws`]: they must
/// not prevent the recovery of a Secret.
pub(crate) fn read_sealed_secret(object: &Object<'_>) -> Result<SealedSecret> {
    if ObjectKind::of(object) != ObjectKind::SealedSecret {
        bail!(object.unsupported("a SealedSecret of bulla.dev/v1alpha1"));
    }
    let flaw = flaws(object).into_iter().find(|flaw| flaw.kind != FlawKind::UnknownField);
    if let Some(flaw) = flaw {
        let path = flaw.steps();
        bail!(object.mistake(&path, &flaw.message));
    }
    deserialize(object)
}

/// The same for an object in which [`flaws`] found only unknown fields.
pub(crate) fn deserialize(object: &Object<'_>) -> Result<SealedSecret> {
    let metadata = metadata_of(object)?;
    let mut value = object.value.clone();
    if let Value::Object(map) = &mut value {
        map.remove("status");
        map.insert("metadata".into(), json!({}));
    }
    // The library's message can quote a value.
    let sealed_secret = SealedSecret::deserialize(&value)
        .map_err(|_| anyhow!("{}: does not match the schema", object.position(&[])))?;
    Ok(SealedSecret { metadata, ..sealed_secret })
}

pub(crate) fn sealed_data_steps() -> [Step<'static>; 2] {
    SEALED_DATA_PATH.map(Step::Key)
}

pub(crate) fn sealed_value_steps(key: &str) -> [Step<'_>; 3] {
    sealed_value_path(key).map(Step::Key)
}

/// The sealed values as written, whatever else is wrong with the object.
pub(crate) fn sealed_data<'a>(object: &Object<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let values = object.value.pointer("/spec/sealedData").and_then(Value::as_object);
    values.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}
