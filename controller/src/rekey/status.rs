//! The answer as it stands in a Rekey's status.

use std::collections::BTreeMap;

use bulla_crds::conditions::{Reason, Situation};
use bulla_crds::{MAX_REKEY_BYTES, Rekey, RekeyStatus, json_length};
use jiff::Timestamp;

use crate::rekey::judge::Refusal;

/// What the API server adds to the metadata of a Rekey for what we write into its status, at most: who wrote it and
/// when, and for each key `"f:KEY":{},`.
const NOTED_BYTES: usize = 1024;
const NOTED_BYTES_PER_KEY: usize = 8;

/// What a Rekey comes to, and the status that says so. Headers that leave no room for themselves are a refusal.
pub(super) fn answer(
    mut rekey: Rekey,
    judged: Result<BTreeMap<String, String>, Refusal>,
) -> (Situation, RekeyStatus) {
    let (situation, status) = of(&rekey, judged);
    let keys = status.headers.keys();
    let noted = NOTED_BYTES + keys.map(|key| key.len() + NOTED_BYTES_PER_KEY).sum::<usize>();
    rekey.status = Some(status);
    if json_length(&rekey) + noted <= MAX_REKEY_BYTES {
        return (situation, rekey.status.unwrap_or_default());
    }
    let count = rekey.spec.headers.len();
    of(&rekey, Err(Refusal::TooLarge { count }))
}

fn of(
    rekey: &Rekey,
    judged: Result<BTreeMap<String, String>, Refusal>,
) -> (Situation, RekeyStatus) {
    let (situation, headers) = match judged {
        Ok(headers) => {
            let message = match headers.len() {
                1 => "there is a new header for the one value".into(),
                count => format!("there are new headers for all {count} values"),
            };
            (Situation::Done { reason: Reason::Rekeyed, message }, headers)
        }
        Err(refusal) => {
            let (reason, message) = (refusal.reason(), refusal.to_string());
            (Situation::NeedsPerson { reason, message }, BTreeMap::new())
        }
    };
    let generation = rekey.metadata.generation.unwrap_or_default();
    let conditions = situation.conditions(generation, &[], Timestamp::now());
    let status = RekeyStatus { observed_generation: Some(generation), conditions, headers };
    (situation, status)
}
