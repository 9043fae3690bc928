//! From the bytes of a file to its documents.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, bail};
use serde::de::IgnoredAny;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::manifest::comments::{self, Comment};
use crate::manifest::tree::{self, Mistake, Step, Tree};
use crate::manifest::{MistakeAt, Position};

/// A text and the name under which messages speak of it.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: Zeroizing<String>,
}

/// One document of a stream.
pub(crate) struct Document {
    pub(super) source: Arc<Source>,
    range: Range<usize>,
    syntax: Syntax,
    /// Counted from 1, without empty documents.
    pub(super) number: usize,
    /// The line of the file in which `range` begins, counted from 0.
    lines_before: usize,
    /// The line of the file in which its content begins, counted from 1.
    line: usize,
    tree: Tree,
    /// Those of a list, found when one is asked for: a list is not read anew for each of its items.
    items: OnceLock<Vec<Item>>,
}

/// Where an item of a list stands in its document's own part of the text.
struct Item {
    range: Range<usize>,
    lines_before: usize,
    /// What stands before it in its line, in characters of YAML and bytes of JSON.
    column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Json,
}

/// A part of a text that holds one document, or several of JSON.
#[derive(Debug, PartialEq, Eq)]
struct Chunk {
    range: Range<usize>,
    lines_before: usize,
    /// Where the content begins that is neither blank, comment, directive nor marker: offset and lines before.
    content: Option<(usize, usize)>,
}

impl Document {
    /// The tree of values.
    pub(crate) fn value(&self) -> &Value {
        self.tree.value()
    }

    /// The part of the whole text that is this document.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Its own part of the text, with the marker and comments before its content.
    pub(crate) fn own_text(&self) -> &str {
        &self.source.text[self.range.clone()]
    }

    /// Its comments, in their order.
    pub(crate) fn comments(&self) -> Vec<Comment> {
        let mut comments = comments::of(self.own_text());
        comments.iter_mut().for_each(|comment| comment.line += self.lines_before);
        comments
    }

    /// Whether it is written in JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.syntax == Syntax::Json
    }

    /// Where in the file the last key of `path` stands, or ends: its offset in bytes.
    pub(crate) fn offset(&self, path: &[Step<'_>]) -> Option<usize> {
        let text = self.own_text();
        let (line, column) = self.locate(path)?;
        let line_start = match line {
            0 | 1 => 0,
            line => text.match_indices('\n').nth(line - 2)?.0 + 1,
        };
        let before = column.saturating_sub(1);
        let within = match self.syntax {
            Syntax::Yaml => text[line_start..].char_indices().nth(before)?.0,
            Syntax::Json => before,
        };
        Some(self.range.start + line_start + within)
    }

    /// Where `path` stands, or the innermost part of it that there is.
    pub(super) fn position(&self, path: &[Step<'_>]) -> Position {
        // Where the document begins is known without reading it again.
        let line = if path.is_empty() { None } else { self.locate(path) };
        Position {
            file: self.source.name.clone(),
            document: self.number,
            item: None,
            line: line.map_or(self.line, |(line, _)| self.lines_before + line),
            column: None,
        }
    }

    /// The line and column of `path` in the own part of the text.
    fn locate(&self, path: &[Step<'_>]) -> Option<(usize, usize)> {
        match path {
            [Step::Key("items"), Step::Index(index), rest @ ..] => {
                self.locate_in_item(*index, rest)
            }
            _ => None,
        }
        .or_else(|| self.syntax.locate(self.own_text(), path))
    }

    /// The same in the text of one item alone, as if nothing stood before it. With an alias it cannot be read alone.
    fn locate_in_item(&self, index: usize, path: &[Step<'_>]) -> Option<(usize, usize)> {
        let item = self.items.get_or_init(|| self.find_items()).get(index)?;
        if path.is_empty() {
            return Some((item.lines_before + 1, item.column + 1));
        }
        let text = &self.own_text()[item.range.clone()];
        if self.syntax == Syntax::Yaml && text.contains('*') {
            return None;
        }
        let mut alone = Zeroizing::new(String::with_capacity(item.column + text.len()));
        alone.extend(std::iter::repeat_n(' ', item.column));
        alone.push_str(text);
        let (line, column) = self.syntax.locate(&alone, path)?;
        Some((item.lines_before + line, column))
    }

    /// The items of a list; none when they cannot be told from one another.
    fn find_items(&self) -> Vec<Item> {
        let text = self.own_text();
        let count = self.value().get("items").and_then(Value::as_array).map_or(0, Vec::len);
        let Ok(yaml) = yamlpath::Document::new(text) else { return Vec::new() };
        let range_of = |index: usize| {
            let route = vec!["items".into(), index.into()];
            let (start, end) = yaml.query_exact(&route.into()).ok()??.location.byte_span;
            Some(start..end)
        };
        let (mut end, mut lines_before) = (0, 0);
        let items = (0..count).map(|index| {
            let range = range_of(index)?;
            lines_before += text.get(end..range.start)?.matches('\n').count();
            end = range.start;
            let line_start = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
            let before = &text[line_start..end];
            let column = match self.syntax {
                Syntax::Yaml => before.chars().count(),
                Syntax::Json => before.len(),
            };
            Some(Item { range, lines_before, column })
        });
        items.collect::<Option<_>>().unwrap_or_default()
    }
}

impl Syntax {
    fn locate(self, text: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
        match self {
            Self::Yaml => tree::locate_in_yaml(text, path),
            Self::Json => tree::locate_in_json(text, path),
        }
    }
}

/// All documents of a file: at least one, each a whole tree.
pub(super) fn parse(input: Input) -> Result<Vec<Document>> {
    let source = Arc::new(Source { text: text_of(&input)?, name: input.name });
    let mut documents = Vec::new();
    for chunk in chunks(&source.text) {
        let Some((content, lines_before_content)) = chunk.content else { continue };
        let text = &source.text[chunk.range.clone()];
        if source.text[content..chunk.range.end].starts_with('{')
            && push_json(&source, content..chunk.range.end, lines_before_content, &mut documents)?
        {
            continue;
        }
        let number = documents.len() + 1;
        let tree = tree::parse_yaml(text).map_err(|mistake| {
            mistake.at(&source.name, number, chunk.lines_before, lines_before_content)
        })?;
        documents.push(Document {
            source: source.clone(),
            range: chunk.range,
            syntax: Syntax::Yaml,
            number,
            lines_before: chunk.lines_before,
            line: lines_before_content + 1,
            tree,
            items: OnceLock::new(),
        });
    }
    match documents.is_empty() {
        true => bail!("{}: there is no document in it", source.name),
        false => Ok(documents),
    }
}

/// Takes `range` for one or more JSON documents; false when it is no JSON, and so perhaps YAML's flow style.
fn push_json(
    source: &Arc<Source>,
    range: Range<usize>,
    lines_before: usize,
    documents: &mut Vec<Document>,
) -> Result<bool> {
    let text = &source.text[range.clone()];
    let mut ends = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    while let Some(document) = stream.next() {
        if document.is_err() {
            return Ok(false);
        }
        ends.push(stream.byte_offset());
    }
    let mut start = 0;
    for end in ends {
        start += text[start..end].len() - text[start..end].trim_start().len();
        let lines_before = lines_before + text[..start].matches('\n').count();
        let number = documents.len() + 1;
        let tree = tree::parse_json(&text[start..end])
            .map_err(|mistake| mistake.at(&source.name, number, lines_before, lines_before))?;
        documents.push(Document {
            source: source.clone(),
            range: range.start + start..range.start + end,
            syntax: Syntax::Json,
            number,
            lines_before,
            line: lines_before + 1,
            tree,
            items: OnceLock::new(),
        });
        start = end;
    }
    Ok(true)
}

impl Mistake {
    fn at(
        &self,
        file: &str,
        document: usize,
        lines_before: usize,
        lines_before_content: usize,
    ) -> anyhow::Error {
        let (line, column) = match self.place {
            Some((line, column)) => (lines_before + line, Some(column)),
            None => (lines_before_content + 1, None),
        };
        let position = Position { file: file.to_owned(), document, item: None, line, column };
        MistakeAt::new(position, &[], self.what).into()
    }
}

/// The file as text, refused when no YAML or JSON can be in it.
fn text_of(input: &Input) -> Result<Zeroizing<String>> {
    let bytes = &input.bytes[..];
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
        Err(error) => bail!("{}: not UTF-8", place(error.valid_up_to())),
    };
    let is_forbidden = |&byte: &u8| byte == 0x7f || byte < b' ' && !b"\t\n\r".contains(&byte);
    if let Some(offset) = bytes.iter().position(is_forbidden) {
        bail!("{}: a control character, which no manifest may contain", place(offset));
    }
    if bytes.is_empty() {
        bail!("{}: the file is empty", input.name);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Splits at every line that begins with `---` or ends with `...`: at column 0 these are never content
/// (YAML 1.2, rule `c-forbidden`), so the split is exact and each part keeps its place in the file.
fn chunks(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { range: 0..0, lines_before: 0, content: None };
    let mut has_marker = false;
    let mut offset = 0;
    for (lines_before, line) in text.split_inclusive('\n').enumerate() {
        let rest = marked(line, "---");
        // Comments and directives before the first marker belong to the document that it begins.
        if rest.is_some() && (has_marker || chunk.content.is_some()) {
            chunk.range.end = offset;
            let next = Chunk { range: offset..offset, lines_before, content: None };
            chunks.push(std::mem::replace(&mut chunk, next));
        }
        has_marker |= rest.is_some();
        let is_end = marked(line, "...").is_some();
        let content = rest.unwrap_or(line);
        let is_directive = !has_marker && line.starts_with('%');
        if chunk.content.is_none() && !is_end && !is_directive && has_content(content) {
            let indent = content.len() - content.trim_start().len();
            chunk.content = Some((offset + line.len() - content.len() + indent, lines_before));
        }
        offset += line.len();
        if is_end {
            chunk.range.end = offset;
            let next =
                Chunk { range: offset..offset, lines_before: lines_before + 1, content: None };
            chunks.push(std::mem::replace(&mut chunk, next));
            has_marker = false;
        }
    }
    chunk.range.end = offset;
    chunks.push(chunk);
    chunks
}

/// What follows `marker` in a line that begins with it.
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
    use super::*;

    fn parse_text(text: &str) -> Result<Vec<Document>> {
        parse(Input { name: "f".into(), bytes: Zeroizing::new(text.into()) })
    }

    fn lines(text: &str) -> Vec<usize> {
        parse_text(text).unwrap().iter().map(|document| document.line).collect()
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

    /// Every path in a tree, and one to a key that is not there beside each.
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
    fn a_place_in_an_item_is_the_same_when_the_item_is_read_alone() {
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
                    let found = document.locate(&path);
                    let whole = document.syntax.locate(document.own_text(), &path);
                    let [Step::Key("items"), Step::Index(_), within @ ..] = &path[..] else {
                        assert_eq!(found, whole);
                        continue;
                    };
                    // In JSON a parser tells of an item when it has read a part of it.
                    let line_of = |place: Option<(usize, usize)>| place.map(|(line, _)| line);
                    match within.is_empty() {
                        true => assert_eq!(line_of(found), line_of(whole), "{path:?} in {text}"),
                        false => assert_eq!(found, whole, "{path:?} in {text}"),
                    }
                }
                let items = document.value()["items"].as_array().unwrap().len();
                assert_eq!(document.find_items().len(), items, "{text}");
            }
        }
    }

    #[test]
    fn mistakes_are_placed_in_the_file_and_quote_nothing() {
        for (text, message) in [
            ("", "f: the file is empty"),
            ("# nothing\n---\n", "f: there is no document in it"),
            (
                "a: 1\n---\nb:\n\tc: hunter2\n",
                "f: document 2, line 4, column 1: not valid YAML: a tab where spaces must indent",
            ),
            (
                "a: 1\n---\nb: \"hunter2\n---\nc: 1\n",
                "f: document 2, line 4, column 1: not valid YAML: the text ends too early",
            ),
            (
                "a: 1\n---\na: hunter2: x\n",
                "f: document 2, line 3, column 11: not valid YAML: a colon where no key can stand; quote the text",
            ),
            ("a: 1\na: hunter2\n", "f: document 1, line 2, column 1: a key stands twice"),
            (
                "a: 1\nb: {c: 1, c: hunter2}\n",
                "f: document 1, line 2, column 11: a key stands twice",
            ),
            (
                "{\"a\": 1, \"a\": \"hunter2\"}",
                "f: document 1, line 1, column 12: a key stands twice",
            ),
            ("1: hunter2\n", "f: document 1, line 1, column 1: a key that is not text; quote it"),
            (
                "a: !x hunter2\n",
                "f: document 1, line 1, column 4: a YAML tag, which no manifest needs",
            ),
            (
                "a: *hunter2\n",
                "f: document 1, line 1, column 4: not valid YAML: an alias without its anchor",
            ),
            ("a: \x07", "f: line 1, column 4: a control character, which no manifest may contain"),
        ] {
            assert_eq!(error(text), message);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let input = Input { name: "f".into(), bytes: Zeroizing::new(b"a: 1\nb: \xff".to_vec()) };
        assert_eq!(parse(input).err().unwrap().to_string(), "f: line 2, column 4: not UTF-8");
    }
}
