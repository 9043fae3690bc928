//! Reports what was rekeyed, or would be, to people and programs.

use std::collections::BTreeMap;

use bulla_sealing::{Fingerprint, Recipient};
use serde_json::{Value, json};

use super::draft::{Pending, RekeyDraft};
use super::recipients::Today;
use crate::files::draft;
use crate::report::diagnostic::Diagnostic;
use crate::report::escape;
use crate::report::output::count;

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
            let verb = if self.is_dry_run { "would be rekeyed" } else { "rekeyed" };
            text.push_str(&escape::line(&format!("{}: {values} {verb}", draft.file.name)));
            text.push('\n');
            if !self.is_dry_run {
                continue;
            }
            let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
            for pending in &draft.pending {
                *kinds
                    .entry((self.names(&pending.sealed_to), self.names(&new(pending))))
                    .or_default() += 1;
            }
            for ((old, new), values) in kinds {
                let line = format!("  {}: {old} -> {new}", count(values, "value"));
                text.push_str(&escape::line(&line));
                text.push('\n');
            }
        }
        text
    }

    /// `3f9a… (prod-eu), 91ef… (recovery)`.
    fn names(&self, fingerprints: &[Fingerprint]) -> String {
        let name = |fingerprint: &Fingerprint| match self.today.holder_of(*fingerprint) {
            Some(holder) => format!("{fingerprint} ({holder})"),
            None => fingerprint.to_string(),
        };
        fingerprints.iter().map(name).collect::<Vec<_>>().join(", ")
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
        let numbers = self.numbers();
        json!({
            "dryRun": self.is_dry_run,
            "changed": self.changed().map(file).collect::<Vec<_>>(),
            "refused": self.diagnostics().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "files": self.drafts.len(),
            "sealedSecrets": numbers.sealed_secrets,
            "rekeyed": numbers.rekeyed,
            "upToDate": numbers.up_to_date,
            "otherObjects": numbers.others,
        })
    }

    fn numbers(&self) -> RekeyNumbers {
        let sum = |number: fn(&RekeyDraft) -> usize| self.drafts.iter().map(number).sum();
        RekeyNumbers {
            sealed_secrets: sum(|draft| draft.sealed_secrets),
            rekeyed: self.changed().map(|draft| draft.pending.len()).sum(),
            up_to_date: sum(|draft| draft.up_to_date),
            others: sum(|draft| draft.file.others),
        }
    }

    pub(super) fn summary(&self) -> String {
        let RekeyNumbers { sealed_secrets, rekeyed, up_to_date, others } = self.numbers();
        let refused = self.diagnostics().count();
        let verb = if self.is_dry_run { "would be rekeyed" } else { "rekeyed" };
        let others = match others {
            0 => String::new(),
            others => format!("; {} of other kinds skipped", count(others, "object")),
        };
        let nothing = match (rekeyed, refused) {
            (0, 0) => "nothing needs a rekey; ",
            _ => "",
        };
        let left = draft::files_left(self.drafts.iter().map(|draft| &draft.file));
        format!(
            "{nothing}{} in {} scanned: {} {verb}, {up_to_date} up to date, {refused} refused{left}{others}\n",
            count(sealed_secrets, "SealedSecret"),
            count(self.drafts.len(), "file"),
            count(rekeyed, "value"),
        )
    }
}

struct RekeyNumbers {
    sealed_secrets: usize,
    rekeyed: usize,
    up_to_date: usize,
    others: usize,
}

fn new(pending: &Pending) -> Vec<Fingerprint> {
    pending.recipients.iter().map(Recipient::fingerprint).collect()
}
