//! A changed file has the requested values, and every byte outside the change stays.

#![no_main]

use bulla_manifests::{Input, Kinds, ManifestFile, Object, Patch, Step};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const KINDS: Kinds = Kinds { lists: &[("v1", "List")], own_group: "bulla.dev" };

/// New values: texts that other parsers do not read as text, and values on several lines.
fn new_value(choice: u8) -> Value {
    match choice % 10 {
        0 => json!("YWdlLWVuY3J5cHRpb24="),
        1 => json!("yes"),
        2 => json!("1_000"),
        3 => json!(" a\nb\n\n"),
        4 => json!("x: #y"),
        5 => json!({"b": {"c": "d"}, "e": []}),
        6 => json!(["a", {"b": null}]),
        7 => json!(true),
        8 => json!("a\nb\n"),
        _ => json!({}),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[action, field, choice], text)) = bytes.split_first_chunk() else { return };
    let Some(file) = parse(text) else { return };
    let Ok((objects, _)) = file.objects_among_others() else { return };
    let mut fields = Vec::new();
    for object in &objects {
        push_fields(object, object.value, &mut Vec::new(), &mut fields);
    }
    let Some((object, path)) = fields.get(usize::from(field) % fields.len().max(1)) else { return };
    let beside = [&path[..path.len() - 1], &[Step::Key("new")]].concat();
    let (patch, expected) = match action % 5 {
        0 => (Patch::set(object, path, new_value(choice)), Some(new_value(choice))),
        1 => (Patch::set(object, &beside, new_value(choice)), Some(new_value(choice))),
        2 => (Patch::remove(object, path), None),
        3 => (Patch::rename(object, path, "new"), at(object.value, path).cloned()),
        _ => (Patch::append(object, path, new_value(choice)), None),
    };
    let added = if choice > 200 { vec![json!({"kind": "New"})] } else { Vec::new() };
    let Ok(new) = file.changed(&[patch], &added) else { return };
    // Its bytes have the documents that it claims.
    let again = parse(&new.bytes()).expect("the new file is read again");
    let (place, item) = object.place();
    let document = again.documents()[place - 1].value();
    let new_object = item.map_or(Some(document), |item| document.get("items")?.get(item));
    let new_object = new_object.expect("the object is still there");
    match (action % 5, expected) {
        (0, expected) => assert_eq!(at(new_object, path), expected.as_ref()),
        (1, expected) => assert_eq!(at(new_object, &beside), expected.as_ref()),
        (2, _) => assert_eq!(at(new_object, path), None),
        (3, expected) => assert_eq!(at(new_object, &beside), expected.as_ref()),
        _ => {}
    }
    outside_stays(text, &new.bytes(), object, path, action % 5);
});

fn parse(bytes: &[u8]) -> Option<ManifestFile> {
    ManifestFile::parse(Input { name: "f".into(), bytes: bytes.to_vec().into() }, KINDS).ok()
}

/// Nothing changes before the line of the key that is set or renamed.
fn outside_stays(old: &[u8], new: &[u8], object: &Object<'_>, path: &[Step<'_>], action: u8) {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    if let (0 | 3, Some(mark)) = (action, object.mark(path))
        && mark.depth == path.len()
    {
        let text = str::from_utf8(old).expect("a text");
        let line_start: usize = text.split_inclusive('\n').take(mark.line - 1).map(str::len).sum();
        assert!(same >= line_start, "a change before the line of its key");
    }
}

fn at<'a>(value: &'a Value, path: &[Step<'_>]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

fn push_fields<'a>(
    object: &Object<'a>,
    value: &'a Value,
    path: &mut Vec<Step<'a>>,
    fields: &mut Vec<(Object<'a>, Vec<Step<'a>>)>,
) {
    let mut push = |step: Step<'a>, value: &'a Value| {
        path.push(step);
        fields.push((*object, path.clone()));
        push_fields(object, value, path, fields);
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| push(Step::Key(key), value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| push(Step::Index(index), value));
        }
        _ => {}
    }
}
