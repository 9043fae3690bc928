//! What was done, or would be, for people and for programs.

use std::collections::BTreeMap;

use bulla_sealing::{Fingerprint, Recipient};
use serde_json::{Value, json};

use super::draft::{Draft, Pending};
use super::recipients::Today;
use crate::report::diagnostic::Diagnostic;
use crate::report::escape;
use crate::report::output::count;

pub(super) struct Report<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) today: &'a Today,
    pub(super) is_dry_run: bool,
}

impl Report<'_> {
    fn changed(&self) -> impl Iterator<Item = &Draft> {
        self.drafts.iter().filter(|draft| draft.new.is_some())
    }

    pub(super) fn refused(&self) -> impl Iterator<Item = &Diagnostic> {
        self.drafts.iter().flat_map(|draft| &draft.refused)
    }

    /// One line for each file that changes; of a dry run also from whom to whom.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for draft in self.changed() {
            let values = count(draft.pending.len(), "value");
            let verb = if self.is_dry_run { "would be rekeyed" } else { "rekeyed" };
            text.push_str(&escape::line(&format!("{}: {values} {verb}", draft.name)));
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
        let file = |draft: &Draft| {
            json!({
                "file": draft.name,
                "values": draft.pending.iter().map(value).collect::<Vec<_>>(),
            })
        };
        let numbers = self.numbers();
        json!({
            "dryRun": self.is_dry_run,
            "changed": self.changed().map(file).collect::<Vec<_>>(),
            "refused": self.refused().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "files": self.drafts.len(),
            "sealedSecrets": numbers.sealed_secrets,
            "rekeyed": numbers.rekeyed,
            "upToDate": numbers.up_to_date,
            "otherObjects": numbers.others,
        })
    }

    fn numbers(&self) -> Numbers {
        let sum = |number: fn(&Draft) -> usize| self.drafts.iter().map(number).sum();
        Numbers {
            sealed_secrets: sum(|draft| draft.sealed_secrets),
            rekeyed: self.changed().map(|draft| draft.pending.len()).sum(),
            up_to_date: sum(|draft| draft.up_to_date),
            others: sum(|draft| draft.others),
        }
    }

    pub(super) fn summary(&self) -> String {
        let Numbers { sealed_secrets, rekeyed, up_to_date, others } = self.numbers();
        let refused = self.refused().count();
        let verb = if self.is_dry_run { "would be rekeyed" } else { "rekeyed" };
        let others = match others {
            0 => String::new(),
            others => format!("; {} of other kinds not judged", count(others, "object")),
        };
        let nothing = match (rekeyed, refused) {
            (0, 0) => "nothing needs a rekey; ",
            _ => "",
        };
        let left = match self.drafts.iter().filter(|draft| !draft.refused.is_empty()).count() {
            0 => String::new(),
            1 => ", 1 file left as it was".into(),
            files => format!(", {files} files left as they were"),
        };
        format!(
            "{nothing}{}, {}: {} {verb}, {up_to_date} up to date, {refused} refused{left}{others}\n",
            count(self.drafts.len(), "file"),
            count(sealed_secrets, "SealedSecret"),
            count(rekeyed, "value"),
        )
    }
}

struct Numbers {
    sealed_secrets: usize,
    rekeyed: usize,
    up_to_date: usize,
    others: usize,
}

fn new(pending: &Pending) -> Vec<Fingerprint> {
    pending.recipients.iter().map(Recipient::fingerprint).collect()
}
