//! What a check knows besides the file that it checks.

use std::path::Path;

use crate::cluster::SealingKeys;
use crate::commands::lint::history::Base;
use crate::commands::lint::rule::Basis;
use crate::report::failure::Failure;
use crate::who::config::{Config, Environment};

/// What a check knows besides the file.
#[derive(Clone, Copy, Default)]
pub(super) struct LintContext<'a> {
    /// The current bulla.yaml.
    pub(super) config: Option<&'a Config>,
    /// The environment that --environment names.
    pub(super) environment: Option<&'a str>,
    /// The keys of a cluster.
    pub(super) keys: Option<&'a SealingKeys>,
    /// The earlier commit to compare with.
    pub(super) base: Option<&'a Base>,
}

impl<'a> LintContext<'a> {
    /// Whether a rule of this basis can find anything.
    pub(super) fn has(&self, basis: Basis) -> bool {
        match basis {
            Basis::File | Basis::Allowances => true,
            Basis::Pins => self.config.is_some(),
            Basis::Cluster => self.keys.is_some(),
            Basis::History => self.base.is_some(),
        }
    }

    /// The environment whose pins count for a file, or for a stream: that of the earlier commit, if it had one for
    /// this file.
    pub(super) fn environment_of(
        &self,
        file: Option<&Path>,
    ) -> Result<FileEnvironment<'a>, Failure> {
        let has_path = file.is_some();
        let then = self.base.and_then(|base| base.config.as_ref());
        for config in [then, self.config].into_iter().flatten() {
            let environment = match (self.environment, file) {
                (Some(name), _) => config.environment(name).ok(),
                (None, Some(file)) => config.environment_of(file)?,
                (None, None) => None,
            };
            if environment.is_some() {
                let known = then.filter(|then| !std::ptr::eq(*then, config));
                return Ok(FileEnvironment { config: Some(config), environment, known, has_path });
            }
        }
        if let (Some(name), Some(config)) = (self.environment, self.config) {
            config.environment(name)?;
        }
        let config = self.config.or(then);
        Ok(FileEnvironment { config, environment: None, known: None, has_path })
    }
}

/// The environment that a file belongs to, and the bulla.yaml that has it.
#[derive(Clone, Copy, Default)]
pub(super) struct FileEnvironment<'a> {
    pub(super) config: Option<&'a Config>,
    pub(super) environment: Option<&'a Environment>,
    /// The bulla.yaml of the earlier commit, if it does not have this environment: it must know the keys at least.
    pub(super) known: Option<&'a Config>,
    /// Whether there is a path that an environment could cover.
    pub(super) has_path: bool,
}
