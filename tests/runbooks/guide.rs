//! The guide is a recorded session. The test runs every command and compares its output with the page, except for parts
//! that differ each time: keys, sealed values, days and commits.
//!
//! `UPDATE=1 cargo test -p bulla-tests --test runbooks guide` records the session again.

use std::fs;

use anyhow::{Result, ensure};

use crate::site::{Desk, Person, Site};
use crate::{NEW_CLUSTER, nobody};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide.md");

#[test]
fn the_guide_is_a_recorded_session() -> Result<()> {
    let (mut site, mut office) = (Site::new()?, Desk::new()?);
    site.follow(&mut office, NEW_CLUSTER, nobody)?;
    let desk = Desk::new()?;
    // The page begins without a repository.
    desk.shell.run("rm -r .git")?;
    for file in ["recovery.pub", "../recovery.txt"] {
        fs::copy(office.shell.path(file), desk.shell.path(file))?;
    }
    let page = fs::read_to_string(GUIDE)?;
    let mut commands = 0;
    let again = replayed(&page, |part| match part {
        GuideStep::File(name, text) => {
            Ok(fs::write(desk.shell.path(name), text).map(|()| String::new())?)
        }
        GuideStep::Command(line) => {
            commands += 1;
            said(&site, &desk, line)
        }
    })?;
    ensure!(commands >= 20, "the guide has lost its commands: there are {commands}");
    if std::env::var_os("UPDATE").is_some() {
        return Ok(fs::write(GUIDE, &again)?);
    }
    let (expected, found) = (comparable(&page), comparable(&again));
    let lines = expected.lines().zip(found.lines()).zip(again.lines());
    for ((expected, found), said) in lines {
        ensure!(
            expected == found,
            "docs/guide.md is out of date; UPDATE=1 records it again\npage: {expected}\nhere: {said}"
        );
    }
    ensure!(
        expected.len() == found.len(),
        "docs/guide.md ends differently; UPDATE=1 records it again"
    );
    Ok(())
}

/// Runs a command line and returns all its output, in order, and its exit code.
fn said(site: &Site, desk: &Desk, line: &str) -> Result<String> {
    let operator = &site.people[&Person::Operator];
    let person = site.people.get(&Person::of(line)).unwrap_or(operator);
    let mut command = desk.shell.command(&format!("{{ {line}\n}} 2>&1"));
    let output = command.env("KUBECONFIG", person.kubeconfig()).output()?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.is_empty() && !said.ends_with('\n') {
        said.push('\n');
    }
    match output.status.code() {
        Some(0) => {}
        code => said.push_str(&format!("(exit code {})\n", code.unwrap_or(-1))),
    }
    let said = said.replace(&desk.shell.path("").display().to_string(), "/home/ana/shop/");
    let url = site.plane.url();
    let server = url.trim_start_matches("https://");
    Ok(said.replace(
        &format!("context test at {server}"),
        "context prod-eu at prod-eu.example.com:6443",
    ))
}

/// A part of a page.
enum GuideStep<'a> {
    /// A command line after `$ ` in a `console` block, and its output.
    Command(&'a str),
    /// A file: a `yaml` block whose first line is a comment with the file's name.
    File(&'a str, &'a str),
}

/// The page with the current output of its commands.
fn replayed(page: &str, mut act: impl FnMut(GuideStep<'_>) -> Result<String>) -> Result<String> {
    let mut again = String::with_capacity(page.len());
    let mut language = None;
    let mut block = String::new();
    for line in page.split_inclusive('\n') {
        let text = line.trim_end();
        match language {
            None => language = text.strip_prefix("```"),
            Some(_) if text == "```" => {
                let name = block.lines().next().and_then(|first| first.strip_prefix("# "));
                if let Some(name) =
                    name.filter(|name| language == Some("yaml") && name.ends_with(".yaml"))
                {
                    act(GuideStep::File(name, &block))?;
                }
                block.clear();
                language = None;
            }
            Some("console") => {
                if let Some(command) = text.strip_prefix("$ ") {
                    again.push_str(line);
                    again.push_str(&act(GuideStep::Command(command))?);
                }
                continue;
            }
            Some(_) => block.push_str(line),
        }
        again.push_str(line);
    }
    Ok(again)
}

/// The text without the parts that differ each time.
fn comparable(text: &str) -> String {
    let mut comparable = String::with_capacity(text.len());
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=-".contains(c);
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let length = rest[start..].find(|c| !is_part(c)).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        let word = word.trim_start_matches(['+', '-']);
        comparable.push_str(&rest[..start + length - word.len()]);
        comparable.push_str(placeholder(word).unwrap_or(word));
        rest = &rest[start + length..];
    }
    comparable + rest
}

fn placeholder(word: &str) -> Option<&'static str> {
    let is_hex =
        |word: &str| word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_day = |word: &str| {
        word.len() == 10
            && word.bytes().enumerate().all(|(at, b)| match at {
                4 | 7 => b == b'-',
                _ => b.is_ascii_digit(),
            })
    };
    match word {
        word if word.starts_with("age1") && word.len() > 16 => Some("(recipient)"),
        word if is_day(word) => Some("(day)"),
        word if word.len() >= 7 && is_hex(word) => Some("(digits)"),
        word if word.len() >= 60 && !word.contains('-') => Some("(sealed)"),
        _ => None,
    }
}

#[test]
fn only_random_parts_are_not_compared() {
    let line = |fingerprint: &str, recipient: &str, day: &str, value: &str| {
        format!("-{fingerprint}: {recipient}, {day} [main {}] {value} 12 files", &fingerprint[..7])
    };
    let (one, other) = ("0123456789abcdef", "fedcba9876543210");
    let value = "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IGJ1bGxhLmRldi92MSBzdHJpY3Qgc2hvcCBkYiB1c2Vy";
    let page = line(one, "age1pq1zzzzzzzzzzzzzzzz", "2026-11-21", value);
    let here = line(other, "age1pq1yyyyyyyyyyyyyyyy", "2026-12-01", &value.replace('Y', "Z"));
    assert_eq!(comparable(&page), comparable(&here));
    assert_ne!(comparable(&page), comparable(&page.replace("12 files", "13 files")));
    assert_ne!(comparable(&page), comparable(&page.replace("main", "feature")));
}

#[test]
fn old_output_is_replaced() -> Result<()> {
    let page = "Do:\n\n```console\n$ a\nold\nold\n$ b\n```\n\n```yaml\n# x.yaml\na: 1\n```\nend\n";
    let mut files = Vec::new();
    let again = replayed(page, |part| match part {
        GuideStep::Command(line) => Ok(format!("new {line}\n")),
        GuideStep::File(name, text) => {
            files.push((name.to_owned(), text.to_owned()));
            Ok(String::new())
        }
    })?;
    assert_eq!(again, page.replace("old\nold\n", "new a\n").replace("$ b\n", "$ b\nnew b\n"));
    assert_eq!(files, [("x.yaml".to_owned(), "# x.yaml\na: 1\n".to_owned())]);
    Ok(())
}
