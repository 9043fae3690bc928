//! What `git diff` and `git log -p` show in place of a sealed value, which is unreadable.
//!
//! Each value becomes one short line with what is known without a key. The rest of the file is unchanged, whatever
//! it is: Git asks for every version that ever existed.

use std::path::Path;

use bulla_crds::{ParsedValue, SEALED_PREFIX};
use bulla_sealing::digest;

use crate::files::input;
use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// Prints a file with its sealed values made readable.
pub(super) fn run(file: &Path) -> Result<Answer, Failure> {
    output::stdout(&readable(&input::read(file)?.bytes))?;
    Ok(Answer::Yes)
}

/// The same text with a summary for each sealed value in it.
fn readable(bytes: &[u8]) -> Vec<u8> {
    let prefix = SEALED_PREFIX.as_bytes();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let mut readable = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = rest.iter().take_while(|byte| is_base64(byte)).count();
        let (word, after) = rest.split_at(length.max(1));
        let summary = (length > 0 && word.starts_with(prefix)).then(|| summary(word)).flatten();
        match summary {
            Some(summary) => readable.extend(summary.as_bytes()),
            None => readable.extend(word),
        }
        rest = after;
    }
    readable
}

/// What is known of a sealed value without a key. The two digests cover all of its bytes, so two values share a
/// summary only if they are equal.
fn summary(value: &[u8]) -> Option<String> {
    let value = ParsedValue::parse(str::from_utf8(value).ok()?).ok()?;
    let fingerprints: Vec<_> =
        value.fingerprints().map(|fingerprint| fingerprint.to_string()).collect();
    Some(format!(
        "sealed({}, {}; value {}, {} bytes; {} {}; header {})",
        value.binding().scope(),
        value.binding(),
        digest(value.payload()),
        value.plaintext_len(),
        value.key_type().as_str(),
        fingerprints.join(" "),
        digest(value.header_bytes()),
    ))
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use bulla_sealing::{Binding, Identity, KeyType, Recipients, Scope, ValueAddress, seal};

    use super::*;

    fn sealed() -> String {
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient();
        let address = ValueAddress::new("prod", "db", "password").unwrap();
        let binding = Binding::new(Scope::Strict, &address);
        let file = seal(b"hunter2", &binding, &Recipients::new(vec![recipient]).unwrap()).unwrap();
        BASE64_STANDARD.encode(file)
    }

    fn shown(text: &str) -> String {
        String::from_utf8(readable(text.as_bytes())).unwrap()
    }

    #[test]
    fn only_sealed_values_are_replaced() {
        let value = sealed();
        let summary = shown(&value);
        assert!(summary.starts_with("sealed(strict, key password of prod/db; value "), "{summary}");
        assert!(summary.contains(", 7 bytes; x25519 ") && summary.len() < 200, "{summary}");
        for around in ["a: VALUE\n", "a: \"VALUE\"\r\n", "{a: VALUE, b: VALUE}", "# é VALUE"] {
            assert_eq!(shown(&around.replace("VALUE", &value)), around.replace("VALUE", &summary));
        }
        assert_eq!(shown(&summary), summary);
        assert_ne!(shown(&sealed()), summary);
    }

    #[test]
    fn other_text_is_unchanged() {
        let cut = &sealed()[..200];
        for text in ["", "a: b\n", "kind: [", SEALED_PREFIX, cut] {
            assert_eq!(readable(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(readable(b"\xff\xfe\0YWdl\n"), b"\xff\xfe\0YWdl\n");
    }
}
