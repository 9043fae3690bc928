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

/// What the text says about placeholders, after what one looks like.
const ABOUT_PLACEHOLDERS: [&str; 2] = [
    "value in its place to seal that instead. A sealed value is bound to its key: its",
    "placeholder cannot be moved to another key, copied or changed.",
];

/// What the text says about everything else.
const ABOUT_FIELDS: [&str; 3] = [
    "You can add and remove keys. Text goes under stringData,",
    "anything else in base64 under data. These are not sealed: type, immutable, labels,",
    "annotations and the texts of template.data. Name and namespace are fixed. Comments are lost.",
];

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
            namespace: picked.namespace.clone(),
            sealed_secret,
            shown: BTreeMap::new(),
            notes: Vec::new(),
        };
        let mut not_held = None;
        for (key, value) in &sealed_secret.spec.sealed_data {
            let mut shown = FormValue::Placeholder(placeholder(key, value));
            let opened =
                keyring.map(|keyring| address.unseal(key, &ParsedValue::parse(value)?, keyring));
            match opened {
                Some(Ok(plaintext)) => {
                    shown = FormValue::Value(Zeroizing::new(plaintext.as_bytes().to_vec()));
                }
                Some(Err(error)) => {
                    form.notes.push(format!("key {key} is not shown: {error}"));
                    if let ValueError::Unseal(UnsealError::NoIdentity { .. }) = &error {
                        not_held.get_or_insert((key, error));
                    }
                }
                None => {}
            }
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
        let metadata = present([
            ("annotations", json!(marks.annotations)),
            ("labels", json!(marks.labels)),
            ("name", json!(self.name)),
            ("namespace", json!(self.namespace)),
        ]);
        let type_ = template.type_.unwrap_or_else(|| OPAQUE.into());
        let type_ = (!self.is_merge()).then_some(type_);
        let (mut texts, mut binary) = (Map::new(), Map::new());
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
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata}),
            present([("immutable", json!(template.immutable)), ("type", json!(type_))]),
            Value::Object(Map::from_iter([("stringData".to_owned(), Value::Object(texts))])),
            present([("data", Value::Object(binary))]),
            present([("template", present([("data", json!(template.data))]))]),
        ]
        .map(Tree::new);
        manifest::to_readable_yaml(parts.iter().map(Tree::value).filter(|part| !is_nothing(part)))
    }

    /// The comments above the text. If the text was refused, they begin with the reason.
    pub(super) fn head(&self, refused: Option<&Failure>) -> String {
        let mut lines = Vec::new();
        if let Some(failure) = refused {
            lines.push(format!("error: {:#}", failure.error()));
            lines.extend(failure.hint_text().map(|hint| format!("hint: {hint}")));
            lines.extend([
                "Nothing has been written yet. Correct the text; or leave it unchanged, or empty the file, to give up.".into(),
                String::new(),
            ]);
        }
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/"));
        let (title, file) = (namespace.unwrap_or_default() + &self.name, &self.file);
        lines.extend([
            format!(
                "The Secret {title} that {file} describes. Save and close it to seal and write it;"
            ),
            "leave it unchanged, or empty the file, to change nothing.".into(),
            String::new(),
        ]);
        if self.shown.values().any(|shown| matches!(shown, FormValue::Placeholder(_))) {
            lines.push(format!(
                "{MARK}KEY/... stands for a sealed value. Leave it to keep the value, or write a new"
            ));
            lines.extend(ABOUT_PLACEHOLDERS.map(str::to_owned));
        }
        lines.extend(ABOUT_FIELDS.map(str::to_owned));
        let notes = lines.iter().chain(&self.notes).map(|line| match &line[..] {
            "" => "#\n".to_owned(),
            line => format!("# {}\n", escape::line(line)),
        });
        notes.collect()
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
                let what = "cannot be set here; only labels and annotations can";
                Err(object.mistake(&path, what).into())
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
        let shown = self.shown.iter();
        let placeholders = shown.filter_map(|(key, shown)| match shown {
            FormValue::Placeholder(placeholder) => Some((key, placeholder)),
            FormValue::Value(_) => None,
        });
        let own = placeholders.clone().find(|(other, _)| *other == key).map(|(_, own)| own);
        if let Some((other, _)) = placeholders.clone().find(|(_, placeholder)| *placeholder == text)
        {
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
        if !typed.contains(MARK) && !placeholders.clone().any(|(_, it)| has_digits_of(it)) {
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
    let none = BTreeMap::new();
    let marks = template.metadata.as_ref();
    let texts = [
        (["metadata", "labels"], marks.map_or(&none, |marks| &marks.labels)),
        (["metadata", "annotations"], marks.map_or(&none, |marks| &marks.annotations)),
        (["template", "data"], &template.data),
    ];
    let mut texts = texts
        .into_iter()
        .flat_map(|(path, texts)| texts.iter().map(move |(key, text)| (path, key, text)));
    match texts.find(|(_, _, text)| text.contains(MARK)) {
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
    let path = [Step::Key("template"), Step::Key("data")];
    let mistake = |path: &[Step<'_>], what| Err(object.mistake(path, what).into());
    let data = match &object.value["template"] {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(template) => {
            if let Some(field) = template.keys().find(|field| *field != "data") {
                let what = "unknown field; type, immutable, labels and annotations go where a Secret has them";
                return mistake(&[path[0], Step::Key(field)], what);
            }
            template.get("data").unwrap_or(&Value::Null)
        }
        _ => return mistake(&path[..1], "not a mapping"),
    };
    let text = |(key, text): (&String, &Value)| match text {
        Value::String(text) => Ok((key.clone(), text.clone())),
        _ => Err(object.mistake(&[path[0], path[1], Step::Key(key)], "not text; quote it").into()),
    };
    match data {
        Value::Null => Ok(BTreeMap::new()),
        Value::Object(data) => data.iter().map(text).collect(),
        _ => mistake(&path, "not a mapping of keys to text"),
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

/// The fields that have a value, less empty mappings.
fn present<const COUNT: usize>(fields: [(&str, Value); COUNT]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !is_nothing(value));
    Value::Object(fields.map(|(field, value)| (field.to_owned(), value)).collect())
}

/// Whether a field with this value means the same as none.
pub(super) fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}
