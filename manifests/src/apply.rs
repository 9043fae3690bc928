//! Applies patches to the text of a document, in rounds of patches that do not touch one another.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::document::Document;
use crate::edit;
use crate::layout::{Layout, TextEdit};
use crate::outline::Outline;
use crate::patch::{NotEdited, Patch};
use crate::tree::{OwnedStep, Tree};

/// The text of a document after the patches, one after the other, and its new tree.
pub(crate) fn patched(
    document: &Document,
    patches: Vec<&Patch>,
) -> Result<(Zeroizing<String>, Tree), NotEdited> {
    let mut tree = Tree::new(document.value().clone());
    let mut text = Zeroizing::new(document.own_text().to_owned());
    let mut outline: Option<Outline> = None;
    let mut patches = patches;
    while !patches.is_empty() {
        // From the document, or from the text of the last round.
        let places = outline.as_ref().unwrap_or(document.outline());
        let (round, rest) = round(patches, tree.value());
        let layout = Layout::new(&text, places, tree.value());
        let mut edits = Vec::with_capacity(round.len());
        for patch in round.iter().filter(|patch| patch.changes(tree.value())) {
            edits.extend(edit::edits_of(&layout, patch)?);
        }
        for patch in round {
            patch.apply_to(tree.value_mut())?;
        }
        text = spliced(&text, edits)?;
        patches = rest;
        if !patches.is_empty() {
            outline = Some(Outline::of(&text));
        }
    }
    Ok((text, tree))
}

/// The patches that can be applied together because they are in different places, and the patches for later rounds.
fn round<'a>(patches: Vec<&'a Patch>, tree: &Value) -> (Vec<&'a Patch>, Vec<&'a Patch>) {
    let mut by_item: BTreeMap<Option<usize>, Touched<'a>> = BTreeMap::new();
    patches
        .into_iter()
        .partition(|patch| by_item.entry(patch.item).or_default().admits(patch, tree))
}

/// The parts of an object that a round changes.
#[derive(Default)]
struct Touched<'a> {
    is_closed: bool,
    /// The fields that it changes.
    paths: HashSet<&'a [OwnedStep]>,
    added_to: Option<&'a [OwnedStep]>,
}

impl<'a> Touched<'a> {
    fn admits(&mut self, patch: &'a Patch, tree: &Value) -> bool {
        if self.is_closed {
            return false;
        }
        let added_to = patch.mapping_added_to(tree);
        let is_alone = added_to.is_none() && !patch.is_exchange(tree);
        let fits = if is_alone {
            self.paths.is_empty()
        } else {
            let is_beside =
                self.added_to.is_none() || added_to.is_none_or(|it| self.added_to == Some(it));
            !self.paths.contains(patch.path.as_slice()) && is_beside
        };
        self.is_closed = is_alone || !fits;
        if fits {
            self.added_to = self.added_to.or(added_to);
            self.paths.insert(&patch.path);
        }
        fits
    }
}

/// The text with the edits, which must not overlap.
fn spliced(text: &str, mut edits: Vec<TextEdit>) -> Result<Zeroizing<String>, NotEdited> {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let more: usize = edits.iter().map(|edit| edit.new.len()).sum();
    let mut new = Zeroizing::new(String::with_capacity(text.len() + more));
    let mut end = 0;
    for edit in edits {
        new.push_str(text.get(end..edit.range.start).ok_or(NotEdited)?);
        new.push_str(&edit.new);
        end = edit.range.end;
    }
    new.push_str(text.get(end..).ok_or(NotEdited)?);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::Object;
    use crate::sample::{file, text as text_of};
    use crate::tree::Step;

    /// The file after one patch of its last object.
    fn patched(text: &str, path: &[&str], value: Option<Value>) -> Result<String, NotEdited> {
        let file = file(text);
        let objects = file.objects().unwrap();
        let object = objects.last().unwrap();
        let patch = match value {
            Some(value) => Patch::set(object, path, value),
            None => Patch::remove(object, path),
        };
        file.changed(&[patch], &[]).map(|new| text_of(&new))
    }

    const HEAD: &str = "apiVersion: v1\nkind: K\n";

    #[test]
    fn keys_are_set_in_every_style() {
        for (before, path, value, after) in [
            // A new key follows the last one, before the comments of the next field.
            (
                "s:\n  a: x # c\n  # end\n\nt: 1\n",
                &["s", "b"][..],
                json!("new"),
                "s:\n  a: x # c\n  b: new\n  # end\n\nt: 1\n",
            ),
            ("s:\n    a: x", &["s", "1_0"], json!("yes"), "s:\n    a: x\n    \"1_0\": \"yes\""),
            (
                "s:\n  a: |\n    x\n\n    y\nt: 1\n",
                &["s", "b"],
                json!("new"),
                "s:\n  a: |\n    x\n\n    y\n  b: new\nt: 1\n",
            ),
            // An existing value keeps its quotes.
            (
                "s:\n  a: 'x' # c\n  b: \"x\"\n",
                &["s", "a"],
                json!("y="),
                "s:\n  a: 'y=' # c\n  b: \"x\"\n",
            ),
            ("s:\n  a: x # c\n", &["s", "a"], json!("y y"), "s:\n  a: \"y y\" # c\n"),
            ("s:\n  a:\n    x\n", &["s", "a"], json!("new"), "s:\n  a:\n    new\n"),
            (
                "s: {a: x, b: y} # c\n",
                &["s", "c"],
                json!("z"),
                "s: {a: x, b: y, \"c\":\"z\"} # c\n",
            ),
            ("s: {a: x}\n", &["s", "a"], json!("z"), "s: {a: z}\n"),
            // Missing or empty mappings.
            ("s: {}\nt: 1\n", &["s", "a"], json!("x"), "s:\n  a: x\nt: 1\n"),
            ("s: # c\nt: 1\n", &["s", "a"], json!("x"), "s: # c\n  a: x\nt: 1\n"),
            ("s: {} # c\nt: 1\n", &["s", "a"], json!("x"), "s: # c\n  a: x\nt: 1\n"),
            (
                "s:\n  a: x\n",
                &["s", "m", "l", "k"],
                json!("v"),
                "s:\n  a: x\n  m:\n    l:\n      k: v\n",
            ),
            ("s: 1\n", &["m", "l"], json!({"k": "v"}), "s: 1\nm:\n  l:\n    k: v\n"),
            // A mapping in place of another value.
            ("s: 1\nt: 2\n", &["s"], json!({"k": "v"}), "s:\n  k: v\nt: 2\n"),
        ] {
            for line_break in ["\n", "\r\n"] {
                let [before, after] = [before, after]
                    .map(|text| format!("# top\n---\n{HEAD}{text}").replace('\n', line_break));
                assert_eq!(patched(&before, path, Some(value.clone())), Ok(after), "{before}");
            }
        }
    }

    #[test]
    fn keys_are_removed_in_every_style() {
        for (before, path, after) in [
            (
                "s:\n  # a\n  a: x # c\n  # b\n  b: y\n",
                &["s", "a"][..],
                "s:\n  # a\n  # b\n  b: y\n",
            ),
            ("s:\n  a: x\n  b: |\n    y\n    z\nt: 1\n", &["s", "b"], "s:\n  a: x\nt: 1\n"),
            ("s:\n  a: x\n  b: y", &["s", "b"], "s:\n  a: x\n"),
            ("s: {a: x, b: y}\n", &["s", "a"], "s: {b: y}\n"),
            ("s: {a: x, b: y}\n", &["s", "b"], "s: {a: x}\n"),
            ("s: {a: x}\n", &["s", "a"], "s: {}\n"),
            ("s:\n  a: x\nt: 1\n", &["s", "a"], "s:\n  {}\nt: 1\n"),
            ("s: 1\n", &["t", "a"], "s: 1\n"),
        ] {
            let [before, after] = [before, after].map(|text| format!("{HEAD}{text}"));
            assert_eq!(patched(&before, path, None), Ok(after), "{before}");
        }
    }

    #[test]
    fn keys_are_renamed_in_every_style() {
        let rename = |text: &str, path: &[&str], key| {
            let file = file(text);
            let patch = Patch::rename(&file.objects().unwrap()[0], path, key);
            file.changed(&[patch], &[]).map(|new| text_of(&new))
        };
        for (before, path, key, after) in [
            ("s:\n  # a\n  a: x # c\nt: 1\n", &["s"][..], "r", "r:\n  # a\n  a: x # c\nt: 1\n"),
            ("s:\n  'a': |\n    x\n", &["s", "a"], "b", "s:\n  'b': |\n    x\n"),
            ("s:\n  a: x\n", &["s", "a"], "1", "s:\n  \"1\": x\n"),
            ("s: {\"a\": x, b: y}\n", &["s", "a"], "c", "s: {\"c\": x, b: y}\n"),
            ("s: {a: x}\n", &["s", "b"], "c", "s: {a: x}\n"),
        ] {
            let [before, after] = [before, after].map(|text| format!("{HEAD}{text}"));
            assert_eq!(rename(&before, path, key), Ok(after), "{before}");
        }
        let taken = format!("{HEAD}s: {{a: x, b: y}}\n");
        assert_eq!(rename(&taken, &["s", "a"], "b"), Err(NotEdited));
        let json = "{\"apiVersion\": \"v1\", \"kind\": \"K\", \"s\": {\"a\": \"x\"}}";
        assert_eq!(rename(json, &["s"], "r"), Ok(json.replace("\"s\"", "\"r\"")));
    }

    #[test]
    fn text_in_lines_stays_in_lines() {
        for (before, new, after) in [
            ("s: |\n  x\n  y\nt: 1\n", "x\n\nz\n", "s: |\n  x\n\n  z\nt: 1\n"),
            ("s: |\n    x\n  # c\nt: 1\n", "z: #", "s: |-\n    z: #\n  # c\nt: 1\n"),
            ("s: >-\n  x\n  y\nt: 1\n", "z", "s: |-\n  z\nt: 1\n"),
            ("s: |\n  x\nt: 1\n", " z\n", "s: \" z\\n\"\nt: 1\n"),
        ] {
            for line_break in ["\n", "\r\n"] {
                let [before, after] =
                    [before, after].map(|text| format!("{HEAD}{text}").replace('\n', line_break));
                assert_eq!(patched(&before, &["s"], Some(json!(new))), Ok(after), "{before}");
            }
        }
    }

    #[test]
    fn json_stays_json() {
        let json = "{\"apiVersion\": \"v1\", \"kind\": \"K\",\n \"s\": {\n  \"a\": \"x\",\n  \"b\": \"y\"\n }\n}\n";
        for (path, value, old, new) in [
            (&["s", "c"][..], Some(json!("z")), "\"y\"\n", "\"y\",\n  \"c\":\"z\"\n"),
            (&["s", "a"], Some(json!("z z")), "\"x\"", "\"z z\""),
            (&["s", "a"], None, "\"a\": \"x\",\n  ", ""),
            (&["s", "b"], None, ",\n  \"b\": \"y\"", ""),
            (&["t"], Some(json!({"k": [1]})), "}\n}", "}, \"t\":{\"k\":[1]}\n}"),
        ] {
            assert_eq!(patched(json, path, value), Ok(json.replacen(old, new, 1)));
        }
    }

    #[test]
    fn items_are_added_at_the_end_of_lists() {
        let item = json!({"b": 1, "a": ["x"]});
        for (before, after) in [
            (
                "l:\n  - y\n  # end\nt: 1\n",
                "l:\n  - y\n  - a:\n      - x\n    b: 1\n  # end\nt: 1\n",
            ),
            ("l:\n- y: 1 # c\n  z: 2\n", "l:\n- y: 1 # c\n  z: 2\n- a:\n    - x\n  b: 1\n"),
            ("l: [y]\n", "l: [y, {\"a\":[\"x\"],\"b\":1}]\n"),
            ("l: # c\nt: 1\n", "l: # c\n  - a:\n      - x\n    b: 1\nt: 1\n"),
            ("l: [] # c\n", "l: # c\n  - a:\n      - x\n    b: 1\n"),
            ("t: 1\n", "t: 1\nl:\n  - a:\n      - x\n    b: 1\n"),
        ] {
            let file = file(&format!("{HEAD}{before}"));
            let objects = file.objects().unwrap();
            let patch = Patch::append(&objects[0], &["l"], item.clone());
            let new = file.changed(&[patch], &[]).unwrap();
            assert_eq!(text_of(&new), format!("{HEAD}{after}"));
        }
        let json =
            "{\"apiVersion\": \"v1\", \"kind\": \"K\",\n \"l\": [\n  1\n ],\n \"e\": []\n}\n";
        let file = file(json);
        let objects = file.objects().unwrap();
        let of_item = [Step::Key("l"), Step::Index(1), Step::Key("k")];
        let patches = [
            Patch::append(&objects[0], &["l"], json!({"i": 2})),
            Patch::set(&objects[0], &of_item, json!(3)),
            Patch::append(&objects[0], &["e"], json!("x")),
        ];
        let new = file.changed(&patches, &[]).unwrap();
        let expected = json.replacen("1\n", "1,\n  {\"i\":2, \"k\":3}\n", 1).replacen(
            "\"e\": []",
            "\"e\": [\"x\"]",
            1,
        );
        assert_eq!(text_of(&new), expected);
        // An item is not added to a value that is not a list, nor set beyond the end of a list.
        let no_list = Patch::append(&objects[0], &["kind"], json!(1));
        let beyond = Patch::set(&objects[0], &[Step::Key("l"), Step::Index(1)], json!(1));
        for patch in [no_list, beyond] {
            assert_eq!(file.changed(&[patch], &[]).err(), Some(NotEdited));
        }
    }

    #[test]
    fn an_object_in_braces_need_not_be_json() {
        let text = |value| format!("{{apiVersion: v1, kind: K, s: {{a: {value}, b: 'y'}}}}\n");
        for (old, value, new) in
            [("x", json!("z"), "z"), ("x", json!("yes"), "\"yes\""), ("1", json!("z"), "\"z\"")]
        {
            assert_eq!(patched(&text(old), &["s", "a"], Some(value)), Ok(text(new)));
        }
    }

    #[test]
    fn other_documents_and_items_stay() {
        let item = "- apiVersion: v1\n  kind: K\n  s:\n    a: x\n";
        let text = format!(
            "# first\na: 1\napiVersion: v1\nkind: X\n---\napiVersion: v1\nkind: List\nitems:\n{item}{item}# end\n"
        );
        let file = file(&text);
        let objects = file.objects().unwrap();
        let patches = [
            Patch::set(&objects[1], &["s", "b"], json!("new")),
            Patch::remove(&objects[1], &["s", "a"]),
            Patch::set(&objects[2], &["s", "a"], json!("z")),
        ];
        let new = text_of(&file.changed(&patches, &[]).unwrap());
        let expected =
            text.replacen("    a: x\n", "    b: new\n", 1).replacen("    a: x\n", "    a: z\n", 1);
        assert_eq!(new, expected);
    }

    #[test]
    fn patches_of_a_list_have_the_same_result_together_and_one_after_the_other() {
        let head = "apiVersion: v1\nkind: List\nitems:";
        let block =
            "- apiVersion: v1\n  b: x # why\n  kind: K\n  s:\n    a: x\n    # two\n    b: [1]\n";
        let first = "- b: x # why\n  apiVersion: v1\n  kind: K\n  s: {b: [], a: 'x'}\n";
        let flow = "{apiVersion: v1, kind: K, b: x, s: {a: x, b: [1]}}";
        let json = r#"{"apiVersion": "v1", "kind": "K", "b": 1, "s": {"b": [1], "a": "x"}}"#;
        for text in [
            format!("{head}\n{block}# end\n{first}{first}{block}"),
            format!("{head} [{flow}, {flow},\n  {flow}\n]\n"),
            format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{json}, {json},{json}]}}"#),
        ] {
            let file = file(&text);
            let objects = file.objects().unwrap();
            let of = |object: &Object<'_>| {
                [
                    Patch::set(object, &["s", "a"], json!("new")),
                    Patch::remove(object, &["b"]),
                    Patch::set(object, &["z", "y"], json!(["more"])),
                    Patch::append(object, &["s", "b"], json!(2)),
                    Patch::rename(object, &["s"], "t"),
                ]
            };
            let patches: Vec<_> = objects.iter().flat_map(of).collect();
            let together = text_of(&file.changed(&patches, &[]).unwrap());
            let mut text = text.clone();
            for patch in patches {
                text = text_of(&self::file(&text).changed(&[patch], &[]).unwrap());
            }
            assert_eq!(together, text);
        }
    }

    #[test]
    fn a_patch_is_moved_to_an_object_with_the_same_value_in_the_field() {
        let item = "- apiVersion: v1\n  kind: K\n  s:\n    a: x\n";
        let list = file(&format!("apiVersion: v1\nkind: List\nitems:\n{item}"));
        let list = list.objects().unwrap();
        let other = file(&format!("{HEAD}t: 1\n---\n{HEAD}s:\n  a: x\n  b: y\n"));
        let objects = other.objects().unwrap();
        let patches = [
            Patch::set(&list[0], &["s", "a"], json!("new")),
            Patch::set(&list[0], &["s", "c"], json!("new")),
        ];
        let moved = patches.each_ref().map(|patch| patch.moved(&list[0], &objects[1]).unwrap());
        let new = text_of(&other.changed(&moved, &[]).unwrap());
        assert!(new.ends_with("s:\n  a: new\n  b: y\n  c: new\n"), "{new}");
        let set = Patch::set(&list[0], &["s", "b"], json!("new"));
        assert!(set.moved(&list[0], &objects[1]).is_none());
        assert!(patches[0].moved(&list[0], &objects[0]).is_none());
    }

    #[test]
    fn a_value_with_an_alias_is_not_edited() {
        let text = format!("{HEAD}s: &v\n  a: x\nt: *v\n");
        assert_eq!(patched(&text, &["s", "a"], Some(json!("y"))), Err(NotEdited));
        assert_eq!(patched(&text, &["t", "a"], Some(json!("y"))), Err(NotEdited));
    }
}
