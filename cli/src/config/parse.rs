//! From the text of `bulla.yaml` to what it says, strictly: a field that is not known, a recipient that is none or
//! a path that means nothing is refused with its line, because what is dropped silently was meant to protect.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use bulla_sealing::{Recipient, Recipients, RecipientsError, is_dns_label};
use globset::{GlobBuilder, GlobMatcher, GlobSetBuilder};
use jiff::civil::Date;
use serde_json::{Map, Value};

use super::{Config, Environment, Pin, PinState};
use crate::escape;
use crate::failure::{Failure, OrHint};
use crate::input::Input;
use crate::manifest::{self, Document, Step};

/// More make a value larger than a cluster takes; a pin that was retired long ago can go.
const MAX_PINS: usize = 256;

impl Config {
    /// Reads the text of the file that `path` names.
    pub(super) fn parse(path: &Path, input: Input) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let root = std::fs::canonicalize(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        let bytes = input.bytes.to_vec();
        let document = manifest::read_document(input)?;
        let environments = Reader(&document).environments()?;
        Ok(Self { path: path.to_owned(), root, environments, document, bytes })
    }
}

struct Reader<'a>(&'a Document);

/// A glob as it is written, and where.
struct Glob {
    environment: String,
    index: usize,
    text: String,
    matcher: GlobMatcher,
}

impl Reader<'_> {
    fn environments(&self) -> Result<Vec<Environment>, Failure> {
        let path = [Step::Key("environments")];
        let whole = self.mapping(self.0.value(), &[], &["environments"])?;
        let Some(environments) = whole.get("environments") else {
            return Err(self.0.mistake(&[], "environments is missing").into());
        };
        let Value::Object(environments) = environments else {
            return Err(self.0.mistake(&path, "not a mapping of names to environments").into());
        };
        let mut globs = Vec::new();
        let mut read = Vec::new();
        for (name, environment) in environments {
            read.push(self.environment(name, environment, &mut globs)?);
        }
        self.refuse_overlaps(&globs)?;
        Ok(read)
    }

    fn environment(
        &self,
        name: &str,
        value: &Value,
        globs: &mut Vec<Glob>,
    ) -> Result<Environment, Failure> {
        let path = [Step::Key("environments"), Step::Key(name)];
        if !is_dns_label(name) {
            return Err(self
                .0
                .mistake(&path, "the name of an environment has lower-case letters, digits and -")
                .into());
        }
        let map = self.mapping(value, &path, &["paths", "namespace", "recipients"])?;
        let [environments, name_step] = path;
        let at = |field| [environments, name_step, Step::Key(field)];
        let Some(Value::Array(paths)) = map.get("paths").filter(|paths| has_items(paths)) else {
            return Err(self.0.mistake(&at("paths"), "a list of paths is wanted").into());
        };
        let mut set = GlobSetBuilder::new();
        for (index, glob) in paths.iter().enumerate() {
            let [environments, name_step, field] = at("paths");
            let path = [environments, name_step, field, Step::Index(index)];
            let Some(text) = glob.as_str() else {
                return Err(self.0.mistake(&path, "not text; quote it").into());
            };
            if let Some(what) = unfit_path(text) {
                return Err(self.0.mistake(&path, what).into());
            }
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            let Ok(glob) = glob else {
                return Err(self.0.mistake(&path, "not a glob").into());
            };
            let (environment, text) = (name.to_owned(), text.to_owned());
            globs.push(Glob { environment, index, text, matcher: glob.compile_matcher() });
            set.add(glob);
        }
        let globs = set.build().map_err(|_| self.0.mistake(&at("paths"), "not globs"))?;
        let namespace = match map.get("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) if is_dns_label(name) => Some(name.clone()),
            Some(_) => {
                return Err(self
                    .0
                    .mistake(&at("namespace"), "not a valid name of a namespace")
                    .into());
            }
        };
        let pins = match map.get("recipients") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(pins)) if pins.len() > MAX_PINS => {
                let what =
                    format!("more than {MAX_PINS} recipients; delete what was retired long ago");
                return Err(self.0.mistake(&at("recipients"), &what).into());
            }
            Some(Value::Array(pins)) => self.pins(at("recipients"), pins)?,
            Some(_) => {
                return Err(self
                    .0
                    .mistake(&at("recipients"), "a list of recipients is wanted")
                    .into());
            }
        };
        Ok(Environment { name: name.to_owned(), globs, namespace, pins })
    }

    fn pins(&self, path: [Step<'_>; 3], values: &[Value]) -> Result<Vec<Pin>, Failure> {
        let [environments, name, recipients] = path;
        let at = |index| [environments, name, recipients, Step::Index(index)];
        let mut pins: Vec<Pin> = Vec::new();
        let mut active: HashMap<String, usize> = HashMap::new();
        for (index, value) in values.iter().enumerate() {
            let pin = self.pin(&at(index), value)?;
            if pins.iter().any(|earlier| earlier.recipient == pin.recipient) {
                return Err(self
                    .0
                    .mistake(&at(index), "a recipient that stands there twice")
                    .into());
            }
            if pin.state == PinState::Active && active.insert(pin.holder.clone(), index).is_some() {
                let what = format!("a second Active recipient of holder {}", pin.holder);
                return Err(self.0.mistake(&at(index), &what)).or_hint(
                    "a holder has one Active key; set the state of the older one to Retired",
                );
            }
            pins.push(pin);
        }
        let recipients: Vec<_> = pins
            .iter()
            .filter(|pin| pin.state == PinState::Active)
            .map(|pin| pin.recipient.clone())
            .collect();
        match Recipients::new(recipients) {
            Ok(_) | Err(RecipientsError::None) => Ok(pins),
            Err(error) => {
                let failure = Failure::unable(self.0.mistake(&path, &error.to_string()));
                Err(match error {
                    RecipientsError::Mixed(..) => failure.hint(
                        "age forbids both types in one file: the Active recipients of an environment are of one type",
                    ),
                    _ => failure,
                })
            }
        }
    }

    fn pin(&self, path: &[Step<'_>; 4], value: &Value) -> Result<Pin> {
        const FIELDS: [&str; 4] = ["recipient", "holder", "state", "fetched"];
        let map = self.mapping(value, path, &FIELDS)?;
        let [environments, name, recipients, index] = *path;
        let at = |field| [environments, name, recipients, index, Step::Key(field)];
        let text = |field| match map.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(self.0.mistake(&at(field), "not text; quote it")),
            None => Err(self.0.mistake(path, &format!("{field} is missing"))),
        };
        let recipient: Recipient = text("recipient")?
            .parse()
            .map_err(|error| self.0.mistake(&at("recipient"), &format!("{error}")))?;
        let holder = text("holder")?.to_owned();
        if !is_dns_label(&holder) {
            let what = "the name of a holder has lower-case letters, digits and -";
            bail!(self.0.mistake(&at("holder"), what));
        }
        let state = match text("state")? {
            "Active" => PinState::Active,
            "Retired" => PinState::Retired,
            _ => bail!(self.0.mistake(&at("state"), "neither Active nor Retired")),
        };
        let fetched: Date = text("fetched")?
            .parse()
            .map_err(|_| self.0.mistake(&at("fetched"), "not a day, like 2026-11-21"))?;
        Ok(Pin { recipient, holder, state, fetched })
    }

    /// A mapping with no fields but these.
    fn mapping<'v>(
        &self,
        value: &'v Value,
        path: &[Step<'_>],
        fields: &[&str],
    ) -> Result<&'v Map<String, Value>> {
        let Value::Object(map) = value else {
            let what = format!("a mapping with {} is wanted", fields.join(", "));
            bail!(self.0.mistake(path, &what));
        };
        match map.keys().find(|field| !fields.contains(&field.as_str())) {
            Some(field) => {
                let path = [path, &[Step::Key(field)]].concat();
                bail!(self.0.mistake(&path, "unknown field"))
            }
            None => Ok(map),
        }
    }

    /// A path that two globs name is of two environments. Whether any two globs can meet is not decided here, but
    /// the usual cases are: a glob is a path that it names itself. The others are found when a file is looked at.
    fn refuse_overlaps(&self, globs: &[Glob]) -> Result<(), Failure> {
        for glob in globs.iter().filter(|glob| glob.matcher.is_match(&glob.text)) {
            let is_other = |other: &&Glob| {
                other.environment != glob.environment && other.matcher.is_match(&glob.text)
            };
            if let Some(other) = globs.iter().find(is_other) {
                let path = [
                    Step::Key("environments"),
                    Step::Key(&glob.environment),
                    Step::Key("paths"),
                    Step::Index(glob.index),
                ];
                let what = format!(
                    "{} of environment {} names the same paths",
                    escape::line(&other.text),
                    other.environment
                );
                return Err(anyhow!(self.0.mistake(&path, &what)))
                    .or_hint("a file belongs to one environment: make their paths disjoint");
            }
        }
        Ok(())
    }
}

fn has_items(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
}

/// Why a path cannot be one of the repository.
fn unfit_path(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        return Some("a URL, where a path within the repository is wanted");
    }
    if text.contains('\\') {
        return Some("folders are separated by /");
    }
    if text.starts_with('/') || text.as_bytes().get(1) == Some(&b':') {
        return Some("an absolute path, where one relative to this file is wanted");
    }
    let mut parts = text.split('/');
    match parts.find(|part| ["", ".", ".."].contains(part)) {
        Some("..") => Some("a path that leads out of the repository"),
        Some(_) => {
            Some("a path without . and empty parts is wanted; a folder is written folder/**")
        }
        None => None,
    }
}
