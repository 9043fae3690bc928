//! How the program fits into shells, man and kubectl.

use std::fs;
use std::process::{Command, Stdio};

use crate::sandbox::{Sandbox, example};

/// A work tree with a `bulla.yaml` of two environments, and `db.yaml` with three sealed keys and a rendered one.
fn repository() -> Sandbox {
    let sandbox = Sandbox::with_keys();
    fs::create_dir_all(sandbox.path(".git/objects")).unwrap();
    let sealed = fs::read_to_string(example("x25519-sealed.yaml")).unwrap();
    let template = "  template:\n    data:\n      url: db://{{ user }}\n";
    let sealed: String = sealed
        .split_inclusive('\n')
        .scan(false, |skips, line| {
            // This replaces the example's own template.
            *skips = line.starts_with("  template:") || *skips && line.starts_with("   ");
            Some(if *skips { "" } else { line })
        })
        .collect();
    sandbox.write("db.yaml", sealed + template);
    let pin = |name: &str, recipient: &str| {
        format!(
            "  {name}:\n    paths: [{name}/**]\n    recipients:\n      - recipient: {recipient}\n        holder: {name}-eu\n        state: Active\n        fetched: 2026-11-01\n"
        )
    };
    let recipient = sandbox.read("x25519.pub").trim().to_owned();
    sandbox.write(
        "bulla.yaml",
        format!("environments:\n{}{}", pin("prod", &recipient), pin("staging", &recipient)),
    );
    sandbox.write(
        "kubeconfig",
        "apiVersion: v1\nkind: Config\ncontexts:\n- name: here\n  context: {cluster: c}\n- name: there\n  context: {cluster: c}\n",
    );
    sandbox
}

/// The candidates for the last of these words.
fn candidates(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let mut command = sandbox.command(&[&["--"], words].concat());
    let output = command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .env("_CLAP_IFS", "\n")
        .env("KUBECONFIG", sandbox.path("kubeconfig"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
}

#[test]
fn shells_complete_what_files_hold() {
    let sandbox = repository();
    for (words, expected) in [
        (&["bulla", "set", "db.yaml", ""][..], &["ca.crt", "password", "user"][..]),
        (&["bulla", "unset", "db.yaml", "user", "pa"], &["password"]),
        (&["bulla", "unseal", "db.yaml", "--key", ""], &["ca.crt", "password", "url", "user"]),
        (&["bulla", "seal", "--environment", ""], &["prod", "staging"]),
        (&["bulla", "keys", "retire", ""], &["91efc95f9aa3a7fb"]),
        (&["bulla", "keys", "list", "--context", ""], &["here", "there"]),
        (&["bulla", "seal", "--scope", ""], &["strict", "namespace", "cluster"]),
        (&["bulla", "uns"], &["unset", "unseal"]),
        (&["bulla", "inspect", "hyb"], &["hybrid.pub", "hybrid.txt"]),
        // Nothing to read, and no message.
        (&["bulla", "set", "absent.yaml", ""], &[]),
        (&["bulla", "set", "bulla.yaml", ""], &[]),
    ] {
        let mut found = candidates(&sandbox, words);
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{words:?}");
    }
    sandbox.write("bulla.yaml", "nonsense");
    assert_eq!(candidates(&sandbox, &["bulla", "seal", "--environment", ""]), [""; 0]);
}

#[test]
fn a_completed_key_cannot_act_on_a_terminal() {
    let sandbox = repository();
    sandbox.write(
        "db.yaml",
        "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: db}\nspec:\n  sealedData:\n    \"a\\eb\": x\n    good: x\n",
    );
    assert_eq!(candidates(&sandbox, &["bulla", "set", "db.yaml", ""]), ["good"]);
}

#[test]
fn each_shell_has_a_static_and_a_dynamic_script() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let fixed = sandbox.done(&["completions", shell]);
        let dynamic = sandbox.done(&["completions", "--dynamic", shell]);
        assert!(fixed.contains("unseal") && !dynamic.contains("unseal"), "{shell}");
        assert!(dynamic.contains("COMPLETE"), "{shell}: {dynamic}");
    }
}

#[cfg(unix)]
#[test]
fn bash_completes_with_the_dynamic_script() {
    let sandbox = repository();
    let bulla = env!("CARGO_BIN_EXE_bulla");
    let folder = std::path::Path::new(bulla).parent().unwrap();
    let script = "set -e; source <(bulla completions --dynamic bash); \
                  COMP_WORDS=(bulla set db.yaml pa); COMP_CWORD=3; COMP_TYPE=9; \
                  _clap_complete_bulla bulla pa db.yaml; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["--norc", "-c", script])
        .current_dir(sandbox.path("."))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "password\n");
}

#[cfg(unix)]
#[test]
fn as_a_kubectl_plugin_it_has_the_plugins_name_and_completes_for_kubectl() {
    let sandbox = repository();
    for name in ["kubectl-bulla", "kubectl_complete-bulla"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bulla"), sandbox.path(name)).unwrap();
    }
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(sandbox.path(program));
        command.args(args).current_dir(sandbox.path(".")).env("HOME", sandbox.path("."));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), stdout, stderr)
    };
    let (code, help, _) = run("kubectl-bulla", &["unseal", "-h"]);
    assert!(code == 0 && help.contains("\nUsage: kubectl bulla unseal "), "{help}");
    let (code, _, error) = run("kubectl-bulla", &["set"]);
    assert!(code == 2 && error.contains("\nUsage: kubectl bulla set "), "{error}");
    let complete = |words: &[&str]| run("kubectl_complete-bulla", words).1;
    assert_eq!(complete(&["set", "db.yaml", "pa"]), "password\n:4\n");
    assert!(complete(&["unse"]).starts_with("unset\tRemove values from a SealedSecret\n"));
    fs::create_dir(sandbox.path("folder")).unwrap();
    assert_eq!(complete(&["inspect", "fol"]), "folder/\n:6\n");
    assert_eq!(complete(&["keys", "retire", "zz"]), ":0\n");
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let sandbox = Sandbox::new();
    sandbox.done(&["man", "--out", "man1"]);
    let mut pages: Vec<_> = fs::read_dir(sandbox.path("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort_unstable();
    let help = sandbox.done(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // A deeper line continues a description.
    let is_command = |line: &&str| !line.starts_with("   ");
    for command in commands.take_while(|line| !line.is_empty()).filter(is_command) {
        let command = command.split_whitespace().next().unwrap();
        assert!(pages.contains(&format!("bulla-{command}.1")), "{command}: {pages:?}");
    }
    assert!(pages.contains(&"bulla-keys-fetch.1".to_owned()), "{pages:?}");
    let one = sandbox.done(&["man", "keys", "fetch"]);
    assert_eq!(one, sandbox.read("man1/bulla-keys-fetch.1"));
    assert!(one.contains(".TH bulla-keys-fetch 1 "), "{one}");
    assert!(one.contains(r"\fBbulla keys fetch\fR"), "{one}");
    // The pages are the same when written again, and an unknown command has no page.
    sandbox.done(&["man", "--out", "man1"]);
    let run = sandbox.run(&["man", "keys", "fly"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.starts_with("error: bulla-keys has no command fly\nhint: it has: "),
        "{}",
        run.stderr
    );
}
