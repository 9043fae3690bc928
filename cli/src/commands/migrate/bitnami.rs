//! Bitnami's SealedSecret turned into ours, in place.
//!
//! The rule is that nothing gets lost: what has no equivalent is a refusal, and what meant nothing there, or means
//! something else here, is told.

mod fields;
mod keys;
mod patches;
mod template;
mod value;

use std::collections::BTreeMap;

use bulla_crds::rules::{self, Violation};
use bulla_crds::{SealError, WipedSecret};
use bulla_sealing::Scope;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Address, Migrated, Note};
use crate::manifest::{self, Object, Patch, Step};
use crate::report::diagnostic::{self, Diagnostic, Place};
use crate::report::failure::Failure;
use crate::values::plain_secret::{SealedWhole, seal_whole};

pub(super) use keys::read as read_keys;
pub(super) use value::Keys;

use fields::Template;
use value::OpenError;

/// What stands in every one of their manifests.
pub(super) const MARK: &str = "bitnami.com/v1alpha1";

const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
const PATCH: &str = "sealedsecrets.bitnami.com/patch";
const SKIP_OWNER: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
const ANNOTATIONS: [&str; 5] = [CLUSTER_WIDE, NAMESPACE_WIDE, MANAGED, PATCH, SKIP_OWNER];

/// Whether it is a SealedSecret of theirs, in whatever version.
pub(super) fn is_theirs(object: &Object<'_>) -> bool {
    let text = |field| object.value.get(field).and_then(Value::as_str).unwrap_or_default();
    text("apiVersion").starts_with("bitnami.com/") && text("kind") == "SealedSecret"
}

/// What there is to do to an object in its file.
pub(super) struct Conversion {
    pub(super) patches: Vec<Patch>,
    pub(super) migrated: Migrated,
    pub(super) notes: Vec<Note>,
}

/// Opens the values of an object and seals them again, for the same scope.
pub(super) fn convert(
    object: &Object<'_>,
    keys: Option<&Keys>,
    address: &Address<'_>,
) -> Result<Conversion, Vec<Diagnostic>> {
    let reader = Reader { object };
    let one = |refused| vec![refused];
    let spec = reader.spec().map_err(one)?;
    let metadata =
        manifest::metadata_of(object).map_err(|error| one(reader.failed(error.into())))?;
    let name =
        manifest::name_of(object, &metadata).map_err(|failure| one(reader.failed(failure)))?;
    let namespace = manifest::namespace_of(object, &metadata, address.namespace)
        .map_err(|failure| one(reader.failed(failure)))?;
    let mut notes = Vec::new();
    let template = reader.template(spec, name, &mut notes).map_err(one)?;
    let scopes = Scopes::of(&metadata, &template, namespace, name);
    let Some(keys) = keys else {
        let hint = "name the files of their private keys with --from-key";
        return Err(one(reader.refuse(
            &[],
            "no key is given that could open its values",
            Some(hint),
        )));
    };
    let opened = reader.open(spec, &scopes, keys)?;
    let scope = reader.scope(&opened, &scopes, &mut notes).map_err(one)?;
    let secret = opened.values.with(|secret| describe(secret, name, &template));
    // One that is rendered is judged when the whole is there.
    let is_sealed = |key: &&str| secret.data.iter().flatten().any(|(other, _)| other == key);
    if let Some(key) = rules::unfit_value(&secret).filter(is_sealed) {
        let path = [Step::Key("spec"), Step::Key("encryptedData"), Step::Key(key)];
        let what = format!("not valid for type {}", secret.type_.as_deref().unwrap_or_default());
        return Err(one(reader.refuse(&path, what, None)));
    }
    // The same is true for keys that the type needs.
    let type_ = template.type_.clone().filter(|_| template.data.is_empty());
    let secret = secret.with(|secret| secret.type_ = type_);
    let SealedWhole { sealed_secret: sealed, dropped } =
        seal_whole(&secret, namespace, scope, address.recipients)
            .map_err(|error| one(reader.not_sealed(&error)))?;
    notes.extend(dropped.iter().map(|note| reader.note(note)));
    let patches = reader.patches(spec, &metadata, &template, &sealed);
    let migrated = Migrated {
        place: reader.place(&[], None),
        from: "bitnami",
        scope,
        keys: sealed.spec.sealed_data.keys().cloned().collect(),
    };
    Ok(Conversion { patches, migrated, notes })
}

/// The scopes that the values may be sealed for, each with its label.
struct Scopes {
    /// First what the object's own annotations say, which is what Bitnami's controller goes by, then the template's.
    declared: Vec<(Scope, String)>,
    /// What else it could have been.
    others: Vec<(Scope, String)>,
}

impl Scopes {
    fn of(metadata: &ObjectMeta, template: &Template, namespace: Option<&str>, name: &str) -> Self {
        let said = [
            declared(metadata.annotations.as_ref()).unwrap_or(Scope::Strict),
            declared(Some(&template.marks)).unwrap_or(Scope::Strict),
        ];
        let count = if declared(Some(&template.marks)).is_some() { 2 } else { 1 };
        let label = |scope| match (scope, namespace) {
            (Scope::Cluster, _) => Some((scope, String::new())),
            (Scope::Namespace, Some(namespace)) => Some((scope, namespace.to_owned())),
            (Scope::Strict, Some(namespace)) => Some((scope, format!("{namespace}/{name}"))),
            (Scope::Namespace | Scope::Strict, None) => None,
        };
        let mut all: Vec<_> = said[..count].to_vec();
        all.dedup();
        let count = all.len();
        all.extend([Scope::Strict, Scope::Namespace, Scope::Cluster]);
        let others = all[count..].iter().filter(|scope| !all[..count].contains(scope));
        Self {
            declared: all[..count].iter().copied().filter_map(label).collect(),
            others: others.copied().filter_map(label).collect(),
        }
    }
}

/// What the annotations say about the scope, if anything.
fn declared(annotations: Option<&BTreeMap<String, String>>) -> Option<Scope> {
    let is_true = |key| annotations.and_then(|all| all.get(key)).is_some_and(|it| it == "true");
    match (is_true(CLUSTER_WIDE), is_true(NAMESPACE_WIDE)) {
        (true, _) => Some(Scope::Cluster),
        (false, true) => Some(Scope::Namespace),
        (false, false) => None,
    }
}

/// Bitnami's word for it.
fn their_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Strict => "strict",
        Scope::Namespace => "namespace-wide",
        Scope::Cluster => "cluster-wide",
    }
}

/// Gives the Secret what it has beside its values.
fn describe(secret: &mut Secret, name: &str, template: &Template) {
    secret.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(template.labels.clone()),
        annotations: Some(template.annotations.clone()),
        ..ObjectMeta::default()
    };
    secret.type_ = template.type_.clone();
    secret.immutable = template.immutable;
}

/// An object of theirs, and how to speak of it.
struct Reader<'a> {
    object: &'a Object<'a>,
}

/// The values, and for each which of the declared scopes it was sealed for.
struct Opened {
    values: WipedSecret,
    scopes: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn place(&self, path: &[Step<'_>], key: Option<&str>) -> Place {
        Place::new(self.object, path, key)
    }

    fn refuse(
        &self,
        path: &[Step<'_>],
        what: impl std::fmt::Display,
        hint: Option<&str>,
    ) -> Diagnostic {
        self.place(path, None).diagnose(what, hint.map(str::to_owned))
    }

    /// A refusal that names its place itself.
    fn failed(&self, failure: Failure) -> Diagnostic {
        Diagnostic::of(&self.object.position(&[]).file, failure)
    }

    fn note(&self, message: &str) -> Note {
        Note { place: self.place(&[], None), message: message.to_owned() }
    }

    fn map(
        &self,
        value: &'a Value,
        path: &[Step<'_>],
    ) -> Result<Option<&'a Map<String, Value>>, Diagnostic> {
        match value {
            Value::Null => Ok(None),
            Value::Object(map) => Ok(Some(map)),
            _ => Err(self.refuse(
                path,
                format!("{} is not a mapping", manifest::path_text(path)),
                None,
            )),
        }
    }

    fn no_equivalent(&self, path: &[Step<'_>], hint: Option<&str>) -> Diagnostic {
        self.refuse(path, format!("{} has no equivalent", manifest::path_text(path)), hint)
    }

    /// The spec, with nothing in it but what is looked at.
    fn spec(&self) -> Result<&'a Map<String, Value>, Diagnostic> {
        let object = self.object;
        if object.value.get("apiVersion").and_then(Value::as_str) != Some(MARK) {
            return Err(self.refuse(
                &[Step::Key("apiVersion")],
                format!("only {MARK} is known"),
                None,
            ));
        }
        let path = [Step::Key("spec")];
        let spec = self.map(object.value.get("spec").unwrap_or(&Value::Null), &path)?;
        let spec = spec.ok_or_else(|| self.refuse(&[], "there is no spec", None))?;
        for (field, value) in spec {
            let path = [path[0], Step::Key(field)];
            match field.as_str() {
                "encryptedData" | "template" => {}
                _ if value.is_null() => {}
                "data" => {
                    let hint = "it is one deprecated ciphertext for a whole Secret: seal that Secret, as it is in the cluster, with bulla seal";
                    return Err(self.refuse(&path, "spec.data is not migrated", Some(hint)));
                }
                _ => return Err(self.no_equivalent(&path, None)),
            }
        }
        Ok(spec)
    }

    fn open(
        &self,
        spec: &'a Map<String, Value>,
        scopes: &Scopes,
        keys: &Keys,
    ) -> Result<Opened, Vec<Diagnostic>> {
        let field = [Step::Key("spec"), Step::Key("encryptedData")];
        let one = |refused| vec![refused];
        if scopes.declared.is_empty() {
            let hint = "name the namespace that it is deployed to with -n, or in the manifest";
            let what = "no namespace is named, and the scope binds one";
            return Err(one(self.refuse(&[], what, Some(hint))));
        }
        let values =
            self.map(spec.get("encryptedData").unwrap_or(&Value::Null), &field).map_err(one)?;
        let labels: Vec<&str> = scopes.declared.iter().map(|(_, label)| label.as_str()).collect();
        let mut opened = Opened { values: WipedSecret::default(), scopes: Vec::new() };
        let mut refused = Vec::new();
        for (key, text) in values.into_iter().flatten() {
            let place = || self.place(&[field[0], field[1], Step::Key(key)], Some(key));
            let Some(text) = text.as_str() else {
                refused.push(place().diagnose("not text, so not a sealed value", None));
                continue;
            };
            match keys.open(text, &labels) {
                Ok((mut value, scope)) => {
                    let value = ByteString(std::mem::take(&mut *value));
                    opened.values = opened.values.with(|secret| {
                        secret.data.get_or_insert_default().insert(key.clone(), value);
                    });
                    opened.scopes.push(scope);
                }
                Err(error) => {
                    refused.push(place().diagnose(error, hint_for(error, text, scopes, keys)));
                }
            }
        }
        match refused.is_empty() {
            true => Ok(opened),
            false => Err(refused),
        }
    }

    /// The one scope of all values.
    fn scope(
        &self,
        opened: &Opened,
        scopes: &Scopes,
        notes: &mut Vec<Note>,
    ) -> Result<Scope, Diagnostic> {
        let index = opened.scopes.first().copied().unwrap_or_default();
        if opened.scopes.iter().any(|other| *other != index) {
            return Err(self.refuse(&[], "its values are sealed for different scopes", None));
        }
        let (scope, _) = scopes.declared[index];
        if scopes.declared.len() > 1 {
            let said = their_word(scopes.declared[0].0);
            let also = their_word(scopes.declared[1].0);
            let which = their_word(scope);
            notes.push(self.note(&format!(
                "its annotations say {said} and those of its template {also}: the values are {which}"
            )));
        }
        Ok(scope)
    }

    fn not_sealed(&self, error: &SealError) -> Diagnostic {
        let key = match error {
            SealError::Target { key, .. }
            | SealError::InTheClear { key, .. }
            | SealError::Violation(Violation::DataKey(key)) => Some(key.as_str()),
            SealError::Unfit { key, .. } => Some(*key),
            _ => None,
        };
        let path = key.map(|key| [Step::Key("spec"), Step::Key("encryptedData"), Step::Key(key)]);
        let hint = match error {
            SealError::InTheClear { .. } => Some(
                "labels and annotations are not sealed: take the value out of them, and change it",
            ),
            error => diagnostic::hint_for_sealing(error),
        };
        self.refuse(path.as_ref().map_or(&[], |path| &path[..]), error, hint)
    }
}

/// What else the value may be, for whoever has to find out.
fn hint_for(error: OpenError, text: &str, scopes: &Scopes, keys: &Keys) -> Option<String> {
    match error {
        OpenError::NoKey => {
            let labels: Vec<&str> = scopes.others.iter().map(|(_, label)| label.as_str()).collect();
            let found = keys.open(text, &labels).ok().map(|(_, index)| scopes.others[index].0);
            Some(match found {
                Some(scope) => format!(
                    "it is sealed {}, and the annotations say {}: correct them",
                    their_word(scope),
                    their_word(scopes.declared[0].0),
                ),
                None => format!(
                    "--from-key holds {}; Bitnami's format does not say which key a value is for",
                    crate::report::output::count(keys.len(), "key")
                ),
            })
        }
        OpenError::Damaged | OpenError::Truncated | OpenError::NotBase64 => {
            Some("take the value from an earlier commit, or seal it again".into())
        }
        OpenError::NoKeyOfLength(_) => None,
    }
}
