//! The check of single objects, with no key.

use bulla_crds::rules::{self, Violation};
use bulla_crds::{
    AGE_PREFIX, Address, BACKUP_SECRET_TYPE, IDENTITY_SECRET_TYPE, ParsedValues, SealedSecret,
    ValueError, json_length,
};
use bulla_sealing::{Binding, ParseError, ValueAddress};
use serde_json::Value;

use crate::commands::lint::context::{FileEnvironment, LintContext};
use crate::commands::lint::finding::{Finding, FindingPlace};
use crate::commands::lint::recipients::{self, ReadValue};
use crate::commands::lint::rule::Rule;
use crate::manifest::{self, FlawKind, Object, ObjectKind, Step};

/// Client-side `kubectl apply` keeps a copy in an annotation of at most 256 KiB.
const LARGE_MANIFEST_BYTES: usize = 240_000;

/// An object, kept to find duplicates.
pub(super) struct SeenObject {
    pub(super) kind: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// `namespace/name` as the manifest has it.
    pub(super) title: String,
    /// Where its document begins.
    pub(super) place: FindingPlace,
}

/// Checks the objects of one file, and keeps what it finds.
pub(super) struct ObjectChecker<'a> {
    context: &'a LintContext<'a>,
    home: FileEnvironment<'a>,
    pub(super) findings: Vec<Finding>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
    pub(super) seen: Vec<SeenObject>,
}

impl<'a> ObjectChecker<'a> {
    pub(super) fn new(context: &'a LintContext<'a>, home: FileEnvironment<'a>) -> Self {
        Self {
            context,
            home,
            findings: Vec::new(),
            sealed_secrets: 0,
            values: 0,
            other_objects: 0,
            seen: Vec::new(),
        }
    }

    pub(super) fn check(&mut self, object: &Object<'_>) {
        let findings_before = self.findings.len();
        match ObjectKind::of(object) {
            ObjectKind::SealedSecret => self.sealed_secret(object),
            ObjectKind::Secret => self.secret(object),
            ObjectKind::OtherOfOurs if manifest::is_unknown_version(object) => {
                let path = [Step::Key("apiVersion")];
                let message =
                    format!("unknown version; this bulla supports {}", bulla_crds::API_VERSION);
                self.find(object, Rule::UnknownVersion, &path, None, message);
            }
            ObjectKind::Other if has_literals(object.value) => {
                let message = "a generator of Secrets with plaintext values";
                let path = [Step::Key("secretGenerator")];
                self.find(object, Rule::SecretGenerator, &path, None, message);
            }
            ObjectKind::OtherOfOurs | ObjectKind::Other => self.other_objects += 1,
        }
        self.findings[findings_before..].sort_by_key(|finding| finding.place.line);
    }

    fn find(
        &mut self,
        object: &Object<'_>,
        rule: Rule,
        path: &[Step<'_>],
        key: Option<&str>,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding::in_object(object, rule, path, key, message));
    }

    /// A Secret without values holds nothing secret.
    fn secret(&mut self, object: &Object<'_>) {
        let is_value = |value: &Value| !matches!(value.as_str(), Some("")) && !value.is_null();
        let values = |field: &str| object.value.get(field).and_then(Value::as_object);
        let has_values = |field: &&str| values(field).is_some_and(|map| map.values().any(is_value));
        let type_ = object.value.get("type").and_then(Value::as_str);
        match (["data", "stringData"].into_iter().find(has_values), type_) {
            (Some(field), Some(IDENTITY_SECRET_TYPE)) => {
                let message = "a plaintext identity of the controller";
                self.find(object, Rule::PrivateIdentity, &[Step::Key(field)], None, message);
            }
            (Some("data"), Some(BACKUP_SECRET_TYPE))
                if values("data").is_some_and(|map| map.values().all(is_age_file)) =>
            {
                self.other_objects += 1;
            }
            (Some(field), _) => {
                let message = "a plaintext Secret; seal it with bulla seal";
                self.find(object, Rule::PlaintextSecret, &[Step::Key(field)], None, message);
                self.see(object, "Secret", None);
            }
            (None, _) => self.other_objects += 1,
        }
    }

    /// Keeps the object, to find duplicates.
    fn see(&mut self, object: &Object<'_>, kind: &'static str, bound_namespace: Option<String>) {
        let Some(name) = object.metadata_field("name") else { return };
        let namespace = object.metadata_field("namespace").map(str::to_owned);
        let given = self.home.environment.and_then(|environment| environment.namespace.as_deref());
        let given = given.map(str::to_owned);
        self.seen.push(SeenObject {
            kind,
            namespace: namespace.or(given).or(bound_namespace),
            name: name.to_owned(),
            title: object.title(),
            place: object.position(&[]).into(),
        });
    }

    fn sealed_secret(&mut self, object: &Object<'_>) {
        self.sealed_secrets += 1;
        self.names(object);
        self.size(object);
        let flaws = manifest::flaws(object);
        for flaw in &flaws {
            let rule = match flaw.kind {
                FlawKind::UnknownField => Rule::UnknownField,
                FlawKind::Schema => Rule::Schema,
            };
            self.find(object, rule, &flaw.steps(), None, flaw.to_string());
        }
        let parsed: ParsedValues = manifest::sealed_data(object).collect();
        // Schema errors are reported already.
        if flaws.iter().all(|flaw| flaw.kind == FlawKind::UnknownField)
            && let Ok(sealed_secret) = manifest::deserialize_sealed_secret(object)
        {
            self.rules(object, &sealed_secret, &parsed);
        }
        let (values, bound_namespace) = self.values(object, &parsed);
        self.findings.extend(recipients::check(object, &values, self.home, self.context.keys));
        if let Some(base) = self.context.base {
            self.findings.extend(base.value_changes(object, &parsed));
        }
        self.see(object, "SealedSecret", bound_namespace);
    }

    fn names(&mut self, object: &Object<'_>) {
        let path = |field| [Step::Key("metadata"), Step::Key(field)];
        match (object.metadata_field("name"), object.metadata_field("generateName")) {
            (Some(name), _) if !bulla_sealing::is_dns_subdomain(name) => {
                self.find(
                    object,
                    Rule::InvalidName,
                    &path("name"),
                    None,
                    "not a valid object name",
                );
            }
            (Some(_), _) => {}
            (None, Some(_)) => {
                let message =
                    "generateName makes a random name, but a sealed value is for one name";
                self.find(object, Rule::InvalidName, &path("generateName"), None, message);
            }
            (None, None) => {
                self.find(object, Rule::InvalidName, &path("name"), None, "the name is missing");
            }
        }
        if object.metadata_field("namespace").is_some_and(|name| !bulla_sealing::is_dns_label(name))
        {
            let message = "not a valid namespace name";
            self.find(object, Rule::InvalidNamespace, &path("namespace"), None, message);
        }
    }

    /// Measures the JSON that kubectl sends and keeps.
    fn size(&mut self, object: &Object<'_>) {
        let length = json_length(object.value);
        if let Some(violation) = rules::length_violation(length) {
            self.find(object, Rule::from(&violation), &[], None, violation.to_string());
        } else if length > LARGE_MANIFEST_BYTES {
            let message =
                "more than 240 kB, too much for kubectl apply without --server-side; split it";
            self.find(object, Rule::LargeManifest, &[], None, message);
        }
    }

    fn rules(&mut self, object: &Object<'_>, sealed_secret: &SealedSecret, parsed: &ParsedValues) {
        const TEMPLATE: [Step<'_>; 2] = [Step::Key("spec"), Step::Key("template")];
        for violation in rules::violations(sealed_secret, parsed) {
            let [spec, template] = TEMPLATE;
            let mark =
                |kind, key| vec![spec, template, Step::Key("metadata"), Step::Key(kind), key];
            let (path, key) = match &violation {
                Violation::DataKey(key) if sealed_secret.spec.sealed_data.contains_key(key) => {
                    (manifest::sealed_value_steps(key).to_vec(), Some(key.as_str()))
                }
                Violation::DataKey(key)
                | Violation::KeyTwice(key)
                | Violation::TemplateTooLong(key)
                | Violation::TemplateNotJson(key)
                | Violation::Template { key, .. } => {
                    (vec![spec, template, Step::Key("data"), Step::Key(key)], Some(key.as_str()))
                }
                Violation::RenderedTooLarge => (vec![spec, template, Step::Key("data")], None),
                Violation::MergeTemplate(field) => (vec![spec, template, Step::Key(field)], None),
                Violation::LabelKey(key) | Violation::LabelValue(key) => {
                    (mark("labels", Step::Key(key)), None)
                }
                Violation::AnnotationKey(key) => (mark("annotations", Step::Key(key)), None),
                Violation::TypeRefused(_) | Violation::KeyMissing { .. } => {
                    (vec![spec, template, Step::Key("type")], None)
                }
                Violation::Empty | Violation::TooManyValues | Violation::TooLarge => {
                    (manifest::sealed_data_steps().to_vec(), None)
                }
                Violation::ObjectTooLarge => (Vec::new(), None),
            };
            self.find(object, Rule::from(&violation), &path, key, violation.to_string());
        }
        let template = sealed_secret.spec.template.as_ref();
        let metadata = template.and_then(|template| template.metadata.as_ref());
        for (kind, marks) in metadata.iter().flat_map(|metadata| {
            [("labels", &metadata.labels), ("annotations", &metadata.annotations)]
        }) {
            for key in marks.keys().filter(|key| rules::is_tracking(key)) {
                let [spec, template] = TEMPLATE;
                let path = [spec, template, Step::Key("metadata"), Step::Key(kind), Step::Key(key)];
                let message = rules::not_taken_over(key);
                self.find(object, Rule::DroppedLabel, &path, None, message);
            }
        }
    }

    /// The readable values, and the namespace that they are sealed for.
    fn values<'o>(
        &mut self,
        object: &Object<'_>,
        parsed: &'o ParsedValues,
    ) -> (Vec<ReadValue<'o>>, Option<String>) {
        let name = object.metadata_field("name");
        let stated = object.metadata_field("namespace");
        let given = self.home.environment.and_then(|environment| environment.namespace.as_deref());
        let namespace = stated.or(given);
        let mut bound_namespace: Option<String> = None;
        let mut read = Vec::new();
        for (key, value) in parsed.iter() {
            self.values += 1;
            let mut find = |rule, message: String| {
                self.findings.push(Finding::of_value(object, rule, key, message));
            };
            let value = match value {
                Ok(value) => value,
                Err(error @ ValueError::Parse(ParseError::Malformed { .. })) => {
                    find(Rule::MalformedValue, error.to_string());
                    continue;
                }
                Err(error) => {
                    find(Rule::NotSealed, error.to_string());
                    continue;
                }
            };
            let binding = value.binding();
            read.push(ReadValue { key, fingerprints: value.fingerprints().collect() });
            // Without a namespace in the manifest, the value's own is compared with those of the other values.
            let namespace_of_value = namespace.or(binding.namespace());
            // Invalid names are reported already.
            let address = name.map(|name| Address { namespace: namespace_of_value, name });
            let Some(Ok(address)) = address.map(|address| address.value_address(key, binding))
            else {
                continue;
            };
            if !binding.permits(&address) {
                find(Rule::WrongBinding, mismatch(binding, &address, namespace));
            }
            let (None, Some(bound)) = (namespace, binding.namespace()) else { continue };
            match bound_namespace.as_deref() {
                Some(first) if first != bound => {
                    let message = format!(
                        "sealed for namespace {bound}, but earlier values are sealed for {first}"
                    );
                    find(Rule::MixedNamespaces, message);
                }
                Some(_) => {}
                None => bound_namespace = Some(bound.to_owned()),
            }
        }
        if let Some(bound) = &bound_namespace {
            let message = format!(
                "namespace not checked: the manifest has none; the values are sealed for {bound}"
            );
            self.find(object, Rule::NamespaceNotChecked, &[Step::Key("metadata")], None, message);
        }
        (read, bound_namespace)
    }
}

fn mismatch(binding: &Binding, address: &ValueAddress, namespace: Option<&str>) -> String {
    match namespace {
        Some(_) => format!("sealed for {binding}, not for {address}"),
        None => {
            format!("sealed for {binding}, not for key {} of {}", address.key(), address.name())
        }
    }
}

/// Whether a kustomization has values of Secrets in it.
fn has_literals(object: &Value) -> bool {
    let generators = object.get("secretGenerator").and_then(Value::as_array);
    generators.into_iter().flatten().any(|generator| {
        let literals = generator.get("literals").and_then(Value::as_array);
        literals.is_some_and(|literals| !literals.is_empty())
    })
}

/// Whether a value of `data` is the base64 of an age file, binary or armored.
fn is_age_file(value: &Value) -> bool {
    const ARMORED_PREFIX: &str = "LS0tLS1CRUdJTiBBR0UgRU5DUllQVEVEIEZJTEUt";
    value
        .as_str()
        .is_some_and(|text| text.starts_with(AGE_PREFIX) || text.starts_with(ARMORED_PREFIX))
}
