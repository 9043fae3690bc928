//! `bulla unseal`.

mod check;

use anyhow::anyhow;
use bulla_crds::rules::Violation;
use bulla_crds::{Policy, UnsealError, ValueError, WipedSecret};
use bulla_sealing::Keyring;
use clap::Args;

use crate::failure::{Answer, Failure};
use crate::flags::{Manifests as Files, Output};
use crate::identities::IdentityFlags;
use crate::manifest::{self, FlawKind, Manifests, Object, Step, Tree};
use crate::output::{self, Content, Existing};
use crate::{input, refused};

/// Open SealedSecrets with an identity, without a cluster
///
/// Prints the Secret that each SealedSecret describes, its values in base64 and its templates rendered.
/// What a value is opened for is taken from the object that it stands in, so a value that was moved does
/// not open. All of them open, or nothing is printed or written.
///
/// With --check nothing is printed but what does not open: whether an identity, or a backup of one, is still
/// good for everything. FILE may then be a folder too, in which *.yaml, *.yml and *.json are looked at, less
/// what Git ignores; the exit code is 1 when something does not open.
#[derive(Args)]
pub(crate) struct Unseal {
    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    identities: IdentityFlags,

    /// Open everything in files and folders, and print only what does not open
    #[arg(long, conflicts_with_all = ["output", "force"])]
    check: bool,

    #[command(flatten)]
    output: Output,

    /// Write over an existing file, and even inside a Git work tree
    #[arg(long)]
    force: bool,
}

impl Unseal {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        if self.check {
            return check::run(&self.files.files, &self.identities.read_some()?);
        }
        let paths = input::paths(&self.files.files, &self.identities.identities)?;
        let path = output::file(self.output.output.as_deref());
        if let Some(path) = path.filter(|_| !self.force) {
            output::refuse_work_tree(path)?;
        }
        let keyring = self.identities.read_some()?;
        let manifests = Manifests::read(paths)?;
        let secrets = manifests
            .objects()?
            .iter()
            .map(|object| unseal(object, &keyring))
            .collect::<Result<Vec<_>, _>>()?;
        let trees: Vec<Tree> =
            secrets.iter().map(|secret| manifest::secret_to_tree(secret)).collect();
        let yaml = manifest::to_yaml(trees.iter().map(Tree::value));
        match path {
            Some(path) => {
                let existing = Existing::unless(self.force);
                output::write_file(path, &yaml, existing, Content::Secret)?;
            }
            None => output::stdout(&yaml)?,
        }
        Ok(Answer::Yes)
    }
}

fn unseal(object: &Object<'_>, keyring: &Keyring) -> Result<WipedSecret, Failure> {
    let sealed_secret = manifest::read_sealed_secret(object)?;
    manifest::name_of(object, &sealed_secret.metadata)?;
    // A newer version may have fields that matter for more than the values, which can be had all the same.
    for flaw in manifest::flaws(object).iter().filter(|flaw| flaw.kind == FlawKind::UnknownField) {
        let note = object.mistake(&flaw.steps(), "unknown field, not taken into account");
        output::warning(&note.to_string());
    }
    let secret = bulla_crds::unseal(&sealed_secret, keyring)
        .map_err(|error| refusal(object, keyring, &error))?;
    if sealed_secret.spec.target.is_some_and(|target| target.policy == Policy::Merge) {
        let note = object.mistake(
            &[Step::Key("spec"), Step::Key("target"), Step::Key("policy")],
            "these keys are added to a Secret that is there already; this is not all of it",
        );
        output::note(&note.to_string());
    }
    Ok(secret)
}

/// Why an object does not open: an answer when it was understood, an inability when it is malformed.
fn refusal(object: &Object<'_>, keyring: &Keyring, error: &UnsealError) -> Failure {
    let position = object.position(&path_of(error));
    let message = anyhow!("{position}: {}: {error}", object.title());
    let (failure, value_error) = match error {
        UnsealError::Value { error, .. } => {
            let is_answer = matches!(error, ValueError::Unseal(_));
            (if is_answer { Failure::no(message) } else { Failure::unable(message) }, Some(error))
        }
        UnsealError::Unfit { .. } => (Failure::no(message), None),
        UnsealError::Violation(_) => (Failure::unable(message), None),
    };
    match value_error.and_then(|error| refused::hint_for(error, Some(keyring))) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What within the object an error is about.
fn path_of(error: &UnsealError) -> Vec<Step<'_>> {
    let sealed = |key| vec![Step::Key("spec"), Step::Key("sealedData"), Step::Key(key)];
    match error {
        UnsealError::Value { key, .. } => sealed(key.as_str()),
        UnsealError::Unfit { key, .. } => sealed(*key),
        UnsealError::Violation(Violation::Template { key, .. }) => {
            vec![Step::Key("spec"), Step::Key("template"), Step::Key("data"), Step::Key(key)]
        }
        UnsealError::Violation(_) => Vec::new(),
    }
}
