//! The changes that turn the text of a Secret into a SealedSecret; comments, order and quotes stay.

use serde_json::{Map, Value};

use crate::manifest::{Object, Patch, Step};

/// The fields that hold values; a key of the first hides the same key of the second.
const VALUES: [&str; 2] = ["stringData", "data"];

/// The changes that turn a Secret into `sealed`.
pub(super) fn patches(object: &Object<'_>, sealed: &Value) -> Vec<Patch> {
    let secret = SecretFields { object, sealed };
    let mut patches = Vec::new();
    for field in ["apiVersion", "kind"] {
        patches.extend(secret.set(&[field], &[field]));
    }
    patches.extend(secret.metadata());
    // The first one in the file becomes the spec.
    let mut fields = VALUES;
    fields.sort_by_key(|field| object.position(&[Step::Key(field)]).line);
    for field in fields {
        patches.extend(secret.values(field));
    }
    for field in ["labels", "annotations"] {
        let to = ["spec", "template", "metadata", field];
        patches.extend(secret.template_field(&["metadata", field], &to));
    }
    for field in ["type", "immutable"] {
        patches.extend(secret.template_field(&[field], &["spec", "template", field]));
    }
    patches
}

/// The fields of a Secret, and the SealedSecret that they become.
struct SecretFields<'a> {
    object: &'a Object<'a>,
    sealed: &'a Value,
}

impl<'a> SecretFields<'a> {
    /// Sets the field to what the SealedSecret has at another path, if it has something there.
    fn set(&self, path: &[&str], sealed: &[&str]) -> Option<Patch> {
        at(self.sealed, sealed).map(|value| Patch::set(self.object, path, value.clone()))
    }

    fn remove(&self, path: &[&str]) -> Patch {
        Patch::remove(self.object, path)
    }

    fn keys(&self, path: &[&str]) -> impl Iterator<Item = &'a str> {
        let map = at(self.object.value, path).and_then(Value::as_object);
        map.into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Sets name and namespace, and removes the fields that the API server writes: they mean nothing in a file.
    fn metadata(&self) -> Vec<Patch> {
        const NAMES: [&str; 2] = ["name", "namespace"];
        const MOVED: [&str; 2] = ["labels", "annotations"];
        let set = NAMES.iter().filter_map(|field| {
            let path = ["metadata", field];
            self.set(&path, &path)
        });
        let is_gone = |field: &&str| {
            !MOVED.contains(field) && at(self.sealed, &["metadata", field]).is_none()
        };
        let gone = self.keys(&["metadata"]).filter(is_gone);
        set.chain(gone.map(|field| self.remove(&["metadata", field]))).collect()
    }

    /// The sealed values of a field, moved into the spec.
    fn values(&self, field: &str) -> Vec<Patch> {
        const SEALED: [&str; 2] = ["spec", "sealedData"];
        let is_hidden =
            |key: &&str| field != VALUES[0] && self.keys(&[VALUES[0]]).any(|other| other == *key);
        let (hidden, keys): (Vec<_>, Vec<_>) = self.keys(&[field]).partition(is_hidden);
        if keys.is_empty() {
            return vec![self.remove(&[field])];
        }
        let mut patches: Vec<_> = hidden.iter().map(|key| self.remove(&[field, key])).collect();
        patches.extend(
            keys.iter().filter_map(|key| self.set(&[field, key], &[SEALED[0], SEALED[1], key])),
        );
        patches.push(Patch::move_to(self.object, &[field], &SEALED));
        patches
    }

    /// Moves a field into the template, with only the content that the SealedSecret has there.
    fn template_field(&self, from: &[&str], to: &[&str]) -> Vec<Patch> {
        let move_to = Patch::move_to(self.object, from, to);
        match at(self.sealed, to) {
            None => vec![self.remove(from)],
            Some(Value::Object(map)) => {
                let gone = self.keys(from).filter(|key| !map.contains_key(*key));
                let gone = gone.map(|key| self.remove(&[from, &[key]].concat()));
                let set = map.iter().map(|(key, value)| {
                    Patch::set(self.object, &[from, &[key]].concat(), value.clone())
                });
                gone.chain(set).chain([move_to]).collect()
            }
            Some(value) => vec![Patch::set(self.object, from, value.clone()), move_to],
        }
    }
}

fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}
