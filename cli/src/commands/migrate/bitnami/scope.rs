//! The scopes that Bitnami's annotations declare.

use std::collections::BTreeMap;

use bulla_sealing::Scope;

use super::annotations::{CLUSTER_WIDE, NAMESPACE_WIDE};

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
        let said = [
            declared(object).unwrap_or(Scope::Strict),
            declared(Some(template)).unwrap_or(Scope::Strict),
        ];
        let count = if declared(Some(template)).is_some() { 2 } else { 1 };
        let label = |scope| match (scope, namespace) {
            (Scope::Cluster, _) => Some((scope, String::new())),
            (Scope::Namespace, Some(namespace)) => Some((scope, namespace.to_owned())),
            (Scope::Strict, Some(namespace)) => Some((scope, format!("{namespace}/{name}"))),
            (Scope::Namespace | Scope::Strict, None) => None,
        };
        let mut all: Vec<_> = said[..count].to_vec();
        all.dedup();
        let count = all.len();
        all.extend([Scope::Strict, Scope::Namespace, Scope::Cluster]);
        let others = all[count..].iter().filter(|scope| !all[..count].contains(scope));
        Self {
            declared: all[..count].iter().copied().filter_map(label).collect(),
            others: others.copied().filter_map(label).collect(),
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
