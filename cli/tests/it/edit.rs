//! `bulla edit`, with small scripts in place of a person and an editor.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::sandbox::{Run, Sandbox, documents, plaintext};

/// A sandbox with keys, and its own folder in memory for the edited texts.
pub(crate) struct Desk {
    pub(crate) sandbox: Sandbox,
    memory: TempDir,
}

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: prod
  labels: {team: storage}
stringData:
  password: old password
  user: app
  host: db.example.com
";

impl Desk {
    /// With a sealed `db.yaml` that also has other content, which must not change.
    pub(crate) fn new() -> Self {
        // Without such a folder the texts are edited on a disk, and the tests check that disk.
        let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let desk = Self { sandbox: Sandbox::with_keys(), memory };
        let sealed = desk.seal(SECRET, &[]);
        desk.sandbox.write(
            "db.yaml",
            format!(
                "# before\na: 1\nother: [x]\n---\n# our own\n{}",
                sealed.replace("  sealedData:\n", "  # values\n  sealedData:   # here\n")
            ),
        );
        desk
    }

    pub(crate) fn seal(&self, secret: &str, flags: &[&str]) -> String {
        let args = [&["seal", "-R", "x25519.pub"], flags].concat();
        let run = self.sandbox.run_with_input(&args, secret.as_bytes());
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    }

    /// The command, with a script as its editor: `$1` is the file.
    pub(crate) fn command(&self, script: &str, args: &[&str]) -> std::process::Command {
        self.sandbox.write("editor.sh", script);
        let mut command =
            self.sandbox.command(&[&["edit", "-R", "x25519.pub", "--allow-disk"], args].concat());
        command
            .env_remove("VISUAL")
            .env("EDITOR", "sh editor.sh")
            .env("XDG_RUNTIME_DIR", self.memory.path())
            .env("TMPDIR", self.sandbox.path("kept"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        fs::create_dir_all(self.sandbox.path("kept")).unwrap();
        command
    }

    fn edit(&self, script: &str, args: &[&str]) -> Run {
        let output = self.command(script, args).output().unwrap();
        self.assert_clean();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Edits `db.yaml`, which must succeed.
    fn done(&self, script: &str, args: &[&str]) -> Run {
        let run = self.edit(script, &[&["db.yaml"], args].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stdout, "");
        run
    }

    /// Edits `db.yaml` in a way that is refused. Returns the error, and the text of the second round.
    fn refused(&self, script: &str, args: &[&str]) -> (String, String) {
        let before = self.sandbox.read("db.yaml");
        // The first round makes the edit; the second copies the text and leaves it unchanged.
        let script =
            format!("if grep -q '^# error' \"$1\"; then cp \"$1\" seen; else {script}\nfi");
        let run = self.edit(&script, &[&["db.yaml"], args].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
        assert_eq!(self.sandbox.read("db.yaml"), before);
        (run.stderr, self.sandbox.read("seen"))
    }

    /// Asserts that no edited text is left anywhere.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<PathBuf> = self.left();
        assert!(left.is_empty(), "{left:?}");
    }

    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let kept = self.sandbox.path("kept");
        let folders =
            [self.memory.path(), kept.as_path()].map(|folder| fs::read_dir(folder).unwrap());
        let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_dir()).collect()
    }

    fn opened(&self) -> Value {
        let file = self.sandbox.read("db.yaml");
        let (_, sealed) = file.split_once("---\n").unwrap();
        let run = self.sandbox.run_with_input(&["unseal", "-i", "x25519.txt"], sealed.as_bytes());
        assert_eq!(run.code, 0, "{}", run.stderr);
        documents(&run.stdout).remove(0)
    }
}

/// Passes the file through a filter.
fn through(filter: &str) -> String {
    format!("{{ {filter}; }} < \"$1\" > \"$1.new\" && mv \"$1.new\" \"$1\"")
}

/// The lines that only `after` has, and the lines that only `before` has.
fn differences(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
    let missing = |one: &str, other: &str| {
        one.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
    };
    (missing(after, before), missing(before, after))
}

fn key_of(line: &str) -> &str {
    line.trim().split(':').next().unwrap()
}

/// The messages, less the one about an editor that ends at once, as those of the tests do.
fn without_wait(stderr: &str) -> &str {
    let rest = stderr.strip_prefix("warning: the editor ended at once; ");
    rest.and_then(|rest| rest.split_once('\n')).map_or(stderr, |(_, rest)| rest)
}

#[test]
fn values_are_replaced_added_and_removed_without_a_key() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    let run = desk.done(
        &through("cp \"$1\" seen; sed -e 's|password: .*|password: new: password #1|;s|password: \\(new.*\\)|password: \"\\1\"|' -e '/host: /d' -e '/user: /a\\  port: \"5432\"'"),
        &[],
    );
    assert_eq!(run.stderr, "db.yaml: prod/db: 2 values sealed, 1 removed, 1 kept\n");
    let seen = desk.sandbox.read("seen");
    for text in ["old password", "db.example.com"] {
        assert!(!seen.contains(text), "{seen}");
    }
    assert!(seen.contains("\n  user: bulla.dev/sealed/user/"), "{seen}");
    let after = desk.sandbox.read("db.yaml");
    let (new, old) = differences(&before, &after);
    assert_eq!(new.iter().map(|line| key_of(line)).collect::<Vec<_>>(), ["password", "port"]);
    assert_eq!(old.iter().map(|line| key_of(line)).collect::<Vec<_>>(), ["host", "password"]);
    assert!(after.starts_with("# before\na: 1\nother: [x]\n---\n# our own\n"));
    assert!(after.contains("  # values\n  sealedData:   # here\n"));
    let secret = desk.opened();
    for (key, value) in [("password", "new: password #1"), ("user", "app"), ("port", "5432")] {
        assert_eq!(plaintext(&secret, key), value.as_bytes());
    }
    assert_eq!(secret["data"].as_object().unwrap().len(), 3);
}

#[test]
fn a_placeholder_that_is_moved_copied_or_changed_is_refused() {
    let desk = Desk::new();
    let swap = "sed -e 's|  password: |  tmp: |;s|  user: |  password: |;s|  tmp: |  user: |'";
    for (filter, message, hint) in [
        (
            swap,
            "stringData.password: this is the placeholder of key user,",
            "put it back under user",
        ),
        (
            "sed 's|^  user: \\(.*\\)|&\\n  copy: \\1|'",
            "stringData.copy: this is the placeholder of key user,",
            "put it back under user",
        ),
        (
            "sed 's|^  user:|  login:|'",
            "stringData.login: this is the placeholder of key user,",
            "put it back under user",
        ),
        (
            "sed 's|^  user: .*|&x|'",
            "stringData.user: a changed placeholder is not a value",
            "write only the new value, or bulla.dev/sealed/user/",
        ),
        (
            "sed 's|^  user: bulla|  user: ulla|'",
            "stringData.user: a changed placeholder is not a value",
            "write only the new value, or bulla.dev/sealed/user/",
        ),
        (
            "sed 's|^  user: .*|  user: BULLA.dev/Sealed/user/|'",
            "stringData.user: a changed placeholder is not a value",
            "write only the new value",
        ),
        (
            "sed 's|^  user: \\(.*\\)|  user: \"old is \\1, new is app2\"|'",
            "stringData.user: a changed placeholder is not a value",
            "write only the new value",
        ),
        (
            "sed 's|team: storage|team: bulla.dev/sealed/user/x|'",
            "metadata.labels.team: a placeholder is only allowed under stringData",
            "template.data refers to a value as {{ key }}",
        ),
        (
            "cat - template",
            "template.data.url: a placeholder is only allowed under stringData",
            "template.data refers to a value as {{ key }}",
        ),
        (
            "sed 's|^stringData|data|'",
            "data.host: not base64; plain text belongs under stringData",
            "",
        ),
    ] {
        desk.sandbox.write("template", "template: {data: {url: x bulla.dev/sealed/user/00}}\n");
        let (stderr, seen) = desk.refused(&through(filter), &[]);
        assert!(stderr.starts_with("error: the edited text: document 1, line "), "{stderr}");
        assert!(stderr.contains(message) && stderr.contains(hint), "{filter}: {stderr}");
        // The key is on the line that the message names.
        let line: usize =
            stderr.split("line ").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
        let key = message.split(':').next().unwrap().rsplit('.').next().unwrap();
        assert!(seen.lines().nth(line - 1).unwrap().contains(key), "{line}: {seen}");
        assert!(seen.starts_with("# error: the edited text: "), "{seen}");
    }
}

#[test]
fn name_and_namespace_cannot_be_changed() {
    let desk = Desk::new();
    for (filter, field) in [
        ("sed 's|name: db|name: db2|'", "metadata.name: cannot be changed here; it was db"),
        (
            "sed 's|namespace: prod|namespace: dev|'",
            "metadata.namespace: cannot be changed here; it was prod",
        ),
        ("sed '/namespace: prod/d'", "metadata.namespace: cannot be changed here; it was prod"),
    ] {
        let (stderr, _) = desk.refused(&through(filter), &[]);
        assert!(stderr.contains(field), "{stderr}");
        assert!(stderr.contains("hint: sealed values are bound to it; "), "{stderr}");
    }
}

#[test]
fn the_template_is_edited() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    desk.sandbox.write(
        "template",
        "template:\n  data:\n    url: |\n      postgres://{{ user }}\n      # no comment\n",
    );
    let run = desk.done(
        &through("sed -e 's|team: storage|team: \"7\"\\n  annotations: {note: x}|' -e 's|type: .*|type: example.com/db|;s|^stringData|immutable: true\\n&|' | cat - template"),
        &[],
    );
    assert_eq!(
        run.stderr,
        "db.yaml: prod/db: 0 values sealed, 0 removed, 3 kept, template changed\n"
    );
    let secret = desk.opened();
    assert_eq!(secret["type"], "example.com/db");
    assert_eq!(secret["immutable"], true);
    assert_eq!(secret["metadata"]["labels"]["team"], "7");
    assert_eq!(secret["metadata"]["annotations"]["note"], "x");
    assert_eq!(plaintext(&secret, "url"), b"postgres://app\n# no comment\n");
    // Undoing the changes restores each byte, except for the quotes that were needed in between.
    let run = desk.done(
        &through("sed -e '/annotations:/d;/note: x/d;s|type: .*|type: Opaque|;/^immutable/d;s|team: \"7\"|team: storage|' -e '/^template/,$d'"),
        &[],
    );
    assert!(run.stderr.ends_with("3 kept, template changed\n"), "{}", run.stderr);
    let before = before.replace("team: storage", "team: \"storage\"");
    assert_eq!(desk.sandbox.read("db.yaml"), before);
}

#[test]
fn with_an_identity_values_are_shown_and_unchanged_ones_keep_their_ciphertext() {
    let desk = Desk::new();
    let sealed = desk.seal(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {text: \"one\\ntwo\\n\", odd: \"yes\"}\ndata: {binary: /wABAg==}\n",
        &["--scope", "namespace"],
    );
    desk.sandbox.write("db.yaml", format!("x: 1\n---\n{sealed}"));
    let before = desk.sandbox.read("db.yaml");
    let run = desk.done("cp \"$1\" seen", &["-i", "x25519.txt"]);
    assert_eq!(without_wait(&run.stderr), "db.yaml: prod/db: nothing was changed\n");
    let seen = desk.sandbox.read("seen");
    let body =
        "stringData:\n  odd: \"yes\"\n  text: |\n    one\n    two\ndata:\n  binary: /wABAg==\n";
    assert!(seen.ends_with(body), "{seen}");
    // A value written in another way is still the same.
    desk.done(
        &through("sed 's|odd: \"yes\"|odd: !!str yes|;s|odd: .*|odd: '\"'yes'\"'|'"),
        &["-i", "x25519.txt"],
    );
    assert_eq!(desk.sandbox.read("db.yaml"), before);
    let run = desk.done(&through("sed 's|    two|    three|'"), &["-i", "x25519.txt"]);
    assert_eq!(run.stderr, "db.yaml: prod/db: 1 value sealed, 0 removed, 2 kept\n");
    let (new, old) = differences(&before, &desk.sandbox.read("db.yaml"));
    assert_eq!((new.len(), old.len()), (1, 1));
    assert_eq!(plaintext(&desk.opened(), "text"), b"one\nthree\n");
    // The scope stays, and a new key gets the scope of the others.
    desk.done(&through("sed 's|^data:|  new: x\\n&|'"), &["-i", "x25519.txt"]);
    let file = desk.sandbox.read("db.yaml");
    let (_, sealed) = file.split_once("---\n").unwrap();
    let run = desk.sandbox.run_with_input(&["inspect", "--format", "json"], sealed.as_bytes());
    assert!(!run.stdout.contains("\"strict\""), "{}", run.stdout);
    assert_eq!(run.stdout.matches("\"scope\": \"namespace\"").count(), 4, "{}", run.stdout);
}

#[test]
fn a_value_that_the_identity_does_not_open_stays_a_placeholder() {
    let desk = Desk::new();
    desk.sandbox.done(&["keys", "generate", "--type", "x25519", "-o", "other.txt"]);
    let before = desk.sandbox.read("db.yaml");
    let run = desk.edit("exit 3", &["db.yaml", "-i", "other.txt"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("no identity is held for"), "{}", run.stderr);
    // Only one of the values is sealed to the other identity.
    let recipient = desk.sandbox.read("other.txt");
    let recipient = recipient.lines().find_map(|line| line.split("public key: ").nth(1)).unwrap();
    desk.sandbox.write("other.pub", recipient);
    desk.sandbox.write("editor.sh", through("sed 's|  user: .*|  user: admin|'"));
    let mut command = desk.command(&through("sed 's|  user: .*|  user: admin|'"), &[]);
    let output = command.args(["db.yaml", "-R", "other.pub"]).output().unwrap();
    assert!(output.status.success());
    assert_ne!(desk.sandbox.read("db.yaml"), before);
    let run = desk.done("cp \"$1\" seen", &["-i", "other.txt"]);
    assert_eq!(without_wait(&run.stderr), "db.yaml: prod/db: nothing was changed\n");
    let seen = desk.sandbox.read("seen");
    assert!(seen.contains("\n  user: admin\n"), "{seen}");
    assert!(seen.contains("# key host is not shown: no identity is held for"), "{seen}");
    assert!(seen.contains("\n  host: bulla.dev/sealed/host/"), "{seen}");
}

#[test]
fn an_edit_without_changes_writes_nothing() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    let old = fs::metadata(desk.sandbox.path("db.yaml")).unwrap().modified().unwrap();
    for script in [
        "true",
        &through("cat"),
        &through("sed '1,/^$/d'"),
        &through("sed 's|^  |    |'"),
        &through("sed 's|$| # c|'"),
    ] {
        let run = desk.done(script, &[]);
        assert_eq!(
            without_wait(&run.stderr),
            "db.yaml: prod/db: nothing was changed\n",
            "{script}"
        );
    }
    for script in ["> \"$1\"", &through("grep '^#'"), "echo > \"$1\""] {
        let run = desk.edit(script, &["db.yaml"]);
        assert_eq!(
            (run.code, run.stderr.as_str()),
            (1, "error: the file was emptied, so nothing was written\n")
        );
    }
    for (script, message) in [
        (
            "echo 'stringData: {x: typed}' > \"$1\"; exit 3",
            "error: the editor ended with exit code 3, so nothing was written\n",
        ),
        ("kill -KILL $$", "error: signal 9 ended the editor, so nothing was written\n"),
        ("rm \"$1\"", "error: the editor removed the file, so nothing was written\n"),
    ] {
        let run = desk.edit(script, &["db.yaml"]);
        assert_eq!((run.code, run.stderr.as_str()), (2, message));
    }
    assert_eq!(desk.sandbox.read("db.yaml"), before);
    assert_eq!(fs::metadata(desk.sandbox.path("db.yaml")).unwrap().modified().unwrap(), old);
}

#[test]
fn invalid_text_is_opened_again_with_nothing_lost() {
    let desk = Desk::new();
    for (filter, message) in [
        ("sed 's|^  user: .*|  user: \"typed|'", "not valid YAML: the text ends too early"),
        ("sed 's|^  user: .*|\\tuser: typed|'", "not valid YAML: indented with a tab; use spaces"),
        ("sed 's|^  user: .*|  user: typed\\n  user: twice|'", "duplicate key"),
        (
            "sed 's|^  user: .*|  user: 5|'",
            "stringData.user: expected text, found a number; quote it",
        ),
        (
            "sed 's|^  user: .*|&\\ndata: {user: eHg=}|'",
            "data.user: the same key is also under stringData",
        ),
        ("sed 's|^  user: .*|&\\n  no key: typed|'", "key no key: "),
        ("sed 's|^  user: .*|&\\nspec: typed|'", "spec: unknown field"),
        (
            "sed 's|^type: .*|type: bulla.dev/identity|'",
            "Secrets of type bulla.dev/identity are refused",
        ),
        ("sed 's|^type: .*|type: kubernetes.io/tls|'", "type kubernetes.io/tls needs tls.crt"),
        (
            "sed 's|team: .*|team: Typed-value|;s|^  user: .*|  user: Typed-value|'",
            "label team contains the plaintext of key user",
        ),
        ("sed '/^stringData/,$d'", "sealedData is empty"),
        ("sed 's|^kind: .*|kind: ConfigMap|'", "kind ConfigMap of v1 is not supported here"),
        (
            "sed 's|^  name: db|&\\n  finalizers: [x]|'",
            "metadata.finalizers: cannot be set here; only labels and annotations can",
        ),
    ] {
        let (stderr, seen) = desk.refused(&through(filter), &[]);
        assert!(stderr.contains(message), "{filter}: {stderr}");
        assert!(!stderr.contains("typed") || message.contains("typed"), "{stderr}");
        assert!(seen.contains(message), "{seen}");
        assert_eq!(seen.contains("typed"), filter.contains("typed"), "{seen}");
        assert_eq!(seen.matches("# error: ").count(), 1, "{seen}");
    }
    // If the second round corrects the text, it is written.
    let script = format!(
        "if grep -q '^# error' \"$1\"; then {}; else {}; fi",
        through("sed 's|\"typed|typed|'"),
        through("sed 's|^  user: .*|  user: \"typed|'")
    );
    let run = desk.done(&script, &[]);
    assert_eq!(run.stderr, "db.yaml: prod/db: 1 value sealed, 0 removed, 2 kept\n");
    assert_eq!(plaintext(&desk.opened(), "user"), b"typed");
}

#[test]
fn a_script_that_never_types_valid_text_comes_to_an_end() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    let run = desk.edit("echo x >> rounds; echo 'a: [' >> \"$1\"", &["db.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: the edited text: "), "{}", run.stderr);
    assert_eq!(desk.sandbox.read("rounds").lines().count(), 50);
    // A refused text that comes back unchanged ends the command at once.
    let run = desk.edit("echo x >> again; echo 'a: [' > \"$1\"", &["db.yaml"]);
    assert_eq!((run.code, desk.sandbox.read("again").lines().count()), (2, 2));
    assert_eq!(desk.sandbox.read("db.yaml"), before);
}

#[test]
fn the_named_editor_is_used() {
    let desk = Desk::new();
    desk.sandbox.write("my editor.sh", "echo \"$#\" \"$1\" > named");
    for (variables, flag) in [
        (&[("EDITOR", "sh 'my editor.sh' 'a  b'")][..], None),
        (&[("EDITOR", "false"), ("VISUAL", "sh my\\ editor.sh \"a  b\"")], None),
        (&[("EDITOR", "false"), ("VISUAL", "false")], Some("sh 'my editor.sh' 'a  b'")),
        (&[("EDITOR", "sh 'my editor.sh' 'a  b'"), ("VISUAL", " ")], None),
    ] {
        let mut command = desk.command("", &["db.yaml"]);
        command
            .envs(variables.iter().copied())
            .args(flag.iter().flat_map(|flag| ["--editor", flag]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(desk.sandbox.read("named"), "2 a  b\n");
        fs::remove_file(desk.sandbox.path("named")).unwrap();
    }
    for (editor, message) in [
        (
            "/nowhere/ed",
            "error: could not run /nowhere/ed\n  caused by: No such file or directory (os error 2)\nhint: set VISUAL or EDITOR, or pass --editor\n",
        ),
        (
            "vi '",
            "error: the editor command has an unclosed quote\nhint: set VISUAL or EDITOR, or pass --editor\n",
        ),
    ] {
        let output = desk.command("", &["db.yaml", "--editor", editor]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
    }
    desk.assert_clean();
}

#[test]
fn nobody_else_can_see_the_text() {
    let desk = Desk::new();
    let run = desk.done(
        "ls -ld \"$(dirname \"$1\")\" \"$1\" > seen; ulimit -c >> seen; dirname \"$1\" >> seen",
        &[],
    );
    let seen = desk.sandbox.read("seen");
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].starts_with("-rw-------") || lines[1].starts_with("-rw-------"), "{seen}");
    assert!(lines[0].starts_with("drwx------") || lines[1].starts_with("drwx------"), "{seen}");
    assert_eq!(lines[2], "0");
    assert!(lines[3].starts_with(desk.memory.path().to_str().unwrap()), "{seen}");
    assert!(run.stderr.contains("nothing was changed"), "{}", run.stderr);
    // Files that an editor leaves beside the text are removed too, however deep.
    desk.done("d=$(dirname \"$1\"); mkdir \"$d/undo\"; cp \"$1\" \"$d/undo/x\"; cp \"$1\" \"$1~\"; ln -s /etc/passwd \"$d/link\"", &[]);
}

#[cfg(target_os = "linux")]
#[test]
fn without_storage_in_memory_the_command_asks_first() {
    let desk = Desk::new();
    let before = desk.sandbox.read("db.yaml");
    let disk = tempfile::tempdir().unwrap();
    desk.sandbox.write("editor.sh", through("sed 's|^  user: .*|  user: root|'"));
    let edit = |flags: &[&str]| {
        let args = ["edit", "-R", "x25519.pub", "--shared-folder", "nowhere", "db.yaml"];
        let mut command = desk.sandbox.command(&[&args[..], flags].concat());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("VISUAL").env("TMPDIR", disk.path());
        let output = command.env("EDITOR", "sh editor.sh").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = edit(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("There is no in-memory storage here"), "{said}");
    assert!(said.contains("hint: without a terminal, pass --allow-disk"), "{said}");
    assert_eq!(desk.sandbox.read("db.yaml"), before);
    let (code, said) = edit(&["--allow-disk"]);
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(desk.sandbox.read("db.yaml"), before);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn one_of_several_is_chosen_by_name_and_the_others_stay() {
    let desk = Desk::new();
    let other = desk.seal(&SECRET.replace("name: db", "name: cache"), &[]);
    let before = format!("{}---\n{other}# end\n", desk.sandbox.read("db.yaml"));
    desk.sandbox.write("db.yaml", &before);
    let run = desk.edit("true", &["db.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("hint: choose one with --name"), "{}", run.stderr);
    desk.done(&through("sed 's|^  user: .*|  user: root|'"), &["--name", "cache"]);
    let after = desk.sandbox.read("db.yaml");
    let (new, old) = differences(&before, &after);
    assert_eq!((new.len(), old.len()), (1, 1));
    let start = before.find("name: cache").unwrap();
    assert_eq!(before[..start], after[..start]);
    let run = desk.edit("true", &["-"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("cannot change stdin in place"), "{}", run.stderr);
}

#[test]
fn json_stays_json() {
    let desk = Desk::new();
    let sealed: Value = documents(&desk.seal(SECRET, &[])).remove(0);
    desk.sandbox.write("db.json", serde_json::to_string_pretty(&sealed).unwrap());
    let run = desk.edit(&through("sed 's|^  user: .*|  user: root|'"), &["db.json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let after: Value = serde_json::from_str(&desk.sandbox.read("db.json")).unwrap();
    let (old, new) = (&sealed["spec"]["sealedData"], &after["spec"]["sealedData"]);
    assert!(old["user"] != new["user"] && old["host"] == new["host"]);
}

#[test]
fn changes_of_someone_else_in_the_meantime_stay() {
    let desk = Desk::new();
    let edit = through("sed 's|^  user: .*|  user: typed-value|'");
    // In other fields: both changes are kept.
    let run = desk.done(
        &format!(
            "echo '# theirs' >> db.yaml; sed -i 's|^a: 1|a: 2|;/^    host: /d' db.yaml; {edit}"
        ),
        &[],
    );
    assert_eq!(run.stderr, "db.yaml: prod/db: 1 value sealed, 0 removed, 2 kept\n");
    let after = desk.sandbox.read("db.yaml");
    assert!(
        after.contains("a: 2\n") && after.ends_with("# theirs\n") && !after.contains("host: "),
        "{after}"
    );
    assert_eq!(plaintext(&desk.opened(), "user"), b"typed-value");
    // In the same field: their change stays, and the edit is saved in another file, sealed.
    let before = desk.sandbox.read("db.yaml");
    let run = desk.edit(&format!("sed -i '/^    user: /d' db.yaml; {edit}"), &["db.yaml"]);
    assert_eq!(run.code, 2);
    let message = "error: db.yaml: someone else changed the same fields in the meantime\nhint: nothing was written; the file with your changes, all values sealed, is in ";
    assert!(run.stderr.starts_with(message), "{}", run.stderr);
    let theirs = desk.sandbox.read("db.yaml");
    assert!(!theirs.contains("    user: "), "{theirs}");
    let kept = run.stderr[message.len()..].split(": copy it by hand").next().unwrap();
    let kept = fs::read_to_string(kept).unwrap();
    assert!(!kept.contains("typed-value"), "{kept}");
    assert_eq!(differences(&before, &kept).0.len(), 1);
    desk.sandbox.write("db.yaml", kept);
    assert_eq!(plaintext(&desk.opened(), "user"), b"typed-value");
}

#[test]
fn changes_that_cannot_be_written_are_kept_sealed() {
    let desk = Desk::new();
    let edit = through("sed 's|^  user: .*|  user: typed-value|'");
    let run = desk.edit(&format!("mv db.yaml old; mkdir db.yaml; {edit}"), &["db.yaml"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: cannot write db.yaml\n"), "{}", run.stderr);
    let kept = run
        .stderr
        .split("all values sealed, is in ")
        .nth(1)
        .unwrap()
        .split(": copy it")
        .next()
        .unwrap();
    let kept = fs::read_to_string(kept).unwrap();
    assert!(!kept.contains("typed-value") && !run.stderr.contains("typed-value"));
    fs::remove_dir(desk.sandbox.path("db.yaml")).unwrap();
    desk.sandbox.write("db.yaml", kept);
    assert_eq!(plaintext(&desk.opened(), "user"), b"typed-value");
}

#[cfg(unix)]
mod signals {
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// Sends a signal to bulla alone while its editor waits, and returns bulla's output. After SIGINT and SIGQUIT,
    /// the editor still runs and is then allowed to finish.
    fn signalled(signal: &str, after: &str) -> (Desk, std::process::Output) {
        let desk = Desk::new();
        for fifo in ["started", "go-on"] {
            assert!(
                Command::new("mkfifo").arg(desk.sandbox.path(fifo)).status().unwrap().success()
            );
        }
        let typed = through("sed 's|^  user: .*|  user: typed-value|'");
        let script = format!("{typed}\necho x > started\nread line < go-on\n{after}");
        let child = desk.command(&script, &["db.yaml"]).spawn().unwrap();
        // This blocks until the editor opens the pipe too.
        fs::read(desk.sandbox.path("started")).unwrap();
        assert_eq!(desk.left().len(), 1);
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        if signal == "-INT" || signal == "-QUIT" {
            fs::File::options()
                .write(true)
                .open(desk.sandbox.path("go-on"))
                .unwrap()
                .write_all(b"\n")
                .unwrap();
        }
        let output = child.wait_with_output().unwrap();
        desk.assert_clean();
        (desk, output)
    }

    #[test]
    fn the_folder_is_removed_when_a_signal_ends_bulla() {
        for (signal, number) in [("-TERM", 15), ("-HUP", 1)] {
            let (desk, output) = signalled(signal, "");
            assert_eq!(output.status.signal(), Some(number));
            assert_eq!(desk.opened()["data"]["user"], "YXBw");
        }
    }

    #[test]
    fn the_editor_handles_ctrl_c_while_it_runs() {
        // The editor goes on, and so does bulla.
        for signal in ["-INT", "-QUIT"] {
            let (desk, output) = signalled(signal, "");
            assert_eq!(
                output.status.code(),
                Some(0),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert_eq!(plaintext(&desk.opened(), "user"), b"typed-value");
        }
        // The signal ends the editor, and so it ends bulla.
        let (desk, output) = signalled("-INT", "kill -INT $$");
        assert_eq!(output.status.signal(), Some(2));
        assert_eq!(desk.opened()["data"]["user"], "YXBw");
    }
}
