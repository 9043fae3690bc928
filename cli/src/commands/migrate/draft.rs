//! What becomes of one file: the file with every object of another tool turned into ours, or why it stays.

use anyhow::anyhow;
use bulla_crds::rules;
use zeroize::Zeroizing;

use super::bitnami::{self, Keys};
use super::sops::{self, Decryption};
use super::{Address, Migrated, Note, comments};
use crate::files::draft::FileDraft;
use crate::files::input::Input;
use crate::files::walk::{FileOutcome, FoundFile, Interest};
use crate::manifest::{self, GivenNamespace, ManifestFile, NotEdited, Object};
use crate::report::diagnostic::Place;
use crate::report::failure::Failure;
use crate::who::destination::Destination;

/// What is known for every file.
pub(super) struct Job<'a> {
    pub(super) keys: Option<&'a Keys>,
    /// Of the file, asked only when there is something to seal.
    pub(super) destination: &'a dyn Fn() -> Result<Destination, Failure>,
    pub(super) namespace: Option<&'a str>,
}

/// A file, and what is to be done with it.
#[derive(Default)]
pub(super) struct MigrateDraft {
    pub(super) file: FileDraft,
    pub(super) migrated: Vec<Migrated>,
    pub(super) notes: Vec<Note>,
    /// Of other tools.
    pub(super) objects: usize,
}

/// The files that may have something to migrate in them.
pub(super) const INTEREST: Interest = Interest {
    words: &[bitnami::MARK, sops::MARK],
    mark: bitnami::MARK,
    may_hold_others: sops::is_encrypted,
};

impl MigrateDraft {
    /// Works out what becomes of a file.
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
        if draft.file.is_refused() {
            draft.file.new = None;
        }
        Ok(draft)
    }

    /// The recipients and namespace of the file, or a refusal.
    fn destination(&mut self, job: &Job<'_>) -> Option<(Destination, Option<GivenNamespace>)> {
        let destination = (job.destination)().and_then(|destination| {
            let namespace = destination.given_namespace(job.namespace)?;
            Ok((destination, namespace))
        });
        match destination {
            Ok(destination) => Some(destination),
            Err(failure) => {
                self.file.trouble(failure);
                None
            }
        }
    }

    fn bitnami(&mut self, manifests: &ManifestFile, objects: &[Object<'_>], job: &Job<'_>) {
        let is_theirs = |object: &&Object<'_>| bitnami::is_theirs(object);
        self.objects = objects.iter().filter(is_theirs).count();
        self.file.others += objects.len() - self.objects;
        if self.objects == 0 {
            return;
        }
        let Some((destination, namespace)) = self.destination(job) else { return };
        let address =
            Address { recipients: &destination.recipients, namespace: namespace.as_ref() };
        let mut patches = Vec::new();
        for object in objects.iter().filter(is_theirs) {
            match bitnami::convert(object, job.keys, &address) {
                Ok(conversion) => {
                    patches.extend(conversion.patches);
                    self.notes.extend(conversion.notes);
                    self.migrated.push(conversion.migrated);
                }
                Err(refused) => self.file.diagnostics.extend(refused),
            }
        }
        if !self.file.diagnostics.is_empty() {
            return;
        }
        match manifests.patched(&patches) {
            Ok(new) => self.finish(manifests, objects, new),
            Err(NotEdited) => self.not_edited(),
        }
    }

    fn not_edited(&mut self) {
        let error = anyhow!("{}: {NotEdited}", self.file.name);
        let hint = "write it without aliases and anchors first";
        self.file.trouble(Failure::unable(error).hint(hint));
    }

    /// Looks at the result as if somebody else had written it, and tells of comments that are gone.
    fn finish(&mut self, old: &ManifestFile, objects: &[Object<'_>], new: Zeroizing<Vec<u8>>) {
        let input = Input { name: self.file.name.clone(), bytes: new.clone() };
        let Ok(file) = ManifestFile::parse(input) else { return self.not_edited() };
        let Ok((new_objects, _)) = file.objects_among_others() else { return self.not_edited() };
        if new_objects.len() != objects.len() {
            return self.not_edited();
        }
        for (old, new) in
            objects.iter().zip(&new_objects).filter(|(old, _)| bitnami::is_theirs(old))
        {
            if let Some(message) = flaw(new) {
                self.file.diagnostics.push(Place::new(old, &[], None).diagnose(message, None));
            }
        }
        for (old, new) in old.documents().iter().zip(file.documents()) {
            let lost = comments::lost(old, new);
            let object =
                objects.iter().find(|object| object.is_in(old)).filter(|_| !lost.is_empty());
            self.notes.extend(object.into_iter().flat_map(|object| {
                lost.iter().map(|line| {
                    let mut place = Place::new(object, &[], None);
                    place.position.line = *line;
                    let message = "a comment is not carried over: what it was about is gone".into();
                    Note { place, message }
                })
            }));
        }
        self.file.new = Some(new);
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
            let hint = "SOPS encrypts a file as a whole, so it stays whole: move its Secrets to a file of their own";
            let error = anyhow!("{}: there are other objects beside Secrets in it", self.file.name);
            self.file.trouble(Failure::unable(error).hint(hint));
            return Ok(());
        }
        let Some((destination, namespace)) = self.destination(job) else { return Ok(()) };
        let address =
            Address { recipients: &destination.recipients, namespace: namespace.as_ref() };
        let plain = match sops::decrypted(&self.file.path, manifests)? {
            Decryption::Plain(plain) => plain,
            Decryption::Refused(failure) => {
                self.file.trouble(failure);
                return Ok(());
            }
        };
        match sops::convert(manifests, &plain, &address) {
            Ok(converted) => {
                self.notes = converted.notes;
                self.migrated = converted.migrated;
                self.file.new = Some(converted.new);
            }
            Err(refused) => self.file.diagnostics.extend(refused),
        }
        Ok(())
    }
}

/// The first thing that `bulla lint` would find wrong with the object by itself.
pub(super) fn flaw(object: &Object<'_>) -> Option<String> {
    if let Some(flaw) = manifest::flaws(object).into_iter().next() {
        return Some(flaw.to_string());
    }
    match manifest::read_sealed_secret(object) {
        Ok(sealed_secret) => rules::violations(&sealed_secret)
            .into_iter()
            .next()
            .map(|violation| violation.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
