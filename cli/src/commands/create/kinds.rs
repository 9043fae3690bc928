//! Secrets of a type of their own: certificates and the passwords of registries, as `kubectl create secret` makes
//! them.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_crds::json_length;
use clap::Args;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::files::input;
use crate::manifest::Tree;
use crate::report::failure::{Failure, OrHint};
use crate::values::{self, Values, tls_pair};

/// What the Secret is for.
#[derive(Args)]
#[command(next_help_heading = "Secret")]
pub(super) struct KindFlags {
    /// The type of the Secret [default: Opaque, or what --cert or --docker-username imply]
    #[arg(long = "type", value_name = "TYPE")]
    type_: Option<String>,

    /// Create a kubernetes.io/tls Secret with this PEM certificate as tls.crt
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["type_", "docker_username"])]
    cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM, as tls.key; - for stdin
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Create a kubernetes.io/dockerconfigjson Secret for this registry user; the password is read from a prompt,
    /// or from stdin if it is piped in
    #[arg(long, value_name = "NAME", conflicts_with = "type_")]
    docker_username: Option<String>,

    /// The registry
    #[arg(
        long,
        value_name = "URL",
        requires = "docker_username",
        default_value = "https://index.docker.io/v1/"
    )]
    docker_server: String,

    /// The user's email address, which some registries need
    #[arg(long, value_name = "ADDRESS", requires = "docker_username")]
    docker_email: Option<String>,
}

impl KindFlags {
    /// Every file that is read, stdin included.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = self.cert.iter().chain(&self.key).cloned().collect();
        if self.docker_username.is_some() && !io::stdin().is_terminal() {
            files.push("-".into());
        }
        files
    }

    /// Adds the values that the kind requires, and returns its type.
    pub(super) fn read(&self, values: &mut Values) -> Result<Option<String>, Failure> {
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            let mut certificates = pem(cert, "CERTIFICATE-----")?;
            let mut private = pem(key, "PRIVATE KEY-----")?;
            tls_pair::check(&certificates, &private).map_err(|mismatch| {
                let (cert, key) = (cert.display(), key.display());
                Failure::unable(anyhow!("{cert} and {key}: {mismatch}")).hint(mismatch.hint())
            })?;
            values.add("tls.crt", &mut certificates)?;
            values.add("tls.key", &mut private)?;
            return Ok(Some("kubernetes.io/tls".into()));
        }
        if let Some(username) = &self.docker_username {
            values.add(".dockerconfigjson", &mut self.docker_config(username)?)?;
            return Ok(Some("kubernetes.io/dockerconfigjson".into()));
        }
        Ok(self.type_.clone())
    }

    fn docker_config(&self, username: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let what = format!("Password of {username} at {}", self.docker_server);
        let password = values::typed_or_piped(&what)?;
        let password =
            str::from_utf8(&password).map_err(|_| anyhow!("the password is not valid UTF-8"))?;
        // Without the newline that a pipe adds, as docker login --password-stdin reads it.
        let password = password.strip_suffix('\n').unwrap_or(password);
        let password = password.strip_suffix('\r').unwrap_or(password);
        let pair = Zeroizing::new(format!("{username}:{password}"));
        // Put together by hand, because the macro would leave copies behind.
        let text = |text: &str| Value::String(text.to_owned());
        let mut entry = Map::from_iter([
            ("username".to_owned(), text(username)),
            ("password".to_owned(), text(password)),
            ("auth".to_owned(), Value::String(BASE64_STANDARD.encode(pair.as_bytes()))),
        ]);
        if let Some(email) = &self.docker_email {
            entry.insert("email".to_owned(), text(email));
        }
        let within = |key: &str, map| Value::Object(Map::from_iter([(key.to_owned(), map)]));
        let server = within(&self.docker_server, Value::Object(entry));
        let config = Tree::new(within("auths", server));
        // Measured first, so that the buffer does not grow and leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(json_length(config.value())));
        serde_json::to_writer(&mut *bytes, config.value())
            .map_err(|_| anyhow!("the password cannot be written as JSON"))?;
        Ok(bytes)
    }
}

/// A file that holds at least one block of the kind.
fn pem(path: &Path, kind: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = input::read(path)?.bytes;
    let is_there = str::from_utf8(&bytes).is_ok_and(|text| {
        text.lines().any(|line| line.starts_with("-----BEGIN ") && line.ends_with(kind))
    });
    if is_there {
        Ok(bytes)
    } else {
        Err(anyhow!("{}: no PEM {} in this file", path.display(), kind.trim_end_matches('-')))
            .or_hint("--cert takes the certificate, --key the private key")
    }
}
