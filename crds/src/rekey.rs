//! The Rekey: a short-lived request for new headers over old payloads.

#![expect(unreachable_pub, reason = "kube's derive repeats the struct inside a function")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// A request for new headers, for the current Active keys, over the values of one SealedSecret.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bulla.dev",
    version = "v1alpha1",
    kind = "Rekey",
    namespaced,
    status = "RekeyStatus",
    derive = "PartialEq",
    category = "bulla",
    doc = "A request for new headers, for the current Active keys, over the values of one SealedSecret.",
    printcolumn = r#"{"name": "SealedSecret", "type": "string", "jsonPath": ".spec.sealedSecret"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = ("self == oldSelf", "a Rekey is immutable; create another"))]
pub struct RekeySpec {
    /// The name of the SealedSecret that the values belong to.
    #[schemars(schema_with = "schema::object_name")]
    pub sealed_secret: String,

    /// Data key to the base64 of the age header of its value.
    #[schemars(schema_with = "schema::asked_headers")]
    pub headers: BTreeMap<String, String>,
}

/// The answer to a Rekey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RekeyStatus {
    /// The generation that was last reconciled; -1 before the first reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Reconciling and Stalled, as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The data key that made the controller refuse; absent when no single key did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_key: Option<String>,

    /// Data key to the base64 of the new header.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::headers")]
    pub headers: BTreeMap<String, String>,
}
