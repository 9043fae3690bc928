//! The annotations by which Bitnami's controller and kubeseal are told what to do.

pub(super) const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
pub(super) const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";
pub(super) const MANAGED: &str = "sealedsecrets.bitnami.com/managed";
pub(super) const PATCH: &str = "sealedsecrets.bitnami.com/patch";
pub(super) const SKIP_OWNER: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";

/// All of them.
pub(super) const ALL: [&str; 5] = [CLUSTER_WIDE, NAMESPACE_WIDE, MANAGED, PATCH, SKIP_OWNER];
