//! Where a sealed value goes: its recipients, and its namespace if nothing else names one.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_sealing::Recipients;
use clap::Args;

use crate::cluster::kubeconfig::ClusterFlags;
use crate::cluster::sealing_keys;
use crate::command_line::completion;
use crate::command_line::flags::RecipientFlags;
use crate::manifest::GivenNamespace;
use crate::report::failure::{Failure, OrHint};
use crate::who::config::{self, Config, Environment};
use crate::who::recipients;

/// The flags that decide the recipients of values.
#[derive(Args)]
#[command(next_help_heading = "Recipients")]
pub(crate) struct DestinationFlags {
    #[command(flatten)]
    pub(crate) recipients: RecipientFlags,

    /// Seal to this environment of bulla.yaml [default: the one whose paths include the file]
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["recipients", "recipients_files"], add = completion::environments())]
    pub(crate) environment: Option<String>,

    /// Use this bulla.yaml [default: the one at the root of the Git work tree]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipients", "recipients_files"])]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
}

/// The recipients of values, and their namespace.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) recipients: Recipients,
    /// The environment of bulla.yaml that pins them.
    pub(crate) environment: Option<String>,
    /// From bulla.yaml; a manifest or `-n` that names another is an error.
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

    /// The same recipients everywhere, for whatever namespace.
    pub(crate) fn anywhere(recipients: Recipients) -> Self {
        Self { recipients, environment: None, namespace: None }
    }

    /// The Active pins of an environment.
    pub(crate) fn pinned(config: &Config, environment: &Environment) -> Result<Self, Failure> {
        let name = &environment.name;
        let recipients = environment
            .recipients()
            .ok_or_else(|| {
                anyhow!("{}: environment {name} has no Active recipient", config.path.display())
            })
            .or_hint(format!("to pin one, run: bulla keys fetch --environment {name}"))?;
        let namespace = environment.namespace.clone();
        Ok(Self { recipients, environment: Some(name.clone()), namespace })
    }
}

/// What decides the recipients of values: the flags, else bulla.yaml, else the cluster.
pub(crate) enum Authority {
    /// The flags, or a cluster that was asked: these recipients for every value.
    Recipients(Recipients),
    /// The pins of the environment that a file belongs to.
    Config(Config),
    /// The cluster, which was not asked yet.
    Cluster,
}

impl Authority {
    /// Reads the flags, or else the bulla.yaml that is named or that the work tree of `paths` has.
    pub(crate) fn find(
        flags: &RecipientFlags,
        config: Option<&Path>,
        paths: &[PathBuf],
    ) -> Result<Self, Failure> {
        if let Some(recipients) = recipients::read(flags)? {
            return Ok(Self::Recipients(recipients));
        }
        Ok(config::find(config, paths)?.map_or(Self::Cluster, Self::Config))
    }
}

impl DestinationFlags {
    /// For a file that values are written into or read from; `None` for stdin and stdout.
    ///
    /// The recipients given with -r and -R; without them the Active pins of the environment in bulla.yaml and
    /// nothing else; and without a bulla.yaml the cluster's own Active key and its recovery keys.
    pub(crate) fn resolve(&self, file: Option<&Path>) -> Result<Destination, Failure> {
        let paths: Vec<PathBuf> = file.into_iter().map(Path::to_owned).collect();
        self.destination(&self.authority(&paths)?, file)
    }

    /// What decides for many files, read once.
    pub(crate) fn authority(&self, paths: &[PathBuf]) -> Result<Authority, Failure> {
        let mut authority = Authority::find(&self.recipients, self.config.as_deref(), paths)?;
        if matches!(authority, Authority::Cluster) && !paths.is_empty() {
            // The file is from elsewhere, but in a repository with pins, values are sealed to them and to nothing else.
            authority = Authority::find(&self.recipients, None, &[])?;
        }
        if !matches!(authority, Authority::Cluster) {
            return Ok(authority);
        }
        if self.environment.is_some() {
            return Err(config::none_for_environment());
        }
        sealing_keys::own_key(&self.cluster).map(Authority::Recipients)
    }

    /// The recipients for one of the files.
    pub(crate) fn destination(
        &self,
        authority: &Authority,
        file: Option<&Path>,
    ) -> Result<Destination, Failure> {
        match authority {
            Authority::Recipients(recipients) => Ok(Destination::anywhere(recipients.clone())),
            Authority::Config(config) => {
                Destination::pinned(config, self.environment_of(config, file)?)
            }
            Authority::Cluster => sealing_keys::own_key(&self.cluster).map(Destination::anywhere),
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
        if let Some(file) = file
            && let Some(environment) = config.environment_of(file)?
        {
            return Ok(environment);
        }
        let (name, names) = (config.path.display(), config.names());
        let Some(file) = file else {
            return Err(anyhow!(
                "{name} cannot choose an environment without exactly one input file"
            ))
            .or_hint(format!("choose with --environment: {names}"));
        };
        Err(anyhow!("{}: no environment of {name} covers this file", file.display()))
            .or_hint(format!("add its path to an environment, or pass --environment: {names}"))
    }
}
