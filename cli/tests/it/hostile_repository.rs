//! A repository made by an attacker: no command runs a program that it names.

use std::path::Path;
use std::process::Command;

use crate::git_repository::GitRepository;

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: d}\nstringData: {p: hunter2}\n";

/// The settings by which Git runs programs, each with one that leaves a trace.
fn settings(trace: &Path) -> String {
    let program = format!("touch {}; false", trace.display());
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = \"{program}\"\n\thooksPath = hooks\n\tsshCommand = \"{program}\"\n\tpager = \"{program}\"\n\teditor = \"{program}\"\n[filter \"x\"]\n\tclean = \"{program}\"\n\tsmudge = \"{program}\"\n\tprocess = \"{program}\"\n[diff \"x\"]\n\ttextconv = \"{program}\"\n\tcommand = \"{program}\"\n[diff]\n\texternal = \"{program}\"\n[merge \"x\"]\n\tdriver = \"{program}\"\n"
    )
}

/// A repository with a folder of plain files that looks like a repository itself.
fn planted() -> (GitRepository, std::path::PathBuf) {
    let repository = GitRepository::new();
    let trace = repository.0.path("trace");
    for folder in ["fake/objects", "fake/refs/heads", "fake/hooks"] {
        std::fs::create_dir_all(repository.0.path(folder)).unwrap();
        repository.0.write(&format!("{folder}/keep"), "");
    }
    repository.0.write("fake/HEAD", "ref: refs/heads/main\n");
    repository.0.write("fake/config", settings(&trace));
    repository.0.write("fake/.gitattributes", "* filter=x diff=x merge=x\n");
    let hook = format!("#!/bin/sh\ntouch {}\n", trace.display());
    for name in ["post-index-change", "reference-transaction", "query-watchman"] {
        let path = format!("fake/hooks/{name}");
        repository.0.write(&path, &hook);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(repository.0.path(&path), mode).unwrap();
        }
    }
    repository.seal("fake/sealed.yaml", "db", "a: one");
    repository.0.write("fake/plain.yaml", SECRET);
    repository.commit("plant");
    (repository, trace)
}

/// Every command that takes a path, from the folder itself or from outside.
fn commands(at: &str, keys: &str) -> Vec<Vec<String>> {
    let [sealed, plain, new] =
        ["sealed.yaml", "plain.yaml", "new.yaml"].map(|name| format!("{at}{name}"));
    let folder = if at.is_empty() { "." } else { at };
    let text = format!(
        "lint {folder}
lint --base HEAD {folder}
lint {plain}
rekey --dry-run -R {keys}x25519.pub -i {keys}x25519.txt {folder}
unseal --check -i {keys}x25519.txt {folder}
unseal -i {keys}x25519.txt {sealed}
migrate --dry-run -R {keys}x25519.pub {folder}
seal -R {keys}x25519.pub {plain}
seal -R {keys}x25519.pub {plain} -o {new}
create x -n d -R {keys}x25519.pub --from-env A=HOME -o {new} --force
set {sealed} a -R {keys}x25519.pub --from-env HOME
unset {sealed} nothing
edit {sealed} -i {keys}x25519.txt -R {keys}x25519.pub --editor true
inspect {folder}
inspect {sealed}
diff
diff HEAD
diff --staged
diff --no-index {sealed} {new}
init --dry-run {folder}
keys generate -o {at}identity.txt
merge-driver {sealed} {sealed} {sealed} {sealed}"
    );
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn run_all(repository: &GitRepository, folder: &str, at: &str, keys: &str, trace: &Path) {
    for args in commands(at, keys) {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        repository.0.command(&args).current_dir(repository.0.path(folder)).output().unwrap();
        assert!(!trace.exists(), "{args:?} in {folder:?} ran a program of the repository");
    }
}

#[test]
fn a_folder_that_looks_like_a_repository_runs_nothing() {
    let (repository, trace) = planted();
    run_all(&repository, "fake", "", "../", &trace);
    run_all(&repository, "", "fake/", "", &trace);
    // Without a repository around it, too.
    std::fs::rename(repository.0.path(".git"), repository.0.path("elsewhere")).unwrap();
    run_all(&repository, "fake", "", "../", &trace);
    run_all(&repository, "", "fake/", "", &trace);
    // The control: Git itself runs it.
    let status = Command::new("git").arg("status").current_dir(repository.0.path("fake")).output();
    drop(status.unwrap());
    assert!(trace.exists(), "the trap does not work");
}

#[test]
fn the_configuration_of_a_work_tree_runs_nothing() {
    let (repository, trace) = planted();
    let config =
        settings(&trace).replace("\tworktree = .\n", "").replace("= hooks", "= fake/hooks");
    repository.0.write(".git/config", config);
    repository.0.write(".gitattributes", "* filter=x diff=x merge=x\n");
    run_all(&repository, "", "fake/", "", &trace);
    run_all(&repository, "fake", "", "../", &trace);
    drop(repository.try_git(&["status"]));
    assert!(trace.exists(), "the trap does not work");
}
