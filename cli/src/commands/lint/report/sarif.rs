//! SARIF 2.1.0, which code scanning services read. The object model is small where it is used here, so it is written
//! out: crates for it generate all of the standard's schema.

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;
use crate::commands::lint::rule::Rule;
use crate::report::escape;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn render(report: &LintReport) -> Value {
    let results: Vec<_> = report.findings.iter().chain(&report.allowed).map(result).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "bulla",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.iter().copied().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(rule: Rule) -> Value {
    json!({
        "id": rule.id(),
        "shortDescription": {"text": rule.sentence()},
        "fullDescription": {"text": rule.sentence()},
        "help": {"text": rule.hint(), "markdown": rule.explanation()},
        "defaultConfiguration": {"level": rule.level().as_str()},
    })
}

fn result(finding: &Finding) -> Value {
    let place = &finding.place;
    let mut region = json!({"startLine": place.line});
    if let Some(columns) = &place.columns {
        region["startColumn"] = columns.start.into();
        region["endColumn"] = columns.end.into();
    }
    let mut result = json!({
        "ruleId": finding.rule.id(),
        "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
        "level": finding.level().as_str(),
        "message": {"text": plain(&finding.sentence())},
        "locations": [{"physicalLocation": {
            "artifactLocation": {"uri": uri(&place.file)},
            "region": region,
        }}],
    });
    if let Some(reason) = &finding.allowed {
        result["suppressions"] =
            json!([{"kind": "inSource", "justification": escape::line(reason)}]);
    }
    result
}

/// Text that a viewer does not take for a link, `[text](target)`, or for a placeholder, `{0}`.
fn plain(text: &str) -> String {
    let text = escape::line(text).replace('{', "{{").replace('}', "}}");
    if text.contains("](") { text.replace('[', "\\[").replace(']', "\\]") } else { text }
}

/// A path as a URI reference relative to where the command ran.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escaped: String = path
        .bytes()
        .map(|byte| match byte {
            b'\\' if cfg!(windows) => "/".to_owned(),
            byte if is_plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    if Path::new(path).is_absolute() { format!("file://{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_texts_are_escaped() {
        assert_eq!(uri("a b/ä:1.yaml"), "a%20b/%C3%A4%3A1.yaml");
        assert_eq!(uri("/a.yaml"), "file:///a.yaml");
        assert_eq!(plain("[a](b) {{ c }}"), "\\[a\\](b) {{{{ c }}}}");
        assert_eq!(plain("paths[0]: wrong"), "paths[0]: wrong");
    }
}
