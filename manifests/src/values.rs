//! The values of a document: no duplicate keys, no tags, bounded in size, wiped.
//!
//! This crate wipes what it holds: the file's bytes, its text and the tree. It cannot wipe what the YAML and
//! JSON libraries hold while they parse (token, event and escape buffers, freed without being overwritten),
//! nor memory that the operating system swapped out.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::outline::{self, MAX_DEPTH};
use crate::position::ReadError;
use crate::tree::Tree;

/// The memory that a document may take in addition to eight times its text.
const SPARE_BYTES: usize = 48 * 1024 * 1024;

/// The memory counted for a value without its text, and the extra memory for a mapping: a node of its tree.
const NODE_BYTES: usize = 32;
const MAPPING_BYTES: usize = 640;

/// Whether so many brackets are open at once, or so many dashes and question marks follow one another, that they may
/// nest too deeply. Those inside texts are counted too.
fn may_be_deep(text: &str) -> bool {
    let (mut depth, mut indicators) = (0_usize, 0_usize);
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'?' => indicators += 1,
            b' ' => {}
            _ => indicators = 0,
        }
        depth > MAX_DEPTH || indicators > MAX_DEPTH
    })
}

/// Reads one YAML document.
pub(crate) fn parse_yaml(text: &str) -> Result<Tree, ReadError> {
    if let Some(place) = binary_tag(text) {
        return Err(ReadError {
            what: "!!binary is not supported; use data, which is base64",
            place: Some(place),
        });
    }
    // The YAML library has a limit too, but its time grows with the square of the depth.
    if may_be_deep(text) {
        outline::refuse_depth(text)?;
    }
    let reader = ValueReader::for_text(text);
    let value = ValueSeed(&reader).deserialize(yaml_serde::Deserializer::from_str(text));
    value.map(Tree::new).map_err(|error| ReadError {
        what: reader.complaint.take().unwrap_or_else(|| yaml_complaint(&error, text)),
        place: error.location().map(|location| (location.line(), location.column())),
    })
}

/// Reads one JSON document.
pub(crate) fn parse_json(text: &str) -> Result<Tree, ReadError> {
    let reader = ValueReader::for_text(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    ValueSeed(&reader).deserialize(&mut deserializer).map(Tree::new).map_err(|error| ReadError {
        what: reader.complaint.take().unwrap_or("not valid JSON"),
        place: (error.line() > 0).then(|| (error.line(), error.column())),
    })
}

/// Replaces the YAML library's fixed phrases with helpful ones. Its other messages are dropped.
fn yaml_complaint(error: &yaml_serde::Error, text: &str) -> &'static str {
    const TAB: &str = "not valid YAML: indented with a tab; use spaces";
    const ESCAPE: &str =
        "not valid YAML: in double quotes a backslash begins an escape; use single quotes";
    const PHRASES: [(&str, &str); 16] = [
        ("found a tab character", TAB),
        (
            "found character that cannot start any token",
            "not valid YAML: a character that cannot begin a value; quote the text",
        ),
        ("found unexpected end of stream", "not valid YAML: the text ends too early"),
        ("found unexpected document indicator", "not valid YAML: the text ends too early"),
        ("mapping values are not allowed", "not valid YAML: unexpected colon; quote the text"),
        ("mapping keys are not allowed", "not valid YAML: unexpected key"),
        ("block sequence entries are not allowed", "not valid YAML: unexpected list item"),
        ("could not find expected ':'", "not valid YAML: a key without a colon"),
        ("did not find expected key", "not valid YAML: the indentation or a quote is wrong"),
        ("did not find expected ',' or", "not valid YAML: a comma or closing bracket is missing"),
        ("found unknown escape character", ESCAPE),
        ("did not find expected hexdecimal number", ESCAPE),
        ("did not find expected hexadecimal number", ESCAPE),
        (
            "unknown anchor",
            "not valid YAML: an alias without an anchor; quote a text that begins with *",
        ),
        ("repetition limit exceeded", "the aliases expand to too much"),
        ("recursion limit exceeded", "nested too deeply"),
    ];
    if has_conflict_markers(text) {
        return "Git's conflict markers are in the text; resolve the conflict first";
    }
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

/// Whether a merge left both sides of a conflict in a text.
fn has_conflict_markers(text: &str) -> bool {
    let has = |marker: &str| text.lines().any(|line| line.starts_with(marker));
    has("<<<<<<< ") && has(">>>>>>> ")
}

/// Where a value is tagged `!!binary`. The library reads it as text, so its base64 would be sealed as if it were the
/// value.
fn binary_tag(text: &str) -> Option<(usize, usize)> {
    text.match_indices("!!binary").find_map(|(offset, _)| {
        let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let before = &text[line_start..offset];
        let is_tag = before.trim_end().is_empty()
            || before.ends_with(' ') && before.trim_end().ends_with([':', '-', '?', ',', '[', '{']);
        is_tag.then(|| (text[..offset].matches('\n').count() + 1, before.chars().count() + 1))
    })
}

/// The state while one document is read.
struct ValueReader {
    bytes_left: Cell<usize>,
    complaint: Cell<Option<&'static str>>,
}

impl ValueReader {
    fn for_text(text: &str) -> Self {
        Self { bytes_left: Cell::new(SPARE_BYTES + 8 * text.len()), complaint: Cell::new(None) }
    }

    /// An error whose own text is dropped; only `complaint` leaves this file.
    fn refuse<E: de::Error>(&self, complaint: &'static str) -> E {
        self.complaint.set(Some(complaint));
        E::custom(complaint)
    }

    fn spend<E: de::Error>(&self, bytes: usize) -> Result<(), E> {
        let Some(left) = self.bytes_left.get().checked_sub(bytes + NODE_BYTES) else {
            let what = "too many values for one document, or aliases that expand to too much";
            return Err(self.refuse(what));
        };
        self.bytes_left.set(left);
        Ok(())
    }
}

struct ValueSeed<'a>(&'a ValueReader);

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

    /// No field that is read holds a fraction, so it only matters that the value is a number.
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
        // In a `Tree` from the beginning, so that a later error wipes the values that were read.
        let mut tree = Tree::new(Value::Array(Vec::new()));
        while let Some(value) = access.next_element_seed(ValueSeed(self.0))? {
            if let Value::Array(values) = tree.value_mut() {
                values.push(value);
            }
        }
        Ok(tree.take())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.0.spend(MAPPING_BYTES)?;
        let mut tree = Tree::new(Value::Object(Map::new()));
        let empty = Map::new();
        loop {
            let earlier = tree.value().as_object().unwrap_or(&empty);
            let Some(key) = access.next_key_seed(KeySeed { reader: self.0, earlier })? else {
                break;
            };
            let value = access.next_value_seed(ValueSeed(self.0))?;
            if let Value::Object(map) = tree.value_mut() {
                map.insert(key, value);
            }
        }
        Ok(tree.take())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(self.0.refuse("YAML tags are not supported"))
    }
}

/// A key. It is refused at its place if it is not text or is a duplicate.
struct KeySeed<'a> {
    reader: &'a ValueReader,
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

    /// Called when the key is not text, for a message that is then dropped.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.complaint.set(Some("the key is not text; quote it"));
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        self.reader.spend(key.len())?;
        if self.earlier.contains_key(key) {
            return Err(self.reader.refuse("duplicate key"));
        }
        Ok(key.to_owned())
    }
}
