//! Renewal on schedule and on demand, by one of several replicas, even if some crash or hang at any moment.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bulla_crds::keys;
use bulla_sealing::{Identity, KeyType, Keyring, Recipient, Recipients};
use bulla_tests::{ControlPlane, Controller, eventually};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    SOON,
    api::Api,
    cluster::{Fragile, HOLDER, SEALING_KEYS, sealing_keys},
    keys::IDENTITIES,
    searched::Searched,
    test_namespace::{TestNamespace, condition, data, seal_for, secret},
};

/// Stops the controller and starts another one with these flags and an X25519 key.
pub(crate) fn restarted(fragile: &mut Fragile, flags: &[&str]) -> Result<Searched> {
    if fragile.controller.pid().is_ok() {
        fragile.controller.stop(SOON)?;
    }
    let controller = replica(&fragile.plane, flags)?;
    controller.wait_until_ready()?;
    Ok(controller)
}

fn replica(plane: &ControlPlane, flags: &[&str]) -> Result<Searched> {
    let mut command = Controller::command(plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519", "--lease-duration", "2s"]).args(flags);
    Searched::start(command)
}

/// The holder's keys in this state.
pub(crate) fn in_state(keys: &[Value], state: &str) -> Vec<Value> {
    let is_ours = |key: &&Value| key["spec"]["holder"] == HOLDER && key["spec"]["state"] == state;
    keys.iter().filter(is_ours).cloned().collect()
}

/// The name of the holder's only Active key.
pub(crate) fn active(api: &Api) -> Result<String> {
    let keys = in_state(&sealing_keys(api)?, "Active");
    ensure!(keys.len() == 1, "{} Active keys", keys.len());
    name(&keys[0])
}

fn name(key: &Value) -> Result<String> {
    Ok(key["metadata"]["name"].as_str().context("no name")?.to_owned())
}

pub(crate) fn recipients(api: &Api, name: &str) -> Result<Recipients> {
    let key = api.get(&format!("{SEALING_KEYS}/{name}"))?;
    let recipient: Recipient = key["spec"]["recipient"].as_str().context("none")?.parse()?;
    Ok(Recipients::new(vec![recipient])?)
}

pub(crate) fn ask_for_renewal(api: &Api, active: &str) -> Result<()> {
    let asked = json!({"metadata": {"annotations": {"bulla.dev/renew": "now"}}});
    api.merge(&format!("{SEALING_KEYS}/{active}"), &asked).map(drop)
}

/// Waits for an Active key other than `old`.
pub(crate) fn renewed(api: &Api, old: &str) -> Result<String> {
    eventually("a renewed key", SOON, || {
        let active = active(api)?;
        ensure!(active != old, "still {old}");
        Ok(active)
    })
}

#[test]
fn a_renewal_on_demand_makes_a_backup_and_old_values_still_open() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "renewal")?;
    let recovery = Identity::generate(KeyType::Hybrid)?;
    let recipient = recovery.recipient().to_string();
    let mut controller = restarted(&mut fragile, &["--recovery-recipient", &recipient])?;
    let old = active(&fragile.api)?;
    let to_old = recipients(&fragile.api, &old)?;
    let sealed = |name: &str, to: &Recipients| {
        namespace.apply(&seal_for(&namespace.name, secret(name, &[("password", name)]), to)?)
    };
    sealed("before", &to_old)?;
    namespace.done("before")?;

    ask_for_renewal(&fragile.api, &old)?;
    let new = renewed(&fragile.api, &old)?;
    let to_new = recipients(&fragile.api, &new)?;
    sealed("after", &to_new)?;
    namespace.done("after")?;
    sealed("late", &to_old)?;
    namespace.done("late")?;
    eventually("a valid old key", SOON, || {
        let key = fragile.api.get(&format!("{SEALING_KEYS}/{old}"))?;
        ensure!(key["spec"]["state"] == "Retired", "{key}");
        ensure!(key["metadata"]["annotations"]["bulla.dev/successor"].is_null(), "{key}");
        Ok(())
    })?;

    // The backups open with the recovery identity alone, and hold the same as the Secrets.
    let keyring = Keyring::from_iter([recovery]);
    for key in [&old, &new] {
        let backup = backup(&fragile.api, key)?;
        let opened = keys::open_backup(&backup, &keyring)?;
        let stored = data(&fragile.api.get(&format!("{IDENTITIES}/{key}"))?)?;
        ensure!(
            stored["identity.txt"] == keys::identity_file(&opened).as_bytes(),
            "another identity"
        );
        backed_up(&fragile.api, key, "NotTakenOut")?;
    }
    // Someone removes a backup. It stays removed until it would be sealed to other recipients.
    let path = format!("{SEALING_KEYS}/{new}");
    let mut key = fragile.api.get(&path)?;
    for condition in key["status"]["conditions"].as_array_mut().context("no conditions")? {
        if condition["type"] == "BackedUp" {
            condition["status"] = json!("True");
            condition["reason"] = json!("TakenOut");
        }
    }
    let conditions = json!({"status": {"conditions": key["status"]["conditions"]}});
    fragile.api.merge(&format!("{path}/status"), &conditions)?;
    controller.restart()?;
    controller.wait_until_ready()?;
    sealed("again", &to_new)?;
    namespace.done("again")?;
    backed_up(&fragile.api, &new, "TakenOut")?;
    drop(controller);
    let other = Identity::generate(KeyType::X25519)?;
    let recipient = other.recipient().to_string();
    let controller = restarted(&mut fragile, &["--recovery-recipient", &recipient])?;
    backed_up(&fragile.api, &new, "NotTakenOut")?;
    keys::open_backup(&backup(&fragile.api, &new)?, &Keyring::from_iter([other]))?;
    ensure!(controller.metric("bulla_keys_not_backed_up")? >= 2.0, "the metric does not count it");
    drop(controller);
    fragile.restart_and_give_back()
}

fn backup(api: &Api, key: &str) -> Result<Vec<u8>> {
    let secret = api.get(&format!("{IDENTITIES}/{key}-backup"))?;
    ensure!(secret["type"] == "bulla.dev/identity-backup", "{}", secret["type"]);
    data(&secret)?.remove("identity.age").context("no identity.age")
}

fn backed_up(api: &Api, key: &str, reason: &str) -> Result<()> {
    eventually(&format!("BackedUp {reason}"), SOON, || {
        let key = api.get(&format!("{SEALING_KEYS}/{key}"))?;
        let said = condition(&key, "BackedUp");
        ensure!(said["reason"] == reason, "{said}");
        Ok(())
    })
}

#[test]
fn a_renewal_on_schedule_waits_for_its_period() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let flags = ["--renew-every", "3s", "--shortest-renewal", "3s"];
    let first = active(&fragile.api)?;
    let controller = restarted(&mut fragile, &flags)?;
    let second = renewed(&fragile.api, &first)?;
    let third = renewed(&fragile.api, &second)?;
    let keys = sealing_keys(&fragile.api)?;
    let created = |name: &str| -> Result<Timestamp> {
        let key = keys.iter().find(|key| key["metadata"]["name"] == name).context("gone")?;
        let created = key["spec"]["created"].as_str().context("no time")?;
        // The API server's own time, not the controller's.
        let identity = fragile.api.get(&format!("{IDENTITIES}/{name}"))?;
        ensure!(identity["metadata"]["creationTimestamp"] == created, "{created}");
        Ok(created.parse()?)
    };
    let distance = created(&third)?.duration_since(created(&second)?);
    ensure!(distance.as_secs() >= 3, "{distance:?}");
    ensure!(
        controller.metric("bulla_renewal_period_seconds")? == 3.0,
        "expected a period of 3 s in the metric"
    );
    drop(controller);

    // A period under a day is refused.
    let mut hasty = replica(&fragile.plane, &["--renew-every", "1h"])?;
    let ended = eventually("the end of it", SOON, || match hasty.get("/healthz") {
        Ok(_) => bail!("it still runs"),
        Err(_) => Ok(hasty.log()?),
    })?;
    eventually("its reason", SOON, || {
        let log = hasty.log()?;
        ensure!(log.contains("at least a day"), "{ended}{log}");
        Ok(())
    })?;
    let _ = hasty.stop(SOON);
    fragile.restart_and_give_back()
}

/// How many renewals two replicas make while they are killed and paused at random.
const RENEWALS: usize = 100;

#[test]
fn one_key_is_active_during_many_renewals_with_replicas_killed_and_paused() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "renewals")?;
    fragile.controller.stop(SOON)?;
    let flags = ["--renew-every", "2s", "--shortest-renewal", "2s"];
    let mut replicas = [replica(&fragile.plane, &flags)?, replica(&fragile.plane, &flags)?];
    for replica in &replicas {
        replica.wait_until_ready()?;
    }
    let seed = RandomState::new().build_hasher().finish();
    let mut random = Random(seed | 1);
    let api = &fragile.api;
    let (is_over, most, looks) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let seen = Mutex::new(BTreeMap::<String, usize>::new());
    let sealed = AtomicUsize::new(0);
    let outcome = thread::scope(|scope| {
        // A user who seals reads the Active key. Each list is one consistent state of the cluster.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let Ok(keys) = sealing_keys(api) else { continue };
                let active = in_state(&keys, "Active");
                most.fetch_max(active.len(), Ordering::Relaxed);
                looks.fetch_add(1, Ordering::Relaxed);
                let [key] = &active[..] else { continue };
                let Ok(key) = name(key) else { continue };
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let count = seen.entry(key.clone()).or_default();
                *count += 1;
                // Values are sealed to each key, some of them much later.
                if *count == 1 {
                    let number = sealed.fetch_add(1, Ordering::Relaxed);
                    let to = recipients(api, &key);
                    let name = format!("object-{number}");
                    let value = secret(&name, &[("password", &name)]);
                    let manifest = to.and_then(|to| seal_for(&namespace.name, value, &to));
                    let _ = manifest.and_then(|manifest| namespace.apply(&manifest));
                }
            }
        });
        let outcome = harass(api, &mut replicas, &mut random, || {
            seen.lock().unwrap_or_else(PoisonError::into_inner).len()
        });
        is_over.store(true, Ordering::Relaxed);
        outcome
    });
    outcome.with_context(|| format!("seed {seed}"))?;
    let most = most.load(Ordering::Relaxed);
    ensure!(most == 1, "{most} keys of one holder were Active at the same time, seed {seed}");
    ensure!(looks.load(Ordering::Relaxed) > RENEWALS, "too few lists were read");
    for number in 0..sealed.load(Ordering::Relaxed) {
        namespace.done(&format!("object-{number}"))?;
    }
    // Between two writes of a renewal there is none.
    eventually("one Active key in the end", SOON, || active(api))?;
    drop(replicas);
    fragile.restart_and_give_back()
}

/// Kills, pauses and resumes the replicas at random until there were enough keys.
fn harass(
    api: &Api,
    replicas: &mut [Searched; 2],
    random: &mut Random,
    seen: impl Fn() -> usize,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(400);
    while seen() <= RENEWALS {
        ensure!(Instant::now() < deadline, "only {} keys were Active", seen());
        if let Ok(active) = active(api) {
            let _ = ask_for_renewal(api, &active);
        }
        // A random moment, in the middle of whatever the replica is doing.
        thread::sleep(Duration::from_millis(random.below(150)));
        let replica = &mut replicas[usize::try_from(random.below(2))?];
        match random.below(12) {
            0 => {
                replica.kill()?;
                replica.restart()?;
            }
            1 | 2 => {
                replica.pause()?;
                // For longer than its Lease, or for less.
                thread::sleep(Duration::from_millis(random.below(3_500)));
                replica.resume()?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A generator that is random enough for choosing moments (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
