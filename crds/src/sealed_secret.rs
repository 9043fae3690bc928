//! The SealedSecret, which is committed to Git and unsealed in the cluster.

#![expect(unreachable_pub, reason = "kube's derive repeats the struct inside a function")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// The path from the object to its sealed values.
pub const SEALED_DATA_PATH: [&str; 2] = ["spec", "sealedData"];

/// The path from the object to the sealed value of one data key.
pub fn sealed_value_path(key: &str) -> [&str; 3] {
    let [spec, sealed_data] = SEALED_DATA_PATH;
    [spec, sealed_data, key]
}

/// A Secret that is safe to commit: only the holders of the keys that its values are sealed to can open them.
#[derive(
    CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bulla.dev",
    version = "v1alpha1",
    kind = "SealedSecret",
    namespaced,
    status = "SealedSecretStatus",
    derive = "PartialEq",
    shortname = "bs",
    category = "bulla",
    doc = "A Secret that is safe to commit: only the holders of the keys that its values are sealed to can open them.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message"}"#
)]
#[x_kube(validation = schema::type_needs_keys("kubernetes.io/tls"))]
#[x_kube(validation = schema::type_needs_keys("kubernetes.io/dockerconfigjson"))]
#[x_kube(validation = schema::type_needs_keys("kubernetes.io/dockercfg"))]
#[x_kube(validation = schema::type_needs_keys("kubernetes.io/ssh-auth"))]
#[x_kube(validation = schema::no_key_twice())]
#[x_kube(validation = schema::no_more_values())]
#[x_kube(validation = schema::merge_adds_keys_only())]
pub struct SealedSecretSpec {
    /// Data key to sealed value: the base64 of one age file on one line, as `bulla seal` writes it.
    #[schemars(schema_with = "schema::sealed_data")]
    pub sealed_data: BTreeMap<String, String>,

    /// What the unsealed Secret looks like beyond its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// How the unsealed Secret is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetSpec>,
}

/// What the unsealed Secret looks like beyond its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The Secret's type, `Opaque` by default.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_type")]
    pub type_: Option<String>,

    /// Whether the Secret is immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,

    /// Labels and annotations of the Secret. Nothing else is copied to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// Data key to text in which `{{ key }}` is replaced by the value of a sealed key. It may have one filter:
    /// `{{ key | b64encode }}`, `json` or `urlencode`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_data")]
    pub data: BTreeMap<String, String>,
}

/// Labels and annotations of the unsealed Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels of the Secret, without those by which other tools track their own objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the Secret, without those by which other tools track their own objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// How the unsealed Secret is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// Owner, the default: the SealedSecret owns the Secret, which is deleted with it. Orphan: the same, but the
    /// Secret is kept when the SealedSecret is deleted. Merge: keys are added to a Secret that somebody else owns.
    #[serde(default)]
    pub policy: Policy,
}

/// How the target relates to its SealedSecret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Policy {
    /// The SealedSecret owns the Secret: its data and type are exactly as declared, and it is deleted with the
    /// SealedSecret.
    #[default]
    Owner,
    /// Like Owner without the owner reference: the Secret is kept when the SealedSecret is deleted.
    Orphan,
    /// The SealedSecret's keys are added to a Secret that somebody else owns, and never overwrite keys from others.
    Merge,
}

impl Policy {
    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Orphan => "Orphan",
            Self::Merge => "Merge",
        }
    }
}

/// What the controller found and did.
// Lists are written even when they are empty, because a merge patch would otherwise keep the old lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// The generation that was last reconciled; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Reconciling and Stalled, as kstatus reads them.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The Secret as it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// Fingerprints of all keys that the values are sealed to.
    #[serde(default)]
    #[schemars(schema_with = "schema::fingerprints")]
    pub fingerprints: Vec<String>,

    /// The controller in charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
}

/// The Secret as it was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// `metadata.uid` of the Secret.
    pub uid: String,
    /// `metadata.resourceVersion` of the Secret after the last write.
    pub resource_version: String,
    /// The generation of the SealedSecret that it was made from.
    #[serde(default)]
    pub generation: i64,
    /// The data keys that come from the SealedSecret.
    #[serde(default)]
    #[schemars(schema_with = "schema::data_keys")]
    pub keys: Vec<String>,
    /// The policy under which it was written: merging keys into somebody else's Secret does not make Bulla own it.
    #[serde(default)]
    pub policy: Policy,
    /// The version of the code that made the Secret from its SealedSecret.
    #[serde(default)]
    pub renderer: i64,
}
