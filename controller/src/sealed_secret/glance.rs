//! Decides from the caches whether an object needs work.
//!
//! What was done is known from the status, not from memory. So a restart costs the lists and no request for each
//! object, and after a restore of etcd the status still agrees with the objects restored beside it.

use bulla_crds::conditions::Reason;
use bulla_sealing::Keyring;

use crate::sealed_secret::plan::RENDERER;
use crate::state::cache::{KnownSealedSecret, ObjectVersion};

/// The result of a glance at the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glance {
    /// The object needs no work.
    Settled,
    /// The object may need work, so the API server must be asked.
    Look,
}

/// Compares a SealedSecret with its target, both as the watches delivered them.
pub(super) fn glance(
    known: &KnownSealedSecret,
    target: Option<&ObjectVersion>,
    keyring: &Keyring,
) -> Glance {
    if known.is_deleted {
        return Glance::Settled;
    }
    let Some(status) = &known.status else { return Glance::Look };
    if status.observed_generation != known.generation {
        return Glance::Look;
    }
    let Some((ready, reason)) = &status.ready else { return Glance::Look };
    let is_any_held = || status.fingerprints.iter().any(|key| keyring.is_held(*key));
    let is_settled = match ready.as_str() {
        // None of the keys of the SealedSecret is held any more, so its state has changed.
        "True" if !status.fingerprints.is_empty() && !is_any_held() => false,
        "True" => status.target.as_ref().zip(target).is_some_and(|(written, target)| {
            written.renderer == RENDERER && written.version == *target
        }),
        "False" if LACKING_KEY.iter().any(|lacking| reason == lacking.as_str()) => !is_any_held(),
        "False" => LASTING.iter().any(|lasting| reason == lasting.as_str()),
        _ => false,
    };
    if is_settled { Glance::Settled } else { Glance::Look }
}

/// Reasons that end when a key is held.
pub(super) const LACKING_KEY: [Reason; 2] = [Reason::UnknownKey, Reason::RevokedKey];

/// Reasons that end only with a change of the SealedSecret or of the controller's flags.
const LASTING: [Reason; 11] = [
    Reason::WrongBinding,
    Reason::Damaged,
    Reason::Malformed,
    Reason::NotSealed,
    Reason::Invalid,
    Reason::InvalidForType,
    Reason::TemplateFailed,
    Reason::TypeRefused,
    Reason::LabelRefused,
    Reason::AnnotationRefused,
    Reason::NamespaceRefused,
];

#[cfg(test)]
mod tests {
    use bulla_sealing::{Identity, KeyType};
    use serde_json::{Value, json};

    use super::*;
    use crate::state::cache::Glimpse;

    fn cached(change: impl FnOnce(&mut Value)) -> KnownSealedSecret {
        let mut object = json!({
            "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db", "namespace": "prod", "generation": 2},
            "spec": {"sealedData": {}},
            "status": {
                "observedGeneration": 2,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Unsealed", "message": "",
                    "lastTransitionTime": "2026-11-01T00:00:00Z",
                }],
                "target": {"uid": "u1", "resourceVersion": "7", "keys": [], "renderer": RENDERER},
                "fingerprints": [],
            },
        });
        change(&mut object);
        KnownSealedSecret::from(&serde_json::from_value::<Glimpse>(object).unwrap())
    }

    fn target(uid: &str, resource_version: &str) -> ObjectVersion {
        ObjectVersion { uid: uid.into(), resource_version: resource_version.into() }
    }

    #[test]
    fn an_unchanged_object_is_settled() {
        let keyring = Keyring::new();
        let unchanged = cached(|_| {});
        assert_eq!(glance(&unchanged, Some(&target("u1", "7")), &keyring), Glance::Settled);
        for (uid, resource_version) in [("u1", "8"), ("u2", "7")] {
            assert_eq!(
                glance(&unchanged, Some(&target(uid, resource_version)), &keyring),
                Glance::Look
            );
        }
        assert_eq!(glance(&unchanged, None, &keyring), Glance::Look);
    }

    #[test]
    fn a_changed_object_is_checked() {
        let keyring = Keyring::new();
        let written = target("u1", "7");
        let changes: [fn(&mut Value); 5] = [
            |object| object["metadata"]["generation"] = json!(3),
            |object| object["status"] = json!({"observedGeneration": -1}),
            |object| object["status"]["conditions"] = json!([]),
            |object| object["status"]["target"]["renderer"] = json!(RENDERER - 1),
            |object| object["status"]["conditions"][0]["status"] = json!("Unknown"),
        ];
        for change in changes {
            assert_eq!(glance(&cached(change), Some(&written), &keyring), Glance::Look);
        }
    }

    #[test]
    fn an_object_without_a_key_is_checked_when_the_key_comes() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let waiting = cached(|object| {
            object["status"]["conditions"][0]["status"] = json!("False");
            object["status"]["conditions"][0]["reason"] = json!("UnknownKey");
            object["status"]["fingerprints"] =
                json!([identity.recipient().fingerprint().to_string()]);
        });
        assert_eq!(glance(&waiting, None, &Keyring::new()), Glance::Settled);
        assert_eq!(glance(&waiting, None, &Keyring::from_iter([identity])), Glance::Look);
    }

    #[test]
    fn an_unsealed_object_is_checked_when_its_key_is_no_longer_held() {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let unsealed = cached(|object| {
            let fingerprint = identity.recipient().fingerprint().to_string();
            object["status"]["fingerprints"] = json!(["3f9a1c5e7b2d4a60", fingerprint]);
        });
        let written = target("u1", "7");
        assert_eq!(glance(&unsealed, Some(&written), &Keyring::new()), Glance::Look);
        let keyring = Keyring::from_iter([identity]);
        assert_eq!(glance(&unsealed, Some(&written), &keyring), Glance::Settled);
    }

    #[test]
    fn a_stalled_object_is_settled_and_a_conflict_is_not() {
        for (reason, expected) in [("Damaged", Glance::Settled), ("TargetExists", Glance::Look)] {
            let stuck = cached(|object| {
                object["status"]["conditions"][0]["status"] = json!("False");
                object["status"]["conditions"][0]["reason"] = json!(reason);
            });
            assert_eq!(glance(&stuck, None, &Keyring::new()), expected);
        }
    }

    #[test]
    fn an_object_that_is_being_deleted_is_left_alone() {
        let deleted = cached(|object| {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-01T00:00:00Z");
            object["metadata"]["generation"] = json!(3);
        });
        assert_eq!(glance(&deleted, None, &Keyring::new()), Glance::Settled);
    }
}
