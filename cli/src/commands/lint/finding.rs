//! What `bulla lint` reports.

use bulla_crds::rules::Violation;
use serde_json::{Value, json};

use crate::escape;
use crate::manifest::Position;

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// It will not work, or a secret is in the clear.
    Error,
    /// It works and is likely not what was meant.
    Warning,
    /// Something that could not be judged.
    Note,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The rules. Their names are stable: people refer to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A Secret with values in the clear.
    PlaintextSecret,
    /// A field that the API server does not know.
    UnknownField,
    /// A version of our API that this tool does not know.
    UnknownVersion,
    /// The schema does not allow it.
    Schema,
    /// The name is missing or not one that an object can have.
    InvalidName,
    /// The namespace is not one that there can be.
    InvalidNamespace,
    /// A data key that no Secret can have.
    InvalidKey,
    /// A label or annotation of the template that the API server would refuse.
    InvalidLabel,
    /// A type of Secret that the cluster itself trusts.
    RefusedType,
    /// The type demands a key that is not there.
    MissingKey,
    /// A text of `template.data` that cannot be rendered.
    BadTemplate,
    /// A data key that is both sealed and rendered.
    DuplicateKey,
    /// A template with more than data, for a Secret that somebody else owns.
    MergeTemplate,
    /// A value that is no sealed value at all.
    NotSealed,
    /// A sealed value that is cut or breaks the format.
    MalformedValue,
    /// A value that is for another namespace, name or key.
    WrongBinding,
    /// Values of one object that are for different namespaces.
    MixedNamespaces,
    /// The manifest names no namespace to compare with.
    NamespaceNotChecked,
    /// A label or annotation of the template that will not be taken over.
    DroppedLabel,
    /// More than client-side `kubectl apply` can take.
    LargeManifest,
    /// More than the API server can take.
    TooLarge,
}

impl Rule {
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::PlaintextSecret => "plaintext-secret",
            Self::UnknownField => "unknown-field",
            Self::UnknownVersion => "unknown-version",
            Self::Schema => "schema",
            Self::InvalidName => "invalid-name",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidKey => "invalid-key",
            Self::InvalidLabel => "invalid-label",
            Self::RefusedType => "refused-type",
            Self::MissingKey => "missing-key",
            Self::BadTemplate => "bad-template",
            Self::DuplicateKey => "duplicate-key",
            Self::MergeTemplate => "merge-template",
            Self::NotSealed => "not-sealed",
            Self::MalformedValue => "malformed-value",
            Self::WrongBinding => "wrong-binding",
            Self::MixedNamespaces => "mixed-namespaces",
            Self::NamespaceNotChecked => "namespace-not-checked",
            Self::DroppedLabel => "dropped-label",
            Self::LargeManifest => "large-manifest",
            Self::TooLarge => "too-large",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::DroppedLabel | Self::LargeManifest => Level::Warning,
            Self::NamespaceNotChecked => Level::Note,
            _ => Level::Error,
        }
    }
}

impl From<&Violation> for Rule {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::Empty | Violation::TooManyValues => Self::Schema,
            Violation::TooLarge | Violation::RenderedTooLarge => Self::TooLarge,
            Violation::DataKey(_) => Self::InvalidKey,
            Violation::LabelKey(_) | Violation::LabelValue(_) | Violation::AnnotationKey(_) => {
                Self::InvalidLabel
            }
            Violation::TypeRefused(_) => Self::RefusedType,
            Violation::KeyMissing { .. } => Self::MissingKey,
            Violation::Template { .. }
            | Violation::TemplateTooLong(_)
            | Violation::TemplateNotJson(_) => Self::BadTemplate,
            Violation::KeyTwice(_) => Self::DuplicateKey,
            Violation::MergeTemplate(_) => Self::MergeTemplate,
        }
    }
}

/// One thing to tell, and where.
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) position: Position,
    /// `namespace/name` of the object.
    pub(super) object: String,
    /// The data key that it is about, if it is about one.
    pub(super) key: Option<String>,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn level(&self) -> Level {
        self.rule.level()
    }

    /// `FILE:LINE: LEVEL: document 2, prod/db, key password: MESSAGE [RULE]`.
    pub(super) fn to_text(&self) -> String {
        let Position { file, document, line, .. } = &self.position;
        let key = self.key.iter().map(|key| format!(", key {key}")).collect::<String>();
        let text = format!(
            "{file}:{line}: {}: document {document}, {}{key}: {} [{}]",
            self.level().as_str(),
            self.object,
            self.message,
            self.rule.id()
        );
        escape::line(&text) + "\n"
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "rule": self.rule.id(),
            "level": self.level().as_str(),
            "file": self.position.file,
            "document": self.position.document,
            "item": self.position.item,
            "line": self.position.line,
            "object": self.object,
            "key": self.key,
            "message": self.message,
        })
    }
}
