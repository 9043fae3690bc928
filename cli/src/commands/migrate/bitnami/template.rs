//! Translates Go templates into Bulla's template language, but only if the meaning is the same for every value.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_crds::template::TextTemplate;
use k8s_openapi::ByteString;

/// Why a template has no equivalent, and where: line and column, counted from 1. The text is not quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub(super) struct Untranslatable {
    line: usize,
    column: usize,
    what: String,
}

#[derive(Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Value { key: String, is_base64: bool },
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
/// The white space that trim markers remove, as in Go.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

/// The same text in Bulla's template language.
pub(super) fn translate(
    text: &str,
    is_sealed: impl Fn(&str) -> bool,
) -> Result<String, Untranslatable> {
    let parts = parse(text, &is_sealed)?;
    let translated: String = parts
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text.replace(OPEN, "{{ \"{{\" }}"),
            TemplatePart::Value { key, is_base64: false } => format!("{{{{ {key} }}}}"),
            TemplatePart::Value { key, is_base64: true } => {
                format!("{{{{ {key} | b64encode }}}}")
            }
        })
        .collect();
    if means(&translated, &parts) {
        Ok(translated)
    } else {
        Err(at(text, 0, "a brace directly before a placeholder has no equivalent"))
    }
}

/// Whether Bulla's template parser reads the text as these parts.
fn means(text: &str, parts: &[TemplatePart]) -> bool {
    let Ok(template) = TextTemplate::parse(text) else { return false };
    // Each key has a different value, which occurs in no text.
    let value = |key: &str| format!("\u{1}{key}\u{2}").into_bytes();
    let values: BTreeMap<String, ByteString> =
        template.keys().map(|key| (key.to_owned(), ByteString(value(key)))).collect();
    let (mut wanted, mut expected) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            TemplatePart::Text(text) => expected.extend(text.as_bytes()),
            TemplatePart::Value { key, is_base64 } => {
                wanted.push(key.as_str());
                let value = value(key);
                let encoded = is_base64.then(|| BASE64_STANDARD.encode(&value).into_bytes());
                expected.extend(encoded.unwrap_or(value));
            }
        }
    }
    template.keys().eq(wanted) && *template.render(&values) == expected
}

fn parse(
    text: &str,
    is_sealed: &impl Fn(&str) -> bool,
) -> Result<Vec<TemplatePart>, Untranslatable> {
    let mut parts = Vec::new();
    let mut offset = 0;
    let mut is_trimmed = false;
    while let Some(length) = text[offset..].find(OPEN) {
        let open = offset + length;
        let fail = |what: &str| at(text, open, what);
        let action = GoAction::read(&text[open + OPEN.len()..])
            .ok_or_else(|| fail("{{ has no closing }}"))?;
        let mut before = &text[offset..open];
        if is_trimmed {
            before = before.trim_start_matches(BLANK);
        }
        if action.trims_before {
            before = before.trim_end_matches(BLANK);
        }
        parts.push(TemplatePart::Text(before.to_owned()));
        parts.extend(action.part(is_sealed).map_err(|what| fail(&what))?);
        is_trimmed = action.trims_after;
        offset = open + OPEN.len() + action.length;
    }
    let rest = &text[offset..];
    let rest = if is_trimmed { rest.trim_start_matches(BLANK) } else { rest };
    parts.push(TemplatePart::Text(rest.to_owned()));
    Ok(joined(parts))
}

/// Joins adjacent texts, because how a text is written depends on what follows it.
fn joined(parts: Vec<TemplatePart>) -> Vec<TemplatePart> {
    let mut joined: Vec<TemplatePart> = Vec::with_capacity(parts.len());
    for part in parts {
        match (joined.last_mut(), part) {
            (_, TemplatePart::Text(text)) if text.is_empty() => {}
            (Some(TemplatePart::Text(before)), TemplatePart::Text(text)) => before.push_str(&text),
            (_, part) => joined.push(part),
        }
    }
    joined
}

/// The content between braces.
struct GoAction<'a> {
    content: &'a str,
    /// The length after the opening braces, including the closing ones.
    length: usize,
    trims_before: bool,
    trims_after: bool,
}

impl<'a> GoAction<'a> {
    /// Reads a text that begins after the opening braces; none if they are not closed.
    fn read(text: &'a str) -> Option<Self> {
        let trims_before = text.strip_prefix('-').is_some_and(|rest| rest.starts_with(BLANK));
        let start = if trims_before { 2 } else { 0 };
        let end = if text[start..].trim_start_matches(BLANK).starts_with("/*") {
            let comment = start + text[start..].find("*/")? + 2;
            comment + text[comment..].find(CLOSE)?
        } else {
            start + close_of(&text[start..])?
        };
        let content = &text[start..end];
        let trimmed = content.strip_suffix('-').filter(|content| content.ends_with(BLANK));
        Some(Self {
            content: trimmed.unwrap_or(content).trim_matches(BLANK),
            length: end + CLOSE.len(),
            trims_before,
            trims_after: trimmed.is_some(),
        })
    }

    /// The part that the action produces; a comment produces none.
    fn part(&self, is_sealed: &impl Fn(&str) -> bool) -> Result<Option<TemplatePart>, String> {
        if self.content.starts_with("/*") {
            let is_closed = self.content.ends_with("*/");
            return if is_closed { Ok(None) } else { Err("not a comment".into()) };
        }
        let words = words(self.content).ok_or("a quoted text is not closed, or has escapes")?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (operand, is_base64) = match &words[..] {
            [operand @ .., "|", "b64enc"] | ["b64enc", operand @ ..] => (operand, true),
            operand => (operand, false),
        };
        let key = match operand {
            [text] if !is_base64 && text.starts_with(['"', '`']) => {
                return Ok(Some(TemplatePart::Text(text[1..].to_owned())));
            }
            [field] => field
                .strip_prefix('$')
                .unwrap_or(field)
                .strip_prefix('.')
                .filter(|name| is_identifier(name)),
            ["index", "." | "$", text] => text.strip_prefix(['"', '`']),
            _ => None,
        };
        match key {
            Some(key) if is_sealed(key) => Ok(Some(TemplatePart::Value { key: key.to_owned(), is_base64 })),
            Some(key) if bulla_sealing::is_data_key(key) => {
                Err(format!("there is no sealed value with the key {key}"))
            }
            _ => Err("only {{ .key }}, {{ index . \"key\" }}, b64enc, texts and comments have an equivalent".into()),
        }
    }
}

/// The offset of the closing braces, ignoring braces in quoted text.
fn close_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((offset, character)) = characters.next() {
        match (quote, character) {
            (None, '"' | '`' | '\'') => quote = Some(character),
            (None, '}') if text[offset..].starts_with(CLOSE) => return Some(offset),
            (Some('"' | '\''), '\\') => drop(characters.next()),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    None
}

/// The words of an action. A quoted text keeps its opening quote. None if a text has escapes, because only Go
/// defines them.
fn words(content: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = content.trim_start_matches(BLANK);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '`' => {
                let length = rest[1..].find(first)? + 1;
                if first == '"' && rest[..length].contains(['\\', '\n']) {
                    return None;
                }
                words.push(rest[..length].to_owned());
                length + 1
            }
            '|' => {
                words.push("|".into());
                1
            }
            _ => {
                let is_end = |letter: char| BLANK.contains(&letter) || "|\"`".contains(letter);
                let length = rest.find(is_end).unwrap_or(rest.len());
                words.push(rest[..length].to_owned());
                length
            }
        };
        rest = rest[length..].trim_start_matches(BLANK);
    }
    Some(words)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
}

fn at(text: &str, offset: usize, what: &str) -> Untranslatable {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Untranslatable {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(text: &str) -> Result<String, String> {
        let is_sealed = |key: &str| ["a", "b", "tls.key"].contains(&key);
        translate(text, is_sealed).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_with_the_same_meaning_are_translated() {
        for (go, ours) in [
            ("", ""),
            ("plain }} { text\n", "plain }} { text\n"),
            ("{{ .a }}", "{{ a }}"),
            ("{{.a}}:{{$.b}}", "{{ a }}:{{ b }}"),
            ("<{{ index . \"tls.key\" }}>", "<{{ tls.key }}>"),
            ("{{ index . `a` }}", "{{ a }}"),
            ("{{ .a | b64enc }}{{ b64enc .b }}", "{{ a | b64encode }}{{ b | b64encode }}"),
            ("{{ index . \"a\" | b64enc }}", "{{ a | b64encode }}"),
            ("x \n{{- .a -}}\n y", "x{{ a }}y"),
            ("x {{- /* why }} so */ -}} y", "xy"),
            ("x {{/* why */}} y", "x  y"),
            ("{{ \"{{\" }} .a {{ \"}}\" }}", "{{ \"{{\" }} .a }}"),
            ("{{ `raw \"text\"` }}", "raw \"text\""),
            ("{ {{ .a }} }", "{ {{ a }} }"),
        ] {
            assert_eq!(translated(go).as_deref(), Ok(ours), "{go}");
        }
    }

    #[test]
    fn a_template_without_an_equivalent_is_refused_with_its_place() {
        for (go, place, what) in [
            ("x\n {{ .c }}", "line 2, column 2", "the key c"),
            ("{{ .a", "line 1, column 1", "{{ has no closing }}"),
            ("{{ .a | upper }}", "line 1, column 1", "equivalent"),
            ("{{ .a | b64enc | b64enc }}", "line 1, column 1", "equivalent"),
            ("{{ if .a }}x{{ end }}", "line 1, column 1", "equivalent"),
            ("{{ .a.b }}", "line 1, column 1", "equivalent"),
            ("{{ . }}", "line 1, column 1", "equivalent"),
            ("{{ $x := .a }}", "line 1, column 1", "equivalent"),
            ("{{ printf \"%s\" .a }}", "line 1, column 1", "equivalent"),
            ("{{ toJson .a }}", "line 1, column 1", "equivalent"),
            ("{{ \"a\\n\" }}", "line 1, column 1", "escapes"),
            ("{{ \"a\" | b64enc }}", "line 1, column 1", "equivalent"),
            ("{{-3}}", "line 1, column 1", "equivalent"),
            ("{ {{- .a }}", "line 1, column 1", "brace"),
        ] {
            let told = translated(go).unwrap_err();
            assert!(told.starts_with(place) && told.contains(what), "{go}: {told}");
        }
    }
}
