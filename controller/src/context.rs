//! The reconciler's shared state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bulla_crds::SealedSecret;
use bulla_sealing::{Identity, Keyring};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::core::PartialObjectMeta;

use crate::args::Args;
use crate::backoff::Backoff;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::watches::Cache;

/// The name under which all writes are made.
pub(crate) const FIELD_MANAGER: &str = "bulla-controller";

/// What every reconcile may use.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) args: Args,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) backoff: Backoff,
    /// SealedSecrets without their sealed data.
    pub(crate) sealed_secrets: Cache<SealedSecret>,
    /// The metadata of the Secrets that carry our label.
    pub(crate) targets: Cache<PartialObjectMeta<Secret>>,
    keyring: RwLock<Keyring>,
    are_identities_loaded: AtomicBool,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        args: Args,
        sealed_secrets: Cache<SealedSecret>,
        targets: Cache<PartialObjectMeta<Secret>>,
    ) -> Self {
        Self {
            events: Events::new(client.clone(), args.pod.clone()),
            metrics: Metrics::new(),
            backoff: Backoff::default(),
            keyring: RwLock::default(),
            are_identities_loaded: AtomicBool::default(),
            client,
            args,
            sealed_secrets,
            targets,
        }
    }

    /// Whether both watches have delivered their first lists.
    pub(crate) fn is_listed(&self) -> bool {
        self.sealed_secrets.is_listed() && self.targets.is_listed()
    }

    /// Whether the first full list of identities has come, so that values can be judged.
    pub(crate) fn are_identities_loaded(&self) -> bool {
        self.are_identities_loaded.load(Ordering::Acquire)
    }

    /// Says so.
    pub(crate) fn identities_are_loaded(&self) {
        self.are_identities_loaded.store(true, Ordering::Release);
    }

    /// The identities held. The guard must not be kept over an `await`.
    pub(crate) fn keyring(&self) -> RwLockReadGuard<'_, Keyring> {
        // A poisoned keyring is whole: nothing that holds the lock leaves it half changed.
        self.keyring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an identity; whether it was new.
    pub(crate) fn hold(&self, identity: Identity) -> bool {
        let mut keyring = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !keyring.is_held(identity.recipient().fingerprint());
        keyring.insert(identity);
        self.metrics.identities.set(keyring.fingerprints().count().try_into().unwrap_or(i64::MAX));
        is_new
    }
}
