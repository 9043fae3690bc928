//! The result for one file: the new file, with every object of another tool turned into Bulla's, or why the file
//! stays unchanged.

use std::collections::HashMap;

use anyhow::anyhow;
use bulla_crds::{ParsedValues, rules};

use super::bitnami::{self, BitnamiKeys};
use super::conversion::{Conversion, MigratedObject, MigrationNote};
use super::sops::{self, Decrypted};
use crate::files::draft::FileDraft;
use crate::files::walk::{FileOutcome, FoundFile, Interest};
use crate::manifest::{
    self, Comment, Document, ManifestFile, NotEdited, Object, ObjectKind, Position,
};
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::failure::Failure;
use crate::who::destination::Destination;

/// The input for migrating one file.
pub(super) struct Job<'a> {
    pub(super) keys: Option<&'a BitnamiKeys>,
    /// The file's destination; called only if there is something to seal.
    pub(super) destination: &'a dyn Fn() -> Result<Destination, Failure>,
}

/// A file, and how it will change.
#[derive(Default)]
pub(super) struct MigrateDraft {
    pub(super) file: FileDraft,
    pub(super) migrated: Vec<MigratedObject>,
    pub(super) notes: Vec<MigrationNote>,
    /// The number of objects of other tools.
    pub(super) objects: usize,
    /// Those of Bitnami that cannot be opened because no private key was passed.
    pub(super) without_key: Vec<Diagnostic>,
    /// The number of plaintext Secrets, which `bulla seal` is for.
    pub(super) plaintext_secrets: usize,
}

/// The files that may contain something to migrate.
pub(super) const INTEREST: Interest = Interest {
    words: &[bitnami::MARK, sops::MARK, "kind: Secret", "\"Secret\""],
    mark: bitnami::MARK,
    may_hold_others: sops::is_encrypted,
};

impl MigrateDraft {
    /// Works out how a file will change.
    pub(super) fn of(
        found: &FoundFile,
        outcome: FileOutcome,
        job: &Job<'_>,
    ) -> Result<Self, Failure> {
        let (file, open) = FileDraft::of(found, outcome);
        let mut draft = Self { file, ..Self::default() };
        let Some(open) = open else { return Ok(draft) };
        if sops::is_encrypted(&open.manifests) {
            draft.sops(&open.manifests, job)?;
        } else {
            draft.file.others = open.other_documents;
            draft.bitnami(&open.manifests, &open.objects(), job);
        }
        draft.file.manifests = Some(open.manifests);
        if draft.is_refused() {
            draft.file.new = None;
        }
        Ok(draft)
    }

    /// Whether something in the file cannot be migrated, so that the file stays unchanged.
    pub(super) fn is_refused(&self) -> bool {
        self.file.is_refused() || !self.without_key.is_empty()
    }

    /// The recipients and namespace of the file. A failure is added to the file's errors.
    fn destination(&mut self, job: &Job<'_>) -> Option<Destination> {
        (job.destination)().map_err(|failure| self.file.trouble(failure)).ok()
    }

    fn bitnami(&mut self, manifests: &ManifestFile, objects: &[Object<'_>], job: &Job<'_>) {
        let is_bitnamis = |object: &&Object<'_>| bitnami::is_bitnamis(object);
        self.objects = objects.iter().filter(is_bitnamis).count();
        let is_plaintext = |object: &&Object<'_>| ObjectKind::of(object) == ObjectKind::Secret;
        self.plaintext_secrets = objects.iter().filter(is_plaintext).count();
        self.file.others += objects.len() - self.objects - self.plaintext_secrets;
        if self.objects == 0 {
            return;
        }
        let Some(keys) = job.keys else {
            let what = "no private key to open its values";
            let without_key = objects.iter().filter(is_bitnamis).map(|object| {
                Place::new(object, &[], None).diagnose(what, Some(bitnami::KEY_HINT.into()))
            });
            return self.without_key.extend(without_key);
        };
        let Some(destination) = self.destination(job) else { return };
        let mut conversions = Vec::new();
        for object in objects.iter().filter(is_bitnamis) {
            match bitnami::convert(object, keys, &destination) {
                Ok(conversion) => conversions.push(conversion),
                Err(refused) => self.file.diagnostics.extend(refused),
            }
        }
        self.finish(manifests, manifests, conversions);
    }

    fn sops(&mut self, manifests: &ManifestFile, job: &Job<'_>) -> Result<(), Failure> {
        let count = manifests.documents().len();
        let secrets = sops::secrets(manifests);
        if secrets == 0 {
            self.file.others += count;
            return Ok(());
        }
        self.objects = secrets;
        if secrets != count {
            let hint = "SOPS encrypts a file as a whole, so it cannot be migrated in part: move its Secrets to a separate file";
            let error = anyhow!("{}: contains objects other than Secrets", self.file.name);
            self.file.trouble(Failure::unable(error).hint(hint));
            return Ok(());
        }
        let Some(destination) = self.destination(job) else { return Ok(()) };
        match sops::decrypt(&self.file.path, manifests)? {
            Decrypted::Plain(plain) => match sops::convert(manifests, &plain, &destination) {
                Ok((bare, conversions)) => self.finish(manifests, &bare, conversions),
                Err(refused) => self.file.diagnostics.extend(refused),
            },
            Decrypted::Refused(failure) => self.file.trouble(failure),
        }
        Ok(())
    }

    fn not_edited(&mut self) {
        let error = anyhow!("{}: {NotEdited}", self.file.name);
        let hint = "remove its anchors and aliases first";
        self.file.trouble(Failure::unable(error).hint(hint));
    }

    /// Changes the objects in place. `bare` is the file without the comments that must go; it has the same objects.
    fn finish(&mut self, old: &ManifestFile, bare: &ManifestFile, conversions: Vec<Conversion>) {
        if self.file.is_refused() {
            return;
        }
        let patches = conversions.iter().flat_map(|conversion| conversion.patches.clone());
        let patches: Vec<_> = patches.collect();
        let Ok(new) = bare.changed(&patches, &[]) else { return self.not_edited() };
        let Ok((objects, _)) = new.objects_among_others() else { return self.not_edited() };
        for conversion in &conversions {
            let Conversion { position, expected, .. } = conversion;
            let object = objects.iter().find(|object| object.place() == *position);
            let is_met = |object: &&Object<'_>| {
                expected.as_ref().is_none_or(|expected| expected == object.value)
            };
            let Some(object) = object.filter(is_met) else { return self.not_edited() };
            if let Some(message) = flaw(object) {
                let place = conversion.migrated.place.clone();
                self.file.diagnostics.push(place.diagnose(message, None));
            }
        }
        for Conversion { migrated, notes, .. } in conversions {
            self.migrated.push(migrated);
            self.notes.extend(notes);
        }
        for (number, (old, new)) in (1..).zip(old.documents().iter().zip(new.documents())) {
            let is_in = |migrated: &&MigratedObject| migrated.place.position.document == number;
            if let Some(first) = self.migrated.iter().find(is_in) {
                self.notes.extend(lost_comments(old, new, &first.place));
            }
        }
        self.file.new = Some(new.bytes());
    }
}

/// The first error that `bulla lint` would report for the object alone.
fn flaw(object: &Object<'_>) -> Option<String> {
    if let Some(flaw) = manifest::flaws(object).first() {
        return Some(flaw.to_string());
    }
    match manifest::read_sealed_secret(object) {
        Ok(sealed_secret) => {
            let violations = rules::violations(&sealed_secret, &ParsedValues::of(&sealed_secret));
            violations.first().map(ToString::to_string)
        }
        Err(error) => Some(error.to_string()),
    }
}

/// A note for each comment that the old document has and the new one does not.
fn lost_comments(old: &Document, new: &Document, place: &Place) -> Vec<MigrationNote> {
    let mut lost = old.comments();
    lost.retain(|comment| !sops::is_encrypted_comment(&comment.text));
    let mut kept: HashMap<String, usize> = HashMap::new();
    for comment in new.comments() {
        *kept.entry(comment.text).or_default() += 1;
    }
    lost.retain(|comment| match kept.get_mut(&comment.text) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    let note = |comment: Comment| {
        let position = Position { line: comment.line, ..place.position.clone() };
        let message = "a comment is dropped, because the field that it belonged to is gone".into();
        MigrationNote { place: Place { position, ..place.clone() }, message }
    };
    lost.into_iter().map(note).collect()
}
