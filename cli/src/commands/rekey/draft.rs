//! The work on one file: the values that need a new header, the headers, and the new file.

use anyhow::anyhow;
use bulla_crds::{Address, ParsedValue, ValueError};
use bulla_sealing::{Fingerprint, Keyring, Recipients, RekeyError, UnsealError, ValueAddress};
use serde_json::Value;

use super::recipients::{Demand, FileDemand, Today};
use crate::cluster::Cluster;
use crate::cluster::rekeys::{self, HeaderRequest, RefusedHeaders};
use crate::files::draft::FileDraft;
use crate::files::walk::{FileOutcome, FoundFile, SealedSecrets};
use crate::manifest::{self, Object, Patch, Position};
use crate::report::diagnostic::{self, Place};
use crate::report::failure::Failure;
use crate::report::progress::Progress;

const NAME_THE_NAMESPACE: &str =
    "pass the namespace that the SealedSecret is deployed to with -n, or set it in the manifest";

/// A file, and the work on it.
pub(super) struct RekeyDraft {
    pub(super) file: FileDraft,
    pub(super) pending: Vec<Pending>,
    pub(super) sealed_secrets: usize,
    pub(super) up_to_date: usize,
}

/// A value that needs a new header.
pub(super) struct Pending {
    pub(super) place: Place,
    /// Its place; none of its parts is taken from the value.
    address: ValueAddress,
    has_namespace: bool,
    old: ParsedValue,
    pub(super) sealed_to: Vec<Fingerprint>,
    pub(super) recipients: Recipients,
    /// Sets the new text, once there is one.
    patch: Patch,
    header: Option<Vec<u8>>,
}

impl RekeyDraft {
    /// Finds the values of a file that need a new header.
    pub(super) fn of(
        found: &FoundFile,
        outcome: FileOutcome,
        today: &Today,
    ) -> Result<Self, Failure> {
        let (file, open) = FileDraft::of(found, outcome);
        let mut draft = Self { file, pending: Vec::new(), sealed_secrets: 0, up_to_date: 0 };
        let Some(open) = open else { return Ok(draft) };
        let SealedSecrets { objects, unknown, others } = open.sealed_secrets();
        draft.file.others = others;
        draft.file.diagnostics.extend(unknown);
        draft.sealed_secrets = objects.len();
        if let Some(first) = objects.first() {
            match today.demand(&found.path)? {
                FileDemand::Known(demand) => {
                    for object in &objects {
                        if let Err(failure) = draft.sealed_secret(object, today, &demand) {
                            draft.file.trouble(failure);
                        }
                    }
                }
                FileDemand::Unknown(failure) => {
                    draft.file.diagnostics.push(Place::new(first, &[], None).trouble(failure));
                }
            }
        }
        draft.file.manifests = Some(open.manifests);
        Ok(draft)
    }

    fn sealed_secret(
        &mut self,
        object: &Object<'_>,
        today: &Today,
        demand: &Demand,
    ) -> Result<(), Failure> {
        let metadata = manifest::metadata_of(object)?;
        let name = manifest::name_of(object, &metadata)?;
        let namespace = manifest::namespace_of(object, &metadata, demand.namespace.as_ref())?;
        let Some(Value::Object(values)) = object.value.pointer("/spec/sealedData") else {
            return Ok(());
        };
        for (key, value) in values {
            let Some(old) = value.as_str() else {
                let place = Place::new(object, &manifest::sealed_value_steps(key), Some(key));
                let diagnostic = place.diagnose("not text, so not a sealed value", None);
                self.file.diagnostics.push(diagnostic);
                continue;
            };
            match judge(object, Address { namespace, name }, key, old, today, demand) {
                Ok(None) => self.up_to_date += 1,
                Ok(Some(pending)) => self.pending.push(pending),
                Err(failure) => {
                    self.file.diagnostics.push(Place::of_value(object, key).trouble(failure))
                }
            }
        }
        Ok(())
    }

    /// Makes the new headers with a keyring.
    pub(super) fn make_headers(&mut self, keyring: &Keyring) {
        for pending in &mut self.pending {
            match pending.old.header().rekey(&pending.address, keyring, &pending.recipients) {
                Ok(header) => pending.header = Some(header),
                Err(error) => {
                    let hint = match &error {
                        RekeyError::Unseal(error) => {
                            diagnostic::hint_for(&error.clone().into(), Some(keyring))
                        }
                        RekeyError::NoRandomness(_) => None,
                    };
                    self.file.diagnostics.push(pending.place.clone().diagnose(error, hint));
                }
            }
        }
    }

    /// Puts the new headers over the old payloads and into the file, if every header exists and is valid.
    pub(super) fn finish(&mut self) {
        if self.pending.is_empty() || self.file.is_refused() {
            return;
        }
        for pending in &mut self.pending {
            if let Err(message) = pending.finish() {
                self.file.diagnostics.push(pending.place.clone().diagnose(message, None));
            }
        }
        let is_refused = self.file.is_refused();
        let Some(manifests) = self.file.manifests.as_ref().filter(|_| !is_refused) else { return };
        let patches: Vec<_> = self.pending.iter().map(|pending| pending.patch.clone()).collect();
        match manifests.changed(&patches, &[]) {
            Ok(new) => self.file.new = Some(new.bytes()),
            Err(error) => {
                let error = anyhow!("{}: {error}", self.file.name);
                self.file.trouble(Failure::unable(error).hint(
                    "check whether the file has a sealed value twice, through an alias or in another field",
                ));
            }
        }
    }
}

/// The new header that a value needs, if it needs one, found without a key.
fn judge(
    object: &Object<'_>,
    address: Address<'_>,
    key: &str,
    old: &str,
    today: &Today,
    demand: &Demand,
) -> Result<Option<Pending>, Failure> {
    let value = ParsedValue::parse(old).map_err(unfit)?;
    let sealed_to: Vec<_> = value.fingerprints().collect();
    let Some(recipients) = today.need(demand, &sealed_to)? else { return Ok(None) };
    let has_namespace = address.namespace.is_some();
    let binding = value.binding();
    let address = address.value_address(key, binding).map_err(unfit)?;
    if !binding.permits(&address) {
        let (expected, found) = (address.into(), binding.clone().into());
        return Err(unfit(UnsealError::WrongBinding { expected, found }.into()));
    }
    Ok(Some(Pending {
        place: Place::of_value(object, key),
        address,
        has_namespace,
        old: value,
        sealed_to,
        recipients,
        patch: Patch::set(object, &manifest::sealed_value_steps(key), Value::Null),
        header: None,
    }))
}

impl Pending {
    fn finish(&mut self) -> Result<(), String> {
        let header = self.header.take().ok_or("the cluster returned no new header for it")?;
        let new = self.old.with_header(&header, &self.recipients);
        let new = new.map_err(|error| error.to_string())?;
        self.patch = self.patch.clone().with_value(new.into());
        Ok(())
    }
}

/// Asks the cluster for the new headers of all files from which nothing was refused.
pub(super) fn ask_cluster(cluster: &Cluster, drafts: &mut [RekeyDraft]) -> Result<(), Failure> {
    let mut requests: Vec<HeaderRequest> = Vec::new();
    // For each request, the values of one object: the draft and the indices of its pending values.
    let mut sources: Vec<(usize, Vec<usize>)> = Vec::new();
    for (draft_index, draft) in drafts.iter_mut().enumerate() {
        if draft.file.is_refused() {
            continue;
        }
        let mut object: Option<(usize, Option<usize>)> = None;
        for (index, pending) in draft.pending.iter().enumerate() {
            if !pending.has_namespace {
                let message =
                    "a rekey through the cluster needs a namespace, but the manifest has none";
                let place = pending.place.clone();
                let hint = Some(NAME_THE_NAMESPACE.to_owned());
                draft.file.diagnostics.push(place.diagnose(message, hint));
                continue;
            }
            let Position { document, item, .. } = pending.place.position;
            if object.replace((document, item)) != Some((document, item)) {
                requests
                    .push(HeaderRequest::new(pending.address.namespace(), pending.address.name()));
                sources.push((draft_index, Vec::new()));
            }
            if let (Some(request), Some((_, indices))) = (requests.last_mut(), sources.last_mut()) {
                // The cluster sees only the header.
                let header = pending.old.header_bytes().to_vec();
                request.headers.insert(pending.address.key().to_owned(), header);
                indices.push(index);
            }
        }
    }
    let progress = Progress::new("asking the cluster", requests.len());
    let answers = rekeys::new_headers(cluster, &requests, || progress.step())?;
    for ((draft, indices), answer) in sources.into_iter().zip(answers) {
        let Some(draft) = drafts.get_mut(draft) else { continue };
        match answer {
            Ok(mut headers) => {
                for index in indices {
                    let pending = &mut draft.pending[index];
                    pending.header = headers.remove(pending.address.key());
                }
            }
            Err(RefusedHeaders { key: refused_key, failure }) => {
                let (message, hint) = failure.into_parts();
                let is_refused = |index: &&usize| {
                    refused_key.as_deref() == Some(draft.pending[**index].address.key())
                };
                let refused = indices.iter().find(is_refused).copied();
                let place = &draft.pending[refused.unwrap_or(indices[0])].place;
                let is_one = indices.len() == 1 || refused.is_some();
                let key = place.key.clone().filter(|_| is_one);
                let place = Place { key, ..place.clone() };
                draft.file.diagnostics.push(place.diagnose(message, hint));
            }
        }
    }
    Ok(())
}

/// Why a value cannot be rekeyed.
fn unfit(error: ValueError) -> Failure {
    let hint = match &error {
        ValueError::NoNamespace(_) => Some(NAME_THE_NAMESPACE.to_owned()),
        error => diagnostic::hint_for(error, None),
    };
    Failure::unable(error).maybe_hint(hint)
}
