//! The recipients of values, compared with the pins of bulla.yaml and the keys of a cluster.

use std::collections::BTreeSet;

use bulla_crds::State;
use bulla_sealing::Fingerprint;

use crate::cluster::{ClusterKey, SealingKeys};
use crate::commands::lint::context::FileEnvironment;
use crate::commands::lint::finding::Finding;
use crate::commands::lint::rule::Rule;
use crate::manifest::{Object, Step};
use crate::who::config::{Config, Environment, Pin, PinState};

/// What is wrong with the recipients of one value: rule and message.
type Wrong = (Rule, String);

/// A sealed value that was read.
pub(super) struct ReadValue<'a> {
    pub(super) key: &'a str,
    pub(super) fingerprints: Vec<Fingerprint>,
}

/// Checks the recipients of the values of a SealedSecret.
pub(super) fn check(
    object: &Object<'_>,
    values: &[ReadValue<'_>],
    home: FileEnvironment<'_>,
    keys: Option<&SealingKeys>,
) -> Vec<Finding> {
    let FileEnvironment { config, environment, known, has_path } = home;
    let mut findings = Vec::new();
    if let (Some(config), None, true) = (config, environment, has_path) {
        let message = format!("no environment of {} covers this file", config.path.display());
        let path = [Step::Key("kind")];
        findings.push(Finding::in_object(object, Rule::NoEnvironment, &path, None, message));
    }
    if let Some((stated, Environment { name, namespace: Some(namespace), .. })) =
        object.metadata_field("namespace").zip(environment)
        && stated != &**namespace
    {
        let namespace = &**namespace;
        let message = format!("environment {name} is for namespace {namespace}, not {stated}");
        let path = [Step::Key("metadata"), Step::Key("namespace")];
        findings.push(Finding::in_object(object, Rule::NamespaceMismatch, &path, None, message));
    }
    for ReadValue { key, fingerprints } in values {
        let unpinned = known.and_then(|known| unpinned(fingerprints, known));
        let wrong = wrong_with(fingerprints, config, environment, keys).into_iter();
        for (rule, message) in wrong.chain(unpinned) {
            findings.push(Finding::of_value(object, rule, key, message));
        }
    }
    findings
}

/// A new environment does not make new keys trustworthy.
fn unpinned(fingerprints: &[Fingerprint], known: &Config) -> Option<Wrong> {
    let new = fingerprints.iter().filter(|fingerprint| elsewhere(known, **fingerprint).is_none());
    let new: Vec<_> = new.map(ToString::to_string).collect();
    let message =
        || format!("sealed to a key that the earlier bulla.yaml does not pin: {}", new.join("; "));
    (!new.is_empty()).then(|| (Rule::UnknownKey, message()))
}

/// What is wrong with the recipients of one value, as far as that is known.
fn wrong_with(
    fingerprints: &[Fingerprint],
    config: Option<&Config>,
    environment: Option<&Environment>,
    keys: Option<&SealingKeys>,
) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some(config) = config {
        wrong.extend(against_pins(fingerprints, config, environment));
    }
    let Some(keys) = keys else { return wrong };
    if config.is_none() {
        wrong.extend(unknown_to(fingerprints, keys));
    }
    if wrong.iter().all(|(rule, _)| *rule != Rule::RetiredKey) {
        wrong.extend(retired_in(fingerprints, keys));
    }
    let mut of_cluster = against_cluster(fingerprints, keys, environment);
    // An unknown or revoked key is not held either, so that finding is left out.
    let is_reported = |(rule, _): &Wrong| [Rule::UnknownKey, Rule::RevokedKey].contains(rule);
    if wrong.iter().chain(&of_cluster).any(is_reported) {
        of_cluster.retain(|(rule, _)| *rule != Rule::KeyNotHeld);
    }
    wrong.extend(of_cluster);
    wrong
}

/// A value must be sealed to exactly the Active pins of its environment. Without an environment, any pinned key will
/// do.
fn against_pins(
    fingerprints: &[Fingerprint],
    config: &Config,
    environment: Option<&Environment>,
) -> Vec<Wrong> {
    let (mut unexpected, mut unknown, mut retired) = (Vec::new(), Vec::new(), Vec::new());
    let mut replaced = BTreeSet::new();
    for fingerprint in fingerprints {
        let is_it = |pin: &&Pin| pin.recipient.fingerprint() == *fingerprint;
        let pin = environment.and_then(|environment| environment.pins.iter().find(is_it));
        match (pin, elsewhere(config, *fingerprint)) {
            (Some(pin), _) if pin.state == PinState::Active => {}
            (Some(pin), _) => {
                replaced.insert(pin.holder.as_str());
                retired.push(named(*fingerprint, &pin.holder));
            }
            (None, None) => unknown.push(fingerprint.to_string()),
            (None, Some(_)) if environment.is_none() => {}
            (None, Some((other, holder))) => {
                let name = named(*fingerprint, holder);
                unexpected.push(format!("{name}, which is pinned for environment {other}"));
            }
        }
    }
    // A retired key has a successor; that the value is not sealed to it yet is the same finding.
    let is_missing = |pin: &&Pin| {
        pin.state == PinState::Active
            && !fingerprints.contains(&pin.recipient.fingerprint())
            && !replaced.contains(pin.holder.as_str())
    };
    let pins = environment.into_iter().flat_map(|environment| &environment.pins);
    let missing: Vec<_> = pins
        .filter(is_missing)
        .map(|pin| named(pin.recipient.fingerprint(), &pin.holder))
        .collect();
    let wrong = [
        (Rule::UnknownKey, "sealed to a key that is not in bulla.yaml: ", unknown),
        (Rule::UnexpectedRecipient, "sealed to ", unexpected),
        (Rule::MissingRecipient, "not sealed to ", missing),
        (Rule::RetiredKey, "sealed to a retired key: ", retired),
    ];
    let wrong = wrong.into_iter().filter(|(.., keys)| !keys.is_empty());
    wrong.map(|(rule, what, keys)| (rule, format!("{what}{}", keys.join("; ")))).collect()
}

/// The environment that a key is pinned for, and its holder.
fn elsewhere(config: &Config, fingerprint: Fingerprint) -> Option<(&str, &str)> {
    config.environments.iter().find_map(|environment| {
        let mut pins = environment.pins.iter();
        let pin = pins.find(|pin| pin.recipient.fingerprint() == fingerprint)?;
        Some((environment.name.as_str(), pin.holder.as_str()))
    })
}

fn named(fingerprint: Fingerprint, holder: &str) -> String {
    format!("{fingerprint} of {holder}")
}

/// Without a bulla.yaml, every key that the cluster declares is known.
fn unknown_to(fingerprints: &[Fingerprint], keys: &SealingKeys) -> Option<Wrong> {
    let is_declared =
        |fingerprint: &Fingerprint| keys.keys.iter().any(|key| key.fingerprint() == *fingerprint);
    let unknown = fingerprints.iter().filter(|fingerprint| !is_declared(fingerprint));
    let unknown: Vec<_> = unknown.map(ToString::to_string).collect();
    let message =
        || format!("sealed to a key that the cluster does not know: {}", unknown.join("; "));
    (!unknown.is_empty()).then(|| (Rule::UnknownKey, message()))
}

/// A key whose holder has another one today, to which the value is not sealed.
fn retired_in(fingerprints: &[Fingerprint], keys: &SealingKeys) -> Option<Wrong> {
    let is_sealed_to = |key: &&ClusterKey| fingerprints.contains(&key.fingerprint());
    let is_replaced = |key: &&ClusterKey| {
        let mut today = keys.keys.iter().filter(|key| key.state == State::Active);
        key.state == State::Retired
            && today.any(|active| active.holder == key.holder && !is_sealed_to(&active))
    };
    let retired = keys.keys.iter().filter(is_sealed_to).filter(is_replaced);
    let retired: Vec<_> = retired.map(|key| named(key.fingerprint(), &key.holder)).collect();
    let message =
        || format!("sealed to a key that the cluster has retired: {}", retired.join("; "));
    (!retired.is_empty()).then(|| (Rule::RetiredKey, message()))
}

/// A cluster opens a value if it holds one of the value's keys and has not revoked it. This is checked only for values
/// of this cluster: in an environment that pins one of its holders, or without an environment.
fn against_cluster(
    fingerprints: &[Fingerprint],
    keys: &SealingKeys,
    environment: Option<&Environment>,
) -> Vec<Wrong> {
    let of_value: Vec<_> =
        keys.keys.iter().filter(|key| fingerprints.contains(&key.fingerprint())).collect();
    let revoked = of_value.iter().filter(|key| key.state == State::Revoked);
    let mut wrong: Vec<Wrong> = revoked
        .map(|key| {
            let name = named(key.fingerprint(), &key.holder);
            (Rule::RevokedKey, format!("sealed to a key that the cluster has revoked: {name}"))
        })
        .collect();
    let own_holders = keys.own_holders();
    let is_for_it = environment.is_none_or(|environment| {
        environment.pins.iter().any(|pin| own_holders.contains(&pin.holder.as_str()))
    });
    let is_opened = of_value.iter().any(|key| key.is_held() && key.state != State::Revoked);
    if is_for_it && !is_opened {
        let message = "the cluster holds no key that this value is sealed to";
        wrong.push((Rule::KeyNotHeld, message.into()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use bulla_crds::conditions::{self, HELD};
    use bulla_crds::{SealingKey, SealingKeySpec, SealingKeyStatus};
    use bulla_sealing::{Identity, KeyType, Recipient};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn recipient() -> Recipient {
        Identity::generate(KeyType::X25519).unwrap().recipient().clone()
    }

    /// A SealingKey of a holder, and what its controller says of the private half.
    fn key(recipient: &Recipient, holder: &str, state: State, held: (&str, &str)) -> SealingKey {
        let spec = SealingKeySpec {
            recipient: recipient.to_string(),
            holder: holder.into(),
            created: Time(Timestamp::UNIX_EPOCH),
            state,
        };
        let (status, reason) = held;
        let held = conditions::condition(HELD, status, reason, "", 1, &[], Timestamp::UNIX_EPOCH);
        let status = SealingKeyStatus { conditions: vec![held], sealed_secrets: None };
        let key = SealingKey::new(&recipient.fingerprint().to_string(), spec);
        SealingKey { status: Some(status), ..key }
    }

    fn rules(wrong: impl IntoIterator<Item = Wrong>) -> Vec<&'static str> {
        wrong.into_iter().map(|(rule, _)| rule.id()).collect()
    }

    #[test]
    fn a_cluster_opens_the_values_of_its_keys() {
        let [held, revoked, lost, other, stranger] = std::array::from_fn(|_| recipient());
        let keys = SealingKeys::from_iter([
            key(&held, "eu", State::Retired, ("True", "Held")),
            key(&revoked, "eu", State::Revoked, ("False", "Revoked")),
            key(&lost, "eu", State::Active, ("False", "IdentityMissing")),
            key(&other, "us", State::Active, ("False", "OfAnotherHolder")),
        ]);
        let pin = |recipient: &Recipient, holder: &str| Pin {
            recipient: recipient.clone(),
            holder: holder.into(),
            state: PinState::Active,
            fetched: jiff::civil::date(2026, 11, 21),
        };
        let here = Environment::from_iter([pin(&lost, "eu")]);
        let elsewhere = Environment::from_iter([pin(&other, "us")]);
        for (recipients, of_this_cluster, of_another) in [
            (&[&held][..], &[][..], &[][..]),
            (&[&held, &other, &stranger], &[], &[]),
            (&[&revoked], &["revoked-key", "key-not-held"], &["revoked-key"]),
            (&[&held, &revoked], &["revoked-key"], &["revoked-key"]),
            (&[&lost], &["key-not-held"], &[]),
            (&[&other], &["key-not-held"], &[]),
            (&[&stranger], &["key-not-held"], &[]),
        ] {
            let fingerprints: Vec<_> =
                recipients.iter().map(|recipient| recipient.fingerprint()).collect();
            let judge = |environment| rules(against_cluster(&fingerprints, &keys, environment));
            assert_eq!(judge(None), of_this_cluster);
            assert_eq!(judge(Some(&here)), of_this_cluster);
            assert_eq!(judge(Some(&elsewhere)), of_another);
        }
        let unknown = |recipient: &Recipient| rules(unknown_to(&[recipient.fingerprint()], &keys));
        assert_eq!((unknown(&stranger), unknown(&other)), (vec!["unknown-key"], vec![]));
    }
}
