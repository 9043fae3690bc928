//! The status contract: the conditions that Argo CD, Flux, Helm, `kubectl wait` and people read.
//!
//! | situation | Ready | Reconciling | Stalled |
//! | --- | --- | --- | --- |
//! | done | True, reason | absent | absent |
//! | working, or retrying | Unknown, reason | True, reason | absent |
//! | stalled | False, reason | absent | True, reason |

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of the summary condition.
pub const READY: &str = "Ready";
/// Present and True while work remains or a failure is being retried.
pub const RECONCILING: &str = "Reconciling";
/// Present and True while retrying cannot help and somebody must change something.
pub const STALLED: &str = "Stalled";

/// On a SealingKey: whether this cluster has the private half.
pub const HELD: &str = "Held";
/// On a SealingKey: whether somebody has taken a copy of the private half out of the cluster.
pub const BACKED_UP: &str = "BackedUp";

/// Whether the condition of this type is present and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

/// A condition for the object of this `generation`. While its status does not change, it keeps its transition
/// time from `previous`, so that an unchanged situation yields equal conditions and needs no write.
pub fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: i64,
    previous: &[Condition],
    now: Timestamp,
) -> Condition {
    let earlier =
        previous.iter().find(|earlier| earlier.type_ == type_ && earlier.status == status);
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: Some(generation),
        last_transition_time: earlier
            .map_or(Time(now), |earlier| earlier.last_transition_time.clone()),
    }
}

/// The fixed set of reasons, by which metrics and alerts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The Secret is as declared.
    Unsealed,
    /// A Rekey was answered with new headers.
    Rekeyed,
    /// A value is for another namespace, name or key.
    WrongBinding,
    /// A value is sealed only to keys that this cluster does not hold.
    UnknownKey,
    /// A value is sealed only to keys that this cluster does not hold, and one of them was revoked.
    RevokedKey,
    /// A value was changed after it was sealed.
    Damaged,
    /// A value is an age file that breaks the format.
    Malformed,
    /// A value is not a sealed value at all.
    NotSealed,
    /// A holder that a value is sealed to has no Active key.
    NoActiveKey,
    /// A holder that a value is sealed to has more than one Active key.
    SeveralActiveKeys,
    /// The holders that a value is sealed to have Active keys of both types, which one header cannot name.
    MixedTypes,
    /// More than the API server can store in one object.
    TooLarge,
    /// The object breaks a rule that needs no key.
    Invalid,
    /// A plaintext is not valid for the Secret's type.
    InvalidForType,
    /// A template of the Secret's data cannot be rendered.
    TemplateFailed,
    /// The cluster itself trusts Secrets of this type, or the controller is configured to refuse it.
    TypeRefused,
    /// The controller is configured to refuse a label of the template.
    LabelRefused,
    /// The controller is configured to refuse an annotation of the template.
    AnnotationRefused,
    /// The controller makes no targets in its own namespace.
    NamespaceRefused,
    /// A Secret of this name exists, and Bulla does not own it.
    TargetExists,
    /// A key to be merged already exists and belongs to somebody else.
    KeyTaken,
    /// The Secret to merge keys into does not exist yet.
    TargetMissing,
    /// Somebody else keeps reverting the controller's changes to the target.
    Contested,
    /// The target cannot be changed: it is immutable or has another type.
    TargetImmutable,
    /// The API server refused the Secret.
    TargetInvalid,
    /// The controller lacks a permission, or a quota is exceeded.
    Forbidden,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// Somebody else wrote the object at the same time.
    Conflict,
    /// The API server did not answer in time.
    Unavailable,
}

impl Reason {
    /// The word used in conditions, Events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unsealed => "Unsealed",
            Self::Rekeyed => "Rekeyed",
            Self::WrongBinding => "WrongBinding",
            Self::UnknownKey => "UnknownKey",
            Self::RevokedKey => "RevokedKey",
            Self::Damaged => "Damaged",
            Self::Malformed => "Malformed",
            Self::NotSealed => "NotSealed",
            Self::NoActiveKey => "NoActiveKey",
            Self::SeveralActiveKeys => "SeveralActiveKeys",
            Self::MixedTypes => "MixedTypes",
            Self::TooLarge => "TooLarge",
            Self::Invalid => "Invalid",
            Self::InvalidForType => "InvalidForType",
            Self::TemplateFailed => "TemplateFailed",
            Self::TypeRefused => "TypeRefused",
            Self::LabelRefused => "LabelRefused",
            Self::AnnotationRefused => "AnnotationRefused",
            Self::NamespaceRefused => "NamespaceRefused",
            Self::TargetExists => "TargetExists",
            Self::KeyTaken => "KeyTaken",
            Self::TargetMissing => "TargetMissing",
            Self::Contested => "Contested",
            Self::TargetImmutable => "TargetImmutable",
            Self::TargetInvalid => "TargetInvalid",
            Self::Forbidden => "Forbidden",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::Conflict => "Conflict",
            Self::Unavailable => "Unavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The outcome of a reconcile: one of the three rows of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Everything is as the object declares.
    Done {
        /// What this means for the object's kind.
        reason: Reason,
        /// What was done, in a phrase.
        message: String,
    },
    /// The controller retries with a growing delay.
    Retrying {
        /// Why it is not done.
        reason: Reason,
        /// The cause, in a phrase that Bulla wrote.
        message: String,
    },
    /// The controller waits for a change.
    NeedsPerson {
        /// Why it cannot be done.
        reason: Reason,
        /// The cause and what to do, in a phrase that Bulla wrote.
        message: String,
    },
}

impl Situation {
    /// The reason of the Ready condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Done { reason, .. }
            | Self::Retrying { reason, .. }
            | Self::NeedsPerson { reason, .. } => *reason,
        }
    }

    /// The message of every condition.
    pub fn message(&self) -> &str {
        match self {
            Self::Done { message, .. }
            | Self::Retrying { message, .. }
            | Self::NeedsPerson { message, .. } => message,
        }
    }

    /// The conditions for this situation, for the object of this `generation`.
    ///
    /// ```
    /// use bulla_crds::conditions::{Reason, Situation};
    /// use jiff::Timestamp;
    ///
    /// let stuck = Situation::NeedsPerson { reason: Reason::Damaged, message: "key password: damaged".into() };
    /// let conditions = stuck.conditions(7, &[], Timestamp::now());
    /// let summary: Vec<_> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    /// assert_eq!(summary, [("Ready", "False"), ("Stalled", "True")]);
    /// ```
    pub fn conditions(
        &self,
        generation: i64,
        previous: &[Condition],
        now: Timestamp,
    ) -> Vec<Condition> {
        let (ready, beside) = match self {
            Self::Done { .. } => ("True", None),
            Self::Retrying { .. } => ("Unknown", Some(RECONCILING)),
            Self::NeedsPerson { .. } => ("False", Some(STALLED)),
        };
        let (reason, message) = (self.reason().as_str(), self.message());
        let condition = |type_: &str, status: &str| {
            condition(type_, status, reason, message, generation, previous, now)
        };
        std::iter::once(condition(READY, ready))
            .chain(beside.map(|type_| condition(type_, "True")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(situation: &Situation) -> Vec<(String, String)> {
        let conditions = situation.conditions(3, &[], Timestamp::UNIX_EPOCH);
        assert!(conditions.iter().all(|condition| condition.observed_generation == Some(3)));
        conditions.into_iter().map(|condition| (condition.type_, condition.status)).collect()
    }

    #[test]
    fn each_situation_has_the_conditions_of_its_row() {
        let pair = |type_: &str, status: &str| (type_.to_owned(), status.to_owned());
        let done = Situation::Done { reason: Reason::Unsealed, message: "as declared".into() };
        assert_eq!(summary(&done), [pair(READY, "True")]);
        let retrying = Situation::Retrying { reason: Reason::Conflict, message: String::new() };
        assert_eq!(summary(&retrying), [pair(READY, "Unknown"), pair(RECONCILING, "True")]);
        let stuck = Situation::NeedsPerson { reason: Reason::Damaged, message: String::new() };
        assert_eq!(summary(&stuck), [pair(READY, "False"), pair(STALLED, "True")]);
    }

    #[test]
    fn every_condition_has_the_reason_and_message_of_its_situation() {
        let reason = Reason::Damaged;
        let message = "key password: damaged".to_owned();
        for situation in [
            Situation::Done { reason, message: message.clone() },
            Situation::Retrying { reason, message: message.clone() },
            Situation::NeedsPerson { reason, message: message.clone() },
        ] {
            for condition in situation.conditions(1, &[], Timestamp::UNIX_EPOCH) {
                assert_eq!(condition.reason, "Damaged");
                assert_eq!(condition.message, message);
            }
        }
    }

    #[test]
    fn a_reason_is_printed_as_its_word() {
        assert_eq!(Reason::NoActiveKey.to_string(), "NoActiveKey");
    }

    #[test]
    fn a_condition_is_true_only_if_it_is_present_with_status_true() {
        let ready = |status: &str| {
            [condition(READY, status, "Unsealed", "", 1, &[], Timestamp::UNIX_EPOCH)]
        };
        assert!(is_true(&ready("True"), READY));
        assert!(!is_true(&ready("False"), READY));
        assert!(!is_true(&ready("Unknown"), READY));
        assert!(!is_true(&ready("True"), STALLED));
        assert!(!is_true(&[], READY));
    }

    #[test]
    fn an_unchanged_situation_has_equal_conditions() {
        let stuck = Situation::NeedsPerson { reason: Reason::Damaged, message: String::new() };
        let first = stuck.conditions(1, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(stuck.conditions(1, &first, Timestamp::MAX), first);
        let done = Situation::Done { reason: Reason::Rekeyed, message: String::new() };
        let done = done.conditions(2, &first, Timestamp::MAX);
        assert_eq!(done[0].reason, "Rekeyed");
        assert_eq!(done[0].last_transition_time, Time(Timestamp::MAX));
    }
}
