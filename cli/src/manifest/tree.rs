//! A document as a tree of values, read with our own eyes: no key twice, no tags, bounded, wiped.
//!
//! What we hold is wiped: the file's bytes, its text and this tree. What the YAML and JSON libraries hold
//! while they parse (token, event and escape buffers, freed without being overwritten) is beyond our reach,
//! as is memory that the operating system swapped out.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};
use zeroize::Zeroize;

use crate::files::input::MAX_FILE_BYTES;

/// How much a document may hold when its aliases are followed.
const MAX_TREE_BYTES: usize = 2 * MAX_FILE_BYTES;

/// What a value without its text is reckoned at.
const NODE_BYTES: usize = 32;

/// A tree that is wiped when it is dropped.
pub(crate) struct Tree(Value);

impl Tree {
    /// Takes over a tree, to wipe it.
    pub(crate) fn new(value: Value) -> Self {
        Self(value)
    }

    /// Changes it in place.
    pub(super) fn change<E>(
        &mut self,
        change: impl FnOnce(&mut Value) -> Result<(), E>,
    ) -> Result<(), E> {
        change(&mut self.0)
    }

    /// The tree.
    pub(crate) fn value(&self) -> &Value {
        &self.0
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A step from a value to one within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// To the value of a key.
    Key(&'a str),
    /// To an item, counted from 0.
    Index(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

/// A path as people write it: `spec.template.metadata.labels.team`, `items[2]`.
pub(crate) fn path_text(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// What is wrong with a text, and in which line and column of it, both counted from 1.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) what: &'static str,
    pub(super) place: Option<(usize, usize)>,
}

/// Reads one YAML document.
pub(super) fn parse_yaml(text: &str) -> Result<Tree, Mistake> {
    if let Some(place) = binary_tag(text) {
        return Err(Mistake {
            what: "!!binary is not supported; use data, which is base64",
            place: Some(place),
        });
    }
    let reader = Reader::default();
    reader.seed().deserialize(yaml_serde::Deserializer::from_str(text)).map(Tree).map_err(|error| {
        Mistake {
            what: reader.complaint.take().unwrap_or_else(|| yaml_complaint(&error, text)),
            place: error.location().map(|location| (location.line(), location.column())),
        }
    })
}

/// Reads one JSON document.
pub(super) fn parse_json(text: &str) -> Result<Tree, Mistake> {
    let reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    reader.seed().deserialize(&mut deserializer).map(Tree).map_err(|error| Mistake {
        what: reader.complaint.take().unwrap_or("not valid JSON"),
        place: (error.line() > 0).then(|| (error.line(), error.column())),
    })
}

/// The YAML library's fixed phrases, in words that help. Every other message of it is dropped.
fn yaml_complaint(error: &yaml_serde::Error, text: &str) -> &'static str {
    const TAB: &str = "not valid YAML: a tab where spaces must indent";
    const PHRASES: [(&str, &str); 14] = [
        ("found a tab character", TAB),
        (
            "found character that cannot start any token",
            "not valid YAML: a character that cannot begin a value; quote the text",
        ),
        ("found unexpected end of stream", "not valid YAML: the text ends too early"),
        ("found unexpected document indicator", "not valid YAML: the text ends too early"),
        (
            "mapping values are not allowed",
            "not valid YAML: a colon where no key can stand; quote the text",
        ),
        ("mapping keys are not allowed", "not valid YAML: a key where none can stand"),
        (
            "block sequence entries are not allowed",
            "not valid YAML: a list item where none can stand",
        ),
        ("could not find expected ':'", "not valid YAML: a key without a colon"),
        ("did not find expected key", "not valid YAML: the indentation or a quote is wrong"),
        ("did not find expected ',' or", "not valid YAML: a comma or closing bracket is missing"),
        ("found unknown escape character", "not valid YAML: an unknown escape in a quoted text"),
        ("unknown anchor", "not valid YAML: an alias without its anchor"),
        ("repetition limit exceeded", "the aliases expand to too much"),
        ("recursion limit exceeded", "nested too deeply"),
    ];
    let is_tab = error.location().is_some_and(|location| {
        let line = text.lines().nth(location.line() - 1);
        line.and_then(|line| line.chars().nth(location.column() - 1)) == Some('\t')
    });
    let message = error.to_string();
    let known = PHRASES.iter().find(|(phrase, _)| message.starts_with(phrase));
    match known {
        Some((phrase, _)) if is_tab && phrase.contains("cannot start") => TAB,
        Some((_, complaint)) => complaint,
        None => "not valid YAML",
    }
}

/// Where a value is tagged `!!binary`. The library takes it for text, and its base64 would be sealed as such.
fn binary_tag(text: &str) -> Option<(usize, usize)> {
    text.match_indices("!!binary").find_map(|(offset, _)| {
        let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let before = &text[line_start..offset];
        let is_tag = before.trim_end().is_empty()
            || before.ends_with(' ') && before.trim_end().ends_with([':', '-', '?', ',', '[', '{']);
        is_tag.then(|| (text[..offset].matches('\n').count() + 1, before.chars().count() + 1))
    })
}

/// What is kept while one document is read.
struct Reader {
    bytes_left: Cell<usize>,
    complaint: Cell<Option<&'static str>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { bytes_left: Cell::new(MAX_TREE_BYTES), complaint: Cell::new(None) }
    }
}

impl Reader {
    fn seed(&self) -> ValueSeed<'_> {
        ValueSeed(self)
    }

    /// An error whose own text never leaves this file.
    fn refuse<E: de::Error>(&self, complaint: &'static str) -> E {
        self.complaint.set(Some(complaint));
        E::custom(complaint)
    }

    fn spend<E: de::Error>(&self, bytes: usize) -> Result<(), E> {
        match self.bytes_left.get().checked_sub(bytes + NODE_BYTES) {
            Some(left) => {
                self.bytes_left.set(left);
                Ok(())
            }
            None => Err(self.refuse("the aliases expand to too much")),
        }
    }
}

struct ValueSeed<'a>(&'a Reader);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Value, E> {
        self.visit_f64(0.0)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Value, E> {
        self.visit_f64(0.0)
    }

    /// No field that is read holds a fraction; that it is a number is all that is told of it.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.spend(0)?;
        Ok(Value::Number(Number::from_f64(value).unwrap_or_else(|| Number::from(0))))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.spend(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        // Inside a `Tree` from the beginning, so that an error further on wipes what was read.
        let mut tree = Tree(Value::Array(Vec::new()));
        while let Some(value) = access.next_element_seed(ValueSeed(self.0))? {
            if let Value::Array(values) = &mut tree.0 {
                values.push(value);
            }
        }
        Ok(std::mem::take(&mut tree.0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(0)?;
        let mut tree = Tree(Value::Object(Map::new()));
        let empty = Map::new();
        loop {
            let earlier = tree.0.as_object().unwrap_or(&empty);
            let Some(key) = access.next_key_seed(KeySeed { reader: self.0, earlier })? else {
                break;
            };
            let value = access.next_value_seed(ValueSeed(self.0))?;
            if let Value::Object(map) = &mut tree.0 {
                map.insert(key, value);
            }
        }
        Ok(std::mem::take(&mut tree.0))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.0.refuse("a YAML tag, which no manifest needs"))
    }
}

/// A key, refused where it stands when it is not text or was there before.
struct KeySeed<'a> {
    reader: &'a Reader,
    earlier: &'a Map<String, Value>,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = String;

    /// Asked for when the key is anything but text, for a message that is then dropped.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.complaint.set(Some("a key that is not text; quote it"));
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        self.reader.spend(key.len())?;
        match self.earlier.contains_key(key) {
            true => Err(self.reader.refuse("a key stands twice")),
            false => Ok(key.to_owned()),
        }
    }
}

/// The line and column of `path` in a YAML text, counted from 1 and in characters, or of the innermost part of
/// it that there is.
pub(super) fn locate_in_yaml(text: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
    let error = Locator(path).deserialize(yaml_serde::Deserializer::from_str(text)).err()?;
    error.location().map(|location| (location.line(), location.column()))
}

/// The same for a JSON text, where the column counts bytes and is where the key ends.
pub(super) fn locate_in_json(text: &str, path: &[Step<'_>]) -> Option<(usize, usize)> {
    let error = Locator(path).deserialize(&mut serde_json::Deserializer::from_str(text)).err()?;
    (error.line() > 0).then(|| (error.line(), error.column()))
}

/// Follows a path and fails where it ends: the libraries tell positions only of errors, so there, exactly,
/// for every style of writing, and at no cost as long as nobody asks.
struct Locator<'a>(&'a [Step<'a>]);

impl Locator<'_> {
    fn here<T, E: de::Error>() -> Result<T, E> {
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Locator<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locator<'_> {
    type Value = ();

    /// Every kind of value that is not followed further fails with this, and where it stands.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the end of the path")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((Step::Index(index), rest)) = self.0.split_first() else { return Self::here() };
        for _ in 0..*index {
            access.next_element::<IgnoredAny>()?;
        }
        access.next_element_seed(Locator(rest))?;
        Self::here()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else { return Self::here() };
        while let Some(is_wanted) =
            access.next_key_seed(KeyLocator { wanted, is_last: rest.is_empty() })?
        {
            match is_wanted {
                true => access.next_value_seed(Locator(rest))?,
                false => access.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Self::here()
    }
}

/// Whether a key is the next step; the key of the last step is where the path ends.
struct KeyLocator<'a> {
    wanted: &'a str,
    is_last: bool,
}

impl<'de> DeserializeSeed<'de> for KeyLocator<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeyLocator<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.is_last) {
            (true, true) => Err(E::custom("here")),
            (is_wanted, _) => Ok(is_wanted),
        }
    }
}
