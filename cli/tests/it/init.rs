//! `bulla init`: where the file goes, what is in it, and that it works.

use std::fs;

use crate::sandbox::{Run, Sandbox};

/// A work tree with a folder in it.
fn work_tree() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.path("tree/.git")).unwrap();
    fs::create_dir_all(sandbox.path("tree/prod")).unwrap();
    sandbox
}

fn run_in(sandbox: &Sandbox, folder: &str, args: &[&str]) -> Run {
    let output = sandbox.command(args).current_dir(sandbox.path(folder)).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    Run { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn done_in(sandbox: &Sandbox, folder: &str, args: &[&str]) -> Run {
    let run = run_in(sandbox, folder, args);
    assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
    run
}

/// Everything in the work tree and beside it.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let mut names = Vec::new();
    for folder in [".", "tree", "tree/prod"] {
        for entry in fs::read_dir(sandbox.path(folder)).unwrap() {
            names.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    names.sort();
    names
}

#[test]
fn it_goes_to_the_root_of_the_work_tree_and_stays() {
    let sandbox = work_tree();
    let run = done_in(&sandbox, "tree/prod", &["init", "-e", "prod=prod/**"]);
    assert_eq!(run.stdout, "");
    let root = fs::canonicalize(sandbox.path("tree")).unwrap();
    let first = run.stderr.lines().next().unwrap();
    assert_eq!(first, format!("{}/bulla.yaml: created with 1 environment: prod", root.display()));
    let written = sandbox.read("tree/bulla.yaml");
    let run = run_in(&sandbox, "tree", &["init"]);
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stderr,
        "error: bulla.yaml already exists\nhint: edit it, or pin keys in it with bulla keys fetch\n"
    );
    assert_eq!(sandbox.read("tree/bulla.yaml"), written);
}

#[test]
fn there_is_one_in_a_work_tree() {
    let sandbox = work_tree();
    sandbox.write("tree/prod/bulla.yaml", "environments: {}\n");
    let before = files(&sandbox);
    let run = run_in(&sandbox, "tree", &["init"]);
    assert_eq!(run.code, 2);
    let error = "tree/prod/bulla.yaml is not at the root of the work tree\nhint: a work tree has one bulla.yaml, in ";
    assert!(run.stderr.contains(error), "{}", run.stderr);
    assert_eq!(files(&sandbox), before);
    // A file that --config names is accepted.
    done_in(&sandbox, "tree", &["init", "--config", "mine.yaml"]);
    let sandbox = work_tree();
    let run = run_in(&sandbox, ".", &["init"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: not in a Git work tree"), "{}", run.stderr);
}

#[test]
fn other_commands_accept_and_use_the_written_file() {
    let sandbox = work_tree();
    let recovery = sandbox.done(&["keys", "generate", "-o", "recovery.txt"]).trim().to_owned();
    let flags =
        ["-e", "prod=prod/**", "--namespace", "prod=shop", "--recovery-recipient", &recovery];
    let run = done_in(&sandbox, "tree", &[&["init"][..], &flags].concat());
    assert_eq!(
        run.stderr,
        "bulla.yaml: created with 1 environment: prod\nnext: pin the cluster's key with bulla keys fetch --environment prod\n"
    );
    let config = sandbox.read("tree/bulla.yaml");
    let pin = format!(
        "    recipients:\n      - recipient: {recovery}\n        holder: recovery\n        state: Active\n        fetched: \"20"
    );
    assert!(config.contains(&pin), "{config}");
    sandbox.write(
        "tree/prod/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: b}\n",
    );
    done_in(&sandbox, "tree", &["seal", "prod/secret.yaml", "-o", "prod/db.yaml"]);
    fs::remove_file(sandbox.path("tree/prod/secret.yaml")).unwrap();
    let sealed = sandbox.read("tree/prod/db.yaml");
    assert!(sealed.contains("namespace: shop\n"), "{sealed}");
    let opened = done_in(&sandbox, "tree", &["unseal", "-i", "../recovery.txt", "prod/db.yaml"]);
    assert!(opened.stdout.contains("a: Yg=="), "{}", opened.stdout);
    // A file that no environment covers is not sealed.
    sandbox.write(
        "tree/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n",
    );
    let run = run_in(&sandbox, "tree", &["seal", "secret.yaml"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("secret.yaml: no environment of bulla.yaml covers this file"),
        "{}",
        run.stderr
    );
}

#[test]
fn without_flags_the_whole_work_tree_is_one_environment() {
    let sandbox = work_tree();
    let run = done_in(&sandbox, "tree", &["init"]);
    assert_eq!(run.stderr.lines().count(), 3, "{}", run.stderr);
    assert!(run.stderr.contains("note: no recovery recipient is pinned"), "{}", run.stderr);
    sandbox.write(
        "tree/a.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: b}\n",
    );
    for file in ["a.yaml", "prod/a.yaml"] {
        fs::copy(sandbox.path("tree/a.yaml"), sandbox.path("tree/prod/a.yaml")).unwrap();
        let run = run_in(&sandbox, "tree", &["seal", "-n", "a", file]);
        assert_eq!(
            run.stderr,
            "error: bulla.yaml: environment default has no Active recipient\nhint: to pin one, run: bulla keys fetch --environment default\n"
        );
    }
    done_in(&sandbox, "tree", &["init", "--quiet", "--config", "quiet.yaml"]);
}

#[test]
fn nothing_is_written_when_anything_is_wrong() {
    let sandbox = work_tree();
    sandbox.done(&["keys", "generate", "-o", "identity.txt"]);
    let [one, two] = ["one", "two"].map(|name| {
        let file = format!("{name}.txt");
        sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file])
    });
    sandbox.write("both.pub", format!("{one}{two}"));
    let identity = sandbox.read("identity.txt");
    let identity = identity.lines().last().unwrap();
    let before = files(&sandbox);
    for (args, message) in [
        (
            &["--recovery-recipients-file", "../both.pub"][..],
            "error: ../both.pub: more than one recipient in this file\nhint: init pins one for recovery",
        ),
        (
            &["--recovery-recipients-file", "../identity.txt"],
            "hint: the recipient is in the comment above the identity\n",
        ),
        (&["--recovery-recipient", identity], "error: an identity was passed as an argument\n"),
        (
            &["--environment", "prod=../elsewhere/**"],
            "error: cannot write a bulla.yaml with these flags\n  caused by: bulla.yaml: document 1, line 7: environments.prod.paths[0]: this path leads out of the repository\n",
        ),
        (&["--environment", "a: {}\n  b=x"], "error: cannot write a bulla.yaml with these flags\n"),
        (
            &["--context", "eu", "--kubeconfig", "nowhere"],
            "error: kubeconfig nowhere does not exist",
        ),
    ] {
        let run = run_in(&sandbox, "tree", &[&["init"][..], args].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.contains(message), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains(&identity[20..]), "{}", run.stderr);
        assert_eq!(files(&sandbox), before);
    }
}
