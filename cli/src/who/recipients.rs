//! Recipients from the command line and from recipients files, as age reads them.

use std::ffi::OsString;
use std::path::Path;

use anyhow::anyhow;
use bulla_sealing::{InvalidKey, Recipient, Recipients, RecipientsError};

use crate::command_line::flags::RecipientFlags;
use crate::files::input::{self, Input};
use crate::report::escape;
use crate::report::failure::{Failure, OrHint};

/// The recipients that the flags name, or `None` when they name none.
pub(crate) fn read(flags: &RecipientFlags) -> Result<Option<Recipients>, Failure> {
    if flags.recipients.is_empty() && flags.recipients_files.is_empty() {
        return Ok(None);
    }
    let mut recipients = Vec::new();
    for (index, recipient) in flags.recipients.iter().enumerate() {
        recipients.push(argument(recipient, &format!("recipient {} of -r", index + 1), "-R")?);
    }
    for path in &flags.recipients_files {
        recipients.extend(file(path)?);
    }
    together(recipients).map(Some)
}

/// Checks that the recipients can share a sealed value.
pub(crate) fn together(recipients: Vec<Recipient>) -> Result<Recipients, Failure> {
    Recipients::new(recipients).map_err(|error| {
        let failure = Failure::unable(error);
        match error {
            RecipientsError::Mixed(..) => failure.hint(
                "age allows one type per file: seal to keys of one type, and renew the others as that type",
            ),
            RecipientsError::Twice(_) => failure.hint("pass each recipient once, across -r and -R"),
            RecipientsError::None | RecipientsError::TooMany { .. } => failure,
        }
    })
}

/// A recipient on the command line, which messages call `name`. Files have their own flag.
pub(crate) fn argument(
    recipient: &OsString,
    name: &str,
    file_flag: &str,
) -> Result<Recipient, Failure> {
    let text = recipient.to_string_lossy();
    if escape::holds_identity(&text) {
        return Err(Failure::identity_in_arguments());
    }
    let parsed = text.parse().map_err(|error| anyhow!("{name}: {error}"));
    if Path::new(recipient).is_file() {
        parsed.or_hint(format!("to read a file of recipients, pass {file_flag}"))
    } else {
        parsed.map_err(Failure::from)
    }
}

/// One recipient on a line; blank lines and lines that begin with `#` are skipped.
pub(crate) fn file(path: &Path) -> Result<Vec<Recipient>, Failure> {
    let Input { name, bytes } = input::read(path)?;
    let Ok(text) = str::from_utf8(&bytes) else {
        return Err(anyhow!("{name}: not a text file, so not a recipients file").into());
    };
    let mut recipients = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        recipients.push(line.parse().map_err(|error| {
            let is_identity = matches!(error, InvalidKey::IdentityGiven);
            Failure::unable(anyhow!("{name}: line {}: {error}", index + 1)).maybe_hint(
                is_identity.then_some("the recipient is in the comment above the identity"),
            )
        })?);
    }
    if recipients.is_empty() {
        Err(anyhow!("{name}: no recipient in this file").into())
    } else {
        Ok(recipients)
    }
}
