//! The cluster's public keys: read, and changed at the resource version that was read.

use std::ops::Deref;

use anyhow::anyhow;
use bulla_crds::keys::{DeclaredKey, DeclaredKeys, InvalidDeclaration};
use bulla_crds::{SealingKey, State};
use bulla_sealing::Recipients;
use kube::ResourceExt;
use kube::api::ListParams;

use super::{Cluster, Refusal};
use crate::failure::{Failure, OrHint};
use crate::flags::ClusterFlags;
use crate::{output, recipients};

/// What to do when it cannot be told which key is meant.
const USE_A_FILE: &str =
    "write the recipients to a file with bulla keys fetch and choose with -R, or name one with -r";

/// Who may read SealingKeys.
const READERS: &str =
    "an administrator binds the Role bulla-seal there, or sends you the recipient";

/// A SealingKey that can be trusted, and what the cluster says of it.
pub(crate) struct ClusterKey {
    declared: DeclaredKey,
    object: SealingKey,
}

impl Deref for ClusterKey {
    type Target = DeclaredKey;

    fn deref(&self) -> &DeclaredKey {
        &self.declared
    }
}

impl ClusterKey {
    /// Whether the controller says that it has the private half.
    pub(crate) fn is_held(&self) -> bool {
        let status = self.object.status.as_ref();
        let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
        conditions.any(|it| it.type_ == "Held" && it.status == "True")
    }
}

/// All SealingKeys of a cluster.
pub(crate) struct SealingKeys {
    /// Those that can be trusted, by holder and age.
    pub(crate) keys: Vec<ClusterKey>,
    /// The names of the others.
    pub(crate) malformed: Vec<(String, InvalidDeclaration)>,
}

impl SealingKeys {
    /// The keys, if all of them can be trusted.
    pub(crate) fn all_trusted(self) -> Result<Vec<ClusterKey>, Failure> {
        match self.malformed.first() {
            Some((name, error)) => Err(anyhow!("SealingKey {name}: {error}")).or_hint(
                "a SealingKey is named by its recipient's fingerprint: somebody may have put in a key of his own",
            ),
            None => Ok(self.keys),
        }
    }

    /// Those that can be trusted, as rules speak of them.
    pub(crate) fn declared(&self) -> DeclaredKeys {
        self.keys.iter().map(|key| key.declared.clone()).collect()
    }
}

impl FromIterator<SealingKey> for SealingKeys {
    fn from_iter<I: IntoIterator<Item = SealingKey>>(objects: I) -> Self {
        let (mut keys, mut malformed) = (Vec::new(), Vec::new());
        for object in objects {
            match DeclaredKey::try_from(&object) {
                Ok(declared) => keys.push(ClusterKey { declared, object }),
                Err(error) => malformed.push((object.name_any(), error)),
            }
        }
        let order = |key: &ClusterKey| (key.holder.clone(), key.created);
        keys.sort_by_cached_key(order);
        Self { keys, malformed }
    }
}

impl Cluster {
    /// All SealingKeys.
    pub(crate) fn sealing_keys(&self) -> Result<SealingKeys, Failure> {
        let api = self.own::<SealingKey>();
        let listed = self.ask(api.list(&ListParams::default())).map_err(|refusal| {
            let namespace = self.controller_namespace();
            match refusal {
                Refusal::NotFound => {
                    Failure::unable(anyhow!("{} does not know SealingKeys", self.server()))
                        .hint("is Bulla installed in this cluster, and is it the right context?")
                }
                refusal => {
                    refusal.of(format_args!("list SealingKeys in namespace {namespace}"), READERS)
                }
            }
        })?;
        Ok(listed.items.into_iter().collect())
    }

    /// That there is nothing to seal to.
    pub(crate) fn no_active_key(&self) -> Failure {
        let namespace = self.controller_namespace();
        Failure::unable(anyhow!("there is no Active SealingKey in namespace {namespace}"))
            .hint("does the controller run there? --controller-namespace names another namespace")
    }
}

/// The recipient of the cluster's own Active key.
pub(crate) fn own_key(flags: &ClusterFlags) -> Result<Recipients, Failure> {
    let read = || {
        let cluster = Cluster::connect(flags)?;
        let keys = cluster.sealing_keys()?.all_trusted()?;
        Ok((cluster, keys))
    };
    let (cluster, mut keys) = read().map_err(|failure: Failure| {
        failure.context("no recipient is given with -r or -R, and the cluster's key cannot be had")
    })?;
    keys.retain(|key| key.state == State::Active);
    // Keys of other clusters may lie beside its own; those that it can open are marked.
    if keys.len() > 1 && keys.iter().any(ClusterKey::is_held) {
        keys.retain(ClusterKey::is_held);
    }
    match <[ClusterKey; 1]>::try_from(keys) {
        Ok([key]) => {
            output::stderr(&format!(
                "note: sealing to the Active key of {}, fingerprint {}\n",
                key.holder,
                key.recipient.fingerprint()
            ));
            recipients::together(vec![key.recipient.clone()])
        }
        Err(keys) if keys.is_empty() => Err(cluster.no_active_key()),
        Err(keys) => {
            let name = |key: &ClusterKey| format!("{} {}", key.holder, key.recipient.fingerprint());
            let names = keys.iter().map(name).collect::<Vec<_>>().join(", ");
            Err(anyhow!("the cluster has several Active keys: {names}")).or_hint(USE_A_FILE)
        }
    }
}
