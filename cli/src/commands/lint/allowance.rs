//! Allowances: findings that someone allows, with the rule and a reason.
//!
//! `# bulla-lint: allow RULE: REASON` applies to its document, or to the whole file if that is not YAML. Where comments
//! are impossible, the annotation `bulla.dev/lint-allow: "RULE: REASON"` applies to its object, and `lint.allow` of
//! bulla.yaml to whole files.

use std::ops::Range;

use memchr::memmem;

use crate::commands::lint::finding::{Finding, FindingPlace};
use crate::commands::lint::leaks::{Spot, Spots};
use crate::commands::lint::rule::{Basis, Rule};
use crate::manifest::{Object, Step};

/// The start of a comment that allows findings.
const MARKER: &str = "bulla-lint:";

/// The annotation that allows findings in its object.
const ANNOTATION: &str = "bulla.dev/lint-allow";

/// The start of a comment in the languages that can hold an identity or a manifest, and what can end it before the end
/// of its line.
const COMMENTS: [(&str, Option<&str>); 7] = [
    ("#", None),
    ("//", None),
    ("/*", Some("*/")),
    ("<!--", Some("-->")),
    ("--", None),
    (";", None),
    ("*", Some("*/")),
];

/// One rule that is allowed in one place.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    pub(super) rule: Rule,
    pub(super) reason: String,
    extent: Extent,
    /// Where it is.
    pub(super) place: FindingPlace,
    pub(super) is_used: bool,
}

/// The part of a file that an allowance applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    /// These lines of its file.
    Lines(Range<usize>),
    /// This document, and this item of it.
    Object { document: Option<usize>, item: Option<usize> },
}

/// A comment with the marker, as it was read.
#[derive(Clone, Debug)]
pub(super) struct AllowComment {
    spot: Spot,
    text: String,
}

/// How much text before and after a marker is read. One line may have many markers.
const MAX_OPENING_BYTES: usize = 64;
const MAX_COMMENT_BYTES: usize = 4096;

/// How many comments of a file are read.
const MAX_COMMENTS: usize = 1000;

/// The comments in a text that allow findings.
pub(super) fn comments(text: &[u8]) -> Vec<AllowComment> {
    let mut comments = Vec::new();
    let mut spots = Spots::of(text);
    for offset in memmem::find_iter(text, MARKER) {
        let before = &text[offset.saturating_sub(MAX_OPENING_BYTES)..offset];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let before = String::from_utf8_lossy(&before[line_start..]);
        let end = text.len().min(offset + MAX_COMMENT_BYTES);
        let line_end = memchr::memchr(b'\n', &text[offset..end]).map_or(end, |end| offset + end);
        let is_opened = |(opening, _): &&(&str, _)| before.trim_end().ends_with(opening);
        let Some((_, end)) = COMMENTS.iter().find(is_opened) else { continue };
        let rest = String::from_utf8_lossy(&text[offset + MARKER.len()..line_end]);
        // Text after the comment does not belong to it, and must not be repeated.
        let end = end.and_then(|end| rest.find(end)).unwrap_or(rest.len());
        let spot = spots.at(offset);
        comments.push(AllowComment { spot, text: rest[..end].trim().to_owned() });
        if comments.len() >= MAX_COMMENTS {
            break; // the findings of the others stay
        }
    }
    comments
}

/// What the comments of a file allow in their documents, and findings for the unreadable ones.
pub(super) fn of_comments(
    file: &str,
    comments: &[AllowComment],
    documents: &[Range<usize>],
) -> (Vec<Allowance>, Vec<Finding>) {
    let (mut allowances, mut findings) = (Vec::new(), Vec::new());
    for AllowComment { spot: Spot { line, column }, text } in comments {
        let columns = Some(*column..column + MARKER.len());
        let place = FindingPlace { columns, ..FindingPlace::line(file, *line) };
        let lines = documents.iter().find(|lines| lines.contains(line));
        let extent = Extent::Lines(lines.cloned().unwrap_or(1..usize::MAX));
        let allow = text.strip_prefix("allow ").ok_or("expected allow after bulla-lint:");
        match allow.and_then(read) {
            Ok((rule, reason)) => {
                allowances.push(Allowance { rule, reason, extent, place, is_used: false });
            }
            Err(what) => findings.push(Finding::at(Rule::BadAllowance, place, what)),
        }
    }
    (allowances, findings)
}

/// What the annotation of an object allows: one rule in each line.
pub(super) fn of_object(object: &Object<'_>) -> (Vec<Allowance>, Vec<Finding>) {
    let (mut allowances, mut findings) = (Vec::new(), Vec::new());
    let text = object.value["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let path = [Step::Key("metadata"), Step::Key("annotations"), Step::Key(ANNOTATION)];
        let at = |rule, what| Finding::in_object(object, rule, &path, None, what);
        match read(line) {
            Ok((rule, reason)) => {
                let place = at(rule, "").place;
                let extent = Extent::Object { document: place.document, item: place.item };
                allowances.push(Allowance { rule, reason, extent, place, is_used: false });
            }
            Err(what) => findings.push(at(Rule::BadAllowance, what)),
        }
    }
    (allowances, findings)
}

/// `RULE: REASON`.
fn read(text: &str) -> Result<(Rule, String), &'static str> {
    let (id, reason) = text.split_once(':').unwrap_or((text, ""));
    let rule = rule(id.trim())?;
    match reason.trim() {
        "" => Err("the reason is missing"),
        reason => Ok((rule, reason.to_owned())),
    }
}

/// A rule that can be allowed.
pub(super) fn rule(id: &str) -> Result<Rule, &'static str> {
    match Rule::parse(id) {
        None => Err("no such rule"),
        Some(rule) if rule.basis() == Basis::Allowances => {
            Err("findings about allowances themselves cannot be allowed")
        }
        Some(rule) => Ok(rule),
    }
}

impl Allowance {
    pub(super) fn is_for(&self, finding: &Finding) -> bool {
        let place = &finding.place;
        self.rule == finding.rule
            && match &self.extent {
                Extent::Lines(lines) => lines.contains(&place.line),
                Extent::Object { document, item } => {
                    (place.document, place.item) == (*document, *item)
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_comments(text: &str) -> (Vec<(Rule, String)>, Vec<String>) {
        let (allowances, findings) = of_comments("f", &comments(text.as_bytes()), &[]);
        let allowed =
            allowances.into_iter().map(|allowance| (allowance.rule, allowance.reason)).collect();
        (allowed, findings.into_iter().map(|finding| finding.message).collect())
    }

    #[test]
    fn a_comment_names_rule_and_reason_in_any_language() {
        for text in [
            "# bulla-lint: allow age-identity: a test key",
            "  //bulla-lint: allow age-identity : a test key \r\n",
            "<!-- bulla-lint: allow age-identity: a test key -->",
            "{{/* bulla-lint: allow age-identity: a test key */}}",
            "/* bulla-lint: allow age-identity: a test key */",
            "key: 1 # bulla-lint: allow age-identity: a test key",
            "/* bulla-lint: allow age-identity: a test key */ k = \"AGE-SECRET-KEY-1…\"",
            "<!-- bulla-lint: allow age-identity: a test key --> password: hunter2",
            " * bulla-lint: allow age-identity: a test key */ x /* y */",
        ] {
            let expected = (vec![(Rule::AgeIdentity, "a test key".to_owned())], vec![]);
            assert_eq!(read_comments(text), expected, "{text}");
        }
        for text in ["", "a: bulla-lint: allow age-identity: x", "# bulla-lint allow"] {
            assert_eq!(read_comments(text), (vec![], vec![]), "{text}");
        }
    }

    #[test]
    fn an_unreadable_allowance_is_found() {
        for text in [
            "# bulla-lint: allow age-identity",
            "# bulla-lint: allow age-identity:  ",
            "# bulla-lint: allow hunter2: x",
            "# bulla-lint: allow unused-allowance: x",
            "# bulla-lint: disable age-identity: x",
            "# bulla-lint:",
        ] {
            let (allowed, wrong) = read_comments(text);
            assert_eq!((allowed.len(), wrong.len()), (0, 1), "{text}");
            assert!(!wrong[0].contains("hunter2"));
        }
    }
}
