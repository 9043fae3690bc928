//! Parses `bulla.yaml` strictly: an unknown field, an invalid recipient or an impossible path is refused with its line,
//! because dropping it silently could drop a protection.

use std::path::Path;

use anyhow::Context;
use bulla_sealing::{Recipient, Recipients, RecipientsError, is_dns_label};
use globset::{GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use jiff::civil::Date;
use serde_json::{Map, Value};

use super::{AllowedRule, Config, Environment, Pin, PinState};
use crate::files::input::Input;
use crate::files::write;
use crate::manifest::{self, GivenNamespace, Object, Step};
use crate::report::escape;
use crate::report::failure::Failure;

/// More would make a value too large for a cluster; a pin retired long ago can be deleted.
const MAX_PINS: usize = 256;

/// Reads the text of the file that `path` names.
pub(super) fn parse(path: &Path, input: Input) -> Result<Config, Failure> {
    let folder = write::folder_of(path);
    let root = std::fs::canonicalize(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let file = manifest::parse(input)?;
    let reader = ConfigReader { object: file.only()?, path };
    let environments = reader.environments()?;
    let allowed = reader.allowed(reader.object.value.get("lint"))?;
    Ok(Config { path: path.to_owned(), root, environments, allowed, file })
}

struct ConfigReader<'a> {
    object: Object<'a>,
    path: &'a Path,
}

/// A glob as written in the file, and where.
struct Glob {
    environment: String,
    index: usize,
    text: String,
    matcher: GlobMatcher,
}

impl ConfigReader<'_> {
    fn environments(&self) -> Result<Vec<Environment>, Failure> {
        let path = [Step::Key("environments")];
        let whole = self.mapping(self.object.value, &[], &["environments", "lint"])?;
        let Some(environments) = whole.get("environments") else {
            return Err(self
                .mistake(&[], "environments is missing")
                .hint("to write a first file, run bulla init"));
        };
        let Value::Object(environments) = environments else {
            return Err(self.mistake(&path, "expected a mapping of names to environments"));
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
            let what = "the name of an environment has only lower-case letters, digits and -";
            return Err(self.mistake(&path, what));
        }
        let map = self.mapping(value, &path, &["paths", "namespace", "recipients"])?;
        let at = |field| [path[0], path[1], Step::Key(field)];
        let (set, paths) = self.paths(&at("paths"), map.get("paths"))?;
        globs.extend(paths.into_iter().enumerate().map(|(index, glob)| Glob {
            environment: name.to_owned(),
            index,
            text: glob.glob().to_owned(),
            matcher: glob.compile_matcher(),
        }));
        let namespace = match map.get("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(namespace)) if is_dns_label(namespace) => {
                Some(GivenNamespace::by_environment(namespace, name, self.path))
            }
            Some(_) => return Err(self.mistake(&at("namespace"), "not a valid namespace name")),
        };
        let pins = self.list(&at("recipients"), map.get("recipients"), "recipients")?;
        if pins.len() > MAX_PINS {
            let what = format!("more than {MAX_PINS} recipients");
            return Err(self
                .mistake(&at("recipients"), &what)
                .hint("delete those retired long ago"));
        }
        let pins = self.pins(at("recipients"), pins)?;
        Ok(Environment { name: name.to_owned(), globs: set, namespace, pins })
    }

    /// The paths of a list, together and one by one.
    fn paths(
        &self,
        at: &[Step<'_>],
        paths: Option<&Value>,
    ) -> Result<(GlobSet, Vec<globset::Glob>), Failure> {
        let paths = self.list(at, paths, "paths")?;
        if paths.is_empty() {
            return Err(self.mistake(at, "expected a list of paths"));
        }
        let mut set = GlobSetBuilder::new();
        let mut globs = Vec::new();
        for (index, glob) in paths.iter().enumerate() {
            let path = [at, &[Step::Index(index)]].concat();
            let Some(text) = glob.as_str() else {
                return Err(self.mistake(&path, "not text; quote it"));
            };
            if let Some(what) = unfit_path(text) {
                return Err(self.mistake(&path, what));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            let glob = glob.map_err(|_| self.mistake(&path, "not a valid glob"))?;
            set.add(glob.clone());
            globs.push(glob);
        }
        let set = set.build().map_err(|_| self.mistake(at, "not valid globs"))?;
        Ok((set, globs))
    }

    fn pins(&self, path: [Step<'_>; 3], values: &[Value]) -> Result<Vec<Pin>, Failure> {
        let at = |index| [path[0], path[1], path[2], Step::Index(index)];
        let mut pins: Vec<Pin> = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let pin = self.pin(at(index), value)?;
            if pins.iter().any(|earlier| earlier.recipient == pin.recipient) {
                return Err(self
                    .mistake(&at(index), "this recipient is listed twice")
                    .hint("a recipient has one holder and one state: delete the other item"));
            }
            let is_active =
                |other: &Pin| other.state == PinState::Active && other.holder == pin.holder;
            if is_active(&pin) && pins.iter().any(is_active) {
                let what = format!("a second Active recipient of holder {}", pin.holder);
                return Err(self.mistake(&at(index), &what).hint(
                    "a holder has one Active key; set the state of the older one to Retired",
                ));
            }
            pins.push(pin);
        }
        let active = pins.iter().filter(|pin| pin.state == PinState::Active);
        match Recipients::new(active.map(|pin| pin.recipient.clone()).collect()) {
            Ok(_) | Err(RecipientsError::None) => Ok(pins),
            Err(error) => {
                let hint = "age allows one type per file: the Active recipients of an environment must share it";
                let is_mixed = matches!(error, RecipientsError::Mixed(..));
                let failure = self.mistake(&path, &error.to_string());
                Err(failure.maybe_hint(is_mixed.then_some(hint)))
            }
        }
    }

    fn pin(&self, path: [Step<'_>; 4], value: &Value) -> Result<Pin, Failure> {
        const FIELDS: [&str; 4] = ["recipient", "holder", "state", "fetched"];
        let map = self.mapping(value, &path, &FIELDS)?;
        let at = |field| [path[0], path[1], path[2], path[3], Step::Key(field)];
        let text = |field| match map.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(self.mistake(&at(field), "not text; quote it")),
            None => Err(self.mistake(&path, &format!("{field} is missing"))),
        };
        let recipient: Recipient = text("recipient")?
            .parse()
            .map_err(|error| self.mistake(&at("recipient"), &format!("{error}")))?;
        let holder = text("holder")?.to_owned();
        if !is_dns_label(&holder) {
            let what = "the name of a holder has only lower-case letters, digits and -";
            return Err(self.mistake(&at("holder"), what));
        }
        let state = match text("state")? {
            "Active" => PinState::Active,
            "Retired" => PinState::Retired,
            _ => return Err(self.mistake(&at("state"), "expected Active or Retired")),
        };
        let fetched: Date = text("fetched")?
            .parse()
            .map_err(|_| self.mistake(&at("fetched"), "expected a date, such as 2026-11-21"))?;
        Ok(Pin { recipient, holder, state, fetched })
    }

    /// What the field `lint` allows.
    fn allowed(&self, lint: Option<&Value>) -> Result<Vec<AllowedRule>, Failure> {
        let Some(lint) = lint.filter(|lint| !lint.is_null()) else { return Ok(Vec::new()) };
        let path = [Step::Key("lint"), Step::Key("allow")];
        let map = self.mapping(lint, &path[..1], &["allow"])?;
        let items = self.list(&path, map.get("allow"), "rules")?;
        let read = |(index, item): (usize, &Value)| {
            let path = [path[0], path[1], Step::Index(index)];
            let map = self.mapping(item, &path, &["rule", "paths", "reason"])?;
            let at = |field| [path[0], path[1], path[2], Step::Key(field)];
            let text = |field| match map.get(field).and_then(Value::as_str).map(str::trim) {
                Some(text) if !text.is_empty() => Ok(text.to_owned()),
                _ => Err(self.mistake(&at(field), &format!("expected a {field}"))),
            };
            let (rule, reason) = (text("rule")?, text("reason")?);
            let (globs, _) = self.paths(&at("paths"), map.get("paths"))?;
            Ok(AllowedRule { rule, reason, globs, index })
        };
        items.iter().enumerate().map(read).collect()
    }

    /// A list, which is empty if it is missing.
    fn list<'v>(
        &self,
        path: &[Step<'_>],
        value: Option<&'v Value>,
        what: &str,
    ) -> Result<&'v [Value], Failure> {
        match value {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.mistake(path, &format!("expected a list of {what}"))),
        }
    }

    /// A mapping with no fields but these.
    fn mapping<'v>(
        &self,
        value: &'v Value,
        path: &[Step<'_>],
        fields: &[&str],
    ) -> Result<&'v Map<String, Value>, Failure> {
        let known = fields.join(", ");
        let Value::Object(map) = value else {
            return Err(self.mistake(path, &format!("expected a mapping with {known}")));
        };
        let Some(field) = map.keys().find(|field| !fields.contains(&field.as_str())) else {
            return Ok(map);
        };
        let path = [path, &[Step::Key(field)]].concat();
        Err(self.mistake(&path, "unknown field").hint(format!("known fields: {known}")))
    }

    fn mistake(&self, path: &[Step<'_>], what: &str) -> Failure {
        self.object.mistake(path, what).into()
    }

    /// A path that two globs match would belong to two environments. Each glob is also tried as a path, which finds
    /// the usual overlaps. Others are found when a file is read.
    fn refuse_overlaps(&self, globs: &[Glob]) -> Result<(), Failure> {
        for glob in globs.iter().filter(|glob| glob.matcher.is_match(&glob.text)) {
            let is_other = |other: &&Glob| {
                other.environment != glob.environment && other.matcher.is_match(&glob.text)
            };
            if let Some(other) = globs.iter().find(is_other) {
                let field = ["environments", &glob.environment, "paths"].map(Step::Key);
                let path = [&field[..], &[Step::Index(glob.index)]].concat();
                let what = format!(
                    "{} of environment {} covers the same paths",
                    escape::line(&other.text),
                    other.environment
                );
                return Err(self
                    .mistake(&path, &what)
                    .hint("a file belongs to one environment: make their paths disjoint"));
            }
        }
        Ok(())
    }
}

/// Why a path cannot be one of the repository.
fn unfit_path(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        return Some("expected a path within the repository, found a URL");
    }
    if text.contains("[!") || text.contains("[^") {
        return Some("a negated class would also match /: list the characters to match");
    }
    if text.contains('\\') {
        return Some("separate folders with /");
    }
    if text.starts_with('/') || text.as_bytes().get(1) == Some(&b':') {
        return Some("expected a path relative to this file, found an absolute path");
    }
    let mut parts = text.split('/');
    match parts.find(|part| ["", ".", ".."].contains(part)) {
        Some("..") => Some("this path leads out of the repository"),
        Some(_) => Some("expected a path without . and empty parts; write a folder as folder/**"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stop_at_folders_unless_they_say_otherwise() {
        for (pattern, matching, other) in [
            ("prod/*", &["prod/a", "prod/.a"][..], &["prod/a/b", "prod", "x/prod/a"][..]),
            ("prod/?.yaml", &["prod/a.yaml"], &["prod/ab.yaml", "prod/.yaml", "prod//.yaml"]),
            ("prod/[ab]", &["prod/a"], &["prod/c", "prod/A"]),
            ("{prod,live}/a", &["prod/a", "live/a"], &["dev/a"]),
            ("prod/**", &["prod/a", "prod/a/b/c"], &["prodigal/a", "x/prod/a"]),
            ("**/prod/*", &["prod/a", "x/y/prod/a"], &["x/prod/y/a", "x/aprod/a"]),
            ("a/**/b", &["a/b", "a/x/y/b"], &["a/bb", "b"]),
            ("**", &["a", "a/b"], &[]),
        ] {
            let text = format!("environments: {{prod: {{paths: ['{pattern}']}}}}\n");
            let config = crate::who::config::of_text(Path::new("bulla.yaml"), &text).unwrap();
            let globs = &config.environments[0].globs;
            for path in matching {
                assert!(globs.is_match(path), "{pattern}: {path}");
            }
            for path in other {
                assert!(!globs.is_match(path), "{pattern}: {path}");
            }
        }
    }
}
