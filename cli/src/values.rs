//! Plaintext values, as people enter them: at a hidden prompt, from stdin, a file or the environment. They are kept byte
//! for byte and wiped when dropped; no temporary file, no copy in the arguments of another process.

mod dotenv;
pub(crate) mod plain_secret;
pub(crate) mod sealed_text;
mod sources;
pub(crate) mod tls_pair;
pub(crate) mod value_diff;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use zeroize::Zeroizing;

use crate::files::input;
use crate::report::failure::{Failure, OrHint};
use crate::report::{output, terminal};

pub(crate) use sources::{SourceFlags, Values};

/// How to pass an empty value, where it could be a mistake.
const EMPTY_VALUE: &str = "for an empty value, pass --from-file /dev/null";

/// Where one value comes from.
#[derive(Args)]
#[command(next_help_heading = "Value")]
pub(crate) struct ValueFlags {
    // A list, because the argument parser would repeat a second value in its message.
    /// The value itself. It ends up in your shell history and in the process list. Leave it out to type the value
    /// without showing it, or to pipe it in on stdin
    #[arg(value_name = "VALUE", num_args = 0.., help_heading = None::<&str>)]
    literal: Vec<OsString>,

    /// Read the value from FILE, - for stdin
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,

    /// Take the value from this environment variable
    #[arg(long, value_name = "VARIABLE", conflicts_with = "from_file")]
    from_env: Option<OsString>,

    #[command(flatten)]
    chomp: Chomp,
}

/// What to do with a newline at the end of a value.
#[derive(Args)]
pub(crate) struct Chomp {
    /// Remove one trailing newline from each value
    #[arg(long)]
    chomp: bool,
}

impl ValueFlags {
    /// Stdin can be read once; a recipients file may be it too.
    pub(crate) fn refuse_stdin_twice(&self, others: &[PathBuf]) -> Result<(), Failure> {
        let is_implied =
            self.literal.is_empty() && self.from_file.is_none() && self.from_env.is_none();
        let implied = (is_implied && !io::stdin().is_terminal()).then(|| PathBuf::from("-"));
        Ok(input::refuse_stdin_twice(others.iter().chain(&self.from_file).chain(&implied))?)
    }

    pub(crate) fn read(&self, key: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let value = match (&self.literal[..], &self.from_file, &self.from_env) {
            ([], None, None) => typed_or_piped(&format!("Value of {key}"))?,
            ([], Some(path), _) => of_file(key, path)?,
            ([], None, Some(variable)) => from_env(variable)?,
            ([literal], None, None) => {
                warn_about_arguments();
                bytes_of(literal).ok_or_else(|| anyhow!("the value is not Unicode"))?
            }
            ([_], ..) => {
                return Err(anyhow!("the value is given twice")).or_hint("pass it in one way only");
            }
            (..) => {
                return Err(anyhow!("more than one VALUE given")).or_hint(
                    "quote a value that contains spaces; better, keep it off the command line",
                );
            }
        };
        Ok(self.chomp.applied(key, value))
    }
}

impl Chomp {
    /// Removes a newline at the end of the value, or warns that there is one. A value of several lines normally ends
    /// in a newline, so there is no warning.
    pub(crate) fn applied(&self, key: &str, mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let line = value.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let Some(line) = line else { return value };
        let length = line.len();
        if self.chomp {
            value.truncate(length);
        } else if !line.contains(&b'\n') {
            output::warning(&format!(
                "the value of {key} ends in a newline, which is sealed with it; --chomp removes it"
            ));
        }
        value
    }
}

/// The content of a file, - for stdin. A pipe must not be empty: a program that failed would empty a password.
pub(crate) fn of_file(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let is_stream = input::is_stdin(path) || is_pipe(path);
    let bytes = input::read(path)?.bytes;
    if is_stream && bytes.trim_ascii().is_empty() {
        return Err(anyhow!("{key}: {} is empty, so there is no value", path.display()))
            .or_hint(format!("check the command that writes it; {EMPTY_VALUE}"));
    }
    if bytes.is_empty() && path != Path::new("/dev/null") {
        output::warning(&format!("the value of {key} is empty, because {} is", path.display()));
    }
    Ok(bytes)
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

pub(crate) fn from_env(variable: &OsStr) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let name = variable.to_string_lossy();
    // Some systems panic when asked for a name with `=`, which no variable has.
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    let value = is_name
        .then(|| std::env::var_os(variable))
        .flatten()
        .ok_or_else(|| anyhow!("no environment variable of that name"))
        .or_hint("--from-env takes the name of a variable; it must be exported")?;
    let bytes = bytes_of(&value).ok_or_else(|| anyhow!("the value is not Unicode"))?;
    drop(Zeroizing::new(value.into_encoded_bytes()));
    Ok(bytes)
}

/// What a person types at a hidden prompt.
pub(crate) fn typed(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = terminal::ask_value(what)?;
    if value.is_empty() {
        Err(anyhow!("no value was typed")).or_hint(EMPTY_VALUE)
    } else {
        Ok(value)
    }
}

/// Warns that a value is where others can see it.
pub(crate) fn warn_about_arguments() {
    output::warning(
        "values on the command line leak into the shell history and ps; type them at the prompt, or use stdin or a file",
    );
}

/// What is piped in, or else typed.
pub(crate) fn typed_or_piped(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if io::stdin().is_terminal() {
        return typed(what);
    }
    let value = input::read(Path::new("-"))?.bytes;
    // A script whose stdin is closed must not empty a password.
    if value.trim_ascii().is_empty() {
        return Err(anyhow!("no value given, and stdin is empty")).or_hint(EMPTY_VALUE);
    }
    Ok(value)
}

/// The bytes of an argument or variable. `None` for text that is not Unicode on systems other than Unix.
pub(crate) fn bytes_of(text: &OsStr) -> Option<Zeroizing<Vec<u8>>> {
    let is_known = cfg!(unix) || text.to_str().is_some();
    is_known.then(|| Zeroizing::new(text.as_encoded_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_removed() {
        let chomped = |value: &str, chomp| {
            let value = Zeroizing::new(value.as_bytes().to_vec());
            String::from_utf8(Chomp { chomp }.applied("a", value).to_vec()).unwrap()
        };
        for (value, without) in [
            ("x", "x"),
            ("x\n", "x"),
            ("x\r\n", "x"),
            ("x\n\n", "x\n"),
            ("\n", ""),
            ("", ""),
            ("x\r", "x\r"),
        ] {
            assert_eq!(chomped(value, true), without);
            assert_eq!(chomped(value, false), value);
        }
    }
}
