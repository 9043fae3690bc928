//! `bulla set`.

use std::path::PathBuf;

use anyhow::anyhow;
use bulla_crds::WipedSecret;
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::command_line::completion;
use crate::command_line::flags::ScopeFlag;
use crate::files::sealed_file::{MergedSecret, PickFlags, SealedFile, Sealer};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::values::ValueFlags;
use crate::values::plain_secret::InsistFlags;
use crate::who::destination::DestinationFlags;

/// Seal one value into an existing SealedSecret
///
/// The value comes from a prompt that does not show it, from stdin, a file or an environment variable. It is sealed
/// byte for byte. You need no identity: you can write a value without being able to read any. Other values,
/// comments, order and quotes in the file stay unchanged.
///
/// The value gets the namespace and scope of the value that it replaces, or of the other values.
#[derive(Args)]
pub(crate) struct Set {
    /// The file with the SealedSecret
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The data key of the value
    #[arg(value_name = "KEY", add = completion::sealed_keys())]
    key: String,

    #[command(flatten)]
    value: ValueFlags,

    #[command(flatten)]
    pick: PickFlags,

    /// Which Secrets may use the value, only under this data key [default: the scope of the other values, else
    /// strict]
    #[arg(long, value_enum, help_heading = "Secret")]
    scope: Option<ScopeFlag>,

    #[command(flatten)]
    insist: InsistFlags,

    #[command(flatten)]
    destination: DestinationFlags,
}

impl Set {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let key = &self.key;
        if !bulla_sealing::is_data_key(key) {
            // Not repeated, because it may be the value.
            return Err(anyhow!("the key argument is not a valid data key of a Secret"))
                .or_hint("a key has only letters, digits, -, _ and ., and comes before the value");
        }
        self.value.refuse_stdin_twice(&self.destination.recipients.recipients_files)?;
        let file = SealedFile::read(&self.file)?;
        let destination = self.destination.resolve(Some(&self.file))?;
        let given = destination.given_namespace(self.pick.namespace.as_deref())?;
        let picked = self.pick.pick(&file)?.in_namespace(given.as_ref())?;
        let mut value = self.value.read(key)?;
        let value = ByteString(std::mem::take(&mut *value));
        let data = Some([(key.clone(), value)].into());
        let secret = WipedSecret::new(Secret { data, ..Secret::default() });
        let insisted = self.insist.keys();
        let sealer = Sealer::new(&destination.recipients, self.scope);
        let sealer = Sealer { insisted: &insisted, ..sealer };
        let merged =
            MergedSecret::of(&picked, &secret, sealer, |error| picked.refuse_to_seal(error))?;
        file.replace(&file.patched(&merged.patches)?)?;
        merged.tell(&self.file, &picked.object.title(), sealer.recipients);
        Ok(Answer::Yes)
    }
}
