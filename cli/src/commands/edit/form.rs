//! The text to edit: a SealedSecret shown as the Secret that it describes, with a placeholder for each hidden
//! value. The edited text is read back here too.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::anyhow;
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_crds::{
    Address, ParsedValue, Policy, SealedSecret, Template, TemplateMetadata, ValueError, WipedSecret,
};
use bulla_sealing::{Keyring, UnsealError};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::files::sealed_file::Picked;
use crate::manifest::{self, Object, ObjectKind, Step, Tree};
use crate::report::escape;
use crate::report::failure::{Failure, OrHint};

/// The start of each placeholder. A data key has no slash, so none looks like a placeholder by chance.
const MARK: &str = "bulla.dev/sealed/";

/// The name of the edited text in messages.
const NAME: &str = "the edited text";

/// The type of a Secret that declares none.
const OPAQUE: &str = "Opaque";

/// A SealedSecret to edit.
pub(super) struct Form<'a> {
    file: String,
    name: String,
    namespace: Option<String>,
    sealed_secret: &'a SealedSecret,
    shown: BTreeMap<String, FormValue>,
    /// Why some values are not shown although there is an identity.
    notes: Vec<String>,
}

/// What is shown in place of a sealed value.
enum FormValue {
    Placeholder(String),
    Value(Zeroizing<Vec<u8>>),
}

/// The SealedSecret after editing.
pub(super) struct Edited {
    pub(super) values: BTreeMap<String, EditedValue>,
    pub(super) template: Template,
}

/// The value of a key after editing.
pub(super) enum EditedValue {
    /// The sealed value is unchanged.
    Kept,
    /// The new plaintext, which is still to be sealed.
    New(Zeroizing<Vec<u8>>),
}

impl<'a> Form<'a> {
    /// Shows a placeholder for each value; with a keyring, only for the values that the keyring does not open.
    pub(super) fn new(
        file: &str,
        picked: &Picked<'_>,
        sealed_secret: &'a SealedSecret,
        keyring: Option<&Keyring>,
    ) -> Result<Self, Failure> {
        let (name, namespace) = (&picked.name, picked.namespace.as_deref());
        let address = Address { namespace, name };
        let mut form = Self {
            file: file.to_owned(),
            name: name.clone(),
            namespace: namespace.map(Into::into),
            sealed_secret,
            shown: BTreeMap::new(),
            notes: Vec::new(),
        };
        let mut not_held = None;
        for (key, value) in &sealed_secret.spec.sealed_data {
            let opened =
                keyring.map(|keyring| address.unseal(key, &ParsedValue::parse(value)?, keyring));
            let shown = match opened {
                Some(Ok(plaintext)) => {
                    FormValue::Value(Zeroizing::new(plaintext.as_bytes().to_vec()))
                }
                Some(Err(error)) => {
                    form.notes.push(format!("key {key} is not shown: {error}"));
                    if let ValueError::Unseal(UnsealError::NoIdentity { .. }) = &error {
                        not_held.get_or_insert((key, error));
                    }
                    FormValue::Placeholder(placeholder(key, value))
                }
                None => FormValue::Placeholder(placeholder(key, value)),
            };
            form.shown.insert(key.clone(), shown);
        }
        let is_nothing_open = form.notes.len() == form.shown.len();
        match not_held.filter(|_| is_nothing_open) {
            Some((key, error)) => Err(Failure::no(anyhow!("{file}: {name}: key {key}: {error}")))
                .or_hint("pass the identity that opens it, or none to edit without seeing values"),
            None => Ok(form),
        }
    }

    /// The text to edit, without the head.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let template = self.template();
        let marks = template.metadata.unwrap_or_default();
        let metadata = [
            ("annotations", (!marks.annotations.is_empty()).then(|| json!(marks.annotations))),
            ("labels", (!marks.labels.is_empty()).then(|| json!(marks.labels))),
            ("name", Some(json!(self.name))),
            ("namespace", self.namespace.as_ref().map(|namespace| json!(namespace))),
        ];
        let type_ = template.type_.unwrap_or_else(|| OPAQUE.into());
        let kind = [
            ("immutable", template.immutable.map(|immutable| json!(immutable))),
            ("type", (!self.is_merge()).then(|| json!(type_))),
        ];
        let mut texts = Map::new();
        let mut binary = Map::new();
        for (key, shown) in &self.shown {
            match shown {
                FormValue::Placeholder(placeholder) => {
                    texts.insert(key.clone(), json!(placeholder))
                }
                FormValue::Value(value) => match text_of(value) {
                    Some(text) => texts.insert(key.clone(), json!(text)),
                    None => binary.insert(key.clone(), BASE64_STANDARD.encode(value).into()),
                },
            };
        }
        let parts = [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": present(metadata)}),
            present(kind),
            present([("stringData", Some(Value::Object(texts)))]),
            present([("data", (!binary.is_empty()).then_some(Value::Object(binary)))]),
            present([(
                "template",
                (!template.data.is_empty()).then(|| json!({"data": template.data})),
            )]),
        ]
        .map(Tree::new);
        let parts = parts.iter().map(Tree::value);
        manifest::to_readable_yaml(
            parts.filter(|part| part.as_object().is_some_and(|part| !part.is_empty())),
        )
    }

    /// The comments above the text. If the text was refused, they begin with the reason.
    pub(super) fn head(&self, refused: Option<&Failure>) -> String {
        let mut head = String::new();
        let mut line = |text: &str| {
            let text = escape::line(text);
            head.push_str(if text.is_empty() { "#" } else { "# " });
            head.push_str(&text);
            head.push('\n');
        };
        if let Some(failure) = refused {
            line(&format!("error: {:#}", failure.error()));
            if let Some(hint) = failure.hint_text() {
                line(&format!("hint: {hint}"));
            }
            line(
                "Nothing has been written yet. Correct the text; or leave it unchanged, or empty the file, to give up.",
            );
            line("");
        }
        let title = match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        };
        line(&format!(
            "The Secret {title} that {} describes. Save and close it to seal and write it;",
            self.file
        ));
        line("leave it unchanged, or empty the file, to change nothing.");
        line("");
        if self.shown.values().any(|shown| matches!(shown, FormValue::Placeholder(_))) {
            line(&format!(
                "{MARK}KEY/... stands for a sealed value. Leave it to keep the value, or write a new"
            ));
            line(
                "value in its place to seal that instead. A sealed value is bound to its key: its",
            );
            line("placeholder cannot be moved to another key, copied or changed.");
        }
        line("You can add and remove keys. Text goes under stringData,");
        line("anything else in base64 under data. These are not sealed: type, immutable, labels,");
        line(
            "annotations and the texts of template.data. Name and namespace are fixed. Comments are lost.",
        );
        for note in &self.notes {
            line(note);
        }
        head
    }

    /// Reads the edited text. Line numbers in messages include `lines_before` lines above it.
    pub(super) fn read(&self, typed: &[u8], lines_before: usize) -> Result<Edited, Failure> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(lines_before + typed.len()));
        bytes.extend(std::iter::repeat_n(b'\n', lines_before));
        bytes.extend(typed);
        let file = manifest::parse(Input { name: NAME.into(), bytes })?;
        let objects = file.objects()?;
        let [object] = &objects[..] else {
            return Err(anyhow!("{NAME}: more than one object"))
                .or_hint("edit one SealedSecret at a time; choose another with --name");
        };
        if ObjectKind::of(object) != ObjectKind::Secret {
            return Err(object.unsupported("a Secret of v1").into());
        }
        let secret = manifest::read_secret_beside(object, &["template"])?;
        self.refuse_another_place(object, &secret)?;
        let template = self.edited_template(object, &secret)?;
        refuse_placeholders(object, &template)?;
        let values = self.values(object, &secret)?;
        Ok(Edited { values, template })
    }

    /// Refuses a changed name or namespace, because values are bound to both, and unknown metadata fields.
    fn refuse_another_place(
        &self,
        object: &Object<'_>,
        secret: &WipedSecret,
    ) -> Result<(), Failure> {
        let metadata = &secret.metadata;
        for (field, was, is) in [
            ("name", Some(&self.name), metadata.name.as_ref()),
            ("namespace", self.namespace.as_ref(), metadata.namespace.as_ref()),
        ] {
            if was != is {
                let path = [Step::Key("metadata"), Step::Key(field)];
                let was = was.map_or("none", String::as_str);
                let what = format!("cannot be changed here; it was {was}");
                return Err(object.mistake(&path, &what)).or_hint(
                    "sealed values are bound to it; to change it, seal the values again with bulla create",
                );
            }
        }
        let known = ["name", "namespace", "labels", "annotations"];
        let fields = object.value.get("metadata").and_then(Value::as_object);
        match fields.into_iter().flatten().find(|(field, _)| !known.contains(&field.as_str())) {
            Some((field, _)) => {
                let path = [Step::Key("metadata"), Step::Key(field)];
                Err(object
                    .mistake(&path, "cannot be set here; only labels and annotations can")
                    .into())
            }
            None => Ok(()),
        }
    }

    fn edited_template(
        &self,
        object: &Object<'_>,
        secret: &WipedSecret,
    ) -> Result<Template, Failure> {
        let was = self.sealed_secret.spec.template.as_ref();
        let declared = was.and_then(|template| template.type_.as_deref());
        let type_ = secret.type_.as_deref().filter(|type_| {
            // The form shows `Opaque` for an undeclared type; left unchanged, the type stays undeclared.
            *type_ != OPAQUE || declared == Some(OPAQUE)
        });
        let marks = |marks: &Option<BTreeMap<String, String>>| marks.clone().unwrap_or_default();
        let metadata = TemplateMetadata {
            labels: marks(&secret.metadata.labels),
            annotations: marks(&secret.metadata.annotations),
        };
        Ok(Template {
            type_: type_.map(Into::into),
            immutable: secret.immutable,
            metadata: (metadata != TemplateMetadata::default()).then_some(metadata),
            data: texts_of_template(object)?,
        })
    }

    fn values(
        &self,
        object: &Object<'_>,
        secret: &WipedSecret,
    ) -> Result<BTreeMap<String, EditedValue>, Failure> {
        let keys = |field| object.value.get(field).and_then(Value::as_object).into_iter().flatten();
        let as_text: BTreeSet<&String> = keys("stringData").map(|(key, _)| key).collect();
        if let Some((key, _)) = keys("data").find(|(key, _)| as_text.contains(key)) {
            let path = [Step::Key("data"), Step::Key(key)];
            return Err(object.mistake(&path, "the same key is also under stringData").into());
        }
        let mut values = BTreeMap::new();
        for (key, value) in secret.data.iter().flatten() {
            let value = &value.0[..];
            let typed = str::from_utf8(value).ok().filter(|_| as_text.contains(key));
            let is_kept = match (self.shown.get(key), typed) {
                (Some(FormValue::Placeholder(placeholder)), Some(text)) => text == placeholder,
                (Some(FormValue::Value(shown)), _) => value == &shown[..],
                _ => false,
            };
            let content = if is_kept {
                EditedValue::Kept
            } else {
                typed.map_or(Ok(()), |text| self.refuse_placeholder(object, key, text))?;
                EditedValue::New(Zeroizing::new(value.to_vec()))
            };
            values.insert(key.clone(), content);
        }
        Ok(values)
    }

    /// Refuses a text that is a placeholder or a changed placeholder.
    fn refuse_placeholder(
        &self,
        object: &Object<'_>,
        key: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let path = [Step::Key("stringData"), Step::Key(key)];
        let placeholders = || {
            self.shown.iter().filter_map(|(key, shown)| match shown {
                FormValue::Placeholder(placeholder) => Some((key, placeholder)),
                FormValue::Value(_) => None,
            })
        };
        let own = placeholders().find(|(other, _)| *other == key).map(|(_, own)| own);
        if let Some((other, _)) = placeholders().find(|(_, placeholder)| *placeholder == text) {
            let what = format!(
                "this is the placeholder of key {other}, whose sealed value is bound to that key"
            );
            return Err(object.mistake(&path, &what))
                .or_hint(format!("put it back under {other}, and give {key} a value of its own"));
        }
        let typed = Zeroizing::new(text.to_ascii_lowercase());
        let has_digits_of = |placeholder: &String| {
            placeholder.rsplit('/').next().is_some_and(|digits| typed.contains(digits))
        };
        if !typed.contains(MARK) && !placeholders().any(|(_, it)| has_digits_of(it)) {
            return Ok(());
        }
        Err(object.mistake(&path, "a changed placeholder is not a value")).or_hint(match own {
            Some(own) => format!("write only the new value, or {own} to keep the old one"),
            None => {
                "write only the value; if it begins like a placeholder, write it in base64 under data"
                    .into()
            }
        })
    }

    /// Whether the keys are added to a Secret that someone else declares.
    fn is_merge(&self) -> bool {
        let target = self.sealed_secret.spec.target.as_ref();
        target.is_some_and(|target| target.policy == Policy::Merge)
    }

    /// The template before editing.
    pub(super) fn template(&self) -> Template {
        self.sealed_secret.spec.template.clone().unwrap_or_default()
    }

    /// The values that are shown as plaintext.
    pub(super) fn values_shown(&self) -> impl Iterator<Item = (&String, &[u8])> {
        self.shown.iter().filter_map(|(key, shown)| match shown {
            FormValue::Value(value) => Some((key, &value[..])),
            FormValue::Placeholder(_) => None,
        })
    }
}

/// Refuses placeholders outside of values, where they have no meaning.
fn refuse_placeholders(object: &Object<'_>, template: &Template) -> Result<(), Failure> {
    let metadata = template.metadata.iter();
    let marks = metadata.flat_map(|metadata| {
        let labels = metadata.labels.iter().map(|(key, text)| (["metadata", "labels"], key, text));
        labels.chain(
            metadata.annotations.iter().map(|(key, text)| (["metadata", "annotations"], key, text)),
        )
    });
    let texts = template.data.iter().map(|(key, text)| (["template", "data"], key, text));
    match marks.chain(texts).find(|(_, _, text)| text.contains(MARK)) {
        Some(([outer, inner], key, _)) => {
            let path = [Step::Key(outer), Step::Key(inner), Step::Key(key)];
            Err(object.mistake(&path, "a placeholder is only allowed under stringData")).or_hint(
                "template.data refers to a value as {{ key }}; labels and annotations cannot",
            )
        }
        None => Ok(()),
    }
}

/// The texts of `template.data`, the only part of the form that is not part of a Secret.
fn texts_of_template(object: &Object<'_>) -> Result<BTreeMap<String, String>, Failure> {
    let top = [Step::Key("template")];
    let data = match object.value.get("template") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(template)) => {
            if let Some(field) = template.keys().find(|field| *field != "data") {
                let path = [top[0], Step::Key(field)];
                return Err(object.mistake(&path, "unknown field; type, immutable, labels and annotations go where a Secret has them").into());
            }
            template.get("data")
        }
        Some(_) => return Err(object.mistake(&top, "not a mapping").into()),
    };
    let path = [top[0], Step::Key("data")];
    match data {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(data)) => data
            .iter()
            .map(|(key, text)| match text {
                Value::String(text) => Ok((key.clone(), text.clone())),
                _ => Err(object
                    .mistake(&[path[0], path[1], Step::Key(key)], "not text; quote it")
                    .into()),
            })
            .collect(),
        Some(_) => Err(object.mistake(&path, "not a mapping of keys to text").into()),
    }
}

/// The text without the comments above it.
pub(super) fn without_head(typed: &[u8]) -> &[u8] {
    let mut rest = typed;
    while let Some(line) = rest.split_inclusive(|byte| *byte == b'\n').next() {
        match line.trim_ascii() {
            [] | [b'#', ..] => rest = &rest[line.len()..],
            _ => break,
        }
    }
    rest
}

/// The placeholder for a sealed value. YAML reads it as text, even without quotes. The digits distinguish sealed
/// values from each other; they are not secret.
fn placeholder(key: &str, value: &str) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{MARK}{key}/{:016x}", hasher.finish())
}

/// The value as text, if a person can edit it.
fn text_of(value: &[u8]) -> Option<&str> {
    let is_unfit = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r');
    str::from_utf8(value).ok().filter(|text| !text.contains(is_unfit))
}

fn present<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    Value::Object(fields.collect())
}
