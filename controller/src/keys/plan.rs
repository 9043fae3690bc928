//! Decides on the next step in the life of this holder's keys. Pure and synchronous.
//!
//! A renewal is a chain of steps: `Generate` (the identity Secret), `BackUp`, `Publish` as Pending, `HandOver` (one
//! write retires the old key and names the new one), `Activate`, `Settle`. Each step is decided on what exists, not
//! on what was done before. So any replica that finds an unfinished renewal completes it.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::keys::{self, DeclaredKey};
use bulla_crds::{ACTIVATED_ANNOTATION, RENEW_ANNOTATION, SUCCESSOR_ANNOTATION, SealingKey, State};
use bulla_sealing::{Fingerprint, KeyType, Recipient, Recipients};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::args::RecoveryKey;
use crate::state::key_store::{StoredBackup, StoredIdentity};

/// Everything that a step is decided on.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) holder: String,
    /// The SealingKeys by name.
    pub(super) declared: BTreeMap<String, SealingKey>,
    pub(super) identities: BTreeMap<Fingerprint, StoredIdentity>,
    /// The identities that unseal.
    pub(super) held: BTreeSet<Fingerprint>,
    pub(super) backups: BTreeMap<Fingerprint, StoredBackup>,
    /// Names of invalid identity Secrets, with the reason.
    pub(super) unusable: BTreeMap<String, String>,
    pub(super) recovery: Option<Recipients>,
    /// The same recipients with their holders.
    pub(super) recovery_keys: Vec<RecoveryKey>,
    /// The type of the keys that this controller makes.
    pub(super) key_type: Option<KeyType>,
    /// The identity that this replica made and has not declared yet.
    pub(super) made: Option<Fingerprint>,
    /// The key that the Lease names as the first.
    pub(super) claim: Option<String>,
    /// The API server's time.
    pub(super) now: Option<Timestamp>,
    /// The age at which a key is renewed.
    pub(super) period: Option<SignedDuration>,
}

/// A step, which takes one request. A write to an existing object names the state that the step was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyStep {
    /// Record on the identity Secret and on the backup that the key was revoked.
    Mark(Fingerprint),
    /// Revoke a key again whose identity Secret records that it was revoked.
    Revoke(String),
    /// Seal the identity to the recovery recipients, and store the result.
    BackUp(Fingerprint),
    /// Declare the key of a held identity.
    Publish(Fingerprint, State),
    /// Declare a recovery recipient as Active, so that values are sealed and rekeyed to it.
    Declare(RecoveryKey),
    /// Make an identity.
    Generate,
    /// Claim to be the first key, if no other key has.
    Claim(String),
    /// Retire the Active key and record its successor on it.
    HandOver {
        /// The Active key.
        from: String,
        /// Its successor.
        to: String,
    },
    /// Make it Active, so that new values are sealed to it.
    Activate(String),
    /// Remove the record of the successor, which has taken over.
    Settle(String),
    /// Retire it, because another key overtook it.
    Retire(String),
}

/// SealingKeys by name.
pub(super) fn by_name(keys: Vec<SealingKey>) -> BTreeMap<String, SealingKey> {
    keys.into_iter().map(|key| (key.name_any(), key)).collect()
}

/// Decides on the next step. `None` if nothing is due.
pub(super) fn plan(facts: &Facts) -> Option<KeyStep> {
    facts
        .revocation()
        .or_else(|| facts.backup())
        .or_else(|| facts.publication())
        .or_else(|| facts.recovery_key())
        .or_else(|| facts.succession())
}

/// A key of this holder.
struct OwnKey<'a> {
    name: String,
    key: &'a SealingKey,
    state: State,
    created: Timestamp,
    is_held: bool,
}

impl OwnKey<'_> {
    fn successor(&self) -> Option<&String> {
        self.key.annotations().get(SUCCESSOR_ANNOTATION)
    }

    /// Since when values are sealed to it. A key that was restored and activated is not renewed immediately for its age.
    fn since(&self) -> Timestamp {
        let activated = self.key.annotations().get(ACTIVATED_ANNOTATION);
        let activated = activated.and_then(|text| text.parse().ok());
        activated.map_or(self.created, |activated: Timestamp| activated.max(self.created))
    }

    /// Sorts by age, and keys of the same second by name.
    fn order(&self) -> (Timestamp, &str) {
        (self.created, &self.name)
    }
}

impl Facts {
    /// A key stays revoked if its SealingKey or its identity Secret is created again.
    fn revocation(&self) -> Option<KeyStep> {
        self.identities.iter().find_map(|(fingerprint, stored)| {
            let name = fingerprint.to_string();
            let state = self.declared.get(&name).map(|key| key.spec.state);
            let is_in_secret = stored.secret.is_some();
            match (state, stored.is_marked()) {
                (Some(State::Revoked), false) if is_in_secret => Some(KeyStep::Mark(*fingerprint)),
                (Some(State::Pending | State::Active | State::Retired), true) => {
                    Some(KeyStep::Revoke(name))
                }
                _ => None,
            }
        })
    }

    /// Backs up a key before values are sealed to it, so that its loss can be repaired at any time.
    fn backup(&self) -> Option<KeyStep> {
        let recovery = self.recovery.as_ref()?;
        let expected: BTreeSet<_> = recovery.iter().map(Recipient::fingerprint).collect();
        let lacks = |fingerprint: &&Fingerprint| {
            let stored = self.identities.get(*fingerprint);
            let can = stored.is_some_and(|stored| keys::can_back_up(&stored.recipient, recovery));
            let has = self.backups.get(*fingerprint).is_some_and(|backup| {
                backup.recovery.iter().copied().collect::<BTreeSet<_>>() == expected
            });
            can && !has
        };
        self.held.iter().find(lacks).map(|fingerprint| KeyStep::BackUp(*fingerprint))
    }

    /// A key that was found, restored or mounted can unseal, but only a person makes it Active.
    fn publication(&self) -> Option<KeyStep> {
        let undeclared =
            |fingerprint: &&Fingerprint| !self.declared.contains_key(&fingerprint.to_string());
        let marked = self.identities.iter().filter(|(_, stored)| stored.is_marked());
        let mut marked = marked.map(|(fingerprint, _)| fingerprint);
        if let Some(fingerprint) = marked.find(undeclared) {
            return Some(KeyStep::Publish(*fingerprint, State::Revoked));
        }
        let fingerprint = *self.held.iter().find(undeclared)?;
        let is_just_made = self.made == Some(fingerprint);
        let state = if is_just_made { State::Pending } else { State::Retired };
        Some(KeyStep::Publish(fingerprint, state))
    }

    /// Declares a recovery recipient, after it has retired the one that it replaces under the same holder. What a person
    /// has declared or changed stays. Values have keys of one type, so one of another type serves backups only.
    fn recovery_key(&self) -> Option<KeyStep> {
        let is_set = |name: &String| {
            self.recovery_keys.iter().any(|key| key.recipient.fingerprint().to_string() == *name)
        };
        self.recovery_keys.iter().find_map(|key| {
            let is_declared = self.declared.contains_key(&key.recipient.fingerprint().to_string());
            let is_of_type = self.key_type == Some(key.recipient.key_type());
            if is_declared || !is_of_type || key.holder == self.holder {
                return None;
            }
            let active = self.declared.iter().find(|(_, declared)| {
                declared.spec.holder == key.holder && declared.spec.state == State::Active
            });
            match active {
                None => Some(KeyStep::Declare(key.clone())),
                Some((name, _)) if !is_set(name) => Some(KeyStep::Retire(name.clone())),
                Some(_) => None,
            }
        })
    }

    fn succession(&self) -> Option<KeyStep> {
        let own_keys = self.own_keys();
        let mut active: Vec<_> = own_keys.iter().filter(|key| key.state == State::Active).collect();
        active.sort_by(|one, other| one.order().cmp(&other.order()));
        match active[..] {
            [] => Some(self.first(&own_keys)),
            [only] => self.renewal(only, &own_keys),
            // A person declared a second Active key by hand. The newest stays.
            [oldest, .., newest] => {
                Some(KeyStep::HandOver { from: oldest.name.clone(), to: newest.name.clone() })
            }
        }
    }

    /// Completes an unfinished succession, or makes a first key.
    fn first(&self, own_keys: &[OwnKey<'_>]) -> KeyStep {
        let is_able =
            |key: &&OwnKey<'_>| key.is_held && matches!(key.state, State::Pending | State::Retired);
        let named: BTreeSet<_> = own_keys.iter().filter_map(OwnKey::successor).collect();
        // The end of a chain: a key that names a successor itself was replaced already.
        let successor = own_keys
            .iter()
            .find(|key| is_able(key) && key.successor().is_none() && named.contains(&key.name));
        let pending = || own_keys.iter().filter(|key| is_able(key) && key.state == State::Pending);
        let claimed = || pending().find(|key| self.claim.as_ref() == Some(&key.name));
        if let Some(next) = successor.or_else(claimed) {
            return KeyStep::Activate(next.name.clone());
        }
        match pending().max_by(|one, other| one.order().cmp(&other.order())) {
            Some(candidate) => KeyStep::Claim(candidate.name.clone()),
            None => KeyStep::Generate,
        }
    }

    /// Replaces the Active key when it is due, and cleans up after the last renewal.
    fn renewal(&self, active: &OwnKey<'_>, own_keys: &[OwnKey<'_>]) -> Option<KeyStep> {
        if let Some(settled) = own_keys.iter().find(|key| key.successor().is_some()) {
            return Some(KeyStep::Settle(settled.name.clone()));
        }
        let mut pending: Vec<_> =
            own_keys.iter().filter(|key| key.state == State::Pending && key.is_held).collect();
        pending.sort_by(|one, other| one.order().cmp(&other.order()));
        if !self.is_due(active) {
            return pending.first().map(|overtaken| KeyStep::Retire(overtaken.name.clone()));
        }
        Some(match pending.last() {
            Some(newest) => {
                KeyStep::HandOver { from: active.name.clone(), to: newest.name.clone() }
            }
            None => KeyStep::Generate,
        })
    }

    fn is_due(&self, active: &OwnKey<'_>) -> bool {
        let is_old = self
            .now
            .zip(self.period)
            .is_some_and(|(now, period)| now.duration_since(active.since()) >= period);
        is_old || active.key.annotations().contains_key(RENEW_ANNOTATION)
    }

    /// The keys of this holder that can be trusted.
    fn own_keys(&self) -> Vec<OwnKey<'_>> {
        let own_keys = self.declared.iter().filter_map(|(name, key)| {
            let declared = DeclaredKey::try_from(key).ok()?;
            let is_held = self.held.contains(&declared.recipient.fingerprint());
            (declared.holder == self.holder).then(|| OwnKey {
                name: name.clone(),
                key,
                state: declared.state,
                created: declared.created,
                is_held,
            })
        });
        own_keys.collect()
    }
}

#[cfg(test)]
mod tests {
    use bulla_sealing::Identity;

    use super::*;
    use crate::state::cache::ObjectVersion;
    use crate::state::key_store::StoredSecret;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    /// A model of a cluster. `take` changes it as `apply` changes a real one.
    #[derive(Clone, Default)]
    struct KeyWorld {
        declared: BTreeMap<String, SealingKey>,
        identities: BTreeMap<Fingerprint, StoredIdentity>,
        backups: BTreeMap<Fingerprint, StoredBackup>,
        recovery: Option<Recipients>,
        recovery_keys: Vec<RecoveryKey>,
        made: Option<Fingerprint>,
        claim: Option<String>,
        day: i64,
    }

    impl KeyWorld {
        fn facts(&self) -> Facts {
            let is_revoked = |fingerprint: &Fingerprint| {
                let key = self.declared.get(&fingerprint.to_string());
                key.is_some_and(|key| key.spec.state == State::Revoked)
                    || self.identities[fingerprint].is_marked()
            };
            let held = self.identities.keys().filter(|key| !is_revoked(key)).copied().collect();
            Facts {
                holder: "eu".into(),
                declared: self.declared.clone(),
                identities: self.identities.clone(),
                held,
                backups: self.backups.clone(),
                recovery: self.recovery.clone(),
                recovery_keys: self.recovery_keys.clone(),
                key_type: Some(KeyType::X25519),
                made: self.made,
                claim: self.claim.clone(),
                now: Some(at(self.day)),
                period: Some(DAY * 30),
                ..Facts::default()
            }
        }

        fn find(&mut self) -> Fingerprint {
            let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
            let fingerprint = recipient.fingerprint();
            let secret =
                StoredSecret { version: ObjectVersion::default(), created: None, is_marked: false };
            let stored = StoredIdentity { recipient, secret: Some(secret), is_in_file: false };
            self.identities.insert(fingerprint, stored);
            fingerprint
        }

        fn key(&mut self, name: &str) -> &mut SealingKey {
            self.declared.get_mut(name).unwrap()
        }

        fn set(&mut self, name: &str, state: State) {
            self.key(name).spec.state = state;
        }

        fn take(&mut self, step: KeyStep) {
            match step {
                KeyStep::Mark(of) => {
                    self.identities.get_mut(&of).unwrap().secret.as_mut().unwrap().is_marked = true;
                }
                KeyStep::Revoke(name) => self.set(&name, State::Revoked),
                KeyStep::BackUp(of) => {
                    let recovery = self.recovery.iter().flat_map(Recipients::iter);
                    let recovery = recovery.map(Recipient::fingerprint).collect();
                    let version = ObjectVersion::default();
                    self.backups.insert(of, StoredBackup { version, recovery });
                }
                KeyStep::Publish(of, state) => {
                    let recipient = &self.identities[&of].recipient;
                    let key =
                        keys::sealing_key(recipient, "bulla-system", "eu", at(self.day), state);
                    self.declared.insert(of.to_string(), key);
                }
                KeyStep::Declare(RecoveryKey { holder, recipient }) => {
                    let state = State::Active;
                    let key =
                        keys::sealing_key(&recipient, "bulla-system", &holder, at(self.day), state);
                    self.declared.insert(recipient.fingerprint().to_string(), key);
                }
                KeyStep::Generate => self.made = Some(self.find()),
                KeyStep::Claim(name) => self.claim = Some(name),
                KeyStep::HandOver { from, to } => {
                    self.set(&from, State::Retired);
                    let annotation = (SUCCESSOR_ANNOTATION.to_owned(), to);
                    self.key(&from).annotations_mut().extend([annotation]);
                }
                KeyStep::Activate(name) => {
                    self.set(&name, State::Active);
                    let since = (ACTIVATED_ANNOTATION.to_owned(), at(self.day).to_string());
                    self.key(&name).annotations_mut().remove(RENEW_ANNOTATION);
                    self.key(&name).annotations_mut().extend([since]);
                }
                KeyStep::Settle(name) => {
                    self.key(&name).annotations_mut().remove(SUCCESSOR_ANNOTATION);
                }
                KeyStep::Retire(name) => self.set(&name, State::Retired),
            }
            for holder in ["eu", "recovery", "vault"] {
                let active = self
                    .declared
                    .values()
                    .filter(|key| key.spec.holder == holder && key.spec.state == State::Active);
                assert!(active.count() <= 1, "two Active keys of {holder}");
            }
        }

        fn settle(&mut self) -> Vec<KeyStep> {
            let mut taken = Vec::new();
            while let Some(step) = plan(&self.facts()) {
                taken.push(step.clone());
                self.take(step);
                assert!(taken.len() < 20, "the steps do not end: {taken:?}");
            }
            taken
        }

        fn in_state(&self, state: State) -> Vec<String> {
            let keys = self.declared.iter().filter(|(_, key)| key.spec.state == state);
            keys.map(|(name, _)| name.clone()).collect()
        }
    }

    fn settled() -> (KeyWorld, String) {
        let mut world = KeyWorld::default();
        world.settle();
        let active = world.in_state(State::Active).pop().unwrap();
        (world, active)
    }

    #[test]
    fn the_first_key_is_stored_declared_claimed_and_then_active() {
        let mut world = KeyWorld::default();
        let steps = world.settle();
        assert!(matches!(
            &steps[..],
            [
                KeyStep::Generate,
                KeyStep::Publish(_, State::Pending),
                KeyStep::Claim(_),
                KeyStep::Activate(_)
            ]
        ));
    }

    #[test]
    fn recovery_recipients_are_declared_and_replaced() {
        let (mut world, _) = settled();
        let recipient = |type_| Identity::generate(type_).unwrap().recipient();
        let key = |holder: &str, recipient: &Recipient| RecoveryKey {
            holder: holder.into(),
            recipient: recipient.clone(),
        };
        let [first, second, third] = [(); 3].map(|()| recipient(KeyType::X25519));
        let of_another_type = recipient(KeyType::Hybrid);
        world.recovery_keys = vec![key("recovery", &first), key("other", &of_another_type)];
        assert_eq!(world.settle(), [KeyStep::Declare(key("recovery", &first))]);
        world.recovery_keys = vec![key("recovery", &second), key("vault", &third)];
        assert_eq!(
            world.settle(),
            [
                KeyStep::Retire(first.fingerprint().to_string()),
                KeyStep::Declare(key("recovery", &second)),
                KeyStep::Declare(key("vault", &third)),
            ]
        );
        // What a person has changed stays, and without the setting nothing changes.
        world.set(&second.fingerprint().to_string(), State::Revoked);
        assert_eq!(world.settle(), []);
        world.recovery_keys.clear();
        assert_eq!(world.settle(), []);
    }

    #[test]
    fn a_renewal_backs_up_the_new_key_before_values_are_sealed_to_it() {
        let (mut world, old) = settled();
        let recovery = Identity::generate(KeyType::Hybrid).unwrap().recipient();
        world.recovery = Some(Recipients::new(vec![recovery]).unwrap());
        assert!(matches!(&world.settle()[..], [KeyStep::BackUp(_)]));
        world.day = 30;
        let steps = world.settle();
        assert!(matches!(
            &steps[..],
            [
                KeyStep::Generate,
                KeyStep::BackUp(_),
                KeyStep::Publish(_, State::Pending),
                KeyStep::HandOver { .. },
                KeyStep::Activate(_),
                KeyStep::Settle(_)
            ]
        ));
        assert_eq!(world.in_state(State::Retired), [old]);
    }

    #[test]
    fn a_renewal_that_stops_after_any_step_is_completed_by_the_next_leader() {
        let (start, old) = settled();
        for steps in 0..6 {
            let mut world = KeyWorld { day: 30, ..start.clone() };
            for _ in 0..steps {
                let step = plan(&world.facts()).unwrap();
                world.take(step);
            }
            world.made = None; // the memory of the leader that died
            world.settle();
            let active = world.in_state(State::Active);
            assert!(active.len() == 1 && active[0] != old, "after {steps} steps: {active:?}");
            assert!(world.in_state(State::Pending).is_empty());
        }
    }

    #[test]
    fn of_two_renewals_at_the_same_time_one_wins() {
        let (mut world, old) = settled();
        world.day = 30;
        for _ in 0..2 {
            let generated = world.find();
            world.take(KeyStep::Publish(generated, State::Pending));
        }
        let steps = world.settle();
        assert_eq!(world.in_state(State::Active).len(), 1);
        assert_eq!(world.in_state(State::Retired).len(), 2, "{steps:?}");
        assert!(world.in_state(State::Retired).contains(&old));
    }

    #[test]
    fn nothing_happens_before_a_key_is_due_or_when_clocks_go_back() {
        for day in [29, 0, -400] {
            let (mut world, _) = settled();
            world.day = day;
            assert_eq!(world.settle(), []);
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_makes_one_key() {
        let (mut world, _) = settled();
        world.day = 4_000;
        world.settle();
        assert_eq!(world.declared.len(), 2);
    }

    #[test]
    fn an_annotation_on_the_active_key_requests_a_renewal() {
        let (mut world, old) = settled();
        world.key(&old).annotations_mut().extend([(RENEW_ANNOTATION.to_owned(), String::new())]);
        world.settle();
        assert_eq!(world.in_state(State::Retired), [old]);
        assert_eq!(world.settle(), [], "requested once, renewed once");
    }

    #[test]
    fn a_found_key_is_retired_until_a_person_hands_over_to_it() {
        let (mut world, old) = settled();
        let found = world.find().to_string();
        world.settle();
        assert_eq!(world.in_state(State::Retired), vec![found.clone()]);
        // To the found key and back, without a cleanup in between.
        world.take(KeyStep::HandOver { from: old.clone(), to: found.clone() });
        world.settle();
        assert_eq!(world.in_state(State::Active), vec![found.clone()]);
        world.take(KeyStep::HandOver { from: found.clone(), to: old.clone() });
        world.settle();
        assert_eq!(
            (world.in_state(State::Active), world.in_state(State::Retired)),
            (vec![old], vec![found])
        );
    }

    #[test]
    fn an_old_key_that_a_person_activates_gets_a_full_period() {
        let (mut world, first) = settled();
        world.key(&first).annotations_mut().extend([(RENEW_ANNOTATION.to_owned(), String::new())]);
        world.settle();
        let second = world.in_state(State::Active).pop().unwrap();
        world.day = 100;
        world.take(KeyStep::HandOver { from: second, to: first.clone() });
        let steps = world.settle();
        assert!(matches!(&steps[..], [KeyStep::Activate(_), KeyStep::Settle(_)]), "{steps:?}");
        assert_eq!(world.in_state(State::Active), vec![first.clone()]);
        world.day = 129;
        assert_eq!(world.settle(), []);
        world.day = 130;
        world.settle();
        assert_ne!(world.in_state(State::Active), [first]);
    }

    #[test]
    fn an_active_key_without_an_identity_is_not_replaced() {
        let (mut world, active) = settled();
        world.identities.clear();
        assert_eq!(world.settle(), []);
        assert_eq!(world.in_state(State::Active), [active]);
    }

    #[test]
    fn of_two_active_keys_the_newest_stays_active() {
        let (mut world, old) = settled();
        world.day = 1;
        let second = world.find();
        world.settle();
        world.declared.get_mut(&second.to_string()).unwrap().spec.state = State::Active;
        let step = plan(&world.facts()).unwrap();
        assert_eq!(step, KeyStep::HandOver { from: old.clone(), to: second.to_string() });
        world.take(step);
        world.settle();
        assert_eq!(world.in_state(State::Active), [second.to_string()]);
    }

    #[test]
    fn keys_of_other_holders_are_left_alone() {
        let (mut world, _) = settled();
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        for state in [State::Active, State::Pending] {
            let key = keys::sealing_key(&recipient, "bulla-system", "us", at(-900), state);
            world.declared.insert(recipient.fingerprint().to_string(), key);
            world.declared.retain(|_, key| key.spec.holder != "us" || key.spec.state == state);
            assert_eq!(plan(&world.facts()), None);
        }
    }

    #[test]
    fn a_revoked_key_stays_revoked_when_its_objects_are_created_again() {
        let (mut world, _) = settled();
        let found = world.find();
        world.settle();
        world.set(&found.to_string(), State::Revoked);
        assert_eq!(world.settle(), [KeyStep::Mark(found)]);
        world.declared.remove(&found.to_string());
        assert_eq!(world.settle(), [KeyStep::Publish(found, State::Revoked)]);
        world.set(&found.to_string(), State::Retired);
        assert_eq!(world.settle(), [KeyStep::Revoke(found.to_string())]);
    }

    #[test]
    fn backups_follow_the_recovery_recipients() {
        let (mut world, _) = settled();
        for _ in 0..2 {
            let recovery = Identity::generate(KeyType::X25519).unwrap().recipient();
            world.recovery = Some(Recipients::new(vec![recovery]).unwrap());
            assert!(matches!(&world.settle()[..], [KeyStep::BackUp(_)]));
        }
    }

    /// Two new keys of this holder, the one whose name sorts first and the other.
    fn two_keys(world: &mut KeyWorld) -> [Fingerprint; 2] {
        let mut keys = [world.find(), world.find()];
        keys.sort_by_key(ToString::to_string);
        keys
    }

    fn declare(world: &mut KeyWorld, of: Fingerprint, day: i64, state: State) {
        let recipient = &world.identities[&of].recipient;
        let key = keys::sealing_key(recipient, "bulla-system", "eu", at(day), state);
        world.declared.insert(of.to_string(), key);
    }

    #[test]
    fn listed_keys_are_kept_by_name() {
        let (world, active) = settled();
        let listed = world.declared.values().cloned().collect();
        assert_eq!(by_name(listed).into_keys().collect::<Vec<_>>(), [active]);
    }

    #[test]
    fn the_newest_key_stays_active_whatever_its_name_and_names_break_ties() {
        for [first_day, second_day] in [[5, 1], [1, 5], [3, 3]] {
            let mut world = KeyWorld::default();
            let [first, second] = two_keys(&mut world);
            declare(&mut world, first, first_day, State::Active);
            declare(&mut world, second, second_day, State::Active);
            let (from, to) = if first_day > second_day { (second, first) } else { (first, second) };
            let (from, to) = (from.to_string(), to.to_string());
            assert_eq!(plan(&world.facts()), Some(KeyStep::HandOver { from, to }));
        }
    }

    #[test]
    fn only_a_pending_key_that_is_held_may_become_the_first() {
        let mut world = KeyWorld::default();
        let [held, not_held] = two_keys(&mut world);
        declare(&mut world, held, 1, State::Retired);
        declare(&mut world, not_held, 2, State::Pending);
        world.identities.remove(&not_held);
        assert_eq!(plan(&world.facts()), Some(KeyStep::Generate));
        declare(&mut world, held, 1, State::Pending);
        assert_eq!(plan(&world.facts()), Some(KeyStep::Claim(held.to_string())));
    }

    #[test]
    fn a_revoked_key_in_a_file_has_no_secret_to_mark() {
        let (mut world, _) = settled();
        let found = world.find();
        world.settle();
        world.set(&found.to_string(), State::Revoked);
        let stored = world.identities.get_mut(&found).unwrap();
        (stored.secret, stored.is_in_file) = (None, true);
        assert_eq!(plan(&world.facts()), None);
    }
}
