//! Identities and their backups, which are Secrets in the controller's namespace.

use std::collections::BTreeSet;

use anyhow::anyhow;
use bulla_crds::keys::{self, InvalidIdentitySecret};
use bulla_crds::{BACKUP_SECRET_KEY, BACKUP_SECRET_TYPE, IDENTITY_SECRET_TYPE, WipedSecret};
use bulla_sealing::{Fingerprint, Identity};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use kube::core::{PartialObjectMeta, Request};

use super::{ApiError, Cluster, MANAGER};
use crate::report::failure::{Failure, OrHint};

/// The right to read and write identities and their backups.
const NEEDS_KEY_ADMIN: &str = "this needs the Role bulla-keys there: ask a key admin";

/// What was found, with the name of its Secret.
type Named<T> = Vec<(String, T)>;

/// What became of an identity to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreOutcome {
    Created,
    /// It existed already.
    Already,
    /// It existed already, marked as revoked.
    Revoked,
    /// Another Secret has its name.
    Taken,
}

/// The encrypted copies: the age file in each Secret, if it has one.
pub(crate) fn backups(cluster: &Cluster) -> Result<Named<Option<Vec<u8>>>, Failure> {
    let secrets = secrets(cluster, BACKUP_SECRET_TYPE)?;
    let backup = |secret: WipedSecret| {
        let file = secret.data.as_ref().and_then(|data| data.get(BACKUP_SECRET_KEY));
        (secret.name_any(), file.map(|file| file.0.clone()))
    };
    Ok(secrets.into_iter().map(backup).collect())
}

pub(crate) fn identities(
    cluster: &Cluster,
) -> Result<Named<Result<Identity, InvalidIdentitySecret>>, Failure> {
    let secrets = secrets(cluster, IDENTITY_SECRET_TYPE)?;
    let identity = |secret: WipedSecret| (secret.name_any(), keys::identity_of(&secret));
    Ok(secrets.into_iter().map(identity).collect())
}

/// The keys whose revocation is recorded on the Secret of their identity or of its backup.
pub(crate) fn marked_revoked(cluster: &Cluster) -> Result<BTreeSet<Fingerprint>, Failure> {
    let mut revoked = BTreeSet::new();
    for type_ in [IDENTITY_SECRET_TYPE, BACKUP_SECRET_TYPE] {
        // Metadata only: nothing here needs the identities.
        let listed = cluster.ask(cluster.own::<Secret>().list_metadata(&of_type(type_)));
        let listed = listed.map_err(|refusal| cannot_list(cluster, refusal))?;
        let marked = listed.items.iter().filter(|secret| keys::is_marked_revoked(&secret.metadata));
        revoked.extend(marked.filter_map(|secret| keys::key_of_secret(&secret.name_any())));
    }
    Ok(revoked)
}

/// Whether a stored identity opens values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreAs {
    Usable,
    /// The Secret records that the key was revoked.
    Revoked,
}

/// Creates the Secret of an identity. By POST: client-side apply would repeat it in an annotation, and
/// an existing Secret must not change.
pub(crate) fn store(
    cluster: &Cluster,
    identity: &Identity,
    store_as: StoreAs,
) -> Result<StoreOutcome, Failure> {
    let namespace = &cluster.controller_namespace;
    let secret = match store_as {
        StoreAs::Usable => keys::identity_secret(identity, namespace),
        StoreAs::Revoked => keys::revoked_identity_secret(identity, namespace),
    };
    let url = format!("/api/v1/namespaces/{namespace}/secrets");
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let request = Request::new(url)
        .create(&params, secret.to_json().to_vec())
        .map_err(|_| anyhow!("{namespace} is not a valid namespace name"))
        .or_hint("pass a valid one with --controller-namespace")?;
    let created = cluster.ask(cluster.client.request::<PartialObjectMeta<Secret>>(request));
    match created {
        Ok(_) => Ok(StoreOutcome::Created),
        Err(ApiError::Conflict) => compare(cluster, identity),
        Err(refusal) => {
            Err(refusal
                .of(format_args!("create Secrets in namespace {namespace}"), NEEDS_KEY_ADMIN))
        }
    }
}

fn compare(cluster: &Cluster, identity: &Identity) -> Result<StoreOutcome, Failure> {
    let name = identity.recipient().fingerprint().to_string();
    let secret = cluster.ask(cluster.own::<Secret>().get(&name)).map_err(|refusal| {
        refusal.of(format_args!("read the existing Secret {name}"), NEEDS_KEY_ADMIN)
    })?;
    let secret = WipedSecret::new(secret);
    let is_same =
        keys::identity_of(&secret).is_ok_and(|stored| stored.recipient() == identity.recipient());
    let is_revoked = keys::is_marked_revoked(&secret.metadata);
    let is_it = is_same && secret.type_.as_deref() == Some(IDENTITY_SECRET_TYPE);
    Ok(match (is_it, is_revoked) {
        (true, true) => StoreOutcome::Revoked,
        (true, false) => StoreOutcome::Already,
        (false, _) => StoreOutcome::Taken,
    })
}

/// The Secrets of one type. The API server sends no others.
fn secrets(cluster: &Cluster, type_: &str) -> Result<Vec<WipedSecret>, Failure> {
    let listed = cluster.ask(cluster.own::<Secret>().list(&of_type(type_)));
    let listed = listed.map_err(|refusal| cannot_list(cluster, refusal))?;
    Ok(listed.items.into_iter().map(WipedSecret::new).collect())
}

fn of_type(type_: &str) -> ListParams {
    ListParams::default().fields(&format!("type={type_}"))
}

fn cannot_list(cluster: &Cluster, refusal: ApiError) -> Failure {
    let namespace = &cluster.controller_namespace;
    refusal.of(format_args!("list Secrets in namespace {namespace}"), NEEDS_KEY_ADMIN)
}
