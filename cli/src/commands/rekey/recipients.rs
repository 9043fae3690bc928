//! Whom a value is to be sealed to today.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use bulla_crds::keys::{DeclaredKeys, NoSuccessor};
use bulla_sealing::{Fingerprint, Recipients};

use crate::manifest::GivenNamespace;
use crate::report::failure::Failure;
use crate::who::config::Config;

/// Everything that says it.
pub(super) struct Today {
    pub(super) source: Source,
    /// The cluster's keys, when the new headers come from it.
    pub(super) cluster: Option<DeclaredKeys>,
    /// The namespace that `-n` names.
    pub(super) namespace: Option<String>,
}

/// Who says it.
pub(super) enum Source {
    /// The flags: these, for every value.
    Given(Recipients),
    /// The pins of `bulla.yaml`.
    Config(Config),
    /// The cluster alone.
    Cluster,
}

/// What is demanded of all values of a file.
pub(super) struct Demand {
    /// None where only the cluster says it.
    recipients: Option<Recipients>,
    /// The environment of `bulla.yaml` that the file belongs to.
    environment: Option<String>,
    /// The namespace of what names none itself.
    pub(super) namespace: Option<GivenNamespace>,
}

/// What is to be done with a value.
pub(super) enum Need {
    UpToDate,
    /// A new header for these.
    Header(Recipients),
}

/// Why a file or value is left alone, and what to do.
pub(super) struct Objection {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Objection {
    fn new(message: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self { message: message.to_string(), hint: Some(hint.to_string()) }
    }
}

impl Today {
    /// What is demanded of the values of a file, or why nothing can be.
    pub(super) fn demand(&self, file: &Path) -> Result<Result<Demand, Objection>, Failure> {
        let flag = self.namespace.as_deref();
        let anywhere = |recipients| {
            let namespace = flag.map(GivenNamespace::by_flag);
            Ok(Ok(Demand { recipients, environment: None, namespace }))
        };
        let config = match &self.source {
            Source::Given(recipients) => return anywhere(Some(recipients.clone())),
            Source::Cluster => return anywhere(None),
            Source::Config(config) => config,
        };
        let name = config.path.display();
        let Some(environment) = config.environment_of(file)? else {
            return Ok(Err(Objection::new(
                format_args!(
                    "no environment of {name} has this file, so it is not said whom its values are for"
                ),
                "add its path to an environment, or name the recipients with -r or -R",
            )));
        };
        let environment_name = environment.name.clone();
        Ok(match environment.recipients() {
            Some(recipients) => {
                let namespace = GivenNamespace::agreed(flag, environment.namespace.as_ref())?;
                let environment = Some(environment_name);
                Ok(Demand { recipients: Some(recipients), environment, namespace })
            }
            None => Err(Objection::new(
                format_args!("environment {environment_name} of {name} pins no Active recipient"),
                format_args!(
                    "pin the cluster's: bulla keys fetch --environment {environment_name}"
                ),
            )),
        })
    }

    /// What is to be done with a value that is sealed to `fingerprints`.
    pub(super) fn need(
        &self,
        demand: &Demand,
        fingerprints: &[Fingerprint],
    ) -> Result<Need, Objection> {
        let is_sealed_to =
            |recipients: &Recipients| set(recipients).into_iter().eq(sorted(fingerprints));
        let Some(cluster) = &self.cluster else {
            return Ok(match &demand.recipients {
                Some(demanded) if !is_sealed_to(demanded) => Need::Header(demanded.clone()),
                _ => Need::UpToDate,
            });
        };
        let successors = cluster.successors(fingerprints.iter().copied());
        if let Some(demanded) = &demand.recipients {
            match &successors {
                Ok(successors) if set(successors) != set(demanded) => {
                    return Err(self.differs(cluster, demand, demanded, successors));
                }
                // What another cluster is asked for need not be known here.
                Err(_) if is_sealed_to(demanded) => return Ok(Need::UpToDate),
                _ => {}
            }
        }
        match successors {
            Ok(successors) if is_sealed_to(&successors) => Ok(Need::UpToDate),
            Ok(successors) => Ok(Need::Header(successors)),
            Err(error) => Err(no_successor(&error)),
        }
    }

    /// That the cluster would give a header for others than are demanded, and whose key it is.
    fn differs(
        &self,
        cluster: &DeclaredKeys,
        demand: &Demand,
        demanded: &Recipients,
        successors: &Recipients,
    ) -> Objection {
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
                    "look whether it is right, and bulla keys fetch --environment {environment} --holder {holder}"
                )
            }
            None => "leave -r and -R out, or give an identity with -i".into(),
        };
        if let Some(fingerprint) = only_in(successors, demanded) {
            let holder = cluster.get(fingerprint).map_or("?", |key| key.holder.as_str());
            return Objection::new(
                format_args!(
                    "the cluster's Active key of holder {holder} is {fingerprint}, which {by} does not name"
                ),
                fetch(holder),
            );
        }
        // All that the cluster would take are demanded, and somebody else besides.
        let missing = only_in(demanded, successors).map(|it| (it, self.holder_of(it)));
        let whom = match missing {
            Some((fingerprint, Some(holder))) => format!("{fingerprint} of holder {holder}"),
            Some((fingerprint, None)) => fingerprint.to_string(),
            None => "?".into(), // never: the sets differ
        };
        Objection::new(
            format_args!(
                "{by} names {whom}, whom the value is not sealed for; a rekey through the cluster adds nobody"
            ),
            "give an identity with -i, or seal the value again",
        )
    }

    /// Who holds a key, as far as it is known.
    pub(super) fn holder_of(&self, fingerprint: Fingerprint) -> Option<&str> {
        let of_config = match &self.source {
            Source::Config(config) => config.holder_of(fingerprint),
            Source::Given(_) | Source::Cluster => None,
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

fn no_successor(error: &NoSuccessor) -> Objection {
    let hint = match error {
        NoSuccessor::UnknownFingerprint(_) => {
            "is it the right context? Else an administrator declares the key, or an identity is given with -i"
        }
        NoSuccessor::NoActiveKey(_) => {
            "bulla keys list shows the holder's keys; an administrator activates one"
        }
        NoSuccessor::SeveralActiveKeys(_) => "an administrator retires all but one of them",
        NoSuccessor::Recipients(_) => {
            "age forbids both types in one file: the holders' Active keys must be of one type"
        }
    };
    Objection::new(error, hint)
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
    fn what_is_sealed_to_exactly_todays_recipients_needs_nothing() {
        let [one, two, three] = ["a", "b", "c"].map(|holder| key(holder, State::Active));
        let today = Today { source: Source::Cluster, cluster: None, namespace: None };
        let demand = |keys: &[&DeclaredKey]| Demand {
            recipients: Some(recipients(keys)),
            environment: None,
            namespace: None,
        };
        let need = |demanded: &[&DeclaredKey], sealed: &[&DeclaredKey]| match today
            .need(&demand(demanded), &fingerprints(sealed))
        {
            Ok(Need::UpToDate) => false,
            Ok(Need::Header(for_whom)) => set(&for_whom) == set(&recipients(demanded)),
            Err(_) => panic!("no cluster can object"),
        };
        assert!(!need(&[&one, &two], &[&two, &one]));
        assert!(need(&[&one, &two], &[&one]));
        assert!(need(&[&one], &[&one, &two]));
        assert!(need(&[&one, &two], &[&one, &three]));
    }

    #[test]
    fn through_the_cluster_what_is_demanded_and_what_it_gives_must_agree() {
        let (old, new) = (key("eu", State::Retired), key("eu", State::Active));
        let recovery = key("recovery", State::Active);
        let stranger = key("us", State::Active);
        let declared: DeclaredKeys = [&old, &new, &recovery].into_iter().cloned().collect();
        let today = Today { source: Source::Cluster, cluster: Some(declared), namespace: None };
        let need = |demanded: Option<&[&DeclaredKey]>, sealed: &[&DeclaredKey]| {
            let demand = Demand {
                recipients: demanded.map(recipients),
                environment: Some("prod".into()),
                namespace: None,
            };
            today.need(&demand, &fingerprints(sealed)).map_err(|it| it.message).map(|need| {
                match need {
                    Need::UpToDate => None,
                    Need::Header(recipients) => Some(set(&recipients)),
                }
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
                    "the cluster's Active key of holder eu is {}, which environment prod does not name",
                    fingerprint(&new)
                ))
            );
        }
        assert_eq!(
            need(Some(&[&new, &recovery]), &[&old]),
            Err(format!(
                "environment prod names {} of holder recovery, whom the value is not sealed for; a rekey through the cluster adds nobody",
                fingerprint(&recovery)
            ))
        );
        let unknown =
            format!("key {} is not declared here by a SealingKey", fingerprint(&stranger));
        assert_eq!(need(None, &[&stranger]), Err(unknown));
        assert_eq!(need(Some(&[&stranger]), &[&stranger]), Ok(None));
    }
}
