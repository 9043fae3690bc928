//! The CustomResourceDefinitions, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::{Rekey, SealedSecret, SealingKey};

/// All three, in the order in which they are installed.
pub fn all() -> [CustomResourceDefinition; 3] {
    // kstatus takes an object without status for done; this default says that nothing was judged yet.
    let unseen = json!({"observedGeneration": -1});
    [
        finish(SealedSecret::crd(), Some(&unseen)),
        finish(SealingKey::crd(), None),
        finish(Rekey::crd(), Some(&unseen)),
    ]
}

/// What kube's derive cannot say.
fn finish(
    mut crd: CustomResourceDefinition,
    default_status: Option<&serde_json::Value>,
) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for status in schemas.filter_map(|schema| schema.properties.as_mut()?.get_mut("status")) {
        status.nullable = None;
        status.default = default_status.cloned().map(JSON);
    }
    crd
}
