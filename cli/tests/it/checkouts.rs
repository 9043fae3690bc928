//! Work trees as people have them: linked, nested, sparse, with hooks, and of another owner.

use crate::git_repository::GitRepository;
use crate::sandbox::Run;

const LEAK: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: d}\nstringData: {p: hunter2}\n";

fn config(repository: &GitRepository) -> String {
    let recipient = repository.0.read("x25519.pub");
    let recipient = recipient.lines().last().unwrap();
    format!(
        "environments:\n  prod:\n    paths: ['**']\n    recipients:\n      - recipient: {recipient}\n        holder: recovery\n        state: Active\n        fetched: '2026-01-01'\n"
    )
}

fn run_in(repository: &GitRepository, folder: &str, args: &[&str]) -> Run {
    let output =
        repository.0.command(args).current_dir(repository.0.path(folder)).output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn done_in(repository: &GitRepository, folder: &str, args: &[&str]) {
    let run = run_in(repository, folder, args);
    assert_eq!(run.code, 0, "{args:?} in {folder:?}: {}{}", run.stdout, run.stderr);
}

/// A repository with a `bulla.yaml` and a SealedSecret in `db.yaml`.
fn with_config() -> GitRepository {
    let repository = GitRepository::new();
    repository.0.write("bulla.yaml", config(&repository));
    repository.seal("db.yaml", "db", "a: one");
    repository.commit("seal");
    repository
}

#[test]
fn a_linked_work_tree_inside_of_the_main_one_has_its_own_configuration() {
    let repository = with_config();
    for place in ["ignored/w", "visible"] {
        repository.0.write(".gitignore", "ignored/\n");
        repository.git(&["worktree", "add", "--quiet", "--detach", place]);
        done_in(&repository, place, &["lint"]);
        done_in(&repository, place, &["set", "db.yaml", "a", "--from-env", "HOME"]);
        done_in(&repository, place, &["diff", "HEAD", "--", "bulla.yaml"]);
        done_in(&repository, "", &["lint"]);
        done_in(&repository, "", &["set", "db.yaml", "a", "--from-env", "HOME"]);
    }
    let lint = run_in(&repository, "", &["lint"]);
    assert!(
        lint.stderr.contains("note: visible: another Git repository, skipped"),
        "{}",
        lint.stderr
    );
    // It is checked where somebody names it.
    repository.0.write("visible/leak.yaml", LEAK);
    assert_eq!(run_in(&repository, "", &["lint"]).code, 0);
    assert_eq!(run_in(&repository, "", &["lint", "visible"]).code, 1);
}

#[test]
fn a_submodule_is_another_repository_with_or_without_a_configuration() {
    for has_config in [true, false] {
        let inner = if has_config { with_config() } else { GitRepository::new() };
        inner.commit("inner");
        let outer = with_config();
        let url = inner.0.path("").display().to_string();
        let add = ["-c", "protocol.file.allow=always", "submodule", "add", "--quiet", &url, "sub"];
        outer.git(&add);
        outer.commit("sub");
        done_in(&outer, "", &["lint"]);
        done_in(&outer, "", &["lint", "db.yaml"]);
        done_in(&outer, "", &["set", "db.yaml", "a", "--from-env", "HOME"]);
        done_in(&outer, "sub", &["lint"]);
        let recipients = outer.0.path("x25519.pub").display().to_string();
        let create = ["create", "x", "-n", "d", "--from-env", "A=HOME", "-o", "x.yaml"];
        let flags = if has_config { &[][..] } else { &["-R", &recipients] };
        done_in(&outer, "sub", &[&create[..], flags].concat());
    }
}

#[test]
fn a_configuration_in_a_folder_above_is_not_asked() {
    let repository = with_config();
    repository.0.write("bulla.yaml", "this is none");
    std::fs::create_dir(repository.0.path("inner")).unwrap();
    repository.git(&["init", "--quiet", "inner"]);
    done_in(&repository, "inner", &["lint"]);
    repository.0.write("inner/bulla.yaml", config(&repository));
    done_in(&repository, "inner", &["lint"]);
}

#[test]
fn a_sparse_checkout_has_no_removed_values() {
    let repository = GitRepository::new();
    for name in ["prod", "dev"] {
        std::fs::create_dir(repository.0.path(name)).unwrap();
        repository.seal(&format!("{name}/db.yaml"), name, "a: one");
    }
    repository.commit("two");
    repository.git(&["sparse-checkout", "set", "--no-cone", "/*", "!/dev"]);
    assert!(!repository.0.path("dev/db.yaml").exists());
    let diff = run_in(&repository, "", &["diff"]);
    assert_eq!((diff.code, diff.stdout.as_str()), (0, ""), "{}", diff.stderr);
    let lint = run_in(&repository, "", &["lint", "--base", "HEAD"]);
    assert_eq!(lint.code, 0);
    let warning = "warning: 1 file skipped: not checked out (sparse checkout)";
    assert!(lint.stderr.contains(warning), "{}", lint.stderr);
    // A change that only the index has is a change.
    let staged = repository.git(&["rev-parse", "HEAD:prod/db.yaml"]);
    let entry = format!("100644,{},dev/db.yaml", staged.trim());
    repository.git(&["update-index", "--cacheinfo", &entry]);
    repository.git(&["update-index", "--skip-worktree", "dev/db.yaml"]);
    assert_eq!(run_in(&repository, "", &["diff"]).code, 1);
}

#[cfg(unix)]
#[test]
fn a_hook_of_a_linked_work_tree_sees_what_a_person_sees() {
    use std::os::unix::fs::PermissionsExt;

    let repository = GitRepository::new();
    std::fs::create_dir(repository.0.path("sub")).unwrap();
    repository.0.write("sub/leak.yaml", LEAK);
    repository.git(&["add", "."]);
    repository.0.write(".gitignore", "leak.yaml\n/linked/\n");
    repository.commit("leak");
    let hook = repository.0.path(".git/hooks/pre-commit");
    let bulla = env!("CARGO_BIN_EXE_bulla");
    let script = format!(
        "#!/bin/sh\n{bulla} lint -q sub > /dev/null; echo $? > \"$HOME/code\"\n{bulla} diff --staged > \"$HOME/staged\" 2>&1\nexit 1\n"
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    repository.git(&["worktree", "add", "--quiet", "-b", "linked", "linked"]);
    for folder in ["", "linked"] {
        let sealed = repository.sealed("one", "a: one", "x25519.pub");
        repository.0.write(format!("{folder}/one.yaml").trim_start_matches('/'), sealed);
        let sealed = repository.sealed("two", "a: one", "x25519.pub");
        repository.0.write(format!("{folder}/two.yaml").trim_start_matches('/'), sealed);
        let path = repository.0.path(folder).display().to_string();
        repository.git(&["-C", &path, "add", "."]);
        // Only one of the two files is committed, from an index of its own.
        drop(repository.try_git(&["-C", &path, "commit", "-m", "x", "one.yaml"]));
        assert_eq!(repository.0.read("code"), "1\n", "{folder:?}");
        let staged = repository.0.read("staged");
        assert!(staged.contains("prod/one") && !staged.contains("prod/two"), "{staged}");
    }
}

#[test]
fn the_repository_of_another_owner_is_not_read() {
    let repository = with_config();
    repository.0.write("leak.yaml", LEAK);
    let commands = [&["lint"][..], &["lint", "--base", "HEAD"], &["rekey", "--dry-run"], &["diff"]];
    for args in commands {
        let mut command = repository.0.command(args);
        let output = command.env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains("detected dubious ownership in repository at"), "{stderr}");
        assert!(stderr.contains("git config --global --add safe.directory"), "{stderr}");
    }
}
