//! The cluster's public keys: read, and changed at the resource version that was read.

use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bulla_crds::conditions::{self, BACKED_UP, HELD};
use bulla_crds::keys::{DeclaredKey, DeclaredKeys, InvalidDeclaration, NoSuccessor, sealing_key};
use bulla_crds::{
    RECOVERY_ANNOTATION, RECOVERY_HOLDER, RENEW_ANNOTATION, SUCCESSOR_ANNOTATION, SealingKey, State,
};
use bulla_sealing::{Fingerprint, Recipient, Recipients};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{ApiError, Cluster, MANAGER};
use crate::cluster::kubeconfig::ClusterFlags;
use crate::report::failure::{Failure, OrHint};
use crate::report::output;
use crate::who::recipients;

/// What to do when several keys could be meant.
const USE_A_FILE: &str =
    "write the recipients to a file with bulla keys fetch and choose with -R, or pass one with -r";

/// The right to read SealingKeys.
const READERS: &str =
    "ask an administrator to bind the Role bulla-seal to you there, or to send you the recipient";

/// The right to write SealingKeys.
const TRUSTED: &str =
    "this needs the Role bulla-keys there, and the verb trust on sealingkeys: ask a key admin";

/// How long to wait between two reads.
const PAUSE: Duration = Duration::from_millis(300);

/// Far longer than a key takes to take over from another.
const HAND_OVER: Duration = Duration::from_secs(5);

/// How many times a write is tried when others conflict with it.
const ATTEMPTS: usize = 5;

/// Whether the cluster has the private half of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Possession {
    /// The cluster has it.
    Held,
    /// The cluster should have it, but does not.
    Missing,
    /// Another holder should have it.
    OfAnotherHolder,
    /// The controller has not reported yet.
    Unknown,
}

/// A SealingKey that can be trusted, and its status.
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
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.recipient.fingerprint()
    }

    /// Whether the controller reports that it has the private half.
    pub(crate) fn is_held(&self) -> bool {
        self.possession() == Possession::Held
    }

    /// Whether it is a recovery key, to which values are sealed beside the cluster's own.
    pub(crate) fn is_for_recovery(&self) -> bool {
        let is_marked = self.object.annotations().get(RECOVERY_ANNOTATION);
        self.holder == RECOVERY_HOLDER || is_marked.is_some_and(|value| value == "true")
    }

    /// What the controller reports about the private half.
    pub(crate) fn possession(&self) -> Possession {
        match self.condition(HELD) {
            Some(held) if held.status == "True" => Possession::Held,
            Some(held) if held.reason == "OfAnotherHolder" => Possession::OfAnotherHolder,
            // A revoked key does not say which holder it had.
            Some(held) if held.status == "False" && held.reason != "Revoked" => Possession::Missing,
            _ => Possession::Unknown,
        }
    }

    pub(crate) fn condition(&self, type_: &str) -> Option<&Condition> {
        let conditions = &self.object.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// The key that is about to take over from it.
    pub(crate) fn successor(&self) -> Option<&str> {
        self.object.annotations().get(SUCCESSOR_ANNOTATION).map(String::as_str)
    }

    /// How many live SealedSecrets have a value sealed to it, if that was counted.
    pub(crate) fn sealed_secrets(&self) -> Option<i64> {
        Some(self.object.status.as_ref()?.sealed_secrets.as_ref()?.count)
    }

    /// The conditions, with the one that records a copy of the identity outside the cluster.
    fn conditions_when_taken_out(&self) -> Vec<Condition> {
        let status = self.object.status.as_ref();
        let mut conditions = status.map(|status| status.conditions.clone()).unwrap_or_default();
        let taken_out = conditions::condition(
            BACKED_UP,
            "True",
            "TakenOut",
            "its backup was taken out of the cluster and read back",
            self.object.metadata.generation.unwrap_or_default(),
            &conditions,
            Timestamp::now(),
        );
        match conditions.iter_mut().find(|condition| condition.type_ == BACKED_UP) {
            Some(place) => *place = taken_out,
            None => conditions.push(taken_out),
        }
        conditions
    }
}

pub(crate) struct SealingKeys {
    /// Those that can be trusted, by holder and age.
    pub(crate) keys: Vec<ClusterKey>,
    /// The names of the others.
    pub(crate) malformed: Vec<(String, InvalidDeclaration)>,
}

impl SealingKeys {
    /// The keys, if all of them can be trusted.
    pub(crate) fn all_trusted(self) -> Result<Self, Failure> {
        let Some((name, error)) = self.malformed.first() else { return Ok(self) };
        Err(anyhow!("SealingKey {name}: {error}")).or_hint(
            "a SealingKey is named after its recipient's fingerprint: someone may have put in a key of their own",
        )
    }

    pub(crate) fn find(&self, fingerprint: Fingerprint) -> Result<&ClusterKey, Failure> {
        let name = fingerprint.to_string();
        if let Some((_, error)) = self.malformed.iter().find(|(malformed, _)| *malformed == name) {
            return Err(anyhow!("SealingKey {name} cannot be trusted: {error}"))
                .or_hint("find out who declared it, and delete it");
        }
        self.keys
            .iter()
            .find(|key| key.fingerprint() == fingerprint)
            .ok_or_else(|| anyhow!("no SealingKey {name} in this cluster"))
            .or_hint("to see all keys, run: bulla keys list")
    }

    pub(crate) fn revoked(&self) -> impl Iterator<Item = &ClusterKey> {
        self.keys.iter().filter(|key| key.state == State::Revoked)
    }

    /// Whether this cluster has or should have the private half of a key.
    pub(crate) fn is_own(&self, key: &ClusterKey) -> bool {
        match key.possession() {
            Possession::Held | Possession::Missing => true,
            Possession::OfAnotherHolder => false,
            Possession::Unknown => self.own_holders().contains(&key.holder.as_str()),
        }
    }

    /// The holders whose keys this cluster has or should have.
    pub(crate) fn own_holders(&self) -> Vec<&str> {
        self.holders(|key| matches!(key.possession(), Possession::Held | Possession::Missing))
    }

    pub(crate) fn active_holders(&self) -> Vec<&str> {
        self.holders(|key| key.state == State::Active)
    }

    fn holders(&self, is_meant: impl Fn(&ClusterKey) -> bool) -> Vec<&str> {
        let keys = self.keys.iter().filter(|key| is_meant(key));
        let mut holders: Vec<_> = keys.map(|key| key.holder.as_str()).collect();
        holders.dedup();
        holders
    }

    /// The holder's Active key, if it has one. Several are an error.
    pub(crate) fn active(&self, holder: &str) -> Result<Option<&ClusterKey>, Failure> {
        match self.declared().active(holder) {
            Ok(active) => Ok(self.keys.iter().find(|key| key.recipient == active.recipient)),
            Err(NoSuccessor::NoActiveKey(_)) => Ok(None),
            Err(error) => {
                Err(anyhow!(error)).or_hint("retire all but one; to see them, run: bulla keys list")
            }
        }
    }

    /// Whether a holder's key was just retired and its successor is not Active yet.
    fn is_any_handed_over(&self) -> bool {
        let is_active = |holder: &str| {
            self.keys.iter().any(|key| key.holder == holder && key.state == State::Active)
        };
        self.keys.iter().any(|key| key.successor().is_some() && !is_active(&key.holder))
    }

    /// The trusted keys, in the form that the rules need.
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
        keys.sort_by_cached_key(|key| (key.holder.clone(), key.created));
        Self { keys, malformed }
    }
}

/// Connects to a cluster and reads all SealingKeys. Warns about the ones that cannot be trusted.
pub(crate) fn connect(flags: &ClusterFlags) -> Result<(Cluster, SealingKeys), Failure> {
    let cluster = Cluster::connect(flags)?;
    let keys = all(&cluster)?;
    for (name, error) in &keys.malformed {
        output::warning(&format!("SealingKey {name} is malformed and not trusted: {error}"));
    }
    Ok((cluster, keys))
}

/// All SealingKeys.
pub(crate) fn all(cluster: &Cluster) -> Result<SealingKeys, Failure> {
    let api = cluster.own::<SealingKey>();
    let namespace = &cluster.controller_namespace;
    let listed =
        cluster.ask(api.list(&ListParams::default())).map_err(|refusal| match refusal {
            ApiError::NotFound => {
                Failure::unable(anyhow!("{} has no SealingKey kind", cluster.server))
                    .hint("check that this is the right context, and that Bulla is installed there")
            }
            refusal => {
                refusal.of(format_args!("list SealingKeys in namespace {namespace}"), READERS)
            }
        })?;
    Ok(listed.items.into_iter().collect())
}

/// All SealingKeys, to seal to: waits while one key takes over from another.
pub(crate) fn of_today(cluster: &Cluster) -> Result<SealingKeys, Failure> {
    let start = Instant::now();
    loop {
        let keys = all(cluster)?;
        if !keys.is_any_handed_over() || start.elapsed() > HAND_OVER {
            return Ok(keys);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads the SealingKeys until `seen` finds something in them. `None` after the deadline.
pub(crate) fn wait_for<T>(
    cluster: &Cluster,
    deadline: Duration,
    mut seen: impl FnMut(&SealingKeys) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let start = Instant::now();
    loop {
        if let Some(found) = seen(&all(cluster)?) {
            return Ok(Some(found));
        }
        if start.elapsed() > deadline {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Declares a key. Nothing is sealed to it yet.
pub(crate) fn declare(
    cluster: &Cluster,
    recipient: &Recipient,
    holder: &str,
) -> Result<(), Failure> {
    // The order and age of keys only inform people: no decision depends on this clock.
    let created = Timestamp::now().round(jiff::Unit::Second).unwrap_or_default();
    let namespace = &cluster.controller_namespace;
    let key = sealing_key(recipient, namespace, holder, created, State::Pending);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let created = cluster.ask(cluster.own::<SealingKey>().create(&params, &key));
    created.map(drop).map_err(|refusal| {
        refusal.of(format_args!("create SealingKeys in namespace {namespace}"), TRUSTED)
    })
}

/// Changes the state of a key, unless someone else changed the key since it was read. Drops the requests that were
/// made for its old state.
pub(crate) fn set_state(cluster: &Cluster, key: &ClusterKey, state: State) -> Result<(), Failure> {
    let annotations = json!({RENEW_ANNOTATION: null, SUCCESSOR_ANNOTATION: null});
    let new = json!({"metadata": {"annotations": annotations}, "spec": {"state": state}});
    change(cluster, key, new)
}

/// Retires an Active key and names its successor, in one write.
pub(crate) fn retire_for(
    cluster: &Cluster,
    key: &ClusterKey,
    successor: Fingerprint,
) -> Result<(), Failure> {
    let annotations = json!({SUCCESSOR_ANNOTATION: successor.to_string()});
    let new = json!({"metadata": {"annotations": annotations}, "spec": {"state": State::Retired}});
    change(cluster, key, new)
}

/// Asks the controller for the successor of an Active key.
pub(crate) fn ask_to_renew(cluster: &Cluster, key: &ClusterKey) -> Result<(), Failure> {
    let annotations = json!({RENEW_ANNOTATION: Timestamp::now().to_string()});
    change(cluster, key, json!({"metadata": {"annotations": annotations}}))
}

/// Changes the key at the resource version that the decision was based on. The controller may write the status at
/// any time, so if nothing else has changed, the newer version is used.
fn change(cluster: &Cluster, key: &ClusterKey, mut change: Value) -> Result<(), Failure> {
    let name = key.fingerprint().to_string();
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let api = cluster.own::<SealingKey>();
    let decided_on = |object: &SealingKey| (object.spec.clone(), object.annotations().clone());
    let mut resource_version = key.object.resource_version();
    let mut attempt = 1;
    let changed = loop {
        change["metadata"]["resourceVersion"] = json!(resource_version);
        match cluster.ask(api.patch(&name, &params, &Patch::Merge(&change))) {
            Err(ApiError::Conflict) if attempt < ATTEMPTS => attempt += 1,
            answer => break answer,
        }
        match cluster.ask(api.get(&name)) {
            Ok(now) if decided_on(&now) == decided_on(&key.object) => {
                resource_version = now.resource_version();
            }
            Ok(_) => break Err(ApiError::Conflict),
            Err(refusal) => break Err(refusal),
        }
    };
    changed
        .map(drop)
        .map_err(|refusal| refusal.of(format_args!("change SealingKey {name}"), TRUSTED))
}

/// Records in a key's status that its backup was taken out of the cluster and read back.
pub(crate) fn mark_taken_out(cluster: &Cluster, fingerprint: Fingerprint) -> Result<(), ApiError> {
    let name = fingerprint.to_string();
    let api = cluster.own::<SealingKey>();
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let mut attempt = 1;
    loop {
        let object = cluster.ask(api.get(&name))?;
        let key = SealingKeys::from_iter([object]).keys.pop().ok_or(ApiError::Invalid)?;
        let change = json!({
            "metadata": {"resourceVersion": key.object.resource_version()},
            "status": {"conditions": key.conditions_when_taken_out()},
        });
        match cluster.ask(api.patch_status(&name, &params, &Patch::Merge(&change))) {
            Err(ApiError::Conflict) if attempt < ATTEMPTS => attempt += 1,
            answer => return answer.map(drop),
        }
    }
}

/// The failure when no key can be sealed to.
pub(crate) fn no_active_key(cluster: &Cluster) -> Failure {
    let namespace = &cluster.controller_namespace;
    Failure::unable(anyhow!("no Active SealingKey in namespace {namespace}")).hint(
        "check that the controller is running there; --controller-namespace sets another namespace",
    )
}

/// The recipients of the cluster's own Active key and of the recovery keys that it declares.
pub(crate) fn own_key(flags: &ClusterFlags) -> Result<Recipients, Failure> {
    let read = || {
        let cluster = Cluster::connect(flags)?;
        let keys = of_today(&cluster)?.all_trusted()?;
        Ok((cluster, keys.keys))
    };
    let (cluster, mut keys) = read().map_err(|failure: Failure| {
        failure.context("no recipient given with -r or -R, and could not fetch the cluster's key")
    })?;
    keys.retain(|key| key.state == State::Active);
    let (recovery, mut keys): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(ClusterKey::is_for_recovery);
    // Keys of other clusters may be declared beside its own; the ones that it can open are marked as held.
    if keys.len() > 1 && keys.iter().any(ClusterKey::is_held) {
        keys.retain(ClusterKey::is_held);
    }
    match <[ClusterKey; 1]>::try_from(keys) {
        Ok([key]) => {
            // Values have keys of one type.
            let key_type = key.recipient.key_type();
            let of_type =
                recovery.into_iter().filter(|other| other.recipient.key_type() == key_type);
            let keys: Vec<_> = [key].into_iter().chain(of_type).collect();
            let named = keys.iter().map(|key| {
                let (holder, fingerprint) = (&key.holder, key.fingerprint());
                format!("the Active key of {holder}, fingerprint {fingerprint}")
            });
            output::note(&format!("sealing to {}", Vec::from_iter(named).join(", and to ")));
            recipients::together(keys.into_iter().map(|key| key.declared.recipient).collect())
        }
        Err(keys) if keys.is_empty() => Err(no_active_key(&cluster)),
        Err(keys) => {
            let name = |key: &ClusterKey| format!("{} {}", key.holder, key.fingerprint());
            let names = output::list(keys.iter().map(name));
            Err(anyhow!("the cluster has several Active keys: {names}")).or_hint(USE_A_FILE)
        }
    }
}
