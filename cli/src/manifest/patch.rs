//! Fields of an object set, removed and renamed in place, and items added to its lists: every other byte of the file
//! stays, comments, order, quotes and line ends included.
//!
//! `yamlpath` says where in the text a field stands, in block and flow style and in JSON; what is written there is
//! ours, because it is read by parsers of YAML 1.1 too. What was written is read again and compared before anybody
//! gets to see it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};
use yamlpath::{Component, Document as Yaml};
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::manifest::edit::{ManifestFile, NotEdited};
use crate::manifest::layout::{Edit, Layout, Style, child, edit};
use crate::manifest::relocate::Move;
use crate::manifest::tree::{Step, Tree};
use crate::manifest::{Object, write};

/// One field of one object, or one list, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Patch {
    document: usize,
    /// Of a list, which the object is.
    item: Option<usize>,
    /// The steps that lead to it, from the document on.
    path: Vec<Component<'static>>,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Set(Value),
    Append(Value),
    Remove,
    /// To another key, in the same place.
    Rename(String),
    /// To another path, from the document on.
    Move(Vec<Component<'static>>),
}

impl Patch {
    /// Sets a field to a value, whether it is there or not; mappings around it are made when they are missing.
    pub(crate) fn set<'a>(
        object: &Object<'_>,
        path: &[impl Into<Step<'a>> + Copy],
        value: Value,
    ) -> Self {
        Self::new(object, path, Change::Set(value))
    }

    /// Adds an item at the end of a list, which is made when it is missing.
    pub(crate) fn append<'a>(
        object: &Object<'_>,
        path: &[impl Into<Step<'a>> + Copy],
        item: Value,
    ) -> Self {
        Self::new(object, path, Change::Append(item))
    }

    /// Removes a field, if it is there.
    pub(crate) fn remove<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy]) -> Self {
        Self::new(object, path, Change::Remove)
    }

    /// Gives a field, if it is there, another key. Its value, its comments and its place stay.
    pub(crate) fn rename<'a>(
        object: &Object<'_>,
        path: &[impl Into<Step<'a>> + Copy],
        key: &str,
    ) -> Self {
        Self::new(object, path, Change::Rename(key.to_owned()))
    }

    /// Moves a field, if it exists, to another path in the same object; mappings around it are made when they are
    /// missing. Comments in, behind and directly above it go along.
    ///
    /// The field stays in its place in the text where only its own mapping lacks the first missing key. Otherwise it
    /// becomes the last one of the innermost mapping that exists. A mapping that meets another gives it its keys.
    pub(crate) fn move_to<'a>(
        object: &Object<'_>,
        from: &[impl Into<Step<'a>> + Copy],
        to: &[impl Into<Step<'a>> + Copy],
    ) -> Self {
        let to: Vec<Step<'_>> = to.iter().map(|step| (*step).into()).collect();
        Self::new(object, from, Change::Move(components(object, &to)))
    }

    fn new<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy], change: Change) -> Self {
        let path: Vec<Step<'_>> = path.iter().map(|step| (*step).into()).collect();
        let (document, item) = object.place();
        Self { document, item, path: components(object, &path), change }
    }

    /// The same patch of another object, unless it has something else in the field.
    pub(crate) fn moved(&self, old: &Object<'_>, new: &Object<'_>) -> Option<Self> {
        let within = self.path.get(components(old, &[]).len()..)?;
        let field = |object: &Object<'_>| within.iter().try_fold(object.value, child).cloned();
        if field(old) != field(new) {
            return None;
        }
        let path = [components(new, &[]).as_slice(), within].concat();
        let (document, item) = new.place();
        Some(Self { document, item, path, change: self.change.clone() })
    }

    /// The object in a tree of its document.
    fn object<'a>(&self, tree: &'a Tree) -> Option<&'a Value> {
        match self.item {
            None => Some(tree.value()),
            Some(item) => tree.value().get("items")?.get(item),
        }
    }

    /// Does to a tree what is done to its text.
    fn apply_to(&self, document: &mut Value) -> Result<(), NotEdited> {
        if let Change::Move(to) = &self.change {
            return match self.path.iter().try_fold(&*document, child) {
                Some(_) => move_in(document, &self.path, to),
                None => Ok(()),
            };
        }
        let (last, parents) = self.path.split_last().ok_or(NotEdited)?;
        let mut value = document;
        for step in parents {
            if matches!(self.change, Change::Remove | Change::Rename(_))
                && child(value, step).is_none()
            {
                return Ok(());
            }
            value = child_to_be(value, step)?;
        }
        match (&self.change, last, value) {
            (Change::Set(new), _, value) => *child_to_be(value, last)? = new.clone(),
            (Change::Append(item), _, value) => match child_to_be(value, last)? {
                Value::Array(items) => items.push(item.clone()),
                list @ Value::Null => *list = Value::from(vec![item.clone()]),
                _ => return Err(NotEdited),
            },
            (Change::Remove, Component::Key(key), Value::Object(map)) => {
                map.remove(&**key);
            }
            (Change::Rename(key), Component::Key(old), Value::Object(map)) => {
                if let Some(value) = map.remove(&**old)
                    && map.insert(key.clone(), value).is_some()
                {
                    return Err(NotEdited);
                }
            }
            (Change::Remove | Change::Rename(_), _, Value::Null) => {}
            (Change::Remove | Change::Rename(_) | Change::Move(_), ..) => return Err(NotEdited),
        }
        Ok(())
    }
}

/// Moves a field of a tree.
fn move_in(
    document: &mut Value,
    from: &[Component<'_>],
    to: &[Component<'_>],
) -> Result<(), NotEdited> {
    let (last, parents) = from.split_last().ok_or(NotEdited)?;
    let mut parent = &mut *document;
    for step in parents {
        parent = match step {
            Component::Key(key) => parent.get_mut(&**key),
            Component::Index(index) => parent.get_mut(index),
        }
        .ok_or(NotEdited)?;
    }
    let value = match last {
        Component::Key(key) => parent.as_object_mut().and_then(|map| map.remove(&**key)),
        Component::Index(_) => None,
    };
    let mut place = document;
    for step in to {
        place = child_to_be(place, step)?;
    }
    match (place, value.ok_or(NotEdited)?) {
        (place @ Value::Null, value) => *place = value,
        (Value::Object(map), Value::Object(more)) => {
            for (key, value) in more {
                if map.insert(key, value).is_some() {
                    return Err(NotEdited);
                }
            }
        }
        _ => return Err(NotEdited),
    }
    Ok(())
}

/// A path within an object, from its document on.
fn components(object: &Object<'_>, path: &[Step<'_>]) -> Vec<Component<'static>> {
    let steps = object.steps_of(path).into_iter().map(|step| match step {
        Step::Key(key) => Component::from(key.to_owned()),
        Step::Index(index) => Component::from(index),
    });
    steps.collect()
}

/// The child that is there, or is made: null in a mapping.
fn child_to_be<'a>(value: &'a mut Value, step: &Component<'_>) -> Result<&'a mut Value, NotEdited> {
    match step {
        Component::Key(key) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            let map = value.as_object_mut().ok_or(NotEdited)?;
            Ok(map.entry(key.as_ref()).or_insert(Value::Null))
        }
        Component::Index(index) => value.get_mut(index).ok_or(NotEdited),
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
            for round in rounds(patches.iter().filter(|patch| patch.document == document.number)) {
                part = patched(&part, &mut tree, &round)?;
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

/// The first patch of each object, the second of each, and so on: those of one round are in different places, so that
/// a list is not read anew for each.
fn rounds<'a>(patches: impl Iterator<Item = &'a Patch>) -> Vec<Vec<&'a Patch>> {
    let mut rounds: Vec<Vec<&Patch>> = Vec::new();
    let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for patch in patches {
        let round = counts.entry(patch.item).or_default();
        match rounds.get_mut(*round) {
            Some(patches) => patches.push(patch),
            None => rounds.push(vec![patch]),
        }
        *round += 1;
    }
    rounds
}

/// The text of one document with the patches of one round, and its tree.
fn patched(text: &str, tree: &mut Tree, round: &[&Patch]) -> Result<Zeroizing<String>, NotEdited> {
    let before = Tree::new(tree.value().clone());
    let yaml = Yaml::new(text).map_err(|_| NotEdited)?;
    let mut edits = Vec::with_capacity(round.len());
    for patch in round {
        tree.change(|value| patch.apply_to(value))?;
        if patch.object(tree) != patch.object(&before) {
            let layout = Layout { text, yaml: &yaml, tree: before.value() };
            edits.extend(Draft { layout, patch }.edits()?);
        }
    }
    spliced(text, edits)
}

/// A text with the edits, none of which may reach into another.
fn spliced(text: &str, mut edits: Vec<Edit>) -> Result<Zeroizing<String>, NotEdited> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let more: usize = edits.iter().map(|edit| edit.new.len()).sum();
    let mut new = Zeroizing::new(String::with_capacity(text.len() + more));
    let mut end = 0;
    for edit in edits {
        new.push_str(text.get(end..edit.range.start).ok_or(NotEdited)?);
        new.push_str(&edit.new);
        end = edit.range.end;
    }
    new.push_str(text.get(end..).ok_or(NotEdited)?);
    Ok(new)
}

/// One patch of the text of one document.
struct Draft<'a> {
    /// Before the patch.
    layout: Layout<'a>,
    patch: &'a Patch,
}

impl<'a> Draft<'a> {
    fn edits(&self) -> Result<Vec<Edit>, NotEdited> {
        let (depth, from) = (self.patch.path.len(), &self.patch.path);
        let one = match &self.patch.change {
            Change::Move(to) => return Move { layout: &self.layout, from, to }.edits(),
            Change::Remove => self.without(),
            Change::Rename(key) => self.renamed(key),
            Change::Set(value) => self.with(depth, value.clone()),
            Change::Append(item) => {
                let list = Value::from(vec![item.clone()]);
                match self.value_at(depth).and_then(Value::as_array) {
                    Some(items) if !items.is_empty() => self.with_more(depth, &list),
                    _ => self.with(depth, list),
                }
            }
        };
        one.map(|edit| vec![edit])
    }

    /// With a value at the end of the path, whether there was one or not.
    fn with(&self, depth: usize, value: Value) -> Result<Edit, NotEdited> {
        if self.is_there(depth) {
            return self.exchanged(depth, &value);
        }
        // The innermost mapping around it that is there, and what is missing between the two.
        let there = (0..depth).rev().find(|&depth| self.is_there(depth)).unwrap_or(0);
        let mut missing = self.patch.path[there..].iter().rev();
        let value = missing.try_fold(value, |value, step| match step {
            Component::Key(key) => Ok(mapping(key, value)),
            Component::Index(_) => Err(NotEdited),
        })?;
        match self.value_at(there).and_then(Value::as_object) {
            Some(map) if !map.is_empty() => self.with_more(there, &value),
            _ => self.exchanged(there, &value),
        }
    }

    fn path(&self, depth: usize) -> &'a [Component<'static>] {
        &self.patch.path[..depth]
    }

    fn is_there(&self, depth: usize) -> bool {
        self.value_at(depth).is_some()
    }

    fn value_at(&self, depth: usize) -> Option<&'a Value> {
        self.layout.value_at(self.path(depth))
    }

    fn range_of(&self, depth: usize) -> Result<Option<Range<usize>>, NotEdited> {
        self.layout.range_of(self.path(depth))
    }

    /// With another value behind a key that is there.
    fn exchanged(&self, depth: usize, value: &Value) -> Result<Edit, NotEdited> {
        let path = self.path(depth);
        let key = self.layout.key_of(path)?;
        let colon = self.layout.colon_of(&key)?;
        let old = match self.range_of(depth)? {
            Some(old) => {
                old.start..self.layout.end_of(path, self.value_at(depth).unwrap_or(&Value::Null))?
            }
            None => colon..colon,
        };
        let line_start = self.layout.line_start(key.start);
        let before = self.layout.text[line_start..key.start].trim_start_matches(' ');
        let parent = self.range_of(depth - 1)?.ok_or(NotEdited)?;
        let new = match value {
            value
                if takes_lines(value)
                    && self.layout.is_block(&parent)
                    && ["", "- "].contains(&before) =>
            {
                return Ok(self.with_block(&old, colon, value, key.start - line_start));
            }
            Value::String(text) => self
                .literal(&old, text)
                .or_else(|| self.quoted_like(&old, text))
                .unwrap_or_else(|| flow(value)),
            value => flow(value),
        };
        let space = if old.is_empty() { " " } else { "" };
        Ok(edit(old, &[space, &new]))
    }

    /// With a mapping or list in place of a value, below its key. A comment behind the key stays there.
    fn with_block(&self, old: &Range<usize>, colon: usize, value: &Value, indent: usize) -> Edit {
        let lines = self.layout.block(value, indent + 2);
        let line_end = self.layout.line_end(colon);
        match old.start <= line_end {
            true => {
                let comment = self.layout.text[old.end..self.layout.line_end(old.end)].trim_end();
                let head = self.layout.text[..old.start].trim_end_matches(' ').len();
                let tail = self.layout.line_end(old.end);
                edit(head..tail, &[comment, self.layout.line_break(), &lines])
            }
            false => edit(line_end..old.end, &[self.layout.line_break(), &lines]),
        }
    }

    /// With one more key in a mapping that has some, or one more item in such a list; `more` has nothing else.
    fn with_more(&self, depth: usize, more: &Value) -> Result<Edit, NotEdited> {
        let path = self.path(depth);
        let range = self.range_of(depth)?.ok_or(NotEdited)?;
        match self.layout.style(&range) {
            Style::Block(indent) => {
                let old = self.value_at(depth).ok_or(NotEdited)?;
                let at = self.layout.line_end(self.layout.end_of(path, old)?);
                Ok(edit(at..at, &[self.layout.line_break(), &self.layout.block(more, indent)]))
            }
            Style::Flow => {
                let (at, separator) = self.layout.end_inside(&range)?;
                let more = flow(more);
                Ok(edit(at..at, &[",", separator, &more[1..more.len() - 1]]))
            }
        }
    }

    /// Without a key and its value.
    fn without(&self) -> Result<Edit, NotEdited> {
        let depth = self.patch.path.len();
        let path = self.path(depth);
        let pair = self.layout.key_of(path)?.start
            ..self.layout.end_of(path, self.value_at(depth).unwrap_or(&Value::Null))?;
        let parent = self.range_of(depth - 1)?.ok_or(NotEdited)?;
        let siblings = self.value_at(depth - 1).and_then(Value::as_object).map_or(0, Map::len);
        match self.layout.style(&parent) {
            // An empty mapping is written as one.
            Style::Block(_) if siblings == 1 => Ok(edit(pair, &["{}"])),
            Style::Block(_) => {
                let line_start = self.layout.line_start(pair.start);
                if !self.layout.text[line_start..pair.start].trim().is_empty() {
                    // The first key of a list item stands behind its dash.
                    let rest = &self.layout.text[pair.end..];
                    let next = rest.len() - rest.trim_start().len();
                    return Ok(edit(pair.start..pair.end + next, &[]));
                }
                let end = self.layout.line_end(pair.end);
                let end = end + self.layout.text[end..].find('\n').map_or(0, |newline| newline + 1);
                Ok(edit(line_start..end, &[]))
            }
            Style::Flow => Ok(edit(self.layout.with_comma(pair, &parent), &[])),
        }
    }

    /// With another key before the same value.
    fn renamed(&self, key: &str) -> Result<Edit, NotEdited> {
        let old = self.layout.key_of(&self.patch.path)?;
        let new = self.quoted_like(&old, key).unwrap_or_else(|| flow(&Value::from(key)));
        Ok(edit(old, &[&new]))
    }

    /// In lines of its own, if the old text has them, indented as they are.
    fn literal(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let (header, lines) = self.layout.text[old.clone()].split_once('\n')?;
        let first = lines.lines().find(|line| !line.trim().is_empty())?;
        let indent = &first[..first.len() - first.trim_start_matches(' ').len()];
        let is_printable =
            |it: char| it == '\n' || !it.is_control() && !"\u{2028}\u{2029}\u{feff}".contains(it);
        let content = text.trim_end_matches('\n');
        let chomping = match text.len() - content.len() {
            0 => "|-",
            1 => "|",
            _ => return None,
        };
        if !header.starts_with(['|', '>'])
            || content.is_empty()
            || content.starts_with([' ', '\n'])
            || !text.chars().all(is_printable)
        {
            return None;
        }
        let line_break = self.layout.line_break();
        let mut literal = Zeroizing::new(chomping.to_owned());
        for line in content.split('\n') {
            literal.push_str(line_break);
            if !line.is_empty() {
                literal.extend([indent, line]);
            }
        }
        Some(literal)
    }

    /// In the quotes of the old value, if it has some and the new one can stand in them.
    fn quoted_like(&self, old: &Range<usize>, text: &str) -> Option<Zeroizing<String>> {
        let quote = self.layout.text[old.clone()]
            .chars()
            .next()
            .filter(|first| ['\'', '"'].contains(first));
        let is_simple =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=._-".contains(&byte));
        match quote {
            Some(quote) if is_simple => Some(Zeroizing::new(format!("{quote}{text}{quote}"))),
            None if write::is_plain(text) && (!self.is_json() || self.is_text()) => {
                Some(Zeroizing::new(text.to_owned()))
            }
            _ => None,
        }
    }

    /// Whether the field is text by now; without quotes there is none in JSON.
    fn is_text(&self) -> bool {
        self.value_at(self.patch.path.len()).is_some_and(Value::is_string)
    }

    fn is_json(&self) -> bool {
        self.layout.text.trim_start().starts_with('{')
    }
}

/// Whether a value is written on lines of its own in block style.
fn takes_lines(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
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
    fn keys_are_renamed_in_every_style() {
        let rename = |text: &str, path: &[&str], key| {
            let file = file(text);
            let patch = Patch::rename(&file.objects().unwrap()[0], path, key);
            file.patched(&[patch]).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        for (before, path, key, after) in [
            ("s:\n  # a\n  a: x # c\nt: 1\n", &["s"][..], "r", "r:\n  # a\n  a: x # c\nt: 1\n"),
            ("s:\n  'a': |\n    x\n", &["s", "a"], "b", "s:\n  'b': |\n    x\n"),
            ("s:\n  a: x\n", &["s", "a"], "1", "s:\n  \"1\": x\n"),
            ("s: {\"a\": x, b: y}\n", &["s", "a"], "c", "s: {\"c\": x, b: y}\n"),
            ("s: {a: x}\n", &["s", "b"], "c", "s: {a: x}\n"),
        ] {
            let [before, after] = [before, after].map(|text| format!("{HEAD}{text}"));
            assert_eq!(rename(&before, path, key), Ok(after), "{before}");
        }
        let taken = format!("{HEAD}s: {{a: x, b: y}}\n");
        assert_eq!(rename(&taken, &["s", "a"], "b"), Err(NotEdited));
        let json = "{\"apiVersion\": \"v1\", \"kind\": \"K\", \"s\": {\"a\": \"x\"}}";
        assert_eq!(rename(json, &["s"], "r"), Ok(json.replace("\"s\"", "\"r\"")));
    }

    #[test]
    fn text_in_lines_stays_in_lines() {
        for (before, new, after) in [
            ("s: |\n  x\n  y\nt: 1\n", "x\n\nz\n", "s: |\n  x\n\n  z\nt: 1\n"),
            ("s: |\n    x\n  # c\nt: 1\n", "z: #", "s: |-\n    z: #\n  # c\nt: 1\n"),
            ("s: >-\n  x\n  y\nt: 1\n", "z", "s: |-\n  z\nt: 1\n"),
            ("s: |\n  x\nt: 1\n", " z\n", "s: \" z\\n\"\nt: 1\n"),
        ] {
            for line_break in ["\n", "\r\n"] {
                let [before, after] =
                    [before, after].map(|text| format!("{HEAD}{text}").replace('\n', line_break));
                assert_eq!(patched(&before, &["s"], Some(json!(new))), Ok(after), "{before}");
            }
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
    fn items_are_added_at_the_end_of_lists() {
        let item = json!({"b": 1, "a": ["x"]});
        for (before, after) in [
            (
                "l:\n  - y\n  # end\nt: 1\n",
                "l:\n  - y\n  - a:\n      - x\n    b: 1\n  # end\nt: 1\n",
            ),
            ("l:\n- y: 1 # c\n  z: 2\n", "l:\n- y: 1 # c\n  z: 2\n- a:\n    - x\n  b: 1\n"),
            ("l: [y]\n", "l: [y, {\"a\":[\"x\"],\"b\":1}]\n"),
            ("l: # c\nt: 1\n", "l: # c\n  - a:\n      - x\n    b: 1\nt: 1\n"),
            ("l: [] # c\n", "l: # c\n  - a:\n      - x\n    b: 1\n"),
            ("t: 1\n", "t: 1\nl:\n  - a:\n      - x\n    b: 1\n"),
        ] {
            let file = file(&format!("{HEAD}{before}"));
            let objects = file.objects().unwrap();
            let patch = Patch::append(&objects[0], &["l"], item.clone());
            let bytes = file.patched(&[patch]).unwrap();
            assert_eq!(str::from_utf8(&bytes).unwrap(), format!("{HEAD}{after}"));
        }
        let json =
            "{\"apiVersion\": \"v1\", \"kind\": \"K\",\n \"l\": [\n  1\n ],\n \"e\": []\n}\n";
        let file = file(json);
        let objects = file.objects().unwrap();
        let of_item = [Step::Key("l"), Step::Index(1), Step::Key("k")];
        let patches = [
            Patch::append(&objects[0], &["l"], json!({"i": 2})),
            Patch::set(&objects[0], &of_item, json!(3)),
            Patch::append(&objects[0], &["e"], json!("x")),
        ];
        let bytes = file.patched(&patches).unwrap();
        let expected = json.replacen("1\n", "1,\n  {\"i\":2, \"k\":3}\n", 1).replacen(
            "\"e\": []",
            "\"e\": [\"x\"]",
            1,
        );
        assert_eq!(str::from_utf8(&bytes).unwrap(), expected);
        // What is no list gets no item, and a list no item that it has not.
        let no_list = Patch::append(&objects[0], &["kind"], json!(1));
        let beyond = Patch::set(&objects[0], &[Step::Key("l"), Step::Index(1)], json!(1));
        for patch in [no_list, beyond] {
            assert_eq!(file.patched(&[patch]).unwrap_err(), NotEdited);
        }
    }

    #[test]
    fn an_object_in_braces_need_not_be_json() {
        let text = |value| format!("{{apiVersion: v1, kind: K, s: {{a: {value}, b: 'y'}}}}\n");
        for (old, value, new) in
            [("x", json!("z"), "z"), ("x", json!("yes"), "\"yes\""), ("1", json!("z"), "\"z\"")]
        {
            assert_eq!(patched(&text(old), &["s", "a"], Some(value)), Ok(text(new)));
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
    fn objects_of_a_list_are_patched_together_as_they_are_one_after_the_other() {
        let head = "apiVersion: v1\nkind: List\nitems:";
        let block =
            "- apiVersion: v1\n  b: x # why\n  kind: K\n  s:\n    a: x\n    # two\n    b: [1]\n";
        let first = "- b: x # why\n  apiVersion: v1\n  kind: K\n  s: {b: [], a: 'x'}\n";
        let flow = "{apiVersion: v1, kind: K, b: x, s: {a: x, b: [1]}}";
        let json = r#"{"apiVersion": "v1", "kind": "K", "b": 1, "s": {"b": [1], "a": "x"}}"#;
        for text in [
            format!("{head}\n{block}# end\n{first}{first}{block}"),
            format!("{head} [{flow}, {flow},\n  {flow}\n]\n"),
            format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{json}, {json},{json}]}}"#),
        ] {
            let file = file(&text);
            let objects = file.objects().unwrap();
            let of = |object: &Object<'_>| {
                [
                    Patch::set(object, &["s", "a"], json!("new")),
                    Patch::remove(object, &["b"]),
                    Patch::set(object, &["z", "y"], json!(["more"])),
                    Patch::append(object, &["s", "b"], json!(2)),
                    Patch::rename(object, &["s"], "t"),
                ]
            };
            let patches: Vec<_> = objects.iter().flat_map(of).collect();
            let together = file.patched(&patches).unwrap();
            let mut text = text.clone();
            for patch in patches {
                let patched = self::file(&text).patched(&[patch]).unwrap();
                text = String::from_utf8(patched.to_vec()).unwrap();
            }
            assert_eq!(String::from_utf8_lossy(&together), text);
        }
    }

    #[test]
    fn a_patch_is_moved_to_an_object_that_has_the_same_in_the_field() {
        let item = "- apiVersion: v1\n  kind: K\n  s:\n    a: x\n";
        let list = file(&format!("apiVersion: v1\nkind: List\nitems:\n{item}"));
        let list = list.objects().unwrap();
        let other = file(&format!("{HEAD}t: 1\n---\n{HEAD}s:\n  a: x\n  b: y\n"));
        let objects = other.objects().unwrap();
        let patches = [
            Patch::set(&list[0], &["s", "a"], json!("new")),
            Patch::set(&list[0], &["s", "c"], json!("new")),
        ];
        let moved = patches.each_ref().map(|patch| patch.moved(&list[0], &objects[1]).unwrap());
        let new = String::from_utf8(other.patched(&moved).unwrap().to_vec()).unwrap();
        assert!(new.ends_with("s:\n  a: new\n  b: y\n  c: new\n"), "{new}");
        let set = Patch::set(&list[0], &["s", "b"], json!("new"));
        assert!(set.moved(&list[0], &objects[1]).is_none());
        assert!(patches[0].moved(&list[0], &objects[0]).is_none());
    }

    #[test]
    fn what_an_alias_says_twice_is_not_edited() {
        let text = format!("{HEAD}s: &v\n  a: x\nt: *v\n");
        assert_eq!(patched(&text, &["s", "a"], Some(json!("y"))), Err(NotEdited));
        assert_eq!(patched(&text, &["t", "a"], Some(json!("y"))), Err(NotEdited));
    }
}
