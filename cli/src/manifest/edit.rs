//! Sealed values exchanged in place: their base64 gives way to another, and every other byte of the file stays,
//! comments, order, quotes and line ends included.
//!
//! A sealed value is a long text on one line that stands in the file as it is, so it is found by itself, in YAML
//! and in JSON. What was written is read again and compared before anybody gets to see it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};
use bulla_crds::SEALED_PREFIX;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::manifest::comments::Comment;
use crate::manifest::sealed_secret::sealed_value_steps;
use crate::manifest::stream::{self, Document};
use crate::manifest::tree::{Step, Tree};
use crate::manifest::{Object, Position};

/// One file, read to be edited.
pub(crate) struct ManifestFile {
    pub(super) documents: Vec<Document>,
    /// Whether the file begins with a byte order mark, which its text does not.
    has_mark: bool,
}

const MARK: &str = "\u{feff}";

/// What is to stand for a sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewText {
    /// Where the old text begins, in bytes.
    offset: usize,
    document: usize,
    item: Option<usize>,
    key: String,
    old_len: usize,
    pub(crate) text: String,
}

/// The file was not to be had with the new texts and otherwise as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be edited without changing something else in it")]
pub(crate) struct NotEdited;

impl ManifestFile {
    /// Reads all documents, or says where the first mistake is.
    pub(crate) fn parse(input: Input) -> Result<Self> {
        let has_mark = input.bytes.starts_with(MARK.as_bytes());
        Ok(Self { documents: stream::parse(input)?, has_mark })
    }

    /// The name under which messages speak of it.
    pub(crate) fn name(&self) -> &str {
        self.documents.first().map_or("", |document| &document.source.name)
    }

    /// The documents, in their order.
    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// All objects; what is none is a mistake.
    pub(crate) fn objects(&self) -> Result<Vec<Object<'_>>> {
        let mut objects = Vec::new();
        for document in &self.documents {
            document.push_objects(&mut objects)?;
        }
        Ok(objects)
    }

    /// The one document that there is, of whatever kind.
    pub(crate) fn only(&self) -> Result<Object<'_>> {
        match &self.documents[..] {
            [document] => Ok(Object { document, item: None, value: document.value() }),
            documents => {
                let name = documents.first().map_or("", |document| &document.source.name);
                bail!("{name}: there is more than one document in it")
            }
        }
    }

    /// The objects, and how many documents are none: among the files of a tree there are some of other tools.
    /// What is of our own API group is read as strictly as ever.
    pub(crate) fn objects_among_others(&self) -> Result<(Vec<Object<'_>>, usize)> {
        let mut objects = Vec::new();
        let mut others = 0;
        for document in &self.documents {
            let count = objects.len();
            match document.push_objects(&mut objects) {
                Ok(()) => {}
                Err(error) if document.is_ours() => return Err(error),
                Err(_) => {
                    objects.truncate(count);
                    others += 1;
                }
            }
        }
        Ok((objects, others))
    }

    /// Where the sealed values stand.
    pub(crate) fn places(&self) -> Places<'_> {
        let text = self.text();
        let mut by_text: HashMap<&str, Vec<usize>> = HashMap::new();
        for (offset, _) in text.match_indices(SEALED_PREFIX) {
            let is_base64 =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
            let length =
                text.as_bytes()[offset..].iter().take_while(|byte| is_base64(byte)).count();
            let begins = !text.as_bytes()[..offset].last().is_some_and(is_base64);
            if begins {
                by_text.entry(&text[offset..offset + length]).or_default().push(offset);
            }
        }
        Places { file: self, by_text, line_starts: OnceCell::new() }
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        self.with_mark(self.text().len(), |bytes| bytes.extend(self.text().as_bytes()))
    }

    /// The file with the new texts: it differs in nothing else, in bytes and in what they mean.
    pub(crate) fn edited(&self, new_texts: &[NewText]) -> Result<Zeroizing<Vec<u8>>, NotEdited> {
        let mut by_offset: BTreeMap<usize, &NewText> = BTreeMap::new();
        for new in new_texts {
            // An alias says twice what stands once.
            if by_offset.insert(new.offset, new).is_some_and(|other| other.text != new.text) {
                return Err(NotEdited);
            }
        }
        let text = self.text();
        let added: usize = new_texts.iter().map(|new| new.text.len()).sum();
        let bytes = self.with_mark(text.len() + added, |bytes| {
            let mut end = 0;
            for (offset, new) in by_offset {
                bytes.extend(&text.as_bytes()[end..offset]);
                bytes.extend(new.text.as_bytes());
                end = offset + new.old_len;
            }
            bytes.extend(&text.as_bytes()[end..]);
        });
        let again = Input { name: String::new(), bytes: bytes.clone() };
        let again = Self::parse(again).map_err(|_| NotEdited)?;
        match again.means(self, new_texts) {
            true => Ok(bytes),
            false => Err(NotEdited),
        }
    }

    /// Whether the documents are those of `old` with the new texts, and equal otherwise.
    fn means(&self, old: &Self, new_texts: &[NewText]) -> bool {
        let mut by_document: HashMap<usize, Vec<&NewText>> = HashMap::new();
        for new in new_texts {
            by_document.entry(new.document).or_default().push(new);
        }
        self.documents.len() == old.documents.len()
            && self.documents.iter().zip(&old.documents).all(|(document, old)| {
                let Some(new_texts) = by_document.get(&old.number) else {
                    return document.value() == old.value();
                };
                let mut expected = old.value().clone();
                let are_there = new_texts.iter().all(|new| new.insert_into(&mut expected));
                let expected = Tree::new(expected);
                are_there && document.value() == expected.value()
            })
    }

    /// The file without some of its comments, and with the same documents otherwise.
    pub(crate) fn without_comments(
        &self,
        is_unwanted: impl Fn(&Comment) -> bool,
    ) -> Result<Self, NotEdited> {
        let text = self.text();
        let bytes = self.with_mark(text.len(), |bytes| {
            let mut end = 0;
            for document in &self.documents {
                let start = document.range().start;
                for comment in document.comments().iter().filter(|comment| is_unwanted(comment)) {
                    let lines = comment.lines_in(document.own_text());
                    bytes.extend(&text.as_bytes()[end..start + lines.start]);
                    end = start + lines.end;
                }
            }
            bytes.extend(&text.as_bytes()[end..]);
        });
        let again = Input { name: self.name().to_owned(), bytes };
        let again = Self::parse(again).map_err(|_| NotEdited)?;
        let values = |file: &'_ Self| {
            file.documents.iter().map(Document::value).cloned().collect::<Vec<_>>()
        };
        if values(&again) == values(self) { Ok(again) } else { Err(NotEdited) }
    }

    pub(super) fn text(&self) -> &str {
        // A file without documents does not parse.
        self.documents.first().map_or("", |document| &document.source.text)
    }

    pub(super) fn with_mark(
        &self,
        len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(len + MARK.len()));
        if self.has_mark {
            bytes.extend(MARK.as_bytes());
        }
        write(&mut bytes);
        bytes
    }
}

impl Document {
    /// Whether it, or an item of it, belongs to our API group.
    fn is_ours(&self) -> bool {
        let is_ours = |value: &Value| {
            let version = value.get("apiVersion").and_then(Value::as_str);
            version.is_some_and(|version| version.split('/').next() == Some(bulla_crds::GROUP))
        };
        let items = self.value().get("items").and_then(Value::as_array);
        is_ours(self.value()) || items.into_iter().flatten().any(is_ours)
    }
}

impl NewText {
    /// Puts it in its place in the tree of its document; whether there is one.
    fn insert_into(&self, document: &mut Value) -> bool {
        let object = match self.item {
            None => Some(document),
            Some(item) => document.get_mut("items").and_then(|items| items.get_mut(item)),
        };
        let values = object.and_then(|object| object.pointer_mut("/spec/sealedData"));
        match values.and_then(|values| values.get_mut(&self.key)) {
            Some(value) => {
                *value = Value::String(self.text.clone());
                true
            }
            None => false,
        }
    }
}

/// Where the sealed values of a file stand in its text.
pub(crate) struct Places<'a> {
    file: &'a ManifestFile,
    by_text: HashMap<&'a str, Vec<usize>>,
    line_starts: OnceCell<Vec<usize>>,
}

impl Places<'_> {
    /// A new text for the value of `key`, or `None` if the old one does not stand there as it is.
    pub(crate) fn new_text(
        &self,
        object: &Object<'_>,
        key: &str,
        old: &str,
        text: String,
    ) -> Option<NewText> {
        let offset = self.offset(object, key, old)?;
        let (document, item) = object.place();
        Some(NewText { offset, document, item, key: key.to_owned(), old_len: old.len(), text })
    }

    /// Where the value of `key` stands. Found in the text, because asking the parser costs a pass over the whole
    /// document.
    pub(crate) fn position(&self, object: &Object<'_>, key: &str, value: &str) -> Position {
        match self.by_text.get(value).map(Vec::as_slice) {
            Some([offset]) => {
                let text = self.file.text();
                let line_starts = self.line_starts.get_or_init(|| {
                    text.match_indices('\n').map(|(newline, _)| newline + 1).collect()
                });
                let line = line_starts.partition_point(|start| start <= offset) + 1;
                let (document, item) = object.place();
                let file = object.document.source.name.clone();
                Position { file, document, item: item.map(|item| item + 1), line, column: None }
            }
            _ => object.position(&sealed_value_steps(key)),
        }
    }

    fn offset(&self, object: &Object<'_>, key: &str, value: &str) -> Option<usize> {
        match &self.by_text.get(value)?[..] {
            [offset] => Some(*offset),
            // Also in a comment, or in another object: the first one behind its key.
            several => {
                let from = object.offset(&sealed_value_steps(key))?;
                several.iter().copied().find(|offset| *offset >= from)
            }
        }
    }
}

impl Object<'_> {
    fn offset(&self, path: &[Step<'_>]) -> Option<usize> {
        self.document.offset(&self.steps_of(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No age file, but it begins like one in base64.
    fn value(rest: &str) -> String {
        format!("{SEALED_PREFIX}{rest}")
    }

    fn file(text: &str) -> ManifestFile {
        ManifestFile::parse(Input { name: "f".into(), bytes: Zeroizing::new(text.into()) }).unwrap()
    }

    /// Exchanges the value of every key `a`, and gives the whole file back.
    fn edited(text: &str) -> Result<String, Option<NotEdited>> {
        let file = file(text);
        let places = file.places();
        let new_texts: Option<Vec<_>> = file
            .objects()
            .unwrap()
            .iter()
            .filter_map(|object| {
                let old = object.value.pointer("/spec/sealedData/a")?.as_str()?;
                Some(places.new_text(object, "a", old, value("NEW=")))
            })
            .collect();
        let bytes = file.edited(&new_texts.ok_or(None)?).map_err(Some)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn sealed(data: &str) -> String {
        format!("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nspec:\n  sealedData: {data}\n")
    }

    #[test]
    fn nothing_but_the_value_changes() {
        let json = r#"{"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "spec": {"sealedData": {"a": "VALUE"}}}"#;
        for text in [
            sealed("{a: VALUE}"),
            sealed("{a: \"VALUE\"} # and COPY"),
            sealed("\n    # COPY\n    a: 'VALUE'   # trailing\t \n    b: x # é COPY"),
            sealed("\n    é: {}\n    \"a\":  VALUE"),
            sealed("\n    a:\n      VALUE"),
            sealed("\n    a: >-\n      VALUE"),
            sealed("\n    a: &v VALUE\n    b: *v").replace("    b: *v", ""),
            sealed("{a: VALUE}").replace('\n', "\r\n"),
            format!("\u{feff}{}", sealed("{a: VALUE}")),
            format!("# COPY\n---\na: COPY\nkind: K\napiVersion: v\n---\n{}", sealed("{a: VALUE}")),
            json.to_owned(),
            format!("{json}\n{json}"),
            format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{json}, {json}]}}"#),
        ] {
            let (old, new) = (value("OLD="), value("NEW="));
            let given = text.replace("VALUE", &old).replace("COPY", &old);
            let expected = text.replace("VALUE", &new).replace("COPY", &old);
            assert_eq!(edited(&given), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_does_not_stand_there_as_it_is_is_left_alone() {
        let old = value("OLD=");
        let (start, end) = old.split_at(30);
        assert_eq!(edited(&sealed(&format!("{{a: \"{start}\\\n  {end}\"}}"))), Err(None));
        assert_eq!(edited(&sealed(&format!("{{a: \"\\x59{}\"}}", &old[1..]))), Err(None));
        // An alias that stands for something else too.
        let shared =
            sealed(&format!("{{a: &v {old}}}")).replace("spec:", "metadata:\n  x: 1\nspec:");
        let shared = format!("{shared}  other: *v\n");
        assert_eq!(edited(&shared), Err(Some(NotEdited)));
    }

    #[test]
    fn a_value_has_the_line_that_it_stands_on() {
        let (old, other) = (value("OLD="), value("OTHER="));
        let text = sealed(&format!("\n    # é\n    b: {other}\n    a: {old}"));
        let file = file(&format!("x: 1\n---\n{text}"));
        let (objects, others) = file.objects_among_others().unwrap();
        assert_eq!((objects.len(), others), (1, 1));
        let position = file.places().position(&objects[0], "a", &old);
        assert_eq!(position, objects[0].position(&sealed_value_steps("a")));
        assert_eq!((position.document, position.line), (2, 9));
    }
}
