//! The files to check, and the check of each of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::commands::lint::allowance::{self, AllowComment, Allowance};
use crate::commands::lint::context::LintContext;
use crate::commands::lint::finding::{Finding, FindingPlace};
use crate::commands::lint::leaks::{self, Words};
use crate::commands::lint::objects::{ObjectChecker, SeenObject};
use crate::commands::lint::rule::Rule;
use crate::files::input::{self, Input};
use crate::files::walk::{self, FileOutcome, FoundFile, Interest};
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Failure, OrHint};

/// How much of a file is searched if it is not a manifest.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;

/// A file that cannot be read is checked here, by its words.
const ANYTHING: Interest = Interest { words: &[], mark: "", may_hold_others: |_| false };

/// What to check.
pub(super) enum LintSource {
    Stdin,
    File(FoundFile),
}

/// The result of one check.
#[derive(Default)]
pub(super) struct FileReport {
    pub(super) name: String,
    pub(super) findings: Vec<Finding>,
    pub(super) allowances: Vec<Allowance>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
    /// Whether it looks like a manifest but has nothing to check.
    pub(super) is_other: bool,
    /// Whether it should have been checked and could not be read.
    pub(super) is_unreadable: bool,
    /// Why it was not checked.
    pub(super) diagnostic: Option<Diagnostic>,
    environment: Option<String>,
    seen: Vec<SeenObject>,
}

/// The files to check, in order. Without a path, the current folder. A pipe has to be named with `-`, because an
/// overlooked stream would pass.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<LintSource>, Failure> {
    input::refuse_stdin_twice(paths)?;
    let is_stdin = |path: &&PathBuf| input::is_stdin(path);
    if paths.is_empty() && is_piped() {
        return Err(anyhow::anyhow!("no FILE given, but something is piped in"))
            .or_hint("pass - to check the piped input, or . to check the current folder");
    }
    let mut sources: Vec<LintSource> = Vec::new();
    let has_stdin = paths.iter().any(|path| input::is_stdin(path));
    sources.extend(has_stdin.then_some(LintSource::Stdin));
    let paths: Vec<PathBuf> = paths.iter().filter(|path| !is_stdin(path)).cloned().collect();
    if !paths.is_empty() || !has_stdin {
        sources.extend(walk::everything(&paths)?.into_iter().map(LintSource::File));
    }
    Ok(sources)
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

/// Reads and checks a source.
pub(super) fn check(source: &LintSource, context: &LintContext<'_>) -> Result<FileReport, Failure> {
    let (path, is_strict) = match source {
        LintSource::Stdin => (None, true),
        LintSource::File(found) => (Some(found.path.as_path()), found.is_named),
    };
    let name = path.map_or("<stdin>".to_owned(), |path| path.display().to_string());
    let mut report = FileReport { name, ..FileReport::default() };
    let is_manifest = is_strict || path.is_some_and(may_be_manifest);
    let input = match read(path, is_manifest) {
        Ok(input) => input,
        Err(error) if !is_strict && walk::is_too_large(&error) => {
            walk::warn_of_too_large(Path::new(&report.name));
            return Ok(report);
        }
        Err(error) => {
            report.diagnostic = Some(Diagnostic::of(&report.name, error));
            return Ok(report);
        }
    };
    let utf16 = leaks::from_utf16(&input.bytes);
    if utf16.is_none() && !is_strict && leaks::is_binary(&input.bytes) {
        return Ok(report);
    }
    let text = utf16.as_deref().unwrap_or(&input.bytes);
    report.findings = leaks::identities(&report.name, text);
    if is_strict || is_manifest && leaks::is_worth_reading(text) {
        let (words, comments) = (Words::of(text), allowance::comments(text));
        report.read_manifests(input, &words, &comments, is_strict, path, context)?;
    } else {
        report.is_other = is_manifest;
        report.allow_in_text(text);
    }
    Ok(report)
}

impl FileReport {
    /// Checks the objects of a file, or reports why there are none.
    fn read_manifests(
        &mut self,
        input: Input,
        words: &Words,
        comments: &[AllowComment],
        is_strict: bool,
        path: Option<&Path>,
        context: &LintContext<'_>,
    ) -> Result<(), Failure> {
        let open = match walk::parse(input, is_strict, ANYTHING) {
            Ok(FileOutcome::Objects(open)) => open,
            Ok(FileOutcome::Unreadable(diagnostic)) => {
                self.unreadable(&diagnostic, words);
                // Without documents, a comment applies to the whole file.
                self.allow(allowance::of_comments(&self.name, comments, &[]));
                return Ok(());
            }
            Ok(FileOutcome::NotOurs) => return Ok(()), // never: anything is of interest
            Err(failure) => {
                self.is_unreadable = true;
                self.diagnostic = Some(Diagnostic::of(&self.name, failure));
                self.allow(allowance::of_comments(&self.name, comments, &[]));
                return Ok(());
            }
        };
        let home = context.environment_of(path)?;
        let mut checker = ObjectChecker::new(context, home);
        for object in &open.objects() {
            checker.check(object);
            self.allow(allowance::of_object(object));
        }
        self.findings.append(&mut checker.findings);
        self.sealed_secrets = checker.sealed_secrets;
        self.values = checker.values;
        self.other_objects = checker.other_objects + open.other_documents;
        self.seen = checker.seen;
        self.environment = home.environment.map(|environment| environment.name.clone());
        self.allow(allowance::of_comments(&self.name, comments, &open.manifests.lines()));
        Ok(())
    }

    /// A file that cannot be read as manifests: a finding if it mentions Secrets.
    fn unreadable(&mut self, diagnostic: &Diagnostic, words: &Words) {
        self.is_unreadable = true;
        let Some((mention, line)) = words.mention else {
            self.is_other = true;
            return;
        };
        if words.has_placeholders {
            let message = format!(
                "a template that mentions {mention}; the rendered manifests are not checked"
            );
            let place = FindingPlace::line(&self.name, line);
            self.findings.push(Finding::at(Rule::UnrenderedTemplate, place, message));
            return;
        }
        let (place, what) = match &diagnostic.place {
            Some(place) => (place.position.clone().into(), diagnostic.message.as_str()),
            None => (FindingPlace::line(&self.name, line), "it is not UTF-8 text"),
        };
        let message = format!("the file mentions {mention}, but it could not be checked: {what}");
        self.findings.push(Finding::at(Rule::MalformedManifest, place, message));
    }

    /// In other text, comments only matter if there are findings.
    fn allow_in_text(&mut self, bytes: &[u8]) {
        if !self.findings.is_empty() {
            let comments = allowance::comments(bytes);
            self.allow(allowance::of_comments(&self.name, &comments, &[]));
        }
    }

    fn allow(&mut self, (allowances, findings): (Vec<Allowance>, Vec<Finding>)) {
        self.allowances.extend(allowances);
        self.findings.extend(findings);
    }
}

/// Finds duplicate objects of an environment, or of a file or stream outside of environments.
pub(super) fn find_duplicates(reports: &mut [FileReport]) {
    let mut first: HashMap<(String, &'static str, Option<String>, String), FindingPlace> =
        HashMap::new();
    for report in reports {
        let FileReport { name: file, environment, seen, findings, .. } = report;
        for seen in std::mem::take(seen) {
            let SeenObject { kind, namespace, name, title, place } = seen;
            let extent = match (&environment, &namespace) {
                (Some(environment), Some(_)) => format!("environment {environment}"),
                // Without a namespace the same name in another file may be for another one.
                _ => format!("file {file}"),
            };
            let key = (extent, kind, namespace, name);
            if let Some(earlier) = first.get(&key) {
                let FindingPlace { file, line, .. } = earlier;
                let message = format!("the same {kind} is in {file}, line {line}");
                let finding = Finding::at(Rule::DuplicateObject, place, message);
                findings.push(Finding { object: Some(title), ..finding });
            } else {
                first.insert(key, place);
            }
        }
    }
}

/// Whether a file is likely a manifest, a copy of one or a template of one.
fn may_be_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    walk::is_manifest(path)
        || name.ends_with(".tpl")
        || [".yaml.", ".yml.", ".json."].iter().any(|part| name.contains(part))
}

/// All of a manifest, or the beginning of anything else.
fn read(path: Option<&Path>, is_manifest: bool) -> anyhow::Result<Input> {
    let path = path.unwrap_or(Path::new("-"));
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
