//! A plaintext Secret to be sealed: from a manifest, or put together on the command line.

use std::collections::BTreeSet;
use std::fmt::Display;

use anyhow::anyhow;
use bulla_crds::rules::{self, Violation};
use bulla_crds::{LAST_APPLIED_ANNOTATION, Repeated, SealError, Template, WipedSecret, repeated};
use bulla_sealing::{Recipients, Scope};
use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::manifest::{Object, Step};
use crate::report::failure::Failure;
use crate::report::{diagnostic, output};
use crate::values::tls_pair;

/// Values that may be repeated where everyone can read them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InsistFlags {
    /// Seal the value of KEY although a label or annotation contains it as plaintext; repeatable
    #[arg(long = "allow-in-labels", value_name = "KEY", help_heading = "Secret")]
    keys: Vec<String>,
}

impl InsistFlags {
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.keys.iter().cloned().collect()
    }
}

/// A Secret with a name, its namespace, and its object if it comes from a manifest.
pub(crate) struct PlainSecret<'a> {
    pub(crate) secret: WipedSecret,
    pub(crate) namespace: Option<String>,
    pub(crate) object: Option<Object<'a>>,
}

/// Notes about labels and annotations that other tools track their objects by: on the target, they would make the
/// tools fight over it.
pub(crate) fn dropped_marks(secret: &Secret) -> Vec<String> {
    let metadata = &secret.metadata;
    let labels = metadata.labels.iter().flatten().map(|(key, _)| ("label", key));
    let annotations = metadata.annotations.iter().flatten().map(|(key, _)| ("annotation", key));
    let dropped = labels.chain(annotations);
    dropped
        .filter(|(_, key)| rules::is_tracking(key) && *key != LAST_APPLIED_ANNOTATION)
        .map(|(kind, key)| rules::not_taken_over(format_args!("{kind} {key}")))
        .collect()
}

/// Warns of values that everyone can read in a label or annotation, and that are sealed anyway.
pub(crate) fn warn_of_repeated(title: impl Display, secret: &Secret, template: &Template) {
    let data = secret.data.as_ref();
    for Repeated { key, mark, .. } in data.map(|data| repeated(data, template)).unwrap_or_default()
    {
        output::warning(&format!(
            "{title}: {mark} contains the value of {key}, so everyone can read it"
        ));
    }
}

/// Warns of a certificate and a key that no server could use together. The API server accepts them.
fn warn_of_tls(title: impl Display, secret: &Secret) {
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    if secret.type_.as_deref() == Some("kubernetes.io/tls")
        && let (Some(certificates), Some(key)) = (value("tls.crt"), value("tls.key"))
        && !certificates.0.is_empty()
        && let Err(mismatch) = tls_pair::check(&certificates.0, &key.0)
    {
        output::warning(&format!("{title}: tls.crt and tls.key: {mismatch}"));
    }
}

impl PlainSecret<'_> {
    pub(crate) fn name(&self) -> &str {
        self.secret.metadata.name.as_deref().unwrap_or_default()
    }

    /// `namespace/name`, for messages.
    pub(crate) fn title(&self) -> String {
        match (&self.object, &self.namespace) {
            (Some(object), _) => object.title(),
            (None, Some(namespace)) => format!("{namespace}/{}", self.name()),
            (None, None) => self.name().to_owned(),
        }
    }

    /// The manifest of the whole Secret, sealed.
    pub(crate) fn seal(
        &self,
        scope: Scope,
        recipients: &Recipients,
        insisted: &BTreeSet<String>,
    ) -> Result<Value, Failure> {
        let namespace = self.namespace.as_deref();
        let sealed_secret =
            bulla_crds::seal_repeated(&self.secret, namespace, scope, recipients, insisted)
                .map_err(|error| self.refuse_to_seal(&error))?;
        warn_of_repeated(self.title(), &self.secret, &bulla_crds::template_of(&self.secret));
        warn_of_tls(self.title(), &self.secret);
        self.tell(&dropped_marks(&self.secret));
        serde_json::to_value(&sealed_secret)
            .map_err(|_| self.refuse(&[], "cannot be written as a manifest"))
    }

    /// Why it is not sealed, at the place that it is about.
    pub(crate) fn refuse_to_seal(&self, error: &SealError) -> Failure {
        let path: Vec<_> = match error {
            SealError::Address { key, .. }
            | SealError::InTheClear { key, .. }
            | SealError::Violation(Violation::DataKey(key)) => self.path_of(key),
            SealError::Unfit { key, .. } => self.path_of(key),
            SealError::Violation(Violation::TypeRefused(_) | Violation::KeyMissing { .. }) => {
                vec![Step::Key("type")]
            }
            SealError::NoNamespace(_) => vec![Step::Key("metadata"), Step::Key("namespace")],
            _ => Vec::new(),
        };
        self.refuse(&path, error).maybe_hint(diagnostic::hint_for_sealing(error))
    }

    /// A failure about a place in it.
    pub(crate) fn refuse(&self, path: &[Step<'_>], what: impl Display) -> Failure {
        Failure::unable(anyhow!("{}: {what}", self.place(path)))
    }

    /// Reports the labels and annotations that are not taken over.
    pub(crate) fn tell(&self, dropped: &[String]) {
        for what in dropped {
            output::note(&format!("{}: {what}", self.place(&[])));
        }
    }

    fn place(&self, path: &[Step<'_>]) -> String {
        let title = self.title();
        self.object.map_or(title.clone(), |object| format!("{}: {title}", object.position(path)))
    }

    fn path_of<'k>(&self, key: &'k str) -> Vec<Step<'k>> {
        let has_key = |field: &&str| {
            let object = self.object.as_ref();
            object.and_then(|object| object.value.get(field)?.get(key)).is_some()
        };
        match ["stringData", "data"].into_iter().find(has_key) {
            Some(field) => vec![Step::Key(field), Step::Key(key)],
            None => Vec::new(),
        }
    }
}
