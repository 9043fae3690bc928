//! Differences for people and for programs.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::commands::diff::compare::{
    Comparison, Holder, KeyReport, KeyReportKind, ObjectChange, ObjectChangeKind,
};
use crate::manifest::Position;
use crate::report::diagnostic::Diagnostic;
use crate::report::escape;
use crate::report::output::{count, styled};
use crate::values::value_diff::ValueChangeKind;

const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const CHANGED: Style = AnsiColor::Yellow.on_default();
const TITLE: Style = Style::new().bold();

/// One block for each object, its keys aligned.
pub(super) fn text(comparison: &Comparison) -> String {
    comparison.objects.iter().map(object_text).collect::<Vec<_>>().join("\n")
}

fn object_text(object: &ObjectChange) -> String {
    let title = styled(TITLE, &escape::line(&object.title));
    let kind = styled(style_of_object(object.kind), object.kind.as_str());
    let clear = if object.is_plaintext { ", a plaintext Secret" } else { "" };
    let place = escape::line(&place(object));
    let mut text = format!("{title}: {kind}{clear} ({place})\n");
    let keys: Vec<_> = object.keys.iter().map(|key| escape::line(&key.key)).collect();
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    for (key, report) in keys.iter().zip(&object.keys) {
        // Padded by hand, because colours have a length too.
        let gap = " ".repeat(width - key.chars().count());
        let kind = styled(style_of_key(report.kind), report.kind.as_str());
        let about = key_details(report);
        let space = " ".repeat(if about.is_empty() { 0 } else { 10 - report.kind.as_str().len() });
        text.push_str(&format!("  {key}{gap}  {kind}{space}  {about}"));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    if let Some((old, new)) = &object.policy {
        let line = format!("  target policy: {} -> {}\n", escape::line(old), escape::line(new));
        text.push_str(&line);
    }
    for field in &object.other_fields {
        text.push_str(&format!("  {}: changed\n", escape::line(field)));
    }
    for line in &object.lines {
        let style = match line.as_bytes().first() {
            Some(b'+') => ADDED,
            Some(b'-') => REMOVED,
            _ => Style::new(),
        };
        text.push_str(&format!("  {}\n", styled(style, &escape::line(line))));
    }
    text
}

/// Where the object is, and where it was if that is another file.
pub(super) fn place(object: &ObjectChange) -> String {
    match (&object.old, &object.new) {
        (Some(old), Some(new)) if object.is_moved => format!("{} -> {}", old.file, new),
        (_, Some(place)) | (Some(place), None) => place.to_string(),
        (None, None) => String::new(),
    }
}

fn key_details(report: &KeyReport) -> String {
    let mut parts = Vec::new();
    if let Some((object, key)) = &report.from {
        parts.push(format!("from {}, key {}", escape::line(object), escape::line(key)));
    }
    if let Some((old, new)) = &report.binding {
        parts.push(format!("was for {old}, now for {new}"));
    }
    // The recipients of a removed value do not matter any more.
    if report.kind != KeyReportKind::Removed {
        parts.extend(report.went.iter().map(|key| styled(REMOVED, &format!("-{}", holder(key)))));
        parts.extend(report.came.iter().map(|key| styled(ADDED, &format!("+{}", holder(key)))));
    }
    parts.join("  ")
}

fn holder(Holder { fingerprint, name }: &Holder) -> String {
    match name {
        Some(name) => format!("{fingerprint} ({})", escape::line(name)),
        None => fingerprint.to_string(),
    }
}

fn style_of_object(kind: ObjectChangeKind) -> Style {
    match kind {
        ObjectChangeKind::Added => ADDED,
        ObjectChangeKind::Removed => REMOVED,
        ObjectChangeKind::Changed | ObjectChangeKind::Moved => CHANGED,
    }
}

fn style_of_key(kind: KeyReportKind) -> Style {
    match kind {
        KeyReportKind::Added => ADDED,
        KeyReportKind::Removed => REMOVED,
        KeyReportKind::Moved => CHANGED,
        KeyReportKind::Value(kind) => match kind {
            ValueChangeKind::Rebound | ValueChangeKind::Unreadable => REMOVED.bold(),
            ValueChangeKind::Changed => CHANGED,
            ValueChangeKind::Rekeyed => AnsiColor::Cyan.on_default(),
        },
    }
}

/// One line that counts objects and values.
pub(super) fn summary(comparison: &Comparison) -> String {
    let objects = &comparison.objects;
    if objects.is_empty() && comparison.diagnostics.is_empty() {
        return "no differences".to_owned();
    }
    let plaintext = objects.iter().filter(|object| object.is_plaintext).count();
    let mut parts = vec![count(objects.len() - plaintext, "SealedSecret")];
    let mut numbers: BTreeMap<KeyReportKind, usize> = BTreeMap::new();
    for key in objects.iter().flat_map(|object| &object.keys) {
        *numbers.entry(key.kind).or_default() += 1;
    }
    for (kind, number) in numbers {
        parts.push(format!("{} {}", count(number, "value"), kind.as_str()));
    }
    if plaintext > 0 {
        parts.push(count(plaintext, "plaintext Secret"));
    }
    if !comparison.diagnostics.is_empty() {
        parts.push(format!("{} could not be read", comparison.diagnostics.len()));
    }
    parts.join(", ")
}

/// The whole comparison.
pub(super) fn json(comparison: &Comparison) -> Value {
    json!({
        "objects": comparison.objects.iter().map(object_json).collect::<Vec<_>>(),
        "refused": comparison.diagnostics.iter().map(Diagnostic::to_json).collect::<Vec<_>>(),
    })
}

fn object_json(object: &ObjectChange) -> Value {
    let place = |position: &Option<Position>| {
        position.as_ref().map(|position| {
            json!({
                "file": position.file,
                "document": position.document,
                "item": position.item,
                "line": position.line,
            })
        })
    };
    json!({
        "kind": if object.is_plaintext { "Secret" } else { "SealedSecret" },
        "namespace": object.namespace,
        "name": object.name,
        "change": object.kind.as_str(),
        "moved": object.is_moved,
        "old": place(&object.old),
        "new": place(&object.new),
        "keys": object.keys.iter().map(key_json).collect::<Vec<_>>(),
        "policy": object.policy.as_ref().map(|(old, new)| json!({"old": old, "new": new})),
        "lines": object.lines,
        "otherFields": object.other_fields,
    })
}

fn key_json(report: &KeyReport) -> Value {
    let holders = |holders: &[Holder]| {
        let holder =
            |key: &Holder| json!({"fingerprint": key.fingerprint.to_string(), "holder": key.name});
        holders.iter().map(holder).collect::<Vec<_>>()
    };
    json!({
        "key": report.key,
        "change": report.kind.as_str(),
        "from": report.from.as_ref().map(|(object, key)| json!({"object": object, "key": key})),
        "binding": report.binding.as_ref().map(|(old, new)| json!({"old": old, "new": new})),
        "recipients": {"added": holders(&report.came), "removed": holders(&report.went)},
    })
}
