//! Rules that need no key and no cluster, shared by the CLI's `lint`, the controller and the schema.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::de::IgnoredAny;

use crate::limits::{
    MAX_FINGERPRINTS, MAX_OBJECT_BYTES, MAX_PLACEHOLDERS, MAX_SEALED_BYTES, MAX_SECRET_BYTES,
    MAX_TEMPLATE_BYTES, MAX_TEMPLATES, MAX_VALUES,
};
use crate::parsed_value::ParsedValues;
use crate::sealed_secret::{Policy, SealedSecret, SealedSecretSpec, TemplateMetadata};
use crate::secret_type::{JSON_KEYS, REFUSED_TYPES, filled_key, json_key, needed_keys, one_of};
use crate::template::{self, TemplateError, TextTemplate};

/// Whether Argo CD, Flux, Helm, kubectl or Bulla tracks its own objects by a label or annotation with this key. Copied
/// to a target, it would make the tool prune or overwrite an object that is not its own. Other keys of these tools
/// are not tracking: `argocd.argoproj.io/secret-type`, for one, makes a Secret a repository of Argo CD.
///
/// ```
/// assert!(bulla_crds::rules::is_tracking("argocd.argoproj.io/tracking-id"));
/// assert!(!bulla_crds::rules::is_tracking("argocd.argoproj.io/secret-type"));
/// ```
pub fn is_tracking(key: &str) -> bool {
    const TRACKING: [&str; 12] = [
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "argocd.argoproj.io/installation-id",
        "argocd.argoproj.io/instance",
        "argocd.argoproj.io/tracking-id",
        "helm.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/namespace",
        "kustomize.toolkit.fluxcd.io/name",
        "kustomize.toolkit.fluxcd.io/namespace",
        "meta.helm.sh/release-name",
        "meta.helm.sh/release-namespace",
        crate::LAST_APPLIED_ANNOTATION,
    ];
    TRACKING.contains(&key) || key.starts_with("bulla.dev/")
}

/// Whether an annotation with this key tells a GitOps tool how to treat the object that it applies. That is the
/// SealedSecret, so the annotation belongs there and not on the target, which no tool applies.
///
/// ```
/// assert!(bulla_crds::rules::is_steering("argocd.argoproj.io/sync-wave"));
/// assert!(!bulla_crds::rules::is_steering("reloader.stakater.com/match"));
/// ```
pub fn is_steering(key: &str) -> bool {
    const STEERING: [&str; 12] = [
        "argocd.argoproj.io/compare-options",
        "argocd.argoproj.io/hook",
        "argocd.argoproj.io/hook-delete-policy",
        "argocd.argoproj.io/sync-options",
        "argocd.argoproj.io/sync-wave",
        "helm.sh/hook",
        "helm.sh/hook-delete-policy",
        "helm.sh/hook-weight",
        "helm.sh/resource-policy",
        "kustomize.toolkit.fluxcd.io/prune",
        "kustomize.toolkit.fluxcd.io/reconcile",
        "kustomize.toolkit.fluxcd.io/ssa",
    ];
    STEERING.contains(&key)
}

/// Whether `text` may be the key of a label or annotation: a name, optionally after a DNS subdomain and a
/// slash.
pub fn is_mark_key(text: &str) -> bool {
    let name = match text.split_once('/') {
        Some((prefix, _)) if !bulla_sealing::is_dns_subdomain(prefix) => return false,
        Some((_, name)) => name,
        None => text,
    };
    !name.is_empty() && is_label_value(name)
}

/// Whether `text` may be the value of a label: empty, or at most 63 letters, digits, `-`, `_` and `.`, with a
/// letter or digit at both ends.
pub fn is_label_value(text: &str) -> bool {
    let is_edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && is_edge(text.as_bytes().first())
        && is_edge(text.as_bytes().last())
}

/// Labels or annotations without those by which tools track their objects.
pub(crate) fn untracked(marks: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = marks.iter().filter(|(key, _)| !is_tracking(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Why a label or annotation is left out of a SealedSecret. `what` names it.
pub fn not_taken_over(what: impl fmt::Display) -> String {
    format!("{what} is left out: tools use it to track their own objects")
}

/// A rule that a SealedSecret breaks, with the data key if the rule is about one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It has no sealed values.
    #[error("sealedData is empty")]
    Empty,
    /// More than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values in one SealedSecret; split it")]
    TooManyValues,
    /// More than [`MAX_FINGERPRINTS`].
    #[error("the values are sealed to more than {MAX_FINGERPRINTS} keys; split the SealedSecret")]
    TooManyKeys,
    /// More than [`MAX_SEALED_BYTES`].
    #[error("more than 1 MiB of sealed data in one SealedSecret; split it")]
    TooLarge,
    /// More than [`MAX_OBJECT_BYTES`] of JSON.
    #[error("more than 1.4 MB, which the API server cannot store; split it")]
    ObjectTooLarge,
    /// The data key is not valid in a Secret.
    #[error("{0} is not a valid data key of a Secret")]
    DataKey(String),
    /// The API server would refuse this as the key of a label.
    #[error("{0} is not a valid label key")]
    LabelKey(String),
    /// The API server would refuse the value of the label with this key.
    #[error("the value of label {0} is not a valid label value")]
    LabelValue(String),
    /// The API server would refuse this as the key of an annotation.
    #[error("{0} is not a valid annotation key")]
    AnnotationKey(String),
    /// The cluster itself trusts Secrets of this type.
    #[error("Secrets of type {0} are refused: they are credentials that the cluster itself trusts")]
    TypeRefused(String),
    /// A key that the type requires is missing.
    #[error("type {type_} needs {key}")]
    KeyMissing {
        /// The Secret's type.
        type_: String,
        /// The data key that it requires.
        key: &'static str,
    },
    /// A rendered key has the name of a sealed key.
    #[error("{0} is in both sealedData and template.data")]
    KeyTwice(String),
    /// More than [`MAX_TEMPLATES`].
    #[error("more than {MAX_TEMPLATES} keys in template.data; split the SealedSecret")]
    TooManyTemplates,
    /// More than [`MAX_PLACEHOLDERS`].
    #[error("more than {MAX_PLACEHOLDERS} placeholders in template.data; split the SealedSecret")]
    TooManyPlaceholders,
    /// A text of `template.data` is longer than [`MAX_TEMPLATE_BYTES`].
    #[error("the template of {0} is longer than 64 KiB")]
    TemplateTooLong(String),
    /// A text of `template.data` is not a valid template for these sealed values.
    #[error("the template of {key}, {error}")]
    Template {
        /// The data key that would be rendered.
        key: String,
        /// What is wrong, and where.
        error: TemplateError,
    },
    /// The API server requires JSON under this key, and the template does not render JSON for every value.
    #[error("the template of {0} does not render a JSON object for every value")]
    TemplateNotJson(String),
    /// The Secret's data could exceed [`MAX_SECRET_BYTES`] with values of these lengths.
    #[error(
        "with values of these lengths the Secret could exceed 1 MiB; split it, or use fewer values in template.data"
    )]
    RenderedTooLarge,
    /// The policy is Merge, and this field of the template is only for a Secret that the SealedSecret owns.
    #[error("policy Merge only adds keys to a Secret that somebody else owns; remove template.{0}")]
    MergeTemplate(&'static str),
}

/// Checks the schema's rules for `sealed_secret` without an API server. `values` are those of `sealed_secret`;
/// their lengths matter to templates of data.
pub fn violations(sealed_secret: &SealedSecret, values: &ParsedValues) -> Vec<Violation> {
    let spec = &sealed_secret.spec;
    let mut violations = Vec::new();
    if spec.sealed_data.is_empty() {
        violations.push(Violation::Empty);
    }
    let template = spec.template.as_ref();
    let rendered = template.map(|template| &template.data).filter(|data| !data.is_empty());
    if spec.sealed_data.len() + rendered.map_or(0, BTreeMap::len) > MAX_VALUES {
        violations.push(Violation::TooManyValues);
    }
    if spec.sealed_data.values().map(|value| value.len() / 4 * 3).sum::<usize>() > MAX_SEALED_BYTES
    {
        violations.push(Violation::TooLarge);
    }
    let keys = spec.sealed_data.keys().chain(rendered.into_iter().flat_map(BTreeMap::keys));
    let invalid = keys.filter(|key| !bulla_sealing::is_data_key(key));
    violations.extend(invalid.map(|key| Violation::DataKey(key.clone())));
    if let Some(type_) = template.and_then(|template| template.type_.as_deref()) {
        violations.extend(type_violations(type_, |key| {
            spec.sealed_data.contains_key(key)
                || rendered.is_some_and(|data| data.contains_key(key))
        }));
        let lengths = values.iter().filter_map(|(key, value)| Some((key, value.as_ref().ok()?)));
        let mut empty = lengths.filter(|(_, value)| value.plaintext_len() == 0);
        if let Some((key, names)) = filled_key(type_)
            && empty.any(|(empty, _)| empty == key)
        {
            violations.push(Violation::KeyMissing { type_: type_.into(), key: names });
        }
    }
    if let Some(metadata) = template.and_then(|template| template.metadata.as_ref()) {
        violations.extend(mark_violations(metadata));
    }
    if is_merge(spec) {
        violations.extend(merge_violations(spec));
    }
    if values.fingerprints().len() > MAX_FINGERPRINTS {
        violations.push(Violation::TooManyKeys);
    }
    if let Some(data) = rendered {
        violations.extend(template_violations(spec, values, data));
    }
    violations
}

/// Checks an object's length as JSON, in bytes.
pub fn length_violation(json_length: usize) -> Option<Violation> {
    (json_length > MAX_OBJECT_BYTES).then_some(Violation::ObjectTooLarge)
}

pub(crate) fn is_merge(spec: &SealedSecretSpec) -> bool {
    spec.target.as_ref().is_some_and(|target| target.policy == Policy::Merge)
}

fn merge_violations(spec: &SealedSecretSpec) -> impl Iterator<Item = Violation> {
    let declared = spec.template.iter().flat_map(|template| {
        [
            template.type_.as_ref().map(|_| "type"),
            template.immutable.map(|_| "immutable"),
            template.metadata.as_ref().map(|_| "metadata"),
        ]
    });
    declared.flatten().map(Violation::MergeTemplate)
}

/// What is wrong with `template.data`. The result may depend on the lengths of the values, but never on their
/// content.
fn template_violations(
    spec: &SealedSecretSpec,
    values: &ParsedValues,
    data: &BTreeMap<String, String>,
) -> Vec<Violation> {
    if data.len() > MAX_TEMPLATES {
        return vec![Violation::TooManyTemplates];
    }
    // Counted before anything is parsed.
    let placeholders = data.values().map(|text| text.matches(template::OPEN).count());
    if placeholders.sum::<usize>() > MAX_PLACEHOLDERS {
        return vec![Violation::TooManyPlaceholders];
    }
    let mut violations = Vec::new();
    let mut templates = Vec::with_capacity(data.len());
    // Invalid keys are already reported and may hold any text, even plaintext, so they are skipped here.
    for (key, text) in data.iter().filter(|(key, _)| bulla_sealing::is_data_key(key)) {
        if spec.sealed_data.contains_key(key) {
            violations.push(Violation::KeyTwice(key.clone()));
        }
        if text.len() > MAX_TEMPLATE_BYTES {
            violations.push(Violation::TemplateTooLong(key.clone()));
            continue;
        }
        match judge_template(spec, key, text) {
            Ok(template) => templates.push(template),
            Err(violation) => violations.push(violation),
        }
    }
    // Texts that are not sealed values are reported elsewhere.
    let lens: BTreeMap<_, _> = values
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_ref().ok()?.plaintext_len())))
        .collect();
    let rendered = templates
        .iter()
        .map(|template| template.max_len(|key| lens.get(key).copied().unwrap_or_default()));
    let total = lens.values().copied().chain(rendered).fold(0, usize::saturating_add);
    if total > MAX_SECRET_BYTES {
        violations.push(Violation::RenderedTooLarge);
    }
    violations
}

fn judge_template<'a>(
    spec: &SealedSecretSpec,
    key: &str,
    text: &'a str,
) -> Result<TextTemplate<'a>, Violation> {
    let fail = |error| Violation::Template { key: key.to_owned(), error };
    let template = TextTemplate::parse(text).map_err(fail)?;
    match template.unknown_key(|key| spec.sealed_data.contains_key(key)) {
        Some(error) => Err(fail(error)),
        None if is_json_wanted(spec, key)
            && !is_json_object(template.json_probe().map_err(fail)?.as_bytes()) =>
        {
            Err(Violation::TemplateNotJson(key.to_owned()))
        }
        None => Ok(template),
    }
}

/// Whether the API server requires JSON under `key`. With policy Merge the type of the Secret is not known
/// here, so only the name of the key counts.
fn is_json_wanted(spec: &SealedSecretSpec, key: &str) -> bool {
    let type_ = spec.template.as_ref().and_then(|template| template.type_.as_deref());
    JSON_KEYS.iter().any(|(json_type, json_key)| {
        *json_key == key && (is_merge(spec) || type_ == Some(*json_type))
    })
}

fn mark_violations(metadata: &TemplateMetadata) -> impl Iterator<Item = Violation> {
    let labels = metadata.labels.iter().filter_map(|(key, value)| {
        if !is_mark_key(key) {
            return Some(Violation::LabelKey(key.clone()));
        }
        (!is_label_value(value)).then(|| Violation::LabelValue(key.clone()))
    });
    let annotations = metadata.annotations.keys().filter(|key| !is_mark_key(key));
    labels.chain(annotations.map(|key| Violation::AnnotationKey(key.clone())))
}

/// Which rules of a Secret type are broken, given which data keys exist.
///
/// ```
/// use bulla_crds::rules::{Violation, type_violations};
///
/// let violations = type_violations("kubernetes.io/tls", |key| key == "tls.crt");
/// assert_eq!(violations, [Violation::KeyMissing { type_: "kubernetes.io/tls".into(), key: "tls.key" }]);
/// ```
pub fn type_violations(type_: &str, has_key: impl Fn(&str) -> bool) -> Vec<Violation> {
    if REFUSED_TYPES.contains(&type_) {
        return vec![Violation::TypeRefused(type_.into())];
    }
    let missing = needed_keys(type_).iter().filter(|key| !has_key(key)).copied();
    let needs_one = one_of(type_).filter(|(keys, _)| !keys.iter().any(|key| has_key(key)));
    let missing = missing.chain(needs_one.map(|(_, names)| names));
    missing.map(|key| Violation::KeyMissing { type_: type_.into(), key }).collect()
}

/// The data key whose plaintext the API server would refuse for the Secret's type, if any.
///
/// The API server's own message quotes the beginning of the value, so it must never see such a Secret.
pub fn unfit_value(secret: &Secret) -> Option<&'static str> {
    let type_ = secret.type_.as_deref()?;
    let key = judged_key(type_)?;
    let value =
        secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| &value.0);
    (!is_fit(type_, value)).then_some(key)
}

/// The same for some of a Secret's values: a missing value is not checked.
pub(crate) fn unfit_among(
    type_: &str,
    data: &BTreeMap<String, ByteString>,
) -> Option<&'static str> {
    let key = judged_key(type_)?;
    data.get(key).is_some_and(|value| !is_fit(type_, &value.0)).then_some(key)
}

/// The data key whose value the API server judges for this type.
fn judged_key(type_: &str) -> Option<&'static str> {
    json_key(type_).or(filled_key(type_).map(|(key, _)| key))
}

/// Whether the API server accepts this value under the key that it judges.
fn is_fit(type_: &str, value: &[u8]) -> bool {
    if json_key(type_).is_some() { is_json_object(value) } else { !value.is_empty() }
}

/// Parses without keeping anything, so that no copy of a plaintext is left behind.
fn is_json_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use bulla_sealing::{Binding, Identity, KeyType, Recipients, Scope, ValueAddress};
    use serde_json::json;

    use super::*;
    use crate::API_VERSION;
    use crate::parsed_value::encode_value;

    #[test]
    fn a_docker_config_must_be_a_json_object() {
        let secret = |value: &str| Secret {
            type_: Some("kubernetes.io/dockerconfigjson".into()),
            data: Some([(".dockerconfigjson".to_owned(), ByteString(value.into()))].into()),
            ..Secret::default()
        };
        assert_eq!(unfit_value(&secret(r#"{"auths": {}}"#)), None);
        for value in ["", "hunter2", "[]", "1", "null", r#"{"auths""#, r#"{} {}"#] {
            assert_eq!(unfit_value(&secret(value)), Some(".dockerconfigjson"), "{value}");
        }
    }

    #[test]
    fn types_need_what_the_api_server_requires() {
        let missing = |type_: &str, keys: &[&str]| {
            let violations = type_violations(type_, |key| keys.contains(&key));
            violations.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let basic = "kubernetes.io/basic-auth";
        assert_eq!(missing(basic, &["user"]), [format!("type {basic} needs username or password")]);
        for keys in [&["username"][..], &["password"], &["username", "password"]] {
            assert_eq!(missing(basic, keys), [""; 0]);
        }
        let ssh = |value: &str| Secret {
            type_: Some("kubernetes.io/ssh-auth".into()),
            data: Some([("ssh-privatekey".to_owned(), ByteString(value.into()))].into()),
            ..Secret::default()
        };
        assert_eq!((unfit_value(&ssh("x")), unfit_value(&ssh(""))), (None, Some("ssh-privatekey")));
    }

    #[test]
    fn labels_and_annotations_keep_to_the_limits_of_kubernetes() {
        for key in ["team", "app.kubernetes.io/name", "A_b.c-1", &"a".repeat(63)] {
            assert!(is_mark_key(key), "{key}");
        }
        for key in ["", "/", "a/", "/a", "a/b/c", "A/b", "-a", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_mark_key(key), "{key}");
        }
        assert!(is_label_value("") && is_label_value("1.2_3-x") && !is_label_value("x-"));
    }

    #[test]
    fn tracking_marks_of_other_tools_are_known() {
        for key in [
            "argocd.argoproj.io/tracking-id",
            "app.kubernetes.io/instance",
            "kubectl.kubernetes.io/last-applied-configuration",
            "kustomize.toolkit.fluxcd.io/name",
            "bulla.dev/target",
        ] {
            assert!(is_tracking(key), "{key}");
        }
        for key in ["app.kubernetes.io/name", "argocd.argoproj.io/secret-type", "helm.sh/chart"] {
            assert!(!is_tracking(key), "{key}");
        }
    }

    /// What is wrong with the object whose spec has one sealed value, `a`, with 2,000 bytes of plaintext.
    fn judge(spec: &serde_json::Value) -> Vec<String> {
        let age = bulla_sealing::seal(&[b'x'; 2000], &binding(), &recipients()).unwrap();
        let mut object = json!({
            "apiVersion": API_VERSION, "kind": "SealedSecret", "metadata": {"name": "db"}, "spec": spec,
        });
        object["spec"]["sealedData"] = json!({"a": encode_value(&age)});
        let sealed_secret = serde_json::from_value(object).unwrap();
        let values = ParsedValues::of(&sealed_secret);
        violations(&sealed_secret, &values).iter().map(ToString::to_string).collect()
    }

    fn binding() -> Binding {
        Binding::new(Scope::Strict, &ValueAddress::new("prod", "db", "a").unwrap())
    }

    fn recipients() -> Recipients {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        Recipients::new(vec![identity.recipient()]).unwrap()
    }

    #[test]
    fn templates_are_checked_without_a_key() {
        let none: [&str; 0] = [];
        for (data, told) in [
            (json!({"url": "{{ a }}", "more": "x"}), &none[..]),
            (
                json!({"url": "{{ b }}"}),
                &["the template of url, line 1, column 1: there is no sealed value with the key b"],
            ),
            (
                json!({"url": "{{ a | up }}"}),
                &[
                    "the template of url, line 1, column 1: unknown filter; use b64encode, json or urlencode",
                ],
            ),
            (
                json!({"url": "x {{ hunter2!"}),
                &[
                    "the template of url, line 1, column 3: unclosed {{; to write a literal {{, use {{ \"{{\" }}",
                ],
            ),
            (
                json!({"url": "{{ hunter2! }}", "x": "{{ url }}"}),
                &[
                    "the template of url, line 1, column 1: expected {{ key }} or {{ key | filter }}",
                    "the template of x, line 1, column 1: there is no sealed value with the key url",
                ],
            ),
            (json!({"a": "x"}), &["a is in both sealedData and template.data"]),
            (json!({"a b": "{{ hunter2!"}), &["a b is not a valid data key of a Secret"]),
            (json!({"url": "x".repeat(MAX_TEMPLATE_BYTES)}), &[]),
            (
                json!({"url": "x".repeat(MAX_TEMPLATE_BYTES + 1)}),
                &["the template of url is longer than 64 KiB"],
            ),
        ] {
            assert_eq!(judge(&json!({"template": {"data": data}})), told, "{data}");
        }
        let many = |count| (0..count).map(|n| (format!("k{n}"), "")).collect::<BTreeMap<_, _>>();
        let judge = |count| judge(&json!({"template": {"data": many(count)}}));
        assert_eq!(judge(MAX_TEMPLATES), [""; 0]);
        assert_eq!(judge(MAX_TEMPLATES + 1), [Violation::TooManyTemplates.to_string()]);
    }

    #[test]
    fn sealed_and_rendered_values_are_counted_together() {
        let keys = |prefix: &str, count| -> BTreeMap<_, _> {
            (0..count).map(|n| (format!("{prefix}{n}"), "")).collect()
        };
        let judge = |sealed| {
            let sealed_secret: SealedSecret = serde_json::from_value(json!({
                "apiVersion": API_VERSION, "kind": "SealedSecret", "metadata": {"name": "db"},
                "spec": {
                    "sealedData": keys("s", sealed),
                    "template": {"data": keys("r", MAX_TEMPLATES)},
                },
            }))
            .unwrap();
            violations(&sealed_secret, &ParsedValues::default())
        };
        assert_eq!(judge(MAX_VALUES - MAX_TEMPLATES), []);
        assert_eq!(judge(MAX_VALUES - MAX_TEMPLATES + 1), [Violation::TooManyValues]);
    }

    #[test]
    fn more_than_1_mib_of_age_files_is_refused() {
        let judge = |bytes: usize| {
            let sealed_secret: SealedSecret = serde_json::from_value(json!({
                "apiVersion": API_VERSION, "kind": "SealedSecret", "metadata": {"name": "db"},
                "spec": {"sealedData": {"a": encode_value(&vec![0; bytes])}},
            }))
            .unwrap();
            violations(&sealed_secret, &ParsedValues::default())
        };
        assert!(judge(MAX_SEALED_BYTES - 1).is_empty());
        assert_eq!(judge(MAX_SEALED_BYTES + 1), [Violation::TooLarge]);
    }

    #[test]
    fn templates_that_could_render_too_much_are_refused_by_lengths() {
        // 2,000 bytes take at most 12,002 through `json`; the value itself is also in the Secret.
        let fits = (MAX_SECRET_BYTES - 2000) / 12_002;
        let text = |count| "{{ a | json }}".repeat(count);
        let data = |count| {
            // One template cannot be long enough to reach the limit, so there are two.
            json!({"template": {"data": {"x": text(count / 2), "y": text(count - count / 2)}}})
        };
        assert_eq!(judge(&data(fits)), [""; 0]);
        assert_eq!(judge(&data(fits + 1)), [Violation::RenderedTooLarge.to_string()]);
    }

    #[test]
    fn templates_with_too_many_placeholders_are_refused_before_they_are_parsed() {
        let data = |text: &str, count| json!({"template": {"data": {"x": text.repeat(count)}}});
        let bomb = [Violation::TooManyPlaceholders.to_string()];
        assert_eq!(judge(&data("{{", MAX_PLACEHOLDERS + 1)), bomb);
        assert_ne!(judge(&data("{{", MAX_PLACEHOLDERS)), bomb);
    }

    #[test]
    fn required_keys_may_be_rendered() {
        let tls = |data| judge(&json!({"template": {"type": "kubernetes.io/tls", "data": data}}));
        assert_eq!(tls(json!({"tls.crt": "", "tls.key": "{{ a }}"})), [""; 0]);
        assert_eq!(tls(json!({"tls.crt": ""})), ["type kubernetes.io/tls needs tls.key"]);
    }

    #[test]
    fn a_rendered_docker_config_must_be_json_for_all_values() {
        let key = ".dockerconfigjson";
        let judge = |text: &str| {
            let type_ = "kubernetes.io/dockerconfigjson";
            judge(&json!({"template": {"type": type_, "data": {key: text}}}))
        };
        for text in [
            "{}",
            " {\"auths\": {\"r\": {\"auth\": {{ a | json }}}}}",
            "{ {{ a | json }}: \"x{{ a | b64encode }}y{{ a | urlencode }}\" }",
        ] {
            assert_eq!(judge(text), [""; 0], "{text}");
        }
        for text in [
            "",
            "[]",
            "hunter2",
            "{{ a | json }}",
            "{{ a | b64encode }}",
            "{\"x\": {{ a | b64encode }}}",
            "{\"x\": 1{{ a | b64encode }}}",
            "{\"x\": \"{{ a | json }}\"}",
            "{\"{{ a | json }}\"}",
            "{\"x\": \"\\{{ a | b64encode }}\"}",
            "{\"x\": \"\\u12{{ a | b64encode }}34\"}",
            "{} {{ a | urlencode }}",
        ] {
            assert_eq!(judge(text), [Violation::TemplateNotJson(key.into()).to_string()], "{text}");
        }
        let told = judge("{\"x\": \"{{ a }}\"}");
        assert_eq!(
            told,
            [
                "the template of .dockerconfigjson, line 1, column 8: a value in JSON needs a filter: json, or inside quotes b64encode or urlencode"
            ]
        );
    }

    #[test]
    fn merge_only_adds_keys() {
        let merge = |template| judge(&json!({"template": template, "target": {"policy": "Merge"}}));
        assert_eq!(merge(json!({"data": {"url": "{{ a }}"}})), [""; 0]);
        let told = |field| [Violation::MergeTemplate(field).to_string()];
        assert_eq!(merge(json!({"type": "Opaque"})), told("type"));
        assert_eq!(merge(json!({"immutable": false})), told("immutable"));
        assert_eq!(merge(json!({"metadata": {}})), told("metadata"));
        // The other Secret may be of the type that requires JSON.
        assert_eq!(merge(json!({"data": {".dockercfg": "{{ a }}"}})).len(), 1);
        assert_eq!(judge(&json!({"template": {"data": {".dockercfg": "{{ a }}"}}})), [""; 0]);
    }
}
