//! Searches the text of any file for identities, and for words that mark a manifest.

use bulla_sealing::KeyType;
use memchr::memmem;
use zeroize::Zeroizing;

use crate::commands::lint::finding::{Finding, FindingPlace, MAX_FINDINGS};
use crate::commands::lint::rule::Rule;
use crate::commands::lint::shown::ShownLine;

/// The prefixes of the two types of identities, which also distinguish them.
const PREFIXES: [(&str, KeyType); 2] =
    [("AGE-SECRET-KEY-PQ-1", KeyType::Hybrid), ("AGE-SECRET-KEY-1", KeyType::X25519)];

/// An identity has 58 digits after its prefix. A shortened one is still too much to show.
const MIN_DIGITS: usize = 40;

/// The digits of Bech32.
const DIGITS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// How many bytes Git checks to tell text from binary.
const BINARY_BYTES: usize = 8000;

/// A place in a text, both counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Finds one place after another, each after the last, in one pass over the text.
pub(super) struct Spots<'a> {
    text: &'a [u8],
    offset: usize,
    spot: Spot,
}

impl<'a> Spots<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { text, offset: 0, spot: Spot { line: 1, column: 1 } }
    }

    /// The place of `offset`, which must not be before the last one.
    pub(super) fn at(&mut self, offset: usize) -> Spot {
        let between = &self.text[self.offset..offset];
        let last_line = match memchr::memrchr(b'\n', between) {
            Some(newline) => {
                self.spot.line += memchr::memchr_iter(b'\n', between).count();
                self.spot.column = 1;
                &between[newline + 1..]
            }
            None => between,
        };
        self.spot.column += String::from_utf8_lossy(last_line).chars().count();
        self.offset = offset;
        self.spot
    }
}

/// The content of a UTF-16 text, as some editors and shells write it.
pub(super) fn from_utf16(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let decode: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = bytes[2..].as_chunks().0.iter().map(|pair| decode(*pair));
    let units: Zeroizing<Vec<u16>> = Zeroizing::new(units.collect());
    Some(Zeroizing::new(String::from_utf16_lossy(&units).into_bytes()))
}

/// Whether the file is binary, by Git's rule.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(BINARY_BYTES)].contains(&0)
}

/// How far before a word its key or tag is searched: a text may be one line of such words.
const MAX_LOOKED_AT: usize = 64;

/// Every age identity in a text, up to the limit.
pub(super) fn identities(file: &str, text: &[u8]) -> Vec<Finding> {
    const START: &[u8] = b"AGE-SECRET-KEY-";
    let mut findings = Vec::new();
    let upper = memmem::find_iter(text, START);
    let lower = START.to_ascii_lowercase();
    let mut offsets: Vec<_> = upper.chain(memmem::find_iter(text, &lower)).collect();
    offsets.sort_unstable();
    let mut spots = Spots::of(text);
    for offset in offsets {
        let rest = &text[offset..];
        let is_it = |prefix: &str| {
            rest.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let Some((prefix, key_type)) = PREFIXES.iter().find(|(prefix, _)| is_it(prefix)) else {
            continue;
        };
        let is_digit = |byte: &&u8| DIGITS.contains(&byte.to_ascii_lowercase());
        let digits = rest[prefix.len()..].iter().take_while(is_digit).count();
        if digits < MIN_DIGITS {
            continue;
        }
        let Spot { line, column } = spots.at(offset);
        let end = column + prefix.len() + digits;
        let what = match key_type {
            KeyType::Hybrid => "a plaintext post-quantum age identity",
            KeyType::X25519 => "a plaintext age identity",
        };
        let place = FindingPlace { columns: Some(column..end), ..FindingPlace::line(file, line) };
        let shown = ShownLine::of_identity(column, prefix);
        findings.push(Finding { shown, ..Finding::at(Rule::AgeIdentity, place, what) });
        if findings.len() >= MAX_FINDINGS {
            break;
        }
    }
    findings
}

/// Whether a manifest may hold anything to check. Escapes and tags can spell any word.
pub(super) fn is_worth_reading(text: &[u8]) -> bool {
    let words =
        [bulla_crds::GROUP, "Secret", "secretGenerator", "\\", "binary", "patch", "kind: {{"];
    words.iter().any(|word| memmem::find(text, word.as_bytes()).is_some())
}

/// Words of a manifest, and the place of the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// `bulla.dev/` or `kind: Secret`, and its line.
    pub(super) mention: Option<(&'static str, usize)>,
    /// Whether the kind may be Secret, so that it matters that the file cannot be read.
    pub(super) has_secret: bool,
    /// Whether it has placeholders of a template language.
    pub(super) has_placeholders: bool,
}

impl Words {
    pub(super) fn of(text: &[u8]) -> Self {
        let plain = unescaped(text);
        let text = plain.as_deref().map_or(text, Vec::as_slice);
        let group = memmem::find(text, format!("{}/", bulla_crds::GROUP).as_bytes());
        let kind = memmem::find_iter(text, "Secret").find(|offset| {
            is_kind(text, *offset) && !text.get(offset + 6).is_some_and(u8::is_ascii_alphanumeric)
        });
        let templated = memmem::find_iter(text, "{{").find(|offset| is_kind(text, *offset));
        let tagged = memmem::find_iter(text, "binary").find(|offset| is_tag(text, *offset));
        let first = group.map(|group| ("bulla.dev/", group));
        let first = first.or(kind.map(|kind| ("kind: Secret", kind)));
        let first = first.or(templated.map(|kind| ("a kind that is a placeholder", kind)));
        let first = first.or(tagged.map(|tag| ("a text with the tag !!binary", tag)));
        let mention = first.map(|(word, offset)| (word, Spots::of(text).at(offset).line));
        let has_secret = kind.or(templated).or(tagged).is_some();
        Self { mention, has_secret, has_placeholders: is_template(text) }
    }
}

/// Whether the word at `offset` is the end of a tag, such as `!!binary` or `!<tag:yaml.org,2002:binary>`.
fn is_tag(text: &[u8], offset: usize) -> bool {
    let before = &text[offset.saturating_sub(MAX_LOOKED_AT)..offset];
    let start = before.iter().rposition(|byte| byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let token = &before[start..];
    let end = text.get(offset + "binary".len()).copied().unwrap_or(b' ');
    let begins = token.iter().position(|byte| *byte == b'!');
    begins.is_some_and(|begins| begins == 0 || b",[{:".contains(&token[begins - 1]))
        && (token.ends_with(b"!") || token.ends_with(b":"))
        && (end.is_ascii_whitespace() || end == b'>')
}

/// The text with the escapes of YAML and JSON for letters in place, and lines that a backslash joins. `None` if it has
/// no backslash.
fn unescaped(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    memchr::memchr(b'\\', text)?;
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        let digits = match rest.get(at + 1) {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => 0,
        };
        let hex = rest.get(at + 2..at + 2 + digits).and_then(|hex| str::from_utf8(hex).ok());
        let letter = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let letter = letter.filter(|_| digits > 0).and_then(|code| u8::try_from(code).ok());
        if let Some(letter) = letter.filter(u8::is_ascii_graphic) {
            plain.push(letter);
            rest = &rest[at + 2 + digits..];
        } else if let Some(joined) = joined_line(&rest[at + 1..]) {
            rest = joined;
        } else {
            plain.push(b'\\');
            rest = &rest[at + 1..];
        }
    }
    plain.extend_from_slice(rest);
    Some(plain)
}

/// What follows a line end and the blanks after it, if a line ends here.
fn joined_line(rest: &[u8]) -> Option<&[u8]> {
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest).strip_prefix(b"\n")?;
    Some(rest.trim_ascii_start())
}

/// Whether a line or a value begins with a placeholder of a template language. A quoted placeholder can be a text of
/// `template.data`, and a Git conflict is reported as such.
fn is_template(text: &[u8]) -> bool {
    const OPENINGS: [&[u8]; 3] = [b"{{", b"{%", b"<%"];
    let is_placeholder = |line: &[u8]| {
        let line = line.trim_ascii_start();
        OPENINGS.iter().any(|opening| line.starts_with(opening))
            || memmem::find(line, b": {{").is_some()
    };
    let is_conflict = |line: &[u8]| line.starts_with(b"<<<<<<< ");
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.clone().any(is_placeholder) && !lines.any(is_conflict)
}

/// Whether the word at `offset` begins the value of a key `kind`.
fn is_kind(text: &[u8], offset: usize) -> bool {
    fn without_quote(text: &[u8]) -> &[u8] {
        text.strip_suffix(b"\"").or(text.strip_suffix(b"'")).unwrap_or(text)
    }
    let before = &text[offset.saturating_sub(MAX_LOOKED_AT)..offset];
    let before = before.rsplit(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    let key = without_quote(before).trim_ascii_end().strip_suffix(b":");
    key.is_some_and(|key| without_quote(key.trim_ascii_end()).ends_with(b"kind"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const X25519: &str = "AGE-SECRET-KEY-1";

    fn found(text: &[u8]) -> Vec<(usize, usize)> {
        let utf16 = from_utf16(text);
        let findings = identities("f", utf16.as_deref().map_or(text, Vec::as_slice));
        findings
            .iter()
            .map(|finding| (finding.place.line, finding.place.columns.clone().unwrap().start))
            .collect()
    }

    #[test]
    fn identities_are_found_anywhere_in_a_text() {
        let identity = format!("{X25519}{}", "Q".repeat(58));
        let hybrid = format!("AGE-SECRET-KEY-PQ-1{}", "Z".repeat(58));
        let text = format!("# ä\nä key: {identity}\n{hybrid} {}\n", identity.to_lowercase());
        assert_eq!(found(text.as_bytes()), [(2, 8), (3, 1), (3, 79)]);
        let utf16: Vec<u8> =
            format!("\u{feff}{identity}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(found(&utf16), [(1, 1)]);
        let utf16: Vec<u8> =
            format!("\u{feff}a\n{identity}").encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(found(&utf16), [(2, 1)]);
        for harmless in ["AGE-SECRET-KEY-1…", "AGE-SECRET-KEY-1QQQQQQQQ", "AGE-SECRET-KEY-"] {
            assert_eq!(found(harmless.as_bytes()), []);
        }
        assert!(is_binary(b"a\0b") && !is_binary(b""));
    }

    #[test]
    fn the_kind_of_a_secret_is_recognised_in_any_spelling() {
        for text in [
            "kind: Secret",
            "kind : \"Secret\"",
            "\"kind\":\"Secret\",",
            "'kind': 'Secret'",
            r#"kind: "\x53ecret""#,
            r#""\u006bind": "\u0053\U00000065cret""#,
            "kind: \"Sec\\\n  ret\"",
        ] {
            assert_eq!(Words::of(text.as_bytes()).mention, Some(("kind: Secret", 1)), "{text}");
        }
        for text in ["kind: SecretStore", "Secret", "a: Secret", "kind:\n  Secret", ": Secret"] {
            assert_eq!(Words::of(text.as_bytes()).mention, None, "{text}");
        }
        for text in ["kind: !!binary U2VjcmV0", "{kind: !<tag:yaml.org,2002:binary> U2VjcmV0}"] {
            assert!(Words::of(text.as_bytes()).has_secret, "{text}");
        }
        assert!(!Words::of(b"a: binary\nb: wow!binary\n").has_secret);
        assert!(Words::of(b"kind: {{ .Values.kind }}\n").has_secret);
        let text = b"a: {{ b }}\napiVersion: bulla.dev/v1alpha1\n";
        let words = Words::of(text);
        assert_eq!(words.mention, Some(("bulla.dev/", 2)));
        assert!(words.has_placeholders && is_worth_reading(text));
        for text in ["a: \"{{ b }}\"\n", "<<<<<<< HEAD\na: {{ b }}\n", "a: {b: {}}\n"] {
            assert!(!Words::of(text.as_bytes()).has_placeholders, "{text}");
        }
    }
}
