//! What may never be said: the marker, which stands in the values of all Secrets, and identities.

use std::{fmt::Write, sync::LazyLock};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use bulla_sealing::InvalidKey;
use bulla_tests::INJECTED;

/// Stands in every value that tests put into a Secret, unless the value must be one that cannot hold it.
/// Of letters and hyphens, which nothing escapes.
pub(crate) const MARKER: &str = "MARKER-correct-horse-battery-staple";

/// As identities begin.
const IDENTITY: &str = "AGE-SECRET-KEY-";

/// The value with the marker; it stays exactly as it is when it has the marker in it, or nothing at all.
pub(crate) fn marked(value: &str) -> String {
    if value.is_empty() || value.contains(MARKER) {
        return value.to_owned();
    }
    format!("{value}-{MARKER}")
}

/// What was marked.
pub(crate) fn unmarked(value: &str) -> &str {
    value.strip_suffix(MARKER).and_then(|value| value.strip_suffix('-')).unwrap_or(value)
}

/// The value with the marker, as it stands in the `data` of a Secret.
pub(crate) fn in_base64(value: &str) -> String {
    BASE64_STANDARD.encode(marked(value))
}

/// Whether the text has what may never be said.
pub(crate) fn is_in(text: &str) -> bool {
    static NEVER: LazyLock<Words> = LazyLock::new(|| Words::new(&[MARKER, IDENTITY, INJECTED]));
    // This one says only how identities begin.
    NEVER.are_in(&text.replace(&InvalidKey::NotAnIdentity.to_string(), ""))
}

/// Words in all the forms in which they could be said.
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

/// The word as it is, in base64 at any offset, in hexadecimal, and as Rust prints bytes.
fn forms(word: &str) -> Vec<String> {
    let mut forms = vec![word.to_owned()];
    for offset in 0..3 {
        let encoded = BASE64_STANDARD_NO_PAD.encode(format!("{}{word}", " ".repeat(offset)));
        // Less what is spelled otherwise when other bytes stand before or after.
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
fn what_may_never_be_said_is_found_in_all_its_forms() {
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
