//! Identity files, as `age-keygen` writes them.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use bulla_sealing::{Identity, Keyring};

use crate::failure::{Failure, OrHint};
use crate::input::Input;
use crate::{escape, input};

/// Reads the identities of all `paths` into a keyring.
pub(crate) fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Keyring, Failure> {
    let mut keyring = Keyring::new();
    for path in paths {
        if escape::holds_identity(&path.to_string_lossy()) {
            return Err(Failure::identity_in_arguments());
        }
        let input = input::read(path)?;
        if is_encrypted(&input.bytes) {
            return Err(anyhow!("{} is encrypted with a passphrase or to another key", input.name))
                .or_hint("decrypt it with age and pipe it in: age -d FILE | bulla unseal -i - …");
        }
        for identity in parse(&input)? {
            keyring.insert(identity);
        }
    }
    Ok(keyring)
}

fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/")
        || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

/// One identity on a line; blank lines and lines that begin with `#` are passed over.
fn parse(input: &Input) -> Result<Vec<Identity>> {
    let name = &input.name;
    let Ok(text) = str::from_utf8(&input.bytes) else {
        bail!("{name}: not a text, so not an identity file")
    };
    let mut identities = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = Identity::parse(line);
        identities.push(identity.map_err(|error| anyhow!("{name}: line {}: {error}", index + 1))?);
    }
    match identities.is_empty() {
        true => bail!("{name}: there is no identity in it"),
        false => Ok(identities),
    }
}
