//! Where a sealed value goes: whom it is sealed to, and the namespace that it is for if nothing else names one.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_sealing::Recipients;
use clap::Args;

use crate::cluster;
use crate::command_line::completion;
use crate::command_line::flags::{ClusterFlags, RecipientFlags};
use crate::manifest::GivenNamespace;
use crate::report::failure::{Failure, OrHint};
use crate::who::config::{Config, Environment};
use crate::who::recipients;

/// What decides on whom values are sealed to.
#[derive(Args)]
pub(crate) struct DestinationFlags {
    #[command(flatten)]
    pub(crate) recipients: RecipientFlags,

    /// Seal to this environment of bulla.yaml [default: the one that the file's path belongs to]
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["recipients", "recipients_files"], add = completion::environments())]
    pub(crate) environment: Option<String>,

    /// The bulla.yaml to use [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipients", "recipients_files"])]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
}

/// Whom values are sealed to, and for which namespace.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) recipients: Recipients,
    /// What bulla.yaml says; a manifest or `-n` that names another is a mistake.
    pub(crate) namespace: Option<GivenNamespace>,
}

impl Destination {
    /// The namespace that `-n` and bulla.yaml name, which must agree.
    pub(crate) fn given_namespace(
        &self,
        flag: Option<&str>,
    ) -> Result<Option<GivenNamespace>, Failure> {
        GivenNamespace::agreed(flag, self.namespace.as_ref())
    }
}

/// What decides on whom the values of many files are sealed to.
pub(crate) enum Source {
    /// The same for all files.
    One(Destination),
    /// The environment of each file.
    Config(Config),
}

impl Source {
    /// For one of the files.
    pub(crate) fn destination(
        &self,
        flags: &DestinationFlags,
        file: Option<&Path>,
    ) -> Result<Destination, Failure> {
        match self {
            Self::One(destination) => Ok(destination.clone()),
            Self::Config(config) => flags
                .environment_of(config, file)
                .and_then(|environment| pinned(config, environment)),
        }
    }
}

impl DestinationFlags {
    /// For a file that values are written into or read from; `None` for stdin and stdout.
    ///
    /// The recipients given with -r and -R; without them the Active pins of the environment in bulla.yaml and
    /// nothing else; and without a bulla.yaml the cluster's own Active key.
    pub(crate) fn resolve(&self, file: Option<&Path>) -> Result<Destination, Failure> {
        let paths: Vec<PathBuf> = file.into_iter().map(Path::to_owned).collect();
        self.source(&paths)?.destination(self, file)
    }

    /// The same for many files: what decides is read once.
    pub(crate) fn source(&self, paths: &[PathBuf]) -> Result<Source, Failure> {
        let one = |recipients| Source::One(Destination { recipients, namespace: None });
        if let Some(recipients) = recipients::read(&self.recipients)? {
            return Ok(one(recipients));
        }
        let config = match Config::find(self.config.as_deref(), paths)? {
            // A file from elsewhere: whoever works in a repository with pins seals to them and to nothing else.
            None if !paths.is_empty() => Config::find(None, &[])?,
            config => config,
        };
        match config {
            Some(config) => Ok(Source::Config(config)),
            None if self.environment.is_some() => {
                Err(anyhow!("there is no bulla.yaml, so no environment"))
                    .or_hint("run it in the Git work tree that has one, or name it with --config")
            }
            None => cluster::own_key(&self.cluster).map(one),
        }
    }

    fn environment_of<'a>(
        &self,
        config: &'a Config,
        file: Option<&Path>,
    ) -> Result<&'a Environment, Failure> {
        if let Some(name) = &self.environment {
            return config.environment(name);
        }
        let by_path = match file {
            Some(file) => config.environment_of(file)?,
            None => None,
        };
        if let Some(environment) = by_path {
            return Ok(environment);
        }
        let names: Vec<_> = config.environments.iter().map(|it| it.name.as_str()).collect();
        let (name, names) = (config.path.display(), names.join(", "));
        match file {
            Some(file) => Err(anyhow!("{}: {name} has it in no environment", file.display()))
                .or_hint(format!("name one with --environment, or give one its path: {names}")),
            None => Err(anyhow!("it is not said which environment of {name} this is for"))
                .or_hint(format!("name one with --environment: {names}")),
        }
    }
}

fn pinned(config: &Config, environment: &Environment) -> Result<Destination, Failure> {
    let name = &environment.name;
    let recipients = environment
        .recipients()
        .ok_or_else(|| {
            anyhow!("{}: environment {name} has no Active recipient", config.path.display())
        })
        .or_hint(format!("pin one: bulla keys fetch --environment {name}"))?;
    Ok(Destination { recipients, namespace: environment.namespace.clone() })
}
