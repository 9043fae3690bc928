//! How the program was called, and the command line that follows from it.
//!
//! As `kubectl-bulla` it is a plugin of kubectl, and speaks of itself as `kubectl bulla`. As `kubectl_complete-bulla`,
//! a link to the same program, kubectl asks it to complete a command line. Shells ask by the variable `COMPLETE`.

use std::ffi::OsString;
use std::path::Path;

use clap::{Command, CommandFactory, Parser};
use clap_complete::engine::{self, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use crate::commands;
use crate::report::failure::{Answer, Failure};
use crate::report::output::{self, MessageFlags};

/// Seal Kubernetes Secrets so that you can keep them in Git
///
/// Each value becomes a standard age file. Only its recipients can open it: the cluster, and your recovery key if
/// you pin one. It names, tamper-proof, the namespace, name and key that it is for. Commands work offline unless they
/// need a cluster's keys or new headers from it.
///
/// Exit codes: 0 done; 1 a check failed (lint found something, the diff is not empty, a value does not open); 2 the
/// command failed (usage, input, files, cluster).
#[derive(Parser)]
#[command(name = "bulla", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: commands::Command,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

const PLUGIN: &str = "kubectl-bulla";

const PLUGIN_COMPLETER: &str = "kubectl_complete-bulla";

/// Cobra's directive to kubectl about the candidates: add no space after them, and complete no file names.
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

/// The command line with the name by which it was called.
pub(crate) fn command() -> Command {
    Cli::command().bin_name(if called() == PLUGIN { "kubectl bulla" } else { "bulla" })
}

/// Completes the command line, if a shell asks for that.
pub(crate) fn complete() -> Option<Result<Answer, Failure>> {
    if called() == PLUGIN_COMPLETER {
        return Some(complete_for_kubectl());
    }
    let completer = CompleteEnv::with_factory(Cli::command).bin("bulla");
    match completer.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(false) => None,
        Ok(true) => Some(Ok(Answer::Yes)),
        // An unknown shell or an invalid index: nobody would read an error message here.
        Err(_) => Some(Ok(Answer::NotUnderstood)),
    }
}

/// The words of the command line so far, kubectl's own left out.
fn complete_for_kubectl() -> Result<Answer, Failure> {
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.len() < 2 {
        words.push(OsString::new());
    }
    let last = words.len() - 1;
    let here = std::env::current_dir().ok();
    let candidates = engine::complete(&mut Cli::command(), words, last, here.as_deref());
    output::stdout(for_kubectl(&candidates.unwrap_or_default()).as_bytes())?;
    Ok(Answer::Yes)
}

/// One candidate per line, its description after a tab, and the directive at the end.
fn for_kubectl(candidates: &[CompletionCandidate]) -> String {
    let shown = candidates.iter().filter(|candidate| !candidate.is_hide_set());
    let mut text = String::new();
    let mut directive = if candidates.is_empty() { 0 } else { NO_FILES };
    for candidate in shown {
        let value = candidate.get_value().to_string_lossy();
        if value.ends_with(std::path::MAIN_SEPARATOR) {
            directive |= NO_SPACE;
        }
        text.push_str(&value);
        if let Some(help) = candidate.get_help() {
            let help = help.to_string();
            text.push_str(&format!("\t{}", help.lines().next().unwrap_or_default()));
        }
        text.push('\n');
    }
    text + &format!(":{directive}\n")
}

/// The name of the program as it was called, without folder and `.exe`.
fn called() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.strip_suffix(".exe").map_or(name.clone(), str::to_owned)
}
