//! What becomes of one file: which of its values need a new header, the headers, and the file with them.

use std::path::{Path, PathBuf};

use bulla_crds::keys::with_header;
use bulla_crds::{ValueError, decode_value, target_of};
use bulla_sealing::{
    Fingerprint, Keyring, Recipients, RekeyError, SealedHeader, SealedValue, Target, UnsealError,
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::recipients::{Demand, Need, Objection, Today};
use crate::cluster::{Cluster, HeaderRequest};
use crate::files::replace::Exchange;
use crate::files::walk;
use crate::files::walk::Found;
use crate::manifest::{self, ManifestFile, NewText, Object, ObjectKind, Places, Position, Step};
use crate::report::diagnostic;
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::failure::Failure;
use crate::report::progress::Progress;

const NAME_THE_NAMESPACE: &str =
    "name the namespace that the SealedSecret is deployed to with -n, or in the manifest";

/// A file, and what is to be done with it.
pub(super) struct Draft {
    pub(super) path: PathBuf,
    pub(super) name: String,
    manifests: Option<ManifestFile>,
    pub(super) pending: Vec<Pending>,
    pub(super) refused: Vec<Diagnostic>,
    pub(super) sealed_secrets: usize,
    pub(super) up_to_date: usize,
    /// Objects and documents of other kinds.
    pub(super) others: usize,
    /// The file with the new values, when it may be written.
    pub(super) new: Option<Zeroizing<Vec<u8>>>,
}

/// A value that needs a new header.
pub(super) struct Pending {
    pub(super) place: Place,
    /// Where it stands; none of its parts is taken from the value.
    target: Target,
    has_namespace: bool,
    old: String,
    pub(super) sealed_to: Vec<Fingerprint>,
    pub(super) recipients: Recipients,
    /// The place in the file for the new text.
    new_text: NewText,
    header: Option<Vec<u8>>,
}

impl Exchange for Draft {
    fn path(&self) -> &Path {
        &self.path
    }

    fn old_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.manifests.as_ref().map(ManifestFile::bytes).unwrap_or_default()
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
    /// Reads a file and finds the values that need a new header. A file that was named must be read; what is found
    /// in a tree may be anything, and is refused only when it is ours.
    pub(super) fn read(found: &Found, today: &Today) -> Result<Self, Failure> {
        let name = found.path.display().to_string();
        let mut draft = Self {
            path: found.path.clone(),
            name,
            manifests: None,
            pending: Vec::new(),
            refused: Vec::new(),
            sealed_secrets: 0,
            up_to_date: 0,
            others: 0,
            new: None,
        };
        let manifests = match walk::read(found)? {
            None => return Ok(draft),
            Some(Ok(manifests)) => manifests,
            Some(Err(refused)) => {
                draft.refused.push(refused);
                return Ok(draft);
            }
        };
        match walk::objects(found, &manifests) {
            Ok((objects, others)) => {
                draft.others = others;
                draft.judge(&manifests, &objects, today)?;
            }
            Err(refused) if found.is_named => return Err(refused.into()),
            Err(refused) => draft.refused.push(refused),
        }
        draft.manifests = Some(manifests);
        Ok(draft)
    }

    fn judge(
        &mut self,
        manifests: &ManifestFile,
        objects: &[Object<'_>],
        today: &Today,
    ) -> Result<(), Failure> {
        let mut demand = None;
        let places = manifests.places();
        for object in objects {
            match object.kind() {
                ObjectKind::SealedSecret => {}
                ObjectKind::OtherOfOurs if object.is_unknown_version() => {
                    self.refused.push(diagnostic::unknown_version(object));
                    continue;
                }
                _ => {
                    self.others += 1;
                    continue;
                }
            }
            self.sealed_secrets += 1;
            if demand.is_none() {
                match today.demand(&self.path)? {
                    Ok(found) => demand = Some(found),
                    Err(Objection { message, hint }) => {
                        self.refused.push(place_of(object, &[], None).refuse(message, hint));
                        return Ok(());
                    }
                }
            }
            if let Some(demand) = &demand {
                self.sealed_secret(object, &places, today, demand);
            }
        }
        Ok(())
    }

    fn sealed_secret(
        &mut self,
        object: &Object<'_>,
        places: &Places<'_>,
        today: &Today,
        demand: &Demand,
    ) {
        let metadata = match manifest::metadata_of(object) {
            Ok(metadata) => metadata,
            Err(error) => return self.refused.push(Diagnostic::file(&self.name, error, None)),
        };
        let names = manifest::name_of(object, &metadata).and_then(|name| {
            let given = demand.namespace.as_ref();
            let namespace = manifest::namespace_of(object, &metadata, given)?;
            Ok((namespace, name))
        });
        let (namespace, name) = match names {
            Ok(names) => names,
            Err(failure) => {
                let (message, hint) = failure.into_parts();
                return self.refused.push(Diagnostic::file(&self.name, message, hint.as_deref()));
            }
        };
        let Some(Value::Object(values)) = object.value.pointer("/spec/sealedData") else {
            return;
        };
        for (key, value) in values {
            let path = [Step::Key("spec"), Step::Key("sealedData"), Step::Key(key)];
            let Some(old) = value.as_str() else {
                let place = place_of(object, &path, Some(key));
                self.refused.push(place.refuse("not text, so not a sealed value", None));
                continue;
            };
            let at = Where { object, places, namespace, name, key };
            match at.judge(old, today, demand) {
                Ok(None) => self.up_to_date += 1,
                Ok(Some(pending)) => self.pending.push(pending),
                Err(Objection { message, hint }) => {
                    self.refused.push(at.place(old).refuse(message, hint));
                }
            }
        }
    }

    /// Makes the new headers with identities that are at hand.
    pub(super) fn make_headers(&mut self, keyring: &Keyring) {
        for pending in &mut self.pending {
            match pending.make_header(keyring) {
                Ok(header) => pending.header = Some(header),
                Err(error) => {
                    let hint = match &error {
                        RekeyError::Unseal(error) => {
                            diagnostic::hint_for(&error.clone().into(), Some(keyring))
                        }
                        RekeyError::NoRandomness(_) => None,
                    };
                    self.refused.push(pending.place.clone().refuse(error, hint));
                }
            }
        }
    }

    /// Puts the new headers over the old payloads and into the file, if all of them are there and are what they are
    /// to be.
    pub(super) fn finish(&mut self) {
        if self.pending.is_empty() || !self.refused.is_empty() {
            return;
        }
        for pending in &mut self.pending {
            if let Err(message) = pending.finish() {
                self.refused.push(pending.place.clone().refuse(message, None));
            }
        }
        let Some(manifests) = self.manifests.as_ref().filter(|_| self.refused.is_empty()) else {
            return;
        };
        let new_texts: Vec<_> =
            self.pending.iter().map(|pending| pending.new_text.clone()).collect();
        match manifests.edited(&new_texts) {
            Ok(new) => self.new = Some(new),
            Err(error) => self.refused.push(Diagnostic::file(
                &self.name,
                format!("{}: {error}", self.name),
                Some("does a sealed value stand in it elsewhere too, by an alias or in another field?"),
            )),
        }
    }
}

/// A value in its object.
struct Where<'a> {
    object: &'a Object<'a>,
    places: &'a Places<'a>,
    namespace: Option<&'a str>,
    name: &'a str,
    key: &'a str,
}

impl Where<'_> {
    fn place(&self, value: &str) -> Place {
        let position = self.places.position(self.object, self.key, value);
        Place { position, object: self.object.title(), key: Some(self.key.to_owned()) }
    }

    /// What the value needs, found without a key.
    fn judge(
        &self,
        old: &str,
        today: &Today,
        demand: &Demand,
    ) -> Result<Option<Pending>, Objection> {
        let file = decode_value(old)?;
        let sealed_value = SealedValue::parse(&file).map_err(ValueError::from)?;
        let sealed_to: Vec<_> = sealed_value.fingerprints().collect();
        let recipients = match today.need(demand, &sealed_to)? {
            Need::UpToDate => return Ok(None),
            Need::Header(recipients) => recipients,
        };
        let binding = sealed_value.binding();
        let target = target_of(self.namespace, self.name, self.key, binding)?;
        if !binding.permits(&target) {
            let (expected, found) = (target.into(), binding.clone().into());
            return Err(ValueError::from(UnsealError::WrongBinding { expected, found }).into());
        }
        let new_text = self.places.new_text(self.object, self.key, old, String::new());
        let new_text = new_text.ok_or_else(|| Objection {
            message: "the value does not stand in the file as it is, but with escapes or line breaks in it".into(),
            hint: Some("write it on one line, plain or in simple quotes".into()),
        })?;
        Ok(Some(Pending {
            place: self.place(old),
            target,
            has_namespace: self.namespace.is_some(),
            old: old.to_owned(),
            sealed_to,
            recipients,
            new_text,
            header: None,
        }))
    }
}

impl Pending {
    fn make_header(&self, keyring: &Keyring) -> Result<Vec<u8>, RekeyError> {
        // It was parsed before.
        let file = decode_value(&self.old).map_err(|_| UnsealError::Damaged)?;
        let (header, _) = SealedHeader::parse(&file).map_err(|_| UnsealError::Damaged)?;
        header.rekey(&self.target, keyring, &self.recipients)
    }

    /// The old header alone, which is all that the cluster gets to see.
    fn old_header(&self) -> Option<Vec<u8>> {
        let mut file = decode_value(&self.old).ok()?;
        let payload = SealedValue::parse(&file).ok()?.payload().len();
        file.truncate(file.len() - payload);
        Some(file)
    }

    fn finish(&mut self) -> Result<(), String> {
        let header = self.header.take().ok_or("no new header came for it")?;
        self.new_text.text =
            with_header(&self.old, &header, &self.recipients).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Asks the cluster for the new headers of all files from which nothing was refused.
pub(super) fn ask_cluster(cluster: &Cluster, drafts: &mut [Draft]) -> Result<(), Failure> {
    let mut requests: Vec<HeaderRequest> = Vec::new();
    // For each request, the values of one object: draft and indices of what is pending there.
    let mut sources: Vec<(usize, Vec<usize>)> = Vec::new();
    for (draft_index, draft) in drafts.iter_mut().enumerate() {
        if !draft.refused.is_empty() {
            continue;
        }
        let mut object: Option<(usize, Option<usize>)> = None;
        for (index, pending) in draft.pending.iter().enumerate() {
            let Some(header) = pending.old_header() else { continue };
            if !pending.has_namespace {
                let message = "the cluster is asked in the SealedSecret's namespace, and the manifest names none";
                draft
                    .refused
                    .push(pending.place.clone().refuse(message, Some(NAME_THE_NAMESPACE.into())));
                continue;
            }
            let Position { document, item, .. } = pending.place.position;
            if object.replace((document, item)) != Some((document, item)) {
                requests
                    .push(HeaderRequest::new(pending.target.namespace(), pending.target.name()));
                sources.push((draft_index, Vec::new()));
            }
            if let (Some(request), Some((_, indices))) = (requests.last_mut(), sources.last_mut()) {
                request.headers.insert(pending.target.key().to_owned(), header);
                indices.push(index);
            }
        }
    }
    let progress = Progress::new("asking the cluster", requests.len());
    let answers = cluster.new_headers(&requests, || progress.step())?;
    for ((draft, indices), answer) in sources.into_iter().zip(answers) {
        let Some(draft) = drafts.get_mut(draft) else { continue };
        match answer {
            Ok(mut headers) => {
                for index in indices {
                    let pending = &mut draft.pending[index];
                    pending.header = headers.remove(pending.target.key());
                }
            }
            Err(refusal) => {
                let (message, hint) = refusal.into_parts();
                let is_named = |index: &&usize| {
                    let key = draft.pending[**index].target.key();
                    message.starts_with(&format!("key {key}: "))
                };
                let named = indices.iter().find(is_named).copied();
                let place = &draft.pending[named.unwrap_or(indices[0])].place;
                let is_one = indices.len() == 1 || named.is_some();
                let key = place.key.clone().filter(|_| is_one);
                let message = match &key {
                    Some(key) => message.strip_prefix(&format!("key {key}: ")).unwrap_or(&message),
                    None => &message,
                };
                let place = Place { key, ..place.clone() };
                draft.refused.push(place.refuse(message, hint));
            }
        }
    }
    Ok(())
}

fn place_of(object: &Object<'_>, path: &[Step<'_>], key: Option<&str>) -> Place {
    let position = object.position(path);
    Place { position, object: object.title(), key: key.map(str::to_owned) }
}

impl From<ValueError> for Objection {
    fn from(error: ValueError) -> Self {
        let hint = match &error {
            ValueError::NoNamespace(_) => Some(NAME_THE_NAMESPACE.to_owned()),
            error => diagnostic::hint_for(error, None),
        };
        Self { hint, message: error.to_string() }
    }
}
