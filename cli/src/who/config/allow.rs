//! `lint.allow` of `bulla.yaml`: findings of `bulla lint` that are meant as they are, for files that should not say so
//! themselves. Which rules there are is known where they are judged.

use std::path::Path;

use globset::GlobSet;
use serde_json::Value;

use super::parse::Reader;
use super::{Config, real_path};
use crate::manifest::{Mark, Step};
use crate::report::failure::Failure;

/// A rule that is allowed for some files, and why.
#[derive(Clone, Debug)]
pub(crate) struct AllowedRule {
    pub(crate) rule: String,
    pub(crate) reason: String,
    globs: GlobSet,
    index: usize,
}

impl Config {
    /// Whether a file is one of those for which something is allowed.
    pub(crate) fn allows_for(&self, allowed: &AllowedRule, file: &Path) -> bool {
        let real = real_path(file).ok();
        let path = real.as_ref().and_then(|real| real.strip_prefix(&self.root).ok());
        path.is_some_and(|path| allowed.globs.is_match(path))
    }

    /// Where it stands.
    pub(crate) fn mark_of_allowed(&self, allowed: &AllowedRule) -> Option<Mark> {
        let item = [Step::Key("lint"), Step::Key("allow"), Step::Index(allowed.index)];
        self.file.only().ok()?.mark(&[&item[..], &[Step::Key("rule")]].concat())
    }
}

impl Reader<'_> {
    /// What the field `lint` allows.
    pub(super) fn allowed(&self, lint: Option<&Value>) -> Result<Vec<AllowedRule>, Failure> {
        let Some(lint) = lint.filter(|lint| !lint.is_null()) else { return Ok(Vec::new()) };
        let path = [Step::Key("lint"), Step::Key("allow")];
        let map = self.mapping(lint, &path[..1], &["allow"])?;
        let items = match map.get("allow") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.mistake(&path, "a list of rules is wanted")),
        };
        let read = |(index, item): (usize, &Value)| {
            let path = [path[0], path[1], Step::Index(index)];
            let map = self.mapping(item, &path, &["rule", "paths", "reason"])?;
            let at = |field| [path[0], path[1], path[2], Step::Key(field)];
            let text = |field| match map.get(field).and_then(Value::as_str).map(str::trim) {
                Some(text) if !text.is_empty() => Ok(text.to_owned()),
                _ => Err(self.mistake(&at(field), &format!("a {field} is wanted"))),
            };
            let (rule, reason) = (text("rule")?, text("reason")?);
            let (globs, _) = self.paths(&at("paths"), map.get("paths"))?;
            Ok(AllowedRule { rule, reason, globs, index })
        };
        items.iter().enumerate().map(read).collect()
    }
}
