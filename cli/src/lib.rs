//! The `bulla` command: Secrets to SealedSecrets and back, keys, and checks, offline by default.
//!
//! A command reads all of its input first, then works, then writes all of its output at once, so that a failure
//! anywhere leaves every file as it was; in a tree, each file by itself. Data goes to stdout, everything else to
//! stderr. Nothing here calls cryptography (`bulla-sealing` does) or judges an object by rules of its own
//! (`bulla-crds` does); only `cluster` may talk to an API server.

mod cluster;
mod command_line;
mod commands;
mod core_file;
mod files;
mod manifest;
mod parallel;
mod report;
mod signals;
mod values;
mod who;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::command_line::invocation::{self, Cli};
use crate::report::escape;
use crate::report::failure::{Answer, Failure};
use crate::report::output::{self, Label, MessageFlags};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    keep_panics_quiet();
    core_file::forbid();
    match invocation::complete().unwrap_or_else(run) {
        Ok(answer) => answer.into(),
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<Answer, Failure> {
    let matches = invocation::command().try_get_matches();
    match matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches)) {
        Ok(cli) => {
            cli.messages.apply();
            cli.command.run(invocation::command)
        }
        Err(error) => usage(&error),
    }
}

/// A panic's own message can quote what was being read, and a core dump holds all of it. Nothing is unwound.
fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        commands::wipe_plaintext();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let error = Label::Error.line(&format!("a bug in bulla, at {place}"));
        output::stderr(&(error + &Label::Hint.line("please report it")));
        std::process::exit(2);
    }));
}

/// Whether the unknown argument looks like a flag rather than a password.
fn names_a_flag(error: &clap::Error) -> bool {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return false;
    };
    let name = argument.strip_prefix("--").unwrap_or_default();
    let is_word =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    is_word || argument.len() == 2 && argument.starts_with('-')
}

/// Help, version and mistakes in the command line.
fn usage(error: &clap::Error) -> Result<Answer, Failure> {
    let args: Vec<_> = std::env::args_os().collect();
    MessageFlags::apply_color_of(args.iter().filter_map(|arg| arg.to_str()));
    let text = error.render();
    match error.kind() {
        // None of this is from the command line, so there is nothing to escape.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::text(&text.ansi().to_string())?;
            Ok(Answer::Yes)
        }
        // clap repeats the argument that it does not understand.
        _ if escape::holds_identity(&text.to_string()) => Err(Failure::identity_in_arguments()),
        ErrorKind::UnknownArgument if !names_a_flag(error) => Err(Failure::unable(anyhow!(
            "unexpected argument, not shown because it may be a secret"
        ))
        .hint("see --help; put a value that begins with - after --")),
        _ => {
            let text = escape::lines(&text.to_string());
            match text.split_once('\n').map(|(first, rest)| (first.strip_prefix("error: "), rest)) {
                Some((Some(first), rest)) => output::stderr(&(Label::Error.line(first) + rest)),
                _ => output::stderr(&text),
            }
            Ok(Answer::NotUnderstood)
        }
    }
}

/// What a command costs, counted in this process.
#[cfg(test)]
mod tests {
    use std::fs;

    use bulla_crds::decoded_values;
    use bulla_manifests::parse_count;
    use bulla_sealing::{Identity, KeyType};
    use clap::Parser;

    use super::*;

    const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: one, b: two, c: three}\n";

    fn run(args: &[&str]) -> Answer {
        let cli = Cli::try_parse_from([&["bulla"], args].concat()).unwrap();
        cli.command.run(invocation::command).unwrap()
    }

    /// A folder with `secret.yaml` and `sealed.yaml`, the paths of both, and a recipient.
    fn folder() -> (tempfile::TempDir, [String; 2], String) {
        let folder = tempfile::tempdir().unwrap();
        let [secret, sealed] = ["secret.yaml", "sealed.yaml"]
            .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
        fs::write(&secret, SECRET).unwrap();
        let recipient = Identity::generate(KeyType::X25519).unwrap().recipient().to_string();
        run(&["seal", &secret, "-o", &sealed, "-r", &recipient]);
        (folder, [secret, sealed], recipient)
    }

    #[test]
    fn set_parses_its_file_twice() {
        let (_folder, [_, sealed], recipient) = folder();
        let before = parse_count();
        run(&["set", &sealed, "a", "new", "-r", &recipient]);
        assert_eq!(parse_count() - before, 2);
    }

    #[test]
    fn seal_parses_the_secret_once_and_the_output_file_twice() {
        let (_folder, [secret, sealed], recipient) = folder();
        let before = parse_count();
        run(&["seal", &secret, "-o", &sealed, "-r", &recipient]);
        assert_eq!(parse_count() - before, 3);
    }

    #[test]
    fn lint_decodes_each_value_once() {
        let (_folder, [_, sealed], _) = folder();
        let before = decoded_values();
        run(&["lint", &sealed]);
        assert_eq!(decoded_values() - before, 3);
    }

    #[test]
    fn diff_decodes_only_values_that_changed() {
        let (_folder, [_, sealed], recipient) = folder();
        let old = sealed.replace("sealed.yaml", "old.yaml");
        fs::copy(&sealed, &old).unwrap();
        run(&["set", &sealed, "a", "new", "-r", &recipient]);
        run(&["set", &sealed, "d", "added", "-r", &recipient]);
        let before = decoded_values();
        assert_eq!(run(&["diff", "--no-index", &old, &sealed]), Answer::No);
        assert_eq!(decoded_values() - before, 3);
    }
}
