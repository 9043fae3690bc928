//! From the bytes of a file to its documents.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::document::{Document, Source};
use crate::position::{MistakeAt, Position, ReadError};
use crate::values;

/// The largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// The most documents in a file.
const MAX_DOCUMENTS: usize = 20_000;

/// The bytes of a file, and its name for messages.
#[derive(Clone)]
pub struct Input {
    /// A path, or a name in place of one, such as `<stdin>`.
    pub name: String,
    /// The whole content.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// A part of a text that holds one YAML document, or one or more JSON documents.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    range: Range<usize>,
    /// Where the content begins, after blanks, comments, directives and the marker.
    content: Option<usize>,
}

/// All documents of a file, at least one.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Vec<Document>> {
    let mut parts = Parts { source, documents: Vec::new() };
    for Chunk { range, content } in chunks(&source.text) {
        let Some(content) = content else { continue };
        let rest = &source.text[content..range.end];
        let Some(ends) = ends_of_json(rest) else {
            parts.push(range, content, false)?;
            continue;
        };
        let mut start = content;
        for end in ends {
            let end = content + end;
            start = end - source.text[start..end].trim_start().len();
            parts.push(start..end, start, true)?;
            start = end;
        }
    }
    if parts.documents.is_empty() {
        bail!("{}: the file contains no document", source.name);
    }
    Ok(parts.documents)
}

/// Where the documents of a JSON text end, or `None` if it is not JSON. It may then be YAML in flow style.
fn ends_of_json(text: &str) -> Option<Vec<usize>> {
    if !text.starts_with('{') {
        return None;
    }
    let mut ends = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    while let Some(document) = stream.next() {
        document.ok()?;
        ends.push(stream.byte_offset());
    }
    Some(ends)
}

/// The documents read so far.
struct Parts<'a> {
    source: &'a Arc<Source>,
    documents: Vec<Document>,
}

impl Parts<'_> {
    fn push(&mut self, range: Range<usize>, content: usize, is_json: bool) -> Result<()> {
        let number = self.documents.len() + 1;
        if number > MAX_DOCUMENTS {
            bail!("{}: more than {MAX_DOCUMENTS} documents; split the file", self.source.name);
        }
        let read = if is_json { values::parse_json } else { values::parse_yaml };
        let tree = read(&self.source.text[range.clone()])
            .map_err(|error| self.mistake(&error, number, range.start, content))?;
        let (source, outline) = (self.source.clone(), OnceLock::new());
        self.documents.push(Document { source, range, is_json, number, content, tree, outline });
        Ok(())
    }

    /// A mistake in the document that begins at `start`.
    fn mistake(
        &self,
        error: &ReadError,
        document: usize,
        start: usize,
        content: usize,
    ) -> anyhow::Error {
        let line_of = |offset| self.source.line_of(offset).0;
        let (line, column) = match error.place {
            Some((line, column)) => (line_of(start) - 1 + line, Some(column)),
            None => (line_of(content), None),
        };
        let file = self.source.name.clone();
        let position = Position { file, document, item: None, line, column };
        MistakeAt::new(position, &[], error.what).into()
    }
}

/// Whether a text begins with a mark of UTF-16, as PowerShell writes it.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// The file as text. It is refused if it cannot be YAML or JSON.
pub(crate) fn source_of(input: Input) -> Result<Arc<Source>> {
    let bytes = &input.bytes[..];
    if bytes.len() > MAX_FILE_BYTES {
        bail!("{}: larger than 16 MiB", input.name);
    }
    let place = |offset: usize| {
        let before = &bytes[..offset];
        let line_start =
            before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        format!("{}: line {line}, column {column}", input.name)
    };
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(_) if is_utf16(bytes) => {
            bail!("{}: UTF-16, not UTF-8; save it as UTF-8", input.name)
        }
        Err(error) => bail!("{}: not UTF-8", place(error.valid_up_to())),
    };
    let is_forbidden = |&byte: &u8| byte == 0x7f || byte < b' ' && !b"\t\n\r".contains(&byte);
    if let Some(offset) = bytes.iter().position(is_forbidden) {
        bail!("{}: a control character is not allowed in a manifest", place(offset));
    }
    if bytes.is_empty() {
        bail!("{}: the file is empty", input.name);
    }
    let text = Zeroizing::new(text.to_owned());
    Ok(Arc::new(Source::new(input.name, text)))
}

/// Splits at every line that begins with `---` or ends with `...`: at column 0 these are never content
/// (YAML 1.2, rule `c-forbidden`), so the split is exact and each part keeps its place in the file.
fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { range: 0..0, content: None };
    let mut has_marker = false;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let rest = marked(line, "---");
        // Comments and directives before the first marker belong to the document that it begins.
        if rest.is_some() && (has_marker || chunk.content.is_some()) {
            chunk.range.end = offset;
            let next = Chunk { range: offset..offset, content: None };
            chunks.push(std::mem::replace(&mut chunk, next));
        }
        has_marker |= rest.is_some();
        let is_end = marked(line, "...").is_some();
        let content = rest.unwrap_or(line);
        let is_directive = !has_marker && line.starts_with('%');
        if chunk.content.is_none() && !is_end && !is_directive && has_content(content) {
            let indent = content.len() - content.trim_start().len();
            chunk.content = Some(offset + line.len() - content.len() + indent);
        }
        offset += line.len();
        if is_end {
            chunk.range.end = offset;
            let next = Chunk { range: offset..offset, content: None };
            chunks.push(std::mem::replace(&mut chunk, next));
            has_marker = false;
        }
    }
    chunk.range.end = offset;
    chunks.push(chunk);
    chunks
}

/// The rest of a line that begins with `marker`.
fn marked<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.strip_prefix(marker)
        .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn has_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::tree::Step;

    fn parse_text(text: &str) -> Result<Vec<Document>> {
        parse_bytes(text.as_bytes())
    }

    fn parse_bytes(bytes: &[u8]) -> Result<Vec<Document>> {
        parse(&source_of(Input { name: "f".into(), bytes: Zeroizing::new(bytes.to_vec()) })?)
    }

    fn lines(text: &str) -> Vec<usize> {
        parse_text(text).unwrap().iter().map(Document::content_line).collect()
    }

    fn error(text: &str) -> String {
        parse_text(text).err().unwrap().to_string()
    }

    #[test]
    fn documents_begin_where_their_content_does() {
        assert_eq!(lines("a: 1\n"), [1]);
        assert_eq!(lines("# c\n\na: 1\n---\nb: 2"), [3, 5]);
        assert_eq!(lines("%YAML 1.1\n# c\n---\na: 1\n...\n# d\n---\nb: 1\n"), [4, 8]);
        assert_eq!(
            lines("---\n# only a comment\n---\na: 1\n---\n---\n\n--- # c\nb: 1\n...\n"),
            [4, 9]
        );
        assert_eq!(lines("--- {a: 1}\n--- {\"a\": 1}\n"), [1, 2]);
        assert_eq!(lines("a: |\n  ---\n  x\nb: ----\nc: ---x\n"), [1]);
        assert_eq!(lines("a: 1\r\n---\r\nb: 2\r\n"), [1, 3]);
        assert_eq!(lines("\u{feff}a: 1\n---\nb: 2\n"), [1, 3]);
        assert_eq!(lines("{\"a\": 1}\n\n{\"b\":\n 2} {\"c\": 3}\n---\nd: 4\n"), [1, 3, 4, 6]);
    }

    #[test]
    fn a_place_within_a_document_has_its_line_in_the_file() {
        for text in [
            "a: 1\n---\n# c\nspec:\n  data:\n    key: 1\n",
            "a: 1\n---\n\n{\"spec\":\n {\"data\": {\n\t\"key\": 1}}}\n",
            "a: 1\n---\n\n{spec:\n {data: {\n   key: 1}}}\n",
        ] {
            let documents = parse_text(text).unwrap();
            let path = [Step::Key("spec"), Step::Key("data"), Step::Key("key")];
            assert_eq!(documents[1].position(&path).line, 6, "{text}");
        }
        let documents = parse_text("\nitems:\n- a: 1\n-\n  a: 2\n").unwrap();
        let path = [Step::Key("items"), Step::Index(1), Step::Key("a")];
        assert_eq!(documents[0].position(&path).line, 5);
    }

    /// Every path in a tree, and for each mapping a path to a missing key.
    fn paths(value: &Value, path: &[Step<'static>], paths: &mut Vec<Vec<Step<'static>>>) {
        let with = |step: Step<'static>| [path, &[step]].concat();
        paths.push(path.to_vec());
        match value {
            Value::Object(map) => {
                paths.push(with(Step::Key("none")));
                for (key, value) in map {
                    self::paths(value, &with(Step::Key(key.clone().leak())), paths);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self::paths(item, &with(Step::Index(index)), paths);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_key_is_found_where_it_is_written() {
        for text in [
            "# c\nkind: List # \u{e4}\nitems:\n- a: 1 # c\n  b: {c: [1, 2]}\n\n# d\n-   a: |\n      x\n\n      y\n    b:\n    - c\n    -\n      d: \"\u{e4}\"\n    e:\n-\n  a: 1\nz: 1\n",
            "kind: List\r\nitems:\r\n  - a: 1\r\n    b:\r\n      c: 2\r\n  - d: 3\r\n",
            "{kind: List, x: \u{e4}, items: [{a: 1, b: {c: 2}}, {a: 1,\n  d: [1,\n 2]}, {}]}\n",
            "{\"kind\": \"List\", \"x\": \"\u{e4}\", \"items\": [{\"a\": 1, \"b\": {\"c\": 2}}, {\"a\":\n\t[1,\n2]},\n{}]}",
            "items:\n- a: &b\n    c: 1\n- d: *b\n  e: 2\n- 3\n",
            "items: []\n",
        ] {
            for text in [text.to_owned(), format!("a: 1\n---\n{text}")] {
                let documents = parse_text(&text).unwrap();
                let document = documents.last().unwrap();
                let mut all = Vec::new();
                paths(document.value(), &[], &mut all);
                for path in all {
                    let key = document.key_at(&path);
                    match path.last() {
                        Some(Step::Key("none")) => assert_eq!(key, None, "{path:?} in {text}"),
                        // The value of an alias is written elsewhere.
                        Some(Step::Key(_))
                            if text.contains("*b")
                                && path.contains(&Step::Key("d"))
                                && path.len() > 3 =>
                        {
                            assert_eq!(key, None)
                        }
                        Some(Step::Key(name)) => {
                            let written = &text[key.unwrap()];
                            assert_eq!(written.trim_matches('"'), *name, "{path:?} in {text}");
                        }
                        _ => assert_eq!(key, None),
                    }
                    assert!(
                        document.position(&path).line <= text.lines().count(),
                        "{path:?} in {text}"
                    );
                }
            }
        }
    }

    #[test]
    fn mistakes_are_placed_in_the_file_and_quote_nothing() {
        for (text, message) in [
            ("", "f: the file is empty"),
            ("# nothing\n---\n", "f: the file contains no document"),
            (
                "a: 1\n---\nb:\n\tc: hunter2\n",
                "f: document 2, line 4, column 1: not valid YAML: indented with a tab; use spaces",
            ),
            (
                "a: 1\n---\nb: \"hunter2\n---\nc: 1\n",
                "f: document 2, line 4, column 1: not valid YAML: the text ends too early",
            ),
            (
                "a: 1\n---\na: hunter2: x\n",
                "f: document 2, line 3, column 11: not valid YAML: unexpected colon; quote the text",
            ),
            ("a: 1\na: hunter2\n", "f: document 1, line 2, column 1: duplicate key"),
            ("a: 1\nb: {c: 1, c: hunter2}\n", "f: document 1, line 2, column 11: duplicate key"),
            ("{\"a\": 1, \"a\": \"hunter2\"}", "f: document 1, line 1, column 12: duplicate key"),
            ("1: hunter2\n", "f: document 1, line 1, column 1: the key is not text; quote it"),
            ("a: !x hunter2\n", "f: document 1, line 1, column 4: YAML tags are not supported"),
            (
                "a: *hunter2\n",
                "f: document 1, line 1, column 4: not valid YAML: an alias without an anchor; quote a text that begins with *",
            ),
            ("a: \x07", "f: line 1, column 4: a control character is not allowed in a manifest"),
        ] {
            assert_eq!(error(text), message);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let error = parse_bytes(b"a: 1\nb: \xff").err().unwrap().to_string();
        assert_eq!(error, "f: line 2, column 4: not UTF-8");
    }
}
