//! Fields moved to another path in the same object, in their own lines where possible, with their comments.

use std::ops::Range;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::layout::{Layout, MappingStyle, TextEdit, edit};
use crate::patch::NotEdited;
use crate::tree::OwnedStep;
use crate::write;

/// A field with its old and its new path.
pub(crate) struct Move<'a> {
    pub(crate) layout: &'a Layout<'a>,
    pub(crate) from: &'a [OwnedStep],
    pub(crate) to: &'a [OwnedStep],
}

/// The whole lines of a field in a mapping in block style.
struct FieldLines {
    /// The comments above the key, on lines of their own.
    above: Range<usize>,
    key: Range<usize>,
    /// The end of the value, of a comment after it, and of comments below it that are indented further than its key.
    end: usize,
    indent: usize,
}

impl Move<'_> {
    /// The edits of the text. The field must exist.
    pub(crate) fn edits(&self) -> Result<Vec<TextEdit>, NotEdited> {
        if self.to.starts_with(self.from) {
            return Err(NotEdited);
        }
        let parent = self.parent()?;
        let is_there = |depth: &usize| self.layout.value_at(&self.to[..*depth]).is_some();
        let there = (0..=self.to.len()).rev().find(is_there).ok_or(NotEdited)?;
        let (there, missing) = self.to.split_at(there);
        if missing.is_empty() {
            self.merged(there)
        } else if there == parent {
            self.renamed(missing)
        } else {
            self.put(there, missing)
        }
    }

    fn parent(&self) -> Result<&[OwnedStep], NotEdited> {
        self.from.split_last().map(|(_, parent)| parent).ok_or(NotEdited)
    }

    fn value(&self) -> Result<&Value, NotEdited> {
        self.layout.value_at(self.from).ok_or(NotEdited)
    }

    /// Replaces the key with other keys in the same place.
    fn renamed(&self, keys: &[OwnedStep]) -> Result<Vec<TextEdit>, NotEdited> {
        let layout = self.layout;
        let style = layout.style_of(self.parent()?)?;
        let range = match style {
            MappingStyle::Block(_) => {
                let FieldLines { above, end, .. } = self.lines()?;
                above.end..end
            }
            MappingStyle::Flow => layout.key_of(self.from)?.start..layout.end_of(self.from)?,
        };
        Ok(vec![edit(range, &[&self.written(keys, style, "")?])])
    }

    /// Moves the field to the end of another mapping, below new keys if `missing` has more than one.
    fn put(
        &self,
        mapping: &[OwnedStep],
        missing: &[OwnedStep],
    ) -> Result<Vec<TextEdit>, NotEdited> {
        let comments = match self.layout.style_of(self.parent()?)? {
            MappingStyle::Block(_) => &self.layout.text[self.lines()?.above],
            MappingStyle::Flow => "",
        };
        let new = self.written(missing, self.layout.style_of(mapping)?, comments)?;
        Ok(vec![self.cut()?, self.paste(mapping, &new)?])
    }

    /// Moves its keys to the end of an existing mapping.
    fn merged(&self, mapping: &[OwnedStep]) -> Result<Vec<TextEdit>, NotEdited> {
        let layout = self.layout;
        let value = self.value()?;
        let others = layout.value_at(mapping).and_then(Value::as_object);
        if !value.is_object() || others.is_none_or(Map::is_empty) {
            return Err(NotEdited);
        }
        let range = layout.range_of(self.from)?;
        let new = match (layout.style_of(mapping)?, layout.style_of(self.from)?) {
            (MappingStyle::Block(indent), MappingStyle::Block(old)) => {
                let FieldLines { above, key, end, indent: old_key } = self.lines()?;
                let mut new = shifted_lines(&layout.text[above], old_key, indent)?;
                let first = layout.next_line(key.end);
                let behind = layout.text[layout.colon_of(&key)?..first].trim();
                if !behind.is_empty() {
                    push_indent(&mut new, indent);
                    new.extend([behind, layout.line_break()]);
                }
                new.push_str(&shifted_lines(&layout.text[first..end], old, indent)?);
                new
            }
            (MappingStyle::Block(indent), MappingStyle::Flow) => layout.block(value, indent),
            (MappingStyle::Flow, MappingStyle::Flow) => {
                let (end, _) = layout.end_inside(&range)?;
                Zeroizing::new(layout.text[range.start + 1..end].trim_start().to_owned())
            }
            (MappingStyle::Flow, MappingStyle::Block(_)) => {
                let braces = Zeroizing::new(value.to_string());
                Zeroizing::new(braces[1..braces.len() - 1].to_owned())
            }
        };
        Ok(vec![self.cut()?, self.paste(mapping, &new)?])
    }

    fn paste(&self, mapping: &[OwnedStep], new: &str) -> Result<TextEdit, NotEdited> {
        let layout = self.layout;
        let range = layout.range_of(mapping)?;
        match layout.style_of(mapping)? {
            MappingStyle::Block(indent) => {
                let at = self.end_below(layout.end_of(mapping)?, indent);
                Ok(edit(at..at, &[layout.line_break(), new]))
            }
            MappingStyle::Flow => {
                let (at, separator) = layout.end_inside(&range)?;
                Ok(edit(at..at, &[",", separator, new]))
            }
        }
    }

    fn cut(&self) -> Result<TextEdit, NotEdited> {
        let layout = self.layout;
        let parent = self.parent()?;
        if layout.value_at(parent).and_then(Value::as_object).is_none_or(|map| map.len() == 1) {
            return Err(NotEdited);
        }
        let range = layout.range_of(parent)?;
        match layout.style_of(parent)? {
            MappingStyle::Block(_) => {
                let FieldLines { above, end, .. } = self.lines()?;
                Ok(edit(above.start..layout.next_line(end), &[]))
            }
            MappingStyle::Flow => {
                let end = layout.end_of(self.from)?;
                let pair = layout.key_of(self.from)?.start..end;
                Ok(edit(layout.with_comma(pair, &range), &[]))
            }
        }
    }

    /// The field as written in a mapping of this style, below all `keys` but the last, which is its own. In block
    /// style these are lines, with comments above the field and without the last line break.
    fn written(
        &self,
        keys: &[OwnedStep],
        style: MappingStyle,
        comments: &str,
    ) -> Result<Zeroizing<String>, NotEdited> {
        let layout = self.layout;
        let (last, outer) = keys.split_last().ok_or(NotEdited)?;
        let key = layout.key_of(self.from)?;
        let mut new = Zeroizing::new(String::new());
        match (style, layout.style_of(self.parent()?)?) {
            (MappingStyle::Block(indent), old) => {
                let unit = self.unit();
                for (depth, step) in outer.iter().enumerate() {
                    push_indent(&mut new, indent + depth * unit);
                    new.extend([&spelled(step)?, ":", layout.line_break()]);
                }
                let indent = indent + outer.len() * unit;
                let (old, end) = match old {
                    MappingStyle::Block(old) => (old, self.lines()?.end),
                    MappingStyle::Flow => (0, layout.end_of(self.from)?),
                };
                new.push_str(&shifted_lines(comments, old, indent)?);
                push_indent(&mut new, indent);
                let colon = layout.colon_of(&key)?;
                new.extend([&self.last_key(&key, last)?, &layout.text[key.end..colon]]);
                let value = &layout.text[colon..end];
                if !value.is_empty() && !value.starts_with([' ', '\t', '\r', '\n']) {
                    new.push(' ');
                }
                new.push_str(&shifted(value, old, indent)?);
            }
            (MappingStyle::Flow, old) => {
                for step in outer {
                    new.extend([&quoted(step)?, ": {"]);
                }
                match old {
                    MappingStyle::Block(_) => {
                        new.extend([&quoted(last)?, ": "]);
                        new.push_str(&Zeroizing::new(self.value()?.to_string()));
                    }
                    MappingStyle::Flow => {
                        new.push_str(&self.last_key(&key, last)?);
                        new.push_str(&layout.text[key.end..layout.end_of(self.from)?]);
                    }
                }
                new.extend(std::iter::repeat_n("}", outer.len()));
            }
        }
        Ok(new)
    }

    /// The lines of the field. It must begin its line.
    fn lines(&self) -> Result<FieldLines, NotEdited> {
        let layout = self.layout;
        let key = layout.key_of(self.from)?;
        let line_start = layout.line_start(key.start);
        let indent = key.start - line_start;
        if !layout.text[line_start..key.start].trim().is_empty() {
            return Err(NotEdited);
        }
        // Comments before the first key are about the document.
        let parent = self.parent()?;
        let is_first = parent.is_empty() && layout.range_of(parent)?.start == key.start;
        let mut start = line_start;
        while start > 0 && !is_first {
            let above = layout.line_start(start - 1);
            let hash = above + indent;
            let is_comment = layout.text[above..start].trim_start_matches(' ').starts_with('#')
                && layout.text[hash..].starts_with('#')
                && layout.is_comment(hash);
            if !is_comment {
                break;
            }
            start = above;
        }
        let end = self.end_below(layout.end_of(self.from)?, indent);
        Ok(FieldLines { above: start..line_start, key, end, indent })
    }

    /// The end of the line, or of the last line below it with only a comment that is indented further.
    fn end_below(&self, offset: usize, indent: usize) -> usize {
        let layout = self.layout;
        let mut end = layout.line_end(offset);
        let mut next = layout.next_line(offset);
        while next < layout.text.len() {
            let line = &layout.text[next..layout.line_end(next)];
            let hash = line.len() - line.trim_start_matches(' ').len();
            let is_comment =
                line[hash..].starts_with('#') && hash > indent && layout.is_comment(next + hash);
            if is_comment {
                end = layout.line_end(next);
            } else if !line.trim().is_empty() {
                break;
            }
            next = layout.next_line(next);
        }
        end
    }

    /// The width of one indentation level in the document.
    fn unit(&self) -> usize {
        let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let lines = self.layout.text.lines();
        let lines = lines.filter(|line| !line.trim_start().starts_with(['#', '-']));
        lines.map(indent).find(|indent| *indent > 0).unwrap_or(2)
    }

    /// The last key, spelled like the old one if it is the same.
    fn last_key(&self, old: &Range<usize>, new: &OwnedStep) -> Result<String, NotEdited> {
        let text = &self.layout.text[old.clone()];
        if self.from.last() == Some(new) {
            Ok(text.to_owned())
        } else if text.starts_with('"') {
            quoted(new)
        } else {
            spelled(new)
        }
    }
}

fn key_text(step: &OwnedStep) -> Result<&str, NotEdited> {
    match step {
        OwnedStep::Key(key) => Ok(key),
        OwnedStep::Index(_) => Err(NotEdited),
    }
}

fn quoted(step: &OwnedStep) -> Result<String, NotEdited> {
    key_text(step).map(|key| Value::from(key).to_string())
}

fn spelled(step: &OwnedStep) -> Result<String, NotEdited> {
    let key = key_text(step)?;
    if write::is_plain(key) { Ok(key.to_owned()) } else { quoted(step) }
}

fn push_indent(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// The text with the indent of all lines except the first changed by the difference between `old` and `new`.
fn shifted(text: &str, old: usize, new: usize) -> Result<Zeroizing<String>, NotEdited> {
    let lines = text.split_inclusive('\n').count();
    let mut shifted = Zeroizing::new(String::with_capacity(text.len() + lines * new));
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let line = if number == 0 || line.trim().is_empty() {
            line
        } else if new >= old {
            push_indent(&mut shifted, new - old);
            line
        } else {
            let (blank, rest) = line.split_at_checked(old - new).ok_or(NotEdited)?;
            if !blank.trim_start_matches(' ').is_empty() {
                return Err(NotEdited);
            }
            rest
        };
        shifted.push_str(line);
    }
    Ok(shifted)
}

/// The same for all lines, including the first.
fn shifted_lines(text: &str, old: usize, new: usize) -> Result<Zeroizing<String>, NotEdited> {
    let whole = Zeroizing::new(["\n", text].concat());
    Ok(Zeroizing::new(shifted(&whole, old, new)?[1..].to_owned()))
}

#[cfg(test)]
mod tests {
    use crate::patch::{NotEdited, Patch};
    use crate::sample::{self, file};

    /// The file after moves of fields in its last object.
    fn moved(text: &str, moves: &[(&str, &str)]) -> Result<String, NotEdited> {
        let file = file(text);
        let objects = file.objects().unwrap();
        let object = objects.last().unwrap();
        let patches: Vec<_> = moves
            .iter()
            .map(|(from, to)| {
                let [from, to] = [from, to].map(|path| path.split('.').collect::<Vec<_>>());
                Patch::move_to(object, &from, &to)
            })
            .collect();
        file.changed(&patches, &[]).map(|new| sample::text(&new))
    }

    const HEAD: &str = "apiVersion: v1\nkind: K\n";

    #[test]
    fn a_field_is_moved_with_its_comments() {
        for (before, moves, after) in [
            // In its own place.
            (
                "# a\ns: # b\n    # c\n    a: x # d\n    # e\n\n# f\nt: 1\n",
                &[("s", "r.q")][..],
                "# a\nr:\n    q: # b\n        # c\n        a: x # d\n        # e\n\n# f\nt: 1\n",
            ),
            ("s:\n  a: x", &[("s", "r")], "r:\n  a: x"),
            (
                "s:\n  'a': x\nt: 1\n",
                &[("s.a", "s.b.c.a")],
                "s:\n  b:\n    c:\n      'a': x\nt: 1\n",
            ),
            ("s: {a: x} # c\n", &[("s", "r.q")], "r:\n  q: {a: x} # c\n"),
            ("s: {a: x, b: y}\n", &[("s.a", "s.c.d")], "s: {\"c\": {d: x}, b: y}\n"),
            // At the end of another mapping.
            (
                "# a\n# b\ns: x # c\n# d\nt:\n    k: y\n    # e\n\n# f\nu: 1\n",
                &[("s", "t.m.s")],
                "# d\nt:\n    k: y\n    m:\n        # a\n        # b\n        s: x # c\n    # e\n\n# f\nu: 1\n",
            ),
            (
                "t:\n  k: y\n  s: |\n    x\n\n      y\n  # end\nu: 1\n",
                &[("t.s", "s")],
                "t:\n  k: y\n  # end\nu: 1\ns: |\n  x\n\n    y\n",
            ),
            (
                "t: {k: y, s: {a: x}}\nu:\n    b: 1\n",
                &[("t.s", "u.v.w")],
                "t: {k: y}\nu:\n    b: 1\n    v:\n        w: {a: x}\n",
            ),
            (
                "t: {k: y, s: {a: x}}\nu: {b: 1}\n",
                &[("t.s", "u.v.s")],
                "t: {k: y}\nu: {b: 1, \"v\": {s: {a: x}}}\n",
            ),
            ("s:\n  a: x\nu: {b: 1}\n", &[("s", "u.v")], "u: {b: 1, \"v\": {\"a\":\"x\"}}\n"),
            // To an existing mapping.
            (
                "# a\ns: # b\n  # c\n  k: x # d\n  # e\nt:\n    # f\n    l: y\nu: 1\n",
                &[("s", "t")],
                "t:\n    # f\n    l: y\n    # a\n    # b\n    # c\n    k: x # d\n    # e\nu: 1\n",
            ),
            ("s: {k: x, l: w}\nt:\n  m: z\n", &[("s", "t")], "t:\n  m: z\n  k: x\n  l: w\n"),
            ("s: {k: x}\nt: {m: z}\n", &[("s", "t")], "t: {m: z, k: x}\n"),
            ("s:\n  k: x\nt: {m: z}\n", &[("s", "t")], "t: {m: z, \"k\":\"x\"}\n"),
            // A missing field is not moved.
            ("s: x\n", &[("t", "s.u")], "s: x\n"),
        ] {
            for line_break in ["\n", "\r\n"] {
                let [before, after] = [before, after]
                    .map(|text| format!("# top\n---\n{HEAD}{text}").replace('\n', line_break));
                assert_eq!(moved(&before, moves), Ok(after), "{before}");
            }
        }
    }

    #[test]
    fn comments_above_the_first_key_of_a_document_stay() {
        assert_eq!(
            moved("# top\ns: x\napiVersion: v1\nkind: K\nt: {a: y}\n", &[("s", "t.s")]),
            Ok("# top\napiVersion: v1\nkind: K\nt: {a: y, \"s\": \"x\"}\n".into())
        );
    }

    #[test]
    fn json_stays_json() {
        let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"K\",\n\t\"s\": {\n\t\t\"a\": \"x\"\n\t},\n\t\"t\": true\n}\n";
        assert_eq!(
            moved(json, &[("s", "r.q"), ("t", "r.u.t"), ("u", "v")]),
            Ok("{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"K\",\n\t\"r\": {\"q\": {\n\t\t\"a\": \"x\"\n\t}, \"u\": {\"t\": true}}\n}\n".into())
        );
    }

    #[test]
    fn a_move_that_would_lose_something_is_refused() {
        for (text, from, to) in [
            ("s:\n  a: x\nt: 1\n", "s", "t"),
            ("s:\n  a: x\nt:\n  a: y\n", "s", "t"),
            ("s:\n  a: x\n", "s", "s.b"),
            ("s:\n  a: x\n", "s.a", "a"),
            ("s: &v\n  a: x\nt: *v\nu: {b: 1}\n", "s", "u.s"),
        ] {
            assert_eq!(moved(&format!("{HEAD}{text}"), &[(from, to)]), Err(NotEdited), "{text}");
        }
    }
}
