//! The annotations that control Bitnami's controller and kubeseal.

pub(super) const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
pub(super) const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
pub(super) const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
pub(super) const PATCH: &str = "sealedsecrets.bitnami.com/patch";
pub(super) const SKIP_OWNER: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";

/// All of these annotations.
pub(super) const ALL: [&str; 5] = [CLUSTER_WIDE, NAMESPACE_WIDE, MANAGED, PATCH, SKIP_OWNER];
