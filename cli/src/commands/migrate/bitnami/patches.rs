//! The changes to an object in its file, made so that the rest of the file stays.

use std::collections::BTreeMap;

use bulla_crds::{Policy, SealedSecret, rules};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::fields::BitnamiTemplate;
use super::scope::ANNOTATIONS;
use crate::manifest::{Object, Patch};

/// The changes to the file.
pub(super) fn patches(
    object: &Object<'_>,
    spec: &Map<String, Value>,
    metadata: &ObjectMeta,
    template: &BitnamiTemplate,
    sealed: &SealedSecret,
) -> Vec<Patch> {
    let remove = |path: &[&str]| Patch::remove(object, path);
    let mut patches = vec![Patch::set(object, &["apiVersion"], bulla_crds::API_VERSION.into())];
    let marks = metadata.annotations.iter().flatten();
    let (bitnamis, others): (Vec<_>, Vec<_>) =
        marks.map(|(key, _)| key.as_str()).partition(|key| ANNOTATIONS.contains(key));
    if others.is_empty() && !bitnamis.is_empty() {
        patches.push(remove(&["metadata", "annotations"]));
    } else {
        patches.extend(bitnamis.iter().map(|key| remove(&["metadata", "annotations", key])));
    }
    for (key, value) in &sealed.spec.sealed_data {
        patches.push(Patch::set(object, &["spec", "encryptedData", key], value.as_str().into()));
    }
    patches.push(Patch::rename(object, &["spec", "encryptedData"], "sealedData"));
    patches.push(remove(&["spec", "data"]));
    if let Some(fields) = spec.get("template") {
        patches.extend(template_patches(object, fields, template));
    }
    if template.policy != Policy::Owner {
        let policy = template.policy.as_str().into();
        patches.push(Patch::set(object, &["spec", "target", "policy"], policy));
    }
    patches.push(remove(&["status"]));
    patches
}

fn template_patches(object: &Object<'_>, fields: &Value, template: &BitnamiTemplate) -> Vec<Patch> {
    const TEMPLATE: [&str; 2] = ["spec", "template"];
    let remove = |path: &[&str]| Patch::remove(object, &[&TEMPLATE[..], path].concat());
    let is_kept = |key: &&str| !rules::is_tracking(key);
    let kept =
        |marks: &BTreeMap<String, String>| marks.keys().map(String::as_str).filter(is_kept).count();
    let (labels, annotations) = (kept(&template.labels), kept(&template.annotations));
    let BitnamiTemplate { type_, immutable, data, .. } = template;
    if labels + annotations == 0 && type_.is_none() && immutable.is_none() && data.is_empty() {
        return vec![remove(&[])];
    }
    let mut patches = Vec::new();
    for (field, value) in fields.as_object().into_iter().flatten() {
        let is_gone = match field.as_str() {
            "metadata" => labels + annotations == 0,
            "type" => type_.is_none(),
            "immutable" => immutable.is_none(),
            "data" => data.is_empty(),
            _ => true,
        };
        if is_gone {
            patches.push(remove(&[field]));
            continue;
        }
        for (name, value) in value.as_object().into_iter().flatten().filter(|_| field == "metadata")
        {
            let is_kept = match name.as_str() {
                "labels" => labels > 0,
                "annotations" => annotations > 0,
                _ => false,
            };
            if !is_kept {
                patches.push(remove(&[field, name]));
                continue;
            }
            let marks = value.as_object().into_iter().flat_map(Map::keys);
            let gone =
                marks.filter(|key| rules::is_tracking(key) || ANNOTATIONS.contains(&key.as_str()));
            patches.extend(gone.map(|key| remove(&[field, name, key])));
        }
    }
    let old = fields.get("data");
    for (key, text) in data {
        if old.and_then(|old| old.get(key)?.as_str()) != Some(text) {
            let path = [&TEMPLATE[..], &["data", key]].concat();
            patches.push(Patch::set(object, &path, text.as_str().into()));
        }
    }
    patches
}
