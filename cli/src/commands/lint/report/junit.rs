//! JUnit's XML, as CI servers read it: a test for each file, which fails with its errors.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;
use crate::commands::lint::rule::Level;
use crate::report::escape;

pub(super) fn render(report: &LintReport) -> Result<String> {
    let mut xml = Vec::new();
    write(report, &mut Writer::new_with_indent(&mut xml, b' ', 2)).context("cannot write XML")?;
    xml.push(b'\n');
    String::from_utf8(xml).context("cannot write XML")
}

fn write(report: &LintReport, writer: &mut Writer<&mut Vec<u8>>) -> std::io::Result<()> {
    let mut by_file: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for file in &report.files {
        by_file.entry(file).or_default();
    }
    for finding in &report.findings {
        by_file.entry(&finding.place.file).or_default().push(finding);
    }
    let is_failed =
        |findings: &&Vec<&Finding>| findings.iter().any(|finding| finding.level() == Level::Error);
    let tests = by_file.len().to_string();
    let failures = by_file.values().filter(is_failed).count().to_string();
    let counts =
        [("name", "bulla lint"), ("tests", &tests), ("failures", &failures), ("errors", "0")];
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer.create_element("testsuites").with_attributes(counts).write_inner_content(|writer| {
        let suite = writer.create_element("testsuite").with_attributes(counts);
        suite.write_inner_content(|writer| {
            by_file.iter().try_for_each(|(file, findings)| test_case(writer, file, findings))
        })?;
        Ok(())
    })?;
    Ok(())
}

fn test_case(
    writer: &mut Writer<&mut Vec<u8>>,
    file: &str,
    findings: &[&Finding],
) -> std::io::Result<()> {
    let file = escape::line(file);
    let attributes = [("name", file.as_str()), ("classname", "bulla lint")];
    let case = writer.create_element("testcase").with_attributes(attributes);
    if findings.is_empty() {
        return case.write_empty().map(drop);
    }
    case.write_inner_content(|writer| {
        let (failures, others): (Vec<&Finding>, Vec<&Finding>) =
            findings.iter().partition(|finding| finding.level() == Level::Error);
        for finding in failures {
            let message = escape::line(&finding.sentence());
            let attributes = [("message", message.as_str()), ("type", finding.rule.id())];
            let text = format!("{}{}", finding.to_line(), finding.rule.hint());
            let failure = writer.create_element("failure").with_attributes(attributes);
            failure.write_text_content(BytesText::new(&text))?;
        }
        if !others.is_empty() {
            let text: String = others.into_iter().map(Finding::to_line).collect();
            writer.create_element("system-out").write_text_content(BytesText::new(&text))?;
        }
        Ok(())
    })?;
    Ok(())
}
