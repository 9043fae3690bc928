//! Commands that write files, killed at random moments: each file is either entirely old or entirely new, and no
//! leftover file contains a value.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bulla_crds::{Address, ParsedValue};
use bulla_sealing::{Identity, Keyring};
use serde_json::Value;
use tempfile::TempDir;

use crate::marker::holds;
use crate::sandbox::Sandbox;

/// How many times each command is killed. Runs that end before the kill are not counted.
const KILLS: usize = 52;

/// How many runs measure the time that a command takes.
const MEASURED: usize = 5;

const OLD_VALUE: &str = "old marked-plaintext-of-a-test";
const NEW_VALUE: &str = "new marked-plaintext-of-a-test";

/// The shortest value that is searched for: shorter ones are in everything.
const MIN_SEARCHED_BYTES: usize = 6;

/// A tree of files, and what a command does to it.
struct Scene {
    sandbox: Sandbox,
    /// The folder for texts that are edited in memory.
    memory: TempDir,
    /// Each file of the tree before the command.
    old: BTreeMap<PathBuf, String>,
    /// The identities that open the values after the command.
    keyring: Keyring,
    /// Each file as the command writes it if nobody kills it.
    new: BTreeMap<PathBuf, New>,
}

/// A file that a command wrote. Its sealed values are separate, because they differ each time.
#[derive(Debug, PartialEq, Eq)]
struct New {
    /// The text without its sealed values.
    rest: String,
    /// The values: the place, whether it is the old ciphertext, and the plaintext.
    values: Vec<(String, bool, String)>,
}

/// The state of a file after a kill.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Old,
    New,
}

/// How the kills went.
#[derive(Default)]
struct Tally {
    kills: usize,
    old: usize,
    new: usize,
    leftovers: usize,
}

impl Scene {
    /// Makes this many files; `content` returns the text of each.
    fn new(files: usize, content: impl Fn(&Sandbox) -> String) -> Self {
        let sandbox = Sandbox::new();
        for name in ["old", "new"] {
            let file = format!("{name}.txt");
            let recipient = sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file]);
            sandbox.write(&format!("{name}.pub"), recipient);
        }
        sandbox.write("value", NEW_VALUE);
        let sed = format!("sed 's|^  password: .*|  password: {NEW_VALUE}|'");
        sandbox.write("editor.sh", format!("{sed} < \"$1\" > \"$1.new\" && mv \"$1.new\" \"$1\""));
        fs::create_dir(sandbox.path("tree")).unwrap();
        let files = (0..files).map(|number| {
            let text = format!("# file {number}\n---\n{}# end\n", content(&sandbox));
            (sandbox.path(&format!("tree/{number}.yaml")), text)
        });
        let old = files.collect();
        let identities = ["old", "new"].map(|name| {
            let file = sandbox.read(&format!("{name}.txt"));
            Identity::parse(file.lines().find(|line| !line.starts_with('#')).unwrap()).unwrap()
        });
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let keyring = Keyring::from_iter(identities);
        Self { sandbox, memory, old, keyring, new: BTreeMap::new() }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.sandbox.command(args);
        command
            .env_remove("VISUAL")
            .env("EDITOR", "sh editor.sh")
            .env("XDG_RUNTIME_DIR", self.memory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Restores the old files. The leftovers of a kill stay, so that the next run has to cope with them.
    fn reset(&self) {
        for (path, text) in &self.old {
            fs::write(path, text).unwrap();
        }
    }

    /// Kills the command again and again, and checks the files each time.
    fn kill(&mut self, args: &[&str], seed: u64) -> Tally {
        let longest = self.measured(args);
        let mut random = Random(seed);
        let mut tally = Tally::default();
        for run in 0.. {
            if tally.kills >= KILLS && tally.old > 0 && tally.new > 0 {
                break;
            }
            assert!(run < 20 * KILLS, "it ends before it can be killed: {} kills", tally.kills);
            self.reset();
            let mut child = self.command(args).spawn().unwrap();
            let wait_until = |is_so: &dyn Fn() -> bool, child: &mut Child| {
                while !is_so() && child.try_wait().unwrap().is_none() {
                    thread::yield_now();
                }
            };
            match run % 3 {
                // At any moment.
                0 => thread::sleep(random.below(longest * 11 / 10)),
                // While it writes: some time after a temporary file appeared.
                1 => {
                    let seen = self.leftovers();
                    wait_until(&|| self.leftovers() != seen, &mut child);
                    thread::sleep(random.below(longest / 4));
                }
                // As soon as a file is new.
                _ => {
                    let (path, old) = self.old.iter().next().unwrap();
                    wait_until(&|| fs::read_to_string(path).unwrap() != *old, &mut child);
                }
            }
            // It may have ended in the meantime.
            let _ = child.kill();
            let status = child.wait().unwrap();
            let states: Vec<_> = self.old.keys().map(|path| self.state(path)).collect();
            self.assert_no_plaintext();
            if status.signal() == Some(9) {
                tally.kills += 1;
                tally.old += states.iter().filter(|state| **state == State::Old).count();
                tally.new += states.iter().filter(|state| **state == State::New).count();
            } else {
                assert!(status.success());
                assert!(states.iter().all(|state| *state == State::New));
            }
        }
        tally.leftovers = self.leftovers();
        // The command still works, with all the leftovers.
        self.reset();
        assert!(self.command(args).status().unwrap().success());
        assert!(self.old.keys().all(|path| self.state(path) == State::New));
        assert_eq!(self.leftovers(), tally.leftovers);
        tally
    }

    fn measured(&mut self, args: &[&str]) -> Duration {
        let time = |_| {
            self.reset();
            let started = Instant::now();
            assert!(self.command(args).status().unwrap().success());
            started.elapsed()
        };
        let longest = (0..MEASURED).map(time).max().unwrap();
        self.new = self.old.keys().map(|path| (path.clone(), self.look_at(path))).collect();
        longest
    }

    /// Old to the byte, or new: what the command writes if it is not killed, except for random numbers.
    fn state(&self, path: &Path) -> State {
        if fs::read_to_string(path).unwrap() == self.old[path] {
            return State::Old;
        }
        assert_eq!(self.look_at(path), self.new[path], "half of it is new");
        State::New
    }

    fn look_at(&self, path: &Path) -> New {
        let text = fs::read_to_string(path).unwrap();
        let (mut rest, mut values) = (text.clone(), Vec::new());
        for document in text.split("---\n") {
            let object: Value = yaml_serde::from_str(document).unwrap();
            let name = |field| object["metadata"][field].as_str().unwrap_or_default();
            let (namespace, name) = (name("namespace"), name("name"));
            let address = Address { namespace: Some(namespace), name };
            let sealed = object["spec"]["sealedData"].as_object().into_iter().flatten();
            for (key, value) in sealed {
                let value = value.as_str().unwrap();
                let parsed = ParsedValue::parse(value).unwrap();
                let opened = address.unseal(key, &parsed, &self.keyring);
                let plaintext = String::from_utf8(opened.unwrap().as_bytes().to_vec()).unwrap();
                let place = format!("{namespace}/{name}: {key}");
                values.push((place, self.old[path].contains(value), plaintext));
                rest = rest.replace(value, "(sealed)");
            }
        }
        New { rest, values }
    }

    /// How many temporary files there are beside the files of the tree.
    fn leftovers(&self) -> usize {
        fs::read_dir(self.sandbox.path("tree")).unwrap().count() - self.old.len()
    }

    /// No file in the tree contains a value, and all files that a command added are temporary.
    fn assert_no_plaintext(&self) {
        let values = self.new.values().flat_map(|new| &new.values).map(|(_, _, value)| value);
        let mut values: Vec<&str> = values.map(String::as_str).collect();
        values.extend([OLD_VALUE, NEW_VALUE]);
        values.retain(|value| value.len() >= MIN_SEARCHED_BYTES);
        values.sort_unstable();
        values.dedup();
        for entry in fs::read_dir(self.sandbox.path("tree")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_temporary = name.starts_with(".bulla-") && name.ends_with(".tmp");
            assert!(self.old.contains_key(&path) || is_temporary, "{name}");
            let content = fs::read(&path).unwrap();
            assert!(!values.iter().any(|value| holds(&content, value)), "{name}");
        }
    }
}

/// Lehmer's generator with the constants of Park and Miller: good enough to spread the kills.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: Duration) -> Duration {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        limit.mul_f64(self.0 as f64 / 0x7fff_ffff as f64)
    }
}

fn assert_kills(mut scene: Scene, args: &[&str]) {
    let (command, files) = (args[0], scene.old.len());
    let started = Instant::now();
    let Tally { kills, old, new, leftovers } = scene.kill(args, 20_261_121);
    let told = writeln!(
        io::stderr(),
        "{command}: {kills} kills in {:.1} s: {old} files old, {new} new, {leftovers} temporary files left",
        started.elapsed().as_secs_f64()
    );
    told.unwrap();
    assert_eq!(old + new, kills * files);
    assert!(old > 0 && new > 0, "the moments were not spread over the write");
}

/// A SealedSecret sealed to `old.pub`, after another object.
fn sealed(sandbox: &Sandbox) -> String {
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: prod}}\nstringData: {{password: {OLD_VALUE}, user: {OLD_VALUE}}}\n"
    );
    let run = sandbox.run_with_input(&["seal", "-R", "old.pub"], secret.as_bytes());
    assert_eq!(run.code, 0, "{}", run.stderr);
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n---\n{}", run.stdout)
}

/// A file with two of Bitnami's objects.
fn bitnami(sandbox: &Sandbox) -> String {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/bitnami");
    fs::copy(files.join("key.pem"), sandbox.path("key.pem")).unwrap();
    fs::read_to_string(files.join("db.yaml")).unwrap()
}

#[test]
fn set_leaves_the_old_file_or_the_new_one() {
    let args = ["set", "tree/0.yaml", "password", "--from-file", "value", "-R", "new.pub"];
    assert_kills(Scene::new(1, sealed), &args);
}

#[test]
fn edit_leaves_the_old_file_or_the_new_one() {
    let args = ["edit", "tree/0.yaml", "-R", "new.pub", "--allow-disk"];
    assert_kills(Scene::new(1, sealed), &args);
}

#[test]
fn rekey_leaves_each_file_old_or_new() {
    assert_kills(Scene::new(4, sealed), &["rekey", "tree", "-i", "old.txt", "-R", "new.pub"]);
}

#[test]
fn migrate_leaves_each_file_old_or_new() {
    let args = ["migrate", "tree", "--from-key", "key.pem", "-R", "new.pub"];
    assert_kills(Scene::new(4, bitnami), &args);
}
