//! `bulla seal`.

use std::path::Path;

use anyhow::anyhow;
use bulla_crds::rules::{self, Violation};
use bulla_crds::{SealError, WipedSecret};
use bulla_sealing::Recipients;
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::destination::{Destination, DestinationFlags};
use crate::failure::{Answer, Failure, OrHint};
use crate::flags::{Manifests as Files, Output, Scope};
use crate::manifest::{self, Manifests, Object, ObjectKind, Step};
use crate::output::{self, Content, Existing};
use crate::{input, refused};

/// Turn Secret manifests into SealedSecrets
///
/// Reads Secrets in YAML or JSON, one or many in a file, also as a List, and prints a SealedSecret for
/// each. Values stand under data in base64 or under stringData as they are, which wins. Nothing is
/// printed or written unless all of them can be sealed.
///
/// Values are sealed to the recipients given with -r and -R. Without either, to those that bulla.yaml pins for
/// the environment of the file, and to nothing else; and where there is no bulla.yaml, to the cluster's own
/// Active key, which is fetched through the kubeconfig. Nothing else ever talks to a cluster.
#[derive(Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    destination: DestinationFlags,

    /// The namespace of the Secrets; must agree with the manifests that name one
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// What else the sealed values may be used for
    #[arg(long, value_enum, default_value_t)]
    scope: Scope,

    #[command(flatten)]
    output: Output,

    /// Write over an existing file
    #[arg(long)]
    force: bool,
}

impl Seal {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.destination.recipients.recipients_files;
        let paths = input::paths(&self.files.files, recipients_files)?;
        // What becomes of the values decides; without a file for them, where they come from.
        let file = match (output::file(self.output.output.as_deref()), &self.files.files[..]) {
            (Some(output), _) => Some(output),
            (None, [file]) if file != Path::new("-") => Some(file.as_path()),
            (None, _) => None,
        };
        let manifests = Manifests::read(paths)?;
        let objects = manifests.objects()?;
        let destination = self.destination.resolve(file)?;
        let secrets = objects
            .into_iter()
            .map(|object| self.read(object, &destination))
            .collect::<Result<Vec<_>, _>>()?;
        let sealed = secrets
            .iter()
            .map(|secret| self.seal(secret, &destination.recipients))
            .collect::<Result<Vec<_>, _>>()?;
        self.write(&manifest::to_yaml(&sealed))?;
        Ok(Answer::Yes)
    }

    fn read<'a>(
        &self,
        object: Object<'a>,
        destination: &Destination,
    ) -> Result<ToSeal<'a>, Failure> {
        match object.kind() {
            ObjectKind::Secret => {}
            ObjectKind::SealedSecret => {
                return Err(object.unsupported("a Secret of v1")).or_hint("it is sealed already");
            }
            ObjectKind::OtherOfOurs | ObjectKind::Other => {
                return Err(object.unsupported("a Secret of v1").into());
            }
        }
        let secret = manifest::read_secret(&object)?;
        manifest::name_of(&object, &secret.metadata)?;
        let given = destination.given_namespace(self.namespace.as_deref())?;
        let namespace = manifest::namespace_of(&object, &secret.metadata, given.as_ref())?;
        let namespace = namespace.map(str::to_owned);
        Ok(ToSeal { object, secret, namespace })
    }

    fn seal(&self, to_seal: &ToSeal<'_>, recipients: &Recipients) -> Result<Value, Failure> {
        let ToSeal { object, secret, namespace } = to_seal;
        let sealed = bulla_crds::seal(secret, namespace.as_deref(), self.scope.into(), recipients);
        let sealed_secret = sealed.map_err(|error| refusal(object, &error))?;
        tell_what_is_dropped(object, secret);
        serde_json::to_value(&sealed_secret)
            .map_err(|_| Failure::unable(object.mistake(&[], "cannot be written as a manifest")))
    }

    fn write(&self, yaml: &[u8]) -> Result<(), Failure> {
        let Some(path) = output::file(self.output.output.as_deref()) else {
            return Ok(output::stdout(yaml)?);
        };
        let existing = Existing::unless(self.force);
        output::write_file(path, yaml, existing, Content::Public)
    }
}

/// A Secret that was read in full, and where.
struct ToSeal<'a> {
    object: Object<'a>,
    secret: WipedSecret,
    namespace: Option<String>,
}

/// Why a Secret is not sealed, at the place that it is about.
fn refusal(object: &Object<'_>, error: &SealError) -> Failure {
    let of_key = |key| {
        let fields = ["stringData", "data"].into_iter();
        let has_key = |field: &&str| object.value.get(field).and_then(|it| it.get(key)).is_some();
        fields
            .filter(has_key)
            .flat_map(|field| [Step::Key(field), Step::Key(key)])
            .take(2)
            .collect()
    };
    let path: Vec<_> = match error {
        SealError::Target { key, .. }
        | SealError::InTheClear { key, .. }
        | SealError::Violation(Violation::DataKey(key)) => of_key(key.as_str()),
        SealError::Unfit { key, .. } => of_key(key),
        SealError::Violation(Violation::TypeRefused(_) | Violation::KeyMissing { .. }) => {
            vec![Step::Key("type")]
        }
        SealError::NoNamespace(_) => vec![Step::Key("metadata"), Step::Key("namespace")],
        _ => Vec::new(),
    };
    let position = object.position(&path);
    let failure = Failure::unable(anyhow!("{position}: {}: {error}", object.title()));
    match refused::hint_for_sealing(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What client-side `kubectl apply` leaves in everything. Nobody misses it.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Labels and annotations by which other tools track their objects would make them fight over the target.
fn tell_what_is_dropped(object: &Object<'_>, secret: &Secret) {
    let labels = secret.metadata.labels.iter().flatten().map(|mark| ("label", mark));
    let annotations = secret.metadata.annotations.iter().flatten().map(|mark| ("annotation", mark));
    for (kind, (key, _)) in
        labels.chain(annotations).filter(|(_, (key, _))| rules::is_tracking(key) && *key != APPLIED)
    {
        output::note(&format!(
            "{}: {}: {kind} {key} is not taken over: tools track their own objects by it",
            object.position(&[]),
            object.title(),
        ));
    }
}
