//! `bulla seal`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;
use clap::Args;

use crate::command_line::flags::{ManifestFlags, OutputFlags, ScopeFlag};
use crate::files::git::{self, Standing};
use crate::files::input;
use crate::files::sealed_file::Sealer;
use crate::files::sealed_file::put::{self, IfThere};
use crate::files::write::{self, Existing, Visibility};
use crate::manifest::{self, Manifests, Object, ObjectKind};
use crate::parallel::in_parallel;
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::output;
use crate::values::plain_secret::{InsistFlags, PlainSecret};
use crate::who::destination::{Destination, DestinationFlags};
use crate::who::identities::IdentityFlags;

/// Seal Secret manifests into SealedSecrets
///
/// Reads Secrets in YAML or JSON: one or many per file, or a List. Prints a SealedSecret for each. As in
/// Kubernetes, values are base64 under data and plain text under stringData, and stringData wins. Prints or writes
/// nothing unless every Secret can be sealed.
///
/// If the output file exists, the Secrets are merged into it: each goes into the SealedSecret of the same namespace
/// and name, or becomes a new document at the end. Other values, labels and annotations stay, and so do comments,
/// order and quotes. Sealing is random, so every value that you pass gets new ciphertext. With -i, values that did
/// not change and are sealed to the right recipients keep theirs.
///
/// Values are sealed to the recipients of -r and -R. Without these, they are sealed to the recipients that
/// bulla.yaml pins for the file's environment. Without a bulla.yaml, they are sealed to the cluster's own Active
/// key and to the recovery keys that the cluster declares. These are fetched through the kubeconfig; only then does
/// this command talk to a cluster.
#[derive(Args)]
pub(crate) struct Seal {
    #[command(flatten)]
    files: ManifestFlags,

    #[command(flatten)]
    destination: DestinationFlags,

    /// The namespace of the Secrets; must match manifests that name one
    #[arg(short, long, value_name = "NAMESPACE", help_heading = "Secret")]
    namespace: Option<String>,

    /// Which Secrets may use the values, each only under its own data key [default: the scope of existing values,
    /// else strict]
    #[arg(long, value_enum, help_heading = "Secret")]
    scope: Option<ScopeFlag>,

    #[command(flatten)]
    output: OutputFlags,

    /// Overwrite an existing file instead of merging into it
    #[arg(long, help_heading = "Output")]
    force: bool,

    #[command(flatten)]
    identities: IdentityFlags,

    #[command(flatten)]
    insist: InsistFlags,
}

impl Seal {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let recipients_files = &self.destination.recipients.recipients_files;
        let others = recipients_files.iter().chain(&self.identities.identities);
        let paths = input::paths(&self.files.files, others)?;
        // The file that gets the values decides; without one, the file that they come from.
        let output = self.output.file();
        let only = if let [file] = &self.files.files[..] { Some(file.as_path()) } else { None };
        let file = output.or(only.filter(|file| !input::is_stdin(file)));
        self.refuse_to_merge_into_itself(output)?;
        let manifests = Manifests::read(paths)?;
        let objects = manifests.objects()?;
        let destination = self.destination.resolve(file)?;
        let given = objects.into_iter().map(|object| self.read(object, &destination));
        let given = given.collect::<Result<Vec<_>, _>>()?;
        let keyring = self.identities.read()?;
        let sealer = Sealer::new(&destination.recipients, self.scope);
        let insisted = self.insist.keys();
        let sealer = Sealer { keyring: Some(&keyring), insisted: &insisted, ..sealer };
        write_sealed(&given, sealer, output, Existing::unless(self.force), IfThere::Merge)?;
        self.warn_of_what_is_left(output);
        Ok(Answer::Yes)
    }

    fn read<'a>(
        &self,
        object: Object<'a>,
        destination: &Destination,
    ) -> Result<PlainSecret<'a>, Failure> {
        let kind = ObjectKind::of(&object);
        if kind != ObjectKind::Secret {
            let hint = (kind == ObjectKind::SealedSecret).then_some("it is sealed already");
            let failure = Failure::unable(object.unsupported("a Secret of v1"));
            return Err(failure.maybe_hint(hint));
        }
        let secret = manifest::read_secret(&object)?;
        manifest::name_of(&object, &secret.metadata)?;
        let given = destination.given_namespace(self.namespace.as_deref())?;
        let namespace = manifest::namespace_of(&object, &secret.metadata, given.as_ref())?;
        Ok(PlainSecret { namespace: namespace.map(str::to_owned), secret, object: Some(object) })
    }

    /// A plaintext manifest is replaced as a whole or not at all: no plaintext stays beside sealed values.
    fn refuse_to_merge_into_itself(&self, output: Option<&Path>) -> Result<(), Failure> {
        let Some(output) = output.filter(|_| !self.force) else { return Ok(()) };
        if !self.files.files.iter().any(|file| is_same(file, output)) {
            return Ok(());
        }
        Err(anyhow!("{} would be overwritten by its own sealed copy", output.display()))
            .or_hint("pass --force; without an identity you cannot recover the plaintext")
    }

    /// Warns about plaintext files that Git tracks or would add.
    fn warn_of_what_is_left(&self, output: Option<&Path>) {
        for file in self.files.files.iter().filter(|file| !input::is_stdin(file)) {
            let is_replaced = output.is_some_and(|output| is_same(file, output));
            let standing = git::standing(file).unwrap_or_else(|failure| {
                let (message, _) = failure.into_parts();
                output::warning(&format!(
                    "{}: could not ask Git about it: {message}",
                    file.display()
                ));
                None
            });
            let what = match standing {
                Some(Standing::Tracked) if is_replaced => {
                    "was plaintext and Git tracks it: committed values stay in the history, so change them"
                }
                Some(Standing::Tracked) => {
                    "is plaintext and Git tracks it: remove it with git rm --cached, and if it was pushed, change the values"
                }
                Some(Standing::Untracked) if !is_replaced => {
                    "is plaintext and Git does not ignore it: delete it, or add it to .gitignore"
                }
                Some(Standing::Untracked) | None => continue,
            };
            output::warning(&format!("{} {what}", file.display()));
        }
    }
}

/// Whether both paths name the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}

/// Seals Secrets and writes them: to stdout, to a new file, or into an existing file.
pub(super) fn write_sealed(
    given: &[PlainSecret<'_>],
    sealer: Sealer<'_>,
    output: Option<&Path>,
    existing: Existing,
    if_there: IfThere,
) -> Result<(), Failure> {
    if let (Some(path), Existing::Keep(_)) = (output, existing)
        && path.exists()
    {
        let file = put::read_to_put(path)?;
        let put = put::put(&file, given, sealer, if_there)?;
        return put::write(&file, &put, sealer.recipients);
    }
    let scope = sealer.scope.unwrap_or(bulla_sealing::Scope::Strict);
    let sealed = in_parallel(given.len(), |index| {
        given[index].seal(scope, sealer.recipients, sealer.insisted)
    });
    let sealed = sealed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let yaml = manifest::to_yaml(&sealed);
    write::file_or_stdout(output, &yaml, existing, Visibility::Public)?;
    let Some(path) = output else { return Ok(()) };
    for given in given {
        let values = output::count(given.secret.data.as_ref().map_or(0, BTreeMap::len), "value");
        output::summary(&format!("{}: wrote {}, {values}", path.display(), given.title()));
    }
    Ok(())
}
