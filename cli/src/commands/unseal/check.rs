//! `bulla unseal --check`.

use std::path::PathBuf;

use anyhow::anyhow;
use bulla_crds::{Address, ParsedValues, UnsealSecretError, ValueError};
use bulla_sealing::Keyring;

use crate::files::walk::{self, SealedSecrets};
use crate::manifest::{self, Object};
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{diagnostic, output};

/// The result for one file, or for all.
#[derive(Default)]
struct Tally {
    sealed_secrets: usize,
    values: usize,
    others: usize,
    diagnostics: Vec<Diagnostic>,
}

pub(super) fn run(paths: &[PathBuf], keyring: &Keyring) -> Result<Answer, Failure> {
    let found = walk::manifests(paths)?;
    let tallies = walk::each(&found, "opening", walk::OURS, |found, outcome| {
        let mut tally = Tally::default();
        let Some(open) = outcome.opened(&mut tally.diagnostics) else { return Ok(tally) };
        let SealedSecrets { objects, unknown, others } = open.sealed_secrets();
        (tally.others, tally.diagnostics) = (others, unknown);
        for object in &objects {
            if let Err(failure) = tally.open(object, keyring) {
                let name = found.path.display().to_string();
                tally.diagnostics.push(Diagnostic::of(&name, failure));
            }
        }
        Ok(tally)
    })?;
    let mut all = Tally::default();
    for Tally { sealed_secrets, values, others, diagnostics } in tallies {
        all.sealed_secrets += sealed_secrets;
        all.values += values;
        all.others += others;
        all.diagnostics.extend(diagnostics);
    }
    if all.sealed_secrets == 0 && all.diagnostics.is_empty() {
        return Err(anyhow!("there is no SealedSecret to open"))
            .or_hint("check the paths; in a folder, files that Git ignores are skipped");
    }
    diagnostic::report(&all.diagnostics);
    output::summary(&all.summary(found.len()));
    Ok(if all.diagnostics.is_empty() { Answer::Yes } else { Answer::No })
}

impl Tally {
    fn open(&mut self, object: &Object<'_>, keyring: &Keyring) -> Result<(), Failure> {
        self.sealed_secrets += 1;
        let sealed_secret = manifest::read_sealed_secret(object)?;
        manifest::name_of(object, &sealed_secret.metadata)?;
        self.values += sealed_secret.spec.sealed_data.len();
        let values = ParsedValues::of(&sealed_secret);
        match bulla_crds::unseal(&sealed_secret, &values, keyring) {
            Ok(_) => {}
            // The error names one value; every value that does not open is reported.
            Err(UnsealSecretError::Value { .. }) => {
                let address = Address::of(&sealed_secret);
                for key in sealed_secret.spec.sealed_data.keys() {
                    let Some(value) = values.get(key) else { continue };
                    let value = value.as_ref().map_err(ValueError::clone);
                    let opened = value.and_then(|value| address.unseal(key, value, keyring));
                    if let Err(error) = opened {
                        let place = Place::of_value(object, key);
                        let hint = diagnostic::hint_for(&error, Some(keyring));
                        self.diagnostics.push(place.diagnose(error, hint));
                    }
                }
            }
            Err(error) => {
                let place = Place::new(object, &diagnostic::path_of(&error), None);
                self.diagnostics.push(place.diagnose(error, None));
            }
        }
        Ok(())
    }

    fn summary(&self, files: usize) -> String {
        let others = output::others_skipped(self.others);
        let verdict = match self.diagnostics.len() {
            0 => "everything opens".into(),
            errors => output::count(errors, "error"),
        };
        format!(
            "{}, {}, {}: {verdict}{others}\n",
            output::count(files, "file"),
            output::count(self.sealed_secrets, "SealedSecret"),
            output::count(self.values, "value"),
        )
    }
}
