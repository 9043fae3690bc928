//! Manifests as they stand in files: streams of YAML or JSON documents, each an object or a list of objects.
//!
//! Reading is strict, because what a lenient reader drops silently was meant to be sealed: a text that is
//! not UTF-8, too large, empty or malformed anywhere is refused as a whole, with file, document, line and
//! column. Messages are our own fixed phrases, never the YAML library's, which can quote the input.

mod append;
mod comments;
mod edit;
mod layout;
mod mark;
mod metadata;
mod patch;
mod relocate;
mod schema;
mod sealed_secret;
mod secret;
mod stream;
mod tree;
mod write;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::files::input;

pub(crate) use comments::Comment;
pub(crate) use edit::{ManifestFile, NewText, NotEdited, Places};
pub(crate) use mark::Mark;
pub(crate) use metadata::{GivenNamespace, metadata_of, name_of, namespace_of};
pub(crate) use patch::Patch;
pub(crate) use schema::{FlawKind, flaws};
pub(crate) use sealed_secret::{
    deserialize as deserialize_sealed_secret, read_sealed_secret, sealed_data, sealed_data_steps,
    sealed_value_steps,
};
pub(crate) use secret::{read_secret, read_secret_beside, secret_to_tree};
pub(crate) use stream::Document;
pub(crate) use tree::{Step, Tree, path_text};
pub(crate) use write::{to_readable_yaml, to_yaml};

/// Everything that a command was asked to read.
pub(crate) struct Manifests(Vec<Document>);

/// A place in a file, for people: file, document, item of a list, line and column, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) file: String,
    pub(crate) document: usize,
    pub(crate) item: Option<usize>,
    pub(crate) line: usize,
    pub(crate) column: Option<usize>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: document {}", self.file, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        write!(f, ", line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        Ok(())
    }
}

/// A mistake in a manifest, and where it is. Found in an error by those who tell the place in a form of their own.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{position}: {what}")]
pub(crate) struct MistakeAt {
    pub(crate) position: Position,
    pub(crate) what: String,
}

/// One Kubernetes object: a document, or an item of a list.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    document: &'a Document,
    item: Option<usize>,
    pub(crate) value: &'a Value,
}

/// What an object is, as far as this tool is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// `v1` Secret.
    Secret,
    /// Our own kind, in the version that this tool knows.
    SealedSecret,
    /// Our own API group otherwise.
    OtherOfOurs,
    /// Anything else.
    Other,
}

impl Manifests {
    /// Reads and parses all of `paths`, or says where the first mistake is.
    pub(crate) fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self> {
        let mut documents = Vec::new();
        for path in paths {
            documents.extend(stream::parse(input::read(path)?)?);
        }
        Ok(Self(documents))
    }

    /// The objects of all documents, in order.
    pub(crate) fn objects(&self) -> Result<Vec<Object<'_>>> {
        let mut objects = Vec::new();
        for document in &self.0 {
            document.push_objects(&mut objects)?;
        }
        Ok(objects)
    }
}

impl MistakeAt {
    fn new(position: Position, path: &[Step<'_>], what: &str) -> Self {
        let what = match path {
            [] => what.to_owned(),
            _ => format!("{}: {what}", path_text(path)),
        };
        Self { position, what }
    }
}

impl Document {
    fn push_objects<'a>(&'a self, objects: &mut Vec<Object<'a>>) -> Result<()> {
        let whole = Object { document: self, item: None, value: self.value() };
        let kind = whole.kind_text()?;
        let is_list = matches!(
            (whole.text("apiVersion"), kind),
            (Some("v1"), "List" | "SecretList")
                | (Some(bulla_crds::API_VERSION), "SealedSecretList")
        );
        if !is_list {
            objects.push(whole);
            return Ok(());
        }
        let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let Some(Value::Array(items)) = whole.value.get("items") else {
            bail!(whole.mistake(&[Step::Key("items")], "the items of a List must be a list"));
        };
        if items.is_empty() {
            bail!(whole.mistake(&[Step::Key("items")], "the list is empty"));
        }
        for (index, value) in items.iter().enumerate() {
            let object = Object { document: self, item: Some(index), value };
            let kind = object.kind_text()?;
            if item_kind.is_some_and(|item_kind| item_kind != kind) {
                bail!(
                    object.mistake(&[Step::Key("kind")], "an item of another kind than its list")
                );
            }
            objects.push(object);
        }
        Ok(())
    }
}

impl<'a> Object<'a> {
    /// What it is.
    pub(crate) fn kind(&self) -> ObjectKind {
        match (self.text("apiVersion"), self.text("kind")) {
            (Some("v1"), Some("Secret")) => ObjectKind::Secret,
            (Some(bulla_crds::API_VERSION), Some("SealedSecret")) => ObjectKind::SealedSecret,
            (Some(version), _)
                if version.split('/').next() == Some(bulla_crds::GROUP)
                    && version.contains('/') =>
            {
                ObjectKind::OtherOfOurs
            }
            _ => ObjectKind::Other,
        }
    }

    /// Whether it is a SealedSecret of a version that this tool does not know.
    pub(crate) fn is_unknown_version(&self) -> bool {
        self.kind() == ObjectKind::OtherOfOurs
            && self.text("apiVersion") != Some(bulla_crds::API_VERSION)
    }

    /// That an object of another kind was given, in which place.
    pub(crate) fn unsupported(&self, wanted: &str) -> anyhow::Error {
        let is_word = |text: &&str| {
            text.len() <= 128
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-".contains(&byte))
        };
        let word = |field| self.text(field).filter(is_word).unwrap_or("(unreadable)");
        let what = format!(
            "kind {} of {} is not supported here; {wanted} is wanted",
            word("kind"),
            word("apiVersion")
        );
        self.mistake(&[], &what)
    }

    /// A text of the metadata that is there and not empty.
    pub(crate) fn metadata_field(&self, field: &str) -> Option<&'a str> {
        self.value.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty())
    }

    /// The object's name, or `(no name)`, for messages.
    pub(crate) fn title(&self) -> String {
        let name = self.metadata_field("name").unwrap_or("(no name)");
        match self.metadata_field("namespace") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// Where `path` within the object stands, or the innermost part of it that there is.
    pub(crate) fn position(&self, path: &[Step<'_>]) -> Position {
        let item = self.item.map(|item| item + 1);
        Position { item, ..self.document.position(&self.steps_of(path)) }
    }

    /// A path within the object as one within its document.
    fn steps_of<'p>(&self, path: &[Step<'p>]) -> Vec<Step<'p>> {
        let mut steps = Vec::with_capacity(path.len() + 2);
        if let Some(item) = self.item {
            steps.extend([Step::Key("items"), Step::Index(item)]);
        }
        steps.extend_from_slice(path);
        steps
    }

    /// An error at `path` within the object.
    pub(crate) fn mistake(&self, path: &[Step<'_>], what: &str) -> anyhow::Error {
        MistakeAt::new(self.position(path), path, what).into()
    }

    /// The number of the document, counted from 1, and of the item in its list, counted from 0.
    pub(crate) fn place(&self) -> (usize, Option<usize>) {
        (self.document.number, self.item)
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.value.get(field)?.as_str()
    }

    /// The kind, which every object must have beside its `apiVersion`.
    fn kind_text(&self) -> Result<&str> {
        if !self.value.is_object() {
            bail!(self.mistake(&[], "not a Kubernetes object"));
        }
        match (self.text("apiVersion"), self.text("kind")) {
            (Some(_), Some(kind)) => Ok(kind),
            _ => bail!(self.mistake(&[], "not a Kubernetes object: apiVersion or kind is missing")),
        }
    }
}
