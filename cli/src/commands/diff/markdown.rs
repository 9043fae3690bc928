//! Differences as markdown, for a comment in a review.
//!
//! Text from a file goes into a code span or code block with a fence longer than any in it, so that it cannot be
//! markup or a link, and cannot mention anyone.

use crate::commands::diff::compare::{Comparison, Holder, KeyReport, KeyReportKind, ObjectChange};
use crate::commands::diff::report;
use crate::report::escape;
use crate::report::output::count;

/// A comment on GitHub or GitLab can be larger, but it may hold other text too.
const MAX_BYTES: usize = 60_000;

/// A table for each object.
pub(super) fn text(comparison: &Comparison) -> String {
    if comparison.objects.is_empty() && comparison.diagnostics.is_empty() {
        return "No sealed values differ.\n".to_owned();
    }
    let mut text = format!("**{}**\n", report::summary(comparison));
    let blocks: Vec<_> = comparison.objects.iter().map(object).collect();
    for (index, block) in blocks.iter().enumerate() {
        if text.len() + block.len() > MAX_BYTES {
            let left = count(blocks.len() - index, "more object");
            text.push_str(&format!("\n{left}: too many for one comment; run `bulla diff`.\n"));
            break;
        }
        text.push_str(block);
    }
    for diagnostic in comparison.diagnostics.iter().take(20) {
        text.push_str(&format!("\n- {} could not be read\n", code(&diagnostic.file)));
    }
    text
}

fn object(object: &ObjectChange) -> String {
    let kind = object.kind.as_str();
    let clear = if object.is_plaintext { ": **a plaintext Secret**" } else { "" };
    let mut text = format!(
        "\n#### {} {kind}{clear}\n\n{}\n",
        code(&object.title),
        code(&report::place(object))
    );
    if !object.keys.is_empty() {
        text.push_str("\n| key | change | |\n| --- | --- | --- |\n");
        text.extend(object.keys.iter().map(row));
    }
    if let Some((old, new)) = &object.policy {
        text.push_str(&format!("\nTarget policy: {} → {}\n", code(old), code(new)));
    }
    for field in &object.other_fields {
        text.push_str(&format!("\n{}: changed\n", code(field)));
    }
    if !object.lines.is_empty() {
        text.push_str(&block(&object.lines));
    }
    text
}

fn row(report: &KeyReport) -> String {
    let mut about = Vec::new();
    if let Some((object, key)) = &report.from {
        about.push(format!("from {}, key {}", cell(object), cell(key)));
    }
    if let Some((old, new)) = &report.binding {
        about.push(format!("was for {}, now for {}", cell(old), cell(new)));
    }
    let holder = |sign: &str, Holder { fingerprint, name }: &Holder| match name {
        Some(name) => format!("{sign} `{fingerprint}` ({})", cell(name)),
        None => format!("{sign} `{fingerprint}`"),
    };
    if report.kind != KeyReportKind::Removed {
        about.extend(report.went.iter().map(|key| holder("−", key)));
        about.extend(report.came.iter().map(|key| holder("+", key)));
    }
    format!("| {} | {} | {} |\n", cell(&report.key), report.kind.as_str(), about.join("<br>"))
}

/// A code span. In a table a bar would end the cell, even within code.
fn cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// A code span that nothing in it can end.
fn code(text: &str) -> String {
    let text = escape::line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    if text.is_empty() || text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

fn block(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| escape::line(line)).collect();
    let longest = lines.iter().map(|line| longest_run(line)).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("\n{fence}diff\n{}\n{fence}\n", lines.join("\n"))
}

fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_code_span_can_end_it() {
        for (text, shown) in [
            ("db", "`db`"),
            ("a`b", "``a`b``"),
            ("``", "``` `` ```"),
            ("", "`  `"),
            ("@team <img src=x> [x](y)\n# z", r"`@team <img src=x> [x](y)\u{a}# z`"),
        ] {
            assert_eq!(code(text), shown);
        }
        assert_eq!(cell("a|b"), r"`a\|b`");
    }

    #[test]
    fn nothing_in_a_block_can_end_it() {
        let lines = ["+a: |".to_owned(), "+  ````".to_owned(), "+@team".to_owned()];
        assert_eq!(block(&lines), "\n`````diff\n+a: |\n+  ````\n+@team\n`````\n");
    }
}
