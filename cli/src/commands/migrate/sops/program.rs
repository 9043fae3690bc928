//! Runs the program `sops`. The decrypted text comes through a pipe. The messages of sops are not repeated, because
//! they may contain plaintext.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::anyhow;

use crate::files::input::{self, Input};
use crate::manifest::{self, Document, ManifestFile};
use crate::report::failure::Failure;

/// Exit codes with which sops reports the reason.
const MAC_MISMATCH: i32 = 51;
const NO_KEY: i32 = 128;

/// The result of decrypting a file.
pub(in crate::commands::migrate) enum Decrypted {
    /// The whole file, decrypted.
    Plain(ManifestFile),
    /// Why the file is still encrypted.
    Refused(Failure),
}

/// Decrypts the file with sops. It is a failure if sops cannot be started, and a refusal if sops cannot decrypt the
/// file.
pub(in crate::commands::migrate) fn decrypt(
    path: &Path,
    manifests: &ManifestFile,
) -> Result<Decrypted, Failure> {
    let name = path.display().to_string();
    let input_type =
        if manifests.documents().iter().all(Document::is_json) { "json" } else { "yaml" };
    let mut sops = Command::new("sops");
    sops.args(["decrypt", "--input-type", input_type, "--output-type", "yaml"])
        .arg(as_argument(path))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = sops.spawn().map_err(|error| {
        let hint = "install sops (https://getsops.io), or leave the file out";
        let what = match error.kind() {
            ErrorKind::NotFound => "is not installed",
            _ => "could not be started",
        };
        Failure::unable(anyhow!("{name} is encrypted with SOPS, but the program sops {what}"))
            .hint(hint)
    })?;
    let plain = child.stdout.take().map(|stdout| input::read_wiped(stdout, 0));
    let status = child.wait();
    let refuse = |what: &str| {
        let shown = as_argument(path);
        let hint = format!("to see its error, run: sops decrypt {} > /dev/null", shown.display());
        Decrypted::Refused(Failure::unable(anyhow!("{name}: {what}")).hint(hint))
    };
    Ok(match (status.ok().and_then(|status| status.code()), plain) {
        (Some(0), Some(Ok(bytes))) => {
            let input = Input { name: format!("{name}, decrypted"), bytes };
            manifest::parse(input)
                .map_or_else(|error| Decrypted::Refused(error.into()), Decrypted::Plain)
        }
        (Some(MAC_MISMATCH), _) => {
            refuse("its MAC does not match: the file was changed without sops, or is damaged")
        }
        (Some(NO_KEY), _) => refuse("sops has no key that opens it"),
        (Some(code), _) if code != 0 => {
            refuse(&format!("sops could not decrypt it (exit code {code})"))
        }
        _ => refuse("sops could not decrypt it"),
    })
}

/// A path that sops cannot mistake for a flag.
fn as_argument(path: &Path) -> PathBuf {
    if path.to_string_lossy().starts_with('-') {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    }
}
