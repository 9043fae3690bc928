//! `bulla rekey` and `bulla unseal --check`, without a cluster.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{Run, Sandbox, documents, plaintext};

/// `old.txt` and `new.txt` with their recipients in `old.pub` and `new.pub`, and `other.txt`, which is neither.
fn keys() -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["old", "new", "other"] {
        let file = format!("{name}.txt");
        let recipient = sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file]);
        sandbox.write(&format!("{name}.pub"), recipient);
    }
    sandbox
}

fn secret(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{a: secret a, b: secret b}}\n"
    )
}

/// A SealedSecret for `old.txt`.
fn sealed(sandbox: &Sandbox, namespace: &str, name: &str) -> String {
    sealed_with(sandbox, namespace, name, &["-R", "old.pub"])
}

fn sealed_with(sandbox: &Sandbox, namespace: &str, name: &str, flags: &[&str]) -> String {
    let run =
        sandbox.run_with_input(&[&["seal"], flags].concat(), secret(namespace, name).as_bytes());
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout
}

/// The value of `key` in the file.
fn value<'a>(manifest: &'a str, key: &str) -> &'a str {
    let line = manifest.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
    line.unwrap()
}

const REKEY: [&str; 5] = ["rekey", "-i", "old.txt", "-R", "new.pub"];

fn rekey(sandbox: &Sandbox, args: &[&str]) -> Run {
    sandbox.run(&[&REKEY, args].concat())
}

fn all_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_rekeyed_file_opens_with_the_new_identity_alone() {
    for (from, to) in [("x25519", "x25519"), ("x25519", "hybrid"), ("hybrid", "x25519")] {
        let sandbox = Sandbox::new();
        for (name, key_type) in [("old", from), ("new", to)] {
            let file = format!("{name}.txt");
            let recipient = sandbox.done(&["keys", "generate", "--type", key_type, "-o", &file]);
            sandbox.write(&format!("{name}.pub"), recipient);
        }
        sandbox.write("db.yaml", sealed(&sandbox, "prod", "db"));
        let before = sandbox.done(&["unseal", "-i", "old.txt", "db.yaml"]);
        let run = rekey(&sandbox, &["db.yaml"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "db.yaml: 2 values rekeyed\n"));
        let [added, removed, summary] = run.stderr.lines().collect::<Vec<_>>()[..] else {
            panic!("{}", run.stderr)
        };
        assert!(added.starts_with("now also sealed to "), "{added}");
        assert!(removed.starts_with("no longer sealed to "), "{removed}");
        assert_eq!(
            summary,
            "1 SealedSecret in 1 file scanned: 2 values rekeyed, 0 up to date, 0 refused"
        );
        assert_eq!(sandbox.done(&["unseal", "-i", "new.txt", "db.yaml"]), before);
        let run = sandbox.run(&["unseal", "-i", "old.txt", "db.yaml"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("no identity is held for"), "{}", run.stderr);
        // The second time there is nothing to do.
        let file = sandbox.read("db.yaml");
        let run = rekey(&sandbox, &["db.yaml"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, ""));
        assert!(run.stderr.starts_with("nothing needs a rekey; 1 SealedSecret"), "{}", run.stderr);
        assert_eq!(sandbox.read("db.yaml"), file);
    }
}

#[test]
fn recipients_are_added_and_removed() {
    let sandbox = keys();
    sandbox.write("db.yaml", sealed(&sandbox, "prod", "db"));
    let both = ["rekey", "-i", "old.txt", "-R", "old.pub", "-R", "new.pub", "db.yaml"];
    sandbox.done(&both);
    for identity in ["old.txt", "new.txt"] {
        sandbox.done(&["unseal", "-i", identity, "db.yaml"]);
    }
    let now = sandbox.read("db.yaml");
    sandbox.done(&["rekey", "-i", "old.txt", "-R", "new.pub", "-R", "old.pub", "db.yaml"]);
    assert_eq!(sandbox.read("db.yaml"), now, "the order of recipients says nothing");
    sandbox.done(&["rekey", "-i", "old.txt", "-R", "new.pub", "db.yaml"]);
    assert_eq!(sandbox.run(&["unseal", "-i", "old.txt", "db.yaml"]).code, 1);
}

/// Everything that a person may have written around the values.
fn nasty(sandbox: &Sandbox) -> String {
    let (one, two, three) = (
        sealed(sandbox, "prod", "db"),
        sealed_with(sandbox, "prod", "cache", &["-R", "old.pub", "--scope", "namespace"]),
        sealed(sandbox, "dev", "mail"),
    );
    format!(
        "\u{feff}%YAML 1.2\r\n# a file {old_copy}\r\n---\r\n\r\n\
         apiVersion:   'bulla.dev/v1alpha1'  # ours\r\nkind: SealedSecret\r\nmetadata:\r\n  name: \"db\"\t\r\n  namespace: prod   \r\n  annotations: {{note: \"# no comment: é ✓\"}}\r\n\
         spec:\r\n  sealedData:   # values\r\n\r\n      # the first\r\n      b: \"{b1}\"   # {b1}\r\n      a: '{a1}'\r\n  template:\r\n    data:\r\n      url: |-\r\n        {{{{ a }}}}  \r\n\r\n...\r\n# between\r\n---\r\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata: &d {{x: \"1\"}}\nother: *d\n---\n\
         apiVersion: v1\nkind: List\nitems:\n- apiVersion: bulla.dev/v1alpha1\n  kind: SealedSecret\n  metadata: {{namespace: prod, name: cache}}\n  spec: {{sealedData: {{b: {b2}, \"a\": {a2}}}}}\n\
         - {{apiVersion: v1, kind: Secret, metadata: {{name: y}}}}\n- apiVersion: bulla.dev/v1alpha1\n  kind: SealedSecret\n  metadata: {{namespace: dev, name: mail}}\n  spec:\n    sealedData:\n      a: &anchor\n        {a3}\n      b: >-\n        {b3}\n\n---\n\
         {{\"apiVersion\": \"bulla.dev/v1alpha1\", \"kind\": \"SealedSecret\",\n\t\"metadata\": {{\"name\": \"cache\", \"namespace\": \"prod\"}}, \"spec\": {{\"sealedData\": {{\"a\":\"{a2}\"}}}}}}\n# no end of line",
        old_copy = value(&one, "a"),
        a1 = value(&one, "a"),
        b1 = value(&one, "b"),
        a2 = value(&two, "a"),
        b2 = value(&two, "b"),
        a3 = value(&three, "a"),
        b3 = value(&three, "b"),
    )
}

#[test]
fn every_byte_outside_the_values_stays() {
    let sandbox = keys();
    let before = nasty(&sandbox);
    sandbox.write("nasty.yaml", &before);
    let run = rekey(&sandbox, &["--format", "json", "nasty.yaml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["rekeyed"], 7);
    assert_eq!(report["otherObjects"], 2);
    let after = sandbox.read("nasty.yaml");
    // The text between the sealed values is equal.
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let rest = |text: &str| -> Vec<String> {
        text.split("YWdlLWVuY3J5cHRpb24")
            .enumerate()
            .map(|(index, part)| match index {
                0 => part.to_owned(),
                _ => part.trim_start_matches(is_base64).to_owned(),
            })
            .collect()
    };
    assert_eq!(rest(&before), rest(&after));
    // In comments too.
    for comment in ["# a file ", "   # "] {
        let line = |text: &str| {
            let start = text.find(&format!("{comment}YWdl")).unwrap();
            text[start..].lines().next().unwrap().to_owned()
        };
        assert_eq!(line(&before), line(&after), "{comment}");
    }
    sandbox.done(&["unseal", "--check", "-i", "new.txt", "nasty.yaml"]);
    // The report has the lines and documents of the file.
    let lines: Vec<_> = after.lines().collect();
    for value in report["changed"][0]["values"].as_array().unwrap() {
        let line = lines[value["line"].as_u64().unwrap() as usize - 1];
        assert!(line.contains("YWdlLWVuY3J5cHRpb24"), "{value}");
        assert_eq!(value["old"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn json_stays_json() {
    let sandbox = keys();
    let yaml = sealed(&sandbox, "prod", "db");
    let json = format!(
        "{{\"kind\":\"SealedSecret\",\"apiVersion\":\"bulla.dev\\/v1alpha1\",\"spec\":{{\"sealedData\":{{\"\\u0061\":\"{}\"}}}},\"metadata\":{{\"namespace\":\"prod\",\"name\":\"db\"}}}}",
        value(&yaml, "a")
    );
    sandbox.write("db.json", &json);
    assert_eq!(rekey(&sandbox, &["."]).stdout, "db.json: 1 value rekeyed\n");
    let after = sandbox.read("db.json");
    assert!(after.contains("\"bulla.dev\\/v1alpha1\",\"spec\":{\"sealedData\":{\"\\u0061\":\""));
    assert_ne!(after, json);
    sandbox.done(&["unseal", "-i", "new.txt", "db.json"]);
}

#[test]
fn a_dry_run_says_what_would_change_and_writes_nothing() {
    let sandbox = keys();
    sandbox.write("db.yaml", sealed(&sandbox, "prod", "db"));
    sandbox.write("cache.yaml", sealed_with(&sandbox, "prod", "cache", &["-R", "new.pub"]));
    let before = all_files(&sandbox.path(""));
    let run = rekey(&sandbox, &["--dry-run"]);
    assert_eq!(run.code, 0);
    let [first, second] = run.stdout.lines().collect::<Vec<_>>()[..] else {
        panic!("{}", run.stdout)
    };
    assert_eq!(first, "db.yaml: 2 values would be rekeyed");
    let (old, new) = second.strip_prefix("  2 values: ").unwrap().split_once(" -> ").unwrap();
    assert!(old.len() == 16 && new.len() == 16 && old != new, "{second}");
    assert!(
        run.stderr.contains("2 values would be rekeyed, 2 up to date, 0 refused"),
        "{}",
        run.stderr
    );
    assert_eq!(all_files(&sandbox.path("")), before);
}

#[test]
fn a_value_that_cannot_be_rekeyed_is_named_and_only_its_file_is_unchanged() {
    let sandbox = keys();
    let good = sealed(&sandbox, "prod", "db");
    let damaged = {
        // A change in the MAC or in the stanza's body: the value is no longer the one that was sealed.
        let text = value(&good, "a");
        let at = text.len() * 3 / 5;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        good.replace(text, &changed)
    };
    let value_of_b = value(&good, "b").to_owned();
    for (name, content, hint) in [
        ("strange", sealed_with(&sandbox, "prod", "db", &["-R", "other.pub"]), "hint: -i holds "),
        (
            "moved",
            good.replace("name: db", "name: cache"),
            "hint: a sealed value opens only in the place it was sealed for",
        ),
        ("not-sealed", good.replace(&value_of_b, "aGVsbG8="), ""),
        ("number", good.replace(&value_of_b, "5"), ""),
        (
            "no-namespace",
            good.replace("  namespace: prod\n", ""),
            "hint: pass the namespace that the SealedSecret is deployed to with -n",
        ),
        ("no-name", good.replace("  name: db\n", ""), ""),
        ("newer", good.replace("v1alpha1", "v9"), "hint: a newer bulla may support it"),
        (
            "shared",
            good.replace(&format!("b: {value_of_b}"), &format!("b: &b {value_of_b}"))
                + "status: {copy: *b}\n",
            "hint: check whether the file has a sealed value twice",
        ),
        ("damaged", damaged, ""),
        ("cut", good.clone() + "  x: [", "hint: it mentions bulla.dev/, so it is not skipped"),
        (
            "chart",
            good.replace("namespace: prod", "namespace: {{ .Release.Namespace }}"),
            "hint: it mentions bulla.dev",
        ),
    ] {
        sandbox.write("bad.yaml", &content);
        sandbox.write("good.yaml", &good);
        let run = rekey(&sandbox, &["."]);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (1, "good.yaml: 2 values rekeyed\n"),
            "{name}: {}",
            run.stderr
        );
        assert!(run.stderr.starts_with("error: bad.yaml: "), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(hint), "{name}: {}", run.stderr);
        assert!(run.stderr.contains("1 file unchanged"), "{name}: {}", run.stderr);
        assert!(!run.stderr.contains("YWdl"), "{name}: {}", run.stderr);
        assert_eq!(sandbox.read("bad.yaml"), content, "{name}");
        assert_ne!(sandbox.read("good.yaml"), good, "{name}");
        let run = rekey(&sandbox, &["--format", "json", "."]);
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!((run.code, &report["refused"][0]["file"]), (1, &Value::from("bad.yaml")));
    }
}

#[test]
fn a_value_with_escapes_is_rekeyed_on_one_line() {
    let sandbox = keys();
    let good = sealed(&sandbox, "prod", "db");
    let value_of_b = value(&good, "b").to_owned();
    let escaped = format!("b: \"\\x{:x}{}\"", value_of_b.as_bytes()[0], &value_of_b[1..]);
    let before = good.replace(&format!("b: {value_of_b}"), &escaped);
    sandbox.write("escaped.yaml", &before);
    let run = rekey(&sandbox, &["escaped.yaml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let after = sandbox.read("escaped.yaml");
    assert_eq!(after.lines().count(), before.lines().count());
    assert!(after.contains("  b: \"YWdl"), "{after}");
    sandbox.done(&["unseal", "--check", "-i", "new.txt", "escaped.yaml"]);
}

#[test]
fn each_value_that_is_refused_has_its_place() {
    let sandbox = keys();
    let stranger = sealed_with(&sandbox, "prod", "db", &["-R", "other.pub"]);
    sandbox.write("two.yaml", format!("{}---\n{stranger}", sealed(&sandbox, "prod", "cache")));
    let run = rekey(&sandbox, &["two.yaml"]);
    assert_eq!(run.code, 1);
    let errors: Vec<_> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let first = "error: two.yaml: document 2, line 18: prod/db: key a: no identity is held for ";
    let second = "error: two.yaml: document 2, line 19: prod/db: key b: no identity is held for ";
    assert!(errors[0].starts_with(first) && errors[1].starts_with(second), "{}", run.stderr);
    assert_eq!(run.stderr.matches("hint: ").count(), 1, "{}", run.stderr);
}

#[test]
fn other_files_of_a_tree_are_skipped() {
    let sandbox = keys();
    for (name, content) in [
        ("values.yaml", "image: x\nnote: see bulla.dev/v1alpha1\n"),
        ("Chart.json", "[1, 2]"),
        ("template.yaml", "{{- if .Values.x }}\na: {{ .b }}\n{{- end }}\n"),
        (
            "config-map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, labels: {a: bulla.dev}}\n",
        ),
        ("mail.yaml", "{{ x }}: team@bulla.dev\n"),
        ("empty.yaml", ""),
        ("twice.yaml", "a: 1\na: 2\n"),
    ] {
        sandbox.write(name, content);
    }
    fs::write(sandbox.path("binary.yaml"), b"\xff\xfe\x00").unwrap();
    sandbox.write("db.yaml", sealed(&sandbox, "prod", "db"));
    let run = rekey(&sandbox, &[]);
    assert_eq!(
        (run.code, run.stdout.as_str()),
        (0, "db.yaml: 2 values rekeyed\n"),
        "{}",
        run.stderr
    );
    assert_eq!(
        run.stderr.split_inclusive('\n').next_back().unwrap(),
        "1 SealedSecret in 9 files scanned: 2 values rekeyed, 0 up to date, 0 refused; 2 objects of other kinds skipped\n"
    );
}

#[test]
fn unusable_input_or_flags_are_refused_and_nothing_is_written() {
    let sandbox = keys();
    let good = sealed(&sandbox, "prod", "db");
    sandbox.write("db.yaml", &good);
    sandbox.write("cut.yaml", "a: [");
    sandbox.write("values.yaml", "image: x\n");
    sandbox.write("hybrid.pub", sandbox.done(&["keys", "generate", "-o", "hybrid.txt"]));
    for (args, message) in [
        (
            &["rekey", "-i", "old.txt", "-R", "new.pub", "db.yaml", "cut.yaml"][..],
            "error: cut.yaml: document 1, line ",
        ),
        (
            &["rekey", "-i", "old.txt", "-R", "new.pub", "db.yaml", "values.yaml"],
            "error: values.yaml: document 1, line 1: not a Kubernetes object",
        ),
        (
            &["rekey", "-i", "old.txt", "-R", "new.pub", "db.yaml", "nowhere.yaml"],
            "error: cannot read nowhere.yaml\n",
        ),
        (
            &["rekey", "-i", "old.txt", "-R", "new.pub", "db.yaml", "-"],
            "error: cannot scan stdin as a folder\nhint: name a file or a folder\n",
        ),
        (
            &["rekey", "-i", "old.txt", "db.yaml"],
            "error: no recipients given\nhint: pass -r or -R, or pin recipients in a bulla.yaml",
        ),
        (&["rekey", "-i", "new.pub", "-R", "new.pub", "db.yaml"], "error: new.pub: line 1: "),
        (&["rekey", "-i", "old.txt", "-R", "new.pub", "-R", "hybrid.pub", "db.yaml"], "error: "),
        (
            &["rekey", "-i", "old.txt", "-R", "new.pub", "--config", "x", "db.yaml"],
            "error: the argument ",
        ),
        (
            &["rekey", "--kubeconfig", "nowhere", "db.yaml"],
            "error: no identity given with -i, and could not ask the cluster\n  caused by: kubeconfig nowhere does not exist\nhint: pass another one with --kubeconfig\n",
        ),
    ] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
        assert!(run.stderr.starts_with(message), "{args:?}: {}", run.stderr);
        assert_eq!(sandbox.read("db.yaml"), good, "{args:?}");
    }
}

#[test]
fn the_namespace_comes_from_the_manifest_or_from_the_flag() {
    let sandbox = keys();
    let good = sealed(&sandbox, "prod", "db");
    let without = good.replace("  namespace: prod\n", "");
    sandbox.write("db.yaml", &without);
    let run = rekey(&sandbox, &["-n", "dev", "db.yaml"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("sealed for key a of prod/db, not for key a of dev/db"),
        "{}",
        run.stderr
    );
    assert_eq!(rekey(&sandbox, &["-n", "prod", "db.yaml"]).code, 0);
    assert!(!sandbox.read("db.yaml").contains("namespace"));
    sandbox.write("db.yaml", &good);
    let run = rekey(&sandbox, &["-n", "dev", "db.yaml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("the manifest names prod, but -n names dev"), "{}", run.stderr);
    // A value that any namespace may use needs none.
    let free = sealed_with(&sandbox, "prod", "db", &["-R", "old.pub", "--scope", "cluster"]);
    sandbox.write("db.yaml", free.replace("  namespace: prod\n", ""));
    assert_eq!(rekey(&sandbox, &["db.yaml"]).code, 0);
}

/// Root may do everything, so the command runs as nobody when the tests run as root.
#[cfg(unix)]
#[test]
fn an_unwritable_file_is_reported_and_the_others_are_done() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let sandbox = keys();
    let chmod = |name: &str, mode| {
        fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let good = sealed(&sandbox, "prod", "db");
    for folder in ["open", "closed"] {
        fs::create_dir(sandbox.path(folder)).unwrap();
    }
    for name in ["open/good.yaml", "open/read-only.yaml", "closed/db.yaml"] {
        sandbox.write(name, &good);
        chmod(name, 0o666);
    }
    chmod("", 0o755);
    chmod("open", 0o777);
    chmod("closed", 0o555);
    chmod("open/read-only.yaml", 0o444);
    chmod("old.txt", 0o644);
    let mut command = Command::new(sandbox.own_program());
    command.args(REKEY).args(["closed", "open"]).current_dir(sandbox.path("")).stdin(Stdio::null());
    if fs::metadata(sandbox.path("old.txt")).unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(output.stdout, b"open/good.yaml: 2 values rekeyed\n", "{stderr}");
    assert!(stderr.contains("error: cannot write closed/db.yaml"), "{stderr}");
    assert!(stderr.contains("error: cannot write open/read-only.yaml"), "{stderr}");
    for name in ["open/read-only.yaml", "closed/db.yaml"] {
        assert_eq!(sandbox.read(name), good);
    }
    assert_eq!(fs::read_dir(sandbox.path("open")).unwrap().count(), 2);
    assert_eq!(
        fs::metadata(sandbox.path("open/good.yaml")).unwrap().permissions().mode() & 0o777,
        0o666
    );
}

#[cfg(unix)]
#[test]
fn links_out_of_the_tree_are_not_followed() {
    use std::os::unix::fs::symlink;
    let sandbox = keys();
    let good = sealed(&sandbox, "prod", "db");
    fs::create_dir_all(sandbox.path("tree/sub")).unwrap();
    sandbox.write("outside.yaml", &good);
    sandbox.write("tree/sub/db.yaml", &good);
    symlink("../outside.yaml", sandbox.path("tree/link.yaml")).unwrap();
    symlink("..", sandbox.path("tree/up")).unwrap();
    symlink("sub/db.yaml", sandbox.path("tree/inside.yaml")).unwrap();
    assert_eq!(rekey(&sandbox, &["tree"]).stdout, "tree/sub/db.yaml: 2 values rekeyed\n");
    assert_eq!(sandbox.read("outside.yaml"), good);
    let run = rekey(&sandbox, &["tree/link.yaml"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("tree/link.yaml is a link that leads out of its folder"),
        "{}",
        run.stderr
    );
    assert_eq!(sandbox.read("outside.yaml"), good);
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_each_file_entirely_old_or_new() {
    const FILES: usize = 40;
    let sandbox = keys();
    fs::create_dir(sandbox.path("tree")).unwrap();
    let olds: Vec<_> =
        (0..FILES).map(|number| sealed(&sandbox, "prod", &format!("db-{number}"))).collect();
    let fill = || {
        for (number, old) in olds.iter().enumerate() {
            sandbox.write(&format!("tree/{number}.yaml"), old);
        }
    };
    fill();
    let start = Instant::now();
    assert_eq!(rekey(&sandbox, &["tree"]).code, 0);
    let whole = start.elapsed();
    let mut cut_short = 0;
    for round in 0..20_u32 {
        fill();
        let mut command = sandbox.command(&[&REKEY[..], &["tree"]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(round) / 20.0) + Duration::from_millis(1));
        let signal = ["-INT", "-TERM", "-KILL"][round as usize % 3];
        let pid = child.id().to_string();
        let _ = Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
        let status = child.wait().unwrap();
        cut_short += usize::from(!status.success());
        for (number, old) in olds.iter().enumerate() {
            let name = format!("tree/{number}.yaml");
            if sandbox.read(&name) != *old {
                // The rekeyed file as a whole: it opens, and the rest is unchanged.
                let secrets = documents(&sandbox.done(&["unseal", "-i", "new.txt", &name]));
                assert_eq!(plaintext(&secrets[0], "b"), b"secret b");
            }
        }
        // Only a signal that cannot be held leaves a temporary file behind.
        let count = fs::read_dir(sandbox.path("tree")).unwrap().count();
        assert!(count == FILES || signal == "-KILL" && count == FILES + 1, "{count} files");
        for entry in fs::read_dir(sandbox.path("tree")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path).unwrap();
            }
        }
    }
    assert!(cut_short > 0, "no signal came in time");
}

#[test]
fn in_a_repository_of_500_files_only_lines_of_sealed_values_change() {
    let sandbox = keys();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b.example"]).args(args);
        let output =
            command.current_dir(sandbox.path("")).env("HOME", sandbox.path("")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let manifests: String =
        (0..500).map(|number| secret("prod", &format!("db-{number}")) + "---\n").collect();
    let run = sandbox.run_with_input(&["seal", "-R", "old.pub"], manifests.as_bytes());
    for (number, document) in run.stdout.split("---\n").enumerate() {
        let folder = format!("clusters/{}", number % 20);
        fs::create_dir_all(sandbox.path(&folder)).unwrap();
        let text = document
            .replace("spec:\n", "# what follows is sealed\nspec:\n")
            .replace("\n    b: ", "\n    # a comment, aligned   \n    b:   ");
        sandbox.write(&format!("{folder}/{number}.yaml"), text);
    }
    sandbox.write(".gitignore", "/*.txt\n/*.pub\n");
    git(&["init", "-q"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "sealed"]);
    let run = rekey(&sandbox, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 500);
    let diff = git(&["diff", "-U0"]);
    let changed = |sign: char| -> Vec<&str> {
        let lines = diff.lines().filter_map(|line| line.strip_prefix(sign));
        lines.filter(|line| !line.starts_with("--") && !line.starts_with("++")).collect()
    };
    let (removed, added) = (changed('-'), changed('+'));
    assert_eq!((removed.len(), added.len()), (1000, 1000));
    for (old, new) in removed.iter().zip(&added) {
        let split = |line: &str| {
            let start = line.find("YWdlLWVuY3J5cHRpb24").unwrap();
            (line[..start].to_owned(), line[start..].len())
        };
        assert_eq!(split(old), split(new));
    }
    let run = sandbox.run(&["unseal", "--check", "-i", "new.txt"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    assert_eq!(run.stderr, "500 files, 500 SealedSecrets, 1000 values: everything opens\n");
}

#[test]
fn a_check_reports_each_value_that_does_not_open() {
    let sandbox = keys();
    fs::create_dir(sandbox.path("tree")).unwrap();
    sandbox.write("tree/good.yaml", sealed(&sandbox, "prod", "db"));
    sandbox.write("tree/strange.yaml", sealed_with(&sandbox, "prod", "x", &["-R", "other.pub"]));
    sandbox.write("tree/moved.yaml", sealed(&sandbox, "prod", "a").replace("name: a", "name: b"));
    sandbox.write("tree/chart.yaml", "# bulla.dev/v1alpha1\n{{ x }}: {{ y }}\n");
    sandbox.write("tree/secret.yaml", secret("prod", "clear"));
    let run = sandbox.run(&["unseal", "--check", "-i", "old.txt", "tree"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    let lines: Vec<_> = run.stderr.lines().collect();
    for (line, start) in [
        "error: tree/chart.yaml: document 1, line 2",
        "hint: it mentions bulla.dev",
        "error: tree/moved.yaml: document 1, line 8: prod/b: key a: sealed for key a of prod/a, not for key a of prod/b",
        "error: tree/moved.yaml: document 1, line 9: prod/b: key b: sealed for ",
        "hint: a sealed value opens only in the place it was sealed for",
        "error: tree/strange.yaml: document 1, line 8: prod/x: key a: no identity is held for ",
        "error: tree/strange.yaml: document 1, line 9: prod/x: key b: no identity is held for ",
        "hint: -i holds ",
        "5 files, 3 SealedSecrets, 6 values: 5 errors",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(start), "{start}: {}", run.stderr);
    }
    assert!(!run.stderr.contains("secret a"));
    let run = sandbox.run(&[
        "unseal",
        "--check",
        "-i",
        "old.txt",
        "-i",
        "other.txt",
        "tree/good.yaml",
        "tree/strange.yaml",
    ]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(sandbox.run(&["unseal", "--check", "-i", "old.txt", "nowhere"]).code, 2);
    assert_eq!(sandbox.run(&["unseal", "--check", "-i", "old.txt", "-o", "x", "tree"]).code, 2);
}

#[test]
fn a_key_that_the_last_commit_does_not_pin_needs_consent() {
    use crate::git_repository::GitRepository;

    let repository = GitRepository::new();
    let pin = |file: &str| {
        let recipient = repository.0.read(file);
        format!(
            "environments:\n  prod:\n    paths: ['**']\n    recipients:\n      - {{recipient: {}, holder: eu, state: Active, fetched: '2026-01-01'}}\n",
            recipient.lines().last().unwrap()
        )
    };
    repository.0.write("bulla.yaml", pin("x25519.pub"));
    repository.seal("db.yaml", "db", "a: one");
    repository.commit("base");
    let before = repository.0.read("db.yaml");
    // Somebody's change pins a key of their own.
    repository.0.write("bulla.yaml", pin("hybrid.pub"));
    let rekey = ["rekey", "-i", "x25519.txt", "db.yaml"];
    let run = repository.0.run(&rekey);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("The values become readable to "), "{}", run.stderr);
    assert!(run.stderr.contains("not pinned by bulla.yaml of the last commit"), "{}", run.stderr);
    assert_eq!(repository.0.read("db.yaml"), before);
    let run = repository.0.run(&[&rekey[..], &["--dry-run"]].concat());
    assert_eq!(run.code, 0);
    assert!(run.stderr.contains("warning: the values would become readable to"), "{}", run.stderr);
    // Once the pin is merged, or with --yes, nobody is asked.
    repository.git(&["commit", "--quiet", "-m", "pin", "bulla.yaml"]);
    let run = repository.0.run(&rekey);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("now also sealed to ") && run.stderr.contains("(eu)"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("no longer sealed to "), "{}", run.stderr);
    repository.0.done(&["rekey", "-i", "hybrid.txt", "-R", "x25519.pub", "db.yaml", "--yes"]);
}
