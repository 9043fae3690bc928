//! What a SealedSecret or a single sealed value shows without a key.

use std::collections::BTreeSet;

use anstyle::Style;
use bulla_crds::template::{TemplateError, TextTemplate};
use bulla_crds::{ParsedValue, Policy, SealedSecret};
use bulla_sealing::{Binding, Fingerprint, SealedValue};
use serde_json::{Value, json};

use crate::manifest::{self, Object, ObjectKind, Position};
use crate::report::escape;
use crate::report::failure::Failure;
use crate::report::output::{list, styled};
use crate::report::table::table;
use crate::who::config::Config;

/// What one SealedSecret holds, or a single value.
pub(super) struct InspectReport {
    file: String,
    place: Option<InspectedObject>,
    values: Vec<(String, Result<InspectedValue, String>)>,
    /// The keys that templates render, each from which sealed keys.
    rendered: Vec<(String, Result<Vec<String>, String>)>,
}

/// The object that holds the values.
struct InspectedObject {
    position: Position,
    title: String,
    namespace: Value,
    name: Value,
    policy: Policy,
}

/// What one value shows without a key.
struct InspectedValue {
    binding: Binding,
    fingerprints: Vec<Fingerprint>,
    key_type: &'static str,
    plaintext_bytes: usize,
    sealed_bytes: usize,
}

impl InspectReport {
    pub(super) fn of_object(object: &Object<'_>) -> Result<Self, Failure> {
        if ObjectKind::of(object) != ObjectKind::SealedSecret {
            return Err(object.unsupported("a SealedSecret of bulla.dev/v1alpha1").into());
        }
        let metadata = |field| object.value["metadata"][field].clone();
        // Check the schema first, so that errors outside of the values are reported too.
        let sealed_secret = manifest::read_sealed_secret(object)?;
        let position = object.position(&[]);
        let target = sealed_secret.spec.target.as_ref();
        let values = manifest::sealed_data(object);
        let seen = |value: &str| {
            let value = ParsedValue::parse(value).map_err(|error| error.to_string())?;
            Ok(InspectedValue::new(&value))
        };
        Ok(Self {
            file: position.file.clone(),
            values: values.map(|(key, value)| (key.to_owned(), seen(value))).collect(),
            rendered: rendered(&sealed_secret),
            place: Some(InspectedObject {
                position,
                title: object.title(),
                namespace: metadata("namespace"),
                name: metadata("name"),
                policy: target.map(|target| target.policy).unwrap_or_default(),
            }),
        })
    }

    /// Of a single sealed value, in binary form.
    pub(super) fn of_value(file: &str, value: &[u8]) -> Self {
        let seen = SealedValue::parse(value)
            .map(|value| InspectedValue::new(&value))
            .map_err(|error| error.to_string());
        let key = seen.as_ref().map_or("?", |seen| seen.binding.key()).to_owned();
        Self { file: file.to_owned(), place: None, values: vec![(key, seen)], rendered: Vec::new() }
    }

    /// Whether all of it can be read.
    pub(super) fn is_read(&self) -> bool {
        self.values.iter().all(|(_, value)| value.is_ok())
            && self.rendered.iter().all(|(_, from)| from.is_ok())
    }

    pub(super) fn to_text(&self, config: Option<&Config>) -> String {
        const TITLES: [&str; 6] = ["KEY", "BYTES", "TYPE", "SCOPE", "SEALED FOR", "SEALED TO"];
        let bold = Style::new().bold();
        let mut text = match &self.place {
            Some(InspectedObject { position, title, .. }) => {
                let title = styled(bold, &escape::line(title));
                format!("{title} ({})\n", escape::line(&position.to_string()))
            }
            None => format!("{} (a single value)\n", styled(bold, &escape::line(&self.file))),
        };
        let policy = self.place.as_ref().map(|place| place.policy).unwrap_or_default();
        if policy != Policy::default() {
            text.push_str(&format!("policy {}\n", policy.as_str()));
        }
        let values = self.values.iter().map(|(key, value)| match value {
            Err(error) => vec![key.clone(), error.clone()],
            Ok(seen) => vec![
                key.clone(),
                seen.plaintext_bytes.to_string(),
                seen.key_type.to_owned(),
                seen.binding.scope().to_string(),
                sealed_for(&seen.binding, key),
                sealed_to(&seen.fingerprints, config),
            ],
        });
        let rendered = self.rendered.iter().map(|(key, from)| match from {
            Err(error) => vec![key.clone(), error.clone()],
            Ok(from) if from.is_empty() => vec![key.clone(), "fixed text".into()],
            Ok(from) => vec![key.clone(), format!("rendered from {}", from.join(", "))],
        });
        text + &table(TITLES, &values.chain(rendered).collect::<Vec<_>>())
    }

    pub(super) fn to_json(&self, config: Option<&Config>) -> Value {
        let value = |(key, value): &(String, Result<InspectedValue, String>)| match value {
            Err(error) => json!({"key": key, "error": error}),
            Ok(seen) => seen.to_json(key, config),
        };
        let rendered = |(key, from): &(String, Result<Vec<String>, String>)| match from {
            Err(error) => json!({"key": key, "error": error}),
            Ok(from) => json!({"key": key, "from": from}),
        };
        let place = self.place.as_ref();
        json!({
            "file": self.file,
            "document": place.map(|place| place.position.document),
            "item": place.and_then(|place| place.position.item),
            "line": place.map(|place| place.position.line),
            "namespace": place.map(|place| &place.namespace),
            "name": place.map(|place| &place.name),
            "policy": place.map(|place| place.policy.as_str()),
            "values": self.values.iter().map(value).collect::<Vec<_>>(),
            "rendered": self.rendered.iter().map(rendered).collect::<Vec<_>>(),
        })
    }
}

/// The place that the value is sealed for; the key only if it is not the key in the table.
fn sealed_for(binding: &Binding, key: &str) -> String {
    let place = match (binding.namespace(), binding.name()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (Some(namespace), None) => format!("{namespace}/*"),
        (None, _) => "*/*".to_owned(),
    };
    if binding.key() == key { place } else { format!("{place} key {}", binding.key()) }
}

fn sealed_to(fingerprints: &[Fingerprint], config: Option<&Config>) -> String {
    let one = |fingerprint: &Fingerprint| match config.map(|config| config.holder_of(*fingerprint))
    {
        None => fingerprint.to_string(),
        Some(Some(holder)) => format!("{fingerprint} ({holder})"),
        Some(None) => format!("{fingerprint} (not in bulla.yaml)"),
    };
    list(fingerprints.iter().map(one))
}

fn rendered(sealed_secret: &SealedSecret) -> Vec<(String, Result<Vec<String>, String>)> {
    let spec = &sealed_secret.spec;
    let templates = spec.template.iter().flat_map(|template| &template.data);
    let from = |text: &str| {
        let template = TextTemplate::parse(text)?;
        match template.unknown_key(|key| spec.sealed_data.contains_key(key)) {
            Some(error) => Err(error),
            None => Ok(template.keys().map(str::to_owned).collect::<BTreeSet<_>>()),
        }
    };
    let shown = |(key, text): (&String, &String)| {
        let from = from(text).map_err(|error: TemplateError| error.to_string());
        (key.clone(), from.map(Vec::from_iter))
    };
    templates.map(shown).collect()
}

impl InspectedValue {
    fn new(sealed_value: &SealedValue<'_>) -> Self {
        Self {
            binding: sealed_value.binding().clone(),
            fingerprints: sealed_value.fingerprints().collect(),
            key_type: sealed_value.key_type().as_str(),
            plaintext_bytes: sealed_value.plaintext_len(),
            sealed_bytes: sealed_value.as_bytes().len(),
        }
    }

    fn to_json(&self, key: &str, config: Option<&Config>) -> Value {
        let fingerprints = self.fingerprints.iter();
        let recipients = fingerprints.clone().map(|fingerprint| {
            let holder = config.and_then(|config| config.holder_of(*fingerprint));
            json!({"fingerprint": fingerprint.to_string(), "holder": holder})
        });
        json!({
            "key": key,
            "binding": {
                "scope": self.binding.scope().as_str(),
                "namespace": self.binding.namespace(),
                "name": self.binding.name(),
                "key": self.binding.key(),
            },
            "type": self.key_type,
            "fingerprints": fingerprints.map(ToString::to_string).collect::<Vec<_>>(),
            "recipients": recipients.collect::<Vec<_>>(),
            "plaintextBytes": self.plaintext_bytes,
            "sealedBytes": self.sealed_bytes,
        })
    }
}
