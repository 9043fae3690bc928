//! Arbitrary bytes are refused or read. A file that is read keeps every byte, and every place in it is that of its key.

#![no_main]

use bulla_manifests::{Input, Kinds, ManifestFile, Object, Step};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const KINDS: Kinds = Kinds { lists: &[("v1", "List")], own_group: "bulla.dev" };

fuzz_target!(|bytes: &[u8]| {
    let input = Input { name: "f".into(), bytes: bytes.to_vec().into() };
    let Ok(file) = ManifestFile::parse(input, KINDS) else { return };
    assert_eq!(*file.bytes(), bytes);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert_eq!(file.lines().len(), file.documents().len());
    for document in file.documents() {
        assert!((1..=lines).contains(&document.content_line()));
        for comment in document.comments() {
            assert!(comment.text.starts_with('#') && (1..=lines).contains(&comment.line));
        }
    }
    for object in file.objects_among_others().map(|(objects, _)| objects).unwrap_or_default() {
        check(&object, object.value, &mut Vec::new(), lines);
    }
});

fn check<'a>(object: &Object<'_>, value: &'a Value, path: &mut Vec<Step<'a>>, lines: usize) {
    assert!((1..=lines).contains(&object.position(path).line));
    if let Some(Step::Key(key)) = path.last()
        && let Some(mark) = object.mark(path)
    {
        assert!(mark.line <= lines && mark.columns.start < mark.columns.end);
        let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if mark.depth == path.len() && is_word && !mark.token.contains(['\\', '\n']) {
            assert!(mark.token.contains(key), "{} is not {key}", mark.token);
        }
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(Step::Key(key));
                check(object, value, path, lines);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                path.push(Step::Index(index));
                check(object, value, path, lines);
                path.pop();
            }
        }
        _ => {}
    }
}
