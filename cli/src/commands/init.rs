//! `bulla init`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_sealing::Recipient;
use clap::Args;
use serde_json::Value;

use crate::cluster::kubeconfig::{ClustersFlags, KubeconfigFlags};
use crate::files::write::{self, Existing, Visibility};
use crate::manifest;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;
use crate::report::terminal::Consent;
use crate::who::config::{self, Config, RECOVERY, Renewal};
use crate::who::pinning::{self, Shown};
use crate::who::recipients;

/// What the file begins with.
const HEAD: &str = "\
# The recipients that values in this repository are sealed to. A file belongs to the environment whose paths match it.
# An Active recipient can read every value sealed from then on: review changes here accordingly.
environments:
";

/// What to do with an existing file.
const KEEP: &str = "edit it, or pin keys in it with bulla keys fetch";

/// Write the bulla.yaml of a repository
///
/// The file lists environments: their paths, and the recipients that their values are sealed to. It goes to the
/// root of the Git work tree, where the other commands find it. An existing file is never overwritten. Without
/// --environment the whole work tree is one environment named default.
///
/// --recovery-recipient pins a recovery recipient. --context fetches a cluster's current key, shows its fingerprint,
/// and pins it if you agree. You can also do that later with bulla keys fetch.
#[derive(Args)]
pub(crate) struct Init {
    /// An environment and its paths, as in 'prod=clusters/prod/**'; repeat it for more environments or paths
    /// [default: 'default=**']
    #[arg(short, long = "environment", value_name = "NAME=PATHS", value_parser = assignment)]
    environments: Vec<(String, String)>,

    /// The namespace of manifests in an environment that name none, as in prod=shop; repeatable
    #[arg(long = "namespace", value_name = "NAME=NAMESPACE", value_parser = assignment)]
    namespaces: Vec<(String, String)>,

    /// Pin this recipient for recovery in every environment
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "recovery_recipients_file")]
    recovery_recipient: Option<OsString>,

    /// Pin the recipient in FILE for recovery in every environment
    #[arg(long, value_name = "FILE")]
    recovery_recipients_file: Option<PathBuf>,

    /// Fetch and pin the key of the cluster of this kubeconfig context; repeat it for several clusters
    #[arg(long = "context", value_name = "NAME")]
    contexts: Vec<String>,

    /// Pin the key of this holder; repeatable [default: the cluster's own]
    #[arg(long = "holder", value_name = "HOLDER", requires = "contexts")]
    holders: Vec<String>,

    #[command(flatten)]
    kubeconfig: KubeconfigFlags,

    #[command(flatten)]
    consent: Consent,

    /// Write this file [default: bulla.yaml at the root of the Git work tree]
    #[arg(long, value_name = "FILE", help_heading = None::<&str>)]
    config: Option<PathBuf>,
}

/// An environment as the flags describe it.
struct EnvironmentDraft<'a> {
    name: &'a str,
    paths: Vec<&'a str>,
    namespace: Option<&'a str>,
}

impl Init {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None => config::default_path()?,
        };
        if path.symlink_metadata().is_ok() {
            return Err(anyhow!("{} already exists", path.display())).or_hint(KEEP);
        }
        let text = text(&self.drafts()?);
        let config = config::of_text(&path, &text)
            .map_err(|failure| failure.context("cannot write a bulla.yaml with these flags"))?;
        let recovery = self.recovery()?;
        let mut renewals = Vec::new();
        if let Some(recipient) = recovery {
            renewals.extend(config.environments.iter().map(|environment| {
                Renewal::of_today(&environment.name, RECOVERY, recipient.clone())
            }));
        }
        renewals.extend(self.fetched(&config)?);
        let bytes = config::renewed(&config, &renewals)?.unwrap_or_else(|| text.into_bytes());
        write::file(&path, &bytes, Existing::Keep(KEEP), Visibility::Public)?;
        tell(&path, &config, &renewals);
        Ok(Answer::Yes)
    }

    /// The environments, each with all of its paths.
    fn drafts(&self) -> Result<Vec<EnvironmentDraft<'_>>, Failure> {
        let mut drafts: Vec<EnvironmentDraft<'_>> = Vec::new();
        for (name, path) in &self.environments {
            match drafts.iter_mut().find(|draft| draft.name == name) {
                Some(draft) => draft.paths.push(path),
                None => drafts.push(EnvironmentDraft { name, paths: vec![path], namespace: None }),
            }
        }
        if drafts.is_empty() {
            drafts.push(EnvironmentDraft { name: "default", paths: vec!["**"], namespace: None });
        }
        for (name, namespace) in &self.namespaces {
            let Some(draft) = drafts.iter_mut().find(|draft| draft.name == name) else {
                return Err(anyhow!("--namespace names environment {name}, which does not exist"))
                    .or_hint(
                        "add it with --environment; without any, the only environment is default",
                    );
            };
            if draft.namespace.replace(namespace).is_some_and(|other| other != namespace) {
                return Err(anyhow!("environment {name} has two namespaces").into());
            }
        }
        Ok(drafts)
    }

    fn recovery(&self) -> Result<Option<Recipient>, Failure> {
        if let Some(recipient) = &self.recovery_recipient {
            let [flag, file_flag] = ["--recovery-recipient", "--recovery-recipients-file"];
            return recipients::argument(recipient, flag, file_flag).map(Some);
        }
        let Some(path) = &self.recovery_recipients_file else { return Ok(None) };
        match &recipients::file(path)?[..] {
            [recipient] => Ok(Some(recipient.clone())),
            _ => Err(anyhow!("{}: more than one recipient in this file", path.display())).or_hint(
                "init pins one for recovery; add others to bulla.yaml, each with its own holder",
            ),
        }
    }

    /// The clusters' keys, once the user has confirmed them.
    fn fetched(&self, config: &Config) -> Result<Vec<Renewal>, Failure> {
        if self.contexts.is_empty() {
            return Ok(Vec::new());
        }
        let [environment] = &config.environments[..] else {
            return Err(anyhow!("cannot match several environments to clusters"))
                .or_hint("leave --context out, then run for each: bulla keys fetch --environment NAME --context NAME");
        };
        let (contexts, kubeconfig) = (self.contexts.clone(), self.kubeconfig.clone());
        let shown = Shown::by_each(&ClustersFlags { contexts, kubeconfig })?;
        let mut renewals = Vec::new();
        for key in pinning::holder_keys(&shown, &self.holders)? {
            renewals.push(key.renewal(environment)?);
            output::stderr(&key.comparison(environment));
        }
        self.consent.ask(&format!("pin these in {}?", config.path.display()))?;
        Ok(renewals)
    }
}

/// `NAME=VALUE`.
fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("expected NAME=VALUE"),
    }
}

/// The file before anything is pinned, with each comment once.
fn text(drafts: &[EnvironmentDraft<'_>]) -> String {
    let mut text = HEAD.to_owned();
    for (number, EnvironmentDraft { name, paths, namespace }) in drafts.iter().enumerate() {
        let comment = |comment| if number == 0 { comment } else { "" };
        text.push_str(&format!("  {}:\n", scalar(name)));
        text.push_str(comment(
            "    # Relative to this folder: * matches within a name, ** matches any folders.\n",
        ));
        text.push_str("    paths:\n");
        text.extend(paths.iter().map(|path| format!("      - {}\n", scalar(path))));
        if let Some(namespace) = namespace {
            text.push_str(comment(
                "    # For manifests that name no namespace; one that names another is refused.\n",
            ));
            text.push_str(&format!("    namespace: {}\n", scalar(namespace)));
        }
        text.push_str(comment("    # Public keys, pinned by bulla keys fetch.\n"));
        text.push_str("    recipients: []\n");
    }
    text
}

/// A text as a YAML scalar on one line.
fn scalar(text: &str) -> String {
    String::from_utf8_lossy(&manifest::to_yaml([&Value::from(text)])).trim().to_owned()
}

/// Reports what was written and what to do next.
fn tell(path: &Path, config: &Config, renewals: &[Renewal]) {
    let environments = output::count(config.environments.len(), "environment");
    let (path, names) = (path.display(), config.names());
    output::summary(&format!("{path}: created with {environments}: {names}"));
    if !renewals.iter().any(|renewal| renewal.holder == RECOVERY) {
        output::note(
            "no recovery recipient is pinned, so values are lost if the cluster loses its keys: make one with bulla keys generate -o FILE, outside the work tree, and add it with holder recovery",
        );
    }
    let is_cluster = |renewal: &&Renewal| renewal.holder != RECOVERY;
    output::summary(&match (renewals.iter().find(is_cluster), &config.environments[..]) {
        (Some(_), _) => "next: seal with bulla seal, and check in CI with bulla lint".into(),
        (None, [_]) => {
            format!("next: pin the cluster's key with bulla keys fetch --environment {names}")
        }
        (None, _) => {
            "next: pin the clusters' keys, for each environment, with bulla keys fetch --environment NAME --context NAME".into()
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_file_says_what_the_flags_say() {
        let drafts = [
            EnvironmentDraft {
                name: "prod",
                paths: vec!["clusters/prod/**", "*.yaml"],
                namespace: Some("on"),
            },
            EnvironmentDraft { name: "123", paths: vec!["{a,b}/x: y #"], namespace: None },
        ];
        let config = config::of_text(Path::new("bulla.yaml"), &text(&drafts)).unwrap();
        let file = config.file.only().unwrap();
        assert_eq!(
            *file.value,
            serde_json::json!({"environments": {
                "123": {"paths": ["{a,b}/x: y #"], "recipients": []},
                "prod": {
                    "paths": ["clusters/prod/**", "*.yaml"], "namespace": "on", "recipients": [],
                },
            }})
        );
    }
}
