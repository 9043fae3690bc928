//! The cost of the command line, measured as whole processes and compared with floors: sealing one Secret, setting one
//! value, linting a repository and rekeying one.

use std::{
    fs,
    hint::black_box,
    io::{self, Write},
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};
use bulla_crds::keys::identity_file;
use bulla_sealing::{
    Binding, Identity, Keyring, Recipient, Recipients, Scope, SealedValue, ValueAddress, seal,
};
use bulla_tests::{Folder, Program, program};
use clap::Parser;
use serde_json::{Value, json};

use crate::{
    key_type::Type,
    program::{self, progress, rounded},
    rekey::offline::{make_headers, write_again},
    timing::{self, Costs, ms},
    tree::{Copy, Tree},
};

/// The meaning of every figure, shown by `--help`.
const FIGURES: &str = "\
Every figure is the best of all runs, and the median in parentheses, from the start of a process to its end. CPU time
is user and system time, of all threads.

start        `bulla --version`: the cost of any command.
  seal         `bulla seal -R FILE SECRET` of a Secret with three values of 32 bytes, to stdout. Its floor: a start, and
               three times the library's seal.
  set          `bulla set FILE KEY`, the value from a file. Its floor: a start, one seal, and one file written with fsync.
  lint         `bulla lint TREE`, a repository with a bulla.yaml. Its floor: all files read and all sealed values parsed,
               one after the other in one thread.
  lint a List  `bulla lint FILE`, the objects of the repository that is rekeyed as items of one List. Its floor: the same.
  rekey        `bulla rekey -i old.txt TREE` of a repository after its bulla.yaml has a new recipient. Its floor:
               the headers made, and the files written with fsync, in one thread.

Exit code 2: it could not be measured.";

/// Measure the command line and compare it with its floors
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-cli", after_long_help = FIGURES)]
struct Args {
    /// How many files are linted, each a SealedSecret of two values
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    lint_files: u32,

    /// How many files are rekeyed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rekey_files: u32,

    /// How many times to measure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    /// The type of the keys [default: both types, one after the other]
    #[arg(long = "type", value_enum)]
    key_type: Option<Type>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// The file with a List.
const LIST: &str = "list.yaml";

/// How many values each file has.
const VALUES: u16 = 2;

/// The targets.
const SEAL_TARGET: Duration = Duration::from_millis(10);
const LINT_TARGET: Duration = Duration::from_secs(1);

/// Parses the command line, measures and prints. Returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    let is_json = args.json;
    program::run(async move { measure(args) }, move |report, out| {
        if is_json { report.write_json(out) } else { report.write_table(out) }
    })
}

/// The results with keys of one type.
struct Turn {
    key_type: Type,
    start: Costs,
    seal: Measured,
    set: Measured,
    lint: Measured,
    lint_list: Measured,
    rekey: Measured,
}

/// A command and its floor.
#[derive(Default)]
struct Measured {
    command: Costs,
    floor: Costs,
}

struct Report {
    args: Args,
    turns: Vec<Turn>,
}

fn measure(args: Args) -> Result<Report> {
    let key_types = match args.key_type {
        Some(key_type) => vec![key_type],
        None => vec![Type::X25519, Type::Hybrid],
    };
    let mut turns = Vec::new();
    for key_type in key_types {
        progress(key_type.as_str());
        turns.push(Site::new(&args, key_type)?.measure(&args)?);
    }
    Ok(Report { args, turns })
}

/// A key, in the forms that the commands and the floors need.
struct Key {
    keyring: Keyring,
    recipient: Recipient,
}

impl From<Identity> for Key {
    fn from(identity: Identity) -> Self {
        let recipient = identity.recipient();
        Self { keyring: Keyring::from_iter([identity]), recipient }
    }
}

/// Keys, a Secret and the repositories.
struct Site {
    key_type: Type,
    bulla: PathBuf,
    folder: Folder,
    old: Key,
    new: Key,
    lint: Tree,
    rekey: Tree,
}

impl Site {
    fn new(args: &Args, key_type: Type) -> Result<Self> {
        let bulla = program(Program::Bulla)?;
        let [old, new] =
            [Identity::generate(key_type.into())?, Identity::generate(key_type.into())?];
        let folder = Folder::new("bulla-bench-cli-")?;
        let write = |name: &str, content: &str| fs::write(folder.path().join(name), content);
        write("old.txt", &identity_file(&old))?;
        write("old.pub", old.recipient().as_str())?;
        write("value", "0123456789abcdef0123456789abcdef")?;
        write(
            "secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: bench}\nstringData:\n  \
             a: 0123456789abcdef0123456789abcdea\n  b: 0123456789abcdef0123456789abcdeb\n  \
             c: 0123456789abcdef0123456789abcdec\n",
        )?;
        progress("  sealing the repositories");
        let lint = Tree::seal(args.lint_files, VALUES, old.recipient())?;
        let rekey = Tree::seal(args.rekey_files, VALUES, old.recipient())?;
        write(LIST, &rekey.list())?;
        Ok(Self { key_type, bulla, folder, old: old.into(), new: new.into(), lint, rekey })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bulla);
        command.current_dir(self.folder.path()).env_remove("KUBECONFIG").args(args);
        command
    }

    /// Measures everything in turn, so that noise of the machine affects all equally.
    fn measure(&self, args: &Args) -> Result<Turn> {
        let lint_copy = self.repository(&self.lint, &[(&self.old, "Active")])?;
        let mut turn = Turn {
            key_type: self.key_type,
            start: Costs::default(),
            seal: Measured::default(),
            set: Measured::default(),
            lint: Measured::default(),
            lint_list: Measured::default(),
            rekey: Measured::default(),
        };
        for run in 1..=args.runs {
            progress(format!("  run {run} of {}", args.runs));
            // Single commands take milliseconds, so each run has several of them.
            for _ in 0..10 {
                self.single_commands(&mut turn)?;
            }
            let mut lint = self.command(&["lint", "--quiet"]);
            turn.lint.command.push(timing::process(lint.arg(lint_copy.path()))?);
            turn.lint.floor.push(timing::in_this_thread(|| parse_all(&lint_copy.files))?);

            let mut lint_list = self.command(&["lint", "--quiet", LIST]);
            turn.lint_list.command.push(timing::process(&mut lint_list)?);
            let list = [self.folder.path().join(LIST)];
            turn.lint_list.floor.push(timing::in_this_thread(|| parse_all(&list))?);

            let copy =
                self.repository(&self.rekey, &[(&self.old, "Retired"), (&self.new, "Active")])?;
            let mut rekey = self.command(&["rekey", "-i", "old.txt"]);
            turn.rekey.command.push(timing::process(rekey.arg(copy.path()))?);
            copy.verify(&self.rekey, self.new.recipient.fingerprint(), Some(&self.new.keyring))
                .context("not everything is rekeyed")?;
            turn.rekey.floor.push(timing::in_this_thread(|| {
                let recipients = Recipients::new(vec![self.new.recipient.clone()])?;
                make_headers(&self.rekey, &self.old.keyring, &recipients)?;
                write_again(&copy)
            })?);
        }
        Ok(turn)
    }

    fn single_commands(&self, turn: &mut Turn) -> Result<()> {
        let mut start = || -> Result<_> {
            let cost = timing::process(&mut self.command(&["--version"]))?;
            turn.start.push(cost);
            Ok(cost)
        };
        let recipients = Recipients::new(vec![self.old.recipient.clone()])?;
        let target = ValueAddress::new("bench", "db", "a")?;
        let binding = Binding::new(Scope::Strict, &target);
        let seals = |count: u32| {
            timing::in_this_thread(|| {
                for _ in 0..count {
                    black_box(seal(&[b'x'; 32], &binding, &recipients)?);
                }
                Ok(())
            })
        };
        turn.seal.command.push(timing::process(&mut self.command(&[
            "seal",
            "-R",
            "old.pub",
            "secret.yaml",
        ]))?);
        turn.seal.floor.push(start()? + seals(3)?);

        let file = self.folder.path().join("db.yaml");
        fs::write(&file, self.lint.sealed_secrets[0].manifest())?;
        turn.set.command.push(timing::process(&mut self.command(&[
            "set",
            "-R",
            "old.pub",
            "db.yaml",
            "key-0",
            "--from-file",
            "value",
        ]))?);
        let written = timing::in_this_thread(|| {
            let mut temporary = tempfile::NamedTempFile::new_in(self.folder.path())?;
            temporary.write_all(&fs::read(&file)?)?;
            temporary.as_file().sync_all()?;
            temporary.persist(&file)?;
            Ok(fs::File::open(self.folder.path())?.sync_all()?)
        });
        turn.set.floor.push(start()? + seals(1)? + written?);
        Ok(())
    }

    /// A work tree with its `bulla.yaml`.
    fn repository(&self, tree: &Tree, pins: &[(&Key, &str)]) -> Result<Copy> {
        let copy = tree.write()?;
        fs::create_dir(copy.path().join(".git"))?;
        let mut config =
            String::from("environments:\n  prod:\n    paths: [app-*/**]\n    recipients:\n");
        for (Key { recipient, .. }, state) in pins {
            config.push_str(&format!(
                "    - recipient: {recipient}\n      holder: prod\n      state: {state}\n      fetched: 2026-11-01\n"
            ));
        }
        fs::write(copy.path().join("bulla.yaml"), config)?;
        Ok(copy)
    }
}

/// Reads all files and parses the sealed values in them.
fn parse_all(files: &[PathBuf]) -> Result<()> {
    for path in files {
        let text = fs::read_to_string(path)?;
        for value in text.split_whitespace().filter(|word| word.starts_with("YWdlLWVuY3J5cHRpb24"))
        {
            let file = bulla_crds::decode_value(value)?;
            black_box(SealedValue::parse(&file)?);
        }
    }
    Ok(())
}

impl Turn {
    fn rows(&self) -> [(&'static str, &Measured, Option<Duration>); 5] {
        [
            ("seal, three values", &self.seal, Some(SEAL_TARGET)),
            ("set, one value", &self.set, None),
            ("lint", &self.lint, Some(LINT_TARGET)),
            ("lint a List", &self.lint_list, None),
            ("rekey", &self.rekey, None),
        ]
    }
}

impl Measured {
    fn ratio(&self) -> f64 {
        ms(self.command.wall().best) / ms(self.floor.wall().best)
    }
}

impl Report {
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let Args { lint_files, rekey_files, runs, .. } = &self.args;
        writeln!(
            out,
            "lint of {lint_files} files, list and rekey of {rekey_files}, {VALUES} values each; best of {runs} runs (median), in ms"
        )?;
        for turn in &self.turns {
            writeln!(
                out,
                "\n{:<24}{:>18}{:>18}{:>18}{:>8}{:>10}",
                turn.key_type.as_str(),
                "wall",
                "CPU",
                "floor",
                "ratio",
                "target"
            )?;
            writeln!(out, "{:<24}{:>18}{:>18}", "start", turn.start.wall(), turn.start.cpu())?;
            for (name, measured, target) in turn.rows() {
                let target = target.map(|target| format!("{:.0}", ms(target))).unwrap_or_default();
                writeln!(
                    out,
                    "{name:<24}{:>18}{:>18}{:>18}{:>8.2}{target:>10}",
                    measured.command.wall(),
                    measured.command.cpu(),
                    measured.floor.wall(),
                    measured.ratio()
                )?;
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let turn = |turn: &Turn| {
            let rows = turn.rows().map(|(name, measured, target)| {
                json!({
                    "what": name,
                    "command": measured.command.to_json(),
                    "floor": measured.floor.to_json(),
                    "ratio_to_floor": rounded(measured.ratio()),
                    "target_ms": target.map(ms),
                })
            });
            json!({"key_type": turn.key_type.as_str(), "start": turn.start.to_json(), "rows": rows})
        };
        let turns: Vec<Value> = self.turns.iter().map(turn).collect();
        let report = json!({
            "lint_files": self.args.lint_files,
            "rekey_files": self.args.rekey_files,
            "values_per_file": VALUES,
            "runs": self.args.runs,
            "turns": turns,
        });
        writeln!(out, "{report}")
    }
}
