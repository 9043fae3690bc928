//! Fields of an object set and removed in place: every other byte of the file stays, comments, order, quotes and
//! line ends included.
//!
//! `yamlpath` says where in the text a field stands, in block and flow style and in JSON; what is written there is
//! ours, because it is read by parsers of YAML 1.1 too. What was written is read again and compared before anybody
//! gets to see it.

use std::ops::Range;

use serde_json::{Map, Value};
use yamlpath::{Component, Document as Yaml, Route};
use zeroize::Zeroizing;

use crate::input::Input;
use crate::manifest::edit::{ManifestFile, NotEdited};
use crate::manifest::tree::Tree;
use crate::manifest::{Object, write};

/// One field of one object, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    document: usize,
    item: Option<usize>,
    /// The keys that lead to the field.
    path: Vec<String>,
    /// The new value; none removes the field.
    value: Option<Value>,
}

impl Patch {
    /// Sets a field to a value, whether it is there or not; mappings around it are made when they are missing.
    pub(crate) fn set(object: &Object<'_>, path: &[&str], value: Value) -> Self {
        Self { value: Some(value), ..Self::remove(object, path) }
    }

    /// Removes a field, if it is there.
    pub(crate) fn remove(object: &Object<'_>, path: &[&str]) -> Self {
        let (document, item) = object.place();
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Self { document, item, path, value: None }
    }

    /// Does to a tree what is done to its text.
    fn apply_to(&self, document: &mut Value) -> Result<(), NotEdited> {
        let mut value = match self.item {
            None => document,
            Some(item) => document.pointer_mut(&format!("/items/{item}")).ok_or(NotEdited)?,
        };
        let (last, parents) = self.path.split_last().ok_or(NotEdited)?;
        for key in parents {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            let map = value.as_object_mut().ok_or(NotEdited)?;
            if self.value.is_none() && !map.contains_key(key) {
                return Ok(());
            }
            value = map.entry(key).or_insert(Value::Null);
        }
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        let map = value.as_object_mut().ok_or(NotEdited)?;
        match &self.value {
            Some(value) => map.insert(last.clone(), value.clone()),
            None => map.remove(last),
        };
        Ok(())
    }
}

impl ManifestFile {
    /// The file with the patches, one after the other: it differs in nothing else, in bytes and in what they mean.
    pub(crate) fn patched(&self, patches: &[Patch]) -> Result<Zeroizing<Vec<u8>>, NotEdited> {
        let text = self.text();
        let mut new = Zeroizing::new(String::with_capacity(text.len()));
        let mut end = 0;
        let mut expected = Vec::with_capacity(self.documents.len());
        for document in &self.documents {
            let mut tree = Tree::new(document.value().clone());
            let mut part = Zeroizing::new(text[document.range()].to_owned());
            for patch in patches.iter().filter(|patch| patch.document == document.number) {
                let before = tree.value().clone();
                tree.change(|value| patch.apply_to(value))?;
                if *tree.value() != before {
                    part = Draft::new(&part, patch, &before)?.patched()?;
                }
            }
            new.push_str(&text[end..document.range().start]);
            new.push_str(&part);
            end = document.range().end;
            expected.push(tree);
        }
        new.push_str(&text[end..]);
        let bytes = self.with_mark(new.len(), |bytes| bytes.extend(new.as_bytes()));
        let again = Input { name: String::new(), bytes: bytes.clone() };
        let again = Self::parse(again).map_err(|_| NotEdited)?;
        let is_as_expected = again.documents.len() == expected.len()
            && again
                .documents
                .iter()
                .zip(&expected)
                .all(|(document, expected)| document.value() == expected.value());
        match is_as_expected {
            true => Ok(bytes),
            false => Err(NotEdited),
        }
    }
}

/// One patch of the text of one document.
struct Draft<'a> {
    text: &'a str,
    yaml: Yaml,
    patch: &'a Patch,
    /// The tree before the patch.
    tree: &'a Value,
}

/// How a mapping is written.
enum Style {
    /// One key on a line, indented by this much.
    Block(usize),
    /// In braces.
    Flow,
}

impl<'a> Draft<'a> {
    fn new(text: &'a str, patch: &'a Patch, tree: &'a Value) -> Result<Self, NotEdited> {
        let yaml = Yaml::new(text).map_err(|_| NotEdited)?;
        Ok(Self { text, yaml, patch, tree })
    }

    fn patched(&self) -> Result<Zeroizing<String>, NotEdited> {
        let depth = self.patch.path.len();
        match &self.patch.value {
            None => self.without(),
            Some(value) if self.is_there(depth) => self.exchanged(depth, value),
            Some(value) => {
                // The innermost mapping around it that is there, and what is missing between the two.
                let there = (0..depth).rev().find(|&depth| self.is_there(depth)).unwrap_or(0);
                let (key, missing) = self.patch.path[there..].split_first().ok_or(NotEdited)?;
                let value =
                    missing.iter().rev().fold(value.clone(), |value, key| mapping(key, value));
                match self.value_at(there).and_then(Value::as_object) {
                    Some(map) if !map.is_empty() => self.with_entry(there, key, value),
                    _ => self.exchanged(there, &mapping(key, value)),
                }
            }
        }
    }

    fn route(&self, depth: usize) -> Route<'a> {
        let item = self.patch.item.map(|item| [Component::from("items"), Component::from(item)]);
        let keys = self.patch.path[..depth].iter().map(|key| Component::from(key.as_str()));
        Route::from(item.into_iter().flatten().chain(keys).collect::<Vec<_>>())
    }

    fn is_there(&self, depth: usize) -> bool {
        self.value_at(depth).is_some()
    }

    fn value_at(&self, depth: usize) -> Option<&'a Value> {
        let object = match self.patch.item {
            None => Some(self.tree),
            Some(item) => self.tree.get("items")?.get(item),
        };
        self.patch.path[..depth].iter().try_fold(object?, |value, key| value.get(key))
    }

    /// Where a value stands, if there is one behind its key. What follows it may be in it: blanks and comments.
    fn range_of(&self, route: &Route<'_>) -> Result<Option<Range<usize>>, NotEdited> {
        let span = match route.is_empty() {
            true => Some(self.yaml.top_feature().map_err(|_| NotEdited)?),
            false => self.yaml.query_exact(route).map_err(|_| NotEdited)?,
        };
        Ok(span.map(|feature| feature.location.byte_span.0..feature.location.byte_span.1))
    }

    fn key_of(&self, route: &Route<'_>) -> Result<Range<usize>, NotEdited> {
        let key = self.yaml.query_key_only(route).map_err(|_| NotEdited)?;
        Ok(key.location.byte_span.0..key.location.byte_span.1)
    }

    /// Behind the colon of a key.
    fn colon_of(&self, key: &Range<usize>) -> Result<usize, NotEdited> {
        Ok(key.end + self.text[key.end..].find(':').ok_or(NotEdited)? + 1)
    }

    /// Where a value ends, before comments that belong to what comes next.
    fn end_of(&self, route: &Route<'_>, value: &Value) -> Result<usize, NotEdited> {
        let Some(range) = self.range_of(route)? else {
            return self.colon_of(&self.key_of(route)?);
        };
        let ends: Vec<_> = match value {
            Value::Object(map) if self.is_block(&range) => map
                .iter()
                .map(|(key, value)| self.end_of(&route.with_key(key.as_str()), value))
                .collect::<Result<_, _>>()?,
            Value::Array(items) if self.is_block(&range) => items
                .iter()
                .enumerate()
                .map(|(index, value)| self.end_of(&route.with_key(index), value))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let end = self.text[..range.end].trim_end().len().max(range.start);
        Ok(ends.into_iter().max().unwrap_or(end))
    }

    fn is_block(&self, value: &Range<usize>) -> bool {
        !self.text[value.start..].starts_with(['{', '['])
    }

    fn style(&self, mapping: &Range<usize>) -> Style {
        match self.is_block(mapping) {
            true => Style::Block(mapping.start - self.line_start(mapping.start)),
            false => Style::Flow,
        }
    }

    /// With another value behind a key that is there.
    fn exchanged(&self, depth: usize, value: &Value) -> Result<Zeroizing<String>, NotEdited> {
        let route = self.route(depth);
        let key = self.key_of(&route)?;
        let colon = self.colon_of(&key)?;
        let old = match self.range_of(&route)? {
            Some(old) => {
                old.start..self.end_of(&route, self.value_at(depth).unwrap_or(&Value::Null))?
            }
            None => colon..colon,
        };
        let line_start = self.line_start(key.start);
        let before = self.text[line_start..key.start].trim_start_matches(' ');
        let new = match value {
            Value::Object(map) if !map.is_empty() && ["", "- "].contains(&before) => {
                return Ok(self.with_block(&old, colon, map, key.start - line_start));
            }
            Value::String(text) => self.quoted_like(&old, text).unwrap_or_else(|| flow(value)),
            value => flow(value),
        };
        let space = if old.is_empty() { " " } else { "" };
        Ok(self.spliced(&old, &[space, &new]))
    }

    /// With a mapping in place of a value, below its key. A comment behind the key stays there.
    fn with_block(
        &self,
        old: &Range<usize>,
        colon: usize,
        map: &Map<String, Value>,
        indent: usize,
    ) -> Zeroizing<String> {
        let lines = self.block(map, indent + 2);
        let lines = lines.trim_end_matches(['\r', '\n']);
        let line_end = self.line_end(colon);
        match old.start <= line_end {
            true => {
                let comment = self.text[old.end..self.line_end(old.end)].trim_end();
                let head = self.text[..old.start].trim_end_matches(' ').len();
                let tail = self.line_end(old.end);
                self.spliced(&(head..tail), &[comment, self.line_break(), lines])
            }
            false => self.spliced(&(line_end..old.end), &[self.line_break(), lines]),
        }
    }

    /// With one more key in a mapping that has some.
    fn with_entry(
        &self,
        depth: usize,
        key: &str,
        value: Value,
    ) -> Result<Zeroizing<String>, NotEdited> {
        let route = self.route(depth);
        let range = self.range_of(&route)?.ok_or(NotEdited)?;
        match self.style(&range) {
            Style::Block(indent) => {
                let old = self.value_at(depth).ok_or(NotEdited)?;
                let at = self.line_end(self.end_of(&route, old)?);
                let lines = self.block(&Map::from_iter([(key.to_owned(), value)]), indent);
                let lines = lines.trim_end_matches(['\r', '\n']);
                Ok(self.spliced(&(at..at), &[self.line_break(), lines]))
            }
            Style::Flow => {
                let inside =
                    self.text[range.clone()].trim_end().strip_suffix('}').ok_or(NotEdited)?;
                let inside = inside.trim_end().trim_end_matches(',').trim_end();
                let at = range.start + inside.len();
                let entry = flow(&mapping(key, value));
                let entry = entry.strip_prefix('{').and_then(|entry| entry.strip_suffix('}'));
                // On a line of its own where the others are.
                let rest = &inside[1..];
                let blank = &rest[..rest.len() - rest.trim_start().len()];
                let separator = if blank.contains('\n') { blank } else { " " };
                Ok(self.spliced(&(at..at), &[",", separator, entry.ok_or(NotEdited)?]))
            }
        }
    }

    /// Without a key and its value.
    fn without(&self) -> Result<Zeroizing<String>, NotEdited> {
        let depth = self.patch.path.len();
        let route = self.route(depth);
        let pair = self.key_of(&route)?.start
            ..self.end_of(&route, self.value_at(depth).unwrap_or(&Value::Null))?;
        let parent = self.range_of(&self.route(depth - 1))?.ok_or(NotEdited)?;
        let siblings = self.value_at(depth - 1).and_then(Value::as_object).map_or(0, Map::len);
        match self.style(&parent) {
            // An empty mapping is written as one.
            Style::Block(_) if siblings == 1 => Ok(self.spliced(&pair, &["{}"])),
            Style::Block(_) => {
                let line_start = self.line_start(pair.start);
                if !self.text[line_start..pair.start].trim().is_empty() {
                    // The first key of a list item stands behind its dash.
                    let rest = &self.text[pair.end..];
                    let next = rest.len() - rest.trim_start().len();
                    return Ok(self.spliced(&(pair.start..pair.end + next), &[]));
                }
                let end = self.line_end(pair.end);
                let end = end + self.text[end..].find('\n').map_or(0, |newline| newline + 1);
                Ok(self.spliced(&(line_start..end), &[]))
            }
            Style::Flow => {
                let after = &self.text[pair.end..parent.end];
                let before = &self.text[parent.start..pair.start];
                let range = match after.trim_start().strip_prefix(',') {
                    Some(rest) => pair.start..parent.end - rest.trim_start().len(),
                    None => match before.trim_end().strip_suffix(',') {
                        Some(before) => parent.start + before.len()..pair.end,
                        None => pair,
                    },
                };
                Ok(self.spliced(&range, &[]))
            }
        }
    }

    /// In the quotes of the old value, if it has some and the new one can stand in them.
    fn quoted_like(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let quote =
            self.text[old.clone()].chars().next().filter(|first| ['\'', '"'].contains(first));
        let is_simple =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=._-".contains(&byte));
        match quote {
            Some(quote) if is_simple => Some(Zeroizing::new(format!("{quote}{text}{quote}"))),
            None if write::is_plain(text) && !self.is_json() => {
                Some(Zeroizing::new(text.to_owned()))
            }
            _ => None,
        }
    }

    fn is_json(&self) -> bool {
        self.text.trim_start().starts_with('{')
    }

    /// Lines of block style.
    fn block(&self, map: &Map<String, Value>, indent: usize) -> Zeroizing<String> {
        let yaml = write::to_yaml([&Value::Object(map.clone())]);
        let mut lines = Zeroizing::new(String::with_capacity(yaml.len() * 2));
        for line in String::from_utf8_lossy(&yaml).lines() {
            lines.extend(std::iter::repeat_n(' ', indent));
            lines.push_str(line);
            lines.push_str(self.line_break());
        }
        lines
    }

    fn spliced(&self, range: &Range<usize>, new: &[&str]) -> Zeroizing<String> {
        let length: usize = new.iter().map(|part| part.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(self.text.len() + length));
        text.push_str(&self.text[..range.start]);
        text.extend(new.iter().copied());
        text.push_str(&self.text[range.end..]);
        text
    }

    fn line_break(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Before the line break.
    fn line_end(&self, offset: usize) -> usize {
        let end =
            self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline);
        end - usize::from(self.text[offset..end].ends_with('\r'))
    }
}

fn mapping(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value)]))
}

/// As it is written in one line, which JSON and every YAML read alike.
fn flow(value: &Value) -> Zeroizing<String> {
    Zeroizing::new(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(text: &str) -> ManifestFile {
        ManifestFile::parse(Input { name: "f".into(), bytes: Zeroizing::new(text.into()) }).unwrap()
    }

    /// The file after one patch of its last object.
    fn patched(text: &str, path: &[&str], value: Option<Value>) -> Result<String, NotEdited> {
        let file = file(text);
        let objects = file.objects().unwrap();
        let object = objects.last().unwrap();
        let patch = match value {
            Some(value) => Patch::set(object, path, value),
            None => Patch::remove(object, path),
        };
        file.patched(&[patch]).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    const HEAD: &str = "apiVersion: v1\nkind: K\n";

    #[test]
    fn keys_are_set_in_every_style() {
        for (before, path, value, after) in [
            // A new key goes behind the last one, before the comments of what follows.
            (
                "s:\n  a: x # c\n  # end\n\nt: 1\n",
                &["s", "b"][..],
                json!("new"),
                "s:\n  a: x # c\n  b: new\n  # end\n\nt: 1\n",
            ),
            ("s:\n    a: x", &["s", "1_0"], json!("yes"), "s:\n    a: x\n    \"1_0\": \"yes\""),
            (
                "s:\n  a: |\n    x\n\n    y\nt: 1\n",
                &["s", "b"],
                json!("new"),
                "s:\n  a: |\n    x\n\n    y\n  b: new\nt: 1\n",
            ),
            // What is there keeps its quotes.
            (
                "s:\n  a: 'x' # c\n  b: \"x\"\n",
                &["s", "a"],
                json!("y="),
                "s:\n  a: 'y=' # c\n  b: \"x\"\n",
            ),
            ("s:\n  a: x # c\n", &["s", "a"], json!("y y"), "s:\n  a: \"y y\" # c\n"),
            ("s:\n  a:\n    x\n", &["s", "a"], json!("new"), "s:\n  a:\n    new\n"),
            (
                "s: {a: x, b: y} # c\n",
                &["s", "c"],
                json!("z"),
                "s: {a: x, b: y, \"c\":\"z\"} # c\n",
            ),
            ("s: {a: x}\n", &["s", "a"], json!("z"), "s: {a: z}\n"),
            // Mappings that are missing or empty.
            ("s: {}\nt: 1\n", &["s", "a"], json!("x"), "s:\n  a: x\nt: 1\n"),
            ("s: # c\nt: 1\n", &["s", "a"], json!("x"), "s: # c\n  a: x\nt: 1\n"),
            ("s: {} # c\nt: 1\n", &["s", "a"], json!("x"), "s: # c\n  a: x\nt: 1\n"),
            (
                "s:\n  a: x\n",
                &["s", "m", "l", "k"],
                json!("v"),
                "s:\n  a: x\n  m:\n    l:\n      k: v\n",
            ),
            ("s: 1\n", &["m", "l"], json!({"k": "v"}), "s: 1\nm:\n  l:\n    k: v\n"),
            // A mapping in place of another value.
            ("s: 1\nt: 2\n", &["s"], json!({"k": "v"}), "s:\n  k: v\nt: 2\n"),
        ] {
            for line_break in ["\n", "\r\n"] {
                let [before, after] = [before, after]
                    .map(|text| format!("# top\n---\n{HEAD}{text}").replace('\n', line_break));
                assert_eq!(patched(&before, path, Some(value.clone())), Ok(after), "{before}");
            }
        }
    }

    #[test]
    fn keys_are_removed_in_every_style() {
        for (before, path, after) in [
            (
                "s:\n  # a\n  a: x # c\n  # b\n  b: y\n",
                &["s", "a"][..],
                "s:\n  # a\n  # b\n  b: y\n",
            ),
            ("s:\n  a: x\n  b: |\n    y\n    z\nt: 1\n", &["s", "b"], "s:\n  a: x\nt: 1\n"),
            ("s:\n  a: x\n  b: y", &["s", "b"], "s:\n  a: x\n"),
            ("s: {a: x, b: y}\n", &["s", "a"], "s: {b: y}\n"),
            ("s: {a: x, b: y}\n", &["s", "b"], "s: {a: x}\n"),
            ("s: {a: x}\n", &["s", "a"], "s: {}\n"),
            ("s:\n  a: x\nt: 1\n", &["s", "a"], "s:\n  {}\nt: 1\n"),
            ("s: 1\n", &["t", "a"], "s: 1\n"),
        ] {
            let [before, after] = [before, after].map(|text| format!("{HEAD}{text}"));
            assert_eq!(patched(&before, path, None), Ok(after), "{before}");
        }
    }

    #[test]
    fn json_stays_json() {
        let json = "{\"apiVersion\": \"v1\", \"kind\": \"K\",\n \"s\": {\n  \"a\": \"x\",\n  \"b\": \"y\"\n }\n}\n";
        for (path, value, old, new) in [
            (&["s", "c"][..], Some(json!("z")), "\"y\"\n", "\"y\",\n  \"c\":\"z\"\n"),
            (&["s", "a"], Some(json!("z z")), "\"x\"", "\"z z\""),
            (&["s", "a"], None, "\"a\": \"x\",\n  ", ""),
            (&["s", "b"], None, ",\n  \"b\": \"y\"", ""),
            (&["t"], Some(json!({"k": [1]})), "}\n}", "}, \"t\":{\"k\":[1]}\n}"),
        ] {
            assert_eq!(patched(json, path, value), Ok(json.replacen(old, new, 1)));
        }
    }

    #[test]
    fn other_documents_and_items_stay() {
        let item = "- apiVersion: v1\n  kind: K\n  s:\n    a: x\n";
        let text = format!(
            "# first\na: 1\napiVersion: v1\nkind: X\n---\napiVersion: v1\nkind: List\nitems:\n{item}{item}# end\n"
        );
        let file = file(&text);
        let objects = file.objects().unwrap();
        let patches = [
            Patch::set(&objects[1], &["s", "b"], json!("new")),
            Patch::remove(&objects[1], &["s", "a"]),
            Patch::set(&objects[2], &["s", "a"], json!("z")),
        ];
        let new = String::from_utf8(file.patched(&patches).unwrap().to_vec()).unwrap();
        let expected =
            text.replacen("    a: x\n", "    b: new\n", 1).replacen("    a: x\n", "    a: z\n", 1);
        assert_eq!(new, expected);
    }

    #[test]
    fn what_an_alias_says_twice_is_not_edited() {
        let text = format!("{HEAD}s: &v\n  a: x\nt: *v\n");
        assert_eq!(patched(&text, &["s", "a"], Some(json!("y"))), Err(NotEdited));
        assert_eq!(patched(&text, &["t", "a"], Some(json!("y"))), Err(NotEdited));
    }
}
