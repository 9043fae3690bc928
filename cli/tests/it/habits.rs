//! What people do with values: paste them, pipe them from programs that fail, and name things by common words.

use crate::sandbox::{Sandbox, documents, plaintext};

const CREATE: [&str; 7] = ["create", "x", "-n", "d", "-R", "x25519.pub", "-q"];

fn with(args: &[&'static str]) -> Vec<&'static str> {
    [&CREATE[..], args].concat()
}

#[cfg(target_os = "linux")]
#[test]
fn several_lines_at_a_hidden_prompt_are_refused_and_thrown_away() {
    use crate::pty::Pty;
    use std::process::Command;

    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvSECRETLINE\n-----END PRIVATE KEY-----\n";
    for lines in [pem, "one\ntwo", "one\n\ntwo\n"] {
        let sandbox = Sandbox::with_keys();
        let bulla = env!("CARGO_BIN_EXE_bulla");
        // What is left over would be read by the next program, a shell.
        let script = format!("{bulla} {} --prompt k -o o.yaml; head -c 1 >rest", CREATE.join(" "));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(sandbox.path(""));
        let mut pty = Pty::start(&command);
        pty.type_at("Value of k (not shown): ", lines);
        pty.type_when_echoing("#\n");
        let (_, shown) = pty.wait();
        assert!(shown.contains("several lines were pasted"), "{shown}");
        assert!(!shown.contains("SECRETLINE") && !shown.contains("two"), "{shown}");
        assert!(!sandbox.path("o.yaml").exists());
        assert_eq!(sandbox.read("rest"), "#");
    }
}

#[test]
fn an_empty_stream_is_refused() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("empty", "");
    sandbox.done(&with(&["--from-env", "password=HOME", "-o", "e.yaml"]));
    let before = sandbox.read("e.yaml");
    for input in ["", "\n", " \r\n"] {
        for args in [
            with(&["--from-file", "password=-", "-o", "new.yaml"]),
            vec!["set", "e.yaml", "password", "-R", "x25519.pub", "--from-file", "-"],
            vec!["set", "e.yaml", "password", "-R", "x25519.pub", "--chomp"],
        ] {
            let run = sandbox.run_with_input(&args, input.as_bytes());
            assert_eq!(run.code, 2, "{args:?} with {input:?}: {}", run.stderr);
            assert!(run.stderr.contains("empty"), "{}", run.stderr);
        }
    }
    assert_eq!(sandbox.read("e.yaml"), before);
    assert!(!sandbox.path("new.yaml").exists());
    // An empty file is meant, but probably not for a password.
    let run =
        sandbox.run(&["set", "e.yaml", "password", "-R", "x25519.pub", "--from-file", "empty"]);
    assert_eq!(
        (run.code, run.stderr.contains("warning: the value of password is empty")),
        (0, true)
    );
    let run =
        sandbox.run(&["set", "e.yaml", "password", "-R", "x25519.pub", "--from-file", "/dev/null"]);
    assert_eq!((run.code, run.stderr.contains("warning")), (0, false), "{}", run.stderr);
}

#[test]
fn a_certificate_and_another_key_are_refused() {
    let sandbox = Sandbox::with_keys();
    let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/tls");
    for file in std::fs::read_dir(files).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), sandbox.path(file.file_name().to_str().unwrap())).unwrap();
    }
    let create = |cert, key| sandbox.run(&with(&["--cert", cert, "--key", key]));
    assert_eq!(create("one.crt", "one.key").code, 0);
    let other = "error: one.crt and other.key: the private key does not belong to the first certificate of the file\nhint: pass the key of this certificate; in a chain, the server's certificate comes first\n";
    let run = create("one.crt", "other.key");
    assert_eq!((run.code, run.stderr.as_str()), (2, other));
    assert_eq!(create("chain-reversed.crt", "one.key").code, 2);
    let run = create("one.crt", "encrypted.key");
    assert!(run.code == 2 && run.stderr.contains("encrypted with a passphrase"), "{}", run.stderr);
    // The API server accepts such a Secret, so it is sealed, with a warning.
    let args = ["--type", "kubernetes.io/tls", "--from-file", "tls.crt=one.crt", "--from-file"];
    let run = sandbox.run(&[&CREATE[..6], &args, &["tls.key=other.key"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: d/x: tls.crt and tls.key: the private key"),
        "{}",
        run.stderr
    );
}

#[test]
fn types_without_their_values_are_refused() {
    let sandbox = Sandbox::with_keys();
    sandbox.write("empty", "");
    for (args, error) in [
        (
            &["--type", "kubernetes.io/basic-auth", "--from-env", "user=HOME"][..],
            "type kubernetes.io/basic-auth needs username or password",
        ),
        (
            &["--type", "kubernetes.io/ssh-auth", "--from-file", "ssh-privatekey=empty"],
            "key ssh-privatekey: not valid for type kubernetes.io/ssh-auth",
        ),
    ] {
        let run = sandbox.run(&with(args));
        assert!(run.code == 2 && run.stderr.contains(error), "{}", run.stderr);
    }
    // What another tool sealed is found by lint, which knows the lengths.
    sandbox.done(&with(&["--from-file", "ssh-privatekey=empty", "-o", "a.yaml"]));
    let typed = sandbox.read("a.yaml") + "  template:\n    type: kubernetes.io/ssh-auth\n";
    sandbox.write("a.yaml", typed);
    let run = sandbox.run(&["lint", "a.yaml"]);
    assert!(run.stdout.contains("needs an ssh-privatekey that is not empty"), "{}", run.stdout);
    assert_eq!(run.code, 1);
}

#[test]
fn a_deployment_beside_a_sealed_secret_is_skipped() {
    let sandbox = Sandbox::with_keys();
    sandbox.write(
        "app.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: d}\nspec: {}\n",
    );
    sandbox.done(&with(&["--from-env", "a=HOME", "-o", "app.yaml"]));
    let run = sandbox.run(&["inspect", "app.yaml"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (0, "note: app.yaml: 1 object of other kinds skipped\n")
    );
    let run = sandbox.run(&["unseal", "-i", "x25519.txt", "app.yaml"]);
    assert_eq!((run.code, documents(&run.stdout).len()), (0, 1), "{}", run.stderr);
    sandbox.done(&["unseal", "-i", "x25519.txt", "--key", "a", "app.yaml"]);
}

#[test]
fn words_in_labels_are_warned_of_and_anything_can_be_insisted_on() {
    let sandbox = Sandbox::with_keys();
    let sealed = |value: &str, label: &str, flags: &[&str]| {
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\n  namespace: d\n  labels: {{{label}}}\nstringData: {{k: \"{value}\"}}\n"
        );
        sandbox.write("s.yaml", secret);
        sandbox.run(&[&["seal", "-R", "x25519.pub", "s.yaml"][..], flags].concat())
    };
    for (value, label) in [
        ("postgres", "app: postgres"),
        ("5432", "port: '5432'"),
        ("true", "match: 'true'"),
        ("production", "env: production-eu"),
        ("my-app.dev", "app: my-app.dev"),
    ] {
        let run = sealed(value, label, &[]);
        assert_eq!(run.code, 0, "{label}: {}", run.stderr);
        let warning = "contains the value of k, so everyone can read it";
        assert!(run.stderr.contains(warning), "{}", run.stderr);
    }
    // Keys of labels do not count.
    let run = sealed("kubernetes.io", "app.kubernetes.io/name: web", &[]);
    assert_eq!((run.code, run.stderr.contains("everyone can read")), (0, false), "{}", run.stderr);
    for (value, label) in
        [("hunter2", "a: hunter2"), ("Tr0ub4dor", "a: x-Tr0ub4dor"), ("123456", "a: '123456'")]
    {
        let run = sealed(value, label, &[]);
        assert_eq!(run.code, 2, "{label}");
        assert!(run.stderr.contains("--allow-in-labels KEY"), "{}", run.stderr);
        let run = sealed(value, label, &["--allow-in-labels", "other"]);
        assert_eq!(run.code, 2, "{label}");
        let run = sealed(value, label, &["--allow-in-labels", "k"]);
        assert_eq!(run.code, 0, "{label}: {}", run.stderr);
        let output = documents(&run.stdout);
        assert_eq!(output.len(), 1);
    }
    let literal = with(&["--label", "a=hunter2", "--from-literal", "k=hunter2", "-o", "o.yaml"]);
    assert_eq!(sandbox.run(&literal).code, 2);
    sandbox.done(&[&literal[..], &["--allow-in-labels", "k"]].concat());
    let secrets = documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "o.yaml"]));
    assert_eq!(plaintext(&secrets[0], "k"), b"hunter2");
}

#[cfg(unix)]
#[test]
fn an_editor_that_does_not_wait_is_told_to() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_keys();
    sandbox.done(&with(&["--from-env", "a=HOME", "-o", "q.yaml"]));
    for (name, flag) in [("code", "--wait"), ("subl", "--wait"), ("kate", "--block"), ("quick", "")]
    {
        sandbox.write(name, "#!/bin/sh\necho \"$@\" >args\n");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(sandbox.path(name), mode).unwrap();
        let editor = sandbox.path(name).display().to_string();
        let args = ["edit", "q.yaml", "-R", "x25519.pub", "--allow-disk", "--editor", &editor];
        let run = sandbox.run(&args);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("pass the flag that makes it wait"), "{}", run.stderr);
        assert!(sandbox.read("args").starts_with(flag), "{}", sandbox.read("args"));
    }
}

#[test]
fn mistakes_in_yaml_are_named() {
    let sandbox = Sandbox::with_keys();
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: d}\nstringData:\n";
    for (value, words) in [
        ("\"C:\\Users\\me\"", "in double quotes a backslash begins an escape; use single quotes"),
        ("\"C:\\dir\"", "in double quotes a backslash begins an escape; use single quotes"),
        ("&abc", "quote a text that begins with & or !"),
        ("*abc", "quote a text that begins with *"),
        ("@abc", "quote the text"),
    ] {
        let text = format!("{head}  p: {value}\n");
        sandbox.write("s.yaml", &text);
        let run = sandbox.run(&["seal", "-R", "x25519.pub", "s.yaml"]);
        assert!(run.code == 2 && run.stderr.contains(words), "{value}: {}", run.stderr);
        assert!(run.stderr.contains("line 5"), "{}", run.stderr);
    }
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let text = format!("\u{feff}{head}  p: x\n");
        sandbox.write("s.yaml", text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>());
        let run = sandbox.run(&["seal", "-R", "x25519.pub", "s.yaml"]);
        assert!(
            run.stderr.contains("s.yaml: UTF-16, not UTF-8; save it as UTF-8"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_name_that_a_chart_fills_in_needs_a_scope_that_does_not_bind_it() {
    let sandbox = Sandbox::with_keys();
    for (scope, code) in [("namespace", 0), ("cluster", 0), ("strict", 2)] {
        let create = with(&["--from-env", "a=HOME", "-o", "q.yaml", "--force", "--scope"]);
        sandbox.done(&[&create[..], &[scope]].concat());
        let file = sandbox.read("q.yaml").replace("name: x", "name: \"{{ .Release.Name }}-q\"");
        let file = match scope {
            "cluster" => file.replace("namespace: d", "namespace: '{{ .Release.Namespace }}'"),
            _ => file,
        };
        sandbox.write("q.yaml", &file);
        let lint = sandbox.run(&["lint", "q.yaml"]);
        assert_eq!(lint.code == 0, code == 0, "{scope}: {}", lint.stdout);
        let run = sandbox.run(&["set", "q.yaml", "a", "-R", "x25519.pub", "--from-env", "HOME"]);
        assert_eq!(run.code, code, "{scope}: {}", run.stderr);
        let run = sandbox.run(&["rekey", "-R", "hybrid.pub", "-i", "x25519.txt", "q.yaml"]);
        assert_eq!(run.code == 0, code == 0, "{scope}: {}", run.stderr);
    }
}

#[test]
fn a_value_replaces_no_variable_that_programs_rely_on() {
    let sandbox = Sandbox::with_keys();
    let unseal = |key: &str, flags: &[&str]| {
        let from = format!("{key}=HOME");
        sandbox.done(&with(&["--from-env", "x=HOME", "-o", "e.yaml", "--force"]));
        let create = ["create", "x", "-n", "d", "-R", "x25519.pub", "--from-env", &from, "-o"];
        sandbox.done(&[&create[..], &["e.yaml", "--force"]].concat());
        let args = ["unseal", "-i", "x25519.txt", "e.yaml", "--exec"];
        let mut command = sandbox.command(&[&args[..], flags, &["--", "env"]].concat());
        let output = command.env("SET_ALREADY", "1").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for key in ["NODE_OPTIONS", "PYTHONPATH", "GIT_SSH_COMMAND", "HOME", "KUBECONFIG", "GCONV_PATH"]
    {
        let (code, stderr) = unseal(key, &[]);
        assert!(code == Some(2) && stderr.contains("decides which code runs"), "{key}: {stderr}");
        assert_eq!(unseal(key, &["--allow-variable", key]).0, Some(0));
        assert_eq!(unseal(key, &["--prefix", "APP_"]).0, Some(0));
    }
    let (code, stderr) = unseal("SET_ALREADY", &[]);
    assert!(code == Some(2) && stderr.contains("SET_ALREADY is set already"), "{stderr}");
    assert_eq!(unseal("SET_ALREADY", &["--allow-variable", "SET_ALREADY"]).0, Some(0));
    assert_eq!(unseal("PGPASSWORD", &[]).0, Some(0));
}

#[test]
fn small_mistakes_are_named() {
    use crate::git_repository::GitRepository;

    let repository = GitRepository::new();
    // A format is not a file.
    for format in ["yaml", "json"] {
        let run = repository.0.run(&with(&["--from-env", "a=HOME", "-o", format]));
        assert!(run.code == 2 && run.stderr.contains("-o takes a file"), "{}", run.stderr);
    }
    repository.0.done(&with(&["--from-env", "a=HOME", "-o", "./yaml"]));
    // Before the first commit, everything is new.
    repository.seal("db.yaml", "db", "a: one");
    repository.git(&["add", "db.yaml"]);
    let run = repository.0.run(&["diff", "--staged"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("prod/db"), "{}", run.stdout);
    // What Git left in a file is named.
    let sealed = repository.0.read("db.yaml");
    let conflict = format!("<<<<<<< ours\n{sealed}=======\n{sealed}>>>>>>> theirs\n");
    repository.0.write("db.yaml", conflict);
    let run = repository.0.run(&["inspect", "db.yaml"]);
    assert!(run.stderr.contains("Git's conflict markers are in the text"), "{}", run.stderr);
}
