//! Bitnami's SealedSecret turned into ours, in place.
//!
//! The rule is that nothing gets lost: what has no equivalent is a refusal, and what meant nothing there, or means
//! something else here, is told.

mod keys;
mod template;
mod value;

use std::collections::BTreeMap;

use bulla_crds::rules::{self, Violation};
use bulla_crds::{Policy, SealError, SealedSecret, WipedSecret};
use bulla_sealing::Scope;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::{Address, Migrated, Note};
use crate::failure::Failure;
use crate::manifest::{self, Object, Patch, Step};
use crate::refused::{Place, Refused};

pub(super) use keys::read as read_keys;
pub(super) use value::Keys;

use value::OpenError;

/// What stands in every one of their manifests.
pub(super) const MARK: &str = "bitnami.com/v1alpha1";

const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
const PATCH: &str = "sealedsecrets.bitnami.com/patch";
const SKIP_OWNER: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
const ANNOTATIONS: [&str; 5] = [CLUSTER_WIDE, NAMESPACE_WIDE, MANAGED, PATCH, SKIP_OWNER];

/// What the API server writes into metadata, or what the controller put its own over.
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
) -> Result<Conversion, Vec<Refused>> {
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
    let values = opened.into_iter().map(|(key, value, _)| (key, value)).collect();
    let (secret, type_) = secret(name, &template, values);
    // One that is rendered is judged when the whole is there.
    let is_sealed = |key: &&str| secret.data.iter().flatten().any(|(other, _)| other == key);
    if let Some(key) = rules::unfit_value(&secret).filter(is_sealed) {
        let path = [Step::Key("spec"), Step::Key("encryptedData"), Step::Key(key)];
        let what = format!("not valid for type {}", secret.type_.as_deref().unwrap_or_default());
        return Err(one(reader.refuse(&path, what, None)));
    }
    // The same is true for keys that the type needs.
    let secret = secret.with(|secret| secret.type_ = type_);
    let sealed = bulla_crds::seal(&secret, namespace, scope, address.recipients)
        .map_err(|error| one(reader.not_sealed(&error)))?;
    for key in template.labels.keys().chain(template.annotations.keys()) {
        if rules::is_tracking(key) && key != "kubectl.kubernetes.io/last-applied-configuration" {
            notes
                .push(reader.note(&format!(
                    "{key} is not taken over: tools track their own objects by it"
                )));
        }
    }
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

/// What their template says, as far as ours can say it.
#[derive(Default)]
struct Template {
    labels: BTreeMap<String, String>,
    /// Without those of Bitnami.
    annotations: BTreeMap<String, String>,
    /// Those of Bitnami.
    marks: BTreeMap<String, String>,
    type_: Option<String>,
    immutable: Option<bool>,
    /// In our language.
    data: BTreeMap<String, String>,
    policy: Policy,
}

impl Template {
    fn has(&self, mark: &str) -> bool {
        self.marks.get(mark).is_some_and(|value| value == "true")
    }
}

/// The Secret that the values are sealed from, with its type; and the type that sealing is to judge.
fn secret(
    name: &str,
    template: &Template,
    values: BTreeMap<String, ByteString>,
) -> (WipedSecret, Option<String>) {
    let secret = WipedSecret::new(Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(template.labels.clone()),
            annotations: Some(template.annotations.clone()),
            ..ObjectMeta::default()
        },
        type_: template.type_.clone(),
        immutable: template.immutable,
        data: Some(values),
        ..Secret::default()
    });
    let judged = template.type_.clone().filter(|_| template.data.is_empty());
    (secret, judged)
}

/// An object of theirs, and how to speak of it.
struct Reader<'a> {
    object: &'a Object<'a>,
}

type Opened = Vec<(String, ByteString, usize)>;

impl<'a> Reader<'a> {
    fn place(&self, path: &[Step<'_>], key: Option<&str>) -> Place {
        let position = self.object.position(path);
        Place { position, object: self.object.title(), key: key.map(str::to_owned) }
    }

    fn refuse(
        &self,
        path: &[Step<'_>],
        what: impl std::fmt::Display,
        hint: Option<&str>,
    ) -> Refused {
        self.place(path, None).refuse(what, hint.map(str::to_owned))
    }

    /// A refusal that names its place itself.
    fn failed(&self, failure: Failure) -> Refused {
        let (message, hint) = failure.into_parts();
        Refused::file(&self.object.position(&[]).file, message, hint.as_deref())
    }

    fn note(&self, message: &str) -> Note {
        Note { place: self.place(&[], None), message: message.to_owned() }
    }

    fn map(
        &self,
        value: &'a Value,
        path: &[Step<'_>],
    ) -> Result<Option<&'a Map<String, Value>>, Refused> {
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

    fn no_equivalent(&self, path: &[Step<'_>], hint: Option<&str>) -> Refused {
        self.refuse(path, format!("{} has no equivalent", manifest::path_text(path)), hint)
    }

    /// The spec, with nothing in it but what is looked at.
    fn spec(&self) -> Result<&'a Map<String, Value>, Refused> {
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
    ) -> Result<Opened, Vec<Refused>> {
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
        let (mut opened, mut refused) = (Vec::new(), Vec::new());
        for (key, text) in values.into_iter().flatten() {
            let place = || self.place(&[field[0], field[1], Step::Key(key)], Some(key));
            let Some(text) = text.as_str() else {
                refused.push(place().refuse("not text, so not a sealed value", None));
                continue;
            };
            match keys.open(text, &labels) {
                Ok((mut value, scope)) => {
                    opened.push((key.clone(), ByteString(std::mem::take(&mut *value)), scope));
                }
                Err(error) => {
                    refused.push(place().refuse(error, hint_for(error, text, scopes, keys)));
                }
            }
        }
        match refused.is_empty() {
            true => Ok(opened),
            false => {
                drop(WipedSecret::new(Secret {
                    data: Some(opened.into_iter().map(|(key, value, _)| (key, value)).collect()),
                    ..Secret::default()
                }));
                Err(refused)
            }
        }
    }

    /// The one scope of all values.
    fn scope(
        &self,
        opened: &Opened,
        scopes: &Scopes,
        notes: &mut Vec<Note>,
    ) -> Result<Scope, Refused> {
        let index = opened.first().map_or(0, |(_, _, scope)| *scope);
        if opened.iter().any(|(_, _, other)| *other != index) {
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

    fn not_sealed(&self, error: &SealError) -> Refused {
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
            SealError::Violation(Violation::TypeRefused(_)) => {
                Some("the cluster makes such Secrets itself; they do not belong in Git")
            }
            _ => None,
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
                    crate::output::count(keys.len(), "key")
                ),
            })
        }
        OpenError::Damaged | OpenError::Truncated | OpenError::NotBase64 => {
            Some("take the value from an earlier commit, or seal it again".into())
        }
        OpenError::NoKeyOfLength(_) => None,
    }
}

impl<'a> Reader<'a> {
    fn template(
        &self,
        spec: &'a Map<String, Value>,
        name: &str,
        notes: &mut Vec<Note>,
    ) -> Result<Template, Refused> {
        let path = [Step::Key("spec"), Step::Key("template")];
        let mut template = Template::default();
        let fields = self.map(spec.get("template").unwrap_or(&Value::Null), &path)?;
        for (field, value) in fields.into_iter().flatten() {
            let path = [path[0], path[1], Step::Key(field)];
            match (field.as_str(), value) {
                (_, Value::Null) => {}
                ("metadata", value) => self.template_metadata(value, name, &mut template, notes)?,
                ("type", Value::String(type_)) => {
                    template.type_ = Some(type_.clone()).filter(|type_| !type_.is_empty());
                }
                ("type", _) => return Err(self.refuse(&path, "the type is not text", None)),
                ("immutable", Value::Bool(immutable)) => template.immutable = Some(*immutable),
                ("immutable", _) => {
                    return Err(self.refuse(&path, "immutable is neither true nor false", None));
                }
                ("data", value) => {
                    template.data = self.template_data(self.map(value, &path)?, spec)?;
                }
                _ => return Err(self.no_equivalent(&path, None)),
            }
        }
        self.policy(&mut template, notes)?;
        Ok(template)
    }

    fn template_metadata(
        &self,
        value: &'a Value,
        name: &str,
        template: &mut Template,
        notes: &mut Vec<Note>,
    ) -> Result<(), Refused> {
        let path = [Step::Key("spec"), Step::Key("template"), Step::Key("metadata")];
        for (field, value) in self.map(value, &path)?.into_iter().flatten() {
            let path = [path[0], path[1], path[2], Step::Key(field)];
            match field.as_str() {
                "labels" => template.labels = self.texts(self.map(value, &path)?, &path)?,
                "annotations" => {
                    let all = self.texts(self.map(value, &path)?, &path)?;
                    let (marks, annotations) =
                        all.into_iter().partition(|(key, _)| ANNOTATIONS.contains(&key.as_str()));
                    (template.marks, template.annotations) = (marks, annotations);
                }
                "name"
                    if value.as_str().is_some_and(|other| !other.is_empty() && other != name) =>
                {
                    notes.push(self.note(
                        "the name in spec.template.metadata is dropped: Bitnami's controller gave the Secret the SealedSecret's own",
                    ));
                }
                field if IGNORED_METADATA.contains(&field) => {}
                _ if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
                _ => return Err(self.no_equivalent(&path, None)),
            }
        }
        Ok(())
    }

    fn texts(
        &self,
        map: Option<&'a Map<String, Value>>,
        path: &[Step<'_>],
    ) -> Result<BTreeMap<String, String>, Refused> {
        let text = |(key, value): (&String, &Value)| match value {
            Value::String(text) => Ok((key.clone(), text.clone())),
            _ => {
                let path = [path, &[Step::Key(key)]].concat();
                Err(self.refuse(
                    &path,
                    format!("{} is not text; quote it", manifest::path_text(&path)),
                    None,
                ))
            }
        };
        map.into_iter().flatten().map(text).collect()
    }

    fn template_data(
        &self,
        map: Option<&'a Map<String, Value>>,
        spec: &'a Map<String, Value>,
    ) -> Result<BTreeMap<String, String>, Refused> {
        let sealed = spec.get("encryptedData").and_then(Value::as_object);
        let is_sealed = |key: &str| sealed.is_some_and(|sealed| sealed.contains_key(key));
        let mut data = BTreeMap::new();
        for (key, value) in map.into_iter().flatten() {
            let path =
                [Step::Key("spec"), Step::Key("template"), Step::Key("data"), Step::Key(key)];
            let refuse = |what: String| Err(self.refuse(&path, what, Some(BY_HAND)));
            let text = match value {
                Value::String(text) => text,
                Value::Null => {
                    return refuse(format!(
                        "{key} is kept out of the Secret by null, which has no equivalent"
                    ));
                }
                _ => return refuse(format!("the template of {key} is not text")),
            };
            if is_sealed(key) {
                return refuse(format!(
                    "the template of {key} takes the place of a sealed value, which has no equivalent"
                ));
            }
            match template::translate(text, is_sealed) {
                Ok(text) => data.insert(key.clone(), text),
                Err(error) => return refuse(format!("the template of {key}, {error}")),
            };
        }
        Ok(data)
    }

    /// What becomes of the annotations by which Bitnami's controller is told how to keep the Secret.
    fn policy(&self, template: &mut Template, notes: &mut Vec<Note>) -> Result<(), Refused> {
        let note = |what: &str| self.note(what);
        if template.has(PATCH) {
            let is_plain = template.type_.as_deref().is_none_or(|type_| type_ == "Opaque");
            if !is_plain
                || template.immutable == Some(true)
                || !template.labels.is_empty()
                || !template.annotations.is_empty()
            {
                let path = [Step::Key("spec"), Step::Key("template")];
                let what = "a type, immutable, labels or annotations beside the annotation patch have no equivalent: policy Merge adds data and nothing else";
                return Err(self.refuse(&path, what, Some(BY_HAND)));
            }
            (template.policy, template.type_, template.immutable) = (Policy::Merge, None, None);
            notes.push(note("patch is now policy Merge: the Secret consents by the label bulla.dev/target: merge"));
            if template.has(MANAGED) {
                notes.push(note("managed beside patch has no equivalent: what is merged stays when the SealedSecret goes"));
            }
        } else if template.has(SKIP_OWNER) {
            template.policy = Policy::Orphan;
            notes.push(note("skip-set-owner-references is now policy Orphan"));
        }
        if template.has(MANAGED) && template.policy != Policy::Merge {
            notes.push(note("managed is now the Secret's own consent: one that is there already has to have the label bulla.dev/target: adopt"));
        }
        Ok(())
    }

    /// What changes in the file.
    fn patches(
        &self,
        spec: &Map<String, Value>,
        metadata: &ObjectMeta,
        template: &Template,
        sealed: &SealedSecret,
    ) -> Vec<Patch> {
        let object = self.object;
        let remove = |path: &[&str]| Patch::remove(object, path);
        let mut patches = vec![Patch::set(object, &["apiVersion"], bulla_crds::API_VERSION.into())];
        let annotations = metadata.annotations.iter().flatten();
        let (theirs, others): (Vec<_>, Vec<_>) =
            annotations.map(|(key, _)| key.as_str()).partition(|key| ANNOTATIONS.contains(key));
        match others.is_empty() {
            true if !theirs.is_empty() => patches.push(remove(&["metadata", "annotations"])),
            _ => patches.extend(theirs.iter().map(|key| remove(&["metadata", "annotations", key]))),
        }
        for (key, value) in &sealed.spec.sealed_data {
            patches.push(Patch::set(
                object,
                &["spec", "encryptedData", key],
                value.as_str().into(),
            ));
        }
        patches.push(Patch::rename(object, &["spec", "encryptedData"], "sealedData"));
        patches.push(remove(&["spec", "data"]));
        if let Some(fields) = spec.get("template") {
            patches.extend(self.template_patches(fields, template));
        }
        if template.policy != Policy::Owner {
            let policy = template.policy.as_str().into();
            patches.push(Patch::set(object, &["spec", "target", "policy"], policy));
        }
        patches.push(remove(&["status"]));
        patches
    }

    fn template_patches(&self, fields: &Value, template: &Template) -> Vec<Patch> {
        const TEMPLATE: [&str; 2] = ["spec", "template"];
        let remove = |path: &[&str]| Patch::remove(self.object, &[&TEMPLATE[..], path].concat());
        let is_kept = |key: &&str| !rules::is_tracking(key);
        let kept = |marks: &BTreeMap<String, String>| {
            marks.keys().map(String::as_str).filter(is_kept).count()
        };
        let (labels, annotations) = (kept(&template.labels), kept(&template.annotations));
        let Template { type_, immutable, data, .. } = template;
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
            for (name, value) in
                value.as_object().into_iter().flatten().filter(|_| field == "metadata")
            {
                let count = match name.as_str() {
                    "labels" => labels,
                    "annotations" => annotations,
                    _ => 0,
                };
                if count == 0 {
                    patches.push(remove(&[field, name]));
                    continue;
                }
                let marks = value.as_object().into_iter().flat_map(Map::keys);
                let gone = marks
                    .filter(|key| rules::is_tracking(key) || ANNOTATIONS.contains(&key.as_str()));
                patches.extend(gone.map(|key| remove(&[field, name, key])));
            }
        }
        let old = fields.get("data");
        for (key, text) in data {
            if old.and_then(|old| old.get(key)?.as_str()) != Some(text) {
                let path = [&TEMPLATE[..], &["data", key]].concat();
                patches.push(Patch::set(self.object, &path, text.as_str().into()));
            }
        }
        patches
    }
}

const BY_HAND: &str =
    "write it by hand in the language of docs/templates.md, or seal the finished text";
