//! A document as a tree of values that is wiped, and paths within it.

use serde_json::Value;
use zeroize::Zeroize;

/// A tree that is wiped when it is dropped.
pub struct Tree(Value);

impl Tree {
    /// Takes a tree, to wipe it when dropped.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// The tree.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The tree, for changes in place.
    pub(crate) fn value_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    /// Moves the tree out of this guard and into another.
    pub(crate) fn take(&mut self) -> Value {
        self.0.take()
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
pub enum Step<'a> {
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

impl Step<'_> {
    /// The value that it leads to.
    pub fn of(self, value: &Value) -> Option<&Value> {
        match self {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        }
    }
}

/// A [`Step`] that owns its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OwnedStep {
    /// To the value of a key.
    Key(String),
    /// To an item, counted from 0.
    Index(usize),
}

impl OwnedStep {
    /// The same step, borrowed.
    pub fn as_step(&self) -> Step<'_> {
        match self {
            Self::Key(key) => Step::Key(key),
            Self::Index(index) => Step::Index(*index),
        }
    }
}

impl From<Step<'_>> for OwnedStep {
    fn from(step: Step<'_>) -> Self {
        match step {
            Step::Key(key) => Self::Key(key.to_owned()),
            Step::Index(index) => Self::Index(index),
        }
    }
}

/// The value at the end of a path.
pub(crate) fn value_at<'a>(tree: &'a Value, path: &[OwnedStep]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, step| match step {
        OwnedStep::Key(key) => value.get(key),
        OwnedStep::Index(index) => value.get(index),
    })
}

/// A path as people write it: `spec.template.metadata.labels.team`, `items[2]`.
pub fn path_text(path: &[Step<'_>]) -> String {
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
