//! The findings of `bulla lint`, and their places.

use std::ops::Range;

use serde_json::{Value, json};

use crate::commands::lint::rule::{Level, Rule};
use crate::commands::lint::shown::ShownLine;
use crate::manifest::{self, Mark, Object, Position, Step};
use crate::report::{escape, output};

/// How many findings a file may have before its check ends.
pub(super) const MAX_FINDINGS: usize = 1000;

/// Where a finding is: a file, and the known position in it. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FindingPlace {
    pub(super) file: String,
    pub(super) document: Option<usize>,
    pub(super) item: Option<usize>,
    pub(super) line: usize,
    /// The part of the line that it is about.
    pub(super) columns: Option<Range<usize>>,
}

impl FindingPlace {
    /// Narrows it down to a key.
    pub(super) fn point_at(&mut self, mark: &Mark) {
        self.line = mark.line;
        self.columns = Some(mark.columns.clone());
    }

    /// A line of a file.
    pub(super) fn line(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), document: None, item: None, line, columns: None }
    }
}

impl From<Position> for FindingPlace {
    fn from(position: Position) -> Self {
        Self {
            file: position.file,
            document: Some(position.document).filter(|document| *document > 0),
            item: position.item,
            line: position.line,
            columns: position.column.map(|column| column..column + 1),
        }
    }
}

/// One finding, and its place.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) place: FindingPlace,
    /// `namespace/name` of the object, if it is about one.
    pub(super) object: Option<String>,
    /// The data key that it is about, if it is about one.
    pub(super) key: Option<String>,
    pub(super) message: String,
    /// The line, in a form that can be shown.
    pub(super) shown: Option<ShownLine>,
    /// The reason why it is allowed.
    pub(super) allowed: Option<String>,
    /// Whether it is an error here, whatever its rule says.
    pub(super) is_raised: bool,
}

impl Finding {
    /// About a place and no object.
    pub(super) fn at(rule: Rule, place: FindingPlace, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            rule,
            place,
            object: None,
            key: None,
            message,
            shown: None,
            allowed: None,
            is_raised: false,
        }
    }

    /// About a field of bulla.yaml, or about all of it.
    pub(super) fn of_field(
        rule: Rule,
        file: &str,
        mark: Option<&Mark>,
        message: impl Into<String>,
    ) -> Self {
        let mut place = FindingPlace::line(file, 1);
        if let Some(mark) = mark {
            place.point_at(mark);
        }
        Self { shown: mark.and_then(ShownLine::of_field), ..Self::at(rule, place, message) }
    }

    /// About a place in an object.
    pub(super) fn in_object(
        object: &Object<'_>,
        rule: Rule,
        path: &[Step<'_>],
        key: Option<&str>,
        message: impl Into<String>,
    ) -> Self {
        let mark = object.mark(path);
        let mut place =
            FindingPlace::from(object.position(if mark.is_some() { &[] } else { path }));
        if let Some(mark) = &mark {
            place.point_at(mark);
        }
        Self {
            object: Some(object.title()),
            key: key.map(str::to_owned),
            shown: mark.and_then(|mark| ShownLine::of_key(&mark, object.value, path)),
            ..Self::at(rule, place, message)
        }
    }

    /// About a sealed value of an object.
    pub(super) fn of_value(
        object: &Object<'_>,
        rule: Rule,
        key: &str,
        message: impl Into<String>,
    ) -> Self {
        let path = manifest::sealed_value_steps(key);
        Self::in_object(object, rule, &path, Some(key), message)
    }

    pub(super) fn level(&self) -> Level {
        if self.is_raised { Level::Error } else { self.rule.level() }
    }

    /// `document 2, item 1, prod/db, key password: MESSAGE`.
    pub(super) fn sentence(&self) -> String {
        let FindingPlace { document, item, .. } = &self.place;
        let parts = [
            document.map(|document| format!("document {document}")),
            item.map(|item| format!("item {item}")),
            self.object.clone(),
            self.key.as_ref().map(|key| format!("key {key}")),
        ];
        let place = output::list(parts.into_iter().flatten());
        let separator = if place.is_empty() { "" } else { ": " };
        format!("{place}{separator}{}", self.message)
    }

    /// `FILE:LINE:COLUMN: LEVEL: document 2, prod/db, key password: MESSAGE [RULE]`.
    pub(super) fn to_line(&self) -> String {
        let FindingPlace { file, line, columns, .. } = &self.place;
        let column = columns.as_ref().map(|columns| format!(":{}", columns.start));
        let column = column.unwrap_or_default();
        let (level, sentence) = (self.level().as_str(), self.sentence());
        let text = format!("{file}:{line}{column}: {level}: {sentence} [{}]", self.rule);
        escape::line(&text) + "\n"
    }

    pub(super) fn to_json(&self) -> Value {
        let columns = self.place.columns.as_ref();
        let mut json = json!({
            "rule": self.rule.id(),
            "level": self.level().as_str(),
            "file": self.place.file,
            "document": self.place.document,
            "item": self.place.item,
            "line": self.place.line,
            "column": columns.map(|columns| columns.start),
            "endColumn": columns.map(|columns| columns.end),
            "object": self.object,
            "key": self.key,
            "message": self.message,
            "hint": self.rule.hint(),
        });
        if let Some(reason) = &self.allowed {
            json["reason"] = escape::line(reason).into();
        }
        json
    }
}
