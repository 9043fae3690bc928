//! What a shell can complete beyond flags and paths: data keys, environments and fingerprints.
//!
//! All of it is read from files. Completion never asks a cluster, reads stdin or prints an error: an unreadable
//! file has no candidates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::files::input;
use crate::manifest::{self, Object, ObjectKind};
use crate::who::config::{self, Pin};

/// The sealed keys of the files that the command line names.
pub(crate) fn sealed_keys() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        keys(|object| manifest::sealed_data(object).map(|(key, _)| key.to_owned()).collect())
    })
}

/// The sealed keys, and the keys that templates render.
pub(crate) fn all_keys() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        keys(|object| {
            let sealed = manifest::sealed_data(object).map(|(key, _)| key.to_owned());
            let rendered = object.value.pointer("/spec/template/data");
            let rendered = rendered.and_then(|texts| texts.as_object()).into_iter().flatten();
            sealed.chain(rendered.map(|(key, _)| key.clone())).collect()
        })
    })
}

pub(crate) fn environments() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let config = config::find(None, &[]).ok().flatten();
        let environments = config.into_iter().flat_map(|config| config.environments);
        environments.map(|environment| CompletionCandidate::new(environment.name)).collect()
    })
}

/// The fingerprints that bulla.yaml pins, with their holders.
pub(crate) fn fingerprints() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let config = config::find(None, &[]).ok().flatten();
        let environments = config.iter().flat_map(|config| &config.environments);
        let pins = environments.flat_map(|environment| &environment.pins);
        let candidate = |pin: &Pin| {
            let (fingerprint, state) =
                (pin.recipient.fingerprint().to_string(), pin.state.as_str());
            let help = format!("{}, {state}", pin.holder);
            (fingerprint.clone(), CompletionCandidate::new(fingerprint).help(Some(help.into())))
        };
        pins.map(candidate).collect::<BTreeMap<_, _>>().into_values().collect()
    })
}

fn keys(of: fn(&Object<'_>) -> Vec<String>) -> Vec<CompletionCandidate> {
    let mut keys = BTreeSet::new();
    for word in std::env::args_os().skip(1).filter(|word| Path::new(word).is_file()) {
        let Ok(manifests) = input::read(Path::new(&word)).and_then(manifest::parse) else {
            continue;
        };
        let Ok((objects, _)) = manifests.objects_among_others() else { continue };
        let ours =
            objects.iter().filter(|object| ObjectKind::of(object) == ObjectKind::SealedSecret);
        keys.extend(ours.flat_map(of));
    }
    // A text that is not a data key could be anything, and would be printed on a terminal.
    let keys = keys.into_iter().filter(|key| bulla_sealing::is_data_key(key));
    keys.map(CompletionCandidate::new).collect()
}
