//! Patches that set, remove, rename and move fields of an object and add items to its lists, and their effect on the
//! tree.

use serde_json::{Map, Value};

use crate::document::Document;
use crate::object::Object;
use crate::tree::{self, OwnedStep, Step};

/// The file could not be changed as requested without changing something else in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be edited without changing something else in it")]
pub struct NotEdited;

/// A change to one field or one list of one object.
#[derive(Clone, Debug)]
pub struct Patch {
    document: usize,
    /// The index of the object in its list, if it is in one.
    pub(crate) item: Option<usize>,
    /// The steps from the document to the field.
    pub(crate) path: Vec<OwnedStep>,
    pub(crate) action: Action,
}

/// The change to a field.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Set(Value),
    Append(Value),
    Remove,
    /// Gives it another key, in the same place.
    Rename(String),
    /// Moves it to another path, from the document on.
    Move(Vec<OwnedStep>),
}

impl Patch {
    /// Sets a field to a value, whether it exists or not. Missing mappings around it are created.
    pub fn set<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy], value: Value) -> Self {
        Self::new(object, path, Action::Set(value))
    }

    /// Adds an item at the end of a list. A missing list is created.
    pub fn append<'a>(
        object: &Object<'_>,
        path: &[impl Into<Step<'a>> + Copy],
        item: Value,
    ) -> Self {
        Self::new(object, path, Action::Append(item))
    }

    /// Removes a field, if it exists.
    pub fn remove<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy]) -> Self {
        Self::new(object, path, Action::Remove)
    }

    /// Gives a field another key, if it exists. Its value, its comments and its place stay.
    pub fn rename<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy], key: &str) -> Self {
        Self::new(object, path, Action::Rename(key.to_owned()))
    }

    /// Moves a field, if it exists, to another path in the same object. Missing mappings around it are created.
    /// Comments in, after and directly above the field move with it.
    ///
    /// If only the field's own mapping lacks the first missing key, the field keeps its place in the text. Otherwise
    /// it becomes the last one of the innermost existing mapping. If a mapping is moved to an existing mapping, the
    /// existing one gets its keys.
    pub fn move_to<'a>(
        object: &Object<'_>,
        from: &[impl Into<Step<'a>> + Copy],
        to: &[impl Into<Step<'a>> + Copy],
    ) -> Self {
        let to: Vec<Step<'_>> = to.iter().map(|step| (*step).into()).collect();
        let to = object.steps_of(&to).into_iter().map(OwnedStep::from).collect();
        Self::new(object, from, Action::Move(to))
    }

    fn new<'a>(object: &Object<'_>, path: &[impl Into<Step<'a>> + Copy], action: Action) -> Self {
        let path: Vec<Step<'_>> = path.iter().map(|step| (*step).into()).collect();
        let (document, item) = object.place();
        let path = object.steps_of(&path).into_iter().map(OwnedStep::from).collect();
        Self { document, item, path, action }
    }

    /// Sets the same field to another value.
    pub fn with_value(mut self, value: Value) -> Self {
        self.action = Action::Set(value);
        self
    }

    /// The same patch for another object, unless the field has another value there.
    pub fn moved(&self, old: &Object<'_>, new: &Object<'_>) -> Option<Self> {
        let within = self.path.get(old.steps_of(&[]).len()..)?;
        if tree::value_at(old.value, within) != tree::value_at(new.value, within) {
            return None;
        }
        let within: Vec<_> = within.iter().map(OwnedStep::as_step).collect();
        Some(Self::new(new, &within, self.action.clone()))
    }

    /// Whether it is for this document.
    pub(crate) fn is_for(&self, document: &Document) -> bool {
        self.document == document.number()
    }

    /// Changes a tree as its text is changed.
    pub(crate) fn apply_to(&self, document: &mut Value) -> Result<(), NotEdited> {
        match &self.action {
            Action::Set(new) => *place_of(document, &self.path)? = new.clone(),
            Action::Append(item) => match place_of(document, &self.path)? {
                Value::Array(items) => items.push(item.clone()),
                list @ Value::Null => *list = Value::from(vec![item.clone()]),
                _ => return Err(NotEdited),
            },
            _ if tree::value_at(document, &self.path).is_none() => {}
            Action::Remove => drop(taken(document, &self.path)?),
            Action::Rename(key) => {
                let value = taken(document, &self.path)?;
                let parent = place_of(document, &self.path[..self.path.len() - 1])?;
                add(parent, [(key.clone(), value)])?;
            }
            Action::Move(to) => {
                let value = taken(document, &self.path)?;
                match (place_of(document, to)?, value) {
                    (place @ Value::Null, value) => *place = value,
                    (place, Value::Object(more)) => add(place, more)?,
                    _ => return Err(NotEdited),
                }
            }
        }
        Ok(())
    }

    /// Whether the patch changes a document with this tree.
    pub(crate) fn changes(&self, tree: &Value) -> bool {
        let old = tree::value_at(tree, &self.path);
        match &self.action {
            Action::Set(new) => old != Some(new),
            Action::Append(_) => true,
            Action::Remove => old.is_some(),
            Action::Move(to) => old.is_some() && *to != self.path,
            Action::Rename(key) => {
                old.is_some() && self.path.last() != Some(&OwnedStep::Key(key.clone()))
            }
        }
    }

    /// The mapping that gets a new key, if it already has others.
    pub(crate) fn mapping_added_to(&self, tree: &Value) -> Option<&[OwnedStep]> {
        let (_, parents) = self.path.split_last()?;
        let mapping = tree::value_at(tree, parents)?.as_object()?;
        let is_new = tree::value_at(tree, &self.path).is_none();
        let is_set = matches!(self.action, Action::Set(_));
        (is_set && is_new && !mapping.is_empty()).then_some(parents)
    }

    /// Whether the patch replaces one scalar with another.
    pub(crate) fn is_exchange(&self, tree: &Value) -> bool {
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        let old = tree::value_at(tree, &self.path);
        matches!(&self.action, Action::Set(new) if is_scalar(new)) && old.is_some_and(is_scalar)
    }
}

/// Takes a field out of its mapping.
fn taken(document: &mut Value, path: &[OwnedStep]) -> Result<Value, NotEdited> {
    let (last, parents) = path.split_last().ok_or(NotEdited)?;
    match (place_of(document, parents)?, last) {
        (Value::Object(map), OwnedStep::Key(key)) => map.remove(key).ok_or(NotEdited),
        _ => Err(NotEdited),
    }
}

/// Adds fields to a mapping that has none of them.
fn add(
    mapping: &mut Value,
    fields: impl IntoIterator<Item = (String, Value)>,
) -> Result<(), NotEdited> {
    let map = mapping.as_object_mut().ok_or(NotEdited)?;
    let is_new = |(key, value)| map.insert(key, value).is_none();
    if fields.into_iter().all(is_new) { Ok(()) } else { Err(NotEdited) }
}

/// The value at the end of a path. Missing mappings around it are created, and a missing field is null.
fn place_of<'a>(mut value: &'a mut Value, path: &[OwnedStep]) -> Result<&'a mut Value, NotEdited> {
    for step in path {
        value = match step {
            OwnedStep::Key(key) => {
                if value.is_null() {
                    *value = Value::Object(Map::new());
                }
                let map = value.as_object_mut().ok_or(NotEdited)?;
                map.entry(key.as_str()).or_insert(Value::Null)
            }
            OwnedStep::Index(index) => value.get_mut(index).ok_or(NotEdited)?,
        };
    }
    Ok(value)
}
