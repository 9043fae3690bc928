//! The files that are looked through, and the judgement of each of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use crate::commands::lint::allowance::{self, Allowance, Comment};
use crate::commands::lint::finding::{Finding, Place};
use crate::commands::lint::judge::{Known, Seen, Verdict};
use crate::commands::lint::leaks::{self, Words};
use crate::commands::lint::rule::Rule;
use crate::files::input::{self, Input};
use crate::files::walk::{self, Found};
use crate::manifest::{ManifestFile, MistakeAt};
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// How much of a file is looked through that is no manifest.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;

/// What is looked at.
pub(super) enum Source {
    Stdin,
    File(Found),
}

/// What came of one of them.
#[derive(Default)]
pub(super) struct FileReport {
    pub(super) name: String,
    pub(super) findings: Vec<Finding>,
    pub(super) allowances: Vec<Allowance>,
    pub(super) sealed_secrets: usize,
    pub(super) values: usize,
    pub(super) other_objects: usize,
    /// Whether it seems to be a manifest, and there is nothing in it to be judged.
    pub(super) is_other: bool,
    /// Whether it should have been judged and could not be read.
    pub(super) is_unreadable: bool,
    pub(super) refused: Option<Diagnostic>,
    environment: Option<String>,
    seen: Vec<Seen>,
}

/// The files to look at, in order. Without any path the current folder; what is piped in is asked for with `-`,
/// because a stream that is overlooked is one that passes.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    input::refuse_stdin_twice(paths)?;
    let is_stdin = |path: &&PathBuf| input::is_stdin(path);
    if paths.is_empty() && is_piped() {
        return Err(anyhow::anyhow!("no FILE is given and something is piped in"))
            .or_hint("name - to judge what is piped in, or . to judge the current folder");
    }
    let mut sources: Vec<Source> = Vec::new();
    let has_stdin = paths.iter().any(|path| input::is_stdin(path));
    sources.extend(has_stdin.then_some(Source::Stdin));
    let paths: Vec<PathBuf> = paths.iter().filter(|path| !is_stdin(path)).cloned().collect();
    if !paths.is_empty() || !has_stdin {
        sources.extend(walk::everything(&paths)?.into_iter().map(Source::File));
    }
    Ok(sources)
}

/// Whether stdin is a pipe, so that somebody means it to be read.
fn is_piped() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        std::fs::metadata("/dev/stdin").is_ok_and(|stdin| stdin.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    false
}

/// Reads one of them and judges what is in it.
pub(super) fn judge(source: &Source, known: &Known<'_>) -> Result<FileReport, Failure> {
    let (path, is_strict) = match source {
        Source::Stdin => (None, true),
        Source::File(found) => (Some(found.path.as_path()), found.is_named),
    };
    let name = path.map_or("<stdin>".to_owned(), |path| path.display().to_string());
    let mut report = FileReport { name, ..FileReport::default() };
    let is_manifest = is_strict || path.is_some_and(may_be_manifest);
    let input = match read(path, is_manifest) {
        Ok(input) => input,
        Err(error) if !is_strict && walk::is_too_large(&error) => {
            output::warning(&format!("{}: larger than 16 MiB, not looked at", report.name));
            return Ok(report);
        }
        Err(error) => {
            report.refused = Some(Diagnostic::file(&report.name, format!("{error:#}"), None));
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
        report.read_manifests(input, &words, &comments, is_strict, path, known)?;
    } else {
        report.is_other = is_manifest;
        report.allow_in_text(text);
    }
    Ok(report)
}

impl FileReport {
    /// Judges the objects of a file, or says why there are none.
    fn read_manifests(
        &mut self,
        input: Input,
        words: &Words,
        comments: &[Comment],
        is_strict: bool,
        path: Option<&Path>,
        known: &Known<'_>,
    ) -> Result<(), Failure> {
        let file = match ManifestFile::parse(input) {
            Ok(file) => file,
            Err(error) => {
                // Without documents a comment is for all of it.
                self.unreadable(&error, words, is_strict);
                self.allow(allowance::of_comments(&self.name, comments, &[]));
                return Ok(());
            }
        };
        let objects = match is_strict {
            true => file.objects().map(|objects| (objects, 0)),
            false => file.objects_among_others(),
        };
        match objects {
            Err(error) => self.unreadable(&error, words, is_strict),
            Ok((objects, others)) => {
                let home = known.home_of(path)?;
                let mut verdict = Verdict::new(known, home);
                for object in &objects {
                    verdict.judge(object);
                    self.allow(allowance::of_object(object));
                }
                self.findings.append(&mut verdict.findings);
                self.sealed_secrets = verdict.sealed_secrets;
                self.values = verdict.values;
                self.other_objects = verdict.other_objects + others;
                self.seen = verdict.seen;
                self.environment = home.environment.map(|environment| environment.name.clone());
            }
        }
        self.allow(allowance::of_comments(&self.name, comments, &file.lines()));
        Ok(())
    }

    /// A file that cannot be read as manifests: refused if it is named; a finding if it speaks of Secrets.
    fn unreadable(&mut self, error: &anyhow::Error, words: &Words, is_strict: bool) {
        self.is_unreadable = true;
        if is_strict {
            self.refused = Some(Diagnostic::file(&self.name, format!("{error:#}"), None));
            return;
        }
        let Some((mention, line)) = words.mention else {
            self.is_other = true;
            return;
        };
        if words.has_placeholders {
            let message =
                format!("a template that mentions {mention}; what it renders to is not judged");
            let place = Place::line(&self.name, line);
            self.findings.push(Finding::at(Rule::UnrenderedTemplate, place, message));
            return;
        }
        let (place, what) = match error.downcast_ref::<MistakeAt>() {
            Some(MistakeAt { position, what }) => (position.clone().into(), what.clone()),
            None => (Place::line(&self.name, line), "not a text in UTF-8".to_owned()),
        };
        let message = format!("it mentions {mention} and cannot be judged: {what}");
        self.findings.push(Finding::at(Rule::MalformedManifest, place, message));
    }

    /// In a text that is no manifest only what is found makes comments worth reading.
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

/// Finds objects that stand twice in one environment, or in one file or stream where there is none.
pub(super) fn find_duplicates(reports: &mut [FileReport]) {
    let mut first: HashMap<(String, &'static str, Option<String>, String), Place> = HashMap::new();
    for report in reports {
        let FileReport { name: file, environment, seen, findings, .. } = report;
        for seen in std::mem::take(seen) {
            let Seen { kind, namespace, name, title, place } = seen;
            let extent = match (&environment, &namespace) {
                (Some(environment), Some(_)) => format!("environment {environment}"),
                // Without a namespace the same name in another file may be for another one.
                _ => format!("file {file}"),
            };
            let key = (extent, kind, namespace, name);
            if let Some(earlier) = first.get(&key) {
                let Place { file, line, .. } = earlier;
                let message = format!("the same {kind} stands in {file}, line {line}");
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{name} is gone"),
        Err(error) => Err(error).context(format!("cannot read {name}")),
    }
}
