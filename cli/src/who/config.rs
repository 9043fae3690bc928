//! `bulla.yaml`: which paths of a repository belong to which environment, and whom their values are sealed to.
//!
//! It is data, and one file at the root of the Git work tree: a second one would be an override that nobody sees
//! in a review of the first. The recipients in it are pins, whole and not by fingerprint, so whoever reviews the
//! file decides who can read.

mod allow;
mod edit;
mod parse;

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use bulla_sealing::{Fingerprint, Recipient, Recipients};
use globset::GlobSet;
use jiff::civil::Date;
use zeroize::Zeroizing;

use crate::files::input::Input;
use crate::files::{git, input, walk};
use crate::manifest::{GivenNamespace, ManifestFile, Mark, Step};
use crate::report::failure::{Failure, OrHint};

pub(crate) use allow::AllowedRule;
pub(crate) use edit::Renewal;

/// What the file is called.
pub(crate) const NAME: &str = "bulla.yaml";

/// Who holds the recovery recipients, which are kept away from clusters.
pub(crate) const RECOVERY: &str = "recovery";

/// A file that was read and found to be right.
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    /// Where its globs begin, without links.
    root: PathBuf,
    pub(crate) environments: Vec<Environment>,
    /// Findings of `bulla lint` that are meant as they are.
    pub(crate) allowed: Vec<AllowedRule>,
    pub(crate) file: ManifestFile,
}

/// Some paths of the repository, and whom their values are sealed to.
pub(crate) struct Environment {
    pub(crate) name: String,
    globs: GlobSet,
    /// The namespace of what in these paths names none itself.
    pub(crate) namespace: Option<GivenNamespace>,
    pub(crate) pins: Vec<Pin>,
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
    /// Sealed to.
    Active,
    /// Sealed to once.
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
    /// The file that `--config` names, or the one of the Git work tree in which all of `paths` lie, or the current
    /// folder if there are none.
    pub(crate) fn find(named: Option<&Path>, paths: &[PathBuf]) -> Result<Option<Self>, Failure> {
        if let Some(path) = named {
            return Self::read(path).map(Some);
        }
        let here = [PathBuf::from(".")];
        let mut roots = Vec::new();
        for path in if paths.is_empty() { &here } else { paths } {
            roots.push(git::root_of(&real_path(path)?));
        }
        roots.sort_unstable();
        roots.dedup();
        match &roots[..] {
            [Some(root)] => of_work_tree(root)?.map(|path| Self::read(&path)).transpose(),
            [] | [None] => Ok(None),
            _ => Err(anyhow!(
                "the paths do not lie in one Git work tree, and each may have a {NAME}"
            ))
            .or_hint("run the command for each of them, or say with --config or -r what counts"),
        }
    }

    /// Reads one file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(path, input::read(path)?)
    }

    /// A file that is not written yet.
    pub(crate) fn of_text(path: &Path, text: &str) -> Result<Self, Failure> {
        let name = path.display().to_string();
        Self::parse(path, Input { name, bytes: Zeroizing::new(text.into()) })
    }

    /// Reads what the file at `path` was in another commit.
    pub(crate) fn of_commit(path: &Path, blob: &str, bytes: &[u8]) -> Result<Self, Failure> {
        Self::parse(path, Input { name: blob.to_owned(), bytes: Zeroizing::new(bytes.to_vec()) })
    }

    /// The environment that a file belongs to, if any.
    pub(crate) fn environment_of(&self, file: &Path) -> Result<Option<&Environment>, Failure> {
        let real = real_path(file)?;
        let Ok(path) = real.strip_prefix(&self.root) else { return Ok(None) };
        let mut matching = self.environments.iter().filter(|it| it.globs.is_match(path));
        match (matching.next(), matching.next()) {
            (first, None) => Ok(first),
            (Some(one), Some(other)) => {
                let (name, config) = (file.display(), self.path.display());
                let [one, other] = [self.claim(one, path)?, self.claim(other, path)?];
                Err(anyhow!("{name}: {config} has it in two environments, {one} and {other}"))
                    .or_hint("a file belongs to one environment: make their paths disjoint")
            }
            (None, Some(_)) => Ok(None), // never: the first comes first
        }
    }

    /// An environment, and the line of the glob by which it has a path.
    fn claim(&self, environment: &Environment, path: &Path) -> Result<String> {
        let name = &environment.name;
        let glob = environment.globs.matches(path).first().copied().unwrap_or_default();
        let fields = ["environments", name, "paths"].map(Step::Key);
        let place = self.file.only()?.position(&[&fields[..], &[Step::Index(glob)]].concat());
        Ok(format!("{name} (line {})", place.line))
    }

    /// The environment of this name.
    pub(crate) fn environment(&self, name: &str) -> Result<&Environment, Failure> {
        let found = self.environments.iter().find(|environment| environment.name == name);
        let names: Vec<_> = self.environments.iter().map(|it| it.name.as_str()).collect();
        found
            .ok_or_else(|| anyhow!("{} has no environment {name}", self.path.display()))
            .or_hint(format!("it has: {}", names.join(", ")))
    }

    /// Where the recipients of an environment stand, or the environment if it has none.
    pub(crate) fn mark_of(&self, environment: &str) -> Option<Mark> {
        self.file.only().ok()?.mark(&["environments", environment, "recipients"].map(Step::Key))
    }

    /// Who holds the key of this fingerprint, as far as any pin says so.
    pub(crate) fn holder_of(&self, fingerprint: Fingerprint) -> Option<&str> {
        let mut pins = self.environments.iter().flat_map(|environment| &environment.pins);
        let pin = pins.find(|pin| pin.recipient.fingerprint() == fingerprint)?;
        Some(&pin.holder)
    }
}

impl Environment {
    /// Whom values are sealed to today; `None` as long as nothing is pinned.
    pub(crate) fn recipients(&self) -> Option<Recipients> {
        let active = self.pins.iter().filter(|pin| pin.state == PinState::Active);
        // That they fit together was found when they were read.
        Recipients::new(active.map(|pin| pin.recipient.clone()).collect()).ok()
    }

    /// The pins of a holder.
    pub(crate) fn pins_of<'a>(&'a self, holder: &'a str) -> impl Iterator<Item = &'a Pin> {
        self.pins.iter().filter(move |pin| pin.holder == holder)
    }
}

/// A path without links, also of a file that is not there yet.
fn real_path(path: &Path) -> Result<PathBuf> {
    let real = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            };
            std::fs::canonicalize(folder)
                .map(|folder| folder.join(path.file_name().unwrap_or_default()))
        }
        real => real,
    };
    real.with_context(|| format!("cannot read {}", path.display()))
}

/// Where the file of the work tree around the current folder stands or is to be written.
pub(crate) fn place() -> Result<PathBuf, Failure> {
    let root = git::root_of(&real_path(Path::new("."))?)
        .ok_or_else(|| anyhow!("this is no Git work tree, at whose root a {NAME} is found"))
        .or_hint("begin one with git init, or name the file with --config")?;
    Ok(of_work_tree(&root)?.unwrap_or_else(|| shortest(&root.join(NAME))))
}

/// The one `bulla.yaml` of a work tree: at its root, and nowhere else above, below or beside.
fn of_work_tree(root: &Path) -> Result<Option<PathBuf>, Failure> {
    let config = root.join(NAME);
    let above = root.ancestors().skip(1).map(|folder| folder.join(NAME)).find(|it| it.exists());
    let below = walk::files(root, |path| path.file_name().is_some_and(|name| name == NAME))?;
    let other = above.into_iter().chain(below).find(|other| *other != config);
    match other {
        Some(other) => Err(anyhow!("{} is not at the root of the work tree", other.display()))
            .or_hint(format!(
                "there is one {NAME}, in {}; name another file with --config",
                root.display()
            )),
        None => Ok(config.is_file().then(|| shortest(&config))),
    }
}

/// As a person in the current folder would write it.
fn shortest(path: &Path) -> PathBuf {
    let here = std::env::current_dir().and_then(std::fs::canonicalize);
    let within = here.ok().and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    within.filter(|path| path.components().next() != Some(Component::CurDir)).unwrap_or(path.into())
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
