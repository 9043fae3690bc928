//! Bitnami's annotations, and the scopes that they declare.

use std::collections::BTreeMap;

use bulla_sealing::Scope;

/// The annotations that control Bitnami's controller and kubeseal.
pub(super) const ANNOTATIONS: [&str; 5] =
    [CLUSTER_WIDE, NAMESPACE_WIDE, MANAGED, PATCH, SKIP_OWNER];

const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
pub(super) const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
pub(super) const PATCH: &str = "sealedsecrets.bitnami.com/patch";
pub(super) const SKIP_OWNER: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";

/// The scopes that the values may be sealed for, each with its label.
pub(super) struct LabelledScopes {
    /// First the scope from the object's own annotations, which Bitnami's controller uses, then the template's.
    pub(super) declared: Vec<(Scope, String)>,
    /// The other scopes.
    pub(super) others: Vec<(Scope, String)>,
}

impl LabelledScopes {
    /// From the annotations of the object and from those of its template.
    pub(super) fn of(
        object: Option<&BTreeMap<String, String>>,
        template: &BTreeMap<String, String>,
        namespace: Option<&str>,
        name: &str,
    ) -> Self {
        let mut declared_scopes = vec![declared(object).unwrap_or(Scope::Strict)];
        declared_scopes.extend(declared(Some(template)));
        declared_scopes.dedup();
        let mut others = vec![Scope::Strict, Scope::Namespace, Scope::Cluster];
        others.retain(|scope| !declared_scopes.contains(scope));
        let label = |scope| match (scope, namespace) {
            (Scope::Cluster, _) => Some((scope, String::new())),
            (Scope::Namespace, Some(namespace)) => Some((scope, namespace.to_owned())),
            (Scope::Strict, Some(namespace)) => Some((scope, format!("{namespace}/{name}"))),
            (Scope::Namespace | Scope::Strict, None) => None,
        };
        Self {
            declared: declared_scopes.into_iter().filter_map(label).collect(),
            others: others.into_iter().filter_map(label).collect(),
        }
    }
}

/// The scope that the annotations name, if any.
fn declared(annotations: Option<&BTreeMap<String, String>>) -> Option<Scope> {
    let is_true =
        |key| annotations.and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    if is_true(CLUSTER_WIDE) {
        Some(Scope::Cluster)
    } else if is_true(NAMESPACE_WIDE) {
        Some(Scope::Namespace)
    } else {
        None
    }
}

/// Bitnami's name for a scope.
pub(super) fn bitnamis_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Strict => "strict",
        Scope::Namespace => "namespace-wide",
        Scope::Cluster => "cluster-wide",
    }
}
