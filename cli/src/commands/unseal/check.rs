//! `bulla unseal --check`.

use std::path::PathBuf;

use bulla_crds::{SealedSecret, UnsealError, unseal_value};
use bulla_sealing::Keyring;

use super::path_of;
use crate::files::walk;
use crate::files::walk::Found;
use crate::manifest::{self, Object, ObjectKind, Places};
use crate::parallel::in_parallel;
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::failure::{Answer, Failure};
use crate::report::progress::Progress;
use crate::report::{diagnostic, output};

/// What was found in one file, or in all.
#[derive(Default)]
struct Tally {
    sealed_secrets: usize,
    values: usize,
    others: usize,
    refused: Vec<Diagnostic>,
}

pub(super) fn run(paths: &[PathBuf], keyring: &Keyring) -> Result<Answer, Failure> {
    let found = walk::manifests(paths)?;
    let progress = Progress::new("opening", found.len());
    let tallies = in_parallel(found.len(), |index| {
        let tally = Tally::of(&found[index], keyring);
        progress.step();
        tally
    });
    let mut all = Tally::default();
    for tally in tallies {
        let Tally { sealed_secrets, values, others, refused } = tally?;
        all.sealed_secrets += sealed_secrets;
        all.values += values;
        all.others += others;
        all.refused.extend(refused);
    }
    drop(progress);
    diagnostic::report(&all.refused);
    output::summary(&all.summary(found.len()));
    match all.refused.is_empty() {
        true => Ok(Answer::Yes),
        false => Ok(Answer::No),
    }
}

impl Tally {
    fn of(found: &Found, keyring: &Keyring) -> Result<Self, Failure> {
        let mut tally = Self::default();
        let manifests = match walk::read(found)? {
            None => return Ok(tally),
            Some(Ok(manifests)) => manifests,
            Some(Err(refused)) => {
                tally.refused.push(refused);
                return Ok(tally);
            }
        };
        let (objects, others) = match walk::objects(found, &manifests) {
            Ok(objects) => objects,
            Err(refused) if found.is_named => return Err(refused.into()),
            Err(refused) => {
                tally.refused.push(refused);
                return Ok(tally);
            }
        };
        tally.others = others;
        let places = manifests.places();
        for object in &objects {
            match object.kind() {
                ObjectKind::SealedSecret => tally.open(object, &places, keyring),
                ObjectKind::OtherOfOurs if object.is_unknown_version() => {
                    tally.refused.push(diagnostic::unknown_version(object));
                }
                _ => tally.others += 1,
            }
        }
        Ok(tally)
    }

    fn open(&mut self, object: &Object<'_>, places: &Places<'_>, keyring: &Keyring) {
        self.sealed_secrets += 1;
        let file = object.position(&[]).file;
        let sealed_secret = match manifest::read_sealed_secret(object) {
            Ok(sealed_secret) => sealed_secret,
            Err(error) => return self.refused.push(Diagnostic::file(&file, error, None)),
        };
        if let Err(failure) = manifest::name_of(object, &sealed_secret.metadata) {
            let (message, hint) = failure.into_parts();
            return self.refused.push(Diagnostic::file(&file, message, hint.as_deref()));
        }
        self.values += sealed_secret.spec.sealed_data.len();
        match bulla_crds::unseal(&sealed_secret, keyring) {
            Ok(_) => {}
            // It tells of one value, and each that does not open is to be told.
            Err(UnsealError::Value { .. }) => {
                let SealedSecret { metadata, spec, .. } = &sealed_secret;
                let namespace = metadata.namespace.as_deref();
                let name = metadata.name.as_deref().unwrap_or_default();
                for (key, value) in &spec.sealed_data {
                    if let Err(error) = unseal_value(namespace, name, key, value, keyring) {
                        let position = places.position(object, key, value);
                        let place =
                            Place { position, object: object.title(), key: Some(key.clone()) };
                        let hint = diagnostic::hint_for(&error, Some(keyring));
                        self.refused.push(place.refuse(error, hint));
                    }
                }
            }
            Err(error) => {
                let position = object.position(&path_of(&error));
                let place = Place { position, object: object.title(), key: None };
                self.refused.push(place.refuse(error, None));
            }
        }
    }

    fn summary(&self, files: usize) -> String {
        let others = match self.others {
            0 => String::new(),
            others => format!("; {} of other kinds not judged", output::count(others, "object")),
        };
        let verdict = match self.refused.len() {
            0 => "everything opens".into(),
            refused => output::count(refused, "error"),
        };
        format!(
            "{}, {}, {}: {verdict}{others}\n",
            output::count(files, "file"),
            output::count(self.sealed_secrets, "SealedSecret"),
            output::count(self.values, "value"),
        )
    }
}
