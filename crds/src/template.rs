//! Text of a Secret into which the values of sealed keys are put: only substitution.
//!
//! | template | rendered |
//! | --- | --- |
//! | `{{ key }}` | the value, byte for byte |
//! | <code>{{ key &#124; b64encode }}</code> | the value in base64, padded |
//! | <code>{{ key &#124; json }}</code> | the value as a JSON string with its quotes, U+FFFD for invalid UTF-8 |
//! | <code>{{ key &#124; urlencode }}</code> | the value with all but `A-Z a-z 0-9 - . _ ~` as `%XX` |
//! | `{{ "{{" }}` | `{{` |
//!
//! White space inside the braces does not matter, and all other text is copied unchanged. The binding of a
//! value does not cover templates, so a person who can write one must not learn anything about a value from
//! it: rendering succeeds on every value, and an invalid template is refused before any value is known. For
//! the same reason there are no conditions, loops or functions.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::ByteString;
use zeroize::Zeroizing;

pub(crate) const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// A template that was parsed and can be rendered any number of times.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use bulla_crds::template::{TemplateErrorKind, TextTemplate};
/// use k8s_openapi::ByteString;
///
/// let template = TextTemplate::parse("postgres://app:{{ password | urlencode }}@db/app")?;
/// assert_eq!(template.keys().collect::<Vec<_>>(), ["password"]);
///
/// let values = BTreeMap::from([("password".to_owned(), ByteString(b"a/b c".to_vec()))]);
/// assert_eq!(*template.render(&values), b"postgres://app:a%2Fb%20c@db/app");
///
/// let error = TextTemplate::parse("user: app\npassword: {{ password | upper }}").unwrap_err();
/// assert_eq!((error.line, error.column, error.kind), (2, 11, TemplateErrorKind::UnknownFilter));
/// # Ok::<(), bulla_crds::template::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate<'a> {
    text: &'a str,
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Value { key: &'a str, filter: Filter, offset: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Plain,
    B64encode,
    Json,
    Urlencode,
}

/// What is wrong with a template, and where the wrong placeholder begins: line and column, in characters,
/// both counted from 1. The text itself is never quoted, because plaintext may have been pasted into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct TemplateError {
    /// The line of the template's text.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
    /// What is wrong.
    pub kind: TemplateErrorKind,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateErrorKind {
    /// There is no `}}` after `{{`.
    #[error("unclosed {{{{; to write a literal {{{{, use {{{{ \"{{{{\" }}}}")]
    Unclosed,
    /// The text between the braces is not a key, or a key and a filter.
    #[error("expected {{{{ key }}}} or {{{{ key | filter }}}}")]
    Malformed,
    /// The filter does not exist.
    #[error("unknown filter; use b64encode, json or urlencode")]
    UnknownFilter,
    /// The key is a valid data key, but no sealed value has it.
    #[error("there is no sealed value with the key {0}")]
    UnknownKey(String),
    /// The type requires JSON, and the value decides whether this placeholder would render it.
    #[error("a value in JSON needs a filter: json, or inside quotes b64encode or urlencode")]
    PlainInJson,
}

impl<'a> TextTemplate<'a> {
    /// Parses a template. Whether its keys have values is not checked here.
    pub fn parse(text: &'a str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut offset = 0;
        while let Some(length) = text[offset..].find(OPEN) {
            let open = offset + length;
            let fail = |kind| error_at(text, open, kind);
            parts.push(Part::Text(&text[offset..open]));
            let inside = &text[open + OPEN.len()..];
            let inside =
                &inside[..inside.find(CLOSE).ok_or_else(|| fail(TemplateErrorKind::Unclosed))?];
            parts.push(placeholder(inside, open).map_err(fail)?);
            offset = open + OPEN.len() + inside.len() + CLOSE.len();
        }
        parts.push(Part::Text(&text[offset..]));
        parts.retain(|part| *part != Part::Text(""));
        Ok(Self { text, parts })
    }

    /// The keys that it uses, in the order of the text. A key is repeated each time it is used.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value { key, .. } => Some(*key),
        })
    }

    /// The error at the first placeholder whose key is unknown, if any.
    pub fn unknown_key(&self, is_known: impl Fn(&str) -> bool) -> Option<TemplateError> {
        self.parts.iter().find_map(|part| match *part {
            Part::Value { key, offset, .. } if !is_known(key) => {
                Some(error_at(self.text, offset, TemplateErrorKind::UnknownKey(key.to_owned())))
            }
            _ => None,
        })
    }

    /// The most bytes that it can render with any values of these lengths.
    pub fn max_len(&self, len_of: impl Fn(&str) -> usize) -> usize {
        let lengths = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Value { key, filter, .. } => filter.max_len(len_of(key)),
        });
        lengths.fold(0, usize::saturating_add)
    }

    /// The text with the values in it. A key without a value renders as nothing.
    pub fn render(&self, values: &BTreeMap<String, ByteString>) -> Zeroizing<Vec<u8>> {
        let value = |key: &str| values.get(key).map_or(&[][..], |value| &value.0);
        // Reserves everything at once, so that the buffer does not grow and leave copies behind.
        let capacity = self.max_len(|key| value(key).len());
        let mut rendered = Zeroizing::new(Vec::with_capacity(capacity));
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.extend_from_slice(text.as_bytes()),
                Part::Value { key, filter, .. } => filter.write(value(key), &mut rendered),
            }
        }
        debug_assert!(rendered.len() <= capacity, "a buffer that grows leaves a copy behind");
        rendered
    }

    /// A text that stands for all renderings: if it is JSON, every rendering is JSON.
    ///
    /// A value with the filter `json` becomes a JSON string. A value with another filter becomes a letter that
    /// JSON allows only inside a string, and not in an escape.
    pub(crate) fn json_probe(&self) -> Result<String, TemplateError> {
        let mut probe = String::with_capacity(self.text.len());
        for part in &self.parts {
            probe.push_str(match *part {
                Part::Text(text) => text,
                Part::Value { filter: Filter::Json, .. } => "\"z\"",
                Part::Value { filter: Filter::B64encode | Filter::Urlencode, .. } => "z",
                Part::Value { filter: Filter::Plain, offset, .. } => {
                    return Err(error_at(self.text, offset, TemplateErrorKind::PlainInJson));
                }
            });
        }
        Ok(probe)
    }
}

/// Parses the text between `{{` and `}}`.
fn placeholder(inside: &str, offset: usize) -> Result<Part<'_>, TemplateErrorKind> {
    if inside.trim_ascii() == "\"{{\"" {
        return Ok(Part::Text(OPEN));
    }
    let (key, filter) = match inside.split_once('|') {
        Some((key, filter)) => (key.trim_ascii(), Some(filter.trim_ascii())),
        None => (inside.trim_ascii(), None),
    };
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let filter = match filter {
        _ if !bulla_sealing::is_data_key(key) => return Err(TemplateErrorKind::Malformed),
        None => Filter::Plain,
        Some("b64encode") => Filter::B64encode,
        Some("json") => Filter::Json,
        Some("urlencode") => Filter::Urlencode,
        Some(word) if !word.is_empty() && is_word(word) => {
            return Err(TemplateErrorKind::UnknownFilter);
        }
        Some(_) => return Err(TemplateErrorKind::Malformed),
    };
    Ok(Part::Value { key, filter, offset })
}

fn error_at(text: &str, offset: usize, kind: TemplateErrorKind) -> TemplateError {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    TemplateError {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        kind,
    }
}

impl Filter {
    fn max_len(self, len: usize) -> usize {
        match self {
            Self::Plain => len,
            Self::B64encode => len.div_ceil(3).saturating_mul(4),
            // `\u001f` is the longest escape.
            Self::Json => len.saturating_mul(6).saturating_add(2),
            Self::Urlencode => len.saturating_mul(3),
        }
    }

    fn write(self, value: &[u8], rendered: &mut Vec<u8>) {
        match self {
            Self::Plain => rendered.extend_from_slice(value),
            Self::B64encode => {
                let start = rendered.len();
                rendered.resize(start + self.max_len(value.len()), 0);
                let written = BASE64_STANDARD.encode_slice(value, &mut rendered[start..]);
                debug_assert_eq!(written, Ok(rendered.len() - start));
            }
            Self::Json => {
                rendered.push(b'"');
                for chunk in value.utf8_chunks() {
                    chunk.valid().bytes().for_each(|byte| write_json(byte, rendered));
                    if !chunk.invalid().is_empty() {
                        rendered.extend_from_slice("\u{fffd}".as_bytes());
                    }
                }
                rendered.push(b'"');
            }
            Self::Urlencode => value.iter().for_each(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    rendered.push(*byte);
                }
                _ => rendered.extend([
                    b'%',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]),
            }),
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// RFC 8259, section 7: only quotes, backslashes and control characters need escapes.
fn write_json(byte: u8, rendered: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => rendered.extend([b'\\', byte]),
        b'\n' => rendered.extend(b"\\n"),
        b'\r' => rendered.extend(b"\\r"),
        b'\t' => rendered.extend(b"\\t"),
        0..0x20 => {
            rendered.extend(b"\\u00");
            rendered.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => rendered.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> BTreeMap<String, ByteString> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.to_vec()))).collect()
    }

    fn render(text: &str, value: &[u8]) -> Vec<u8> {
        TextTemplate::parse(text)
            .unwrap()
            .render(&values([("a", value), ("tls.key", b"K")]))
            .to_vec()
    }

    #[test]
    fn placeholders_are_replaced_and_the_rest_is_copied() {
        for (text, rendered) in [
            ("", ""),
            ("plain } }} { text\r\n\0", "plain } }} { text\r\n\0"),
            ("{{a}}", "v w"),
            ("{{ a }}", "v w"),
            ("{{\n\ta\n}}", "v w"),
            ("<{{ a }}{{ a }}>", "<v wv w>"),
            ("{{ tls.key }}é{{a}}", "Kév w"),
            ("{{ a }}}", "v w}"),
            ("{{a|urlencode}}", "v%20w"),
            ("{{ a | urlencode }}", "v%20w"),
            ("{{ a | json }}", "\"v w\""),
            ("{{ a | b64encode }}", "diB3"),
            ("{{ \"{{\" }} a }}", "{{ a }}"),
            ("{{\"{{\"}}a{{ \"{{\" }}", "{{a{{"),
            ("{\"x\":{{ a | json }}}", "{\"x\":\"v w\"}"),
        ] {
            assert_eq!(render(text, b"v w"), rendered.as_bytes(), "{text}");
        }
    }

    #[test]
    fn filters_accept_every_value() {
        let every_byte: Vec<u8> = (0..=255).collect();
        assert_eq!(render("{{ a }}", &every_byte), every_byte);
        let encoded = render("{{ a | b64encode }}", &every_byte);
        assert_eq!(BASE64_STANDARD.decode(encoded).unwrap(), every_byte);
        for (filter, value, rendered) in [
            ("b64encode", &b""[..], ""),
            ("b64encode", b"\xff", "/w=="),
            ("urlencode", b"", ""),
            ("urlencode", b"aZ09-._~", "aZ09-._~"),
            ("urlencode", "ä/%+ \u{1}".as_bytes(), "%C3%A4%2F%25%2B%20%01"),
            ("urlencode", b"\xff\0", "%FF%00"),
            ("json", b"", "\"\""),
            ("json", b"\"\\/\n\r\t\x08\x1f\x7f", "\"\\\"\\\\/\\n\\r\\t\\u0008\\u001F\x7f\""),
            ("json", "ä€😀\u{2028}".as_bytes(), "\"ä€😀\u{2028}\""),
            ("json", b"a\xff\xfeb\xe2\x82", "\"a\u{fffd}\u{fffd}b\u{fffd}\""),
        ] {
            assert_eq!(
                String::from_utf8(render(&format!("{{{{ a | {filter} }}}}"), value)).unwrap(),
                rendered,
                "{filter}"
            );
        }
    }

    #[test]
    fn an_invalid_placeholder_is_refused_with_its_place() {
        use TemplateErrorKind::{Malformed, Unclosed, UnknownFilter};
        for (text, line, column, kind) in [
            ("{{", 1, 1, Unclosed),
            ("{{ a }", 1, 1, Unclosed),
            ("{{ a }}\nä {{ a ", 2, 3, Unclosed),
            ("{{}}", 1, 1, Malformed),
            ("x{{ }}", 1, 2, Malformed),
            ("{{ a b }}", 1, 1, Malformed),
            ("{{ .a }", 1, 1, Unclosed),
            ("{{ ..a }}", 1, 1, Malformed),
            ("{{{ a }}", 1, 1, Malformed),
            ("{{ a {{ a }}", 1, 1, Malformed),
            ("{{ | json }}", 1, 1, Malformed),
            ("{{ a | }}", 1, 1, Malformed),
            ("{{ a | json | b64encode }}", 1, 1, Malformed),
            ("{{ a | json(1) }}", 1, 1, Malformed),
            ("{{ \"a\" }}", 1, 1, Malformed),
            ("{{ if a }}", 1, 1, Malformed),
            ("{{- a -}}", 1, 1, Malformed),
            ("{{ a\u{a0}}}", 1, 1, Malformed),
            ("\n\n {{ a | JSON }}", 3, 2, UnknownFilter),
            ("{{ a | upper }}", 1, 1, UnknownFilter),
        ] {
            let error = TextTemplate::parse(text).unwrap_err();
            assert_eq!(error, TemplateError { line, column, kind }, "{text}");
        }
    }

    #[test]
    fn messages_say_what_to_write() {
        let message = |text| TextTemplate::parse(text).unwrap_err().to_string();
        assert_eq!(
            message("hunter2 {{"),
            "line 1, column 9: unclosed {{; to write a literal {{, use {{ \"{{\" }}"
        );
        assert_eq!(
            message("{{ hunter2! }}"),
            "line 1, column 1: expected {{ key }} or {{ key | filter }}"
        );
        let template = TextTemplate::parse("{{ a }}\n{{ b }}{{ c }}").unwrap();
        let error = template.unknown_key(|key| key == "a").unwrap();
        assert_eq!(error.to_string(), "line 2, column 1: there is no sealed value with the key b");
        assert_eq!(template.unknown_key(|_| true), None);
    }

    #[test]
    fn a_probe_stands_for_every_rendering() {
        let probe = |text| TextTemplate::parse(text).unwrap().json_probe();
        assert_eq!(probe("{{ a | json }}: \"{{ a | b64encode }}\"").unwrap(), "\"z\": \"z\"");
        let error = probe("{\n{{ a }}").unwrap_err();
        assert_eq!((error.line, error.kind), (2, TemplateErrorKind::PlainInJson));
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = TextTemplate::parse(&text);
        }

        #[test]
        fn parse_of_template_like_text_never_panics(text in "([{}|\"a ä\n]|json|\\{\\{|\\}\\})*") {
            if let Ok(template) = TextTemplate::parse(&text) {
                template.render(&BTreeMap::new());
            }
        }

        #[test]
        fn text_without_placeholders_is_unchanged(text in any::<String>()) {
            prop_assume!(!text.contains(OPEN));
            let template = TextTemplate::parse(&text).unwrap();
            prop_assert_eq!(&**template.render(&BTreeMap::new()), text.as_bytes());
        }

        #[test]
        fn any_text_can_be_written(text in any::<String>()) {
            let written = text.replace(OPEN, "{{ \"{{\" }}");
            let template = TextTemplate::parse(&written).unwrap();
            prop_assert_eq!(&**template.render(&BTreeMap::new()), text.as_bytes());
        }

        #[test]
        fn json_is_read_back(value in any::<Vec<u8>>()) {
            let rendered = render("{{ a | json }}", &value);
            let read: String = serde_json::from_slice(&rendered).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&value));
        }

        #[test]
        fn the_longest_rendering_is_known_from_lengths(value in any::<Vec<u8>>()) {
            for text in ["{{ a }}", "{{ a | b64encode }}", "{{ a | json }}x", "{{ a | urlencode }}{{ a }}"] {
                let template = TextTemplate::parse(text).unwrap();
                let rendered = template.render(&values([("a", &value[..])]));
                prop_assert!(rendered.len() <= template.max_len(|_| value.len()));
            }
        }
    }
}
