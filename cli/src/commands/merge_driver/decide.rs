//! Decides which value a merge takes, without a key.

use std::collections::BTreeSet;

use bulla_sealing::Fingerprint;

use crate::values::sealed_text::SealedText;
use crate::values::value_diff::{self, ValueChangeKind};

/// The decision on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Take this side's state: its value, or that it has none.
    Take(Side, Remark),
    /// Both sides changed the value, and neither state may be lost.
    Conflict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    Theirs,
}

/// What a person should know about a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remark {
    Nothing,
    /// The other side rekeyed the value, to recipients other than those of the value that was taken.
    OlderRecipients,
    /// The other side rekeyed the removed value.
    RemovedThoughRekeyed,
}

/// Decides on a key from its value in the common ancestor and on both sides.
pub(super) fn decide(base: Option<&str>, ours: Option<&str>, theirs: Option<&str>) -> Decision {
    let take = |side| Decision::Take(side, Remark::Nothing);
    if ours == theirs || theirs == base {
        return take(Side::Ours);
    }
    if ours == base {
        return take(Side::Theirs);
    }
    let [base, ours, theirs] = [base, ours, theirs].map(|text| text.map(SealedText::new));
    match (&base, &ours, &theirs) {
        (base, Some(ours), Some(theirs)) if is_rekeyed(ours, theirs) => {
            one_of_two_headers(base.as_ref(), ours, theirs)
        }
        (Some(base), Some(ours), Some(theirs)) => {
            let is_same = recipients(ours) == recipients(theirs);
            let remark = if is_same { Remark::Nothing } else { Remark::OlderRecipients };
            match (is_rekeyed(base, ours), is_rekeyed(base, theirs)) {
                (true, false) => Decision::Take(Side::Theirs, remark),
                (false, true) => Decision::Take(Side::Ours, remark),
                _ => Decision::Conflict,
            }
        }
        (Some(base), Some(ours), None) if is_rekeyed(base, ours) => {
            Decision::Take(Side::Theirs, Remark::RemovedThoughRekeyed)
        }
        (Some(base), None, Some(theirs)) if is_rekeyed(base, theirs) => {
            Decision::Take(Side::Ours, Remark::RemovedThoughRekeyed)
        }
        _ => Decision::Conflict,
    }
}

fn is_rekeyed(old: &SealedText<'_>, new: &SealedText<'_>) -> bool {
    value_diff::of_value(old, new).is_some_and(|change| change.kind == ValueChangeKind::Rekeyed)
}

/// Both sides have one payload behind two headers. A third header cannot be made without a key, so the merge takes
/// the header that has all recipients that either side added, and none that either side removed.
fn one_of_two_headers(
    base: Option<&SealedText<'_>>,
    ours: &SealedText<'_>,
    theirs: &SealedText<'_>,
) -> Decision {
    let (on_ours, on_theirs) = (recipients(ours), recipients(theirs));
    let wanted: BTreeSet<_> = match base {
        Some(base) if is_rekeyed(base, ours) => {
            let before = recipients(base);
            let stays = |recipient: &&Fingerprint| {
                !before.contains(recipient)
                    || on_ours.contains(recipient) && on_theirs.contains(recipient)
            };
            on_ours.union(&on_theirs).filter(stays).copied().collect()
        }
        _ if on_ours == on_theirs => on_ours.clone(),
        _ => return Decision::Conflict,
    };
    if on_ours == wanted {
        Decision::Take(Side::Ours, Remark::Nothing)
    } else if on_theirs == wanted {
        Decision::Take(Side::Theirs, Remark::Nothing)
    } else {
        Decision::Conflict
    }
}

fn recipients(value: &SealedText<'_>) -> BTreeSet<Fingerprint> {
    value.recipients().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use bulla_crds::decode_value;
    use bulla_sealing::{
        Binding, Identity, KeyType, Keyring, Recipient, Recipients, Scope, SealedHeader,
        ValueAddress, seal,
    };

    use super::*;

    /// Values of one key, each sealed to some of three recipients.
    struct Values {
        keyring: Keyring,
        recipients: Vec<Recipient>,
    }

    impl Values {
        fn new() -> Self {
            let identities: Vec<_> =
                (0..3).map(|_| Identity::generate(KeyType::X25519).unwrap()).collect();
            let recipients = identities.iter().map(Identity::recipient).collect();
            Self { keyring: Keyring::from_iter(identities), recipients }
        }

        fn to(&self, numbers: &[usize]) -> Recipients {
            Recipients::new(numbers.iter().map(|number| self.recipients[*number].clone()).collect())
                .unwrap()
        }

        fn sealed(&self, numbers: &[usize]) -> String {
            let binding = Binding::new(Scope::Strict, &address());
            BASE64_STANDARD.encode(seal(b"x", &binding, &self.to(numbers)).unwrap())
        }

        fn rekeyed(&self, value: &str, numbers: &[usize]) -> String {
            let file = decode_value(value).unwrap();
            let (header, payload) = SealedHeader::parse(&file).unwrap();
            let mut new = header.rekey(&address(), &self.keyring, &self.to(numbers)).unwrap();
            new.extend(payload);
            BASE64_STANDARD.encode(new)
        }
    }

    fn address() -> ValueAddress {
        ValueAddress::new("prod", "db", "a").unwrap()
    }

    /// Checks the decision, and the mirrored decision with the sides swapped.
    fn assert_decided(
        base: Option<&str>,
        ours: Option<&str>,
        theirs: Option<&str>,
        want: Decision,
    ) {
        assert_eq!(decide(base, ours, theirs), want);
        let mirrored = match want {
            Decision::Take(Side::Ours, remark) => Decision::Take(Side::Theirs, remark),
            Decision::Take(Side::Theirs, remark) => Decision::Take(Side::Ours, remark),
            Decision::Conflict => Decision::Conflict,
        };
        assert_eq!(decide(base, theirs, ours), mirrored);
    }

    #[test]
    fn if_one_side_changed_nothing_the_other_is_taken() {
        let take = Decision::Take(Side::Theirs, Remark::Nothing);
        for (base, theirs) in [(Some("1"), Some("2")), (Some("1"), None), (None, Some("1"))] {
            assert_decided(base, base, theirs, take);
        }
        for same in [None, Some("2")] {
            assert_eq!(decide(Some("1"), same, same), Decision::Take(Side::Ours, Remark::Nothing));
        }
    }

    #[test]
    fn a_value_that_both_sides_changed_is_a_conflict() {
        let values = Values::new();
        let [one, two, three] = [0, 1, 2].map(|_| values.sealed(&[0]));
        let [one, two, three] = [&one, &two, &three].map(|value| Some(value.as_str()));
        for (base, ours, theirs) in
            [(one, two, three), (None, two, three), (one, two, None), (one, Some("x"), two)]
        {
            assert_decided(base, ours, theirs, Decision::Conflict);
        }
    }

    #[test]
    fn a_changed_value_wins_over_a_rekeyed_one() {
        let values = Values::new();
        let base = values.sealed(&[0]);
        let rekeyed = values.rekeyed(&base, &[1]);
        for (changed, remark) in
            [(values.sealed(&[0]), Remark::OlderRecipients), (values.sealed(&[1]), Remark::Nothing)]
        {
            let want = Decision::Take(Side::Theirs, remark);
            assert_decided(Some(&base), Some(&rekeyed), Some(&changed), want);
        }
        let removed = Decision::Take(Side::Theirs, Remark::RemovedThoughRekeyed);
        assert_decided(Some(&base), Some(&rekeyed), None, removed);
    }

    #[test]
    fn the_header_with_the_recipients_of_both_sides_is_taken() {
        let values = Values::new();
        let base = values.sealed(&[0, 1]);
        let ours = Decision::Take(Side::Ours, Remark::Nothing);
        for (on_ours, on_theirs, want) in [
            // Ours did what theirs did, and more.
            (&[0, 1, 2][..], &[0, 1][..], ours),
            (&[0], &[0, 1], ours),
            (&[2], &[0, 2], ours),
            // Neither side has a header without 1 and with 2.
            (&[0], &[0, 1, 2], Decision::Conflict),
            (&[0], &[1], Decision::Conflict),
        ] {
            let (one, two) = (values.rekeyed(&base, on_ours), values.rekeyed(&base, on_theirs));
            assert_decided(Some(&base), Some(&one), Some(&two), want);
        }
        // The same recipients twice: nothing is lost with either header.
        let (one, two) = (values.rekeyed(&base, &[2]), values.rekeyed(&base, &[2]));
        assert_eq!(decide(Some(&base), Some(&one), Some(&two)), ours);
        assert_eq!(decide(None, Some(&one), Some(&two)), ours);
        assert_decided(None, Some(&one), Some(&base), Decision::Conflict);
    }
}
