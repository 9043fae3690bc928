//! The keys that clusters show, to be pinned in `bulla.yaml`: their holders, and whether it is the right cluster.

use anyhow::anyhow;

use crate::cluster::kubeconfig::ClustersFlags;
use crate::cluster::{Cluster, ClusterKey, SealingKeys, sealing_keys};
use crate::report::failure::{Failure, OrHint};
use crate::report::{escape, output};
use crate::who::config::{Environment, Pin, PinState, RECOVERY, Renewal};

/// What to check first.
const WRONG: &str = "check that this is the right context";

/// The keys of a cluster, and how it was asked for them.
pub(crate) struct Shown {
    pub(crate) keys: SealingKeys,
    /// The context and the server, for people.
    by: String,
}

/// A holder's Active key.
pub(crate) struct HolderKey<'a> {
    key: &'a ClusterKey,
    /// The clusters that show it.
    shown: Vec<&'a Shown>,
    /// Whether the command line names the holder.
    is_named: bool,
}

impl Shown {
    /// The keys of each cluster that the flags name.
    pub(crate) fn by_each(flags: &ClustersFlags) -> Result<Vec<Self>, Failure> {
        let shown = |flags| {
            let cluster = Cluster::connect(&flags)?;
            let keys = sealing_keys::of_today(&cluster)?.all_trusted()?;
            if keys.active_holders().is_empty() {
                return Err(sealing_keys::no_active_key(&cluster));
            }
            let by = format!("context {} at {}", cluster.context, cluster.server);
            Ok(Self { keys, by })
        };
        flags.each().into_iter().map(shown).collect()
    }

    /// The holder whose keys the controller can open.
    fn own_holder(&self) -> Result<&str, Failure> {
        let holders = match self.keys.own_holders() {
            holders if holders.is_empty() => self.keys.active_holders(),
            holders => holders,
        };
        match holders[..] {
            [holder] => Ok(holder),
            _ => Err(anyhow!("{} has keys of several holders: {}", self.by, holders.join(", ")))
                .or_hint("choose one with --holder; repeat it for several"),
        }
    }
}

/// The Active keys of the holders that are named, or of each cluster's own.
pub(crate) fn holder_keys<'a>(
    shown: &'a [Shown],
    named: &[String],
) -> Result<Vec<HolderKey<'a>>, Failure> {
    let mut keys: Vec<HolderKey<'a>> = Vec::new();
    if named.is_empty() {
        for cluster in shown {
            let holder = cluster.own_holder()?;
            add(&mut keys, holder, &[cluster], false)?;
        }
    }
    for holder in named {
        add(&mut keys, holder, &Vec::from_iter(shown), true)?;
    }
    Ok(keys)
}

/// Adds the one Active key of a holder that these clusters show.
fn add<'a>(
    keys: &mut Vec<HolderKey<'a>>,
    holder: &str,
    clusters: &[&'a Shown],
    is_named: bool,
) -> Result<(), Failure> {
    let mut is_found = false;
    for cluster in clusters {
        let Some(key) = cluster.keys.active(holder)? else { continue };
        is_found = true;
        match keys.iter_mut().find(|earlier| earlier.key.holder == holder) {
            None => keys.push(HolderKey { key, shown: vec![cluster], is_named }),
            Some(same) if same.key.recipient == key.recipient => same.shown.push(cluster),
            Some(other) => {
                let (one, other) = (other.by(), &cluster.by);
                return Err(anyhow!("{one} and {other} show different Active keys of holder {holder}"))
                    .or_hint("each cluster needs a holder name of its own: set BULLA_HOLDER of its controller");
            }
        }
    }
    let by = output::list(clusters.iter().map(|cluster| &cluster.by));
    is_found
        .then_some(())
        .ok_or_else(|| anyhow!("holder {holder} has no Active key in {by}"))
        .or_hint("to see all keys, run bulla keys list; an administrator declares the keys of other holders")
}

impl HolderKey<'_> {
    pub(crate) fn holder(&self) -> &str {
        &self.key.holder
    }

    fn by(&self) -> String {
        output::list(self.shown.iter().map(|cluster| &cluster.by))
    }

    /// Whether its clusters show such a key.
    fn is_shown(&self, is_meant: impl Fn(&ClusterKey) -> bool) -> bool {
        self.shown.iter().flat_map(|cluster| &cluster.keys.keys).any(is_meant)
    }

    /// What pinning it in an environment means; refused when its cluster is not the one whose keys are pinned.
    pub(crate) fn renewal(&self, pinned: &Environment) -> Result<Renewal, Failure> {
        let (holder, environment, by) = (self.holder(), &pinned.name, self.by());
        let recipient = &self.key.recipient;
        let of_holder = Vec::from_iter(pinned.pins_of(holder));
        let is_pinned =
            |key: &ClusterKey| of_holder.iter().any(|pin| pin.recipient == key.recipient);
        if !of_holder.is_empty() && !self.is_shown(|key| key.holder == holder && is_pinned(key)) {
            return Err(anyhow!("{by} shows none of the keys pinned for holder {holder}"))
                .or_hint(format!("{WRONG}; if the cluster was rebuilt without its keys, delete this holder's pins first"));
        }
        // A recovery recipient may be the same everywhere, so it proves nothing.
        let others = || pinned.pins.iter().filter(|pin| pin.holder != RECOVERY);
        let is_other = |key: &ClusterKey| others().any(|pin| pin.recipient == key.recipient);
        if of_holder.is_empty()
            && !self.is_named
            && others().count() > 0
            && !self.is_shown(is_other)
        {
            return Err(anyhow!("{by} shows none of the keys pinned in environment {environment}"))
                .or_hint(format!("{WRONG}; to seal to one more cluster, pass --holder {holder}"));
        }
        let is_taken = |pin: &&Pin| pin.recipient == *recipient && pin.holder != holder;
        if let Some(Pin { holder: other, .. }) = pinned.pins.iter().find(is_taken) {
            let fingerprint = recipient.fingerprint();
            return Err(anyhow!(
                "the Active key of holder {holder}, {fingerprint}, is pinned for holder {other}"
            ))
            .or_hint("find out whose key it is, then correct the holder of the pin");
        }
        Ok(Renewal::of_today(environment, holder, recipient.clone()))
    }

    /// What is pinned and what would be, for a person who compares.
    pub(crate) fn comparison(&self, pinned: &Environment) -> String {
        let (holder, environment, by) = (self.holder(), &pinned.name, self.by());
        let title = format!("holder {holder} in environment {environment}, shown by {by}");
        let title = escape::line(&title);
        let old = pinned.pins_of(holder).find(|pin| pin.state == PinState::Active);
        let old = old.map_or("(none)".into(), |pin| pin.recipient.long_fingerprint());
        let new = self.key.recipient.long_fingerprint();
        if old == new {
            format!("{title}\n  stays   {new}\n")
        } else {
            format!("{title}\n  pinned  {old}\n  new     {new}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use bulla_crds::State;
    use bulla_crds::keys::sealing_key;
    use bulla_sealing::{Identity, KeyType, Recipient};
    use jiff::Timestamp;

    use super::*;

    type Declared<'a> = (&'a Recipient, &'a str, State);

    fn recipients<const N: usize>() -> [Recipient; N] {
        [(); N].map(|()| Identity::generate(KeyType::X25519).unwrap().recipient())
    }

    fn shown(by: &str, declared: &[Declared<'_>]) -> Shown {
        let object = |&(recipient, holder, state): &Declared<'_>| {
            sealing_key(recipient, "bulla-system", holder, Timestamp::UNIX_EPOCH, state)
        };
        Shown { keys: declared.iter().map(object).collect(), by: by.into() }
    }

    fn pinned(pins: &[(&Recipient, &str)]) -> Environment {
        let pin = |&(recipient, holder): &(&Recipient, &str)| Pin {
            recipient: recipient.clone(),
            holder: holder.into(),
            state: PinState::Active,
            fetched: jiff::civil::date(2026, 5, 1),
        };
        pins.iter().map(pin).collect()
    }

    fn renewals(
        pins: &[(&Recipient, &str)],
        clusters: &[Shown],
        named: &[&str],
    ) -> Result<Vec<(String, Recipient)>, String> {
        let named: Vec<_> = named.iter().map(|holder| (*holder).to_owned()).collect();
        let renewals = || {
            let keys = holder_keys(clusters, &named)?;
            let pinned = pinned(pins);
            let renewals = keys.iter().map(|key| key.renewal(&pinned));
            renewals
                .map(|renewal| renewal.map(|renewal| (renewal.holder, renewal.recipient)))
                .collect::<Result<_, _>>()
        };
        renewals().map_err(|failure: Failure| failure.into_parts().0)
    }

    #[test]
    fn a_holders_key_is_taken_from_the_cluster_that_shows_what_is_pinned() {
        let [old, new, other, recovery] = recipients();
        let (eu, retired) = ((&new, "eu", State::Active), (&old, "eu", State::Retired));
        let one = |declared: &[_]| [shown("context one", declared)];
        let eu_now = Ok(vec![("eu".to_owned(), new.clone())]);
        for pins in [
            &[(&old, "eu")][..],
            &[(&old, "eu"), (&other, "us")],
            &[],
            &[(&recovery, RECOVERY)],
            &[(&old, "other-name-of-eu")],
        ] {
            assert_eq!(renewals(pins, &one(&[eu, retired]), &[]), eu_now);
        }
        // Naming the holder confirms the cluster.
        assert_eq!(renewals(&[(&other, "us")], &one(&[eu]), &["eu"]), eu_now);
        let fingerprint = new.fingerprint();
        for (pins, declared, named, message) in [
            (
                &[(&other, "eu")][..],
                &[eu, retired][..],
                &["eu"][..],
                "context one shows none of the keys pinned for holder eu".to_owned(),
            ),
            (
                &[(&other, "us"), (&recovery, RECOVERY)],
                &[eu, (&recovery, RECOVERY, State::Active)],
                &["eu", RECOVERY][..0],
                "context one has keys of several holders: eu, recovery".into(),
            ),
            (
                &[(&other, "us"), (&recovery, RECOVERY)],
                &[eu, (&recovery, RECOVERY, State::Retired)],
                &[],
                "context one shows none of the keys pinned in environment prod".into(),
            ),
            (
                &[(&old, "eu")],
                &[retired],
                &["eu"],
                "holder eu has no Active key in context one".into(),
            ),
            (
                &[],
                &[eu, (&other, "eu", State::Active)],
                &[],
                "holder eu has several Active keys".into(),
            ),
            (
                &[(&new, "us")],
                &[eu],
                &[],
                format!("the Active key of holder eu, {fingerprint}, is pinned for holder us"),
            ),
        ] {
            assert_eq!(renewals(pins, &one(declared), named), Err(message));
        }
    }

    #[test]
    fn each_cluster_gives_the_key_of_its_own_holder() {
        let [eu, us, recovery, other] = recipients();
        let key = |recipient, holder| (recipient, holder, State::Active);
        let one = || shown("context one", &[key(&eu, "eu")]);
        let two = || shown("context two", &[key(&us, "us")]);
        let both = [("eu".to_owned(), eu.clone()), ("us".to_owned(), us.clone())].to_vec();
        assert_eq!(renewals(&[], &[one(), two()], &[]), Ok(both.clone()));
        // The same cluster by two contexts.
        assert_eq!(renewals(&[], &[one(), two(), one()], &[]), Ok(both.clone()));
        // What both show alike is the same key, and a pin may be shown by either.
        let known =
            || shown("context three", &[key(&us, "us"), key(&eu, "eu"), key(&recovery, "r")]);
        assert_eq!(renewals(&[], &[one(), known()], &["eu", "us"]), Ok(both));
        let clash = shown("context four", &[key(&other, "eu")]);
        assert_eq!(
            renewals(&[], &[one(), clash], &[]),
            Err("context one and context four show different Active keys of holder eu".into())
        );
        assert_eq!(
            renewals(&[], &[one(), two()], &["asia"]),
            Err("holder asia has no Active key in context one, context two".into())
        );
    }

    #[test]
    fn a_person_compares_long_fingerprints() {
        let [old, new] = recipients();
        let clusters = [shown("context one at h:1", &[(&new, "eu", State::Active)])];
        let keys = holder_keys(&clusters, &[]).unwrap();
        let (before, after) = (old.long_fingerprint(), new.long_fingerprint());
        let title = "holder eu in environment prod, shown by context one at h:1";
        assert_eq!(
            keys[0].comparison(&pinned(&[(&old, "eu")])),
            format!("{title}\n  pinned  {before}\n  new     {after}\n")
        );
        assert_eq!(
            keys[0].comparison(&pinned(&[(&new, "eu")])),
            format!("{title}\n  stays   {after}\n")
        );
    }
}
