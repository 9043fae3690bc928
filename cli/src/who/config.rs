//! `bulla.yaml`: which paths of a repository belong to which environment, and the recipients of their values.
//!
//! It is plain data, in one file at the root of the Git work tree: a second file could override the first unseen in a
//! review. Recipients are pinned whole, not by fingerprint, so the reviewer of the file decides who can read values.

mod edit;
mod load;
mod parse;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use bulla_sealing::{Fingerprint, Recipient, Recipients};
use globset::GlobSet;
use jiff::civil::Date;
use serde_json::Value;

use crate::files::write;
use crate::manifest::{GivenNamespace, ManifestFile, Mark, Step};
use crate::report::failure::{Failure, OrHint};
use crate::report::output;

pub(crate) use edit::{Renewal, renewed};
pub(crate) use load::{
    default_path, find, none_for_environment, of_commit, of_head, of_names, of_text,
};

pub(crate) const NAME: &str = "bulla.yaml";

/// The holder of recovery recipients, which are kept away from clusters.
pub(crate) use bulla_crds::RECOVERY_HOLDER as RECOVERY;

/// A valid file.
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    /// Where its globs begin, without links.
    root: PathBuf,
    pub(crate) environments: Vec<Environment>,
    /// Findings of `bulla lint` that are allowed.
    pub(crate) allowed: Vec<AllowedRule>,
    pub(crate) file: ManifestFile,
}

/// Some paths of the repository, and the recipients of their values.
pub(crate) struct Environment {
    pub(crate) name: String,
    globs: GlobSet,
    /// The namespace of manifests in these paths that name none.
    pub(crate) namespace: Option<GivenNamespace>,
    pub(crate) pins: Vec<Pin>,
}

/// A rule that is allowed for some files, and why.
#[derive(Clone, Debug)]
pub(crate) struct AllowedRule {
    pub(crate) rule: String,
    pub(crate) reason: String,
    globs: GlobSet,
    index: usize,
}

/// A recipient, as it was fetched and reviewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) recipient: Recipient,
    pub(crate) holder: String,
    pub(crate) state: PinState,
    /// The day on which it was fetched.
    pub(crate) fetched: Date,
}

/// What a pin is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinState {
    /// New values are sealed to it.
    Active,
    /// Older values were sealed to it.
    Retired,
}

impl PinState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Retired => "Retired",
        }
    }
}

impl Config {
    /// The environment that a file belongs to, if any.
    pub(crate) fn environment_of(&self, file: &Path) -> Result<Option<&Environment>, Failure> {
        let real = real_path(file)?;
        let Ok(path) = real.strip_prefix(&self.root) else { return Ok(None) };
        let matching = self.environments.iter();
        let matching: Vec<_> =
            matching.filter(|environment| environment.globs.is_match(path)).collect();
        match matching[..] {
            [] => Ok(None),
            [environment] => Ok(Some(environment)),
            [one, other, ..] => {
                let (name, config) = (file.display(), self.path.display());
                let [one, other] = [self.claim(one, path)?, self.claim(other, path)?];
                Err(anyhow!(
                    "{name}: two environments of {config} cover this file, {one} and {other}"
                ))
                .or_hint("a file belongs to one environment: make their paths disjoint")
            }
        }
    }

    /// The name of an environment, and the line of its glob that matches a path.
    fn claim(&self, environment: &Environment, path: &Path) -> Result<String> {
        let name = &environment.name;
        let glob = environment.globs.matches(path).first().copied().unwrap_or_default();
        let fields = ["environments", name, "paths"].map(Step::Key);
        let place = self.file.only()?.position(&[&fields[..], &[Step::Index(glob)]].concat());
        Ok(format!("{name} (line {})", place.line))
    }

    pub(crate) fn environment(&self, name: &str) -> Result<&Environment, Failure> {
        let found = self.environments.iter().find(|environment| environment.name == name);
        found
            .ok_or_else(|| anyhow!("{} has no environment {name}", self.path.display()))
            .or_hint(format!("it has: {}", self.names()))
    }

    /// The place of an environment's recipients, or of the environment if it has none.
    pub(crate) fn mark_of(&self, environment: &str) -> Option<Mark> {
        self.file.only().ok()?.mark(&["environments", environment, "recipients"].map(Step::Key))
    }

    pub(crate) fn names(&self) -> String {
        output::list(self.environments.iter().map(|environment| &environment.name))
    }

    /// Whether a file is one of those for which something is allowed.
    pub(crate) fn allows_for(&self, allowed: &AllowedRule, file: &Path) -> bool {
        let real = real_path(file).ok();
        let path = real.as_ref().and_then(|real| real.strip_prefix(&self.root).ok());
        path.is_some_and(|path| allowed.globs.is_match(path))
    }

    /// The item of `lint.allow`, as written in the file.
    pub(crate) fn item_of_allowed(&self, allowed: &AllowedRule) -> Option<Value> {
        let config = self.file.only().ok()?;
        config.value.get("lint")?.get("allow")?.get(allowed.index).cloned()
    }

    /// Whether it allows exactly this.
    pub(crate) fn has_allowed(&self, item: &Value) -> bool {
        self.allowed.iter().any(|allowed| self.item_of_allowed(allowed).as_ref() == Some(item))
    }

    /// Its place in the file.
    pub(crate) fn mark_of_allowed(&self, allowed: &AllowedRule) -> Option<Mark> {
        let item = [Step::Key("lint"), Step::Key("allow"), Step::Index(allowed.index)];
        self.file.only().ok()?.mark(&[&item[..], &[Step::Key("rule")]].concat())
    }

    /// The holder of a key, if any pin names it.
    pub(crate) fn holder_of(&self, fingerprint: Fingerprint) -> Option<&str> {
        let mut pins = self.environments.iter().flat_map(|environment| &environment.pins);
        let pin = pins.find(|pin| pin.recipient.fingerprint() == fingerprint)?;
        Some(&pin.holder)
    }
}

impl Environment {
    /// The recipients of new values; `None` as long as nothing is pinned.
    pub(crate) fn recipients(&self) -> Option<Recipients> {
        let active = self.pins.iter().filter(|pin| pin.state == PinState::Active);
        // They were checked together when they were read.
        Recipients::new(active.map(|pin| pin.recipient.clone()).collect()).ok()
    }

    pub(crate) fn pins_of<'a>(&'a self, holder: &'a str) -> impl Iterator<Item = &'a Pin> {
        self.pins.iter().filter(move |pin| pin.holder == holder)
    }
}

/// A path without links, also of a file that does not exist yet.
fn real_path(path: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = write::folder_of(path);
            let real = std::fs::canonicalize(folder).map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    anyhow!("{}: folder {} does not exist", path.display(), folder.display())
                }
                _ => anyhow!(error).context(format!("cannot read {}", folder.display())),
            })?;
            Ok(real.join(path.file_name().unwrap_or_default()))
        }
        real => real.with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
impl FromIterator<Pin> for Environment {
    fn from_iter<I: IntoIterator<Item = Pin>>(pins: I) -> Self {
        Self {
            name: "prod".into(),
            globs: GlobSet::empty(),
            namespace: None,
            pins: pins.into_iter().collect(),
        }
    }
}
