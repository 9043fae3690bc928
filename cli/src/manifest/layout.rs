//! Where the fields of a document are in its text, and how they are written there.

use std::ops::Range;

use serde_json::Value;
use yamlpath::{Component, Document as Yaml, Route};
use zeroize::Zeroizing;

use crate::manifest::edit::NotEdited;
use crate::manifest::write;

/// The text of one document and its tree, which say the same.
pub(crate) struct Layout<'a> {
    pub(crate) text: &'a str,
    pub(crate) yaml: &'a Yaml,
    pub(crate) tree: &'a Value,
}

/// How a mapping is written.
pub(crate) enum Style {
    /// One key on a line, indented by this much.
    Block(usize),
    /// In braces.
    Flow,
}

/// A new text for a part of the old one.
pub(crate) struct Edit {
    pub(crate) range: Range<usize>,
    pub(crate) new: Zeroizing<String>,
}

pub(crate) fn edit(range: Range<usize>, new: &[&str]) -> Edit {
    let mut text = Zeroizing::new(String::with_capacity(new.iter().map(|part| part.len()).sum()));
    text.extend(new.iter().copied());
    Edit { range, new: text }
}

pub(crate) fn child<'a>(value: &'a Value, step: &Component<'_>) -> Option<&'a Value> {
    match step {
        Component::Key(key) => value.get(&**key),
        Component::Index(index) => value.get(index),
    }
}

fn route<'a>(path: &[Component<'a>]) -> Route<'a> {
    Route::from(path.to_vec())
}

impl<'a> Layout<'a> {
    pub(crate) fn value_at(&self, path: &[Component<'_>]) -> Option<&'a Value> {
        path.iter().try_fold(self.tree, child)
    }

    /// Where a value is, if its key has one. What follows it may be included: blanks and comments.
    pub(crate) fn range_of(
        &self,
        path: &[Component<'_>],
    ) -> Result<Option<Range<usize>>, NotEdited> {
        let span = match path.is_empty() {
            true => Some(self.yaml.top_feature().map_err(|_| NotEdited)?),
            false => self.yaml.query_exact(&route(path)).map_err(|_| NotEdited)?,
        };
        Ok(span.map(|feature| feature.location.byte_span.0..feature.location.byte_span.1))
    }

    pub(crate) fn key_of(&self, path: &[Component<'_>]) -> Result<Range<usize>, NotEdited> {
        let key = self.yaml.query_key_only(&route(path)).map_err(|_| NotEdited)?;
        Ok(key.location.byte_span.0..key.location.byte_span.1)
    }

    /// Behind the colon of a key.
    pub(crate) fn colon_of(&self, key: &Range<usize>) -> Result<usize, NotEdited> {
        Ok(key.end + self.text[key.end..].find(':').ok_or(NotEdited)? + 1)
    }

    /// Where a value ends, before comments that belong to what comes next.
    pub(crate) fn end_of(&self, path: &[Component<'_>], value: &Value) -> Result<usize, NotEdited> {
        let Some(range) = self.range_of(path)? else {
            return self.colon_of(&self.key_of(path)?);
        };
        let end_of = |step: Component<'_>, value: &Value| {
            let path: Vec<_> = path.iter().cloned().chain([step]).collect();
            self.end_of(&path, value)
        };
        let ends: Vec<_> = match value {
            Value::Object(map) if self.is_block(&range) => map
                .iter()
                .map(|(key, value)| end_of(key.as_str().into(), value))
                .collect::<Result<_, _>>()?,
            Value::Array(items) if self.is_block(&range) => items
                .iter()
                .enumerate()
                .map(|(index, value)| end_of(index.into(), value))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let end = self.text[..range.end].trim_end().len().max(range.start);
        let end = self.end_of_lines(&(range.start..end)).unwrap_or(end);
        Ok(ends.into_iter().max().unwrap_or(end))
    }

    /// Where a text in lines of its own ends, before a comment that is indented less.
    fn end_of_lines(&self, value: &Range<usize>) -> Option<usize> {
        let text = &self.text[value.clone()];
        let (header, lines) = text.split_once('\n').filter(|_| text.starts_with(['|', '>']))?;
        let indent_of = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let indent = indent_of(lines.lines().find(|line| !line.trim().is_empty())?);
        let mut length = header.len() + 1;
        for line in lines.split_inclusive('\n') {
            if !line.trim().is_empty() && indent_of(line) < indent {
                break;
            }
            length += line.len();
        }
        Some(value.start + text[..length].trim_end().len())
    }

    pub(crate) fn is_block(&self, value: &Range<usize>) -> bool {
        !self.text[value.start..].starts_with(['{', '['])
    }

    pub(crate) fn style(&self, mapping: &Range<usize>) -> Style {
        match self.is_block(mapping) {
            true => Style::Block(mapping.start - self.line_start(mapping.start)),
            false => Style::Flow,
        }
    }

    /// Behind the last key of a mapping in braces, or item of a list in brackets; and what separates it from the next.
    pub(crate) fn end_inside(&self, range: &Range<usize>) -> Result<(usize, &'a str), NotEdited> {
        let inside = self.text[range.clone()].trim_end().strip_suffix(['}', ']']);
        let inside = inside.ok_or(NotEdited)?.trim_end().trim_end_matches(',').trim_end();
        // On a line of its own where the others are.
        let rest = inside.get(1..).ok_or(NotEdited)?;
        let blank = &rest[..rest.len() - rest.trim_start().len()];
        Ok((range.start + inside.len(), if blank.contains('\n') { blank } else { " " }))
    }

    /// A key and its value among others in braces, with one of the commas around them.
    pub(crate) fn with_comma(&self, pair: Range<usize>, parent: &Range<usize>) -> Range<usize> {
        let after = &self.text[pair.end..parent.end];
        let before = &self.text[parent.start..pair.start];
        match after.trim_start().strip_prefix(',') {
            Some(rest) => pair.start..parent.end - rest.trim_start().len(),
            None => match before.trim_end().strip_suffix(',') {
                Some(before) => parent.start + before.len()..pair.end,
                None => pair,
            },
        }
    }

    /// Lines of block style, without the last line break.
    pub(crate) fn block(&self, value: &Value, indent: usize) -> Zeroizing<String> {
        let line_break = self.line_break();
        let yaml = write::to_yaml([value]);
        let mut lines = Zeroizing::new(String::with_capacity(yaml.len() * 2));
        for (number, line) in String::from_utf8_lossy(&yaml).lines().enumerate() {
            if number > 0 {
                lines.push_str(line_break);
            }
            lines.extend(std::iter::repeat_n(' ', indent));
            lines.push_str(line);
        }
        lines
    }

    pub(crate) fn line_break(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    pub(crate) fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Before the line break.
    pub(crate) fn line_end(&self, offset: usize) -> usize {
        let end =
            self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline);
        end - usize::from(self.text[offset..end].ends_with('\r'))
    }

    /// Behind the line break.
    pub(crate) fn next_line(&self, offset: usize) -> usize {
        self.text[offset..].find('\n').map_or(self.text.len(), |newline| offset + newline + 1)
    }
}
