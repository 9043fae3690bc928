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

fn objection(message: impl fmt::Display, hint: impl fmt::Display) -> Failure {
    Failure::unable(anyhow!("{message}")).hint(hint)
}

impl Today {
    /// The demand on the values of a file.
    pub(super) fn demand(&self, file: &Path) -> Result<FileDemand, Failure> {
        let destination = match &self.authority {
            Authority::Recipients(recipients) => Some(Destination::anywhere(recipients.clone())),
            Authority::Cluster => None,
            Authority::Config(config) => {
                let Some(environment) = config.environment_of(file)? else {
                    let name = config.path.display();
                    return Ok(FileDemand::Unknown(objection(
                        format_args!("no environment of {name} covers this file"),
                        "add its path to an environment, or pass -r or -R",
                    )));
                };
                match Destination::pinned(config, environment) {
                    Ok(destination) => Some(destination),
                    Err(failure) => return Ok(FileDemand::Unknown(failure)),
                }
            }
        };
        let given = destination.as_ref().and_then(|destination| destination.namespace.as_ref());
        let namespace = GivenNamespace::agreed(self.namespace.as_deref(), given)?;
        let destination = destination.map(|found| (found.recipients, found.environment));
        let (recipients, environment) = destination.unzip();
        let environment = environment.flatten();
        Ok(FileDemand::Known(Demand { recipients, environment, namespace }))
    }

    /// The recipients of the new header that a value sealed to `fingerprints` needs, if it needs one.
    pub(super) fn need(
        &self,
        demand: &Demand,
        fingerprints: &[Fingerprint],
    ) -> Result<Option<Recipients>, Failure> {
        let mut sealed_to = fingerprints.to_vec();
        sealed_to.sort_unstable();
        let is_sealed_to =
            |recipients: &Recipients| set(recipients).into_iter().eq(sealed_to.iter().copied());
        let Some(cluster) = &self.cluster else {
            let demanded = demand.recipients.as_ref();
            return Ok(demanded.filter(|demanded| !is_sealed_to(demanded)).cloned());
        };
        let successors = cluster.successors(fingerprints.iter().copied());
        if let Some(demanded) = &demand.recipients {
            match &successors {
                Ok(successors) if set(successors) != set(demanded) => {
                    return Err(self.differs(cluster, demand, demanded, successors));
                }
                // Keys of another cluster need not be known here.
                Err(_) if is_sealed_to(demanded) => return Ok(None),
                _ => {}
            }
        }
        let successors = successors.map_err(|error| no_successor(&error))?;
        Ok(Some(successors).filter(|successors| !is_sealed_to(successors)))
    }

    /// The failure when the cluster would seal to other recipients than demanded, with the key and its holder.
    fn differs(
        &self,
        cluster: &DeclaredKeys,
        demand: &Demand,
        demanded: &Recipients,
        successors: &Recipients,
    ) -> Failure {
        let only_in =
            |one: &Recipients, other: &Recipients| set(one).difference(&set(other)).next().copied();
        let environment = demand.environment.as_ref();
        let by = environment
            .map_or("the command line".into(), |environment| format!("environment {environment}"));
        if let Some(fingerprint) = only_in(successors, demanded) {
            let holder = cluster.get(fingerprint).map_or("?", |key| key.holder.as_str());
            let hint = match environment {
                Some(environment) => format!(
                    "check the fingerprint, then run: bulla keys fetch --environment {environment} --holder {holder}"
                ),
                None => "leave -r and -R out, or pass an identity with -i".into(),
            };
            return objection(
                format_args!(
                    "{by} does not have the cluster's Active key of holder {holder}, {fingerprint}"
                ),
                hint,
            );
        }
        // All recipients of the cluster are demanded, and another one too.
        let missing = only_in(demanded, successors).map(|fingerprint| {
            let holder = self.holder_of(fingerprint);
            let of = holder.map(|holder| format!(" of holder {holder}")).unwrap_or_default();
            format!("{fingerprint}{of}")
        });
        let missing = missing.unwrap_or_default(); // never empty: the sets differ
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
            Ok(None) => false,
            Ok(Some(recipients_of_header)) => {
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
                .map(|recipients| recipients.map(|recipients| set(&recipients)))
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
