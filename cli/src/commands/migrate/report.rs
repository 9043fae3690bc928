//! Reports what was migrated, or would be, to people and programs.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::bitnami;
use super::conversion::{MigratedObject, MigrationNote};
use super::draft::MigrateDraft;
use crate::report::diagnostic::{Diagnostic, Place};
use crate::report::escape;
use crate::report::failure::Failure;
use crate::report::output::{count, others_skipped};

pub(super) struct MigrateReport<'a> {
    pub(super) drafts: &'a [MigrateDraft],
    pub(super) is_dry_run: bool,
}

impl MigrateReport<'_> {
    fn changed(&self) -> impl Iterator<Item = &MigrateDraft> {
        self.drafts.iter().filter(|draft| draft.file.new.is_some())
    }

    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.drafts.iter().flat_map(|draft| draft.file.diagnostics.iter().chain(&draft.without_key))
    }

    fn verb(&self) -> &'static str {
        if self.is_dry_run { "would be migrated" } else { "migrated" }
    }

    /// One line for each file that changes, and one for each object in it.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for draft in self.changed() {
            let objects = count(draft.migrated.len(), "object");
            let line = format!("{}: {objects} {}", draft.file.name, self.verb());
            text += &(escape::line(&line) + "\n");
            for MigratedObject { place, from, scope, keys } in &draft.migrated {
                let keys = count(keys.len(), "value");
                let line = format!("  {}: {keys} from {from}, scope {scope}", place.object());
                text += &(escape::line(&line) + "\n");
            }
        }
        text
    }

    /// The notes, one line for each.
    pub(super) fn notes(&self) -> String {
        let notes = self.changed().flat_map(|draft| &draft.notes);
        let line = |MigrationNote { place, message }: &MigrationNote| {
            let line = format!("note: {}: {}: {message}", place.position, place.object());
            escape::line(&line) + "\n"
        };
        notes.map(line).collect()
    }

    pub(super) fn to_json(&self) -> Value {
        let at = |place: &Place, mut fields: Value| {
            fields["document"] = json!(place.position.document);
            fields["item"] = json!(place.position.item);
            fields["line"] = json!(place.position.line);
            fields["object"] = json!(place.object);
            fields
        };
        let object = |MigratedObject { place, from, scope, keys }: &MigratedObject| {
            at(place, json!({"from": from, "scope": scope.as_str(), "keys": keys}))
        };
        let note = |MigrationNote { place, message }: &MigrationNote| {
            at(place, json!({"message": message}))
        };
        let file = |draft: &MigrateDraft| {
            json!({
                "file": draft.file.name,
                "objects": draft.migrated.iter().map(object).collect::<Vec<_>>(),
                "notes": draft.notes.iter().map(note).collect::<Vec<_>>(),
            })
        };
        json!({
            "dryRun": self.is_dry_run,
            "changed": self.changed().map(file).collect::<Vec<_>>(),
            "refused": self.diagnostics().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "files": self.drafts.len(),
            "objects": self.sum(|draft| draft.objects),
            "migrated": self.migrated().count(),
            "values": self.values(),
            "plaintextSecrets": self.sum(|draft| draft.plaintext_secrets),
            "otherObjects": self.sum(|draft| draft.file.others),
        })
    }

    fn sum(&self, of: fn(&MigrateDraft) -> usize) -> usize {
        self.drafts.iter().map(of).sum()
    }

    fn migrated(&self) -> impl Iterator<Item = &MigratedObject> {
        self.changed().flat_map(|draft| &draft.migrated)
    }

    fn values(&self) -> usize {
        self.migrated().map(|object| object.keys.len()).sum()
    }

    /// Why objects without a private key were not migrated, once for all of them.
    pub(super) fn missing_key(&self) -> Option<Failure> {
        let mut objects = self.drafts.iter().flat_map(|draft| &draft.without_key);
        let first = objects.next()?;
        let what = match objects.count() {
            0 => format!("{}: its object needs a private key of Bitnami's controller", first.file),
            others => format!(
                "{} need a private key of Bitnami's controller, the first in {}",
                count(others + 1, "object"),
                first.file
            ),
        };
        Some(Failure::no(anyhow!(what)).hint(bitnami::KEY_HINT))
    }

    pub(super) fn summary(&self) -> String {
        let objects = self.sum(|draft| draft.objects);
        let plaintext = match self.sum(|draft| draft.plaintext_secrets) {
            0 => String::new(),
            secrets => {
                format!("; {} skipped: seal with bulla seal", count(secrets, "plaintext Secret"))
            }
        };
        let left = match self.drafts.iter().filter(|draft| draft.is_refused()).count() {
            0 => String::new(),
            1 => "; 1 file unchanged".into(),
            files => format!("; {files} files unchanged"),
        };
        let nothing = if objects == 0 && left.is_empty() { "nothing to migrate; " } else { "" };
        format!(
            "{nothing}{}, {} from other tools: {} {} with {}{left}{plaintext}{}",
            count(self.drafts.len(), "file"),
            count(objects, "object"),
            self.migrated().count(),
            self.verb(),
            count(self.values(), "value"),
            others_skipped(self.sum(|draft| draft.file.others)),
        )
    }
}
