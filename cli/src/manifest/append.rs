//! Documents added behind those of a file, of which every byte stays.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::manifest::edit::{ManifestFile, NotEdited};
use crate::manifest::{Document, write};

impl ManifestFile {
    /// Whether the file ends in JSON, behind which no YAML can stand.
    pub(crate) fn is_json(&self) -> bool {
        self.documents.last().is_some_and(Document::is_json)
    }

    /// The file with more documents at its end, in block style and with its line ends.
    pub(crate) fn appended(&self, values: &[Value]) -> Result<Zeroizing<Vec<u8>>, NotEdited> {
        let text = self.text();
        let line_break = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let yaml = write::to_yaml(values);
        let added = str::from_utf8(&yaml).map_err(|_| NotEdited)?.replace('\n', line_break);
        let added = Zeroizing::new(added);
        let bytes = self.with_mark(text.len() + added.len() + 8, |bytes| {
            bytes.extend(text.as_bytes());
            if !text.ends_with('\n') {
                bytes.extend(line_break.as_bytes());
            }
            bytes.extend(b"---");
            bytes.extend(line_break.as_bytes());
            bytes.extend(added.as_bytes());
        });
        let again = Input { name: String::new(), bytes: bytes.clone() };
        let again = Self::parse(again).map_err(|_| NotEdited)?;
        let expected = self.documents.iter().map(|document| document.value()).chain(values);
        match again.documents.iter().map(|document| document.value()).eq(expected) {
            true => Ok(bytes),
            false => Err(NotEdited),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(text: &str) -> ManifestFile {
        ManifestFile::parse(Input { name: "f".into(), bytes: Zeroizing::new(text.into()) }).unwrap()
    }

    fn appended(text: &str) -> Result<String, NotEdited> {
        let bytes = file(text).appended(&[json!({"b": "x"}), json!({"c": {"d": "z"}})])?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn every_byte_stays_before_the_new_documents() {
        const ADDED: &str = "---\nb: x\n---\nc:\n  d: z\n";
        for (text, between) in [
            ("a: 1\n", ""),
            ("a: 1 # c", "\n"),
            ("# c\na: 1\n\n# end\n", ""),
            ("a: 1\n...\n", ""),
            ("a: 1\n---\n# nothing\n", ""),
            ("a: |\n  x\n\n", ""),
            ("\u{feff}a: 1\n", ""),
            ("{\"a\": 1}\n", ""),
        ] {
            assert_eq!(appended(text), Ok(format!("{text}{between}{ADDED}")));
            let [text, between, added] =
                [text, between, ADDED].map(|part| part.replace('\n', "\r\n"));
            if text.contains('\n') {
                assert_eq!(appended(&text), Ok(format!("{text}{between}{added}")));
            }
        }
        assert!(file("{\"a\": 1}\n").is_json() && !file("{a: 1}\n").is_json());
    }

    #[test]
    fn a_text_that_would_change_is_not_added_to() {
        assert_eq!(appended("a: |+\n  x"), Err(NotEdited));
    }
}
