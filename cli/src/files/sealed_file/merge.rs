//! Values, labels and annotations of a Secret merged into an existing SealedSecret. Everything else is unchanged, byte
//! for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bulla_crds::rules::{is_steering, is_tracking};
use bulla_crds::{Address, SealError, Template, TemplateMetadata, check_values, sealed_value_path};
use bulla_sealing::{Binding, Keyring, Recipient, Recipients, Scope};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Picked;
use crate::manifest::{Patch, Step};
use crate::report::failure::Failure;
use crate::report::output;
use crate::values::plain_secret::warn_of_repeated;
use crate::values::sealed_text::SealedText;

#[derive(Clone, Copy)]
pub(crate) struct Sealer<'a> {
    pub(crate) recipients: &'a Recipients,
    /// The scope that the command line names.
    pub(crate) scope: Option<Scope>,
    /// Opens existing values: equal ones need not be sealed again.
    pub(crate) keyring: Option<&'a Keyring>,
    /// Keys whose values may be repeated in labels and annotations.
    pub(crate) insisted: &'a BTreeSet<String>,
}

static NOTHING: BTreeSet<String> = BTreeSet::new();

impl<'a> Sealer<'a> {
    /// With no identity to open existing values.
    pub(crate) fn new(recipients: &'a Recipients, scope: Option<impl Into<Scope>>) -> Self {
        Self { recipients, scope: scope.map(Into::into), keyring: None, insisted: &NOTHING }
    }

    /// Whether the existing value is equal and sealed as it would be today. Unknown without an identity.
    fn would_make(
        self,
        old: &SealedText<'_>,
        address: Address<'_>,
        key: &str,
        scope: Scope,
        plaintext: &[u8],
    ) -> bool {
        let Some((keyring, parsed)) = self.keyring.zip(old.parsed()) else { return false };
        let mut sealed_to: Vec<_> = parsed.fingerprints().collect();
        let mut today: Vec<_> = self.recipients.iter().map(Recipient::fingerprint).collect();
        sealed_to.sort_unstable();
        today.sort_unstable();
        sealed_to == today
            && parsed.binding().scope() == scope
            && address.unseal(key, parsed, keyring).is_ok_and(|old| old.as_bytes() == plaintext)
    }
}

/// The changes that merge a Secret into a SealedSecret.
#[derive(Default)]
pub(crate) struct MergedSecret {
    pub(crate) patches: Vec<Patch>,
    pub(crate) changes: Vec<MergedValue>,
    /// Fields besides values that are set.
    pub(crate) fields: Vec<String>,
}

/// What happens to one value.
pub(crate) struct MergedValue {
    pub(crate) key: String,
    pub(crate) kind: MergedValueKind,
    /// The length of its plaintext.
    pub(crate) bytes: usize,
    pub(crate) scope: Scope,
}

/// How a value differs from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergedValueKind {
    /// There was none.
    Added,
    /// It is sealed again.
    Changed,
    /// It is equal, and sealed as it would be today.
    Kept,
}

impl MergedSecret {
    /// Reports what happened to each value, never the value itself.
    pub(crate) fn tell(&self, file: &Path, title: &str, recipients: &Recipients) {
        let place = format!("{}: {title}", file.display());
        let recipients = output::list(recipients.iter().map(Recipient::fingerprint));
        for MergedValue { key, kind, bytes, scope } in &self.changes {
            let what = match kind {
                MergedValueKind::Added => "added",
                MergedValueKind::Changed => "changed",
                MergedValueKind::Kept => {
                    output::summary(&format!("{place}: {key}: unchanged"));
                    continue;
                }
            };
            let (bytes, scope) = (output::count(*bytes, "byte"), scope.as_str());
            output::summary(&format!(
                "{place}: {key}: {what}, {bytes}, scope {scope}, sealed to {recipients}"
            ));
        }
        for field in &self.fields {
            output::summary(&format!("{place}: {field}: set"));
        }
    }

    /// Seals the values of `secret` for this object; `refuse` places what cannot be sealed.
    pub(crate) fn of(
        picked: &Picked<'_>,
        secret: &Secret,
        sealer: Sealer<'_>,
        refuse: impl Fn(&SealError) -> Failure,
    ) -> Result<Self, Failure> {
        let mut merged = Self::default();
        let template = merge_template(picked, secret, &mut merged)?;
        let none = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&none);
        check_values(data, &template, sealer.insisted).map_err(|error| refuse(&error))?;
        warn_of_repeated(picked.object.title(), secret, &template);
        let bindings: Vec<_> = picked.bindings().collect();
        let (replaced, others): (Vec<_>, Vec<_>) =
            bindings.iter().partition(|(key, _)| data.contains_key(*key));
        let namespace = namespace_beside(picked, &others)?;
        for (key, value) in data {
            let old = replaced.iter().find(|(other, _)| other == key).map(|(_, binding)| binding);
            let scope = match (sealer.scope, old) {
                (Some(scope), _) => scope,
                (None, Some(old)) => old.scope(),
                (None, None) => scope_of_all(picked, &bindings)?,
            };
            let address = Address { namespace, name: &picked.name };
            let kind = match picked.values.get(key.as_str()) {
                None => MergedValueKind::Added,
                Some(old) if sealer.would_make(old, address, key, scope, &value.0) => {
                    MergedValueKind::Kept
                }
                Some(_) => MergedValueKind::Changed,
            };
            if kind != MergedValueKind::Kept {
                let sealed = address
                    .seal(key, &value.0, scope, sealer.recipients)
                    .map_err(|error| refuse(&error))?;
                let path = sealed_value_path(key);
                merged.patches.push(Patch::set(&picked.object, &path, json!(sealed)));
            }
            let (key, bytes) = (key.clone(), value.0.len());
            merged.changes.push(MergedValue { key, kind, bytes, scope });
        }
        Ok(merged)
    }
}

/// The namespace of a new value, which must agree with the values that stay.
fn namespace_beside<'a>(
    picked: &'a Picked<'_>,
    others: &[&(&'a str, &'a Binding)],
) -> Result<Option<&'a str>, Failure> {
    let named = picked.object.value.pointer("/metadata/namespace");
    let is_named = named.is_some_and(Value::is_string);
    let bound = others.iter().filter_map(|(key, binding)| Some((*key, binding.namespace()?)));
    let mut namespace = picked.namespace.as_deref();
    for (key, bound) in bound {
        match namespace {
            Some(namespace) if namespace == bound => {}
            Some(namespace) if is_named => output::warning(&format!(
                "{}: the value of {key} is sealed for namespace {bound}, so it does not open in {namespace}",
                picked.object.title()
            )),
            Some(namespace) => {
                let what = format!(
                    "the value of {key} is sealed for namespace {bound}, so the others cannot be sealed for {namespace}"
                );
                return Err(picked.refuse(what).hint(
                    "all values of an object are sealed for one namespace: leave -n out, or set all of them again",
                ));
            }
            None => namespace = Some(bound),
        }
    }
    Ok(namespace)
}

/// The scope of a new value: that of the others.
fn scope_of_all(picked: &Picked<'_>, bindings: &[(&str, &Binding)]) -> Result<Scope, Failure> {
    let mut scopes: Vec<_> = bindings.iter().map(|(_, binding)| binding.scope()).collect();
    scopes.dedup();
    match scopes[..] {
        [] => Ok(Scope::Strict),
        [scope] => Ok(scope),
        _ => Err(picked
            .refuse("its values have several scopes, so the new value has no default scope")
            .hint("pass --scope")),
    }
}

/// The template with the fields of `secret`; nothing is removed.
fn merge_template(
    picked: &Picked<'_>,
    secret: &Secret,
    merged: &mut MergedSecret,
) -> Result<Template, Failure> {
    let mut template = match picked.object.value.pointer("/spec/template") {
        None => Template::default(),
        Some(value) if value.is_null() => Template::default(),
        // The library's message can quote a value.
        Some(value) => Template::deserialize(value).map_err(|_| {
            let path = [Step::Key("spec"), Step::Key("template")];
            picked.object.mistake(&path, "does not match the schema")
        })?,
    };
    let mut set = |path: &[&str], value| {
        merged.patches.push(Patch::set(&picked.object, path, value));
        merged.fields.push(path.strip_prefix(&["spec"]).unwrap_or(path).join("."));
    };
    let type_ = template.type_.as_deref().unwrap_or("Opaque");
    if let Some(given) = secret.type_.as_deref().filter(|given| *given != type_) {
        set(&["spec", "template", "type"], json!(given));
        template.type_ = Some(given.to_owned());
    }
    let immutable = template.immutable.unwrap_or_default();
    if let Some(given) = secret.immutable.filter(|given| *given != immutable) {
        set(&["spec", "template", "immutable"], json!(given));
        template.immutable = Some(given);
    }
    let mut metadata = template.metadata.take().unwrap_or_default();
    let TemplateMetadata { labels, annotations } = &mut metadata;
    for (field, there, given) in [
        ("labels", labels, &secret.metadata.labels),
        ("annotations", annotations, &secret.metadata.annotations),
    ] {
        for (key, value) in given.iter().flatten().filter(|(key, _)| !is_tracking(key)) {
            // It is for the tool that applies the SealedSecret.
            if field == "annotations" && is_steering(key) {
                let path = ["metadata", "annotations", key];
                if picked.object.value[path[0]][path[1]][key] != json!(value) {
                    set(&path, json!(value));
                }
            } else if there.get(key) != Some(value) {
                set(&["spec", "template", "metadata", field, key], json!(value));
                there.insert(key.clone(), value.clone());
            }
        }
    }
    template.metadata = Some(metadata);
    Ok(template)
}
