//! A line of a file that is safe to show: assembled from public parts, never copied.

use std::ops::Range;

use bulla_crds::SEALED_PREFIX;
use serde_json::Value;

use crate::manifest::{self, Mark, Step};
use crate::report::escape;

/// How much of a public text is shown.
const MAX_TEXT_CHARS: usize = 60;

/// How much of a sealed value is shown.
const SEALED_CHARS: usize = 12;

/// How far to the right the shown part of a line may begin. A file may be one line with many findings.
const MAX_COLUMN: usize = 1000;

const MASK: &str = "***";

/// One line, and the part of it that the finding is about, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownLine {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl ShownLine {
    /// The line of a key, unless it is too far to the right. Its value is shown if it identifies the object, and
    /// its beginning if it is sealed.
    pub(super) fn of_key(mark: &Mark, object: &Value, path: &[Step<'_>]) -> Option<Self> {
        let path = &path[..mark.depth];
        let value = match path.iter().try_fold(object, |value, step| step.of(value)) {
            None | Some(Value::Array(_) | Value::Object(_)) => String::new(),
            Some(Value::String(text)) if is_sealed(text, path) => {
                format!(" {}…", text.chars().take(SEALED_CHARS).collect::<String>())
            }
            Some(Value::String(text)) if is_public(path) => {
                let mut shown: String = text.chars().take(MAX_TEXT_CHARS).collect();
                if shown.len() < text.len() {
                    shown.push('…');
                }
                format!(" {}", escape::line(&shown))
            }
            Some(_) => format!(" {MASK}"),
        };
        Self::new(mark.columns.start, &escape::line(&mark.token), &format!(":{value}"))
    }

    /// The line of a field, without its value.
    pub(super) fn of_field(mark: &Mark) -> Option<Self> {
        Self::new(mark.columns.start, &escape::line(&mark.token), ":")
    }

    /// The line of an identity, which is masked.
    pub(super) fn of_identity(column: usize, prefix: &str) -> Option<Self> {
        Self::new(column, &format!("{prefix}{MASK}"), "")
    }

    fn new(column: usize, token: &str, rest: &str) -> Option<Self> {
        if column > MAX_COLUMN {
            return None;
        }
        // The text before it can be plaintext, so it is replaced by as many blanks.
        let before = " ".repeat(column - 1);
        let span = before.len()..before.len() + token.len();
        Some(Self { text: format!("{before}{token}{rest}"), span })
    }
}

fn is_sealed(text: &str, path: &[Step<'_>]) -> bool {
    let is_value =
        matches!(path, [.., Step::Key(key)] if *path == manifest::sealed_value_steps(key));
    is_value && text.starts_with(SEALED_PREFIX)
}

fn is_public(path: &[Step<'_>]) -> bool {
    matches!(
        path,
        [Step::Key("apiVersion" | "kind")]
            | [Step::Key("metadata"), Step::Key("name" | "namespace" | "generateName")]
    )
}

#[cfg(test)]
mod tests {
    use bulla_crds::sealed_value_path;
    use serde_json::json;

    use super::*;

    fn shown(column: usize, object: &Value, path: &[&str]) -> String {
        let token = (*path.last().unwrap()).to_owned();
        let mark = Mark { line: 1, columns: column..column + 1, token, depth: path.len() };
        let path: Vec<_> = path.iter().map(|key| Step::Key(key)).collect();
        let shown = ShownLine::of_key(&mark, object, &path).unwrap();
        assert_eq!(&shown.text[shown.span.clone()], escape::line(&mark.token));
        shown.text
    }

    #[test]
    fn only_what_is_public_is_shown() {
        let sealed = format!("{SEALED_PREFIX}BzdHJpY3Q");
        let object = json!({
            "kind": "SealedSecret",
            "metadata": {"name": "d\u{1b}b", "labels": {"a": "hunter2"}},
            "data": {"a": "hunter2", "b": sealed},
            "spec": {"sealedData": {"a": "hunter2", "b": sealed, "c\u{202e}": 7}},
        });
        for (column, path, text) in [
            (1, &["kind"][..], "kind: SealedSecret"),
            (3, &["metadata", "name"], "  name: d\\u{1b}b"),
            (1, &["metadata", "labels"], "labels:"),
            (1, &["metadata", "labels", "a"], "a: ***"),
            (1, &["data", "a"], "a: ***"),
            (1, &["data", "b"], "b: ***"),
            (1, &sealed_value_path("a"), "a: ***"),
            (1, &sealed_value_path("b"), "b: YWdlLWVuY3J5…"),
            (1, &sealed_value_path("c\u{202e}"), "c\\u{202e}: ***"),
            (7, &["data", "a"], "      a: ***"),
        ] {
            assert_eq!(shown(column, &object, path), text);
        }
        let identity = |column| ShownLine::of_identity(column, "AGE-SECRET-KEY-");
        assert_eq!(identity(3).unwrap().text, "  AGE-SECRET-KEY-***");
        assert_eq!(identity(MAX_COLUMN + 1), None);
    }
}
