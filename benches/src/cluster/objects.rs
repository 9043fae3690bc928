//! The objects of the benchmark, with the same values in each turn.

use std::collections::BTreeMap;

use anyhow::Result;
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::{SealedSecret, WipedSecret, seal};
use bulla_sealing::{Recipient, Recipients, Scope};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::cluster::args::Args;

/// The namespace of all SealedSecrets and their targets.
pub(crate) const NAMESPACE: &str = "bench";

/// The name of an object.
pub(crate) fn name(index: usize) -> String {
    format!("object-{index:05}")
}

/// The data of the Secret that an object declares: data key to base64 of 32 bytes.
pub(crate) fn declared(index: usize, values: u16) -> BTreeMap<String, String> {
    let value = |number: u16| BASE64_STANDARD.encode(format!("{index:016}{number:016}"));
    (0..values).map(|number| (format!("key-{number}"), value(number))).collect()
}

/// All SealedSecrets.
pub(crate) fn seal_all(args: &Args, recipient: Recipient) -> Result<Vec<SealedSecret>> {
    let recipients = Recipients::new(vec![recipient])?;
    let seal_one = |index| {
        let secret = json!({
            "metadata": {"name": name(index)},
            "data": declared(index, args.values),
        });
        let secret = WipedSecret::new(serde_json::from_value::<Secret>(secret)?);
        Ok(seal(&secret, NAMESPACE, Scope::Strict, &recipients)?)
    };
    (0..args.objects as usize).map(seal_one).collect()
}

/// `wanted` indices below `count`, evenly spaced, each once.
pub(crate) fn spaced(wanted: u32, count: u32) -> impl Iterator<Item = usize> + Clone {
    let (wanted, count) = (wanted as usize, count as usize);
    (0..wanted).map(move |step| step * count / wanted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_have_32_bytes_and_differ() {
        let values: BTreeSet<_> =
            (0..20).flat_map(|index| declared(index, 3).into_values()).collect();
        assert_eq!(values.len(), 60);
        assert!(values.iter().all(|value| BASE64_STANDARD.decode(value).unwrap().len() == 32));
    }

    #[test]
    fn spaced_objects_are_distinct_and_exist() {
        for (wanted, count) in [(1, 1), (3, 3), (300, 500), (300, 5000)] {
            let chosen: BTreeSet<_> = spaced(wanted, count).collect();
            assert_eq!(chosen.len(), wanted as usize);
            assert!(chosen.iter().all(|index| *index < count as usize));
        }
    }
}
