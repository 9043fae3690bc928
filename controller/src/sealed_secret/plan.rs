//! The decision: pure and synchronous, made from what was observed and the keyring alone.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::conditions::Reason;
use bulla_crds::{API_VERSION, SealedSecret, TARGET_LABEL, TARGET_OWNED, WipedSecret, unseal};
use bulla_sealing::Keyring;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::{ObjectMeta, PartialObjectMeta};

use crate::context::FIELD_MANAGER;
use crate::sealed_secret::observe::{Observed, TargetState};

/// What is to be done about the target.
#[derive(Debug)]
pub(super) enum Plan {
    /// Create it: nothing is there.
    Create {
        /// The whole target.
        secret: WipedSecret,
        /// Whether it was there before and somebody deleted it.
        is_restored: bool,
    },
    /// Replace it as a whole, at the resource version that was observed.
    Correct {
        /// The whole target, with what others added to its metadata.
        secret: WipedSecret,
        /// Whether the SealedSecret is as it was judged, so that a change is somebody else's.
        is_same_generation: bool,
    },
    /// Leave it as it is, and say why.
    Refuse {
        /// The reason for the conditions.
        reason: Reason,
        /// The cause and what to do.
        message: String,
    },
}

/// Decides. `protected` is the controller's own namespace, in which no target lies.
pub(super) fn plan(observed: &Observed, keyring: &Keyring, protected: &str) -> Plan {
    let Observed { sealed_secret, target } = observed;
    if sealed_secret.metadata.namespace.as_deref() == Some(protected) {
        let message = "no Secret is made in the controller's own namespace; use another".into();
        return Plan::Refuse { reason: Reason::NamespaceRefused, message };
    }
    let status = sealed_secret.status.clone().unwrap_or_default();
    let is_same_generation = status.observed_generation == sealed_secret.metadata.generation;
    let secret = match unseal(sealed_secret, keyring) {
        Ok(secret) => owned(secret, sealed_secret),
        Err(error) => return Plan::Refuse { reason: error.reason(), message: error.to_string() },
    };
    match target {
        TargetState::Unseen => Plan::Create { secret, is_restored: false },
        TargetState::Absent => {
            Plan::Create { secret, is_restored: is_same_generation && status.target.is_some() }
        }
        TargetState::Present(found) => match obstacle(sealed_secret, found) {
            Some(message) => Plan::Refuse { reason: Reason::TargetExists, message },
            None => Plan::Correct { secret: merged(secret, found), is_same_generation },
        },
    }
}

/// Why the Secret that was found is not ours to write, if it is not.
///
/// Ours is what our status names by uid, or what a SealedSecret of this name controls, whatever its uid: it
/// may have been deleted and created again. A label proves nothing, because copies carry it too. Without
/// this rule whoever can create a SealedSecret could overwrite any Secret.
fn obstacle(sealed_secret: &SealedSecret, found: &PartialObjectMeta<Secret>) -> Option<String> {
    let name = sealed_secret.name_any();
    let controller = found
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    if let Some(controller) = controller {
        return (!is_sealed_secret(controller, &name)).then(|| {
            let controller = title(controller);
            format!(
                "Secret {name} is controlled by {controller}; delete it or rename one of the two"
            )
        });
    }
    let written = sealed_secret.status.as_ref().and_then(|status| status.target.as_ref());
    let is_ours = written.is_some_and(|written| found.metadata.uid.as_ref() == Some(&written.uid));
    (!is_ours).then(|| format!("Secret {name} is there and was not made from this SealedSecret; delete it or rename one of the two"))
}

/// Who wrote the reference chose its text, so only what looks like a kind and a name is shown.
fn title(owner: &OwnerReference) -> String {
    let is_kind =
        owner.kind.len() <= 63 && owner.kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match is_kind && bulla_sealing::is_dns_subdomain(&owner.name) {
        true => format!("{} {}", owner.kind, owner.name),
        false => "another object".into(),
    }
}

fn is_sealed_secret(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == "SealedSecret"
        && owner.api_version.starts_with("bulla.dev/")
        && owner.name == name
}

/// The target as it would be created: labelled and owned.
fn owned(secret: WipedSecret, sealed_secret: &SealedSecret) -> WipedSecret {
    secret.with(|secret| {
        secret
            .metadata
            .labels
            .get_or_insert_default()
            .insert(TARGET_LABEL.into(), TARGET_OWNED.into());
        secret.metadata.owner_references = Some(vec![OwnerReference {
            api_version: API_VERSION.into(),
            kind: "SealedSecret".into(),
            name: sealed_secret.name_any(),
            uid: sealed_secret.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
    })
}

/// The target as it would be replaced: what other writers added to its metadata stays, what we once set
/// and no longer declare goes.
fn merged(secret: WipedSecret, found: &PartialObjectMeta<Secret>) -> WipedSecret {
    secret.with(|secret| {
        let name = secret.name_any();
        let declared = std::mem::take(&mut secret.metadata);
        let others = found.metadata.owner_references.iter().flatten();
        let others = others
            .filter(|owner| owner.controller != Some(true) && !is_sealed_secret(owner, &name))
            .cloned();
        secret.metadata = ObjectMeta {
            labels: merge(
                &found.metadata,
                "f:labels",
                found.metadata.labels.as_ref(),
                declared.labels,
            ),
            annotations: merge(
                &found.metadata,
                "f:annotations",
                found.metadata.annotations.as_ref(),
                declared.annotations,
            ),
            owner_references: Some(
                declared.owner_references.into_iter().flatten().chain(others).collect(),
            ),
            managed_fields: None,
            ..found.metadata.clone()
        };
    })
}

fn merge(
    metadata: &ObjectMeta,
    field: &str,
    found: Option<&BTreeMap<String, String>>,
    declared: Option<BTreeMap<String, String>>,
) -> Option<BTreeMap<String, String>> {
    let ours = set_by_us(metadata, field);
    let mut merged: BTreeMap<_, _> = found.cloned().unwrap_or_default();
    merged.retain(|key, _| !ours.contains(key));
    merged.extend(declared.unwrap_or_default());
    (!merged.is_empty()).then_some(merged)
}

/// The labels or annotations that the API server's record says we set.
fn set_by_us(metadata: &ObjectMeta, field: &str) -> BTreeSet<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let fields = ours
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:metadata")?.get(field)?.as_object());
    fields
        .flat_map(|fields| {
            fields.keys().filter_map(|key| key.strip_prefix("f:")).map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bulla_sealing::{Identity, KeyType, Recipients, Scope};
    use serde_json::{Value, json};

    use super::*;

    struct Fixture {
        keyring: Keyring,
        sealed_secret: SealedSecret,
    }

    impl Fixture {
        fn new() -> Self {
            let identity = Identity::generate(KeyType::X25519).unwrap();
            let recipients = Recipients::new(vec![identity.recipient()]).unwrap();
            let secret = json!({"metadata": {"name": "db", "labels": {"team": "storage"}}, "data": {"password": "aHVudGVyMg=="}});
            let secret = WipedSecret::new(serde_json::from_value(secret).unwrap());
            let mut sealed_secret =
                bulla_crds::seal(&secret, "prod", Scope::Strict, &recipients).unwrap();
            sealed_secret.metadata.uid = Some("owner-2".into());
            sealed_secret.metadata.generation = Some(1);
            Self { keyring: Keyring::from_iter([identity]), sealed_secret }
        }

        fn with_status(mut self, uid: &str) -> Self {
            let status =
                json!({"observedGeneration": 1, "target": {"uid": uid, "resourceVersion": "7"}});
            self.sealed_secret.status = Some(serde_json::from_value(status).unwrap());
            self
        }

        fn plan(&self, target: TargetState) -> Plan {
            plan(
                &Observed { sealed_secret: self.sealed_secret.clone(), target },
                &self.keyring,
                "bulla-system",
            )
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn present(metadata: Value) -> TargetState {
        TargetState::Present(Box::new(
            serde_json::from_value(json!({"metadata": metadata})).unwrap(),
        ))
    }

    fn owner(api_version: &str, kind: &str, name: &str) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": "owner-1", "controller": true}])
    }

    #[test]
    fn a_first_target_is_created_owned_and_labelled() {
        let Plan::Create { secret, is_restored: false } = Fixture::new().plan(TargetState::Unseen)
        else {
            panic!("not created");
        };
        assert_eq!(secret.labels()[TARGET_LABEL], TARGET_OWNED);
        assert_eq!(secret.labels()["team"], "storage");
        let owner = &secret.owner_references()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
            ("owner-2", Some(true), None)
        );
    }

    #[test]
    fn a_deleted_target_is_restored() {
        let plan = Fixture::new().with_status("u1").plan(TargetState::Absent);
        assert!(matches!(plan, Plan::Create { is_restored: true, .. }));
        let mut changed = Fixture::new().with_status("u1");
        changed.sealed_secret.metadata.generation = Some(2);
        assert!(matches!(
            changed.plan(TargetState::Absent),
            Plan::Create { is_restored: false, .. }
        ));
    }

    #[test]
    fn what_is_ours_is_corrected_and_what_is_not_is_left_alone() {
        let ours = |api_version| owner(api_version, "SealedSecret", "db");
        for (status, metadata, is_ours) in [
            (None, json!({"uid": "u1"}), false),
            (None, json!({"uid": "u1", "labels": {TARGET_LABEL: TARGET_OWNED}}), false),
            (Some("u1"), json!({"uid": "u1"}), true),
            (Some("u0"), json!({"uid": "u1"}), false),
            // Deleted and created again: controlled by our earlier life.
            (None, json!({"uid": "u1", "ownerReferences": ours("bulla.dev/v1alpha1")}), true),
            (None, json!({"uid": "u1", "ownerReferences": ours("example.com/v1")}), false),
            (
                None,
                json!({"uid": "u1", "ownerReferences": owner("bulla.dev/v1alpha1", "SealedSecret", "other")}),
                false,
            ),
            (
                Some("u1"),
                json!({"uid": "u1", "ownerReferences": owner("apps/v1", "Deployment", "db")}),
                false,
            ),
        ] {
            let fixture = match status {
                Some(uid) => Fixture::new().with_status(uid),
                None => Fixture::new(),
            };
            let plan = fixture.plan(present(metadata.clone()));
            match is_ours {
                true => assert!(matches!(plan, Plan::Correct { .. }), "{metadata}: {plan:?}"),
                false => {
                    assert!(
                        matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. }),
                        "{metadata}: {plan:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_correction_keeps_what_others_wrote_and_drops_what_we_no_longer_declare() {
        let target = present(json!({
            "name": "db", "namespace": "prod", "uid": "u1", "resourceVersion": "9",
            "labels": {"theirs": "1", "old": "ours", "team": "edited"},
            "annotations": {"theirs": "1"},
            "finalizers": ["example.com/keep"],
            "ownerReferences": [
                {"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "owner-1", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "more", "uid": "c1"},
            ],
            "managedFields": [{
                "manager": FIELD_MANAGER, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:old": {}, "f:team": {}}}},
            }],
        }));
        let Plan::Correct { secret, .. } = Fixture::new().plan(target) else {
            panic!("not corrected")
        };
        let expected = json!({
            "name": "db", "namespace": "prod", "uid": "u1", "resourceVersion": "9",
            "labels": {"theirs": "1", "team": "storage", TARGET_LABEL: TARGET_OWNED},
            "annotations": {"theirs": "1"},
            "finalizers": ["example.com/keep"],
            "ownerReferences": [
                {"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "owner-2", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "more", "uid": "c1"},
            ],
        });
        assert_eq!(serde_json::to_value(&secret.metadata).unwrap(), expected);
    }

    #[test]
    fn no_target_lies_in_the_namespace_of_the_identities() {
        let mut fixture = Fixture::new();
        fixture.sealed_secret.metadata.namespace = Some("bulla-system".into());
        let plan = fixture.plan(TargetState::Unseen);
        assert!(matches!(plan, Plan::Refuse { reason: Reason::NamespaceRefused, .. }), "{plan:?}");
    }

    #[test]
    fn what_does_not_open_is_refused_before_anything_is_touched() {
        let mut fixture = Fixture::new().with_status("u1");
        fixture.sealed_secret.metadata.namespace = Some("dev".into());
        let Plan::Refuse { reason: Reason::WrongBinding, message } =
            fixture.plan(present(json!({"uid": "u1"})))
        else {
            panic!("not refused");
        };
        assert_eq!(
            message,
            "key password: sealed for key password of prod/db, not for key password of dev/db"
        );
    }
}
