//! Decides what to do about the target, from what was observed and the keyring alone. Pure and synchronous.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::conditions::Reason;
use bulla_crds::{
    API_VERSION, LAST_APPLIED_ANNOTATION, ParsedValues, Policy, SealedSecret, TARGET_ADOPT,
    TARGET_LABEL, TARGET_MERGE, TARGET_OWNED, TARGET_SOURCE, TargetStatus, UnsealSecretError,
    ValueError, WipedSecret, unseal,
};
use bulla_sealing::UnsealError::NoIdentity;
use bulla_sealing::{Fingerprint, Keyring};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::core::{ObjectMeta, PartialObjectMeta};

use crate::field_manager::{applied_data_keys, last_writer, own_fields};
use crate::state::room::Occupied;

/// The version of the code that makes a Secret from a SealedSecret. Raise it when the code makes a different Secret
/// from the same SealedSecret: every target is then checked again.
pub(super) const RENDERER: i64 = 2;

/// How much of the target is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reading {
    /// Nothing, because the target probably does not exist. If it does, the create fails.
    Nothing,
    /// Its metadata.
    Metadata,
    /// Its metadata, after the API server rejected a replacement because it is immutable or has another type.
    Immutable,
    /// Its metadata and the names of its keys.
    Keys,
}

/// Everything that a decision is made from, besides keys and limits.
pub(super) struct Observed {
    pub(super) sealed_secret: SealedSecret,
    /// Its values, decoded once for the plan and the status.
    pub(super) values: ParsedValues,
    pub(super) target: TargetState,
    /// Its place, if it is large.
    #[expect(dead_code, reason = "dropping it frees the place")]
    pub(super) occupied: Occupied,
}

impl Observed {
    pub(super) fn new(sealed_secret: SealedSecret, target: TargetState) -> Self {
        let values = ParsedValues::of(&sealed_secret);
        Self { sealed_secret, values, target, occupied: Occupied::default() }
    }
}

/// What is known about the target.
pub(super) enum TargetState {
    /// It was not read.
    Unseen,
    /// It does not exist.
    Absent,
    /// It exists.
    Present(Box<Present>),
}

impl TargetState {
    /// Whether the names of its keys are known.
    pub(super) fn is_known_by_keys(&self) -> bool {
        match self {
            Self::Unseen => false,
            Self::Absent => true,
            Self::Present(present) => present.keys.is_some(),
        }
    }
}

/// An existing target.
pub(super) struct Present {
    pub(super) found: PartialObjectMeta<Secret>,
    /// The names of its keys, if they were read.
    pub(super) keys: Option<BTreeSet<String>>,
    /// Whether the API server rejected its replacement.
    pub(super) is_immutable: bool,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Conclusion {
    /// Read more: too little is known to decide.
    ReadMore(Reading),
    /// Carry out this plan.
    CarryOut(Box<Plan>),
}

/// What to do about the target.
#[derive(Debug)]
pub(super) enum Plan {
    /// Create it: it does not exist.
    Create {
        /// The whole target.
        secret: WipedSecret,
        /// Whether it existed before and another client deleted it.
        is_restored: bool,
    },
    /// Replace it as a whole, at the resource version that was observed.
    Correct {
        /// The whole target, with what others added to its metadata.
        secret: WipedSecret,
        /// Whether it was last written for this generation of the SealedSecret, so that a change is another client's.
        is_same_generation: bool,
        /// The other field manager that wrote last.
        by: Option<String>,
    },
    /// Delete it and create it, because it cannot be changed.
    Recreate {
        /// The whole target.
        secret: WipedSecret,
        /// The metadata of the existing Secret.
        found: Box<ObjectMeta>,
        /// Whether it was last written for this generation of the SealedSecret, so that a change is another client's.
        is_same_generation: bool,
        /// The other field manager that wrote last.
        by: Option<String>,
    },
    /// Add the keys of the SealedSecret to it.
    Merge {
        /// The keys of the SealedSecret only, at the uid and resource version that were observed.
        secret: WipedSecret,
        /// Whether it was last written for this generation of the SealedSecret, so that a change is another client's.
        is_same_generation: bool,
        /// The other field manager that wrote last.
        by: Option<String>,
    },
    /// Leave it unchanged and check again: the obstacle may go away.
    Wait {
        /// The reason for the conditions.
        reason: Reason,
        /// What is waited for.
        message: String,
    },
    /// Leave it unchanged and report why.
    Refuse {
        /// The reason for the conditions.
        reason: Reason,
        /// The cause and what to do.
        message: String,
    },
}

/// What the flags make this controller refuse, in addition to what every controller refuses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits<'a> {
    /// The controller's own namespace, in which no targets are made.
    pub(super) protected: &'a str,
    /// Secret types.
    pub(super) types: &'a [String],
    /// Label keys.
    pub(super) labels: &'a [String],
    /// Annotation keys.
    pub(super) annotations: &'a [String],
}

/// Decides whether to read more, or what to do about the target.
pub(super) fn decide(
    observed: &Observed,
    keyring: &Keyring,
    revoked: &BTreeSet<Fingerprint>,
    limits: &Limits<'_>,
) -> Conclusion {
    let Observed { sealed_secret, values, target, .. } = observed;
    if let Some(refusal) = limits.refusal(sealed_secret) {
        return Conclusion::CarryOut(Box::new(refusal));
    }
    if policy(sealed_secret) == Policy::Merge && !target.is_known_by_keys() {
        return Conclusion::ReadMore(Reading::Keys);
    }
    let plan = match unseal(sealed_secret, values, keyring) {
        Ok(secret) => plan(sealed_secret, target, secret),
        Err(error) => refuse(&error, revoked),
    };
    Conclusion::CarryOut(Box::new(plan))
}

/// What to do about a target that should hold `secret`.
fn plan(sealed_secret: &SealedSecret, target: &TargetState, secret: WipedSecret) -> Plan {
    if let TargetState::Present(present) = target
        && present.found.metadata.deletion_timestamp.is_some()
    {
        let message = "the Secret is being deleted".into();
        return Plan::Wait { reason: Reason::Conflict, message };
    }
    match policy(sealed_secret) {
        Policy::Merge => merge(sealed_secret, target, secret),
        policy @ (Policy::Owner | Policy::Orphan) => {
            keep(sealed_secret, target, declared(secret, sealed_secret, policy))
        }
    }
}

/// The refusal of values that do not unseal. Only the controller knows which keys were revoked.
fn refuse(error: &UnsealSecretError, revoked: &BTreeSet<Fingerprint>) -> Plan {
    let UnsealSecretError::Value { key, error: ValueError::Unseal(NoIdentity { fingerprints }) } =
        error
    else {
        return Plan::Refuse { reason: error.reason(), message: error.to_string() };
    };
    if let Some(fingerprint) = fingerprints.iter().find(|of| revoked.contains(of)) {
        let message =
            format!("key {key}: sealed to {fingerprint}, which was revoked; seal the value again");
        return Plan::Refuse { reason: Reason::RevokedKey, message };
    }
    let fingerprints: Vec<_> = fingerprints.iter().map(ToString::to_string).collect();
    let message = format!(
        "key {key}: this cluster has no identity for {}; seal the value for this cluster, or run bulla keys restore",
        fingerprints.join(", ")
    );
    Plan::Refuse { reason: Reason::UnknownKey, message }
}

impl Limits<'_> {
    fn refusal(&self, sealed_secret: &SealedSecret) -> Option<Plan> {
        if sealed_secret.metadata.namespace.as_deref() == Some(self.protected) {
            let message =
                "the controller makes no Secrets in its own namespace; use another namespace"
                    .into();
            return Some(Plan::Refuse { reason: Reason::NamespaceRefused, message });
        }
        let template = sealed_secret.spec.template.as_ref()?;
        if let Some(type_) = template.type_.as_ref().filter(|type_| self.types.contains(type_)) {
            let message = format!(
                "this controller refuses Secrets of type {type_} (see its flag --refuse-types)"
            );
            return Some(Plan::Refuse { reason: Reason::TypeRefused, message });
        }
        let metadata = template.metadata.as_ref()?;
        if let Some(label) = metadata.labels.keys().find(|key| self.labels.contains(key)) {
            let message = format!(
                "this controller refuses Secrets with label {label} (see its flag --refuse-labels)"
            );
            return Some(Plan::Refuse { reason: Reason::LabelRefused, message });
        }
        let annotation = metadata.annotations.keys().find(|key| self.annotations.contains(key))?;
        let message = format!(
            "this controller refuses Secrets with annotation {annotation} (see its flag --refuse-annotations)"
        );
        Some(Plan::Refuse { reason: Reason::AnnotationRefused, message })
    }
}

fn policy(sealed_secret: &SealedSecret) -> Policy {
    sealed_secret.spec.target.as_ref().map(|target| target.policy).unwrap_or_default()
}

/// Whether the target was last written for this generation of the SealedSecret, so that a change is another client's.
fn is_same_generation(sealed_secret: &SealedSecret) -> bool {
    written(sealed_secret).is_some_and(|written| {
        Some(written.generation) == sealed_secret.metadata.generation
            && written.renderer == RENDERER
    })
}

/// What the status records about the last write.
fn written(sealed_secret: &SealedSecret) -> Option<&TargetStatus> {
    sealed_secret.status.as_ref()?.target.as_ref()
}

/// For Owner and Orphan: the whole target is as declared.
fn keep(sealed_secret: &SealedSecret, target: &TargetState, secret: WipedSecret) -> Plan {
    let is_same_generation = is_same_generation(sealed_secret);
    let present = match target {
        TargetState::Unseen => return Plan::Create { secret, is_restored: false },
        TargetState::Absent => {
            return Plan::Create { secret, is_restored: is_same_generation };
        }
        TargetState::Present(present) => present,
    };
    let Present { found, is_immutable, .. } = &**present;
    if let Some(message) = obstacle(sealed_secret, found) {
        return Plan::Refuse { reason: Reason::TargetExists, message };
    }
    let by = last_writer(&found.metadata);
    if *is_immutable || is_new_immutable(sealed_secret, is_same_generation) {
        let secret = merged(secret, found).with(as_new);
        let found = Box::new(found.metadata.clone());
        return Plan::Recreate { secret, found, is_same_generation, by };
    }
    Plan::Correct { secret: merged(secret, found), is_same_generation, by }
}

/// Whether this is a new generation of an immutable target. It is recreated even if its values are equal: the API server
/// accepts a replacement only then, so anyone who may change the SealedSecret could test guesses against a value.
fn is_new_immutable(sealed_secret: &SealedSecret, is_same_generation: bool) -> bool {
    let template = sealed_secret.spec.template.as_ref();
    let is_immutable = template.and_then(|template| template.immutable).unwrap_or_default();
    is_immutable && !is_same_generation && written(sealed_secret).is_some()
}

/// An annotation of the target that is different for every generation of every SealedSecret. So every generation
/// changes the target, and a resource version that moves does not tell anyone whether a value differs from the one
/// before.
fn source(sealed_secret: &SealedSecret) -> BTreeMap<String, String> {
    let uid = sealed_secret.uid().unwrap_or_default();
    let generation = sealed_secret.metadata.generation.unwrap_or_default();
    [(TARGET_SOURCE.to_owned(), format!("{uid}/{generation}"))].into()
}

/// For Merge: the keys of the SealedSecret are added to those of somebody else.
fn merge(sealed_secret: &SealedSecret, target: &TargetState, secret: WipedSecret) -> Plan {
    let name = sealed_secret.name_any();
    let TargetState::Present(present) = target else {
        let message = format!(
            "Secret {name} does not exist yet; policy Merge only adds keys to an existing Secret"
        );
        return Plan::Wait { reason: Reason::TargetMissing, message };
    };
    let Present { found, keys, .. } = &**present;
    if found.labels().get(TARGET_LABEL).map(String::as_str) != Some(TARGET_MERGE) {
        let message = format!(
            "Secret {name} does not allow merging; its owner can allow it with the label {TARGET_LABEL}={TARGET_MERGE}"
        );
        return Plan::Refuse { reason: Reason::TargetExists, message };
    }
    let own = own_keys(sealed_secret, &found.metadata);
    let taken =
        secret.data.iter().flatten().map(|(key, _)| key).find(|key| {
            keys.as_ref().is_some_and(|keys| keys.contains(*key)) && !own.contains(*key)
        });
    if let Some(key) = taken {
        let message = format!(
            "key {key} already exists in Secret {name} and belongs to somebody else; rename one of the two keys, or delete the existing one"
        );
        return Plan::Refuse { reason: Reason::KeyTaken, message };
    }
    let by = last_writer(&found.metadata);
    let secret = secret.with(|secret| {
        secret.type_ = None;
        secret.immutable = None;
        secret.metadata = ObjectMeta {
            name: Some(name),
            namespace: sealed_secret.namespace(),
            uid: found.metadata.uid.clone(),
            resource_version: found.metadata.resource_version.clone(),
            annotations: Some(source(sealed_secret)),
            ..ObjectMeta::default()
        };
    });
    Plan::Merge { secret, is_same_generation: is_same_generation(sealed_secret), by }
}

/// The keys that the controller added: those that the status lists for this very Secret, and those that
/// `managedFields` credits to the controller, in case a status could not be written.
fn own_keys(sealed_secret: &SealedSecret, found: &ObjectMeta) -> BTreeSet<String> {
    let written = written(sealed_secret).filter(|written| found.uid.as_ref() == Some(&written.uid));
    let listed = written.into_iter().flat_map(|written| written.keys.iter().cloned());
    listed.chain(applied_data_keys(found)).collect()
}

/// Why the controller may not write the Secret that was found, if it may not.
///
/// It may write a Secret that the status names by uid, or that a SealedSecret of this name controls, whatever its
/// uid: the SealedSecret may have been deleted and created again. The label of targets proves nothing, because
/// copies of a Secret carry it too. But the adopt label on that very Secret hands it over. Without this rule anybody
/// who can create a SealedSecret could overwrite any Secret.
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
                "Secret {name} is controlled by {controller}; delete it, or rename one of the two"
            )
        });
    }
    let written = written(sealed_secret).filter(|written| written.policy != Policy::Merge);
    let is_own = written.is_some_and(|written| found.metadata.uid.as_ref() == Some(&written.uid));
    (!is_own && !consents(found)).then(|| format!(
        "Secret {name} already exists and was not made from this SealedSecret; label it {TARGET_LABEL}={TARGET_ADOPT} to hand it over, delete it, or rename one of the two"
    ))
}

/// Whether the owner of the Secret hands it over.
fn consents(found: &PartialObjectMeta<Secret>) -> bool {
    found.labels().get(TARGET_LABEL).map(String::as_str) == Some(TARGET_ADOPT)
}

/// The kind and name of an owner. Any client can write this text, so it is shown only if it looks like a kind and a
/// name.
fn title(owner: &OwnerReference) -> String {
    let is_kind =
        owner.kind.len() <= 63 && owner.kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_kind && bulla_sealing::is_dns_subdomain(&owner.name) {
        format!("{} {}", owner.kind, owner.name)
    } else {
        "another object".into()
    }
}

fn is_sealed_secret(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == "SealedSecret"
        && owner.api_version.starts_with("bulla.dev/")
        && owner.name == name
}

/// The target as it would be created: labelled, and owned if the policy says so.
fn declared(secret: WipedSecret, sealed_secret: &SealedSecret, policy: Policy) -> WipedSecret {
    secret.with(|secret| {
        secret
            .metadata
            .labels
            .get_or_insert_default()
            .insert(TARGET_LABEL.into(), TARGET_OWNED.into());
        secret.metadata.annotations.get_or_insert_default().extend(source(sealed_secret));
        if policy == Policy::Owner {
            secret.metadata.owner_references = Some(vec![OwnerReference {
                api_version: API_VERSION.into(),
                kind: "SealedSecret".into(),
                name: sealed_secret.name_any(),
                uid: sealed_secret.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]);
        }
    })
}

/// The target as it would be replaced. Metadata that others added stays. Metadata that the controller once set and
/// the SealedSecret no longer declares goes.
fn merged(secret: WipedSecret, found: &PartialObjectMeta<Secret>) -> WipedSecret {
    secret.with(|secret| {
        let name = secret.name_any();
        let declared = std::mem::take(&mut secret.metadata);
        let others = found.metadata.owner_references.iter().flatten();
        let others = others
            .filter(|owner| owner.controller != Some(true) && !is_sealed_secret(owner, &name))
            .cloned();
        let owners: Vec<_> =
            declared.owner_references.into_iter().flatten().chain(others).collect();
        let mut annotations = combined(
            &found.metadata,
            "f:annotations",
            found.metadata.annotations.as_ref(),
            declared.annotations,
        );
        let mut labels =
            combined(&found.metadata, "f:labels", found.metadata.labels.as_ref(), declared.labels);
        if consents(found) {
            // On an adopted Secret, kubectl's copy of what was applied would still hold the old values.
            annotations.remove(LAST_APPLIED_ANNOTATION);
            // It is lasting consent: a manifest in Git that sets it would otherwise be applied again and again.
            labels.insert(TARGET_LABEL.into(), TARGET_ADOPT.into());
        }
        secret.metadata = ObjectMeta {
            labels: (!labels.is_empty()).then_some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: (!owners.is_empty()).then_some(owners),
            managed_fields: None,
            ..found.metadata.clone()
        };
    })
}

/// Makes the metadata of an existing Secret that of a new one, with the labels and annotations of others.
fn as_new(secret: &mut Secret) {
    let ObjectMeta { name, namespace, labels, annotations, owner_references, .. } =
        std::mem::take(&mut secret.metadata);
    secret.metadata = ObjectMeta {
        name,
        namespace,
        labels,
        annotations,
        owner_references,
        ..ObjectMeta::default()
    };
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(TARGET_LABEL.into(), TARGET_OWNED.into());
}

fn combined(
    metadata: &ObjectMeta,
    field: &str,
    found: Option<&BTreeMap<String, String>>,
    declared: Option<BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let own = own_fields(metadata, field);
    let mut combined: BTreeMap<_, _> = found.cloned().unwrap_or_default();
    combined.retain(|key, _| !own.contains(key));
    combined.extend(declared.unwrap_or_default());
    combined
}

#[cfg(test)]
mod tests {
    use bulla_crds::TargetSpec;
    use bulla_sealing::{Identity, KeyType, Recipients, Scope};
    use serde_json::{Value, json};

    use super::*;
    use crate::field_manager::FIELD_MANAGER;

    struct PlanFixture {
        keyring: Keyring,
        sealed_secret: SealedSecret,
    }

    impl PlanFixture {
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
            let status = json!({"observedGeneration": 1, "target": {"uid": uid, "resourceVersion": "7", "generation": 1, "renderer": RENDERER}});
            self.sealed_secret.status = Some(serde_json::from_value(status).unwrap());
            self
        }

        fn with_policy(mut self, policy: Policy) -> Self {
            self.sealed_secret.spec.target = Some(TargetSpec { policy });
            self.sealed_secret.spec.template = None;
            self
        }

        fn decide(&self, target: TargetState) -> Conclusion {
            let limits = Limits { protected: "bulla-system", ..Limits::default() };
            let observed = Observed::new(self.sealed_secret.clone(), target);
            decide(&observed, &self.keyring, &BTreeSet::new(), &limits)
        }

        fn plan(&self, target: TargetState) -> Plan {
            match self.decide(target) {
                Conclusion::CarryOut(plan) => *plan,
                Conclusion::ReadMore(reading) => panic!("{reading:?} must be read first"),
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better at the call")]
    fn present(metadata: Value) -> TargetState {
        let found = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        TargetState::Present(Box::new(Present { found, keys: None, is_immutable: false }))
    }

    fn owner(api_version: &str, kind: &str, name: &str) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": "owner-1", "controller": true}])
    }

    #[test]
    fn a_first_target_is_created_owned_and_labelled() {
        let Plan::Create { secret, is_restored: false } =
            PlanFixture::new().plan(TargetState::Unseen)
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
        let plan = PlanFixture::new().with_status("u1").plan(TargetState::Absent);
        assert!(matches!(plan, Plan::Create { is_restored: true, .. }));
        let mut changed = PlanFixture::new().with_status("u1");
        changed.sealed_secret.metadata.generation = Some(2);
        assert!(matches!(
            changed.plan(TargetState::Absent),
            Plan::Create { is_restored: false, .. }
        ));
    }

    #[test]
    fn an_own_target_is_corrected_and_a_foreign_secret_is_left_alone() {
        let own = |api_version| owner(api_version, "SealedSecret", "db");
        for (status, metadata, is_own) in [
            (None, json!({"uid": "u1"}), false),
            (None, json!({"uid": "u1", "labels": {TARGET_LABEL: TARGET_OWNED}}), false),
            (Some("u1"), json!({"uid": "u1"}), true),
            (Some("u0"), json!({"uid": "u1"}), false),
            // The SealedSecret was deleted and created again.
            (None, json!({"uid": "u1", "ownerReferences": own("bulla.dev/v1alpha1")}), true),
            (None, json!({"uid": "u1", "ownerReferences": own("example.com/v1")}), false),
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
                Some(uid) => PlanFixture::new().with_status(uid),
                None => PlanFixture::new(),
            };
            let plan = fixture.plan(present(metadata.clone()));
            let is_as_expected = if is_own {
                matches!(plan, Plan::Correct { .. })
            } else {
                matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. })
            };
            assert!(is_as_expected, "{metadata}: {plan:?}");
        }
    }

    #[test]
    fn a_correction_keeps_the_metadata_of_others_and_drops_what_is_no_longer_declared() {
        let target = present(json!({
            "name": "db", "namespace": "prod", "uid": "u1", "resourceVersion": "9",
            "labels": {"theirs": "1", "old": "own", "team": "edited"},
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
        let Plan::Correct { secret, .. } = PlanFixture::new().plan(target) else {
            panic!("not corrected")
        };
        let expected = json!({
            "name": "db", "namespace": "prod", "uid": "u1", "resourceVersion": "9",
            "labels": {"theirs": "1", "team": "storage", TARGET_LABEL: TARGET_OWNED},
            "annotations": {"theirs": "1", TARGET_SOURCE: "owner-2/1"},
            "finalizers": ["example.com/keep"],
            "ownerReferences": [
                {"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "owner-2", "controller": true},
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "more", "uid": "c1"},
            ],
        });
        assert_eq!(serde_json::to_value(&secret.metadata).unwrap(), expected);
    }

    #[test]
    fn no_target_is_made_in_the_namespace_of_the_identities() {
        let mut fixture = PlanFixture::new();
        fixture.sealed_secret.metadata.namespace = Some("bulla-system".into());
        let plan = fixture.plan(TargetState::Unseen);
        assert!(matches!(plan, Plan::Refuse { reason: Reason::NamespaceRefused, .. }), "{plan:?}");
    }

    #[test]
    fn a_value_that_does_not_unseal_is_refused_before_any_write() {
        let mut fixture = PlanFixture::new().with_status("u1");
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

    fn merge_target(metadata: Value, keys: &[&str]) -> TargetState {
        let TargetState::Present(mut present) = present(metadata) else { unreachable!() };
        present.keys = Some(keys.iter().map(|key| (*key).to_owned()).collect());
        TargetState::Present(present)
    }

    #[test]
    fn an_orphan_has_no_owner() {
        let fixture = PlanFixture::new().with_policy(Policy::Orphan);
        let Plan::Create { secret, .. } = fixture.plan(TargetState::Unseen) else {
            panic!("not created");
        };
        assert!(secret.owner_references().is_empty());
        let was_owned = present(json!({
            "name": "db", "uid": "u1", "ownerReferences": owner("bulla.dev/v1alpha1", "SealedSecret", "db"),
        }));
        let Plan::Correct { secret, .. } = fixture.plan(was_owned) else { panic!("not corrected") };
        assert!(secret.metadata.owner_references.is_none());
    }

    #[test]
    fn a_secret_that_consents_is_taken_over_without_kubectls_copy_of_it() {
        let consenting = json!({
            "name": "db", "uid": "u1",
            "labels": {TARGET_LABEL: TARGET_ADOPT}, "annotations": {LAST_APPLIED_ANNOTATION: "{}", "theirs": "1"},
        });
        let Plan::Correct { secret, .. } = PlanFixture::new().plan(present(consenting.clone()))
        else {
            panic!("not taken over");
        };
        assert_eq!(secret.labels()[TARGET_LABEL], TARGET_ADOPT);
        assert_eq!(secret.annotations().keys().collect::<Vec<_>>(), [TARGET_SOURCE, "theirs"]);
        let mut controlled = consenting;
        controlled["ownerReferences"] = owner("apps/v1", "Deployment", "db");
        let plan = PlanFixture::new().plan(present(controlled));
        assert!(matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. }), "{plan:?}");
    }

    #[test]
    fn an_own_target_that_cannot_be_changed_is_recreated() {
        let immutable = |metadata: Value| {
            let TargetState::Present(mut present) = present(metadata) else { unreachable!() };
            present.is_immutable = true;
            TargetState::Present(present)
        };
        let plan = PlanFixture::new().with_status("u1").plan(immutable(json!({"uid": "u1"})));
        assert!(matches!(plan, Plan::Recreate { .. }), "{plan:?}");
        let plan = PlanFixture::new().plan(immutable(json!({"uid": "u1"})));
        assert!(matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. }), "{plan:?}");
    }

    #[test]
    fn a_new_generation_of_an_immutable_target_is_recreated_whatever_its_values_are() {
        let mut fixture = PlanFixture::new().with_status("u1");
        let template = fixture.sealed_secret.spec.template.get_or_insert_default();
        template.immutable = Some(true);
        let plan = fixture.plan(present(json!({"uid": "u1"})));
        assert!(matches!(plan, Plan::Correct { is_same_generation: true, .. }), "{plan:?}");
        fixture.sealed_secret.metadata.generation = Some(2);
        let plan = fixture.plan(present(json!({"uid": "u1"})));
        assert!(matches!(plan, Plan::Recreate { .. }), "{plan:?}");
    }

    #[test]
    fn merge_reads_the_keys_and_needs_consent_and_takes_no_key_of_others() {
        let fixture = PlanFixture::new().with_policy(Policy::Merge);
        let consent = json!({"name": "db", "uid": "u1", "resourceVersion": "9", "labels": {TARGET_LABEL: TARGET_MERGE}});
        let conclusion = fixture.decide(present(consent.clone()));
        assert!(matches!(conclusion, Conclusion::ReadMore(Reading::Keys)), "{conclusion:?}");
        let plan = fixture.plan(TargetState::Absent);
        assert!(matches!(plan, Plan::Wait { reason: Reason::TargetMissing, .. }), "{plan:?}");
        let plan = fixture.plan(merge_target(json!({"uid": "u1"}), &[]));
        assert!(matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. }), "{plan:?}");
        let plan = fixture.plan(merge_target(consent.clone(), &["password"]));
        assert!(matches!(plan, Plan::Refuse { reason: Reason::KeyTaken, .. }), "{plan:?}");

        let Plan::Merge { secret, .. } = fixture.plan(merge_target(consent.clone(), &["theirs"]))
        else {
            panic!("not merged");
        };
        assert_eq!(secret.type_, None);
        let expected = json!({"name": "db", "namespace": "prod", "uid": "u1", "resourceVersion": "9", "annotations": {TARGET_SOURCE: "owner-2/1"}});
        assert_eq!(serde_json::to_value(&secret.metadata).unwrap(), expected);

        // The controller's own key, by the status of this very Secret or by `managedFields`.
        let mut known = PlanFixture::new().with_policy(Policy::Merge).with_status("u1");
        let status = known.sealed_secret.status.as_mut().unwrap();
        status.target.as_mut().unwrap().keys = vec!["password".into()];
        let plan = known.plan(merge_target(consent.clone(), &["password"]));
        assert!(matches!(plan, Plan::Merge { .. }), "{plan:?}");
        let mut credited = consent;
        credited["managedFields"] = json!([{
            "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:data": {"f:password": {}}},
        }]);
        let plan = fixture.plan(merge_target(credited, &["password"]));
        assert!(matches!(plan, Plan::Merge { .. }), "{plan:?}");
    }

    #[test]
    fn a_secret_that_was_merged_into_is_not_an_own_target() {
        let mut fixture = PlanFixture::new().with_status("u1");
        let status = fixture.sealed_secret.status.as_mut().unwrap();
        status.target.as_mut().unwrap().policy = Policy::Merge;
        let plan = fixture.plan(present(json!({"uid": "u1"})));
        assert!(matches!(plan, Plan::Refuse { reason: Reason::TargetExists, .. }), "{plan:?}");
    }

    #[test]
    fn labels_that_the_flags_refuse_are_refused() {
        let fixture = PlanFixture::new();
        let observed = Observed::new(fixture.sealed_secret.clone(), TargetState::Unseen);
        let labels = ["team".to_owned()];
        let limits = Limits { labels: &labels, ..Limits::default() };
        let conclusion = decide(&observed, &fixture.keyring, &BTreeSet::new(), &limits);
        let Conclusion::CarryOut(plan) = conclusion else { panic!("{conclusion:?}") };
        assert!(matches!(*plan, Plan::Refuse { reason: Reason::LabelRefused, .. }), "{plan:?}");
    }
}
