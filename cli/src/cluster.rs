//! The cluster's public keys, read through its API server.
//!
//! The only module that talks to an API server, and only when a command has no other way to know a key.
//! Errors are our own phrases: a client library's can repeat a kubeconfig or a credential plugin's output.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bulla_crds::{SealingKey, State};
use bulla_sealing::{Recipient, Recipients};
use jiff::Timestamp;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config, ResourceExt};

use crate::failure::{Failure, OrHint};
use crate::flags::ClusterFlags;
use crate::{output, recipients};

/// How long a cluster may take to answer, credential plugins included.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do when it cannot be told which key is meant.
const USE_A_FILE: &str =
    "write the recipients to a file with bulla keys fetch and choose with -R, or name one with -r";

/// A SealingKey whose name was found to be the fingerprint of its recipient.
pub(crate) struct FetchedKey {
    pub(crate) recipient: Recipient,
    pub(crate) holder: String,
    pub(crate) created: Timestamp,
    pub(crate) state: State,
    is_held: bool,
}

/// All SealingKeys of the cluster, by holder and age.
pub(crate) fn sealing_keys(flags: &ClusterFlags) -> Result<Vec<FetchedKey>, Failure> {
    let kubeconfig = kubeconfig(flags)?;
    refuse_unverified(&kubeconfig, flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let listed = runtime.block_on(async {
        tokio::time::timeout(DEADLINE, list(kubeconfig, flags)).await.unwrap_or_else(|_| {
            let seconds = DEADLINE.as_secs();
            Err(Failure::unable(anyhow!("the cluster did not answer within {seconds} seconds"))
                .hint("is it the right context, and can it be reached from here?"))
        })
    })?;
    let mut keys = listed.into_iter().map(verify).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by(|one, other| (&one.holder, one.created).cmp(&(&other.holder, other.created)));
    Ok(keys)
}

/// The recipient of the cluster's own Active key.
pub(crate) fn own_key(flags: &ClusterFlags) -> Result<Recipients, Failure> {
    let mut keys = sealing_keys(flags).map_err(|failure| {
        failure.context("no recipient is given with -r or -R, and the cluster's key cannot be had")
    })?;
    keys.retain(|key| key.state == State::Active);
    // Keys of other clusters may lie beside its own; those that it can open are marked.
    if keys.len() > 1 && keys.iter().any(|key| key.is_held) {
        keys.retain(|key| key.is_held);
    }
    match <[FetchedKey; 1]>::try_from(keys) {
        Ok([key]) => {
            output::stderr(&format!(
                "note: sealing to the Active key of {}, fingerprint {}\n",
                key.holder,
                key.recipient.fingerprint()
            ));
            recipients::together(vec![key.recipient])
        }
        Err(keys) if keys.is_empty() => Err(no_active_key(flags)),
        Err(keys) => {
            let name = |key: &FetchedKey| format!("{} {}", key.holder, key.recipient.fingerprint());
            let names = keys.iter().map(name).collect::<Vec<_>>().join(", ");
            Err(anyhow!("the cluster has several Active keys: {names}")).or_hint(USE_A_FILE)
        }
    }
}

/// That there is nothing to seal to.
pub(crate) fn no_active_key(flags: &ClusterFlags) -> Failure {
    let namespace = &flags.controller_namespace;
    Failure::unable(anyhow!("there is no Active SealingKey in namespace {namespace}"))
        .hint("does the controller run there? --controller-namespace names another namespace")
}

/// The recipient decides; a name that is not its fingerprint was given to another recipient.
fn verify(key: SealingKey) -> Result<FetchedKey, Failure> {
    let name = key.name_any();
    let recipient: Recipient =
        key.spec.recipient.parse().with_context(|| format!("SealingKey {name}"))?;
    if recipient.fingerprint().to_string() != name {
        return Err(anyhow!("SealingKey {name} holds recipient {}", recipient.fingerprint())).or_hint(
            "a SealingKey is named by its recipient's fingerprint: somebody may have put in a key of his own",
        );
    }
    let conditions = key.status.into_iter().flat_map(|status| status.conditions);
    let is_held = conditions.into_iter().any(|it| it.type_ == "Held" && it.status == "True");
    let created = key.spec.created.0;
    Ok(FetchedKey { recipient, holder: key.spec.holder, created, state: key.spec.state, is_held })
}

/// The kubeconfig that kubectl would use: `--kubeconfig` or `KUBECONFIG`, a list of files, or the one at home.
fn kubeconfig(flags: &ClusterFlags) -> Result<Kubeconfig, Failure> {
    let given = flags.kubeconfig.as_ref().filter(|paths| !paths.is_empty());
    let paths: Vec<PathBuf> = match given {
        Some(paths) => paths_of(paths),
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
                match is_list {
                    true => continue,
                    false => Err(anyhow!("there is no kubeconfig {name}")),
                }
            }
            Err(KubeconfigError::ReadConfig(error, _)) => {
                Err(anyhow!(error).context(format!("cannot read kubeconfig {name}")))
            }
            Err(_) => Err(anyhow!("{name} is not a kubeconfig")),
            Ok(kubeconfig) => match merged.take() {
                Some(earlier) => earlier
                    .merge(kubeconfig)
                    .map_err(|_| anyhow!("{name} does not fit the kubeconfigs before it")),
                None => Ok(kubeconfig),
            },
        };
        merged = Some(read.or_hint("--kubeconfig names another one")?);
    }
    merged.ok_or_else(|| anyhow!("there is no kubeconfig")).or_hint("--kubeconfig names one")
}

fn paths_of(list: &OsString) -> Vec<PathBuf> {
    std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// A key that came over an unverified connection may be anybody's.
fn refuse_unverified(kubeconfig: &Kubeconfig, flags: &ClusterFlags) -> Result<(), Failure> {
    let current = flags.context.as_ref().or(kubeconfig.current_context.as_ref());
    let Some(name) = current.filter(|name| !name.is_empty()) else {
        return Err(anyhow!("the kubeconfig has no current context"))
            .or_hint("name one with --context");
    };
    let context = kubeconfig.contexts.iter().find(|context| context.name == *name);
    let Some(context) = context.and_then(|context| context.context.as_ref()) else {
        let names: Vec<_> = kubeconfig.contexts.iter().map(|it| it.name.as_str()).collect();
        return Err(anyhow!("the kubeconfig has no context {name}"))
            .or_hint(format!("it has: {}", names.join(", ")));
    };
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster);
    let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_ref()) else {
        return Err(Failure::unable(anyhow!(
            "context {name} names a cluster that the kubeconfig has not"
        )));
    };
    let is_https = cluster.server.as_deref().is_some_and(|server| server.starts_with("https://"));
    if cluster.insecure_skip_tls_verify == Some(true) || !is_https {
        return Err(anyhow!("context {name} does not verify whom it talks to"))
            .or_hint("a key that anybody may have sent is not sealed to: use https and certificate-authority-data");
    }
    Ok(())
}

async fn list(kubeconfig: Kubeconfig, flags: &ClusterFlags) -> Result<Vec<SealingKey>, Failure> {
    let options = KubeConfigOptions { context: flags.context.clone(), ..Default::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| anyhow!("the kubeconfig cannot be used: {}", trouble_with(&error)))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(DEADLINE);
    let server = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let client = Client::try_from(config).map_err(|error| refusal(&error, &server, flags))?;
    let api: Api<SealingKey> = Api::namespaced(client, &flags.controller_namespace);
    let keys = api.list(&ListParams::default()).await;
    keys.map(|keys| keys.items).map_err(|error| refusal(&error, &server, flags))
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
        _ => "something in it is not valid",
    }
}

fn refusal(error: &kube::Error, server: &str, flags: &ClusterFlags) -> Failure {
    let namespace = &flags.controller_namespace;
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            Failure::unable(anyhow!("{server} does not accept the kubeconfig's credentials"))
        }
        kube::Error::Api(status) if status.code == 403 => Failure::unable(anyhow!(
            "you may not list SealingKeys in namespace {namespace}"
        ))
        .hint("an administrator binds the Role bulla-seal there, or sends you the recipient"),
        kube::Error::Api(status) if status.code == 404 => {
            Failure::unable(anyhow!("{server} does not know SealingKeys"))
                .hint("is Bulla installed in this cluster, and is it the right context?")
        }
        kube::Error::Api(status) => {
            Failure::unable(anyhow!("{server} answered with status {}", status.code))
        }
        kube::Error::Auth(_) => {
            Failure::unable(anyhow!("the kubeconfig's credential plugin or token file failed"))
                .hint("try kubectl with the same context")
        }
        kube::Error::SerdeError(_) => {
            Failure::unable(anyhow!("{server} sent what is not a list of SealingKeys"))
                .hint("the cluster's version of Bulla may be another")
        }
        error => Failure::unable(anyhow!("cannot reach {server}: {}", innermost(error)))
            .hint("is it the right context, and can it be reached from here?"),
    }
}

/// The last cause, which says what happened to the connection.
fn innermost(error: &kube::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
