//! Several values at once, each under its key.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bulla_crds::WipedSecret;
use clap::Args;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use zeroize::Zeroizing;

use super::{Chomp, bytes_of, dotenv, from_env, of_file, typed, warn_about_arguments};
use crate::files::input;
use crate::report::failure::{Failure, OrHint};

/// Where the values of a new Secret come from.
#[derive(Args)]
#[command(next_help_heading = "Values")]
pub(crate) struct SourceFlags {
    /// Type the value of KEY at a prompt that does not show it; repeatable
    #[arg(long, value_name = "KEY")]
    prompt: Vec<String>,

    /// Read a value from FILE, - for stdin; the key defaults to the file name; repeatable
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<OsString>,

    /// Read KEY=VALUE lines from FILE, - for stdin; repeatable
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<PathBuf>,

    /// Take a value from an environment variable; KEY defaults to its name; repeatable
    #[arg(long, value_name = "KEY[=VARIABLE]")]
    from_env: Vec<OsString>,

    /// Take the value from the command line, where your shell history and the process list show it; prefer --prompt
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<OsString>,

    #[command(flatten)]
    chomp: Chomp,
}

/// Values by their keys, wiped when dropped.
#[derive(Default)]
pub(crate) struct Values(WipedSecret);

impl Values {
    /// Refuses a key that is invalid, or that already has a value.
    fn refuse_key(&self, key: &str) -> Result<(), Failure> {
        if !bulla_sealing::is_data_key(key) {
            return Err(anyhow!("{key} is not a valid data key of a Secret"))
                .or_hint("a key has only letters, digits, -, _ and .; set one: KEY=…");
        }
        if self.0.data.as_ref().is_some_and(|data| data.contains_key(key)) {
            return Err(anyhow!("the value of {key} is given twice").into());
        }
        Ok(())
    }

    /// Adds one; no key may come twice.
    pub(crate) fn add(&mut self, key: &str, value: &mut Zeroizing<Vec<u8>>) -> Result<(), Failure> {
        self.refuse_key(key)?;
        let value = ByteString(std::mem::take(&mut **value));
        let secret = std::mem::take(&mut self.0);
        self.0 = secret.with(|secret| {
            secret.data.get_or_insert_default().insert(key.to_owned(), value);
        });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.data.as_ref().is_none_or(BTreeMap::is_empty)
    }

    /// A Secret with these values; `change` sets everything else.
    pub(crate) fn into_secret(self, change: impl FnOnce(&mut Secret)) -> WipedSecret {
        self.0.with(change)
    }
}

impl SourceFlags {
    /// Every file that is read.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = self.from_file.iter().map(|argument| PathBuf::from(split(argument).1));
        files.chain(self.from_env_file.iter().cloned()).collect()
    }

    /// Reads all of them; prompts come last.
    pub(crate) fn read(&self, values: &mut Values) -> Result<(), Failure> {
        for argument in &self.from_file {
            let (key, path) = split(argument);
            let path = Path::new(path);
            let key = match key {
                Some(key) => key.to_owned(),
                None if input::is_stdin(path) => {
                    return Err(anyhow!("stdin has no file name that could be its key"))
                        .or_hint("set the key: --from-file KEY=-");
                }
                None => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            };
            values.add(&key, &mut self.chomp.applied(&key, of_file(&key, path)?))?;
        }
        for path in &self.from_env_file {
            read_env_file(path, values)?;
        }
        for argument in &self.from_env {
            let (key, variable) = split(argument);
            let key = key.map_or_else(|| variable.to_string_lossy(), Into::into);
            let value = from_env(variable)?;
            values.add(&key, &mut self.chomp.applied(&key, value))?;
        }
        for (index, argument) in self.from_literal.iter().enumerate() {
            let (key, value) = split(argument);
            // Text without a valid key is not shown, because it may be the value.
            let Some(key) = key.filter(|key| bulla_sealing::is_data_key(key)) else {
                return Err(anyhow!(
                    "--from-literal number {} does not begin with a valid data key",
                    index + 1
                ))
                .or_hint("expected KEY=VALUE");
            };
            let value = bytes_of(value).ok_or_else(|| anyhow!("the value is not Unicode"))?;
            values.add(key, &mut self.chomp.applied(key, value))?;
        }
        if !self.from_literal.is_empty() {
            warn_about_arguments();
        }
        for key in &self.prompt {
            values.refuse_key(key)?;
        }
        for key in &self.prompt {
            values.refuse_key(key)?; // an earlier prompt may have added it
            values.add(key, &mut typed(&format!("Value of {key}"))?)?;
        }
        Ok(())
    }
}

/// `KEY=REST`, or no key.
fn split(argument: &OsStr) -> (Option<&str>, &OsStr) {
    let Some(text) = argument.to_str() else { return (None, argument) };
    match text.split_once('=') {
        Some((key, rest)) => (Some(key), OsStr::new(rest)),
        None => (None, argument),
    }
}

fn read_env_file(path: &Path, values: &mut Values) -> Result<(), Failure> {
    let file = input::read(path)?;
    let name = &file.name;
    let Ok(text) = str::from_utf8(&file.bytes) else {
        return Err(anyhow!("{name}: not UTF-8").into());
    };
    let pairs = dotenv::parse(name, text)?;
    if pairs.is_empty() {
        return Err(anyhow!("{name}: no KEY=VALUE line in this file").into());
    }
    for (key, mut value) in pairs {
        values.add(&key, &mut value)?;
    }
    Ok(())
}
