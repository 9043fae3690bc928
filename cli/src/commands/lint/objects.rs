//! The check of single objects, with no key.

use std::collections::HashSet;
use std::path::Path;

use bulla_crds::rules::{self, Violation};
use bulla_crds::{Address, ParsedValues, SealedSecret, ValueError, json_length};
use bulla_sealing::{Binding, ParseError, ValueAddress};
use serde_json::Value;

use crate::commands::lint::context::{FileEnvironment, LintContext};
use crate::commands::lint::file_report::{FileReport, SeenObject};
use crate::commands::lint::finding::{Finding, MAX_FINDINGS};
use crate::commands::lint::kustomization;
use crate::commands::lint::recipients::{self, ReadValue};
use crate::commands::lint::rule::Rule;
use crate::commands::lint::secrets::{self, Hidden, SecretContent};
use crate::manifest::{self, FlawKind, Object, ObjectKind, Step};
use crate::report::diagnostic;

/// Client-side `kubectl apply` keeps a copy in an annotation of at most 256 KiB.
const LARGE_MANIFEST_BYTES: usize = 240_000;

/// Checks an object of a file, and adds the findings to its report.
pub(super) fn check(
    object: &Object<'_>,
    context: &LintContext<'_>,
    home: FileEnvironment<'_>,
    report: &mut FileReport,
) {
    let findings_before = report.findings.len();
    ObjectChecker { object, context, home, report }.check();
    report.findings[findings_before..].sort_by_key(|finding| finding.place.line);
}

/// What the check of an object needs.
struct ObjectChecker<'a> {
    object: &'a Object<'a>,
    context: &'a LintContext<'a>,
    home: FileEnvironment<'a>,
    report: &'a mut FileReport,
}

impl<'a> ObjectChecker<'a> {
    fn check(&mut self) {
        match ObjectKind::of(self.object) {
            ObjectKind::SealedSecret => self.sealed_secret(),
            ObjectKind::Secret => self.secret(),
            ObjectKind::OtherOfOurs if manifest::is_unknown_version(self.object) => {
                let message = diagnostic::unknown_version(self.object).message;
                self.find(Rule::UnknownVersion, &[Step::Key("apiVersion")], message);
            }
            ObjectKind::OtherOfOurs | ObjectKind::Other => self.report.other_objects += 1,
        }
    }

    fn find(&mut self, rule: Rule, path: &[Step<'_>], message: impl Into<String>) {
        self.report.findings.push(Finding::in_object(self.object, rule, path, None, message));
    }

    /// The namespace that bulla.yaml gives to manifests that name none.
    fn given_namespace(&self) -> Option<&'a str> {
        self.home.environment.and_then(|environment| environment.namespace.as_deref())
    }

    /// A Secret without values holds nothing secret.
    fn secret(&mut self) {
        match told(secrets::held(self.object.value)) {
            Some((rule, field, message)) => {
                self.find(rule, &[Step::Key(field)], message);
                if rule == Rule::PlaintextSecret {
                    self.see("Secret", None);
                }
            }
            None => self.report.other_objects += 1,
        }
    }

    /// Keeps the object, to find duplicates.
    fn see(&mut self, kind: &'static str, bound_namespace: Option<String>) {
        let Some(name) = self.object.metadata_field("name") else { return };
        let namespace = self.object.metadata_field("namespace").or(self.given_namespace());
        let namespace = namespace.map(str::to_owned);
        self.report.seen.push(SeenObject {
            kind,
            namespace: namespace.or(bound_namespace),
            name: name.to_owned(),
            title: self.object.title(),
            place: self.object.position(&[]).into(),
        });
    }

    fn sealed_secret(&mut self) {
        let object = self.object;
        self.report.sealed_secrets += 1;
        self.size();
        let flaws = manifest::flaws(object);
        for flaw in flaws.iter().take(MAX_FINDINGS) {
            let rule = match flaw.kind {
                FlawKind::UnknownField => Rule::UnknownField,
                FlawKind::Schema => Rule::Schema,
            };
            self.find(rule, &flaw.steps(), flaw.to_string());
        }
        let parsed: ParsedValues = manifest::sealed_data(object).collect();
        self.names(&parsed);
        // Schema errors are reported already.
        if flaws.iter().all(|flaw| flaw.kind == FlawKind::UnknownField)
            && let Ok(sealed_secret) = manifest::deserialize_sealed_secret(object)
        {
            self.rules(&sealed_secret, &parsed);
        }
        let (values, bound_namespace) = self.values(&parsed);
        let LintContext { keys, base, .. } = *self.context;
        let findings = &mut self.report.findings;
        findings.extend(recipients::check(object, &values, self.home, keys));
        findings.extend(base.iter().flat_map(|base| base.value_changes(object, &parsed)));
        self.see("SealedSecret", bound_namespace);
    }

    fn names(&mut self, parsed: &ParsedValues) {
        let bindings =
            || parsed.iter().filter_map(|(_, value)| Some(value.as_ref().ok()?.binding()));
        let is_name_bound = bindings().any(|binding| binding.name().is_some());
        let is_namespace_bound = bindings().any(|binding| binding.namespace().is_some());
        // A chart may fill in what no value is bound to.
        let is_open = |is_bound: bool, text: &str| !is_bound && text.contains("{{");
        let path = |field| [Step::Key("metadata"), Step::Key(field)];
        let field = |field| self.object.metadata_field(field);
        let wrong = match (field("name"), field("generateName")) {
            (Some(name), _)
                if bulla_sealing::is_dns_subdomain(name) || is_open(is_name_bound, name) =>
            {
                None
            }
            (Some(_), _) => Some(("name", "not a valid object name")),
            (None, Some(_)) => Some((
                "generateName",
                "generateName makes a random name, but a sealed value is for one name",
            )),
            (None, None) => Some(("name", "the name is missing")),
        };
        if let Some((field, message)) = wrong {
            self.find(Rule::InvalidName, &path(field), message);
        }
        let namespace = self.object.metadata_field("namespace");
        let is_wrong =
            |name: &str| !bulla_sealing::is_dns_label(name) && !is_open(is_namespace_bound, name);
        if namespace.is_some_and(is_wrong) {
            self.find(Rule::InvalidNamespace, &path("namespace"), "not a valid namespace name");
        }
    }

    /// Measures the JSON that kubectl sends and keeps.
    fn size(&mut self) {
        let length = json_length(self.object.value);
        if let Some(violation) = rules::length_violation(length) {
            self.find(Rule::TooLarge, &[], violation.to_string());
        } else if length > LARGE_MANIFEST_BYTES {
            let message =
                "more than 240 kB, too much for kubectl apply without --server-side; split it";
            self.find(Rule::LargeManifest, &[], message);
        }
    }

    fn rules(&mut self, sealed_secret: &SealedSecret, parsed: &ParsedValues) {
        for violation in rules::violations(sealed_secret, parsed).into_iter().take(MAX_FINDINGS) {
            let (rule, path, key) = about(&violation, sealed_secret);
            let message = violation.to_string();
            let finding = Finding::in_object(self.object, rule, &path, key, message);
            self.report.findings.push(finding);
        }
        let template = sealed_secret.spec.template.as_ref();
        let metadata = template.and_then(|template| template.metadata.as_ref());
        for (kind, marks) in metadata.iter().flat_map(|metadata| {
            [("labels", &metadata.labels), ("annotations", &metadata.annotations)]
        }) {
            for key in marks.keys().filter(|key| rules::is_tracking(key)) {
                let path = in_template(&["metadata", kind, key]);
                self.find(Rule::DroppedLabel, &path, rules::not_taken_over(key));
            }
        }
    }

    /// The readable values, and the namespace that they are sealed for.
    fn values<'o>(&mut self, parsed: &'o ParsedValues) -> (Vec<ReadValue<'o>>, Option<String>) {
        let object = self.object;
        let name = object.metadata_field("name");
        let namespace = object.metadata_field("namespace").or(self.given_namespace());
        let mut bound_namespace: Option<String> = None;
        let mut read = Vec::new();
        for (key, value) in parsed.iter() {
            if self.report.is_full() {
                break;
            }
            self.report.values += 1;
            let mut find = |rule, message: String| {
                self.report.findings.push(Finding::of_value(object, rule, key, message));
            };
            let value = match value {
                Ok(value) => value,
                Err(error) => {
                    let is_malformed =
                        matches!(error, ValueError::Parse(ParseError::Malformed { .. }));
                    let rule = if is_malformed { Rule::MalformedValue } else { Rule::NotSealed };
                    find(rule, error.to_string());
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
            self.find(Rule::NamespaceNotChecked, &[Step::Key("metadata")], message);
        }
        (read, bound_namespace)
    }
}

/// The rule that a violation breaks, the field that it is about, and the data key, if it is about one.
fn about<'a>(
    violation: &'a Violation,
    sealed_secret: &SealedSecret,
) -> (Rule, Vec<Step<'a>>, Option<&'a str>) {
    let of_key = |rule, key: &'a str| (rule, in_template(&["data", key]), Some(key));
    let of = |rule, path: &[&'a str]| (rule, in_template(path), None);
    let of_values = |rule| (rule, manifest::sealed_data_steps().to_vec(), None);
    match violation {
        Violation::DataKey(key) if sealed_secret.spec.sealed_data.contains_key(key) => {
            (Rule::InvalidKey, manifest::sealed_value_steps(key).to_vec(), Some(key))
        }
        Violation::DataKey(key) => of_key(Rule::InvalidKey, key),
        Violation::KeyTwice(key) => of_key(Rule::DuplicateKey, key),
        Violation::TemplateTooLong(key)
        | Violation::TemplateNotJson(key)
        | Violation::Template { key, .. } => of_key(Rule::BadTemplate, key),
        Violation::RenderedTooLarge => of(Rule::TooLarge, &["data"]),
        Violation::TooManyPlaceholders | Violation::TooManyTemplates => {
            of(Rule::BadTemplate, &["data"])
        }
        Violation::MergeTemplate(field) => of(Rule::MergeTemplate, &[field]),
        Violation::LabelKey(key) | Violation::LabelValue(key) => {
            of(Rule::InvalidLabel, &["metadata", "labels", key])
        }
        Violation::AnnotationKey(key) => of(Rule::InvalidLabel, &["metadata", "annotations", key]),
        Violation::TypeRefused(_) => of(Rule::RefusedType, &["type"]),
        Violation::KeyMissing { .. } => of(Rule::MissingKey, &["type"]),
        Violation::Empty | Violation::TooManyValues | Violation::TooManyKeys => {
            of_values(Rule::Schema)
        }
        Violation::TooLarge => of_values(Rule::TooLarge),
        Violation::ObjectTooLarge => (Rule::TooLarge, Vec::new(), None),
    }
}

/// The steps to a field of the template.
fn in_template<'a>(path: &[&'a str]) -> Vec<Step<'a>> {
    ["spec", "template"].iter().chain(path).map(|key| Step::Key(key)).collect()
}

fn mismatch(binding: &Binding, address: &ValueAddress, namespace: Option<&str>) -> String {
    match namespace {
        Some(_) => format!("sealed for {binding}, not for {address}"),
        None => {
            format!("sealed for {binding}, not for key {} of {}", address.key(), address.name())
        }
    }
}

/// The finding about a Secret, and its field.
fn told(held: SecretContent) -> Option<(Rule, &'static str, &'static str)> {
    match held {
        SecretContent::Plaintext(field) => {
            Some((Rule::PlaintextSecret, field, "a plaintext Secret; seal it with bulla seal"))
        }
        SecretContent::Identity(field) => {
            Some((Rule::PrivateIdentity, field, "a plaintext identity of the controller"))
        }
        SecretContent::Sops => {
            Some((Rule::OtherTool, "sops", "sealed with SOPS; bulla migrate moves it"))
        }
        SecretContent::Nothing => None,
    }
}

/// Findings about Secrets that are not written as plain objects: in lists, by merge keys, generators and patches.
pub(super) fn check_hidden(
    documents: &[Object<'_>],
    objects: &[Object<'_>],
    file: Option<&Path>,
    report: &mut FileReport,
) {
    let plain = objects.iter().filter(|object| ObjectKind::of(object) == ObjectKind::Secret);
    let plain: HashSet<*const Value> =
        plain.map(|object| std::ptr::from_ref(object.value)).collect();
    let is_known = |value: &Value| plain.contains(&std::ptr::from_ref(value));
    for document in documents {
        if report.is_full() {
            break;
        }
        for Hidden { mut path, held } in
            secrets::hidden(document.value, &is_known).into_iter().take(MAX_FINDINGS)
        {
            let Some((rule, field, message)) = told(held) else { continue };
            path.push(Step::Key(field));
            report.findings.push(Finding::in_object(document, rule, &path, None, message));
        }
        report.findings.extend(kustomization::findings(document, file));
    }
}
