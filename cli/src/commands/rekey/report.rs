//! Reports what was rekeyed, or would be, to people and programs.

use std::collections::{BTreeMap, BTreeSet};

use bulla_sealing::{Fingerprint, Recipient};
use serde_json::{Value, json};

use super::draft::{Pending, RekeyDraft};
use super::recipients::Today;
use crate::files::draft;
use crate::report::diagnostic::Diagnostic;
use crate::report::escape;
use crate::report::output::{count, list, others_skipped, summary};

pub(super) struct RekeyReport<'a> {
    pub(super) drafts: &'a [RekeyDraft],
    pub(super) today: &'a Today,
    pub(super) is_dry_run: bool,
}

impl RekeyReport<'_> {
    fn changed(&self) -> impl Iterator<Item = &RekeyDraft> {
        self.drafts.iter().filter(|draft| draft.file.new.is_some())
    }

    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.drafts.iter().flat_map(|draft| &draft.file.diagnostics)
    }

    /// One line for each file that changes; a dry run also shows the old and new recipients.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for draft in self.changed() {
            let values = count(draft.pending.len(), "value");
            let line = format!("{}: {values} {}", draft.file.name, self.verb());
            text += &(escape::line(&line) + "\n");
            if !self.is_dry_run {
                continue;
            }
            let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
            for pending in &draft.pending {
                let change = (self.names(&pending.sealed_to), self.names(&new(pending)));
                *kinds.entry(change).or_default() += 1;
            }
            for ((old, new), values) in kinds {
                let line = format!("  {}: {old} -> {new}", count(values, "value"));
                text += &(escape::line(&line) + "\n");
            }
        }
        text
    }

    fn names(&self, fingerprints: &[Fingerprint]) -> String {
        names(fingerprints, self.today)
    }

    /// Says who can read more values now, and who can read less.
    pub(super) fn tell_who(&self) {
        for (what, fingerprints) in [
            ("now also sealed to", added(self.drafts)),
            ("no longer sealed to", removed(self.drafts)),
        ] {
            if !fingerprints.is_empty() {
                summary(&format!("{what} {}", self.names(&fingerprints)));
            }
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let keys = |fingerprints: &[Fingerprint]| {
            let key = |fingerprint: &Fingerprint| json!({"fingerprint": fingerprint.to_string(), "holder": self.today.holder_of(*fingerprint)});
            fingerprints.iter().map(key).collect::<Vec<_>>()
        };
        let value = |pending: &Pending| {
            let position = &pending.place.position;
            json!({
                "document": position.document,
                "item": position.item,
                "line": position.line,
                "object": pending.place.object,
                "key": pending.place.key,
                "old": keys(&pending.sealed_to),
                "new": keys(&new(pending)),
            })
        };
        let file = |draft: &RekeyDraft| {
            json!({
                "file": draft.file.name,
                "values": draft.pending.iter().map(value).collect::<Vec<_>>(),
            })
        };
        json!({
            "dryRun": self.is_dry_run,
            "changed": self.changed().map(file).collect::<Vec<_>>(),
            "refused": self.diagnostics().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "files": self.drafts.len(),
            "sealedSecrets": self.sum(|draft| draft.sealed_secrets),
            "rekeyed": self.rekeyed(),
            "upToDate": self.sum(|draft| draft.up_to_date),
            "otherObjects": self.sum(|draft| draft.file.others),
        })
    }

    fn sum(&self, of: fn(&RekeyDraft) -> usize) -> usize {
        self.drafts.iter().map(of).sum()
    }

    fn rekeyed(&self) -> usize {
        self.changed().map(|draft| draft.pending.len()).sum()
    }

    fn verb(&self) -> &'static str {
        if self.is_dry_run { "would be rekeyed" } else { "rekeyed" }
    }

    pub(super) fn summary(&self) -> String {
        let (rekeyed, refused) = (self.rekeyed(), self.diagnostics().count());
        let nothing = if (rekeyed, refused) == (0, 0) { "nothing needs a rekey; " } else { "" };
        format!(
            "{nothing}{} in {} scanned: {} {}, {} up to date, {refused} refused{}{}\n",
            count(self.sum(|draft| draft.sealed_secrets), "SealedSecret"),
            count(self.drafts.len(), "file"),
            count(rekeyed, "value"),
            self.verb(),
            self.sum(|draft| draft.up_to_date),
            draft::files_left(self.drafts.iter().map(|draft| &draft.file)),
            others_skipped(self.sum(|draft| draft.file.others)),
        )
    }
}

/// `3f9a… (prod-eu), 91ef… (recovery)`.
pub(super) fn names(fingerprints: &[Fingerprint], today: &Today) -> String {
    let name = |fingerprint: &Fingerprint| match today.holder_of(*fingerprint) {
        Some(holder) => format!("{fingerprint} ({holder})"),
        None => fingerprint.to_string(),
    };
    list(fingerprints.iter().map(name))
}

/// The recipients that some value gets.
pub(super) fn added(drafts: &[RekeyDraft]) -> Vec<Fingerprint> {
    differences(drafts, |old, new| new.iter().filter(|key| !old.contains(key)).copied().collect())
}

/// The recipients that some value loses.
fn removed(drafts: &[RekeyDraft]) -> Vec<Fingerprint> {
    differences(drafts, |old, new| old.iter().filter(|key| !new.contains(key)).copied().collect())
}

fn differences(
    drafts: &[RekeyDraft],
    of: impl Fn(&[Fingerprint], &[Fingerprint]) -> Vec<Fingerprint>,
) -> Vec<Fingerprint> {
    let changed = drafts.iter().filter(|draft| draft.file.new.is_some());
    let pending = changed.flat_map(|draft| &draft.pending);
    let all: BTreeSet<_> =
        pending.flat_map(|pending| of(&pending.sealed_to, &new(pending))).collect();
    all.into_iter().collect()
}

fn new(pending: &Pending) -> Vec<Fingerprint> {
    pending.recipients.iter().map(Recipient::fingerprint).collect()
}
