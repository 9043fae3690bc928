//! A function of production code fits on a screen: at most 70 lines.

use anyhow::Result;

use crate::{SEE_ALL, files, none};

const MAX_LINES: usize = 70;

#[test]
fn functions_are_short() -> Result<()> {
    let mut findings = Vec::new();
    for file in files()?.iter().filter(|file| file.path.contains("/src/")) {
        let folder = file.path.split('/').next().unwrap_or_default();
        if file.path.ends_with(".rs") && !SEE_ALL.contains(&folder) {
            let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let long = functions(product).into_iter().filter(|(_, lines)| *lines > MAX_LINES);
            findings.extend(long.map(|(name, lines)| format!("{}: {name}: {lines}", file.path)));
        }
    }
    none("name the steps and give each a function of its own", findings)
}

/// Each function with a body, and its number of lines. In formatted code a body ends where a brace has the
/// indentation of its signature.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indentation = &line[..line.len() - code.len()];
        let Some((before, signature)) = code.split_once("fn ") else { continue };
        let is_qualifier = |word: &str| {
            word.starts_with("pub") || ["async", "const", "unsafe"].contains(&word) || word == "in"
        };
        if !before.split_whitespace().all(is_qualifier) || line.ends_with([';', '}']) {
            continue;
        }
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        let end = lines[start..].iter().position(|line| {
            line.strip_prefix(indentation)
                .is_some_and(|rest| rest == "}" || rest.starts_with(")") && rest.ends_with(';'))
        });
        found.extend(end.map(|end| (name, end + 1)));
    }
    found
}

#[test]
fn lines_are_counted_from_the_signature_to_the_closing_brace() {
    let body = "        x;\n".repeat(71);
    let text = format!(
        "impl A {{\n    pub(crate) fn long(\n        a: B,\n    ) {{\n{body}    }}\n\n    fn short() {{\n    }}\n}}\n"
    );
    assert_eq!(functions(&text), [("long", 75), ("short", 2)]);
}
