//! One file: read whole, and changed in place. Every byte outside a change stays, including comments, order, quotes and
//! line ends. The changed file is read again and compared before it is returned.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::apply;
use crate::document::{Comment, Document, Source};
use crate::object::{Kinds, Object};
use crate::patch::{NotEdited, Patch};
use crate::stream::{self, Input};
use crate::write;

/// One file that was read and can be changed.
pub struct ManifestFile {
    source: Arc<Source>,
    documents: Vec<Document>,
    /// Whether the file begins with a byte order mark. Its text does not include the mark.
    has_mark: bool,
    kinds: Kinds,
}

const MARK: &str = "\u{feff}";

thread_local! {
    static PARSES: Cell<usize> = const { Cell::new(0) };
}

/// How many files this thread has parsed. Tests use it to check that a command does not parse a file needlessly.
pub fn parse_count() -> usize {
    PARSES.get()
}

impl ManifestFile {
    /// Reads all documents, or returns the first mistake with its place.
    pub fn parse(input: Input, kinds: Kinds) -> Result<Self> {
        PARSES.set(PARSES.get() + 1);
        let has_mark = input.bytes.starts_with(MARK.as_bytes());
        let source = stream::source_of(input)?;
        let documents = stream::parse(&source)?;
        Ok(Self { source, documents, has_mark, kinds })
    }

    /// Its name for messages.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The documents, in order.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// All objects. Anything that is not an object is a mistake.
    pub fn objects(&self) -> Result<Vec<Object<'_>>> {
        let mut objects = Vec::new();
        for document in &self.documents {
            objects.extend(Object::all_of(document, self.kinds)?);
        }
        Ok(objects)
    }

    /// The only document, of any kind.
    pub fn only(&self) -> Result<Object<'_>> {
        match &self.documents[..] {
            [document] => Ok(Object::whole(document)),
            _ => bail!("{}: the file contains more than one document", self.name()),
        }
    }

    /// Every document as one object, whatever it is.
    pub fn whole_documents(&self) -> Vec<Object<'_>> {
        self.documents.iter().map(Object::whole).collect()
    }

    /// The objects, and the number of documents without any: a tree also has files of other tools. Objects of the
    /// own API group are read as strictly as by [`Self::objects`].
    pub fn objects_among_others(&self) -> Result<(Vec<Object<'_>>, usize)> {
        let mut objects = Vec::new();
        let mut others = 0;
        for document in &self.documents {
            match Object::all_of(document, self.kinds) {
                Ok(all) => objects.extend(all),
                Err(error) if is_of(document, self.kinds.own_group) => return Err(error),
                Err(_) => others += 1,
            }
        }
        Ok((objects, others))
    }

    /// The lines of each document, including the comments before it. The end is exclusive.
    pub fn lines(&self) -> Vec<Range<usize>> {
        let lines = self.documents.iter().map(|document| {
            let range = &document.range;
            let [start, end] = [range.start, range.end].map(|offset| self.source.line_of(offset).0);
            start..if self.source.text[..range.end].ends_with('\n') { end } else { end + 1 }
        });
        lines.collect()
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Zeroizing<Vec<u8>> {
        self.with_mark(self.source.text.len(), |bytes| bytes.extend(self.source.text.as_bytes()))
    }

    /// Whether the file ends with JSON. YAML cannot follow it.
    pub fn is_json(&self) -> bool {
        self.documents.last().is_some_and(Document::is_json)
    }

    /// The file with the patches, one after the other, and with more documents at its end. Nothing else changes, in
    /// its bytes or in their meaning.
    ///
    /// # Errors
    ///
    /// If that is not possible: the new bytes are read again and compared with the expected documents.
    pub fn changed(&self, patches: &[Patch], added: &[Value]) -> Result<Self, NotEdited> {
        let mut expected = Vec::with_capacity(self.documents.len());
        let mut texts = Vec::with_capacity(self.documents.len());
        for document in &self.documents {
            let patches: Vec<_> = patches.iter().filter(|patch| patch.is_for(document)).collect();
            if patches.is_empty() {
                expected.push(None);
                texts.push(Zeroizing::new(document.own_text().to_owned()));
            } else {
                let (text, tree) = apply::patched(document, patches)?;
                expected.push(Some(tree));
                texts.push(text);
            }
        }
        let mut bytes = self.rewritten(&texts);
        if !added.is_empty() {
            bytes = self.with_added(&bytes, added)?;
        }
        let old = self.documents.iter().zip(&expected);
        let expected = old.map(|(old, new)| new.as_ref().map_or(old.value(), |tree| tree.value()));
        self.read_again(bytes, expected.chain(added))
    }

    /// The file without some of its comments. Its documents stay the same.
    ///
    /// # Errors
    ///
    /// If the meaning of a document would change.
    pub fn without_comments(
        &self,
        is_unwanted: impl Fn(&Comment) -> bool,
    ) -> Result<Self, NotEdited> {
        let text = |document: &Document| {
            let text = document.own_text();
            let mut kept = Zeroizing::new(String::with_capacity(text.len()));
            let mut end = 0;
            for comment in document.comments().iter().filter(|comment| is_unwanted(comment)) {
                let lines = comment.lines_in(text);
                kept.push_str(&text[end..lines.start]);
                end = lines.end;
            }
            kept.push_str(&text[end..]);
            kept
        };
        let texts: Vec<_> = self.documents.iter().map(text).collect();
        self.read_again(self.rewritten(&texts), self.documents.iter().map(Document::value))
    }

    /// Parses the new bytes. Their documents must be exactly the expected ones.
    fn read_again<'v>(
        &self,
        bytes: Zeroizing<Vec<u8>>,
        expected: impl Iterator<Item = &'v Value>,
    ) -> Result<Self, NotEdited> {
        let input = Input { name: self.name().to_owned(), bytes };
        let new = Self::parse(input, self.kinds).map_err(|_| NotEdited)?;
        if new.documents.iter().map(Document::value).eq(expected) {
            Ok(new)
        } else {
            Err(NotEdited)
        }
    }

    /// The file with its documents replaced. The text between them stays.
    fn rewritten(&self, documents: &[Zeroizing<String>]) -> Zeroizing<Vec<u8>> {
        let text = &self.source.text;
        let len = text.len() + documents.iter().map(|document| document.len()).sum::<usize>();
        self.with_mark(len, |bytes| {
            let mut end = 0;
            for (old, new) in self.documents.iter().zip(documents) {
                bytes.extend(&text.as_bytes()[end..old.range.start]);
                bytes.extend(new.as_bytes());
                end = old.range.end;
            }
            bytes.extend(&text.as_bytes()[end..]);
        })
    }

    /// Adds documents at the end of a file, in block style and with its line ends.
    fn with_added(&self, file: &[u8], added: &[Value]) -> Result<Zeroizing<Vec<u8>>, NotEdited> {
        let line_break = if self.source.text.contains("\r\n") { "\r\n" } else { "\n" };
        let yaml = write::to_yaml(added);
        let added = str::from_utf8(&yaml).map_err(|_| NotEdited)?;
        let added = Zeroizing::new(added.replace('\n', line_break));
        let mut bytes = Zeroizing::new(Vec::with_capacity(file.len() + added.len() + 8));
        bytes.extend(file);
        if !file.ends_with(b"\n") {
            bytes.extend(line_break.as_bytes());
        }
        bytes.extend(b"---");
        bytes.extend(line_break.as_bytes());
        bytes.extend(added.as_bytes());
        Ok(bytes)
    }

    fn with_mark(&self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(len + MARK.len()));
        if self.has_mark {
            bytes.extend(MARK.as_bytes());
        }
        write(&mut bytes);
        bytes
    }
}

/// Whether a document, or an item of it, belongs to an API group.
fn is_of(document: &Document, group: &str) -> bool {
    let is_of_group = |value: &Value| {
        let version = value.get("apiVersion").and_then(Value::as_str);
        version.is_some_and(|version| version.split('/').next() == Some(group))
    };
    let items = document.value().get("items").and_then(Value::as_array);
    is_of_group(document.value()) || items.into_iter().flatten().any(is_of_group)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sample::{file, text};

    const SEALED_PREFIX: &str = "YWdlLWVuY3J5cHRpb24ub3JnL3Yx";
    const SEALED_DATA: [&str; 3] = ["spec", "sealedData", "a"];

    /// It begins like an age file in base64, but is not one.
    fn value(rest: &str) -> String {
        format!("{SEALED_PREFIX}{rest}")
    }

    /// Sets the value of every key `a`, and returns the whole file.
    fn edited(before: &str) -> Result<String, NotEdited> {
        let file = file(before);
        let objects = file.objects().unwrap();
        let have_it = |object: &&Object<'_>| object.value.pointer("/spec/sealedData/a").is_some();
        let patches: Vec<_> = objects
            .iter()
            .filter(have_it)
            .map(|object| Patch::set(object, &SEALED_DATA, json!(value("NEW="))))
            .collect();
        file.changed(&patches, &[]).map(|new| text(&new))
    }

    fn sealed(data: &str) -> String {
        format!("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nspec:\n  sealedData: {data}\n")
    }

    #[test]
    fn only_the_value_changes() {
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
    fn a_change_parses_a_file_once_more() {
        let item = format!("- {}", sealed("{a: x, b: x}").replace('\n', "\n  ").trim_end());
        let list = format!("apiVersion: v1\nkind: List\nitems:\n{item}\n{item}\n");
        let before = parse_count();
        let file = file(&list);
        let objects = file.objects().unwrap();
        let set = |object, key| Patch::set(object, &["spec", "sealedData", key], json!("new"));
        let keys = ["a", "b", "c", "d"];
        let patches: Vec<_> =
            objects.iter().flat_map(|object| keys.map(|key| set(object, key))).collect();
        let new = file.changed(&patches, &[json!({"added": 1})]).unwrap();
        assert_eq!(parse_count() - before, 2);
        assert!(text(&new).contains("{a: new, b: new, \"c\":\"new\", \"d\":\"new\"}"));
    }

    #[test]
    fn a_value_with_escapes_or_line_breaks_is_written_on_one_line() {
        let old = value("OLD=");
        let (start, end) = old.split_at(30);
        let new = sealed(&format!("{{a: \"{}\"}}", value("NEW=")));
        assert_eq!(edited(&sealed(&format!("{{a: \"{start}\\\n  {end}\"}}"))), Ok(new.clone()));
        assert_eq!(edited(&sealed(&format!("{{a: \"\\x59{}\"}}", &old[1..]))), Ok(new));
        // The value has an alias elsewhere, which would change too.
        let shared =
            sealed(&format!("{{a: &v {old}}}")).replace("spec:", "metadata:\n  x: 1\nspec:");
        let shared = format!("{shared}  other: *v\n");
        assert_eq!(edited(&shared), Err(NotEdited));
    }

    #[test]
    fn a_value_has_the_line_of_its_text() {
        let (old, other) = (value("OLD="), value("OTHER="));
        let text = sealed(&format!("\n    # é\n    b: {other}\n    a: {old}"));
        let file = file(&format!("x: 1\n---\n{text}"));
        let (objects, others) = file.objects_among_others().unwrap();
        assert_eq!((objects.len(), others), (1, 1));
        let position = objects[0].position(&SEALED_DATA.map(crate::tree::Step::Key));
        assert_eq!((position.document, position.line), (2, 9));
    }

    fn appended(before: &str) -> Result<String, NotEdited> {
        let file = file(before);
        let new = file.changed(&[], &[json!({"b": "x"}), json!({"c": {"d": "z"}})])?;
        Ok(text(&new))
    }

    #[test]
    fn every_byte_stays_before_the_new_documents() {
        const ADDED: &str = "---\nb: x\n---\nc:\n  d: z\n";
        for (text, between) in [
            ("a: 1\n", ""),
            ("a: 1 # c", "\n"),
            ("# c\na: 1\n\n# end\n", ""),
            ("a: 1\n...\n", ""),
            ("a: 1\n---\n# nothing\n", ""),
            ("a: |\n  x\n\n", ""),
            ("\u{feff}a: 1\n", ""),
            ("{\"a\": 1}\n", ""),
        ] {
            assert_eq!(appended(text), Ok(format!("{text}{between}{ADDED}")));
            let [text, between, added] =
                [text, between, ADDED].map(|part| part.replace('\n', "\r\n"));
            if text.contains('\n') {
                assert_eq!(appended(&text), Ok(format!("{text}{between}{added}")));
            }
        }
        assert!(file("{\"a\": 1}\n").is_json() && !file("{a: 1}\n").is_json());
    }

    #[test]
    fn a_text_that_would_change_is_not_added_to() {
        assert_eq!(appended("a: |+\n  x"), Err(NotEdited));
    }

    #[test]
    fn unwanted_comments_go_and_nothing_else_does() {
        let without = |before: &str| {
            let new = file(before).without_comments(|comment| comment.text.starts_with("#-"));
            new.map(|new| text(&new))
        };
        for (before, after) in [
            ("#- a\na: 1\n", "a: 1\n"),
            ("# a\n  #- b\n\na: 1\n", "# a\n\na: 1\n"),
            ("a: 1 \t#- b\nb: 2 # c\n", "a: 1\nb: 2 # c\n"),
            ("a: 1\r\n#- b\r\nb: 2 #- c\r\n", "a: 1\r\nb: 2\r\n"),
            ("a: '#- b'\nb: |\n  #- c\n#- d\n", "a: '#- b'\nb: |\n  #- c\n"),
            ("\u{feff}a: 1\n---\n#- b\nb: 2\n...\n#- c", "\u{feff}a: 1\n---\nb: 2\n...\n#- c"),
            ("{\"a\": \"#- b\"}\n", "{\"a\": \"#- b\"}\n"),
        ] {
            assert_eq!(without(before).as_deref(), Ok(after), "{before}");
        }
    }

    #[test]
    fn documents_have_their_lines() {
        let text = "# c\n---\na: 1\n---\n# d\nb: 1\n---\n---\nc: 1";
        assert_eq!(file(text).lines(), [1..4, 4..7, 8..10]);
        assert_eq!(file("{\"a\": 1}\n{\"b\":\n1}\n").lines(), [1..2, 2..4]);
    }
}
