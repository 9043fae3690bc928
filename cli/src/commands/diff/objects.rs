//! The SealedSecrets and Secrets of both sides, each with its counterpart.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::commands::diff::sides::SideFile;
use crate::files::walk::{self, OpenFile};
use crate::manifest::{self, Object, ObjectKind};
use crate::parallel::in_parallel;
use crate::report::diagnostic::{self, Diagnostic};
use crate::report::failure::Failure;

/// An object that is compared.
pub(super) struct ComparedObject<'a> {
    pub(super) path: &'a Path,
    pub(super) object: Object<'a>,
    pub(super) kind: ObjectKind,
}

/// An object before and after; at least one of the two exists.
pub(super) struct ObjectPair<'a> {
    pub(super) old: Option<&'a ComparedObject<'a>>,
    pub(super) new: Option<&'a ComparedObject<'a>>,
}

/// Parses the files of a side, on all processors. Leaves out those that cannot be read.
pub(super) fn parse<'a>(
    files: &'a [SideFile],
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<(&'a Path, OpenFile)>, Failure> {
    let parsed = in_parallel(files.len(), |index| {
        walk::parse(files[index].input.clone(), files[index].is_named, walk::OURS)
    });
    let mut readable = Vec::new();
    for (file, outcome) in files.iter().zip(parsed) {
        readable.extend(outcome?.opened(diagnostics).map(|open| (file.path.as_path(), open)));
    }
    Ok(readable)
}

/// The objects of a side that are compared, in the order of files and documents.
pub(super) fn entries<'a>(
    files: &'a [(&Path, OpenFile)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ComparedObject<'a>> {
    let mut entries = Vec::new();
    for (path, open) in files {
        for object in open.objects() {
            let kind = ObjectKind::of(&object);
            match kind {
                ObjectKind::SealedSecret | ObjectKind::Secret => {
                    entries.push(ComparedObject { path, object, kind });
                }
                _ if manifest::is_unknown_version(&object) => {
                    diagnostics.push(diagnostic::unknown_version(&object));
                }
                ObjectKind::OtherOfOurs | ObjectKind::Other => {}
            }
        }
    }
    entries
}

impl ComparedObject<'_> {
    fn sealed_data(&self) -> Option<&Value> {
        self.object.value.pointer("/spec/sealedData")
    }
}

/// Each object with its counterpart of the same kind, namespace and name. Overlays have several objects with one
/// name: those in the same file are paired first, then those with the same values, then the rest in order.
pub(super) fn pairs<'a>(
    old: &'a [ComparedObject<'a>],
    new: &'a [ComparedObject<'a>],
) -> Vec<ObjectPair<'a>> {
    type Group<'a> = (Vec<&'a ComparedObject<'a>>, Vec<&'a ComparedObject<'a>>);
    let mut groups: BTreeMap<_, Group<'a>> = BTreeMap::new();
    let group_of = |entry: &'a ComparedObject<'a>| {
        let is_clear = entry.kind == ObjectKind::Secret;
        (entry.object.metadata_field("namespace"), entry.object.metadata_field("name"), is_clear)
    };
    for entry in old {
        groups.entry(group_of(entry)).or_default().0.push(entry);
    }
    for entry in new {
        groups.entry(group_of(entry)).or_default().1.push(entry);
    }
    let mut pairs = Vec::new();
    for (mut old, mut new) in groups.into_values() {
        let mut take = |is_match: fn(&ComparedObject<'_>, &ComparedObject<'_>) -> bool| {
            old.retain(|old| {
                let Some(at) = new.iter().position(|new| is_match(old, new)) else { return true };
                pairs.push(ObjectPair { old: Some(old), new: Some(new.remove(at)) });
                false
            });
        };
        take(|old, new| old.path == new.path);
        take(|old, new| old.sealed_data() == new.sealed_data());
        take(|_, _| true);
        pairs.extend(old.into_iter().map(|old| ObjectPair { old: Some(old), new: None }));
        pairs.extend(new.into_iter().map(|new| ObjectPair { old: None, new: Some(new) }));
    }
    pairs
}
