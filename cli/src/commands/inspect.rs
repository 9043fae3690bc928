//! `bulla inspect`.

mod report;

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::json;

use self::report::Report;
use crate::command_line::flags::Format;
use crate::files::input::Input;
use crate::files::{input, walk};
use crate::manifest::{ManifestFile, Object, ObjectKind};
use crate::report::diagnostic::Diagnostic;
use crate::report::failure::{Answer, Failure};
use crate::report::{diagnostic, output};
use crate::who::config::Config;
use crate::who::identities;

/// How a sealed value begins in base64.
const SEALED_PREFIX: &[u8] = b"YWdlLWVuY3J5cHRpb24ub3JnL";

/// Show what sealed values are for and who can open them, with no key
///
/// What is shown is what the values say of themselves: the cluster verifies it when it opens them; without a key
/// nobody can. Who holds a key is what bulla.yaml says, if there is one.
///
/// In a folder *.yaml, *.yml and *.json are looked at, less what Git ignores. A file, or stdin, may also be a single
/// sealed value: in base64 as it stands in a manifest, or the age file itself, binary or armored.
///
/// The exit code is 1 when something of it cannot be read.
#[derive(Args)]
pub(crate) struct Inspect {
    /// Files and folders with manifests, or single values; - for stdin, which is the default
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The bulla.yaml to name holders from [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Inspect {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let mut seen = Seen::default();
        for path in input::paths(&self.files, [])? {
            match path.is_dir() {
                true => seen.folder(path)?,
                false => seen.file(input::read(path)?)?,
            }
        }
        let config = self.config()?;
        let config = config.as_ref();
        match self.format {
            Format::Human => {
                let texts: Vec<_> = seen.reports.iter().map(|it| it.to_text(config)).collect();
                output::text(&texts.join("\n"))?;
            }
            Format::Json => {
                let reports: Vec<_> = seen.reports.iter().map(|it| it.to_json(config)).collect();
                output::stdout(format!("{:#}\n", json!(reports)).as_bytes())?;
            }
        }
        diagnostic::report(&seen.refused);
        match seen.refused.is_empty() && seen.reports.iter().all(Report::is_read) {
            true => Ok(Answer::Yes),
            false => Ok(Answer::No),
        }
    }

    /// It only gives names to keys, so that none can be had does not end the command unless it was asked for.
    fn config(&self) -> Result<Option<Config>, Failure> {
        let is_file = |path: &&PathBuf| path.as_path() != Path::new("-");
        let files: Vec<_> = self.files.iter().filter(is_file).cloned().collect();
        match Config::find(self.config.as_deref(), &files) {
            Err(failure) if self.config.is_none() => {
                let (error, _) = failure.into_parts();
                output::warning(&format!("holders are not named: {error}"));
                Ok(None)
            }
            config => config,
        }
    }
}

/// What was found in all files.
#[derive(Default)]
struct Seen {
    reports: Vec<Report>,
    refused: Vec<Diagnostic>,
}

impl Seen {
    /// A file that was named, or stdin.
    fn file(&mut self, input: Input) -> Result<(), Failure> {
        if let Some(value) = single_value(&input)? {
            self.reports.push(Report::of_value(&input.name, &value));
            return Ok(());
        }
        for object in ManifestFile::parse(input)?.objects()? {
            self.reports.push(Report::of_object(&object)?);
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> Result<(), Failure> {
        for found in walk::manifests(&[path.to_owned()])? {
            let manifests = match walk::read(&found)? {
                None => continue,
                Some(Ok(manifests)) => manifests,
                Some(Err(refused)) => {
                    self.refused.push(refused);
                    continue;
                }
            };
            match walk::objects(&found, &manifests) {
                Ok((objects, _)) => objects.iter().for_each(|object| self.object(object)),
                Err(refused) => self.refused.push(refused),
            }
        }
        Ok(())
    }

    /// One among others, which may be of any kind.
    fn object(&mut self, object: &Object<'_>) {
        match object.kind() {
            ObjectKind::SealedSecret => match Report::of_object(object) {
                Ok(report) => self.reports.push(report),
                Err(failure) => {
                    let (message, hint) = failure.into_parts();
                    let file = object.position(&[]).file;
                    self.refused.push(Diagnostic::file(&file, message, hint.as_deref()));
                }
            },
            ObjectKind::OtherOfOurs if object.is_unknown_version() => {
                self.refused.push(diagnostic::unknown_version(object));
            }
            _ => {}
        }
    }
}

/// The age file that `input` is, if it is one, whatever form it has.
fn single_value(input: &Input) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(file) = identities::age_file(&input.name, &input.bytes)? {
        return Ok(Some(file.to_vec()));
    }
    if !input.bytes.trim_ascii_start().starts_with(SEALED_PREFIX) {
        return Ok(None);
    }
    let text: Vec<u8> =
        input.bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok(BASE64_STANDARD.decode(text).ok())
}
