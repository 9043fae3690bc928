//! The kubeconfig: which file, which context, and whether it verifies its server.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use bulla_crds::proxy;
use clap::{Args, Command, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use kube::Config;
use kube::config::{Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// The cluster to use, as in kubectl.
#[derive(Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// Use this kubeconfig context [default: the current one]
    #[arg(long, value_name = "NAME", add = contexts())]
    pub(crate) context: Option<String>,

    #[command(flatten)]
    pub(crate) kubeconfig: KubeconfigFlags,
}

/// The clusters to use, each named by a context.
#[derive(Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClustersFlags {
    /// Use this kubeconfig context; repeat it for several clusters [default: the current one]
    #[arg(long = "context", value_name = "NAME", add = contexts())]
    pub(crate) contexts: Vec<String>,

    #[command(flatten)]
    pub(crate) kubeconfig: KubeconfigFlags,
}

/// Where to find clusters, and the keys in them.
#[derive(Args, Clone)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct KubeconfigFlags {
    /// Use this kubeconfig [default: ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub(crate) kubeconfig: Option<OsString>,

    /// The namespace that the controller runs in and keeps its SealingKeys in
    #[arg(long, value_name = "NAMESPACE", default_value = "bulla-system")]
    pub(crate) controller_namespace: String,
}

impl ClustersFlags {
    pub(crate) fn each(&self) -> Vec<ClusterFlags> {
        let of = |context| ClusterFlags { context, kubeconfig: self.kubeconfig.clone() };
        if self.contexts.is_empty() {
            return vec![of(None)];
        }
        self.contexts.iter().cloned().map(|context| of(Some(context))).collect()
    }
}

/// Reads the kubeconfig and the name of its context. A context that does not verify its server is refused.
pub(super) fn read(flags: &ClusterFlags) -> Result<(Kubeconfig, String), Failure> {
    let kubeconfig = kubeconfig(flags)?;
    let context = flags.context.as_ref().or(kubeconfig.current_context.as_ref());
    let context = context
        .filter(|name| !name.is_empty())
        .cloned()
        .ok_or_else(|| anyhow!("the kubeconfig has no current context"))
        .or_hint("choose one with --context")?;
    refuse_unverified(&kubeconfig, &context)?;
    Ok((kubeconfig, context))
}

pub(super) async fn config(
    kubeconfig: Kubeconfig,
    flags: &ClusterFlags,
) -> Result<Config, Failure> {
    let name = flags.context.as_ref().or(kubeconfig.current_context.as_ref());
    let cluster = name.and_then(|name| cluster_of(&kubeconfig, name));
    let proxy = cluster.and_then(|cluster| cluster.proxy_url.clone());
    let options = KubeConfigOptions { context: flags.context.clone(), ..Default::default() };
    let unusable =
        |why: &dyn std::fmt::Display| Failure::unable(anyhow!("cannot use the kubeconfig: {why}"));
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| unusable(&trouble_with(&error)))?;
    let server = &config.cluster_url;
    let (host, port) = (server.host().unwrap_or_default(), server.port_u16().unwrap_or(443));
    let proxy = proxy::url(proxy.as_deref(), host, port, |name| std::env::var(name).ok());
    let proxy = proxy.map_err(|error| unusable(&error))?;
    config.proxy_url = proxy
        .map(|proxy| proxy.parse().map_err(|_| unusable(&"the proxy's address is not valid")))
        .transpose()?;
    Ok(config)
}

fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, context: &str) -> Option<&'a Cluster> {
    let named = kubeconfig.contexts.iter().find(|named| named.name == context)?;
    let name = &named.context.as_ref()?.cluster;
    kubeconfig.clusters.iter().find(|named| named.name == *name)?.cluster.as_ref()
}

/// The contexts of the kubeconfig, for a shell to complete them: none if there is no kubeconfig.
fn contexts() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let command = ClusterFlags::augment_args(Command::new("bulla").no_binary_name(true));
        let matches = command.try_get_matches_from(Vec::<OsString>::new()).ok();
        let flags = matches.and_then(|matches| ClusterFlags::from_arg_matches(&matches).ok());
        let kubeconfig = flags.and_then(|flags| kubeconfig(&flags).ok());
        let contexts = kubeconfig.into_iter().flat_map(|kubeconfig| kubeconfig.contexts);
        contexts.map(|context| CompletionCandidate::new(context.name)).collect()
    })
}

/// The kubeconfig that kubectl would use: `--kubeconfig` or `KUBECONFIG`, a list of files, or the one at home.
fn kubeconfig(flags: &ClusterFlags) -> Result<Kubeconfig, Failure> {
    let given = flags.kubeconfig.kubeconfig.as_ref().filter(|paths| !paths.is_empty());
    let paths: Vec<PathBuf> = match given {
        Some(list) => {
            std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        None => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let is_list = paths.len() > 1;
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        let name = path.display();
        let read = match Kubeconfig::read_from(&path) {
            Err(KubeconfigError::ReadConfig(error, _))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                if is_list {
                    continue;
                }
                Err(anyhow!("kubeconfig {name} does not exist"))
            }
            Err(KubeconfigError::ReadConfig(error, _)) => {
                Err(anyhow!(error).context(format!("cannot read kubeconfig {name}")))
            }
            Err(_) => Err(anyhow!("{name} is not a valid kubeconfig")),
            Ok(kubeconfig) => match merged.take() {
                Some(earlier) => earlier
                    .merge(kubeconfig)
                    .map_err(|_| anyhow!("cannot merge {name} with the kubeconfigs before it")),
                None => Ok(kubeconfig),
            },
        };
        merged = Some(read.or_hint("pass another one with --kubeconfig")?);
    }
    merged.ok_or_else(|| anyhow!("no kubeconfig found")).or_hint("pass one with --kubeconfig")
}

/// A key from an unverified connection could be anyone's.
fn refuse_unverified(kubeconfig: &Kubeconfig, name: &str) -> Result<(), Failure> {
    let mut contexts = kubeconfig.contexts.iter();
    if !contexts.any(|context| context.name == name && context.context.is_some()) {
        let names = output::list(kubeconfig.contexts.iter().map(|context| &context.name));
        return Err(anyhow!("the kubeconfig has no context {name}"))
            .or_hint(format!("it has: {names}"));
    }
    let Some(cluster) = cluster_of(kubeconfig, name) else {
        return Err(Failure::unable(anyhow!(
            "context {name} refers to a cluster that is missing from the kubeconfig"
        )));
    };
    let is_https = cluster.server.as_deref().is_some_and(|server| server.starts_with("https://"));
    if cluster.insecure_skip_tls_verify == Some(true) || !is_https {
        return Err(anyhow!("context {name} does not verify the API server's TLS certificate"))
            .or_hint("an unverified server could send anyone's key: use https and certificate-authority-data");
    }
    Ok(())
}

fn trouble_with(error: &KubeconfigError) -> &'static str {
    match error {
        KubeconfigError::LoadContext(_) => "its context is incomplete",
        KubeconfigError::LoadClusterOfContext(_) => "its cluster is missing",
        KubeconfigError::MissingClusterUrl | KubeconfigError::ParseClusterUrl(_) => {
            "the server's address is not valid"
        }
        KubeconfigError::LoadCertificateAuthority(_) | KubeconfigError::ParseCertificates(_) => {
            "its certificate authority cannot be loaded"
        }
        KubeconfigError::LoadClientCertificate(_) | KubeconfigError::LoadClientKey(_) => {
            "its client certificate or key cannot be loaded"
        }
        KubeconfigError::ParseProxyUrl(_) => "the proxy's address is not valid",
        KubeconfigError::ParseNoProxy(_) => {
            "NO_PROXY has an entry that is empty, or not a host, an address or a network"
        }
        _ => "it is not valid",
    }
}
