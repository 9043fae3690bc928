//! One Kubernetes object of a manifest.

use std::ops::Range;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::document::Document;
use crate::position::{MistakeAt, Position};
use crate::tree::Step;

/// The kinds that a reader treats specially.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// `apiVersion` and `kind` of lists of objects.
    pub lists: &'static [(&'static str, &'static str)],
    /// The API group whose objects are always read strictly.
    pub own_group: &'static str,
}

/// One Kubernetes object: a document, or an item of a list.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    document: &'a Document,
    item: Option<usize>,
    /// The object as a tree.
    pub value: &'a Value,
}

/// A key in a file. Lines and columns are counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The columns; the end is exclusive.
    pub columns: Range<usize>,
    /// The key as it is spelled, with its quotes if it has any.
    pub token: String,
    /// The number of steps that lead to it.
    pub depth: usize,
}

impl<'a> Object<'a> {
    /// A whole document, which need not be a Kubernetes object.
    pub(crate) fn whole(document: &'a Document) -> Self {
        Self { document, item: None, value: document.value() }
    }

    /// The objects of a document: itself, or the items of a list.
    pub(crate) fn all_of(document: &'a Document, kinds: Kinds) -> Result<Vec<Self>> {
        let whole = Self::whole(document);
        let kind = whole.kind_text()?;
        let is_list =
            |(version, list): &(&str, &str)| whole.api_version() == Some(version) && kind == *list;
        if !kinds.lists.iter().any(is_list) {
            return Ok(vec![whole]);
        }
        let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let Some(Value::Array(items)) = whole.value.get("items") else {
            bail!(whole.mistake(&[Step::Key("items")], "the items of a List must be a list"));
        };
        if items.is_empty() {
            bail!(whole.mistake(&[Step::Key("items")], "the list is empty"));
        }
        let mut objects = Vec::with_capacity(items.len());
        for (index, value) in items.iter().enumerate() {
            let object = Self { document, item: Some(index), value };
            let kind = object.kind_text()?;
            if item_kind.is_some_and(|item_kind| item_kind != kind) {
                bail!(object.mistake(&[Step::Key("kind")], "does not match the kind of the list"));
            }
            objects.push(object);
        }
        Ok(objects)
    }

    /// Its `apiVersion`.
    pub fn api_version(&self) -> Option<&'a str> {
        self.text("apiVersion")
    }

    /// Its `kind`.
    pub fn kind(&self) -> Option<&'a str> {
        self.text("kind")
    }

    /// The error for an object of an unsupported kind, with its place.
    pub fn unsupported(&self, wanted: &str) -> anyhow::Error {
        let is_word = |text: &&str| {
            text.len() <= 128
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-".contains(&byte))
        };
        let word = |field| self.text(field).filter(is_word).unwrap_or("(unreadable)");
        let what = format!(
            "kind {} of {} is not supported here; expected {wanted}",
            word("kind"),
            word("apiVersion")
        );
        self.mistake(&[], &what)
    }

    /// A text field of the metadata, if it exists and is not empty.
    pub fn metadata_field(&self, field: &str) -> Option<&'a str> {
        self.value.get("metadata")?.get(field)?.as_str().filter(|text| !text.is_empty())
    }

    /// The object's name, or `(no name)`, for messages.
    pub fn title(&self) -> String {
        let name = self.metadata_field("name").unwrap_or("(no name)");
        match self.metadata_field("namespace") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    }

    /// Where `path` is within the object, or its innermost part that exists.
    pub fn position(&self, path: &[Step<'_>]) -> Position {
        let item = self.item.map(|item| item + 1);
        Position { item, ..self.document.position(&self.steps_of(path)) }
    }

    /// Where the text of the value at the end of `path` begins, which may be below its key.
    pub fn position_of_value(&self, path: &[Step<'_>]) -> Position {
        let item = self.item.map(|item| item + 1);
        Position { item, ..self.document.position_of_value(&self.steps_of(path)) }
    }

    /// The last key of `path` that exists.
    pub fn mark(&self, path: &[Step<'_>]) -> Option<Mark> {
        let source = &self.document.source;
        (1..=path.len()).rev().find_map(|depth| {
            let key = self.document.key_at(&self.steps_of(&path[..depth]))?;
            let (line, line_start) = source.line_of(key.start);
            let column = source.text[line_start..key.start].chars().count() + 1;
            let token = source.text[key].to_owned();
            let columns = column..column + token.chars().count();
            Some(Mark { line, columns, token, depth })
        })
    }

    /// An error at `path` within the object.
    pub fn mistake(&self, path: &[Step<'_>], what: &str) -> anyhow::Error {
        MistakeAt::new(self.position(path), path, what).into()
    }

    /// The number of the document, counted from 1, and of the item in its list, counted from 0.
    pub fn place(&self) -> (usize, Option<usize>) {
        (self.document.number(), self.item)
    }

    /// Turns a path within the object into a path within its document.
    pub(crate) fn steps_of<'p>(&self, path: &[Step<'p>]) -> Vec<Step<'p>> {
        let mut steps = Vec::with_capacity(path.len() + 2);
        if let Some(item) = self.item {
            steps.extend([Step::Key("items"), Step::Index(item)]);
        }
        steps.extend_from_slice(path);
        steps
    }

    fn text(&self, field: &str) -> Option<&'a str> {
        self.value.get(field)?.as_str()
    }

    /// The kind. Every object must have one, and an `apiVersion`.
    fn kind_text(&self) -> Result<&'a str> {
        if !self.value.is_object() {
            bail!(self.mistake(&[], "not a Kubernetes object"));
        }
        match (self.text("apiVersion"), self.text("kind")) {
            (Some(_), Some(kind)) => Ok(kind),
            _ => bail!(self.mistake(&[], "not a Kubernetes object: apiVersion or kind is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::file;

    fn mark(text: &str, path: &[&str]) -> Option<(usize, Range<usize>, String, usize)> {
        let file = file(text);
        let objects = file.objects().unwrap();
        let path: Vec<_> = path.iter().map(|key| Step::Key(key)).collect();
        let mark = objects.last().unwrap().mark(&path)?;
        Some((mark.line, mark.columns, mark.token, mark.depth))
    }

    #[test]
    fn keys_are_found_in_every_style() {
        let path = ["data", "key"];
        for (text, line, columns, token) in [
            ("data:\n  key: 1\n", 4, 3..6, "key"),
            ("data:\n  \"key\" : 1\n", 4, 3..8, "\"key\""),
            ("data: {ä: 1, 'key': 1}\n", 3, 14..19, "'key'"),
            ("data: {ä: 1, \"key\": 1}\n", 3, 14..19, "\"key\""),
        ] {
            let text = format!("apiVersion: v1\nkind: Secret\n{text}");
            assert_eq!(mark(&text, &path), Some((line, columns, token.to_owned(), 2)), "{text}");
        }
        let json =
            "{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n  \"data\": {\"ä\": 1, \"key\": 1}}";
        assert_eq!(mark(json, &path), Some((2, 20..25, "\"key\"".to_owned(), 2)));
        let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{json}]}}");
        assert_eq!(mark(&list, &path), Some((3, 20..25, "\"key\"".to_owned(), 2)));
    }

    #[test]
    fn a_missing_field_is_marked_at_the_key_around_it() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  namespace: x\n";
        assert_eq!(mark(text, &["metadata", "name"]).unwrap(), (3, 1..9, "metadata".to_owned(), 1));
        assert_eq!(mark(text, &["spec", "a"]), None);
    }
}
