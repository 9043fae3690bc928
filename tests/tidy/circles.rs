//! The shape of each crate: no two files import each other, directly or around a circle, and the controller's
//! state imports none of its workers.
//!
//! An arrow leads from a file to the file that *defines* what it uses, by `use` or by a path in code, in a macro or in an
//! attribute. Re-exports are resolved, and a `mod` declaration is not an arrow. If a child uses an item of its parent's
//! file while the parent's code uses the child, that is a circle. Tests do not count.
//!
//! Run it alone, and list every circle that is still allowed:
//!
//! ```sh
//! cargo test -p bulla-tests --test tidy circles
//! cargo test -p bulla-tests --test tidy circles::every_circle -- --ignored
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};

use crate::none;
use crate::source_crate::{Arrows, SourceCrate, crates};

const CURE: &str = "move what both files need to a third file, or pass it as an argument";

/// A file of each circle that is still to be cut. The list only shrinks.
const KNOWN: &[&str] = &[];

#[test]
fn files_do_not_import_each_other() -> Result<()> {
    let mut findings = Vec::new();
    for read in crates()? {
        let arrows = read.arrows();
        let circles = circles(&arrows);
        let is_known = |file: &String| KNOWN.contains(&file.as_str());
        let new = circles.into_iter().filter(|circle| !circle.iter().any(is_known));
        findings.extend(new.map(|circle| shown(&circle, &arrows)));
    }
    none(CURE, findings)
}

/// Plain data outside of `state/` that the controller's state may import.
const PLAIN_DATA: &[&str] = &[];

#[test]
fn state_of_the_controller_imports_no_worker() -> Result<()> {
    const STATE: &str = "controller/src/state/";
    let controller = crates()?.iter().find(|read| read.root() == "controller/src/lib.rs");
    let arrows = controller.context("no controller")?.arrows();
    let findings = arrows.keys().filter(|(from, to)| {
        from.starts_with(STATE) && !to.starts_with(STATE) && !PLAIN_DATA.contains(&to.as_str())
    });
    none(
        "state is data that workers import; give the state what it needs, or list plain data in PLAIN_DATA",
        findings.map(|(from, to)| format!("{from} -> {to}")),
    )
}

#[test]
#[ignore = "shows the circles that are still allowed"]
fn every_circle() -> Result<()> {
    let mut findings = Vec::new();
    for read in crates()? {
        let arrows = read.arrows();
        findings.extend(circles(&arrows).iter().map(|circle| shown(circle, &arrows)));
    }
    none(CURE, findings)
}

/// For each file the shortest circle through it; each circle once, and the shortest first.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().push(to);
    }
    let circles: BTreeSet<_> = next
        .keys()
        .filter_map(|start| {
            let circle = shortest_circle(start, &next)?;
            Some((circle.len(), circle))
        })
        .collect();
    circles.into_iter().map(|(_, circle)| circle).collect()
}

/// The shortest way from `start` back to it, turned so that it begins with the first file by name.
fn shortest_circle(start: &str, next: &BTreeMap<&str, Vec<&str>>) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for target in next.get(file).into_iter().flatten().copied() {
            if target == start {
                let mut circle = vec![file.to_owned()];
                let mut file = file;
                while file != start {
                    file = came_from[file];
                    circle.push(file.to_owned());
                }
                circle.reverse();
                let first = circle.iter().min()?.clone();
                let position = circle.iter().position(|file| *file == first)?;
                circle.rotate_left(position);
                return Some(circle);
            }
            if !came_from.contains_key(target) {
                came_from.insert(target, file);
                queue.push_back(target);
            }
        }
    }
    None
}

/// `a.rs -> b.rs -> a.rs`, and below it what each file uses of the next.
fn shown(circle: &[String], arrows: &Arrows) -> String {
    let closed = || circle.iter().chain(circle.first());
    let used = closed().zip(closed().skip(1)).map(|(from, to)| {
        let names = &arrows[&(from.clone(), to.clone())];
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        format!("\n      {from} uses {}", names.join(", "))
    });
    let files: Vec<_> = closed().map(String::as_str).collect();
    format!("{}{}", files.join(" -> "), used.collect::<String>())
}

/// The circles in a crate of in-memory files, whose root is `lib.rs`.
fn circles_in(files: &[(&str, &str)]) -> Result<Vec<String>> {
    let text_of = |path: &str| {
        let found = files.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| anyhow::anyhow!("no {path}"))
    };
    let arrows = SourceCrate::read("lib.rs", &text_of)?.arrows();
    Ok(circles(&arrows).iter().map(|circle| circle.join(" -> ")).collect())
}

#[test]
fn a_direct_circle_is_found() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "use super::a::A; pub struct B(Box<A>);"),
    ])?;
    assert_eq!(circles, ["a.rs -> b.rs"]);
    Ok(())
}

#[test]
fn a_circle_of_three_files_is_found() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::{b::{self, B}}; pub fn a(_: B) { b::b() }"),
        ("b.rs", "use crate::c; pub struct B; pub fn b() { c::c() }"),
        ("c.rs", "pub fn c() { crate::a::a() }"),
    ])?;
    assert_eq!(circles, ["a.rs -> b.rs -> c.rs"]);
    Ok(())
}

#[test]
fn a_circle_through_re_exports_is_found() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b; pub use a::A; pub(crate) use b::*;"),
        ("a.rs", "mod inner; pub(crate) use self::inner::A;"),
        ("a/inner.rs", "use crate::B; pub struct A(B);"),
        ("b.rs", "pub struct B; impl B { fn of(_: crate::A) {} }"),
    ])?;
    assert_eq!(circles, ["a/inner.rs -> b.rs"]);
    Ok(())
}

#[test]
fn a_circle_through_a_path_in_code_is_found() -> Result<()> {
    for call in [
        "crate::b::b();",
        "let b: crate::b::Deep = todo();",
        "println!(\"{}\", crate::b::b());",
        "if let crate::b::Deep::One = deep {}",
        "use crate::b as other; other::b();",
        "<crate::b::Deep as Clone>::clone(deep);",
    ] {
        let a = format!("pub fn a() {{ {call} }}");
        let circles = circles_in(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", &a),
            ("b.rs", "pub enum Deep { One } pub fn b() { super::a::a() }"),
        ])?;
        assert_eq!(circles, ["a.rs -> b.rs"], "{call}");
    }
    Ok(())
}

#[test]
fn a_circle_through_an_attribute_is_found() -> Result<()> {
    for field in
        ["#[arg(value_parser = crate::b::b)] a: u8", "#[serde(with = \"crate::b::b\")] a: u8"]
    {
        let a = format!("pub struct A {{ {field} }}");
        let circles = circles_in(&[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", &a),
            ("b.rs", "use crate::a::A; pub fn b(_: A) {}"),
        ])?;
        assert_eq!(circles, ["a.rs -> b.rs"], "{field}");
    }
    Ok(())
}

#[test]
fn a_circle_through_a_type_that_a_macro_defines_is_found() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "macro_rules! a { () => { pub enum A {} } } a! {} fn a() { super::b::b() }"),
        ("b.rs", "pub fn b() { crate::a::A::new(); }"),
    ])?;
    assert_eq!(circles, ["a.rs -> b.rs"]);
    Ok(())
}

#[test]
fn a_parent_that_uses_its_child_must_not_be_used_by_it() -> Result<()> {
    let child = ("a/child.rs", "use super::A; pub struct Child(A);");
    let root = ("lib.rs", "mod a;");
    for parent in [
        "mod child; pub struct A; fn a() { child::Child; }",
        "mod child; pub use child::Child; pub struct A; fn a(_: Child) {}",
        "mod child; use child::Child; pub struct A; fn a(_: Child) {}",
    ] {
        assert_eq!(
            circles_in(&[root, ("a.rs", parent), child])?,
            ["a.rs -> a/child.rs"],
            "{parent}"
        );
    }
    let parent = "mod child; pub use child::Child; pub struct A;";
    assert!(circles_in(&[root, ("a.rs", parent), child])?.is_empty(), "it only re-exports");
    Ok(())
}

#[test]
fn tests_declarations_and_other_crates_make_no_circle() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B; use serde; fn f() { serde::b(); }"),
        ("a.rs", "use crate::B; pub struct A(B); #[cfg(test)] mod tests; fn b() {}"),
        ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
    ])?;
    assert!(circles.is_empty(), "{circles:?}");
    Ok(())
}

#[test]
fn methods_of_tests_make_no_circle() -> Result<()> {
    let circles = circles_in(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; impl B { #[cfg(test)] fn a() { crate::a::A; } }"),
    ])?;
    assert!(circles.is_empty(), "{circles:?}");
    Ok(())
}
