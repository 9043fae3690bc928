//! The CustomResourceDefinitions that are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::keys::keep_annotations;
use crate::rekey::Rekey;
use crate::sealed_secret::SealedSecret;
use crate::sealing_key::SealingKey;

/// All three, in the order in which they are installed.
pub fn all() -> [CustomResourceDefinition; 3] {
    // kstatus takes an object without status for done; this default says that nothing was reconciled yet.
    let unseen = json!({"observedGeneration": -1});
    [
        finish(SealedSecret::crd(), Some(&unseen)),
        finish(SealingKey::crd(), None),
        finish(Rekey::crd(), Some(&unseen)),
    ]
}

/// Adds what kube's derive cannot express.
fn finish(
    mut crd: CustomResourceDefinition,
    default_status: Option<&serde_json::Value>,
) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        drop_defaults(schema);
        let status = schema.properties.as_mut().and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.nullable = None;
            status.default = default_status.cloned().map(JSON);
        }
    }
    // Without them, an uninstallation would delete the definition and with it every object of the kind.
    let mut annotations = keep_annotations();
    // Argo CD checks all objects of a sync before it applies the first, unless an earlier wave has their definitions.
    annotations.insert("argocd.argoproj.io/sync-wave".into(), "-1".into());
    crd.metadata.annotations = Some(annotations);
    crd
}

/// Removes serde's defaults, which are for reading only. In the schema they would be stored with every object,
/// and GitOps tools would see a difference from Git.
fn drop_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(drop_defaults);
}
