//! The rules, and what is reported for each. Their names are stable, because people refer to them.

use std::fmt;

/// The page that explains each rule and what to do. `--explain` and SARIF show its sections.
const PAGE: &str = include_str!("../../../../docs/lint.md");

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Good to know.
    Note,
    /// It works, but is likely not intended.
    Warning,
    /// It will not work, or a secret is plaintext or sealed to the wrong key.
    Error,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What a rule needs before it can find anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// The file alone.
    File,
    /// A bulla.yaml.
    Pins,
    /// A cluster's keys.
    Cluster,
    /// An earlier commit.
    History,
    /// The allowances themselves; they cannot be allowed.
    Allowances,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident, $id:literal, $level:ident, $basis:ident, $hint:literal;)*) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(super) enum Rule {
            $($(#[doc = $doc])* $name,)*
        }

        impl Rule {
            /// All rules, in the order of the page.
            pub(super) const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name, for people and programs.
            pub(super) fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            pub(super) fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }

            pub(super) fn basis(self) -> Basis {
                match self { $(Self::$name => Basis::$basis,)* }
            }

            /// What to do, in half a line.
            pub(super) fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

rules! {
    /// A Secret with plaintext values.
    PlaintextSecret, "plaintext-secret", Error, File, "seal it with bulla seal, and change the values: they stay in Git's history";
    /// A generator of Secrets with plaintext values.
    SecretGenerator, "secret-generator", Error, File, "put the values into a SealedSecret, and change them: they stay in Git's history";
    /// A Secret with the controller's own identity.
    PrivateIdentity, "private-identity", Error, File, "remove it from Git, and renew the key: anyone who read it can open every value sealed to it";
    /// An age identity.
    AgeIdentity, "age-identity", Error, File, "remove it from Git, and renew the key: anyone who read it can open every value sealed to it";
    /// Not YAML, and it mentions Secrets.
    MalformedManifest, "malformed-manifest", Error, File, "correct it, so that it can be checked";
    /// Too large to be read.
    UncheckedFile, "unchecked-file", Error, File, "split it, or keep it out of the repository";
    /// A template of manifests that mentions Secrets.
    UnrenderedTemplate, "unrendered-template", Warning, File, "check the rendered manifests: helm template … | bulla lint -";
    /// A Secret that another tool sealed.
    OtherTool, "other-tool", Note, File, "to move it to Bulla, run: bulla migrate";
    /// A field that the API server does not know.
    UnknownField, "unknown-field", Error, File, "correct the field's name, or remove it";
    /// A version of our API that this tool does not know.
    UnknownVersion, "unknown-version", Error, File, "a newer bulla may support it";
    /// The schema does not allow it.
    Schema, "schema", Error, File, "correct it: the API server refuses the object";
    /// The name is missing or not one that an object can have.
    InvalidName, "invalid-name", Error, File, "set metadata.name; a sealed value is for one name";
    /// The namespace is not valid.
    InvalidNamespace, "invalid-namespace", Error, File, "use only lower-case letters, digits and -, at most 63 characters";
    /// Not a valid data key.
    InvalidKey, "invalid-key", Error, File, "use only letters, digits, -, _ and ., at most 253 characters";
    /// A label or annotation of the template that the API server would refuse.
    InvalidLabel, "invalid-label", Error, File, "correct it: the API server would refuse the Secret";
    /// A type of Secret that the cluster itself trusts.
    RefusedType, "refused-type", Error, File, "let the cluster create such a Secret itself";
    /// The type needs a key that is missing.
    MissingKey, "missing-key", Error, File, "add the key with bulla set, or correct spec.template.type";
    /// A text of `template.data` that cannot be rendered.
    BadTemplate, "bad-template", Error, File, "correct spec.template.data; see docs/templates.md";
    /// A data key that is both sealed and rendered.
    DuplicateKey, "duplicate-key", Error, File, "remove one of the two";
    /// A template with more than data, for a Secret that someone else owns.
    MergeTemplate, "merge-template", Error, File, "remove the field, or the policy Merge";
    /// A value that is not sealed at all.
    NotSealed, "not-sealed", Error, File, "seal it with bulla set; if it was a secret, change it: it stays in Git's history";
    /// A sealed value that is cut or breaks the format.
    MalformedValue, "malformed-value", Error, File, "restore the value from an earlier commit, or seal it again";
    /// A value that is for another namespace, name or key.
    WrongBinding, "wrong-binding", Error, File, "a sealed value opens only in the place it was sealed for: seal it again for its new place";
    /// Values of one object that are for different namespaces.
    MixedNamespaces, "mixed-namespaces", Error, File, "seal all of them for the same namespace";
    /// The manifest names no namespace to compare with.
    NamespaceNotChecked, "namespace-not-checked", Note, File, "check what is deployed: kustomize build … | bulla lint -";
    /// The same object twice.
    DuplicateObject, "duplicate-object", Warning, File, "delete one of them: the one applied last wins";
    /// A label or annotation of the template that will not be taken over.
    DroppedLabel, "dropped-label", Warning, File, "remove it from spec.template.metadata";
    /// More than client-side `kubectl apply` can take.
    LargeManifest, "large-manifest", Warning, File, "split it, or apply it with --server-side";
    /// More than the API server can take.
    TooLarge, "too-large", Error, File, "split it";
    /// A SealedSecret that no environment covers.
    NoEnvironment, "no-environment", Error, Pins, "add its path to an environment of bulla.yaml";
    /// Another namespace than the environment's.
    NamespaceMismatch, "namespace-mismatch", Error, Pins, "correct metadata.namespace, or move the file to its environment";
    /// Sealed to a key of another environment.
    UnexpectedRecipient, "unexpected-recipient", Error, Pins, "find out who sealed it to that key; to seal it only to the pinned keys, run bulla rekey";
    /// Not sealed to a key that the environment pins.
    MissingRecipient, "missing-recipient", Error, Pins, "to seal it to the pinned keys, run bulla rekey";
    /// Sealed to a key that is retired.
    RetiredKey, "retired-key", Warning, Pins, "to seal it to the current key, run bulla rekey";
    /// Sealed to an unknown key.
    UnknownKey, "unknown-key", Error, Pins, "find out whose key it is; to seal it only to the pinned keys, run bulla rekey";
    /// Sealed to a key that the cluster has revoked.
    RevokedKey, "revoked-key", Error, Cluster, "replace the credential that the value holds, then seal the new one";
    /// Not sealed to any key that the cluster holds.
    KeyNotHeld, "key-not-held", Error, Cluster, "rekey it with another identity, or restore the key";
    /// bulla.yaml seals to other keys than it did.
    RecipientsChanged, "recipients-changed", Warning, History, "compare the fingerprints with those that bulla keys list shows for the cluster";
    /// The value is for another place than it was.
    BindingChanged, "binding-changed", Warning, History, "check that the value belongs in its new place";
    /// Another value.
    ValueChanged, "value-changed", Note, History, "nothing, if this was intended";
    /// The same value for other keys.
    Rekeyed, "rekeyed", Note, History, "nothing, if this was intended";
    /// An allowance that the earlier commit does not have.
    AllowanceAdded, "allowance-added", Warning, Allowances, "decide whether the finding may be allowed";
    /// An allowance that means nothing.
    BadAllowance, "bad-allowance", Error, Allowances, "write: bulla-lint: allow RULE: REASON";
    /// An allowance without a finding.
    UnusedAllowance, "unused-allowance", Warning, Allowances, "remove it";
}

impl Rule {
    /// The rule of this name.
    pub(super) fn parse(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.id() == id)
    }

    /// Whether everyone who can read the repository can read a secret.
    pub(super) fn is_leak(self) -> bool {
        matches!(
            self,
            Self::PlaintextSecret
                | Self::SecretGenerator
                | Self::PrivateIdentity
                | Self::AgeIdentity
                | Self::NotSealed
        )
    }

    /// Whether an allowance that the change itself adds must not silence it.
    pub(super) fn is_gated(self) -> bool {
        self.is_leak()
            || self.basis() == Basis::Pins
            || matches!(
                self,
                Self::MalformedManifest | Self::UncheckedFile | Self::UnrenderedTemplate
            )
    }

    /// The section of the page about it, without the heading.
    pub(super) fn explanation(self) -> &'static str {
        let heading = format!("\n### {}\n", self.id());
        let section = PAGE.split_once(&heading).map_or("", |(_, rest)| rest);
        let end = ["\n### ", "\n## "].iter().filter_map(|next| section.find(next)).min();
        section[..end.unwrap_or(section.len())].trim()
    }

    /// What it means, in one sentence.
    pub(super) fn sentence(self) -> &'static str {
        let paragraph = self.explanation().split("\n\n").nth(1).unwrap_or_default();
        paragraph.split_inclusive(". ").next().unwrap_or_default().trim()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_rule_and_its_level_in_order() {
        let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### "));
        let ids: Vec<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(headings.collect::<Vec<_>>(), ids);
        for rule in Rule::ALL {
            let text = rule.explanation();
            let first = text.lines().next().unwrap_or_default();
            let level = first.strip_prefix("Level: ").map(|rest| rest.split('.').next().unwrap());
            assert_eq!(level, Some(rule.level().as_str()), "{rule}");
            assert!(text.contains("```"), "{rule} has no example");
            assert!(text.contains("What to do:"), "{rule}");
            assert!(!rule.sentence().is_empty() && rule.sentence().len() < 200, "{rule}");
            assert_eq!(Rule::parse(rule.id()), Some(*rule));
        }
    }

    #[test]
    fn a_rule_can_be_allowed_or_is_about_allowances() {
        let own = Rule::ALL.iter().filter(|rule| rule.basis() == Basis::Allowances);
        let own: Vec<_> = own.map(|rule| rule.id()).collect();
        assert_eq!(own, ["allowance-added", "bad-allowance", "unused-allowance"]);
    }
}
