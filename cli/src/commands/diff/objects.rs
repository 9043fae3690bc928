//! The SealedSecrets and Secrets of both sides, each with its counterpart.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::commands::diff::sides::SideFile;
use crate::files::walk;
use crate::manifest::{ManifestFile, Object, ObjectKind};
use crate::parallel::in_parallel;
use crate::report::diagnostic::{self, Diagnostic};

/// The files of a side that could be read.
pub(super) struct Parsed<'a>(Vec<(&'a SideFile, ManifestFile)>);

/// An object that is compared.
pub(super) struct Entry<'a> {
    pub(super) path: &'a Path,
    pub(super) object: Object<'a>,
    pub(super) kind: ObjectKind,
}

/// An object before and after; one of the two is there at least.
pub(super) struct Pair<'a> {
    pub(super) old: Option<&'a Entry<'a>>,
    pub(super) new: Option<&'a Entry<'a>>,
}

/// Parses the files of a side, on all processors.
pub(super) fn parse<'a>(files: &'a [SideFile], refused: &mut Vec<Diagnostic>) -> Parsed<'a> {
    let parsed = in_parallel(files.len(), |index| ManifestFile::parse(files[index].input()));
    let mut readable = Vec::new();
    for (file, parsed) in files.iter().zip(parsed) {
        match parsed {
            Ok(manifests) => readable.push((file, manifests)),
            // Among the files of a tree there may be anything, and templates of charts are no YAML.
            Err(_) if !file.is_named && !is_ours(file) => {}
            Err(error) => refused.push(Diagnostic::file(&file.name, error, None)),
        }
    }
    Parsed(readable)
}

fn is_ours(file: &SideFile) -> bool {
    walk::mentions(&file.bytes, &format!("{}/", bulla_crds::GROUP))
}

impl Parsed<'_> {
    /// The objects that are compared, in the order of files and documents.
    pub(super) fn entries(&self, refused: &mut Vec<Diagnostic>) -> Vec<Entry<'_>> {
        let mut entries = Vec::new();
        for (file, manifests) in &self.0 {
            let objects = match file.is_named {
                true => manifests.objects(),
                false => manifests.objects_among_others().map(|(objects, _)| objects),
            };
            let objects = objects.unwrap_or_else(|error| {
                refused.push(Diagnostic::file(&file.name, error, None));
                Vec::new()
            });
            for object in objects {
                let kind = object.kind();
                match kind {
                    ObjectKind::SealedSecret | ObjectKind::Secret => {
                        entries.push(Entry { path: &file.path, object, kind });
                    }
                    ObjectKind::OtherOfOurs if object.is_unknown_version() => {
                        refused.push(diagnostic::unknown_version(&object));
                    }
                    ObjectKind::OtherOfOurs | ObjectKind::Other => {}
                }
            }
        }
        entries
    }
}

impl Entry<'_> {
    fn sealed_data(&self) -> Option<&Value> {
        self.object.value.pointer("/spec/sealedData")
    }
}

/// Each object with its counterpart of the same kind, namespace and name. Overlays have several of one name: those
/// in one file belong together, then those with the same values, then whatever is left, in order.
pub(super) fn pairs<'a>(old: &'a [Entry<'a>], new: &'a [Entry<'a>]) -> Vec<Pair<'a>> {
    type Group<'a> = (Vec<&'a Entry<'a>>, Vec<&'a Entry<'a>>);
    let mut groups: BTreeMap<_, Group<'a>> = BTreeMap::new();
    let group_of = |entry: &'a Entry<'a>| {
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
        let mut take = |is_match: fn(&Entry<'_>, &Entry<'_>) -> bool| {
            old.retain(|old| {
                let Some(at) = new.iter().position(|new| is_match(old, new)) else { return true };
                pairs.push(Pair { old: Some(old), new: Some(new.remove(at)) });
                false
            });
        };
        take(|old, new| old.path == new.path);
        take(|old, new| old.sealed_data() == new.sealed_data());
        take(|_, _| true);
        pairs.extend(old.into_iter().map(|old| Pair { old: Some(old), new: None }));
        pairs.extend(new.into_iter().map(|new| Pair { old: None, new: Some(new) }));
    }
    pairs
}
