//! Reports what was migrated, or would be, to people and programs.

use anyhow::anyhow;
use serde_json::{Value, json};

use super::bitnami;
use super::conversion::{MigratedObject, MigrationNote};
use super::draft::MigrateDraft;
use crate::report::diagnostic::Diagnostic;
use crate::report::escape;
use crate::report::failure::Failure;
use crate::report::output::count;

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
            text.push_str(&escape::line(&format!(
                "{}: {objects} {}",
                draft.file.name,
                self.verb()
            )));
            text.push('\n');
            for migrated in &draft.migrated {
                let MigratedObject { place, from, scope, keys } = migrated;
                let keys = count(keys.len(), "value");
                let line = format!("  {}: {keys} from {from}, scope {scope}", place.object());
                text.push_str(&escape::line(&line));
                text.push('\n');
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
        let place = |place: &crate::report::diagnostic::Place| {
            json!({
                "document": place.position.document,
                "item": place.position.item,
                "line": place.position.line,
                "object": place.object,
            })
        };
        let with = |mut value: Value, fields: Value| {
            if let (Value::Object(map), Value::Object(fields)) = (&mut value, fields) {
                map.extend(fields);
            }
            value
        };
        let object = |migrated: &MigratedObject| {
            let MigratedObject { from, scope, keys, .. } = migrated;
            let fields = json!({"from": from, "scope": scope.to_string(), "keys": keys});
            with(place(&migrated.place), fields)
        };
        let note =
            |note: &MigrationNote| with(place(&note.place), json!({"message": note.message}));
        let file = |draft: &MigrateDraft| {
            json!({
                "file": draft.file.name,
                "objects": draft.migrated.iter().map(object).collect::<Vec<_>>(),
                "notes": draft.notes.iter().map(note).collect::<Vec<_>>(),
            })
        };
        let MigrateNumbers { objects, migrated, values, plaintext_secrets, others } =
            self.numbers();
        json!({
            "dryRun": self.is_dry_run,
            "changed": self.changed().map(file).collect::<Vec<_>>(),
            "refused": self.diagnostics().map(Diagnostic::to_json).collect::<Vec<_>>(),
            "files": self.drafts.len(),
            "objects": objects,
            "migrated": migrated,
            "values": values,
            "plaintextSecrets": plaintext_secrets,
            "otherObjects": others,
        })
    }

    fn numbers(&self) -> MigrateNumbers {
        MigrateNumbers {
            objects: self.drafts.iter().map(|draft| draft.objects).sum(),
            migrated: self.changed().map(|draft| draft.migrated.len()).sum(),
            values: self
                .changed()
                .flat_map(|draft| &draft.migrated)
                .map(|object| object.keys.len())
                .sum(),
            plaintext_secrets: self.drafts.iter().map(|draft| draft.plaintext_secrets).sum(),
            others: self.drafts.iter().map(|draft| draft.file.others).sum(),
        }
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
        let MigrateNumbers { objects, migrated, values, plaintext_secrets, others } =
            self.numbers();
        let plaintext = match plaintext_secrets {
            0 => String::new(),
            secrets => {
                format!("; {} skipped: seal with bulla seal", count(secrets, "plaintext Secret"))
            }
        };
        let others = match others {
            0 => String::new(),
            others => format!("; {} of other kinds skipped", count(others, "object")),
        };
        let left = match self.drafts.iter().filter(|draft| draft.is_refused()).count() {
            0 => String::new(),
            1 => "; 1 file unchanged".into(),
            files => format!("; {files} files unchanged"),
        };
        let nothing = if objects == 0 && left.is_empty() { "nothing to migrate; " } else { "" };
        format!(
            "{nothing}{}, {} from other tools: {migrated} {} with {}{left}{plaintext}{others}",
            count(self.drafts.len(), "file"),
            count(objects, "object"),
            self.verb(),
            count(values, "value"),
        )
    }
}

struct MigrateNumbers {
    objects: usize,
    migrated: usize,
    values: usize,
    plaintext_secrets: usize,
    others: usize,
}
