//! A sealed value as a manifest has it: a text that is decoded when it matters, and at most once.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use bulla_crds::{ParsedValue, ValueError};
use bulla_sealing::Fingerprint;

use crate::manifest::{self, Object};

/// The text of one value. Two are equal if their texts are.
pub(crate) struct SealedText<'a> {
    text: &'a str,
    parsed: OnceCell<Parsed<'a>>,
}

enum Parsed<'a> {
    Here(ParsedValue),
    Elsewhere(&'a ParsedValue),
    /// It is not a sealed value.
    Invalid,
}

impl<'a> SealedText<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, parsed: OnceCell::new() }
    }

    /// A text that was parsed already.
    pub(crate) fn parsed_before(
        text: &'a str,
        parsed: &'a Result<ParsedValue, ValueError>,
    ) -> Self {
        let parsed = parsed.as_ref().map_or(Parsed::Invalid, Parsed::Elsewhere);
        Self { text, parsed: parsed.into() }
    }

    /// The values of a SealedSecret by data key.
    pub(crate) fn of(object: &Object<'a>) -> BTreeMap<&'a str, Self> {
        manifest::sealed_data(object).map(|(key, text)| (key, Self::new(text))).collect()
    }

    /// The value, or `None` if it is not a sealed value.
    pub(crate) fn parsed(&self) -> Option<&ParsedValue> {
        let parse = || ParsedValue::parse(self.text).map_or(Parsed::Invalid, Parsed::Here);
        match self.parsed.get_or_init(parse) {
            Parsed::Here(parsed) => Some(parsed),
            Parsed::Elsewhere(parsed) => Some(parsed),
            Parsed::Invalid => None,
        }
    }

    /// The keys that it claims to be sealed to, in the order of the stanzas; none if it is not a sealed value.
    pub(crate) fn recipients(&self) -> Vec<Fingerprint> {
        self.parsed().map(|parsed| parsed.fingerprints().collect()).unwrap_or_default()
    }
}

impl PartialEq<SealedText<'_>> for SealedText<'_> {
    fn eq(&self, other: &SealedText<'_>) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use bulla_crds::decoded_values;

    use super::*;

    #[test]
    fn a_text_is_decoded_at_most_once_and_only_when_it_matters() {
        let before = decoded_values();
        let (one, other) = (SealedText::new("eA=="), SealedText::new("eA=="));
        assert!(one == other);
        assert_eq!(decoded_values() - before, 0);
        assert!(one.parsed().is_none() && one.recipients().is_empty());
        assert_eq!(decoded_values() - before, 1);

        let parsed = ParsedValue::parse("eA==");
        let known = SealedText::parsed_before("eA==", &parsed);
        assert!(known.parsed().is_none());
        assert_eq!(decoded_values() - before, 2);
    }
}
