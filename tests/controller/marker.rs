//! The texts that a controller must never print: the marker, which is in every secret value, and identities.

use std::{fmt::Write, sync::LazyLock};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use bulla_sealing::InvalidKey;
use bulla_tests::INJECTED;

/// Part of every value that tests put into a Secret, unless the value cannot hold it. It has only letters and hyphens,
/// which no format escapes.
pub(crate) const MARKER: &str = "MARKER-correct-horse-battery-staple";

/// The beginning of every identity.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// The value with the marker. An empty value, or one that has the marker, stays unchanged.
pub(crate) fn marked(value: &str) -> String {
    if value.is_empty() || value.contains(MARKER) {
        return value.to_owned();
    }
    format!("{value}-{MARKER}")
}

/// The value without the marker.
pub(crate) fn unmarked(value: &str) -> &str {
    value.strip_suffix(MARKER).and_then(|value| value.strip_suffix('-')).unwrap_or(value)
}

/// The value with the marker, encoded as in the `data` of a Secret.
pub(crate) fn in_base64(value: &str) -> String {
    BASE64_STANDARD.encode(marked(value))
}

/// Whether the text contains a forbidden text.
pub(crate) fn is_in(text: &str) -> bool {
    static NEVER: LazyLock<Words> = LazyLock::new(|| Words::new(&[MARKER, IDENTITY, INJECTED]));
    // This error only says how identities begin.
    NEVER.are_in(&text.replace(&InvalidKey::NotAnIdentity.to_string(), ""))
}

/// Words in all forms in which a program could print them.
pub(crate) struct Words(Vec<String>);

impl Words {
    pub(crate) fn new(words: &[&str]) -> Self {
        let in_any_case =
            |word: &&str| [(*word).to_owned(), word.to_lowercase(), word.to_uppercase()];
        Self(words.iter().flat_map(in_any_case).flat_map(|word| forms(&word)).collect())
    }

    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.0.iter().any(|form| text.contains(form))
    }
}

/// The plain word, in base64 at any offset, in hexadecimal, and as Rust prints bytes.
fn forms(word: &str) -> Vec<String> {
    let mut forms = vec![word.to_owned()];
    for offset in 0..3 {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{}{word}", " ".repeat(offset)));
        // Without the characters that depend on the bytes before and after.
        let first = (offset * 8).div_ceil(6);
        let last = (offset + word.len()) * 8 / 6;
        forms.push(encoded[first..last].to_owned());
    }
    let mut hexadecimal = String::new();
    for byte in word.bytes() {
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    forms.extend([hexadecimal.to_uppercase(), hexadecimal]);
    let bytes = format!("{:?}", word.as_bytes());
    forms.push(bytes.trim_matches(['[', ']']).to_owned());
    forms
}

#[test]
fn forbidden_texts_are_found_in_all_their_forms() {
    let spelled = [MARKER, "AGE-SECRET-KEY-PQ-1QQQ", "age-secret-key-1qqq", INJECTED];
    for word in spelled {
        for before in ["", ".", ".."] {
            let text = format!("{before}{word}, and more");
            let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            for said in [
                format!("{text:?}"),
                BASE64_STANDARD.encode(&text),
                BASE64_STANDARD_NO_PAD.encode(&text),
                hexadecimal.to_uppercase(),
                hexadecimal,
                format!("{:?}", text.as_bytes()),
            ] {
                assert!(is_in(&said), "{said}");
                assert!(is_in(&format!("a line\nbefore {said}\nand after")), "{said}");
                assert!(is_in(&format!("metric{{label=\"{said}\"}} 1\n# EOF\n")), "{said}");
            }
        }
    }
    for harmless in ["", "marker", "SECRET-KEY", &InvalidKey::NotAnIdentity.to_string()] {
        assert!(!is_in(harmless), "{harmless}");
    }
}
