//! Bitnami's private keys, from PEM files and from the backup that `kubectl get secret -o yaml` prints.

use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::DecodePrivateKey;
use zeroize::Zeroizing;

use super::value::BitnamiKeys;
use crate::files::input::{self, Input};
use crate::files::walk;
use crate::manifest::{self, Object, ObjectKind};
use crate::report::failure::{Failure, OrHint};
use crate::report::output;

/// Where the controller keeps a key in its Secret.
const DATA_KEY: &str = "tls.key";

/// Reads the keys of all files. A Secret in a backup that has no usable key is skipped with a warning, so that the
/// other keys can still be used.
pub(in crate::commands::migrate) fn read(paths: &[PathBuf]) -> Result<BitnamiKeys, Failure> {
    let mut keys = Vec::new();
    for path in paths {
        let input = input::read(path)?;
        let name = input.name.clone();
        let count = keys.len();
        if walk::mentions(&input.bytes, "apiVersion") {
            from_secrets(input, &mut keys)?;
        } else {
            from_pem(&input.name, &input.bytes, &mut keys)?;
        }
        if keys.len() == count {
            return Err(anyhow!("{name}: no private RSA key found"))
                .or_hint("pass a key as a PEM file, or the output of kubectl get secret -n kube-system -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml");
        }
    }
    Ok(BitnamiKeys::new(keys))
}

fn from_secrets(input: Input, keys: &mut Vec<RsaPrivateKey>) -> Result<(), Failure> {
    let file = manifest::parse(input)?;
    for object in file.objects()? {
        match from_secret(&object) {
            Ok(key) => keys.push(key),
            Err(error) => output::warning(&format!("{error:#}; the Secret is skipped")),
        }
    }
    Ok(())
}

fn from_secret(object: &Object<'_>) -> Result<RsaPrivateKey> {
    if ObjectKind::of(object) != ObjectKind::Secret {
        bail!(object.unsupported("a Secret of v1"));
    }
    let secret = manifest::read_secret(object)?;
    let at = || format!("{}: {}", object.position(&[]), object.title());
    let data = secret.data.as_ref().and_then(|data| data.get(DATA_KEY));
    let pem = data.ok_or_else(|| anyhow!("{}: {DATA_KEY} is missing", at()))?;
    let mut keys = Vec::new();
    let read = from_pem(DATA_KEY, &pem.0, &mut keys);
    read.ok()
        .and_then(|()| keys.pop())
        .ok_or_else(|| anyhow!("{}: {DATA_KEY} is not a private RSA key", at()))
}

/// Adds the private keys among the PEM blocks of a text; skips other blocks, such as certificates.
fn from_pem(name: &str, bytes: &[u8], keys: &mut Vec<RsaPrivateKey>) -> Result<(), Failure> {
    let text = str::from_utf8(bytes).map_err(|_| anyhow!("{name}: not UTF-8"))?;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let label = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----"));
        let Some(label) = label else { continue };
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        let mut is_whole = false;
        for line in lines.by_ref() {
            if line == end {
                is_whole = true;
                break;
            }
            body.push_str(line);
        }
        let parse: fn(&[u8]) -> Option<RsaPrivateKey> = match label {
            "RSA PRIVATE KEY" if body.starts_with("Proc-Type") => return Err(locked(name)),
            "ENCRYPTED PRIVATE KEY" => return Err(locked(name)),
            "RSA PRIVATE KEY" => |der| RsaPrivateKey::from_pkcs1_der(der).ok(),
            "PRIVATE KEY" => |der| RsaPrivateKey::from_pkcs8_der(der).ok(),
            _ => continue,
        };
        let der = BASE64_STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new);
        match der.filter(|_| is_whole).and_then(|der| parse(&der)) {
            Some(key) => keys.push(key),
            None => {
                return Err(
                    anyhow!("{name}: a private key is damaged, or is not an RSA key").into()
                );
            }
        }
    }
    Ok(())
}

fn locked(name: &str) -> Failure {
    Failure::unable(anyhow!("{name}: the private key is protected by a passphrase"))
        .hint("decrypt it with openssl pkey -in FILE, and pipe the output to --from-key -")
}
