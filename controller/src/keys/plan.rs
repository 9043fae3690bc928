//! The next step in the life of this holder's keys: pure and synchronous.
//!
//! Of one key after the other, as a renewal goes: `Generate` (the identity Secret), `BackUp`, `Publish` as
//! Pending, `HandOver` (the old key is Retired and names the new one, in one write), `Activate`, `Settle`. Each
//! step is decided on what is there, not on what was done before, so whoever finds a renewal begun completes it.

use std::collections::{BTreeMap, BTreeSet};

use bulla_crds::keys::{self, DeclaredKey};
use bulla_crds::{ACTIVATED_ANNOTATION, RENEW_ANNOTATION, SUCCESSOR_ANNOTATION, SealingKey, State};
use bulla_sealing::{Fingerprint, Recipient, Recipients};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::state::key_store::{StoredBackup, StoredIdentity};

/// Everything that a step is decided on.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) holder: String,
    /// The SealingKeys by name.
    pub(super) declared: BTreeMap<String, SealingKey>,
    pub(super) identities: BTreeMap<Fingerprint, StoredIdentity>,
    /// The identities that open.
    pub(super) held: BTreeSet<Fingerprint>,
    pub(super) backups: BTreeMap<Fingerprint, StoredBackup>,
    /// Identity Secrets that hold no identity, with the reason.
    pub(super) unusable: BTreeMap<String, String>,
    pub(super) recovery: Option<Recipients>,
    /// The identity that we made ourselves and that is not yet declared.
    pub(super) made: Option<Fingerprint>,
    /// The key that the Lease of the first key names.
    pub(super) claim: Option<String>,
    /// The API server's time.
    pub(super) now: Option<Timestamp>,
    /// How old a key gets.
    pub(super) period: Option<SignedDuration>,
}

/// One request. Every write to an object that is there names the state of it that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyStep {
    /// Keep on the identity Secret that its key was revoked.
    Mark(Fingerprint),
    /// Revoke a key anew whose identity Secret says that it was revoked.
    Revoke(String),
    /// Seal the identity to the recovery recipients, and store that.
    BackUp(Fingerprint),
    /// Declare an identity that is held.
    Publish(Fingerprint, State),
    /// Make an identity.
    Generate,
    /// Make this the first key, if no other is.
    Claim(String),
    /// Retire the Active key in favour of another, which it names.
    HandOver {
        /// The Active key.
        from: String,
        /// Its successor.
        to: String,
    },
    /// Seal to it from now on.
    Activate(String),
    /// Forget the successor, which has taken over.
    Settle(String),
    /// Seal to it never again: it was overtaken.
    Retire(String),
}

/// By name, as they were listed.
pub(super) fn by_name(keys: Vec<SealingKey>) -> BTreeMap<String, SealingKey> {
    keys.into_iter().map(|key| (key.name_any(), key)).collect()
}

/// Decides on the next step; `None` when all is as it is to be.
pub(super) fn plan(facts: &Facts) -> Option<KeyStep> {
    facts
        .revocation()
        .or_else(|| facts.backup())
        .or_else(|| facts.publication())
        .or_else(|| facts.succession())
}

/// A key of this holder.
struct Ours<'a> {
    name: String,
    key: &'a SealingKey,
    state: State,
    created: Timestamp,
    is_held: bool,
}

impl Ours<'_> {
    fn successor(&self) -> Option<&String> {
        self.key.annotations().get(SUCCESSOR_ANNOTATION)
    }

    /// Since when it is sealed to: one that was restored and activated is not renewed at once for its age.
    fn since(&self) -> Timestamp {
        let activated = self.key.annotations().get(ACTIVATED_ANNOTATION);
        let activated = activated.and_then(|text| text.parse().ok());
        activated.map_or(self.created, |activated: Timestamp| activated.max(self.created))
    }

    /// Age decides, and between keys of the same second the name.
    fn order(&self) -> (Timestamp, &str) {
        (self.created, &self.name)
    }
}

impl Facts {
    /// A key stays revoked, whether its SealingKey or its identity Secret was made anew.
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

    /// Before a key is sealed to, so that there is no moment in which its loss could not be mended.
    fn backup(&self) -> Option<KeyStep> {
        let recovery = self.recovery.as_ref()?;
        let wanted: BTreeSet<_> = recovery.iter().map(Recipient::fingerprint).collect();
        let lacks = |fingerprint: &&Fingerprint| {
            let stored = self.identities.get(*fingerprint);
            let can = stored.is_some_and(|stored| keys::can_back_up(&stored.recipient, recovery));
            let has = self.backups.get(*fingerprint).is_some_and(|backup| {
                backup.recovery.iter().copied().collect::<BTreeSet<_>>() == wanted
            });
            can && !has
        };
        self.held.iter().find(lacks).map(|fingerprint| KeyStep::BackUp(*fingerprint))
    }

    /// What is found, restored or mounted opens; only a person makes it Active.
    fn publication(&self) -> Option<KeyStep> {
        let undeclared =
            |fingerprint: &&Fingerprint| !self.declared.contains_key(&fingerprint.to_string());
        let marked = self.identities.iter().filter(|(_, stored)| stored.is_marked());
        let mut marked = marked.map(|(fingerprint, _)| fingerprint);
        if let Some(fingerprint) = marked.find(undeclared) {
            return Some(KeyStep::Publish(*fingerprint, State::Revoked));
        }
        let fingerprint = *self.held.iter().find(undeclared)?;
        let is_made_by_us = self.made == Some(fingerprint);
        let state = if is_made_by_us { State::Pending } else { State::Retired };
        Some(KeyStep::Publish(fingerprint, state))
    }

    fn succession(&self) -> Option<KeyStep> {
        let ours = self.ours();
        let mut active: Vec<_> = ours.iter().filter(|key| key.state == State::Active).collect();
        active.sort_by(|one, other| one.order().cmp(&other.order()));
        match active[..] {
            [] => Some(self.first(&ours)),
            [only] => self.renewal(only, &ours),
            // Somebody has declared a second one by hand: the newest stays.
            [oldest, .., newest] => {
                Some(KeyStep::HandOver { from: oldest.name.clone(), to: newest.name.clone() })
            }
        }
    }

    /// Completes what was begun, else makes a first key.
    fn first(&self, ours: &[Ours<'_>]) -> KeyStep {
        let is_able =
            |key: &&Ours<'_>| key.is_held && matches!(key.state, State::Pending | State::Retired);
        let named: BTreeSet<_> = ours.iter().filter_map(Ours::successor).collect();
        // The last of a chain: what names a successor itself has had its time.
        let successor = ours
            .iter()
            .find(|key| is_able(key) && key.successor().is_none() && named.contains(&key.name));
        let pending = || ours.iter().filter(|key| is_able(key) && key.state == State::Pending);
        let claimed = || pending().find(|key| self.claim.as_ref() == Some(&key.name));
        if let Some(next) = successor.or_else(claimed) {
            return KeyStep::Activate(next.name.clone());
        }
        match pending().max_by(|one, other| one.order().cmp(&other.order())) {
            Some(candidate) => KeyStep::Claim(candidate.name.clone()),
            None => KeyStep::Generate,
        }
    }

    /// Replaces the Active key when it is due, and tidies up after the last time.
    fn renewal(&self, active: &Ours<'_>, ours: &[Ours<'_>]) -> Option<KeyStep> {
        if let Some(settled) = ours.iter().find(|key| key.successor().is_some()) {
            return Some(KeyStep::Settle(settled.name.clone()));
        }
        let mut pending: Vec<_> =
            ours.iter().filter(|key| key.state == State::Pending && key.is_held).collect();
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

    fn is_due(&self, active: &Ours<'_>) -> bool {
        let is_old = self
            .now
            .zip(self.period)
            .is_some_and(|(now, period)| now.duration_since(active.since()) >= period);
        is_old || active.key.annotations().contains_key(RENEW_ANNOTATION)
    }

    /// The keys of this holder that can be trusted.
    fn ours(&self) -> Vec<Ours<'_>> {
        let ours = self.declared.iter().filter_map(|(name, key)| {
            let declared = DeclaredKey::try_from(key).ok()?;
            let is_held = self.held.contains(&declared.recipient.fingerprint());
            (declared.holder == self.holder).then(|| Ours {
                name: name.clone(),
                key,
                state: declared.state,
                created: declared.created,
                is_held,
            })
        });
        ours.collect()
    }
}

#[cfg(test)]
mod tests {
    use bulla_sealing::{Identity, KeyType};

    use super::*;
    use crate::state::cache::ObjectVersion;
    use crate::state::key_store::StoredSecret;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    /// A cluster in the small: steps are taken on it as `apply` takes them on the real one.
    #[derive(Clone, Default)]
    struct KeyWorld {
        declared: BTreeMap<String, SealingKey>,
        identities: BTreeMap<Fingerprint, StoredIdentity>,
        backups: BTreeMap<Fingerprint, StoredBackup>,
        recovery: Option<Recipients>,
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
            assert!(self.in_state(State::Active).len() <= 1, "two Active keys");
        }

        fn settle(&mut self) -> Vec<KeyStep> {
            let mut taken = Vec::new();
            while let Some(step) = plan(&self.facts()) {
                taken.push(step.clone());
                self.take(step);
                assert!(taken.len() < 20, "it does not end: {taken:?}");
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
    fn first_key_is_stored_declared_claimed_and_then_active() {
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
    fn renewal_backs_up_before_anything_is_sealed_to_the_new_key() {
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
    fn whoever_dies_after_any_step_leaves_something_that_the_next_completes() {
        let (start, old) = settled();
        for deaths in 0..6 {
            let mut world = KeyWorld { day: 30, ..start.clone() };
            for _ in 0..deaths {
                let step = plan(&world.facts()).unwrap();
                world.take(step);
            }
            world.made = None; // what the dead one remembered
            world.settle();
            let active = world.in_state(State::Active);
            assert!(active.len() == 1 && active[0] != old, "after {deaths} steps: {active:?}");
            assert!(world.in_state(State::Pending).is_empty());
        }
    }

    #[test]
    fn of_two_who_renew_at_the_same_time_one_loses() {
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
    fn nothing_is_done_before_its_time_nor_when_clocks_go_back() {
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
    fn renewal_can_be_asked_for_on_the_active_key() {
        let (mut world, old) = settled();
        world.key(&old).annotations_mut().extend([(RENEW_ANNOTATION.to_owned(), String::new())]);
        world.settle();
        assert_eq!(world.in_state(State::Retired), [old]);
        assert_eq!(world.settle(), [], "asked for once, done once");
    }

    #[test]
    fn found_key_is_retired_until_a_person_hands_over_to_it() {
        let (mut world, old) = settled();
        let found = world.find().to_string();
        world.settle();
        assert_eq!(world.in_state(State::Retired), vec![found.clone()]);
        // There and back again, with nobody to tidy up in between.
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
    fn an_old_key_that_a_person_activates_has_its_whole_time() {
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
    fn an_active_key_without_identity_is_not_replaced_by_itself() {
        let (mut world, active) = settled();
        world.identities.clear();
        assert_eq!(world.settle(), []);
        assert_eq!(world.in_state(State::Active), [active]);
    }

    #[test]
    fn a_second_active_key_by_hand_leaves_the_newest() {
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
    fn revoked_key_stays_revoked_whatever_is_made_anew() {
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
