//! The SealingKey: the public half of a key, readable by everyone who seals.

#![expect(unreachable_pub, reason = "kube's derive repeats the struct inside a function")]

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A recipient that values are sealed to. Its name is its fingerprint.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bulla.dev",
    version = "v1alpha1",
    kind = "SealingKey",
    namespaced,
    status = "SealingKeyStatus",
    derive = "PartialEq",
    category = "bulla",
    doc = "A recipient that values are sealed to. Its name is its fingerprint.",
    validation = ("self.metadata.name.matches('^[0-9a-f]{16}$')", "metadata.name must be the fingerprint of the recipient, 16 hex digits"),
    printcolumn = r#"{"name": "Holder", "type": "string", "jsonPath": ".spec.holder"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".spec.state"}"#,
    printcolumn = r#"{"name": "Held", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Held\")].status"}"#,
    printcolumn = r#"{"name": "BackedUp", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"BackedUp\")].status"}"#,
    printcolumn = r#"{"name": "SealedSecrets", "type": "integer", "jsonPath": ".status.sealedSecrets.count"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name": "Created", "type": "date", "jsonPath": ".spec.created"}"#
)]
pub struct SealingKeySpec {
    /// The public key, `age1pq1…` or `age1…`.
    #[schemars(schema_with = "schema::recipient")]
    pub recipient: String,

    /// Who has the private half: this cluster's name or another's.
    #[schemars(schema_with = "schema::holder")]
    pub holder: String,

    /// When the key was made; order and age come from here.
    #[schemars(schema_with = "schema::created")]
    pub created: Time,

    /// What the key is used for now.
    #[schemars(schema_with = "schema::state")]
    pub state: State,
}

/// What a key is used for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum State {
    /// Made, but not yet sealed to.
    Pending,
    /// Sealed to. Each holder has one.
    Active,
    /// No longer sealed to, but it still opens values.
    Retired,
    /// No longer sealed to, and no longer opens anything.
    Revoked,
}

impl State {
    /// The word used in objects and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Active => "Active",
            Self::Retired => "Retired",
            Self::Revoked => "Revoked",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the controller found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealingKeyStatus {
    /// Ready, Held and BackedUp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The live SealedSecrets of this cluster with a value sealed to the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_secrets: Option<LiveSealedSecrets>,
}

/// A count of objects and when it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LiveSealedSecrets {
    /// How many there are.
    pub count: i64,
    /// When they were counted.
    pub at: Time,
}
