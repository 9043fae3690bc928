//! The files to check, and the check of each of them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use zeroize::Zeroizing;

use crate::commands::lint::allowance;
use crate::commands::lint::context::LintContext;
use crate::commands::lint::file_report::FileReport;
use crate::commands::lint::finding::{Finding, FindingPlace};
use crate::commands::lint::leaks::{self, Words};
use crate::commands::lint::rule::Rule;
use crate::commands::lint::{kustomization, objects, secrets, template_text};
use crate::files::input::{self, Input};
use crate::files::walk::{self, FileOutcome, FoundFile, Interest};
use crate::manifest;
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Failure, OrHint};

/// How much of a file is searched if it is not a manifest.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;

/// A file that cannot be read is checked here, by its words.
const ANYTHING: Interest = Interest { words: &[], mark: "", may_hold_others: |_| false };

/// The files to check, in order. Without a path, the current folder. A pipe has to be named with `-`, because an
/// overlooked stream would pass.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<FoundFile>, Failure> {
    input::refuse_stdin_twice(paths)?;
    if paths.is_empty() && is_piped() {
        return Err(anyhow!("no FILE given, but something is piped in"))
            .or_hint("pass - to check the piped input, or . to check the current folder");
    }
    let (stdin, files): (Vec<_>, Vec<_>) =
        paths.iter().cloned().partition(|path| input::is_stdin(path));
    let mut sources = Vec::from_iter(stdin.into_iter().map(|path| FoundFile {
        path,
        is_named: true,
        is_linked: false,
    }));
    if !files.is_empty() || sources.is_empty() {
        sources.extend(walk::everything(&files)?);
    }
    mark_referenced(&mut sources);
    Ok(sources)
}

/// Marks the files that a kustomization reads as manifests, whatever their names are.
fn mark_referenced(sources: &mut [FoundFile]) {
    let mut referenced = HashSet::new();
    for source in sources.iter().filter(|source| kustomization::is_its_name(&source.path)) {
        let Ok(input) = input::read(&source.path) else { continue };
        let Ok(file) = manifest::parse(input) else { continue };
        let folder = source.path.parent().unwrap_or(Path::new(""));
        for document in file.documents() {
            let value = secrets::merged(document.value());
            let paths = kustomization::references(&value);
            referenced
                .extend(paths.iter().filter_map(|path| folder.join(path).canonicalize().ok()));
        }
    }
    if referenced.is_empty() {
        return;
    }
    for source in sources {
        source.is_linked |= source.path.canonicalize().is_ok_and(|path| referenced.contains(&path));
    }
}

/// Whether stdin is a pipe, so that it is likely meant to be read.
fn is_piped() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        std::fs::metadata("/dev/stdin").is_ok_and(|stdin| stdin.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    false
}

/// Reads and checks a file or stdin.
pub(super) fn check(found: &FoundFile, context: &LintContext<'_>) -> Result<FileReport, Failure> {
    let path = Some(found.path.as_path()).filter(|path| !input::is_stdin(path));
    let is_strict = found.is_named;
    let name = path.map_or("<stdin>".to_owned(), |path| path.display().to_string());
    let mut report = FileReport { name, ..FileReport::default() };
    let is_manifest = is_strict || found.is_linked || path.is_some_and(may_be_manifest);
    let input = match read(&found.path, is_manifest) {
        Ok(input) => input,
        Err(error) if !is_strict && walk::is_too_large(&error) => {
            let place = FindingPlace::line(&report.name, 1);
            let what = "larger than 16 MiB, so nothing in it was checked";
            report.findings.push(Finding::at(Rule::UncheckedFile, place, what));
            report.is_unreadable = true;
            return Ok(report);
        }
        Err(error) => {
            report.diagnostic = Some(Diagnostic::of(&report.name, error));
            return Ok(report);
        }
    };
    let input = match leaks::from_utf16(&input.bytes) {
        Some(bytes) if !is_strict => Input { name: input.name, bytes },
        _ => input,
    };
    let text = &input.bytes[..];
    let is_worth_reading = leaks::is_worth_reading(text);
    let is_read = is_strict || is_manifest && is_worth_reading;
    if !is_read && leaks::is_binary(text) {
        return Ok(report);
    }
    report.findings = leaks::identities(&report.name, text);
    let words = if is_worth_reading || is_strict { Words::of(text) } else { Words::default() };
    if is_read || words.has_secret && is_parsable(text) {
        read_manifests(&mut report, input, &words, is_strict, path, context)?;
    } else {
        report.is_other = is_manifest;
        // In other text, comments only matter if there are findings.
        if !report.findings.is_empty() {
            report.allow(allowance::of_comments(&report.name, &allowance::comments(text), &[]));
        }
    }
    report.cap();
    Ok(report)
}

/// Whether a file of another kind is a manifest nevertheless.
fn is_parsable(text: &[u8]) -> bool {
    let bytes = Zeroizing::new(text.to_vec());
    manifest::parse(Input { name: String::new(), bytes }).is_ok()
}

/// Checks the objects of a file, or reports why there are none.
fn read_manifests(
    report: &mut FileReport,
    input: Input,
    words: &Words,
    is_strict: bool,
    path: Option<&Path>,
    context: &LintContext<'_>,
) -> Result<(), Failure> {
    let comments = &allowance::comments(&input.bytes);
    let literal = words.has_placeholders.then(|| template_text::literal_line(&input.bytes));
    let open = match walk::parse(input, is_strict, ANYTHING) {
        Ok(FileOutcome::Objects(open)) => Some(open),
        Ok(FileOutcome::Unreadable(diagnostic)) => {
            unreadable(report, &diagnostic, words, literal.flatten());
            let is_changed = context.base.zip(path).is_some_and(|(base, path)| base.differs(path));
            report.raise_templates(is_changed && words.has_secret);
            None
        }
        Ok(FileOutcome::NotOurs) => None, // never: anything is of interest
        Err(failure) => {
            report.diagnostic = Some(Diagnostic::of(&report.name, failure));
            None
        }
    };
    let Some(open) = open else {
        report.is_unreadable = true;
        // Without documents, a comment applies to the whole file.
        report.allow(allowance::of_comments(&report.name, comments, &[]));
        return Ok(());
    };
    let home = context.environment_of(path)?;
    report.other_objects = open.other_documents;
    let objects = open.objects();
    objects.iter().for_each(|object| report.allow(allowance::of_object(object)));
    for object in &objects {
        if !report.is_full() {
            objects::check(object, context, home, report);
        }
    }
    objects::check_hidden(&open.manifests.whole_documents(), &objects, path, report);
    if let Some(("a text with the tag !!binary", line)) = words.mention {
        let place = FindingPlace::line(&report.name, line);
        let message = "a text with the tag !!binary, which tools read as other text";
        report.findings.push(Finding::at(Rule::MalformedManifest, place, message));
    }
    report.environment = home.environment.map(|environment| environment.name.clone());
    report.allow(allowance::of_comments(&report.name, comments, &open.manifests.lines()));
    Ok(())
}

/// A file that cannot be read as manifests: a finding if it mentions Secrets.
fn unreadable(
    report: &mut FileReport,
    diagnostic: &Diagnostic,
    words: &Words,
    literal: Option<usize>,
) {
    if let Some(line) = literal {
        let place = FindingPlace::line(&report.name, line);
        let message = "a template of a Secret with a plaintext value";
        report.findings.push(Finding::at(Rule::PlaintextSecret, place, message));
    }
    let Some((mention, line)) = words.mention else {
        report.is_other = true;
        return;
    };
    let line = FindingPlace::line(&report.name, line);
    report.findings.push(if words.has_placeholders {
        let message =
            format!("a template that mentions {mention}; the rendered manifests are not checked");
        Finding::at(Rule::UnrenderedTemplate, line, message)
    } else {
        let (place, what) = match &diagnostic.place {
            Some(place) => (place.position.clone().into(), diagnostic.message.as_str()),
            None => (line, "it is not UTF-8 text"),
        };
        let message = format!("the file mentions {mention}, but it could not be checked: {what}");
        Finding::at(Rule::MalformedManifest, place, message)
    });
}

/// Whether a file is likely a manifest, a copy of one or a template of one.
fn may_be_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    walk::is_manifest(path)
        || name.ends_with(".tpl")
        || kustomization::is_its_name(path)
        || path.components().any(|part| part.as_os_str() == "templates")
        || [".yaml.", ".yml.", ".json."].iter().any(|part| name.contains(part))
}

/// All of a manifest, or the beginning of anything else.
fn read(path: &Path, is_manifest: bool) -> anyhow::Result<Input> {
    if is_manifest {
        return input::read(path);
    }
    let name = path.display().to_string();
    let read = || -> io::Result<_> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(MAX_TEXT_BYTES);
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Input { name, bytes }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{name} no longer exists"),
        Err(error) => Err(error).context(format!("cannot read {name}")),
    }
}
