//! The changes to a SealedSecret: the new content of each changed field, with the new values sealed.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::{Template, WipedSecret, check_values, sealed_value_path};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::form::{Edited, EditedValue, Form, is_nothing};
use crate::files::sealed_file::{MergedSecret, Picked, Sealer};
use crate::manifest::{Object, Patch};
use crate::report::failure::Failure;
use crate::report::output;

/// The changes to the fields, and counts for the summary.
pub(super) struct Changes {
    pub(super) patches: Vec<Patch>,
    sealed: usize,
    removed: usize,
    kept: usize,
    is_template_changed: bool,
    /// Keys whose new value is a single line with a line break at its end.
    with_line_break: Vec<String>,
}

impl Changes {
    /// The changes that turn the SealedSecret into what the person wrote.
    pub(super) fn between(
        picked: &Picked<'_>,
        form: &Form<'_>,
        edited: &Edited,
        sealer: Sealer<'_>,
    ) -> Result<Self, Failure> {
        let new = new_values(edited);
        refuse_plaintext(picked, form, edited, &new, sealer.insisted)?;
        let none = BTreeMap::new();
        let data = new.data.as_ref().unwrap_or(&none);
        let mut patches = if data.is_empty() {
            Vec::new()
        } else {
            MergedSecret::of(picked, &new, sealer, |error| picked.refuse_to_seal(error))?.patches
        };
        let sealed = patches.len();
        for key in picked.values.keys().filter(|key| !edited.values.contains_key(**key)) {
            patches.push(Patch::remove(&picked.object, &sealed_value_path(key)));
        }
        let removed = patches.len() - sealed;
        let old = picked.object.value.pointer("/spec/template");
        let template = with_template(old, &edited.template);
        compare(&picked.object, &["spec", "template"], old, template.as_ref(), &mut patches);
        let is_line =
            |value: &[u8]| value.strip_suffix(b"\n").is_some_and(|line| !line.contains(&b'\n'));
        let with_line_break = data.iter().filter(|(_, value)| is_line(&value.0));
        Ok(Self {
            sealed,
            removed,
            kept: edited.values.len() - sealed,
            is_template_changed: patches.len() > sealed + removed,
            with_line_break: with_line_break.map(|(key, _)| key.clone()).collect(),
            patches,
        })
    }

    /// The same changes for the current object, unless someone else changed one of these fields.
    pub(super) fn moved(&self, old: &Object<'_>, new: &Object<'_>) -> Option<Vec<Patch>> {
        self.patches.iter().map(|patch| patch.moved(old, new)).collect()
    }

    /// Warns about likely mistakes.
    pub(super) fn warn(&self) {
        for key in &self.with_line_break {
            let what = format!("the value of {key} ends in a newline, which is sealed with it");
            output::warning(&what);
        }
    }

    /// A summary for people.
    pub(super) fn summary(&self) -> String {
        let sealed = output::count(self.sealed, "value");
        let template = if self.is_template_changed { ", template changed" } else { "" };
        format!("{sealed} sealed, {} removed, {} kept{template}", self.removed, self.kept)
    }
}

/// The new values only.
fn new_values(edited: &Edited) -> WipedSecret {
    let new = edited.values.iter().filter_map(|(key, content)| match content {
        EditedValue::New(value) => Some((key.clone(), ByteString(value.to_vec()))),
        EditedValue::Kept => None,
    });
    WipedSecret::new(Secret { data: Some(new.collect()), ..Secret::default() })
}

/// Adds a patch for each difference between two trees. Goes into a mapping only if both sides have one.
fn compare(
    object: &Object<'_>,
    path: &[&str],
    old: Option<&Value>,
    new: Option<&Value>,
    patches: &mut Vec<Patch>,
) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                compare(object, &[path, &[key]].concat(), old.get(key), new.get(key), patches);
            }
        }
        (_, Some(new)) => patches.push(Patch::set(object, path, new.clone())),
        (_, None) => patches.push(Patch::remove(object, path)),
    }
}

/// The new template: unknown fields stay, and an empty mapping is dropped unless it existed before.
fn with_template(old: Option<&Value>, new: &Template) -> Option<Value> {
    let metadata = new.metadata.clone().unwrap_or_default();
    let map = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| json!(map));
    let field = |name: &str| old.and_then(|old| old.get(name));
    let metadata = with(
        field("metadata"),
        [("labels", map(&metadata.labels)), ("annotations", map(&metadata.annotations))],
    );
    with(
        old,
        [
            ("type", new.type_.as_ref().map(|type_| json!(type_))),
            ("immutable", new.immutable.map(|immutable| json!(immutable))),
            ("metadata", metadata),
            ("data", map(&new.data)),
        ],
    )
}

/// A mapping with these fields, or none if it would be empty.
fn with<const COUNT: usize>(
    old: Option<&Value>,
    fields: [(&str, Option<Value>); COUNT],
) -> Option<Value> {
    let mut new = old.and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in fields {
        match value {
            Some(value) => new.insert(name.to_owned(), value),
            // An empty field means the same as before.
            None if new.get(name).is_some_and(is_nothing) => None,
            None => new.remove(name),
        };
    }
    if new.is_empty() {
        old.filter(|old| is_nothing(old)).cloned()
    } else {
        Some(Value::Object(new))
    }
}

/// Refuses new values that do not fit the new template, and a new template that does not fit a shown value.
fn refuse_plaintext(
    picked: &Picked<'_>,
    form: &Form<'_>,
    edited: &Edited,
    new: &WipedSecret,
    insisted: &BTreeSet<String>,
) -> Result<(), Failure> {
    let refuse = |error| picked.refuse_to_seal(&error);
    if let Some(data) = new.data.as_ref().filter(|data| !data.is_empty()) {
        check_values(data, &edited.template, insisted).map_err(refuse)?;
    }
    let kept = |key: &String| matches!(edited.values.get(key), Some(EditedValue::Kept));
    let shown = form.values_shown().filter(|(key, _)| kept(key));
    let shown = shown.map(|(key, value)| (key.clone(), ByteString(value.to_vec())));
    let shown = WipedSecret::new(Secret { data: Some(shown.collect()), ..Secret::default() });
    match &shown.data {
        // If the shown values were already invalid, this change is not the cause.
        Some(data)
            if !data.is_empty() && check_values(data, &form.template(), insisted).is_ok() =>
        {
            check_values(data, &edited.template, insisted).map_err(refuse)
        }
        _ => Ok(()),
    }
}

/// Saves the new file in a temporary file. It has only sealed values and templates, so it may be on a disk.
pub(super) fn keep(new: &Zeroizing<Vec<u8>>) -> std::io::Result<std::path::PathBuf> {
    use std::io::Write;
    let mut file = tempfile::Builder::new().prefix("bulla-edit-").suffix(".yaml").tempfile()?;
    file.write_all(new)?;
    let (_, path) = file.keep().map_err(|error| error.error)?;
    Ok(path)
}
