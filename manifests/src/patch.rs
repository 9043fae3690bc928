//! Patches that set, remove, rename and move fields of an object and add items to its lists, and their effect on the
//! tree.

use serde_json::{Map, Value};

use crate::document::Document;
use crate::object::Object;
use crate::tree::{OwnedStep, Step};

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
        let field = |object: &Object<'_>| {
            within.iter().try_fold(object.value, |value, step| step.as_step().of(value)).cloned()
        };
        if field(old) != field(new) {
            return None;
        }
        let within: Vec<_> = within.iter().map(OwnedStep::as_step).collect();
        Some(Self::new(new, &within, self.action.clone()))
    }

    /// Whether it is for this document.
    pub(crate) fn is_for(&self, document: &Document) -> bool {
        self.document == document.number()
    }

    pub(crate) fn steps(&self, depth: usize) -> impl Iterator<Item = Step<'_>> {
        self.path[..depth].iter().map(OwnedStep::as_step)
    }

    /// The value after the first `depth` steps of its path.
    pub(crate) fn value_at<'a>(&self, tree: &'a Value, depth: usize) -> Option<&'a Value> {
        self.steps(depth).try_fold(tree, |value, step| step.of(value))
    }

    /// Changes a tree as its text is changed.
    pub(crate) fn apply_to(&self, document: &mut Value) -> Result<(), NotEdited> {
        if let Action::Move(to) = &self.action {
            return match self.value_at(document, self.path.len()) {
                Some(_) => move_in(document, &self.path, to),
                None => Ok(()),
            };
        }
        let (last, parents) = self.path.split_last().ok_or(NotEdited)?;
        let mut value = document;
        for step in parents {
            if matches!(self.action, Action::Remove | Action::Rename(_))
                && step.as_step().of(value).is_none()
            {
                return Ok(());
            }
            value = child_to_be(value, step)?;
        }
        match (&self.action, last, value) {
            (Action::Set(new), _, value) => *child_to_be(value, last)? = new.clone(),
            (Action::Append(item), _, value) => match child_to_be(value, last)? {
                Value::Array(items) => items.push(item.clone()),
                list @ Value::Null => *list = Value::from(vec![item.clone()]),
                _ => return Err(NotEdited),
            },
            (Action::Remove, OwnedStep::Key(key), Value::Object(map)) => {
                map.remove(key);
            }
            (Action::Rename(key), OwnedStep::Key(old), Value::Object(map)) => {
                if let Some(value) = map.remove(old)
                    && map.insert(key.clone(), value).is_some()
                {
                    return Err(NotEdited);
                }
            }
            (Action::Remove | Action::Rename(_), _, Value::Null) => {}
            (Action::Remove | Action::Rename(_) | Action::Move(_), ..) => return Err(NotEdited),
        }
        Ok(())
    }

    /// Whether the patch changes a document with this tree.
    pub(crate) fn changes(&self, tree: &Value) -> bool {
        let old = self.value_at(tree, self.path.len());
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
        let mapping = self.value_at(tree, parents.len())?.as_object()?;
        let is_new = self.value_at(tree, self.path.len()).is_none();
        let is_set = matches!(self.action, Action::Set(_));
        (is_set && is_new && !mapping.is_empty()).then_some(parents)
    }

    /// Whether the patch replaces one scalar with another.
    pub(crate) fn is_exchange(&self, tree: &Value) -> bool {
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        let old = self.value_at(tree, self.path.len());
        matches!(&self.action, Action::Set(new) if is_scalar(new)) && old.is_some_and(is_scalar)
    }
}

/// Moves a field within a tree.
fn move_in(document: &mut Value, from: &[OwnedStep], to: &[OwnedStep]) -> Result<(), NotEdited> {
    let (last, parents) = from.split_last().ok_or(NotEdited)?;
    let mut parent = &mut *document;
    for step in parents {
        parent = match step {
            OwnedStep::Key(key) => parent.get_mut(key),
            OwnedStep::Index(index) => parent.get_mut(*index),
        }
        .ok_or(NotEdited)?;
    }
    let value = match last {
        OwnedStep::Key(key) => parent.as_object_mut().and_then(|map| map.remove(key)),
        OwnedStep::Index(_) => None,
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

/// The existing child, or in a mapping a new one that is null.
fn child_to_be<'a>(value: &'a mut Value, step: &OwnedStep) -> Result<&'a mut Value, NotEdited> {
    match step {
        OwnedStep::Key(key) => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            let map = value.as_object_mut().ok_or(NotEdited)?;
            Ok(map.entry(key.as_str()).or_insert(Value::Null))
        }
        OwnedStep::Index(index) => value.get_mut(index).ok_or(NotEdited),
    }
}
