//! The recipients that a value should be sealed to today.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::anyhow;
use bulla_crds::keys::{DeclaredKeys, NoSuccessor};
use bulla_sealing::{Fingerprint, Recipients};

use crate::manifest::GivenNamespace;
use crate::report::failure::Failure;
use crate::who::destination::{Authority, Destination};

/// Everything that determines these recipients.
pub(super) struct Today {
    pub(super) authority: Authority,
    /// The cluster's keys, if the new headers come from it.
    pub(super) cluster: Option<DeclaredKeys>,
    /// The namespace that `-n` names.
    pub(super) namespace: Option<String>,
}

/// The recipients and namespace that all values of a file should have.
pub(super) struct Demand {
    /// None if only the cluster knows them.
    recipients: Option<Recipients>,
    /// The environment of `bulla.yaml` that the file belongs to.
    environment: Option<String>,
    /// The namespace of manifests that do not set one.
    pub(super) namespace: Option<GivenNamespace>,
}

/// The demand on a file.
pub(super) enum FileDemand {
    Known(Demand),
    /// The demand cannot be determined, for this reason.
    Unknown(Failure),
}

impl Demand {
    fn of(destination: Option<Destination>, flag: Option<&str>) -> Result<FileDemand, Failure> {
        let Some(destination) = destination else {
            let namespace = flag.map(GivenNamespace::by_flag);
            return Ok(FileDemand::Known(Self { recipients: None, environment: None, namespace }));
        };
        let namespace = destination.given_namespace(flag)?;
        let Destination { recipients, environment, .. } = destination;
        Ok(FileDemand::Known(Self { recipients: Some(recipients), environment, namespace }))
    }
}

/// What a value needs.
pub(super) enum RekeyNeed {
    UpToDate,
    /// A new header for these recipients.
    Header(Recipients),
}

fn objection(message: impl fmt::Display, hint: impl fmt::Display) -> Failure {
    Failure::unable(anyhow!("{message}")).hint(hint)
}

impl Today {
    /// The demand on the values of a file.
    pub(super) fn demand(&self, file: &Path) -> Result<FileDemand, Failure> {
        let flag = self.namespace.as_deref();
        let config = match &self.authority {
            Authority::Config(config) => config,
            Authority::Recipients(recipients) => {
                return Demand::of(Some(Destination::anywhere(recipients.clone())), flag);
            }
            Authority::Cluster => return Demand::of(None, flag),
        };
        let Some(environment) = config.environment_of(file)? else {
            let name = config.path.display();
            return Ok(FileDemand::Unknown(objection(
                format_args!("no environment of {name} covers this file"),
                "add its path to an environment, or pass -r or -R",
            )));
        };
        match Destination::pinned(config, environment) {
            Ok(destination) => Demand::of(Some(destination), flag),
            Err(failure) => Ok(FileDemand::Unknown(failure)),
        }
    }

    /// What a value that is sealed to `fingerprints` needs.
    pub(super) fn need(
        &self,
        demand: &Demand,
        fingerprints: &[Fingerprint],
    ) -> Result<RekeyNeed, Failure> {
        let is_sealed_to =
            |recipients: &Recipients| set(recipients).into_iter().eq(sorted(fingerprints));
        let Some(cluster) = &self.cluster else {
            return Ok(match &demand.recipients {
                Some(demanded) if !is_sealed_to(demanded) => RekeyNeed::Header(demanded.clone()),
                _ => RekeyNeed::UpToDate,
            });
        };
        let successors = cluster.successors(fingerprints.iter().copied());
        if let Some(demanded) = &demand.recipients {
            match &successors {
                Ok(successors) if set(successors) != set(demanded) => {
                    return Err(self.differs(cluster, demand, demanded, successors));
                }
                // Keys of another cluster need not be known here.
                Err(_) if is_sealed_to(demanded) => return Ok(RekeyNeed::UpToDate),
                _ => {}
            }
        }
        match successors {
            Ok(successors) if is_sealed_to(&successors) => Ok(RekeyNeed::UpToDate),
            Ok(successors) => Ok(RekeyNeed::Header(successors)),
            Err(error) => Err(no_successor(&error)),
        }
    }

    /// The failure when the cluster would seal to other recipients than demanded, with the key and its holder.
    fn differs(
        &self,
        cluster: &DeclaredKeys,
        demand: &Demand,
        demanded: &Recipients,
        successors: &Recipients,
    ) -> Failure {
        let only_in = |one: &Recipients, other: &Recipients| {
            let other = set(other);
            set(one).into_iter().find(|fingerprint| !other.contains(fingerprint))
        };
        let by = match &demand.environment {
            Some(environment) => format!("environment {environment}"),
            None => "the command line".into(),
        };
        let fetch = |holder: &str| match &demand.environment {
            Some(environment) => {
                format!(
                    "check the fingerprint, then run: bulla keys fetch --environment {environment} --holder {holder}"
                )
            }
            None => "leave -r and -R out, or pass an identity with -i".into(),
        };
        if let Some(fingerprint) = only_in(successors, demanded) {
            let holder = cluster.get(fingerprint).map_or("?", |key| key.holder.as_str());
            return objection(
                format_args!(
                    "{by} does not have the cluster's Active key of holder {holder}, {fingerprint}"
                ),
                fetch(holder),
            );
        }
        // All recipients of the cluster are demanded, and another one too.
        let missing = only_in(demanded, successors)
            .map(|fingerprint| (fingerprint, self.holder_of(fingerprint)));
        let missing = match missing {
            Some((fingerprint, Some(holder))) => format!("{fingerprint} of holder {holder}"),
            Some((fingerprint, None)) => fingerprint.to_string(),
            None => "?".into(), // never: the sets differ
        };
        objection(
            format_args!(
                "{by} names {missing}, but the value is not sealed to that holder; a rekey through the cluster cannot add holders"
            ),
            "pass an identity with -i, or seal the value again",
        )
    }

    /// The holder of a key, if it is known.
    pub(super) fn holder_of(&self, fingerprint: Fingerprint) -> Option<&str> {
        let of_config = match &self.authority {
            Authority::Config(config) => config.holder_of(fingerprint),
            Authority::Recipients(_) | Authority::Cluster => None,
        };
        let of_cluster = || Some(self.cluster.as_ref()?.get(fingerprint)?.holder.as_str());
        of_config.or_else(of_cluster)
    }
}

fn set(recipients: &Recipients) -> BTreeSet<Fingerprint> {
    recipients.iter().map(bulla_sealing::Recipient::fingerprint).collect()
}

fn sorted(fingerprints: &[Fingerprint]) -> Vec<Fingerprint> {
    let mut sorted = fingerprints.to_vec();
    sorted.sort_unstable();
    sorted
}

fn no_successor(error: &NoSuccessor) -> Failure {
    let hint = match error {
        NoSuccessor::UnknownFingerprint(_) => {
            "check that this is the right context; ask an administrator to declare the key with bulla keys activate -r, or pass an identity with -i"
        }
        NoSuccessor::NoActiveKey(_) => {
            "run bulla keys list to see the holder's keys, and ask an administrator to activate one"
        }
        NoSuccessor::SeveralActiveKeys(_) => "ask an administrator to retire all but one of them",
        NoSuccessor::Recipients(_) => {
            "age allows one type per file: the holders' Active keys must have the same type"
        }
    };
    objection(error, hint)
}

#[cfg(test)]
mod tests {
    use bulla_crds::State;
    use bulla_crds::keys::DeclaredKey;
    use bulla_sealing::{Identity, KeyType};
    use jiff::Timestamp;

    use super::*;

    fn key(holder: &str, state: State) -> DeclaredKey {
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        DeclaredKey { recipient, holder: holder.into(), state, created: Timestamp::UNIX_EPOCH }
    }

    fn recipients(keys: &[&DeclaredKey]) -> Recipients {
        Recipients::new(keys.iter().map(|key| key.recipient.clone()).collect()).unwrap()
    }

    fn fingerprints(keys: &[&DeclaredKey]) -> Vec<Fingerprint> {
        keys.iter().map(|key| key.recipient.fingerprint()).collect()
    }

    #[test]
    fn a_value_sealed_to_exactly_todays_recipients_is_up_to_date() {
        let [one, two, three] = ["a", "b", "c"].map(|holder| key(holder, State::Active));
        let today = Today { authority: Authority::Cluster, cluster: None, namespace: None };
        let demand = |keys: &[&DeclaredKey]| Demand {
            recipients: Some(recipients(keys)),
            environment: None,
            namespace: None,
        };
        let need = |demanded: &[&DeclaredKey], sealed: &[&DeclaredKey]| match today
            .need(&demand(demanded), &fingerprints(sealed))
        {
            Ok(RekeyNeed::UpToDate) => false,
            Ok(RekeyNeed::Header(recipients_of_header)) => {
                set(&recipients_of_header) == set(&recipients(demanded))
            }
            Err(_) => panic!("no cluster can object"),
        };
        assert!(!need(&[&one, &two], &[&two, &one]));
        assert!(need(&[&one, &two], &[&one]));
        assert!(need(&[&one], &[&one, &two]));
        assert!(need(&[&one, &two], &[&one, &three]));
    }

    #[test]
    fn the_demanded_recipients_must_match_those_of_the_cluster() {
        let (old, new) = (key("eu", State::Retired), key("eu", State::Active));
        let recovery = key("recovery", State::Active);
        let stranger = key("us", State::Active);
        let declared: DeclaredKeys = [&old, &new, &recovery].into_iter().cloned().collect();
        let today =
            Today { authority: Authority::Cluster, cluster: Some(declared), namespace: None };
        let need = |demanded: Option<&[&DeclaredKey]>, sealed: &[&DeclaredKey]| {
            let demand = Demand {
                recipients: demanded.map(recipients),
                environment: Some("prod".into()),
                namespace: None,
            };
            today
                .need(&demand, &fingerprints(sealed))
                .map_err(|failure| failure.into_parts().0)
                .map(|need| match need {
                    RekeyNeed::UpToDate => None,
                    RekeyNeed::Header(recipients) => Some(set(&recipients)),
                })
        };
        let fresh = set(&recipients(&[&new, &recovery]));
        assert_eq!(need(None, &[&old, &recovery]), Ok(Some(fresh.clone())));
        assert_eq!(need(None, &[&new, &recovery]), Ok(None));
        assert_eq!(need(Some(&[&recovery, &new]), &[&old, &recovery]), Ok(Some(fresh)));
        let fingerprint = |key: &DeclaredKey| key.recipient.fingerprint();
        for sealed in [[&old, &recovery], [&new, &recovery]] {
            assert_eq!(
                need(Some(&[&old, &recovery]), &sealed),
                Err(format!(
                    "environment prod does not have the cluster's Active key of holder eu, {}",
                    fingerprint(&new)
                ))
            );
        }
        assert_eq!(
            need(Some(&[&new, &recovery]), &[&old]),
            Err(format!(
                "environment prod names {} of holder recovery, but the value is not sealed to that holder; a rekey through the cluster cannot add holders",
                fingerprint(&recovery)
            ))
        );
        let unknown =
            format!("key {} is not declared here by a SealingKey", fingerprint(&stranger));
        assert_eq!(need(None, &[&stranger]), Err(unknown));
        assert_eq!(need(Some(&[&stranger]), &[&stranger]), Ok(None));
    }
}
