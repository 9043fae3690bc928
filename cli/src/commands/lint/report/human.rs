//! For people: the finding, the line that it is about, and what to do.

use annotate_snippets::{
    AnnotationKind, Element, Group, Level as Grade, Origin, Renderer, Snippet,
};

use crate::commands::lint::finding::Finding;
use crate::commands::lint::lint_report::LintReport;
use crate::commands::lint::rule::Level;
use crate::report::escape;

/// With colours, which are removed later if they are disabled.
pub(super) fn render(report: &LintReport) -> String {
    let renderer = Renderer::styled();
    let text = |finding| renderer.render(&[group(finding)]) + "\n\n";
    report.findings.iter().map(text).collect()
}

/// Each text is escaped for a terminal before the renderer sees it.
fn group(finding: &Finding) -> Group<'static> {
    let grade = match finding.level() {
        Level::Error => Grade::ERROR,
        Level::Warning => Grade::WARNING,
        Level::Note => Grade::NOTE,
    };
    let title = grade.primary_title(escape::line(&finding.sentence())).id(finding.rule.id());
    let hint = Grade::HELP.message(finding.rule.hint());
    title.element(where_it_is(finding)).element(hint)
}

fn where_it_is(finding: &Finding) -> Element<'static> {
    let place = &finding.place;
    let path = escape::line(&place.file);
    if let Some(shown) = &finding.shown {
        let source = Snippet::source(shown.text.clone()).line_start(place.line).path(path);
        return source.annotation(AnnotationKind::Primary.span(shown.span.clone())).into();
    }
    let origin = Origin::path(path).line(place.line);
    match &place.columns {
        Some(columns) => origin.char_column(columns.start).into(),
        None => origin.into(),
    }
}
