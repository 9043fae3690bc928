//! `bulla unseal`.

mod check;
mod dotenv;
mod exec;
mod variables;

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use anyhow::anyhow;
use bulla_crds::{
    Address, ParsedValue, ParsedValues, Policy, UnsealSecretError, ValueError, WipedSecret,
};
use bulla_sealing::Keyring;
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use self::variables::Names;
use crate::command_line::completion;
use crate::command_line::flags::{ManifestFlags, OutputFlags};
use crate::files::input;
use crate::files::write::{self, Existing, Visibility};
use crate::manifest::{self, FlawKind, Manifests, Object, Step, Tree};
use crate::report::failure::{Answer, Failure, OrHint};
use crate::report::{diagnostic, escape, output};
use crate::who::identities::IdentityFlags;

/// Open SealedSecrets with an identity, without a cluster
///
/// Prints the Secret that each SealedSecret describes, with base64 values and rendered templates. Each value is
/// opened for the namespace, name and key that it has in the manifest, so a value that was moved does not open.
/// Prints or writes nothing unless everything opens.
///
/// --key prints one value, byte for byte. Other values need not open unless it is rendered from them.
///
/// --format dotenv prints a line KEY=VALUE for each value, in a form that shells and dotenv parsers read alike: in
/// single quotes, over several lines if needed, or in double quotes if the value has a single quote. A value that
/// they would not all read alike is refused: control characters, invalid UTF-8, ${, or a ' together with any of " \
/// $ ` !.
///
/// --exec runs the command after -- with the values in its environment and nowhere else: in no file and no
/// argument. On Unix the command replaces this process; everywhere its exit code is returned. A value with a NUL
/// byte is refused. Variables are named after the keys; see --names and --prefix. Names that decide which code runs
/// (PATH, LD_…, DYLD_… and the like) are refused, because anyone who can change the file can choose its keys.
///
/// --check prints only what does not open, to test whether an identity or a backup still opens everything. It also
/// takes folders, and then reads *.yaml, *.yml and *.json that Git does not ignore. The exit code is 1 if something
/// does not open.
#[derive(Args)]
pub(crate) struct Unseal {
    #[command(flatten)]
    files: ManifestFlags,

    #[command(flatten)]
    identities: IdentityFlags,

    /// Open everything in files and folders and print only what does not open
    #[arg(long, conflicts_with_all = ["output", "force", "key", "format", "exec"], help_heading = None::<&str>)]
    check: bool,

    /// Print only the value of this key, byte for byte
    #[arg(long, value_name = "KEY", conflicts_with_all = ["format", "exec"], add = completion::all_keys(), help_heading = "Output")]
    key: Option<String>,

    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: UnsealFormat,

    /// Run the command after -- with the values in its environment
    #[arg(long, requires = "command", conflicts_with_all = ["format", "output", "force"], help_heading = "Output")]
    exec: bool,

    #[command(flatten)]
    names: Names,

    #[command(flatten)]
    output: OutputFlags,

    /// Overwrite an existing file, and write even inside a Git work tree
    #[arg(long, help_heading = "Output")]
    force: bool,

    /// The command for --exec, with its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "exec")]
    command: Vec<OsString>,
}

/// What unsealed values are written as.
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum UnsealFormat {
    /// Secrets in YAML
    #[default]
    Yaml,
    /// The Secret in JSON, or a List if there are several
    Json,
    /// KEY=VALUE lines for shells and dotenv parsers
    Dotenv,
}

impl Unseal {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let has_variables = self.exec || self.format == UnsealFormat::Dotenv;
        if !has_variables && !self.names.is_default() {
            return Err(anyhow!("--prefix, --names and --allow-variable only apply to variables"))
                .or_hint("pass --exec or --format dotenv too");
        }
        // The parser lets them pass beside a flag that excludes --exec.
        if !self.exec && !self.command.is_empty() {
            return Err(anyhow!(
                "the words after -- are a command, and without --exec none is run"
            ))
            .or_hint("pass files before the --; write ./-file for a file that begins with -");
        }
        if self.check {
            return check::run(&self.files.files, &self.identities.read_some()?);
        }
        let paths = input::paths(&self.files.files, &self.identities.identities)?;
        let path = self.output.file();
        if let Some(path) = path.filter(|_| !self.force) {
            write::refuse_work_tree(path)?;
        }
        let keyring = self.identities.read_some()?;
        let manifests = Manifests::read(paths)?;
        let (objects, others) = manifests.sealed_among_others()?;
        if others > 0 {
            let others = output::count(others, "object");
            output::note(&format!("{others} of other kinds skipped"));
        }
        if let Some(key) = &self.key {
            let value = value(&objects, key, &keyring)?;
            if self.output.output.is_none() && io::stdout().is_terminal() && !is_printable(&value) {
                return Err(anyhow!("key {key}: the value is binary, and stdout is a terminal"))
                    .or_hint("write it to a file with -o FILE, or pass -o - to print it anyway");
            }
            return self.write(&value);
        }
        let secrets = objects.iter().map(|object| unseal(object, &keyring));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        if self.exec {
            let variables = self.names.of(&secrets)?;
            self.names.refuse_set(&variables)?;
            return exec::run(&self.command, &variables);
        }
        match self.format {
            UnsealFormat::Yaml => {
                let trees: Vec<_> =
                    secrets.iter().map(|secret| manifest::secret_to_tree(secret)).collect();
                self.write(&manifest::to_yaml(trees.iter().map(Tree::value)))
            }
            UnsealFormat::Json => self.write(&to_json(&secrets)),
            UnsealFormat::Dotenv => self.write(&dotenv::write(&self.names.of(&secrets)?)?),
        }
    }

    fn write(&self, data: &[u8]) -> Result<Answer, Failure> {
        let existing = Existing::unless(self.force);
        write::file_or_stdout(self.output.file(), data, existing, Visibility::Secret)?;
        Ok(Answer::Yes)
    }
}

/// One Secret by itself, several as a List.
fn to_json(secrets: &[WipedSecret]) -> Zeroizing<Vec<u8>> {
    const LIST: &[u8] = br#"{"apiVersion":"v1","kind":"List","items":["#;
    let secrets: Vec<_> = secrets.iter().map(WipedSecret::to_json).collect();
    let length: usize = secrets.iter().map(|secret| secret.len() + 1).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(LIST.len() + length + 3));
    match &secrets[..] {
        [secret] => json.extend_from_slice(secret),
        _ => {
            json.extend_from_slice(LIST);
            for (index, secret) in secrets.iter().enumerate() {
                json.extend_from_slice(if index > 0 { b"," } else { b"" });
                json.extend_from_slice(secret);
            }
            json.extend_from_slice(b"]}");
        }
    }
    json.push(b'\n');
    json
}

/// One value of the only SealedSecret. The other values need not open.
fn value(
    objects: &[Object<'_>],
    key: &str,
    keyring: &Keyring,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let [object] = objects else {
        let count = objects.len();
        return Err(anyhow!("--key needs exactly one SealedSecret, found {count}"))
            .or_hint("name a file with one of them");
    };
    let sealed_secret = manifest::read_sealed_secret(object)?;
    manifest::name_of(object, &sealed_secret.metadata)?;
    let spec = &sealed_secret.spec;
    if let Some(sealed) = spec.sealed_data.get(key) {
        return ParsedValue::parse(sealed)
            .and_then(|value| Address::of(&sealed_secret).unseal(key, &value, keyring))
            .map(|plaintext| Zeroizing::new(plaintext.as_bytes().to_vec()))
            .map_err(|error| {
                refusal(object, keyring, &UnsealSecretError::Value { key: key.to_owned(), error })
            });
    }
    let rendered = spec.template.iter().flat_map(|template| &template.data);
    let rendered: Vec<_> = rendered.map(|(key, _)| key.as_str()).collect();
    if !rendered.contains(&key) {
        let keys = output::list(spec.sealed_data.keys().map(String::as_str).chain(rendered));
        return Err(anyhow!("{}: {}: no key {key}", object.position(&[]), object.title()))
            .or_hint(format!("it has: {keys}"));
    }
    let secret = unseal(object, keyring)?;
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    Ok(Zeroizing::new(value.map(|value| value.0.clone()).unwrap_or_default()))
}

/// Whether a terminal shows it unchanged.
fn is_printable(value: &[u8]) -> bool {
    str::from_utf8(value).is_ok_and(|text| {
        text.split(['\n', '\t']).all(|part| !part.chars().any(escape::is_harmful))
    })
}

fn unseal(object: &Object<'_>, keyring: &Keyring) -> Result<WipedSecret, Failure> {
    let sealed_secret = manifest::read_sealed_secret(object)?;
    manifest::name_of(object, &sealed_secret.metadata)?;
    // Unknown fields of a newer version may matter, but the values can still be opened.
    for flaw in manifest::flaws(object).iter().filter(|flaw| flaw.kind == FlawKind::UnknownField) {
        let note = object.mistake(&flaw.steps(), "unknown field, ignored");
        output::warning(&note.to_string());
    }
    let secret = bulla_crds::unseal(&sealed_secret, &ParsedValues::of(&sealed_secret), keyring)
        .map_err(|error| refusal(object, keyring, &error))?;
    if sealed_secret.spec.target.is_some_and(|target| target.policy == Policy::Merge) {
        let note = object.mistake(
            &[Step::Key("spec"), Step::Key("target"), Step::Key("policy")],
            "these keys are added to an existing Secret; its other keys are not shown",
        );
        output::note(&note.to_string());
    }
    Ok(secret)
}

/// Why an object does not open: exit code 1 if it was understood, 2 if it is malformed.
fn refusal(object: &Object<'_>, keyring: &Keyring, error: &UnsealSecretError) -> Failure {
    let position = object.position(&diagnostic::path_of(error));
    let message = anyhow!("{position}: {}: {error}", object.title());
    match error {
        UnsealSecretError::Value { error, .. } => {
            let is_answer = matches!(error, ValueError::Unseal(_));
            let failure = if is_answer { Failure::no(message) } else { Failure::unable(message) };
            failure.maybe_hint(diagnostic::hint_for(error, Some(keyring)))
        }
        UnsealSecretError::Unfit { .. } => Failure::no(message),
        UnsealSecretError::Violation(_) => Failure::unable(message),
    }
}
