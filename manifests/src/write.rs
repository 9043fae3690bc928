//! Writing manifests as YAML.
//!
//! This crate has its own writer, because kubectl, Argo CD and Flux read the result with parsers of YAML 1.1,
//! which do not read `yes`, `1_000` and `0x1F` as text. So a text is written without quotes only if no parser can
//! read it as anything else. The writer also keeps plaintext in one buffer.

use serde_json::Value;
use zeroize::Zeroizing;

/// How texts with several lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineStyle {
    /// On one line, with escapes.
    Escaped,
    /// Unchanged below their key, where possible.
    Literal,
}

/// Documents with `---` between them.
pub fn to_yaml<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Zeroizing<Vec<u8>> {
    let mut yaml = parted(documents, "---\n", LineStyle::Escaped);
    Zeroizing::new(std::mem::take(&mut *yaml).into_bytes())
}

/// The parts of one document, one below the other, for people: texts with several lines are written unchanged.
pub fn to_readable_yaml<'a>(parts: impl IntoIterator<Item = &'a Value>) -> Zeroizing<String> {
    parted(parts, "", LineStyle::Literal)
}

/// The parts with `separator` between them.
fn parted<'a>(
    parts: impl IntoIterator<Item = &'a Value>,
    separator: &str,
    lines: LineStyle,
) -> Zeroizing<String> {
    let parts: Vec<&Value> = parts.into_iter().collect();
    // Reserves everything at once, so that the buffer does not grow and leave copies behind.
    let capacity = parts.iter().map(|part| separator.len() + reserve(part, 0)).sum();
    let mut yaml = Zeroizing::new(String::with_capacity(capacity));
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            yaml.push_str(separator);
        }
        write_value(&mut yaml, part, 0, lines);
    }
    debug_assert!(yaml.len() <= capacity, "a buffer that grows leaves a copy behind");
    yaml
}

/// At least as many bytes as `value` takes.
fn reserve(value: &Value, depth: usize) -> usize {
    // `\u001f` is the longest escape. In a text that is written unchanged, each line is indented.
    let text = |text: &str| 6 * text.len() + text.matches('\n').count() * 2 * depth + 8;
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

/// Writes the value after a key and its colon, or a whole document.
fn write_value(yaml: &mut String, value: &Value, depth: usize, lines: LineStyle) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            if depth > 0 {
                yaml.push('\n');
            }
            for entry in map {
                indent(yaml, depth);
                write_entry(yaml, entry, depth, lines);
            }
        }
        Value::Array(values) if !values.is_empty() => {
            if depth > 0 {
                yaml.push('\n');
            }
            for value in values {
                indent(yaml, depth);
                yaml.push('-');
                write_item(yaml, value, depth, lines);
            }
        }
        Value::String(text) if lines == LineStyle::Literal && is_literal(text) => {
            write_literal(yaml, text, depth);
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
fn write_entry(yaml: &mut String, (key, value): (&String, &Value), depth: usize, lines: LineStyle) {
    write_text(yaml, key);
    yaml.push(':');
    write_value(yaml, value, depth + 1, lines);
}

/// Writes the value after the dash of an item. A mapping begins on the same line.
fn write_item(yaml: &mut String, value: &Value, depth: usize, lines: LineStyle) {
    let Some(map) = value.as_object().filter(|map| !map.is_empty()) else {
        return write_value(yaml, value, depth + 1, lines);
    };
    for (number, entry) in map.iter().enumerate() {
        match number {
            0 => yaml.push(' '),
            _ => indent(yaml, depth + 1),
        }
        write_entry(yaml, entry, depth + 1, lines);
    }
}

/// Whether a text has several lines and can be written unchanged: all of it is printable, and every line break is LF.
fn is_literal(text: &str) -> bool {
    let has_lines = text.trim_end_matches('\n').contains('\n');
    // Only the first line's indentation tells the parser which blanks at the beginning of a line are text.
    let is_flush = !text.starts_with([' ', '\t', '\n']);
    has_lines && is_flush && !text.chars().any(|it| it != '\n' && it != '\t' && is_escaped(it))
}

/// Writes a text after a key and its colon. The sign after the bar says how many line breaks end the text.
fn write_literal(yaml: &mut String, text: &str, depth: usize) {
    let body = text.trim_end_matches('\n');
    yaml.push_str(match text.len() - body.len() {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        if !line.is_empty() {
            indent(yaml, depth);
            yaml.push_str(line);
        }
        yaml.push('\n');
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
            character if is_escaped(character) => {
                yaml.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            character => yaml.push(character),
        }
    }
    yaml.push('"');
}

/// Line breaks of YAML 1.1, the byte order mark and all characters that are not printable.
fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}'
    )
}

/// Whether every parser reads `text` without quotes as that text.
pub(crate) fn is_plain(text: &str) -> bool {
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
    fn a_text_with_several_lines_is_readable_and_reads_back_unchanged() {
        let texts = [
            "a\nb",
            "a\nb\n",
            "a\nb\n\n",
            "a\n\nb",
            "a\n  b\n c",
            "a: b\n# c\n- d\n",
            "a \nb  \n",
            "a\n \nb",
            "a\n\tb\n",
            "---\na\n...\n",
            "ä\n€\n😀",
            "a\n\"b\"\\n'\n",
            "%a\n{{ b }}\n",
            "a\n   \n",
            "a\n\n\n   \n\n",
        ];
        for text in texts {
            let value = json!({"s": {"k": text, "l": text}, "m": {"n": {"k": text}}});
            let written = to_readable_yaml([&value, &json!({"t": "x"})]);
            assert!(!written.contains("\\n") || text.contains("\\n"), "{}", *written);
            let read: Value = yaml_serde::from_str(&written).unwrap();
            assert_eq!((&read["s"], &read["m"]), (&value["s"], &value["m"]), "{}", *written);
        }
        for text in
            ["\na\nb", " a\nb", "\ta\nb", "a\r\nb", "\n", "\n\n", "a\n\u{85}b", "a\n\u{feff}"]
        {
            let value = json!({"s": {"k": text}});
            let read: Value = yaml_serde::from_str(&to_readable_yaml([&value])).unwrap();
            assert_eq!(read, value);
        }
    }

    #[test]
    fn every_text_reads_back_unchanged() {
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
