//! A folder in which `bulla` runs, an independent sealer of Bitnami's format, and SOPS itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context, Result, anyhow, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use bulla_tests::{Folder, Program, program};
use serde_json::{Value, json};

/// A folder with `identity.txt` and `recipient.txt`.
pub(crate) struct Site {
    folder: Folder,
    bulla: PathBuf,
}

/// How a command ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let site = Self { folder: Folder::new("bulla-migrate-")?, bulla: program(Program::Bulla)? };
        let generate = ["keys", "generate", "--type", "x25519", "-o", "identity.txt"];
        let recipient = site.done(&generate)?;
        site.write("recipient.txt", recipient)?;
        Ok(site)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(path, content).with_context(|| name.to_owned())
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.path(name)).with_context(|| name.to_owned())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bulla);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("KUBECONFIG")
            .env("HOME", self.folder.path());
        command
    }

    /// Runs the command with an empty standard input.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Run> {
        finished(&mut self.command(args), b"")
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Result<Run> {
        finished(&mut self.command(args), input)
    }

    /// Runs the command with other environment variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<Run> {
        finished(self.command(args).envs(variables.iter().copied()), b"")
    }

    /// The output of a command that must succeed.
    pub(crate) fn done(&self, args: &[&str]) -> Result<String> {
        let run = self.run(args)?;
        ensure!(run.code == 0, "{args:?}: {}", run.stderr);
        Ok(run.stdout)
    }

    /// Runs `bulla migrate` with the folder's recipient.
    pub(crate) fn migrate(&self, args: &[&str]) -> Result<Run> {
        self.run(&[&["migrate", "-R", "recipient.txt"], args].concat())
    }

    /// The values of the only SealedSecret in a file.
    pub(crate) fn values(&self, file: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let secret = self.done(&["unseal", "-i", "identity.txt", file])?;
        let secret: Value = yaml_serde::from_str(&secret)?;
        let data = secret["data"].as_object().context("no data")?;
        let value = |(key, text): (&String, &Value)| {
            let text = text.as_str().context("no text")?;
            Ok((key.clone(), BASE64_STANDARD.decode(text)?))
        };
        data.iter().map(value).collect()
    }
}

fn finished(command: &mut Command, input: &[u8]) -> Result<Run> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // A command that refuses early does not read all of it.
    let writer = {
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input))
    };
    let output = child.wait_with_output()?;
    drop(writer.join());
    Ok(Run {
        code: output.status.code().context("killed")?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

/// Three private keys in PEM, PKCS#1, generated once.
pub(crate) fn keys() -> Result<&'static [String; 3]> {
    static KEYS: LazyLock<Result<[String; 3]>> =
        LazyLock::new(|| Ok([key(2048)?, key(2048)?, key(2048)?]));
    shared(&KEYS)
}

/// A new private key in PEM, PKCS#1.
pub(crate) fn key(bits: usize) -> Result<String> {
    sealer(&["key", &bits.to_string()], "")
}

/// The key in PKCS#8.
pub(crate) fn pkcs8(key: &str) -> Result<String> {
    sealer(&["pkcs8"], key)
}

/// Seals values as kubeseal does. Each has a key, a label and a value.
pub(crate) fn sealed(values: &[(&str, &str, &[u8])]) -> Result<Vec<String>> {
    let request = |(key, label, value): &(&str, &str, &[u8])| {
        json!({"key": key, "label": label, "value": BASE64_STANDARD.encode(value)}).to_string()
            + "\n"
    };
    let sealed = sealer(&["seal"], &values.iter().map(request).collect::<String>())?;
    let sealed: Vec<_> = sealed.lines().map(str::to_owned).collect();
    ensure!(sealed.len() == values.len(), "not all values are sealed");
    Ok(sealed)
}

/// Seals one value to the first key.
pub(crate) fn one(label: &str, value: &str) -> Result<String> {
    Ok(sealed(&[(&keys()?[0], label, value.as_bytes())])?.remove(0))
}

fn sealer(args: &[&str], input: &str) -> Result<String> {
    static PROGRAM: LazyLock<Result<PathBuf>> =
        LazyLock::new(|| built("interop", "bitnami", "./bitnami"));
    let run = finished(Command::new(shared(&PROGRAM)?).args(args), input.as_bytes())?;
    ensure!(run.code == 0, "the sealer: {}", run.stderr);
    Ok(run.stdout)
}

/// The folder of the program `sops`.
pub(crate) fn sops() -> Result<&'static Path> {
    static PROGRAM: LazyLock<Result<PathBuf>> = LazyLock::new(|| built("sops", "sops", "tool"));
    shared(&PROGRAM)?.parent().context("no folder")
}

/// A program of a Go module beside this file, built once in a work tree.
fn built(module: &str, name: &str, package: &str) -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("../target/interop").join(name);
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    let mut go = Command::new("go");
    go.args(["build", "-buildvcs=false", "-mod=readonly", "-trimpath", "-o"]).arg(&folder);
    go.arg(package).current_dir(tests.join(module)).env("GOWORK", "off");
    let run = finished(&mut go, b"").context("this needs Go")?;
    ensure!(run.code == 0, "{name} cannot be built: {}", run.stderr);
    Ok(folder.join(name))
}

/// The shared value, or the error of the attempt to make it.
fn shared<T>(made: &'static LazyLock<Result<T>>) -> Result<&'static T> {
    made.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// One of Bitnami's SealedSecrets, with further metadata and spec.
pub(crate) fn theirs(metadata: &str, values: &[(&str, &str)], spec: &str) -> String {
    let values: String =
        values.iter().map(|(key, value)| format!("    {key}: {value}\n")).collect();
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n{metadata}spec:\n  encryptedData:\n{values}{spec}"
    )
}

/// `prod/db`, with scope strict.
pub(crate) const DB: &str = "  name: db\n  namespace: prod\n";

/// The text with each of Bulla's sealed values replaced by three dots.
pub(crate) fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("YWdlLWVuY3J5cHRpb24u") {
        masked.push_str(&rest[..start]);
        masked.push_str("...");
        let end = rest[start..].find(|it: char| !it.is_ascii_alphanumeric() && !"+/=".contains(it));
        rest = &rest[end.map_or(rest.len(), |end| start + end)..];
    }
    masked + rest
}
