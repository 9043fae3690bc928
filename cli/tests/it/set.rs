//! `set` and `unset`: one value of a file changes, and nothing else.

use std::fs;

use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, documents, plaintext};

/// With `sealed.yaml`: `prod/db` with the values `a` and `b`, sealed to x25519.
fn sealed() -> (Sandbox, String) {
    sealed_with("strict")
}

fn sealed_with(scope: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::with_keys();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: one, b: two}\n";
    let seal = ["seal", "-R", "x25519.pub", "--scope", scope];
    let sealed = sandbox.run_with_input(&seal, secret.as_bytes()).stdout;
    sandbox.write("sealed.yaml", &sealed);
    (sandbox, sealed)
}

fn set(sandbox: &Sandbox, args: &[&str], value: impl AsRef<[u8]>) -> Run {
    let args = [&["set", "-R", "x25519.pub", "sealed.yaml"], args].concat();
    sandbox.run_with_input(&args, value.as_ref())
}

fn set_done(sandbox: &Sandbox, args: &[&str], value: impl AsRef<[u8]>) -> String {
    let run = set(sandbox, args, value);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{args:?}: {}", run.stderr);
    run.stderr
}

/// The plaintext of a key of the one Secret in `sealed.yaml`.
fn value_of(sandbox: &Sandbox, key: &str) -> Vec<u8> {
    let secrets = documents(&sandbox.done(&["unseal", "-i", "x25519.txt", "sealed.yaml"]));
    plaintext(&secrets[0], key)
}

fn sealed_text(yaml: &str, key: &str) -> String {
    let object: Value = yaml_serde::from_str(yaml).unwrap();
    object["spec"]["sealedData"][key].as_str().unwrap().to_owned()
}

#[test]
fn only_the_value_changes_in_any_style() {
    let (sandbox, sealed) = sealed();
    let [a, b] = ["a", "b"].map(|key| sealed_text(&sealed, key));
    let block = format!(
        "# top\napiVersion: bulla.dev/v1alpha1 # c\nkind: SealedSecret\nmetadata:\n  name: 'db'\n  namespace: \"prod\"\n\n  # before spec\nspec:\n    sealedData:\n        # of b\n        b:   '{b}'   # behind b\n\n        # of a\n        a: \"{a}\" # behind a\n    # the end\n"
    );
    let flow = format!(
        "{{apiVersion: bulla.dev/v1alpha1, kind: SealedSecret, # c\n metadata: {{name: db, namespace: prod}}, spec: {{sealedData: {{a: {a}, b: {b}}}}}}}\n"
    );
    let object = json!({"apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "db", "namespace": "prod"}, "spec": {"sealedData": {"a": a, "b": b}}});
    let other = "# other\nfirst: 1 # no object\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: db}\ndata:\n  a:   'x'\n";
    let indented = block.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: c}}\n-\n{indented}"
    );
    for text in [
        block.clone(),
        block.replace('\n', "\r\n"),
        format!("\u{feff}{block}"),
        block.trim_end_matches("    # the end\n").trim_end().to_owned(),
        flow,
        object.to_string(),
        format!("{object:#}\n"),
        format!("{other}---\n{block}---\n# only a comment\n"),
        format!("{block}...\n---\n{other}"),
        list,
    ] {
        sandbox.write("sealed.yaml", &text);
        set_done(&sandbox, &["a"], "new");
        let changed = sandbox.read("sealed.yaml");
        assert_ne!(changed, text);
        let new = changed
            .split(|character: char| {
                !character.is_ascii_alphanumeric() && !"+/=".contains(character)
            })
            .find(|word| word.len() > 100 && *word != b)
            .unwrap();
        assert_eq!(changed.replace(new, &a), text);
        // A value that was added and removed again leaves no trace.
        set_done(&sandbox, &["c.d_e"], "added");
        let added = sandbox.read("sealed.yaml");
        assert_eq!(added.matches("c.d_e").count(), 1);
        // Other commands read a named file strictly.
        let linted = sandbox.run(&["lint", "sealed.yaml"]).code;
        assert_eq!(linted, if text.contains("no object") { 2 } else { 0 }, "{added}");
        sandbox.done(&["unset", "sealed.yaml", "c.d_e"]);
        // An unterminated last line gets its newline when another line follows.
        assert_eq!(sandbox.read("sealed.yaml").trim_end(), changed.trim_end());
    }
    sandbox.write("sealed.yaml", &block);
    set_done(&sandbox, &["a"], "new");
    set_done(&sandbox, &["c"], "added");
    let values = ["a", "b", "c"].map(|key| value_of(&sandbox, key));
    assert_eq!(values, [&b"new"[..], b"two", b"added"]);
}

#[test]
fn a_value_comes_from_stdin_a_file_the_environment_or_the_command_line() {
    let (sandbox, _) = sealed();
    let bytes = b"\x00\xff\r\nlast\n";
    let told = set_done(&sandbox, &["a"], bytes);
    assert_eq!(
        told,
        "sealed.yaml: prod/db: a: changed, 9 bytes, scope strict, sealed to 91efc95f9aa3a7fb\n"
    );
    assert_eq!(value_of(&sandbox, "a"), bytes);
    sandbox.write("value", bytes);
    set_done(&sandbox, &["c", "--from-file", "value"], "not this");
    assert_eq!(value_of(&sandbox, "c"), bytes);
    set_done(&sandbox, &["d", "--from-file", "/dev/null"], "");
    assert_eq!(value_of(&sandbox, "d"), b"");
    let mut command = sandbox.command(&["set", "-R", "x25519.pub", "sealed.yaml", "e"]);
    let output = command.args(["--from-env", "BULLA_TEST"]).env("BULLA_TEST", "ä b").output();
    assert!(output.unwrap().status.success());
    assert_eq!(value_of(&sandbox, "e"), "ä b".as_bytes());
    let told = set_done(&sandbox, &["f", "literal"], "");
    assert!(told.starts_with("warning: values on the command line leak"));
    assert!(!told.contains("literal"), "{told}");
    assert_eq!(value_of(&sandbox, "f"), b"literal");
}

#[test]
fn a_newline_at_the_end_is_reported_and_removed_on_request() {
    let (sandbox, _) = sealed();
    for (value, chomp, sealed, is_reported) in [
        ("x\n", &[][..], "x\n", true),
        ("x\r\n", &[], "x\r\n", true),
        ("x", &[], "x", false),
        ("x\ny\n", &[], "x\ny\n", false),
        ("x\n", &["--chomp"], "x", false),
        ("x\r\n", &["--chomp"], "x", false),
        ("x\n\n", &["--chomp"], "x\n", false),
    ] {
        let told = set_done(&sandbox, &[&["a"], chomp].concat(), value);
        assert_eq!(
            told.contains("warning: the value of a ends in a newline"),
            is_reported,
            "{told}"
        );
        assert_eq!(value_of(&sandbox, "a"), sealed.as_bytes());
    }
}

#[test]
fn no_value_or_two_values_are_refused_without_repeating_them() {
    let (sandbox, sealed) = sealed();
    for (args, input, message) in [
        (&["a"][..], "", "no value given, and stdin is empty"),
        (&["a", "hunter2", "hunter3"], "", "more than one VALUE given"),
        (&["a", "hunter2", "--from-file", "f"], "", "the value is given twice"),
        (&["a", "--from-env", "hunter2"], "", "no environment variable of that name"),
        (&["a", "--from-env", "hunter=2"], "", "no environment variable of that name"),
        (&["a", "--from-file", "nowhere"], "", "cannot read nowhere"),
        (&["hunter2 x"], "x", "is not a valid data key"),
    ] {
        let run = set(&sandbox, args, input);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.starts_with("error: ") || run.stderr.starts_with("warning: "));
        assert!(run.stderr.contains(message), "{}", run.stderr);
        assert!(!run.stderr.contains("hunter"), "{}", run.stderr);
        assert_eq!(sandbox.read("sealed.yaml"), sealed);
    }
    let run = sandbox.run_with_input(&["set", "-R", "-", "sealed.yaml", "a"], b"x");
    assert!(run.stderr.contains("'-' (stdin) can be given only once"), "{}", run.stderr);
}

#[test]
fn scope_and_namespace_are_those_of_the_other_values() {
    for scope in ["strict", "namespace", "cluster"] {
        let (sandbox, _) = sealed_with(scope);
        let told = set_done(&sandbox, &["c"], "x");
        assert!(told.contains(&format!("scope {scope}")), "{told}");
        let told = set_done(&sandbox, &["a", "--scope", "cluster"], "x");
        assert!(told.contains("scope cluster"), "{told}");
        // With several scopes, an existing value keeps its own.
        let told = set_done(&sandbox, &["a"], "y");
        assert!(told.contains("scope cluster"), "{told}");
        let run = set(&sandbox, &["d"], "x");
        let is_refused = run.stderr.contains("its values have several scopes");
        assert_eq!((run.code == 2, is_refused), (scope != "cluster", scope != "cluster"));
    }
    // In a manifest without a namespace that of the values counts, and a value for another one is refused.
    let (sandbox, sealed) = sealed();
    let bare = sealed.replace("  namespace: prod\n", "");
    sandbox.write("sealed.yaml", &bare);
    set_done(&sandbox, &["c"], "x");
    set_done(&sandbox, &["a", "-n", "prod"], "x");
    let bare = sandbox.read("sealed.yaml");
    sandbox.write("sealed.yaml", bare.replace("  name: db\n", "  name: db\n  namespace: prod\n"));
    assert_eq!((value_of(&sandbox, "a"), value_of(&sandbox, "c")), (b"x".to_vec(), b"x".to_vec()));
    sandbox.write("sealed.yaml", bare);
    let run = set(&sandbox, &["c", "-n", "dev"], "x");
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("is sealed for namespace prod, so the others cannot be sealed for dev")
    );
    // A moved SealedSecret can be corrected one value after the other.
    sandbox.write("sealed.yaml", sealed.replace("namespace: prod", "namespace: dev"));
    let told = set_done(&sandbox, &["a"], "x");
    assert!(told.starts_with("warning: dev/db: the value of b is sealed for namespace prod"));
    assert_eq!(set_done(&sandbox, &["b"], "x").lines().count(), 1);
    assert_eq!(value_of(&sandbox, "a"), b"x");
}

#[test]
fn a_change_that_would_break_a_rule_is_not_written() {
    let (sandbox, sealed) = sealed();
    let template = "  template:\n    metadata:\n      annotations:\n        note: it is hunter2\n    data:\n      url: x://{{ b }}\n";
    let sealed = sealed + template;
    sandbox.write("sealed.yaml", &sealed);
    sandbox.write("large", vec![b'x'; 2_000_000]);
    for (args, message, hint) in [
        (
            &["set", "-R", "x25519.pub", "sealed.yaml", "a", "--from-file", "large"][..],
            "prod/db: more than 1 MiB of sealed data in one SealedSecret; split it",
            None,
        ),
        (
            &["set", "-R", "x25519.pub", "sealed.yaml", "a", "hunter2"],
            "prod/db: annotation note contains the plaintext of key a",
            Some("remove the value from them"),
        ),
        (
            &["set", "-R", "x25519.pub", "sealed.yaml", "url", "x"],
            "prod/db: url is in both sealedData and template.data",
            None,
        ),
        (
            &["unset", "sealed.yaml", "b"],
            "prod/db: the template of url uses the value of b",
            Some("change spec.template.data first"),
        ),
        (
            &["unset", "sealed.yaml", "a", "b"],
            "prod/db: this would remove the last value",
            Some("set another first"),
        ),
        (&["unset", "sealed.yaml", "a", "c"], "prod/db: no key c", Some("it has: a, b")),
        (
            &["set", "-R", "x25519.pub", "-n", "dev", "sealed.yaml", "a", "x"],
            "the manifest names prod, but -n names dev",
            Some("leave -n out"),
        ),
    ] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        let error = run.stderr.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(error.ends_with(message), "{}", run.stderr);
        assert_eq!(run.stderr.contains("hint: "), hint.is_some(), "{}", run.stderr);
        assert!(run.stderr.contains(hint.unwrap_or_default()), "{}", run.stderr);
        assert_eq!(sandbox.read("sealed.yaml"), sealed);
    }
    sandbox.done(&["unset", "sealed.yaml", "a"]);
    let config = sealed + "    type: kubernetes.io/dockerconfigjson\n";
    sandbox.write("sealed.yaml", config);
    let run = set(&sandbox, &[".dockerconfigjson"], "{no json");
    assert!(run.stderr.contains("not valid for type kubernetes.io/dockerconfigjson"));
    set_done(&sandbox, &[".dockerconfigjson"], "{}");
}

#[test]
fn one_of_several_objects_is_named() {
    let (sandbox, sealed) = sealed();
    let two = format!("{sealed}---\n{}", sealed.replace("name: db", "name: web"));
    sandbox.write("sealed.yaml", &two);
    let run = set(&sandbox, &["a"], "x");
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (
            2,
            "error: sealed.yaml: 2 SealedSecrets match\nhint: choose one with --name, and its namespace with -n: prod/db, prod/web\n"
        )
    );
    sandbox.done(&["unset", "--name", "web", "sealed.yaml", "a"]);
    assert!(sandbox.read("sealed.yaml").starts_with(&sealed));
    let run = sandbox.run(&["unset", "--name", "mail", "sealed.yaml", "a"]);
    assert!(run.stderr.contains("no SealedSecret mail in this file\nhint: it has: prod/db, "));
}

#[test]
fn a_skeleton_gets_its_first_value() {
    let (sandbox, _) = sealed();
    for spec in ["spec:\n  sealedData: {}\n", "spec: {}\n", "spec:\n  template: {type: Opaque}\n"] {
        sandbox.write("sealed.yaml", format!("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: db\n  namespace: prod\n{spec}"));
        set_done(&sandbox, &["a"], "first");
        assert_eq!(value_of(&sandbox, "a"), b"first");
    }
}

#[test]
fn the_environment_of_the_file_decides_the_recipients() {
    let (sandbox, sealed) = sealed();
    fs::create_dir_all(sandbox.path("tree/.git")).unwrap();
    fs::create_dir_all(sandbox.path("tree/prod")).unwrap();
    let recipient = sandbox.read("x25519.pub");
    let recipient = recipient.lines().find(|line| line.starts_with("age1")).unwrap();
    let config = |namespace: &str| {
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    namespace: {namespace}\n    recipients:\n    - recipient: {recipient}\n      holder: eu\n      state: Active\n      fetched: 2026-11-21\n"
        )
    };
    sandbox.write("tree/bulla.yaml", config("prod"));
    sandbox.write("tree/prod/db.yaml", sealed.replace("  namespace: prod\n", ""));
    let run = sandbox.run_with_input(&["set", "tree/prod/db.yaml", "c"], b"x");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let bare = sandbox.read("tree/prod/db.yaml");
    assert!(!bare.contains("namespace:"));
    sandbox.write("sealed.yaml", bare.replace("  name: db\n", "  name: db\n  namespace: prod\n"));
    assert_eq!(value_of(&sandbox, "c"), b"x");
    sandbox.write("tree/other.yaml", &sealed);
    let run = sandbox.run_with_input(&["set", "tree/other.yaml", "c"], b"x");
    assert!(
        run.stderr.contains(
            "covers this file\nhint: add its path to an environment, or pass --environment"
        )
    );
    sandbox.write("tree/bulla.yaml", config("dev"));
    sandbox.write("tree/prod/db.yaml", &sealed);
    let run = sandbox.run_with_input(&["set", "tree/prod/db.yaml", "c"], b"x");
    let message = "the manifest names prod, but environment prod of tree/bulla.yaml names dev\nhint: correct bulla.yaml, or correct the manifest\n";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert_eq!(sandbox.read("tree/prod/db.yaml"), sealed);
    // Nor may -n name another one.
    sandbox.write("tree/prod/db.yaml", &bare);
    let run = sandbox.run_with_input(&["set", "-n", "prod", "tree/prod/db.yaml", "c"], b"x");
    let message = "-n names namespace prod, but environment prod of tree/bulla.yaml names dev\n";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert_eq!(sandbox.read("tree/prod/db.yaml"), bare);
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_and_a_non_file_are_refused() {
    use std::os::unix::fs::symlink;
    let (sandbox, sealed) = sealed();
    fs::create_dir_all(sandbox.path("tree/sub")).unwrap();
    sandbox.write("tree/sub/real.yaml", &sealed);
    symlink("../sealed.yaml", sandbox.path("tree/out.yaml")).unwrap();
    symlink("sub/real.yaml", sandbox.path("tree/in.yaml")).unwrap();
    let run = sandbox.run(&["unset", "tree/out.yaml", "a"]);
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (2, "error: tree/out.yaml is a link that leads out of its folder\n")
    );
    assert_eq!(sandbox.read("sealed.yaml"), sealed);
    sandbox.done(&["unset", "tree/in.yaml", "a"]);
    assert!(sandbox.path("tree/in.yaml").is_symlink());
    assert_ne!(sandbox.read("tree/sub/real.yaml"), sealed);
    for (file, message) in [
        ("-", "cannot change stdin in place"),
        ("tree", "cannot read tree"),
        ("no", "cannot read no"),
    ] {
        let run = sandbox.run(&["unset", file, "a"]);
        assert_eq!(run.code, 2);
        assert!(run.stderr.contains(message), "{}", run.stderr);
    }
}

/// Root may do everything, so the command runs as nobody when the tests run as root.
#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_written_is_refused_before_a_value_is_asked_for() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (sandbox, sealed) = sealed();
    let chmod = |name: &str, mode| {
        fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod("", 0o755);
    chmod("sealed.yaml", 0o444);
    let is_root = fs::metadata(sandbox.path("sealed.yaml")).unwrap().uid() == 0;
    let mut command = std::process::Command::new(sandbox.own_program());
    command.args(["set", "-R", "x25519.pub", "sealed.yaml", "a"]).current_dir(sandbox.path(""));
    if is_root {
        command.uid(65534).gid(65534);
    }
    // Stdin is empty, which is reported only later.
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.starts_with("error: cannot write sealed.yaml\n"), "{stderr}");
    assert_eq!(sandbox.read("sealed.yaml"), sealed);
}

/// The recipients come through a pipe that is read after the file, so there is a moment in between.
#[cfg(unix)]
#[test]
fn a_file_that_changes_in_the_meantime_keeps_that_change() {
    use std::process::{Command, Stdio};
    let (sandbox, sealed) = sealed();
    assert!(Command::new("mkfifo").arg(sandbox.path("pipe")).status().unwrap().success());
    let mut child = sandbox
        .command(&["set", "-R", "pipe", "sealed.yaml", "a", "x"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Opens once the command does, which has read the file by then.
    let mut pipe = fs::File::options().write(true).open(sandbox.path("pipe")).unwrap();
    let changed = format!("# somebody else\n{sealed}");
    sandbox.write("sealed.yaml", &changed);
    std::io::Write::write_all(&mut pipe, sandbox.read("x25519.pub").as_bytes()).unwrap();
    drop(pipe);
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.contains("someone else changed it in the meantime"), "{stderr}");
    assert_eq!(sandbox.read("sealed.yaml"), changed);
}

#[cfg(target_os = "linux")]
#[test]
fn a_value_is_typed_at_a_hidden_prompt() {
    use crate::pty::Pty;
    let (sandbox, _) = sealed();
    let set = ["set", "-R", "x25519.pub", "sealed.yaml", "a"];
    let mut pty = Pty::start(&sandbox.command(&set));
    pty.type_unseen("hunter2 ä\n");
    let (code, shown) = pty.wait();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.starts_with("Value of a (not shown): "), "{shown}");
    assert!(shown.contains("a: changed, 10 bytes") && !shown.contains("hunter"), "{shown}");
    assert_eq!(value_of(&sandbox, "a"), "hunter2 ä".as_bytes());
    // An empty line is not a value, and Ctrl-C ends the command by its signal.
    let before = sandbox.read("sealed.yaml");
    for (typed, code) in [("\n", Some(2)), ("hunter\x03", None)] {
        let mut pty = Pty::start(&sandbox.command(&set));
        pty.type_unseen(typed);
        let (ended, shown) = pty.wait();
        assert_eq!(ended, code, "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert_eq!(sandbox.read("sealed.yaml"), before);
    }
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let (sandbox, sealed) = sealed();
    let output =
        sandbox.command(&["set", "-R", "x25519.pub", "sealed.yaml", "a"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        "error: no value given, and stdin is empty\nhint: for an empty value, pass --from-file /dev/null\n"
    );
    assert_eq!(sandbox.read("sealed.yaml"), sealed);
}
