//! `bulla inspect`.

use std::collections::BTreeSet;

use bulla_crds::template::{TemplateError, TextTemplate};
use bulla_crds::{Policy, SealedSecret, decode_value};
use bulla_sealing::{Binding, SealedValue};
use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Answer, Failure};
use crate::flags::{Format, Manifests as Files};
use crate::manifest::{self, Manifests, Object, ObjectKind, Position};
use crate::{escape, input, output};

/// Show what sealed values are for and who can open them, with no key
///
/// What is shown is what the values say of themselves. The cluster verifies it when it opens them;
/// without a key nobody can.
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    files: Files,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let manifests = Manifests::read(input::paths(&self.files.files, [])?)?;
        let reports =
            manifests.objects()?.iter().map(Report::new).collect::<Result<Vec<_>, _>>()?;
        let text = match self.format {
            Format::Human => reports.iter().map(Report::to_text).collect::<Vec<_>>().join("\n"),
            Format::Json => {
                format!("{:#}\n", json!(reports.iter().map(Report::to_json).collect::<Vec<_>>()))
            }
        };
        output::stdout(text.as_bytes())?;
        let is_read = |report: &Report| {
            report.values.iter().all(|(_, value)| value.is_ok())
                && report.rendered.iter().all(|(_, from)| from.is_ok())
        };
        match reports.iter().all(is_read) {
            true => Ok(Answer::Yes),
            false => Ok(Answer::No),
        }
    }
}

/// What one SealedSecret holds.
struct Report {
    position: Position,
    title: String,
    namespace: Value,
    name: Value,
    policy: Policy,
    values: Vec<(String, Result<Seen, String>)>,
    /// The keys that templates render, each from which sealed keys.
    rendered: Vec<(String, Result<Vec<String>, String>)>,
}

/// What one value says of itself.
struct Seen {
    binding: Binding,
    fingerprints: Vec<String>,
    key_type: &'static str,
    plaintext_bytes: usize,
    sealed_bytes: usize,
}

impl Report {
    fn new(object: &Object<'_>) -> Result<Self, Failure> {
        if object.kind() != ObjectKind::SealedSecret {
            return Err(object.unsupported("a SealedSecret of bulla.dev/v1alpha1").into());
        }
        let metadata = |field| {
            object
                .value
                .pointer("/metadata")
                .and_then(|metadata| metadata.get(field))
                .cloned()
                .unwrap_or_default()
        };
        // Read by the schema first, for what is wrong beside the values.
        let sealed_secret = manifest::read_sealed_secret(object)?;
        let values = manifest::sealed_data(object);
        Ok(Self {
            position: object.position(&[]),
            title: object.title(),
            namespace: metadata("namespace"),
            name: metadata("name"),
            policy: sealed_secret
                .spec
                .target
                .as_ref()
                .map(|target| target.policy)
                .unwrap_or_default(),
            values: values.map(|(key, value)| (key.to_owned(), Seen::new(value))).collect(),
            rendered: rendered(&sealed_secret),
        })
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "{} ({})\n",
            escape::line(&self.title),
            escape::line(&self.position.to_string())
        );
        if self.policy != Policy::default() {
            text.push_str(&format!("  policy {}\n", self.policy.as_str()));
        }
        for (key, value) in &self.values {
            let key = escape::line(key);
            match value {
                Err(error) => text.push_str(&format!("  {key}: {error}\n")),
                Ok(seen) => text.push_str(&format!(
                    "  {key}: {} bytes, sealed {} bytes\n    scope {}: {}\n    {} {}\n",
                    seen.plaintext_bytes,
                    seen.sealed_bytes,
                    seen.binding.scope(),
                    seen.binding,
                    seen.key_type,
                    seen.fingerprints.join(", "),
                )),
            }
        }
        for (key, from) in &self.rendered {
            let key = escape::line(key);
            match from {
                Err(error) => text.push_str(&format!("  {key}: {error}\n")),
                Ok(from) if from.is_empty() => text.push_str(&format!("  {key}: fixed text\n")),
                Ok(from) => text.push_str(&format!("  {key}: rendered from {}\n", from.join(", "))),
            }
        }
        text
    }

    fn to_json(&self) -> Value {
        let value = |(key, value): &(String, Result<Seen, String>)| match value {
            Err(error) => json!({"key": key, "error": error}),
            Ok(seen) => json!({
                "key": key,
                "binding": {
                    "scope": seen.binding.scope().as_str(),
                    "namespace": seen.binding.namespace(),
                    "name": seen.binding.name(),
                    "key": seen.binding.key(),
                },
                "type": seen.key_type,
                "fingerprints": seen.fingerprints,
                "plaintextBytes": seen.plaintext_bytes,
                "sealedBytes": seen.sealed_bytes,
            }),
        };
        let rendered = |(key, from): &(String, Result<Vec<String>, String>)| match from {
            Err(error) => json!({"key": key, "error": error}),
            Ok(from) => json!({"key": key, "from": from}),
        };
        json!({
            "file": self.position.file,
            "document": self.position.document,
            "item": self.position.item,
            "line": self.position.line,
            "namespace": self.namespace,
            "name": self.name,
            "policy": self.policy.as_str(),
            "values": self.values.iter().map(value).collect::<Vec<_>>(),
            "rendered": self.rendered.iter().map(rendered).collect::<Vec<_>>(),
        })
    }
}

fn rendered(sealed_secret: &SealedSecret) -> Vec<(String, Result<Vec<String>, String>)> {
    let spec = &sealed_secret.spec;
    let templates = spec.template.iter().flat_map(|template| &template.data);
    let from = |text: &str| {
        let template = TextTemplate::parse(text)?;
        match template.unknown_key(|key| spec.sealed_data.contains_key(key)) {
            Some(error) => Err(error),
            None => {
                Ok(BTreeSet::from_iter(template.keys()).into_iter().map(str::to_owned).collect())
            }
        }
    };
    templates
        .map(|(key, text)| {
            (key.clone(), from(text).map_err(|error: TemplateError| error.to_string()))
        })
        .collect()
}

impl Seen {
    fn new(value: &str) -> Result<Self, String> {
        let file = decode_value(value).map_err(|error| error.to_string())?;
        let sealed_value = SealedValue::parse(&file).map_err(|error| error.to_string())?;
        Ok(Self {
            binding: sealed_value.binding().clone(),
            fingerprints: sealed_value
                .fingerprints()
                .map(|fingerprint| fingerprint.to_string())
                .collect(),
            key_type: sealed_value.key_type().as_str(),
            plaintext_bytes: sealed_value.plaintext_len(),
            sealed_bytes: file.len(),
        })
    }
}
