//! A Secret in the clear that is to be sealed: from a manifest, or put together on the command line.

use anyhow::anyhow;
use bulla_crds::rules::{self, Violation};
use bulla_crds::{SealError, WipedSecret};
use bulla_sealing::{Recipients, Scope};
use serde_json::Value;

use crate::manifest::{Object, Step};
use crate::report::failure::Failure;
use crate::report::{diagnostic, output};

/// A Secret with a name, its namespace, and where it stands if it is a manifest.
pub(crate) struct PlainSecret<'a> {
    pub(crate) secret: WipedSecret,
    pub(crate) namespace: Option<String>,
    pub(crate) object: Option<Object<'a>>,
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
    pub(crate) fn seal(&self, scope: Scope, recipients: &Recipients) -> Result<Value, Failure> {
        let sealed = bulla_crds::seal(&self.secret, self.namespace.as_deref(), scope, recipients);
        let sealed_secret = sealed.map_err(|error| self.refuse_to_seal(&error))?;
        self.tell_what_is_dropped();
        serde_json::to_value(&sealed_secret)
            .map_err(|_| self.refuse(&[], "cannot be written as a manifest"))
    }

    /// Why it is not sealed, at the place that it is about.
    pub(crate) fn refuse_to_seal(&self, error: &SealError) -> Failure {
        let path: Vec<_> = match error {
            SealError::Target { key, .. }
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
    pub(crate) fn refuse(&self, path: &[Step<'_>], what: impl std::fmt::Display) -> Failure {
        let title = self.title();
        Failure::unable(match &self.object {
            Some(object) => anyhow!("{}: {title}: {what}", object.position(path)),
            None => anyhow!("{title}: {what}"),
        })
    }

    /// Labels and annotations by which other tools track their objects would make them fight over the target.
    pub(crate) fn tell_what_is_dropped(&self) {
        /// What client-side `kubectl apply` leaves in everything. Nobody misses it.
        const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
        let metadata = &self.secret.metadata;
        let labels = metadata.labels.iter().flatten().map(|(key, _)| ("label", key));
        let annotations = metadata.annotations.iter().flatten().map(|(key, _)| ("annotation", key));
        for (kind, key) in
            labels.chain(annotations).filter(|(_, key)| rules::is_tracking(key) && *key != APPLIED)
        {
            let what =
                format!("{kind} {key} is not taken over: tools track their own objects by it");
            output::note(&match &self.object {
                Some(object) => format!("{}: {}: {what}", object.position(&[]), self.title()),
                None => format!("{}: {what}", self.title()),
            });
        }
    }

    fn path_of<'k>(&self, key: &'k str) -> Vec<Step<'k>> {
        let has_key = |field: &&str| {
            let object = self.object.as_ref();
            object.is_some_and(|it| it.value.get(field).and_then(|it| it.get(key)).is_some())
        };
        match ["stringData", "data"].into_iter().find(has_key) {
            Some(field) => vec![Step::Key(field), Step::Key(key)],
            None => Vec::new(),
        }
    }
}
