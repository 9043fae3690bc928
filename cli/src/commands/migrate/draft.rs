//! What becomes of one file: the file with every object of another tool turned into ours, or why it stays.

use std::path::{Path, PathBuf};

use bulla_crds::rules;
use zeroize::Zeroizing;

use super::bitnami::{self, Keys};
use super::{Address, Migrated, Note, comments, sops};
use crate::files::input::Input;
use crate::files::replace::Exchange;
use crate::files::walk::{self, Found};
use crate::manifest::{self, GivenNamespace, ManifestFile, NotEdited, Object};
use crate::report::diagnostic::{Diagnostic, Place};
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
pub(super) struct Draft {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) old: Zeroizing<Vec<u8>>,
    /// The file as it is to be, when it may be written.
    pub(super) new: Option<Zeroizing<Vec<u8>>>,
    pub(super) migrated: Vec<Migrated>,
    pub(super) notes: Vec<Note>,
    pub(super) refused: Vec<Diagnostic>,
    /// Of other tools.
    pub(super) objects: usize,
    /// Objects and documents of other kinds.
    pub(super) others: usize,
}

impl Exchange for Draft {
    fn path(&self) -> &Path {
        &self.path
    }

    fn old_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.old.clone()
    }

    fn new_bytes(&self) -> Option<&[u8]> {
        self.new.as_ref().map(|new| new.as_slice())
    }

    fn is_kept(&mut self, refused: Diagnostic) {
        self.new = None;
        self.refused.push(refused);
    }
}

impl Draft {
    /// Reads a file and works everything out. A file that was named must be read; what is found in a tree may be
    /// anything.
    pub(super) fn make(found: &Found, job: &Job<'_>) -> Result<Self, Failure> {
        let name = found.path.display().to_string();
        let mut draft = Self { path: found.path.clone(), name, ..Self::default() };
        let words = [bitnami::MARK, sops::MARK];
        let manifests = match walk::read_mentioning(found, &words, bitnami::MARK)? {
            None => return Ok(draft),
            Some(Ok(manifests)) => manifests,
            Some(Err(refused)) => {
                draft.refused.push(refused);
                return Ok(draft);
            }
        };
        draft.old = manifests.bytes();
        if sops::is_encrypted(&manifests) {
            draft.sops(&manifests, job)?;
        } else {
            match walk::objects(found, &manifests) {
                Ok((objects, others)) => {
                    draft.others = others;
                    draft.bitnami(&manifests, &objects, job);
                }
                Err(refused) if found.is_named => return Err(refused.into()),
                Err(refused) => draft.refused.push(refused),
            }
        }
        if !draft.refused.is_empty() {
            draft.new = None;
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
                let (message, hint) = failure.into_parts();
                self.refused.push(Diagnostic::file(&self.name, message, hint.as_deref()));
                None
            }
        }
    }

    fn bitnami(&mut self, manifests: &ManifestFile, objects: &[Object<'_>], job: &Job<'_>) {
        let is_theirs = |object: &&Object<'_>| bitnami::is_theirs(object);
        self.objects = objects.iter().filter(is_theirs).count();
        self.others += objects.len() - self.objects;
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
                Err(refused) => self.refused.extend(refused),
            }
        }
        if !self.refused.is_empty() {
            return;
        }
        match manifests.patched(&patches) {
            Ok(new) => self.finish(manifests, objects, new),
            Err(NotEdited) => self.not_edited(),
        }
    }

    fn not_edited(&mut self) {
        self.refused.push(Diagnostic::file(
            &self.name,
            format!("{}: {NotEdited}", self.name),
            Some("write it without aliases and anchors first"),
        ));
    }

    /// Looks at the result as if somebody else had written it, and tells of comments that are gone.
    fn finish(&mut self, old: &ManifestFile, objects: &[Object<'_>], new: Zeroizing<Vec<u8>>) {
        let input = Input { name: self.name.clone(), bytes: new.clone() };
        let Ok(file) = ManifestFile::parse(input) else { return self.not_edited() };
        let Ok((new_objects, _)) = file.objects_among_others() else { return self.not_edited() };
        if new_objects.len() != objects.len() {
            return self.not_edited();
        }
        for (old, new) in
            objects.iter().zip(&new_objects).filter(|(old, _)| bitnami::is_theirs(old))
        {
            if let Some(message) = flaw(new) {
                let place = Place { position: old.position(&[]), object: old.title(), key: None };
                self.refused.push(place.refuse(message, None));
            }
        }
        for (old, new) in old.documents().iter().zip(file.documents()) {
            let lost = comments::lost(old, new);
            let object =
                objects.iter().find(|object| object.is_in(old)).filter(|_| !lost.is_empty());
            self.notes.extend(object.into_iter().flat_map(|object| {
                lost.iter().map(|line| {
                    let mut position = object.position(&[]);
                    position.line = *line;
                    let message = "a comment is not carried over: what it was about is gone".into();
                    Note { place: Place { position, object: object.title(), key: None }, message }
                })
            }));
        }
        self.new = Some(new);
    }

    fn sops(&mut self, manifests: &ManifestFile, job: &Job<'_>) -> Result<(), Failure> {
        let count = manifests.documents().len();
        let secrets = sops::secrets(manifests);
        if secrets == 0 {
            self.others += count;
            return Ok(());
        }
        self.objects = secrets;
        if secrets != count {
            let hint = "SOPS encrypts a file as a whole, so it stays whole: move its Secrets to a file of their own";
            let message = format!("{}: there are other objects beside Secrets in it", self.name);
            self.refused.push(Diagnostic::file(&self.name, message, Some(hint)));
            return Ok(());
        }
        let Some((destination, namespace)) = self.destination(job) else { return Ok(()) };
        let address =
            Address { recipients: &destination.recipients, namespace: namespace.as_ref() };
        let plain = match sops::decrypted(&self.path, manifests)? {
            Ok(plain) => plain,
            Err(refused) => {
                self.refused.push(refused);
                return Ok(());
            }
        };
        match sops::convert(manifests, &plain, &address) {
            Ok(converted) => {
                self.notes = converted.notes;
                self.migrated = converted.migrated;
                self.new = Some(converted.new);
            }
            Err(refused) => self.refused.extend(refused),
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
