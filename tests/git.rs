//! The commands of the pages about Git and `bulla lint` do what the pages claim, in order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Result, ensure};
use bulla_tests::{Folder, Program, Shell, Step, program, steps};

const PAGE: &str = include_str!("../docs/git.md");

const LINT: &str = include_str!("../docs/lint.md");

/// A program that stands in for `kustomize` and `helm`. It prints a manifest of the repository.
const RENDER: &str = "#!/bin/sh\ncat clusters/prod/db.yaml\n";

/// A kubectl that stands in for a cluster with one of the two SealedSecrets, as an API server prints it.
const KUBECTL: &str =
    "#!/bin/sh\n[ \"$*\" = 'get sealedsecrets.bulla.dev -o yaml' ] && cat ../live.yaml\n";

fn secret(name: &str, password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: prod}}\nstringData: {{user: app, password: {password}}}\n"
    )
}

/// A repository with the tags v1 and v2, and a branch that changes one value while main changes another.
fn repository(shell: &Shell) -> Result<()> {
    let seal = |file: &str, name: &str, password: &str| -> Result<()> {
        fs::write(shell.path("../secret.yaml"), secret(name, password))?;
        shell
            .run(&format!("bulla seal -R ../recipient.txt ../secret.yaml > clusters/prod/{file}"))
            .map(drop)
    };
    shell.run("git init -q -b main && mkdir -p clusters/prod")?;
    shell.run("bulla keys generate --type x25519 -o ../identity.txt > ../recipient.txt")?;
    seal("db.yaml", "db", "one")?;
    shell.run("git add -A && git commit -q -m one && git tag v1")?;
    seal("cache.yaml", "cache", "two")?;
    shell.run("git add -A && git commit -q -m two && git tag v2")?;
    shell.run("cp clusters/prod/db.yaml ../live.yaml")?;
    shell.run("git switch -q -c topic")?;
    shell.run("printf three | bulla set clusters/prod/db.yaml user -R ../recipient.txt")?;
    shell.run("git commit -q -a -m three && git switch -q main")?;
    shell.run("printf four | bulla set clusters/prod/db.yaml password -R ../recipient.txt")?;
    shell.run("git commit -q -a -m four").map(drop)
}

#[test]
fn every_command_of_the_page_about_git_works_in_order() {
    let folder = Folder::new("bulla-git-").unwrap();
    let shell = Shell::new(&folder, Path::new("/nonexistent")).unwrap();
    let kubectl = folder.path().join("bin/kubectl");
    fs::remove_file(&kubectl).unwrap();
    fs::write(&kubectl, KUBECTL).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    repository(&shell).unwrap();
    let config = folder.path().join("gitconfig");
    let run = |line: &str| {
        let mut command = shell.command(line);
        // `--global` affects only this test.
        let output = command.env("GIT_CONFIG_GLOBAL", &config).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let mut count = 0;
    for step in steps(PAGE) {
        let Step::Run(line) = step else { panic!("the page asks for no file") };
        let (code, printed, said) = run(line);
        // A bulla diff that finds a difference exits with 1.
        let is_diff =
            line.contains("bulla diff ") && !line.contains("test $?") && !line.contains("config");
        let finds =
            ["HEAD~", "v1 v2", "--no-index", "main...topic"].iter().any(|word| line.contains(word));
        let expected = if is_diff && finds { 1 } else { 0 };
        assert_eq!(code, Some(expected), "{line}: {printed}{said}");
        count += 1;
        match line {
            "bulla diff main...topic" => assert!(printed.contains("  user  changed"), "{printed}"),
            "bulla diff v1 v2 -- clusters/prod" => assert!(printed.contains("prod/cache: added")),
            "git diff main topic" => {
                assert!(printed.contains("+    user: sealed(strict, key user of prod/db; value "));
                assert!(!printed.contains("YWdl"), "{printed}");
            }
            line if line.contains("kubectl") => assert!(printed.contains("prod/cache: added")),
            _ => {}
        }
    }
    assert!(count >= 15, "the page has lost its commands");
    let comment = fs::read_to_string(shell.path("comment.md")).unwrap();
    assert!(comment.contains("| `user` | changed |"), "{comment}");
    // The merge has both sides' values, on lines that are a conflict for Git alone.
    assert_eq!(run("git status --porcelain --untracked-files=no").1, "");
    for (key, value) in [("user", "three"), ("password", "four")] {
        let line = format!("bulla unseal -i ../identity.txt --key {key} clusters/prod/db.yaml");
        assert_eq!(run(&line).1, value, "{line}");
    }
    let (code, ..) = run("git checkout -q main~ && git -c merge.bulla.driver=false merge -q topic");
    assert_ne!(code, Some(0), "expected a merge that fails without the driver");
    let _ = program(Program::Bulla).unwrap();
}

#[test]
fn every_command_of_the_page_about_lint_works_in_order() -> Result<()> {
    let folder = Folder::new("bulla-lint-page-")?;
    let shell = Shell::new(&folder, Path::new("/nonexistent"))?;
    for name in ["kustomize", "helm"] {
        let program = folder.path().join("bin").join(name);
        fs::write(&program, RENDER)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    repository(&shell)?;
    for line in [
        "git update-ref refs/remotes/origin/main main",
        "bulla init -e 'prod=clusters/prod/**' --recovery-recipients-file ../recipient.txt",
    ] {
        shell.run(line)?;
    }
    let mut count = 0;
    for step in steps(LINT) {
        let Step::Run(line) = step else { continue };
        let printed = shell.run(line)?;
        if line.contains("--explain") {
            ensure!(printed.starts_with("wrong-binding\n"), "{printed}");
        }
        count += 1;
    }
    ensure!(count >= 6, "the page has lost its commands");
    Ok(())
}
