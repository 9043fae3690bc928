//! Turns Bitnami's SealedSecrets into Bulla's, in place.
//!
//! Nothing may get lost: a field without an equivalent is refused, and a field that meant nothing to Bitnami, or
//! means something else to Bulla, is reported.

mod fields;
mod keys;
mod object;
mod opened;
mod patches;
mod scope;
mod template;
mod value;

use bulla_crds::SealError;
use bulla_crds::rules::{self, Violation};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::conversion::{Conversion, MigratedObject};
use crate::manifest::{self, Object, Step};
use crate::report::diagnostic::{self, Diagnostic};
use crate::values::plain_secret;
use crate::who::destination::Destination;

pub(super) use keys::read as read_keys;
pub(super) use value::BitnamiKeys;

use fields::BitnamiTemplate;
use object::BitnamiObject;
use opened::OpenedValues;
use scope::LabelledScopes;

/// The `apiVersion` in every manifest of Bitnami's SealedSecrets.
pub(super) const MARK: &str = "bitnami.com/v1alpha1";

/// How to get the keys that open them.
pub(super) const KEY_HINT: &str = "pass the private keys of Bitnami's controller with --from-key: kubectl get secret -n kube-system -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml";

/// Whether the object is one of Bitnami's SealedSecrets, in any version.
pub(super) fn is_bitnamis(object: &Object<'_>) -> bool {
    let text = |field| object.value.get(field).and_then(Value::as_str).unwrap_or_default();
    text("apiVersion").starts_with("bitnami.com/") && text("kind") == "SealedSecret"
}

/// Opens the values of an object and seals them again, for the same scope.
pub(super) fn convert(
    manifest: &Object<'_>,
    keys: &BitnamiKeys,
    destination: &Destination,
) -> Result<Conversion, Vec<Diagnostic>> {
    let object = BitnamiObject { object: manifest };
    let one = |refused| vec![refused];
    let spec = spec_of(&object).map_err(one)?;
    let metadata =
        manifest::metadata_of(manifest).map_err(|error| one(object.failed(error.into())))?;
    let name =
        manifest::name_of(manifest, &metadata).map_err(|failure| one(object.failed(failure)))?;
    let namespace = manifest::namespace_of(manifest, &metadata, destination.namespace.as_ref())
        .map_err(|failure| one(object.failed(failure)))?;
    let mut notes = Vec::new();
    let template = BitnamiTemplate::read(&object, spec, name, &mut notes).map_err(one)?;
    let annotations = metadata.annotations.as_ref();
    let scopes = LabelledScopes::of(annotations, &template.marks, namespace, name);
    let opened = OpenedValues::open(&object, spec, &scopes, keys)?;
    let scope = opened.scope(&object, &scopes, &mut notes).map_err(one)?;
    let secret = opened.values.with(|secret| describe(secret, &metadata, &template));
    // A value that a template renders is checked later, with the whole SealedSecret.
    let is_sealed = |key: &&str| secret.data.iter().flatten().any(|(other, _)| other == key);
    if let Some(key) = rules::unfit_value(&secret).filter(is_sealed) {
        let path = [Step::Key("spec"), Step::Key("encryptedData"), Step::Key(key)];
        let what = format!("not valid for type {}", secret.type_.as_deref().unwrap_or_default());
        return Err(one(object.refuse(&path, what)));
    }
    // A template may also render keys that the type needs, so these are checked later too.
    let type_ = template.type_.clone().filter(|_| template.data.is_empty());
    let secret = secret.with(|secret| secret.type_ = type_);
    let sealed = bulla_crds::seal(&secret, namespace, scope, &destination.recipients)
        .map_err(|error| one(not_sealed(&object, &error)))?;
    notes.extend(plain_secret::dropped_marks(&secret).iter().map(|message| object.note(message)));
    Ok(Conversion {
        position: manifest.place(),
        patches: patches::patches(manifest, spec, &metadata, &template, &sealed),
        expected: None,
        migrated: MigratedObject {
            place: object.place(&[], None),
            from: "bitnami",
            scope,
            keys: sealed.spec.sealed_data.into_keys().collect(),
        },
        notes,
    })
}

/// Sets everything in the Secret except its values.
fn describe(secret: &mut Secret, metadata: &ObjectMeta, template: &BitnamiTemplate) {
    secret.metadata = ObjectMeta {
        name: metadata.name.clone(),
        labels: Some(template.labels.clone()),
        annotations: Some(template.annotations.clone()),
        ..ObjectMeta::default()
    };
    secret.type_ = template.type_.clone();
    secret.immutable = template.immutable;
}

/// The spec, if all of its fields are supported.
fn spec_of<'a>(object: &BitnamiObject<'a>) -> Result<&'a Map<String, Value>, Diagnostic> {
    let manifest = object.object;
    if manifest.value.get("apiVersion").and_then(Value::as_str) != Some(MARK) {
        let what = format!("only {MARK} is supported");
        return Err(object.refuse(&[Step::Key("apiVersion")], what));
    }
    let path = [Step::Key("spec")];
    let spec = object.map(manifest.value.get("spec").unwrap_or(&Value::Null), &path)?;
    let spec = spec.ok_or_else(|| object.refuse(&[], "the spec is missing"))?;
    for (field, value) in spec {
        let path = [path[0], Step::Key(field)];
        match field.as_str() {
            "encryptedData" | "template" => {}
            _ if value.is_null() => {}
            "data" => {
                let hint = "it holds the whole Secret in one deprecated ciphertext: take the Secret from the cluster and seal it with bulla seal";
                return Err(object.refuse(&path, "spec.data cannot be migrated").hint(hint));
            }
            _ => return Err(object.no_equivalent(&path)),
        }
    }
    Ok(spec)
}

/// Why the values could not be sealed, with the place of the value that caused it.
fn not_sealed(object: &BitnamiObject<'_>, error: &SealError) -> Diagnostic {
    let key = match error {
        SealError::Address { key, .. }
        | SealError::InTheClear { key, .. }
        | SealError::Violation(Violation::DataKey(key)) => Some(key.as_str()),
        SealError::Unfit { key, .. } => Some(*key),
        _ => None,
    };
    let path = key.map(|key| [Step::Key("spec"), Step::Key("encryptedData"), Step::Key(key)]);
    let hint = match error {
        SealError::InTheClear { .. } => Some(
            "labels and annotations are not sealed: remove the value from them, and change the value",
        ),
        error => diagnostic::hint_for_sealing(error),
    };
    let path = path.as_ref().map_or(&[][..], |path| &path[..]);
    object.place(path, None).diagnose(error, hint.map(str::to_owned))
}
