//! A file with SealedSecrets that is changed in place: it is read, the object is picked, the change is checked, and the
//! file is replaced as a whole, or not at all.

mod merge;
mod pick;
pub(crate) mod put;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_crds::{ParsedValues, json_length, rules};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::files::input;
use crate::files::write;
use crate::manifest::{self, FlawKind, ManifestFile, NotEdited, Object, ObjectKind, Patch};
use crate::report::failure::{Failure, OrHint};

pub(crate) use merge::{MergedSecret, Sealer};
pub(crate) use pick::{PickFlags, Picked};

/// A file that was read to be changed.
pub(crate) struct SealedFile {
    path: PathBuf,
    manifests: ManifestFile,
}

impl SealedFile {
    /// Reads a file and checks that it can be written, so that nobody types a value in vain.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Err(anyhow!("cannot change stdin in place")).or_hint("name a file");
        }
        let input = input::read(path)?;
        write::check_replaceable(path)?;
        Ok(Self { path: path.to_owned(), manifests: manifest::parse(input)? })
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        self.manifests.bytes()
    }

    /// All objects; documents of other tools are left alone.
    pub(crate) fn objects(&self) -> Result<Vec<Object<'_>>, Failure> {
        Ok(self.manifests.objects_among_others()?.0)
    }

    /// The file with the patches, if the objects are then as they must be. See [`Self::judge`].
    pub(crate) fn patched(&self, patches: &[Patch]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Ok(self.changed(patches, &[])?.bytes())
    }

    /// The same with more documents at the end.
    fn changed(&self, patches: &[Patch], added: &[Value]) -> Result<ManifestFile, Failure> {
        let new = self.manifests.changed(patches, added).map_err(|error| self.not_edited(error))?;
        self.judge(&new)?;
        Ok(new)
    }

    /// The refusal of a change that cannot be made without changing more.
    fn not_edited(&self, error: NotEdited) -> Failure {
        Failure::unable(anyhow!("{}: {error}", self.path.display()))
            .hint("write the object without aliases or an unusual style, one key per line")
    }

    /// Refuses new content that breaks a rule which the old one did not break: old faults can be fixed step by step.
    fn judge(&self, new: &ManifestFile) -> Result<(), Failure> {
        let name = self.path.display();
        let old = self.objects()?;
        let old: HashMap<_, _> = old.iter().map(|object| (object.place(), object)).collect();
        for object in new.objects_among_others()?.0 {
            if ObjectKind::of(&object) != ObjectKind::SealedSecret {
                continue;
            }
            let before = old.get(&object.place()).copied();
            if before.is_some_and(|before| before.value == object.value) {
                continue;
            }
            let before = before.map(complaints).unwrap_or_default();
            let new = complaints(&object).into_iter().find(|new| !before.contains(new));
            if let Some(complaint) = new {
                return Err(anyhow!("{name}: {}: {complaint}", object.title()).into());
            }
        }
        Ok(())
    }

    /// Writes the new content, if nobody changed the file since it was read. Nothing is written if nothing changes.
    pub(crate) fn replace(&self, new: &[u8]) -> Result<(), Failure> {
        let old = self.manifests.bytes();
        if *old == *new {
            return Ok(());
        }
        write::replace(&self.path, &old, new)
    }
}

/// Every reason for the API server to refuse a SealedSecret that can be known without a key.
fn complaints(object: &Object<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    // The rules report it more clearly than the schema.
    if let Ok(sealed_secret) = manifest::deserialize_sealed_secret(object) {
        let values = ParsedValues::of(&sealed_secret);
        let violations = rules::violations(&sealed_secret, &values);
        complaints.extend(violations.iter().map(ToString::to_string));
    }
    let flaws = manifest::flaws(object);
    let flaws = flaws.iter().filter(|flaw| flaw.kind == FlawKind::Schema);
    complaints.extend(flaws.map(ToString::to_string));
    let too_long = rules::length_violation(json_length(object.value));
    complaints.extend(too_long.iter().map(ToString::to_string));
    complaints
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulla_crds::{SEALED_DATA_PATH, sealed_value_path};
    use serde_json::json;

    use super::*;

    const OBJECT: &str = "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: db}\nspec:\n  sealedData: {a: x}\n";

    fn file(text: &str) -> (tempfile::TempDir, SealedFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.yaml");
        fs::write(&path, text).unwrap();
        let file = SealedFile::read(&path).unwrap();
        (folder, file)
    }

    fn message(failure: Failure) -> String {
        failure.into_parts().0
    }

    #[test]
    fn only_new_faults_are_refused() {
        let template = "  template: {type: kubernetes.io/tls}\n";
        let (_folder, file) = file(&format!("{OBJECT}{template}"));
        let objects = file.objects().unwrap();
        // tls.crt and tls.key were missing before the change too.
        let set = Patch::set(&objects[0], &sealed_value_path("tls.crt"), json!("x"));
        file.patched(&[set]).unwrap();
        let set = Patch::set(&objects[0], &sealed_value_path("no key"), json!("x"));
        let refusal = message(file.patched(&[set]).unwrap_err());
        assert!(refusal.ends_with(": db: no key is not a valid data key of a Secret"), "{refusal}");
        let set = Patch::set(&objects[0], &SEALED_DATA_PATH, json!({}));
        let refusal = message(file.patched(&[set]).unwrap_err());
        assert!(refusal.ends_with(": db: sealedData is empty"), "{refusal}");
    }

    #[test]
    fn a_file_that_changed_since_it_was_read_is_not_replaced() {
        let (_folder, file) = file(OBJECT);
        file.replace(OBJECT.as_bytes()).unwrap();
        fs::write(&file.path, "changed").unwrap();
        // There is nothing to write, so the file is not read again.
        file.replace(OBJECT.as_bytes()).unwrap();
        let refusal = message(file.replace(b"new").unwrap_err());
        assert!(refusal.contains("someone else changed it"), "{refusal}");
        assert_eq!(fs::read(&file.path).unwrap(), b"changed");
    }
}
