//! Writing manifests as YAML.
//!
//! A writer of our own, because what we write is read by others: by kubectl, Argo CD and Flux through
//! parsers of YAML 1.1, for which `yes`, `1_000` and `0x1F` are no text. So a text is written plain only
//! when no parser can take it for anything else. It is also the way to keep plaintext in one buffer.

use serde_json::Value;
use zeroize::Zeroizing;

/// Documents with `---` between them.
pub(crate) fn to_yaml<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Zeroizing<Vec<u8>> {
    let documents: Vec<&Value> = documents.into_iter().collect();
    // Reserved at once, so that the buffer does not grow and leave copies behind.
    let capacity = documents.iter().map(|document| 8 + reserve(document, 0)).sum();
    let mut yaml = Zeroizing::new(String::with_capacity(capacity));
    for (index, document) in documents.into_iter().enumerate() {
        if index > 0 {
            yaml.push_str("---\n");
        }
        write_value(&mut yaml, document, 0);
    }
    debug_assert!(yaml.len() <= capacity, "a buffer that grows leaves a copy behind");
    Zeroizing::new(std::mem::take(&mut *yaml).into_bytes())
}

/// No fewer bytes than `value` takes.
fn reserve(value: &Value, depth: usize) -> usize {
    let text = |text: &str| 6 * text.len() + 2; // `\u001f` is the longest escape
    let line = 2 * depth + 8;
    match value {
        Value::String(content) if is_plain(content) => line + content.len(),
        Value::String(content) => line + text(content),
        Value::Object(map) => {
            map.iter()
                .map(|(key, value)| line + text(key) + reserve(value, depth + 1))
                .sum::<usize>()
                + line
        }
        Value::Array(values) => {
            values.iter().map(|value| line + reserve(value, depth + 1)).sum::<usize>() + line
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => line + 32,
    }
}

/// Writes what follows a key and its colon, or a whole document.
fn write_value(yaml: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            if depth > 0 {
                yaml.push('\n');
            }
            for entry in map {
                indent(yaml, depth);
                write_entry(yaml, entry, depth);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            if depth > 0 {
                yaml.push('\n');
            }
            for value in values {
                indent(yaml, depth);
                yaml.push('-');
                write_item(yaml, value, depth);
            }
        }
        Value::String(text) => {
            yaml.push(' ');
            write_text(yaml, text);
            yaml.push('\n');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            yaml.push(' ');
            yaml.push_str(&value.to_string());
            yaml.push('\n');
        }
    }
}

/// Writes a key and its value.
fn write_entry(yaml: &mut String, (key, value): (&String, &Value), depth: usize) {
    write_text(yaml, key);
    yaml.push(':');
    write_value(yaml, value, depth + 1);
}

/// Writes what follows the dash of an item: a mapping begins on the same line.
fn write_item(yaml: &mut String, value: &Value, depth: usize) {
    let Value::Object(map) = value else { return write_value(yaml, value, depth + 1) };
    if map.is_empty() {
        return write_value(yaml, value, depth + 1);
    }
    for (number, entry) in map.iter().enumerate() {
        match number {
            0 => yaml.push(' '),
            _ => indent(yaml, depth + 1),
        }
        write_entry(yaml, entry, depth + 1);
    }
}

fn indent(yaml: &mut String, depth: usize) {
    yaml.extend(std::iter::repeat_n("  ", depth));
}

fn write_text(yaml: &mut String, text: &str) {
    if is_plain(text) {
        yaml.push_str(text);
        return;
    }
    yaml.push('"');
    for character in text.chars() {
        match character {
            '"' => yaml.push_str("\\\""),
            '\\' => yaml.push_str("\\\\"),
            '\n' => yaml.push_str("\\n"),
            '\t' => yaml.push_str("\\t"),
            // Line breaks of YAML 1.1, the byte order mark and everything that is not printable.
            '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                yaml.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            character => yaml.push(character),
        }
    }
    yaml.push('"');
}

/// Whether every parser takes `text` for itself without quotes.
pub(super) fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 11] =
        ["y", "yes", "n", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    // Beginning with a letter or a slash rules out numbers, dates and every indicator.
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/+=".contains(&byte))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
        || is_data_key_with_dot(text)
}

/// `.dockerconfigjson` and the like: a dot and then a letter, except `.inf` and `.nan`.
fn is_data_key_with_dot(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('.') else { return false };
    rest.starts_with(|first: char| first.is_ascii_alphabetic())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !["inf", "nan"].iter().any(|word| rest.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn yaml(value: &Value) -> String {
        String::from_utf8(to_yaml([value]).to_vec()).unwrap()
    }

    #[test]
    fn a_manifest_is_written_in_block_style() {
        let manifest = json!({
            "apiVersion": "v1",
            "metadata": {"name": "db", "labels": {}, "annotations": {"a.b/c": "x: y"}},
            "immutable": true,
            "list": ["a", {"b": 1}],
            "data": {".dockerconfigjson": "e30=", "1_000": "YWI="}
        });
        assert_eq!(
            yaml(&manifest),
            "apiVersion: v1\ndata:\n  .dockerconfigjson: e30=\n  \"1_000\": YWI=\nimmutable: true\n\
             list:\n  - a\n  - b: 1\nmetadata:\n  annotations:\n    a.b/c: \"x: y\"\n  labels: {}\n  \
             name: db\n"
        );
        assert_eq!(
            String::from_utf8(to_yaml([&json!({"a": 1}), &json!({"b": 2})]).to_vec()).unwrap(),
            "a: 1\n---\nb: 2\n"
        );
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let texts = [
            "",
            " ",
            "yes",
            "No",
            "NULL",
            "~",
            "1",
            "1_000",
            "0x1F",
            "0o7",
            "1e3",
            ".5",
            ".inf",
            ".NaN",
            "2026-11-21",
            "12:30:45",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "'",
            "\"",
            "\\",
            "\n",
            "a\nb\n",
            "\t",
            "\r",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{7f}",
            "ä€😀",
            "=",
            "<<",
            "a ",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{}",
            "[]",
            "|",
            ">",
            "?",
            "AGE",
            "e3",
            "Infinity",
            "/a",
            "+1",
            "\0",
            "\x1b",
        ];
        for text in texts {
            let written = yaml(&json!({"k": text, "m": {text: "v"}}));
            let read: Value = yaml_serde::from_str(&written).unwrap();
            assert_eq!(read, json!({"k": text, "m": {text: "v"}}), "{written}");
            assert!(written.is_ascii() || !text.is_ascii(), "{written}");
        }
    }
}
