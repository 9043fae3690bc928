//! Keys as they stand in a file, to be pointed at.

use std::ops::Range;

use crate::manifest::tree::Step;
use crate::manifest::{ManifestFile, Object};

/// A key in a file. Lines and columns are counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) columns: Range<usize>,
    /// As it is spelt, with its quotes if it has some.
    pub(crate) token: String,
    /// How many steps lead to it.
    pub(crate) depth: usize,
}

impl Object<'_> {
    /// The last key of `path` that there is.
    pub(crate) fn mark(&self, path: &[Step<'_>]) -> Option<Mark> {
        let text = self.document.source.text.as_str();
        (1..=path.len()).rev().find_map(|depth| {
            let Step::Key(key) = path[depth - 1] else { return None };
            let found = self.document.offset(&self.steps_of(&path[..depth]))?;
            let token = token_at(text, found, key)?;
            let line_start = text[..token.start].rfind('\n').map_or(0, |newline| newline + 1);
            let line = text[..token.start].bytes().filter(|byte| *byte == b'\n').count() + 1;
            let column = text[line_start..token.start].chars().count() + 1;
            let columns = column..column + text[token.clone()].chars().count();
            Some(Mark { line, columns, token: text[token].to_owned(), depth })
        })
    }
}

impl ManifestFile {
    /// The lines of each document, with the comments before it; the end is exclusive.
    pub(crate) fn lines(&self) -> Vec<Range<usize>> {
        let text = self.text();
        let (mut offset, mut line) = (0, 1);
        let mut line_of = |end: usize| {
            line += text[offset..end].bytes().filter(|byte| *byte == b'\n').count();
            offset = end;
            line
        };
        let documents = self.documents.iter().map(|document| {
            let range = document.range();
            let start = line_of(range.start);
            let end = line_of(range.end);
            start..if text[..range.end].ends_with('\n') { end } else { end + 1 }
        });
        documents.collect()
    }
}

/// The key that begins at `found`, as in YAML, or ends there, as in JSON. Where neither is so the key is not there.
fn token_at(text: &str, found: usize, key: &str) -> Option<Range<usize>> {
    let rest = text.get(found..)?;
    let quoted = [format!("\"{key}\""), format!("'{key}'")];
    if let Some(quoted) = quoted.iter().find(|quoted| rest.starts_with(*quoted)) {
        return Some(found..found + quoted.len());
    }
    // In a plain key, what follows it must be the colon.
    if rest.starts_with(key) && rest[key.len()..].trim_start_matches(' ').starts_with(':') {
        return Some(found..found + key.len());
    }
    let end = found + 1;
    let start = text.get(..end)?.strip_suffix(&quoted[0])?.len();
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::files::input::Input;

    fn file(text: &str) -> ManifestFile {
        let input = Input { name: "f".into(), bytes: Zeroizing::new(text.into()) };
        ManifestFile::parse(input).unwrap()
    }

    fn mark(text: &str, path: &[&str]) -> Option<(usize, Range<usize>, String, usize)> {
        let file = file(text);
        let objects = file.objects().unwrap();
        let path: Vec<_> = path.iter().map(|key| Step::Key(key)).collect();
        let mark = objects.last().unwrap().mark(&path)?;
        Some((mark.line, mark.columns, mark.token, mark.depth))
    }

    #[test]
    fn keys_are_found_in_every_style() {
        let path = ["data", "key"];
        for (text, line, columns, token) in [
            ("data:\n  key: 1\n", 4, 3..6, "key"),
            ("data:\n  \"key\" : 1\n", 4, 3..8, "\"key\""),
            ("data: {ä: 1, 'key': 1}\n", 3, 14..19, "'key'"),
            ("data: {ä: 1, \"key\": 1}\n", 3, 14..19, "\"key\""),
        ] {
            let text = format!("apiVersion: v1\nkind: Secret\n{text}");
            assert_eq!(mark(&text, &path), Some((line, columns, token.to_owned(), 2)), "{text}");
        }
        let json =
            "{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n  \"data\": {\"ä\": 1, \"key\": 1}}";
        assert_eq!(mark(json, &path), Some((2, 20..25, "\"key\"".to_owned(), 2)));
        let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n{json}]}}");
        assert_eq!(mark(&list, &path), Some((3, 20..25, "\"key\"".to_owned(), 2)));
    }

    #[test]
    fn what_is_not_there_is_looked_for_further_out() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  namespace: x\n";
        assert_eq!(mark(text, &["metadata", "name"]).unwrap(), (3, 1..9, "metadata".to_owned(), 1));
        assert_eq!(mark(text, &["spec", "a"]), None);
    }

    #[test]
    fn documents_have_their_lines() {
        let text = "# c\n---\na: 1\n---\n# d\nb: 1\n---\n---\nc: 1";
        assert_eq!(file(text).lines(), [1..4, 4..7, 8..10]);
        assert_eq!(file("{\"a\": 1}\n{\"b\":\n1}\n").lines(), [1..2, 2..4]);
    }
}
