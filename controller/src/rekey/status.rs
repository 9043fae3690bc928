//! The answer in the status of a Rekey.

use std::collections::BTreeMap;

use bulla_crds::conditions::{Reason, Situation};
use bulla_crds::limits::MAX_OBJECT_BYTES;
use bulla_crds::{Rekey, RekeyStatus, json_length};
use jiff::Timestamp;

use crate::rekey::judge::{RefusalCause, RekeyRefusal};

/// The most that the API server adds to `managedFields` for a written status: the writer, the time, and
/// `"f:KEY":{},` for each key.
const NOTED_BYTES: usize = 1024;
const NOTED_BYTES_PER_KEY: usize = 8;

/// The situation of a Rekey and its new status. Headers that make the object too large are a refusal.
pub(super) fn answer(
    mut rekey: Rekey,
    judged: Result<BTreeMap<String, String>, RekeyRefusal>,
) -> (Situation, RekeyStatus) {
    let (situation, status) = of(&rekey, judged);
    let keys = status.headers.keys();
    let noted = NOTED_BYTES + keys.map(|key| key.len() + NOTED_BYTES_PER_KEY).sum::<usize>();
    rekey.status = Some(status);
    if json_length(&rekey) + noted <= MAX_OBJECT_BYTES {
        return (situation, rekey.status.unwrap_or_default());
    }
    let count = rekey.spec.headers.len();
    of(&rekey, Err(RefusalCause::TooLarge { count }.into()))
}

fn of(
    rekey: &Rekey,
    judged: Result<BTreeMap<String, String>, RekeyRefusal>,
) -> (Situation, RekeyStatus) {
    let (situation, headers, refused_key) = match judged {
        Ok(headers) => {
            let message = match headers.len() {
                1 => "made 1 new header".into(),
                count => format!("made {count} new headers"),
            };
            (Situation::Done { reason: Reason::Rekeyed, message }, headers, None)
        }
        Err(refusal) => {
            let (reason, message) = (refusal.cause.reason(), refusal.cause.to_string());
            (Situation::NeedsPerson { reason, message }, BTreeMap::new(), refusal.key)
        }
    };
    let generation = rekey.metadata.generation.unwrap_or_default();
    let conditions = situation.conditions(generation, &[], Timestamp::now());
    let status =
        RekeyStatus { observed_generation: Some(generation), conditions, refused_key, headers };
    (situation, status)
}

#[cfg(test)]
mod tests {
    use bulla_crds::RekeySpec;

    use super::*;

    fn rekey(values: usize, length: usize) -> (Rekey, BTreeMap<String, String>) {
        let headers: BTreeMap<_, _> =
            (0..values).map(|number| (format!("key-{number}"), "Y".repeat(length))).collect();
        let spec = RekeySpec { sealed_secret: "db".into(), headers: headers.clone() };
        let mut rekey = Rekey::new("db", spec);
        rekey.metadata.generation = Some(1);
        (rekey, headers)
    }

    #[test]
    fn headers_for_all_values_of_an_object_fit_with_one_hybrid_key() {
        let (rekey, headers) = rekey(256, 2344);
        let (situation, status) = answer(rekey, Ok(headers.clone()));
        assert_eq!(situation.reason(), Reason::Rekeyed);
        assert_eq!((status.headers, status.observed_generation), (headers, Some(1)));
    }

    #[test]
    fn an_answer_that_is_too_large_becomes_a_refusal_that_fits() {
        let (rekey, headers) = rekey(100, 8 * 1024);
        let (situation, status) = answer(rekey, Ok(headers));
        assert_eq!(situation.reason(), Reason::TooLarge);
        assert!(situation.message().contains("100 headers"), "{}", situation.message());
        assert!(situation.message().contains("fewer values"), "{}", situation.message());
        assert!(status.headers.is_empty() && status.observed_generation == Some(1));
        assert_eq!(status.refused_key, None);
    }
}
