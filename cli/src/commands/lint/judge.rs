//! The judgement of single objects, with no key.

use bulla_crds::rules::{self, MAX_MANIFEST_BYTES, Violation};
use bulla_crds::{SealedSecret, ValueError, decode_value, json_length};
use bulla_sealing::{Binding, SealedValue, Target};
use serde_json::Value;

use crate::commands::lint::finding::{Finding, Level, Rule};
use crate::manifest::{self, FlawKind, Object, ObjectKind, Step};

/// Client-side `kubectl apply` keeps a copy in an annotation of at most 256 KiB.
const LARGE_MANIFEST_BYTES: usize = 240_000;

/// What was found so far.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) findings: Vec<Finding>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
}

impl Verdict {
    pub(super) fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level() == level).count()
    }

    pub(super) fn judge(&mut self, object: &Object<'_>) {
        match object.kind() {
            ObjectKind::SealedSecret => self.sealed_secret(object),
            ObjectKind::Secret => self.secret(object),
            ObjectKind::OtherOfOurs if object.is_unknown_version() => {
                let path = [Step::Key("apiVersion")];
                let message = format!("only {} is known", bulla_crds::API_VERSION);
                self.find(object, Rule::UnknownVersion, &path, None, message);
            }
            ObjectKind::OtherOfOurs | ObjectKind::Other => self.other_objects += 1,
        }
    }

    fn find(
        &mut self,
        object: &Object<'_>,
        rule: Rule,
        path: &[Step<'_>],
        key: Option<&str>,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            rule,
            position: object.position(path),
            object: object.title(),
            key: key.map(str::to_owned),
            message: message.into(),
        });
    }

    /// A Secret without values says nothing that anybody may not know.
    fn secret(&mut self, object: &Object<'_>) {
        let has_values = |field: &&str| {
            object.value.get(field).and_then(Value::as_object).is_some_and(|map| !map.is_empty())
        };
        match ["data", "stringData"].into_iter().find(has_values) {
            Some(field) => {
                let message = "a Secret in the clear; seal it with bulla seal";
                self.find(object, Rule::PlaintextSecret, &[Step::Key(field)], None, message);
            }
            None => self.other_objects += 1,
        }
    }

    fn sealed_secret(&mut self, object: &Object<'_>) {
        self.sealed_secrets += 1;
        let findings_before = self.findings.len();
        self.names(object);
        self.size(object);
        let flaws = manifest::flaws(object);
        for flaw in &flaws {
            let rule = match flaw.kind {
                FlawKind::UnknownField => Rule::UnknownField,
                FlawKind::Schema => Rule::Schema,
            };
            let path = flaw.steps();
            let message = match path.is_empty() {
                true => flaw.message.clone(),
                false => format!("{}: {}", manifest::path_text(&path), flaw.message),
            };
            self.find(object, rule, &path, None, message);
        }
        // What is not as the schema wants it was told already.
        if flaws.iter().all(|flaw| flaw.kind == FlawKind::UnknownField)
            && let Ok(sealed_secret) = manifest::deserialize_sealed_secret(object)
        {
            self.rules(object, &sealed_secret);
        }
        self.values(object);
        self.findings[findings_before..].sort_by_key(|finding| finding.position.line);
    }

    fn names(&mut self, object: &Object<'_>) {
        let metadata = object.value.get("metadata");
        let text = |field| metadata.and_then(|metadata| metadata.get(field)?.as_str());
        let path = |field| [Step::Key("metadata"), Step::Key(field)];
        match (text("name").filter(|name| !name.is_empty()), text("generateName")) {
            (Some(name), _) if !bulla_sealing::is_dns_subdomain(name) => {
                self.find(
                    object,
                    Rule::InvalidName,
                    &path("name"),
                    None,
                    "not a valid name of an object",
                );
            }
            (Some(_), _) => {}
            (None, Some(_)) => {
                let message = "generateName gives a name that no value can be sealed for";
                self.find(object, Rule::InvalidName, &path("generateName"), None, message);
            }
            (None, None) => {
                self.find(object, Rule::InvalidName, &path("name"), None, "there is no name");
            }
        }
        if text("namespace")
            .is_some_and(|name| !name.is_empty() && !bulla_sealing::is_dns_label(name))
        {
            let message = "not a valid name of a namespace";
            self.find(object, Rule::InvalidNamespace, &path("namespace"), None, message);
        }
    }

    /// By the JSON that kubectl sends and keeps.
    fn size(&mut self, object: &Object<'_>) {
        let length = json_length(object.value);
        if length > MAX_MANIFEST_BYTES {
            let message = "more than 1.4 MB, which the API server cannot store; split it";
            self.find(object, Rule::TooLarge, &[], None, message);
        } else if length > LARGE_MANIFEST_BYTES {
            let message =
                "more than 240 kB, too much for kubectl apply without --server-side; split it";
            self.find(object, Rule::LargeManifest, &[], None, message);
        }
    }

    fn rules(&mut self, object: &Object<'_>, sealed_secret: &SealedSecret) {
        const TEMPLATE: [Step<'_>; 2] = [Step::Key("spec"), Step::Key("template")];
        for violation in rules::violations(sealed_secret) {
            let [spec, template] = TEMPLATE;
            let mark =
                |kind, key| vec![spec, template, Step::Key("metadata"), Step::Key(kind), key];
            let (path, key) = match &violation {
                Violation::DataKey(key) if sealed_secret.spec.sealed_data.contains_key(key) => {
                    (vec![spec, Step::Key("sealedData"), Step::Key(key)], Some(key.as_str()))
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
                    (vec![spec, Step::Key("sealedData")], None)
                }
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
                let message =
                    format!("{key} will not be taken over: tools track their own objects by it");
                self.find(object, Rule::DroppedLabel, &path, None, message);
            }
        }
    }

    fn values(&mut self, object: &Object<'_>) {
        let metadata = object.value.get("metadata");
        let text = |field| {
            metadata
                .and_then(|metadata| metadata.get(field)?.as_str())
                .filter(|text| !text.is_empty())
        };
        let (namespace, name) = (text("namespace"), text("name"));
        let mut bound_namespace: Option<String> = None;
        for (key, value) in manifest::sealed_data(object) {
            self.values += 1;
            let path = [Step::Key("spec"), Step::Key("sealedData"), Step::Key(key)];
            let mut find = |rule, message| self.find(object, rule, &path, Some(key), message);
            let binding = match binding_of(value) {
                Ok(binding) => binding,
                Err(error @ ValueError::Parse(bulla_sealing::ParseError::Malformed { .. })) => {
                    find(Rule::MalformedValue, error.to_string());
                    continue;
                }
                Err(error) => {
                    find(Rule::NotSealed, error.to_string());
                    continue;
                }
            };
            // Without a namespace in the manifest the value's own is taken, and compared with its siblings'.
            let place = namespace.or(binding.namespace()).unwrap_or("any");
            // Names that are not valid were told already.
            let Some(Ok(target)) = name.map(|name| Target::new(place, name, key)) else { continue };
            if !binding.permits(&target) {
                find(Rule::WrongBinding, mismatch(&binding, &target, namespace));
            }
            let (None, Some(bound)) = (namespace, binding.namespace()) else { continue };
            match bound_namespace.as_deref() {
                Some(first) if first != bound => {
                    let message =
                        format!("sealed for namespace {bound}, and values before it for {first}");
                    find(Rule::MixedNamespaces, message);
                }
                Some(_) => {}
                None => bound_namespace = Some(bound.to_owned()),
            }
        }
        if let Some(bound) = bound_namespace {
            let message = format!(
                "namespace not checked: the manifest names none, the values are for {bound}"
            );
            self.find(object, Rule::NamespaceNotChecked, &[Step::Key("metadata")], None, message);
        }
    }
}

fn binding_of(value: &str) -> Result<Binding, ValueError> {
    let file = decode_value(value)?;
    Ok(SealedValue::parse(&file)?.binding().clone())
}

fn mismatch(binding: &Binding, target: &Target, namespace: Option<&str>) -> String {
    match namespace {
        Some(_) => format!("sealed for {binding}, not for {target}"),
        None => format!("sealed for {binding}, not for key {} of {}", target.key(), target.name()),
    }
}
