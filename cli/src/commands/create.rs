//! `bulla create`.

mod kinds;

use std::collections::BTreeMap;

use anyhow::anyhow;
use clap::Args;

use self::kinds::KindFlags;
use super::seal;
use crate::command_line::flags::{OutputFlags, ScopeFlag};
use crate::files::input;
use crate::files::sealed_file::Sealer;
use crate::files::sealed_file::put::{self, IfThere};
use crate::files::write::Existing;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::values::plain_secret::{InsistFlags, PlainSecret};
use crate::values::{SourceFlags, Values};
use crate::who::destination::DestinationFlags;

/// Create a SealedSecret from values, without a plaintext manifest
///
/// Values come from a prompt that does not show them, from files, files of KEY=VALUE lines, environment variables
/// or stdin. They are sealed byte for byte.
///
/// If the output file exists, the SealedSecret is added as a new document. An existing SealedSecret of the same
/// namespace and name is changed only with --merge; to change a single value, use bulla set.
#[derive(Args)]
pub(crate) struct Create {
    /// The name of the Secret
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    sources: SourceFlags,

    #[command(flatten)]
    kind: KindFlags,

    /// Add a label to the Secret; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", help_heading = "Secret")]
    labels: Vec<String>,

    /// Add an annotation to the Secret; repeatable
    #[arg(long = "annotation", value_name = "KEY=VALUE", help_heading = "Secret")]
    annotations: Vec<String>,

    /// Make the Secret immutable
    #[arg(long, help_heading = "Secret")]
    immutable: bool,

    /// The namespace of the Secret
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Secret")]
    namespace: Option<String>,

    /// Which Secrets may use the values, each only under its own data key [default: the scope of existing values,
    /// else strict]
    #[arg(long, value_enum, help_heading = "Secret")]
    scope: Option<ScopeFlag>,

    #[command(flatten)]
    insist: InsistFlags,

    #[command(flatten)]
    destination: DestinationFlags,

    #[command(flatten)]
    output: OutputFlags,

    /// Merge the values into the SealedSecret if the file already has it
    #[arg(long, help_heading = "Output")]
    merge: bool,

    /// Overwrite an existing file
    #[arg(long, conflicts_with = "merge", help_heading = "Output")]
    force: bool,
}

impl Create {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if !bulla_sealing::is_dns_subdomain(&self.name) {
            return Err(anyhow!("{} is not a valid Secret name", self.name))
                .or_hint("a name has only lower-case letters, digits, - and .");
        }
        let files = [self.sources.files(), self.kind.files()].concat();
        let recipients_files = &self.destination.recipients.recipients_files;
        input::refuse_stdin_twice(files.iter().chain(recipients_files))?;
        let output = self.output.file();
        // Everything that can be refused is refused before the user types a value.
        let (labels, annotations) =
            (marks("label", &self.labels)?, marks("annotation", &self.annotations)?);
        let destination = self.destination.resolve(output)?;
        let namespace = destination.given_namespace(self.namespace.as_deref())?;
        let namespace = namespace.as_deref();
        if let Some(path) = output.filter(|path| path.exists() && !self.merge && !self.force) {
            put::refuse_if_there(&put::read_to_put(path)?, &self.name, namespace)?;
        }
        let mut values = Values::default();
        let type_ = self.kind.read(&mut values)?;
        self.sources.read(&mut values)?;
        if values.is_empty() {
            return Err(anyhow!("no value given"))
                .or_hint("pass --prompt, --from-file, --from-env-file or --from-env");
        }
        let secret = values.into_secret(|secret| {
            secret.metadata.name = Some(self.name.clone());
            secret.metadata.labels = labels;
            secret.metadata.annotations = annotations;
            secret.type_ = type_;
            secret.immutable = self.immutable.then_some(true);
        });
        let given = PlainSecret { secret, namespace: namespace.map(Into::into), object: None };
        let insisted = self.insist.keys();
        let sealer = Sealer::new(&destination.recipients, self.scope);
        let sealer = Sealer { insisted: &insisted, ..sealer };
        let if_there = if self.merge { IfThere::Merge } else { IfThere::Refuse };
        seal::write_sealed(&[given], sealer, output, Existing::unless(self.force), if_there)?;
        Ok(Answer::Yes)
    }
}

/// Labels or annotations as they are typed.
fn marks(kind: &str, given: &[String]) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let mut marks = BTreeMap::new();
    for mark in given {
        let (key, value) = mark
            .split_once('=')
            .ok_or_else(|| anyhow!("a {kind} without ="))
            .or_hint(format!("expected --{kind} KEY=VALUE"))?;
        if marks.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(anyhow!("the {kind} {key} is given twice").into());
        }
    }
    Ok(Some(marks).filter(|marks| !marks.is_empty()))
}
