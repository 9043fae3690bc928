//! `bulla diff`, on revisions of real repositories.

use std::fs;

use serde_json::Value;

use crate::git_repository::GitRepository;
use crate::sandbox::Sandbox;

/// The objects that differ, and the exit code.
fn diff(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<Value>) {
    let args = [&["diff", "--format", "json"], args].concat();
    let run = sandbox.run(&args);
    let report: Value = serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", run.stderr));
    assert_eq!(report["refused"], Value::Array(Vec::new()));
    (run.code, report["objects"].as_array().unwrap().clone())
}

/// `NAME CHANGE` of each object, with `KEY=CHANGE` of each key.
fn lines(objects: &[Value]) -> Vec<String> {
    let line = |object: &Value| {
        let keys = object["keys"].as_array().unwrap().iter();
        let keys = keys.map(|key| format!(" {}={}", text(&key["key"]), text(&key["change"])));
        let head = format!("{} {}", text(&object["name"]), text(&object["change"]));
        keys.fold(head, |line, key| line + &key)
    };
    objects.iter().map(line).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A repository with `apps/db.yaml` and `apps/cache.yaml`.
fn repository() -> GitRepository {
    let repository = GitRepository::new();
    fs::create_dir(repository.0.path("apps")).unwrap();
    repository.seal("apps/db.yaml", "db", "user: app, password: correct horse");
    repository.seal("apps/cache.yaml", "cache", "password: battery staple");
    repository.commit("first");
    repository
}

#[test]
fn the_work_tree_the_index_and_commits_are_compared() {
    let repository = repository();
    let sandbox = &repository.0;
    assert_eq!(diff(sandbox, &[]), (0, vec![]));
    repository.seal("apps/db.yaml", "db", "user: app, token: t");
    let changed = ["db changed password=removed token=added user=changed"];
    let (code, objects) = diff(sandbox, &[]);
    assert_eq!((code, lines(&objects)), (1, changed.map(str::to_owned).to_vec()));

    // Untracked files count, ignored files do not.
    repository.seal("apps/new.yaml", "new", "a: b");
    repository.seal("secret-ignored.yaml", "ignored", "a: b");
    assert_eq!(lines(&diff(sandbox, &[]).1)[1..], ["new added a=added"]);
    assert_eq!(diff(sandbox, &["--staged"]).0, 0);
    repository.git(&["add", "apps/new.yaml"]);
    assert_eq!(lines(&diff(sandbox, &["--staged"]).1), ["new added a=added"]);

    repository.commit("second");
    fs::remove_file(sandbox.path("apps/cache.yaml")).unwrap();
    assert_eq!(lines(&diff(sandbox, &[]).1), ["cache removed password=removed"]);
    for args in [&["HEAD~", "HEAD"][..], &["HEAD~..HEAD"], &["HEAD~.."], &["HEAD~..."]] {
        let (code, objects) = diff(sandbox, args);
        assert_eq!((code, objects.len()), (1, 2), "{args:?}");
    }
    let (_, only) = diff(sandbox, &["HEAD~", "--", "apps/new.yaml"]);
    assert_eq!(lines(&only), ["new added a=added"]);
    let (_, back) = diff(sandbox, &["HEAD", "HEAD~", "--", "./apps/../apps/db.yaml"]);
    assert_eq!(lines(&back), ["db changed password=added token=removed user=changed"]);
}

#[test]
fn three_dots_leave_out_changes_of_the_other_branch() {
    let repository = repository();
    repository.git(&["checkout", "--quiet", "-b", "topic"]);
    repository.seal("apps/topic.yaml", "topic", "a: b");
    repository.commit("topic");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.seal("apps/main.yaml", "main", "a: b");
    repository.commit("main");
    assert_eq!(
        lines(&diff(&repository.0, &["main..topic"]).1),
        ["main removed a=removed", "topic added a=added"]
    );
    assert_eq!(lines(&diff(&repository.0, &["main...topic"]).1), ["topic added a=added"]);
}

#[test]
fn a_rekey_of_a_whole_tree_shows_only_rekeyed() {
    let repository = repository();
    repository.rekey(&["apps"]);
    let run = repository.0.run(&["diff"]);
    assert_eq!(run.code, 1);
    assert_eq!(run.stdout.matches(" rekeyed ").count(), 3, "{}", run.stdout);
    assert!(run.stderr.contains("2 SealedSecrets, 3 values rekeyed"), "{}", run.stderr);
    for (_, change) in diff(&repository.0, &[]).1.iter().flat_map(|object| {
        object["keys"].as_array().unwrap().iter().map(|key| (&key["key"], &key["change"]))
    }) {
        assert_eq!(change, "rekeyed");
    }
}

#[test]
fn holders_are_named_by_the_bulla_yaml_of_either_side() {
    let repository = repository();
    let sandbox = &repository.0;
    let config = |name: &str, holder: &str| {
        let recipient = sandbox.read(&format!("{name}.pub"));
        let recipient = recipient.lines().last().unwrap();
        format!(
            "environments:\n  prod:\n    paths: [apps/**]\n    recipients:\n    - recipient: {recipient}\n      holder: {holder}\n      state: Active\n      fetched: 2026-11-01\n"
        )
    };
    sandbox.write("bulla.yaml", config("x25519", "old-cluster"));
    repository.commit("pins");
    sandbox.write("bulla.yaml", config("hybrid", "new-cluster"));
    repository.rekey(&["apps"]);
    let between = " -91efc95f9aa3a7fb (old-cluster)  +04a434af7e9d885d (new-cluster)";
    let run = sandbox.run(&["diff"]);
    assert_eq!(run.stdout.matches(between).count(), 3, "{}{}", run.stdout, run.stderr);
    repository.commit("rekey");
    assert!(sandbox.run(&["diff", "HEAD~", "HEAD"]).stdout.contains(between));
    // An invalid bulla.yaml provides no names, but does not stop the command.
    sandbox.write("bulla.yaml", "environments: 1\n");
    let run = sandbox.run(&["diff", "HEAD~"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("-91efc95f9aa3a7fb (old-cluster)  +04a434af7e9d885d\n"));
    assert!(run.stderr.contains("could not read the names of key holders"), "{}", run.stderr);
}

#[test]
fn an_object_in_another_file_is_moved() {
    let repository = repository();
    let sandbox = &repository.0;
    fs::create_dir(sandbox.path("prod")).unwrap();
    repository.git(&["mv", "apps/db.yaml", "prod/database.yaml"]);
    let (code, objects) = diff(sandbox, &[]);
    assert_eq!((code, lines(&objects)), (1, vec!["db moved".to_owned()]));
    assert_eq!(objects[0]["old"]["file"], "HEAD:apps/db.yaml");
    assert_eq!(objects[0]["new"]["file"], "prod/database.yaml");
    // Two objects with one name, as in overlays, and only one of them changes.
    let overlay = sandbox.read("apps/cache.yaml");
    sandbox.write("prod/cache.yaml", &overlay);
    repository.commit("overlay");
    repository.seal("prod/cache.yaml", "cache", "password: another");
    let (_, objects) = diff(sandbox, &[]);
    assert_eq!(lines(&objects), ["cache changed password=changed"]);
    assert_eq!(objects[0]["moved"], false);
}

#[test]
fn a_moved_value_is_shown_with_its_old_place() {
    let repository = repository();
    let sandbox = &repository.0;
    let renamed = sandbox.read("apps/db.yaml").replace("    password: ", "    passphrase: ");
    sandbox.write("apps/db.yaml", renamed);
    let (_, objects) = diff(sandbox, &[]);
    assert_eq!(lines(&objects), ["db changed passphrase=moved password=removed"]);
    let from = &objects[0]["keys"][0]["from"];
    assert_eq!((text(&from["object"]), text(&from["key"])), ("prod/db", "password"));
}

#[test]
fn no_plaintext_is_ever_printed() {
    let repository = repository();
    let sandbox = &repository.0;
    let clear = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: clear, namespace: prod, annotations: {{a: {value}}}}}\nstringData: {{a: {value}}}\n"
        )
    };
    sandbox.write("apps/clear.yaml", clear("hunter1"));
    repository.commit("clear");
    sandbox.write("apps/clear.yaml", clear("hunter2"));
    // A value that someone forgot to seal, and an unknown field.
    let db = sandbox.read("apps/db.yaml");
    let db =
        db.replace("    user: ", "    forgotten: hunter3\n    user: ") + "  data: {a: hunter4}\n";
    sandbox.write("apps/db.yaml", db);
    for format in ["human", "json", "markdown"] {
        let run = sandbox.run(&["diff", "--format", format]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(
            run.stdout.contains("forgotten") && run.stdout.contains("spec.data"),
            "{}",
            run.stdout
        );
        assert!(run.stdout.contains("clear"), "{}", run.stdout);
        assert!(!(run.stdout + &run.stderr).contains("hunter"), "{format}");
    }
    let (_, objects) = diff(sandbox, &["HEAD", "--", "apps/clear.yaml"]);
    assert_eq!((text(&objects[0]["kind"]), text(&objects[0]["change"])), ("Secret", "changed"));
    // Nothing is reported for unchanged objects.
    assert_eq!(lines(&diff(sandbox, &["HEAD~", "HEAD"]).1), ["clear added"]);
}

#[test]
fn style_and_order_make_no_difference() {
    let repository = repository();
    let sandbox = &repository.0;
    let db = sandbox.read("apps/db.yaml");
    let value: Value = yaml_serde::from_str(&db).unwrap();
    for same in [
        db.replace('\n', "\r\n"),
        format!("\u{feff}# comment\n---\n{db}"),
        serde_json::to_string_pretty(&value).unwrap(),
        format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{value}]}}"),
    ] {
        sandbox.write("apps/db.yaml", same);
        assert_eq!(diff(sandbox, &[]), (0, vec![]));
    }
    // Fields that a cluster adds make no difference either.
    let mut live = value.clone();
    live["status"] = serde_json::json!({"observedGeneration": 1});
    live["metadata"]["resourceVersion"] = "1".into();
    live["metadata"]["annotations"] =
        serde_json::json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let live = serde_json::to_string(&live).unwrap();
    sandbox.write("apps/db.yaml", db);
    let run = sandbox.run_with_input(&["diff", "--no-index", "apps/db.yaml", "-"], live.as_bytes());
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
}

#[test]
fn folders_and_streams_are_compared_without_git() {
    let repository = repository();
    let sandbox = &repository.0;
    fs::create_dir_all(sandbox.path("other/sub")).unwrap();
    fs::copy(sandbox.path("apps/db.yaml"), sandbox.path("other/sub/db.yaml")).unwrap();
    assert_eq!(
        lines(&diff(sandbox, &["--no-index", "apps", "other"]).1),
        ["cache removed password=removed", "db moved"]
    );
    let stream = [sandbox.read("apps/cache.yaml"), sandbox.read("apps/db.yaml")].join("---\n");
    let run = sandbox.run_with_input(&["diff", "--no-index", "apps", "-"], stream.as_bytes());
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
}

#[test]
fn an_unreadable_file_is_reported_and_the_others_are_compared() {
    let repository = repository();
    let sandbox = &repository.0;
    repository.seal("apps/db.yaml", "db", "user: app");
    sandbox.write("apps/broken.yaml", "apiVersion: bulla.dev/v1alpha1\nkind: [SealedSecret\n");
    sandbox.write("apps/chart.yaml", "kind: Secret\n{{ if x }}\n");
    let run = sandbox.run(&["diff"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stdout.contains("prod/db: changed"), "{}", run.stdout);
    assert!(run.stderr.contains("error: apps/broken.yaml: document 1, line "), "{}", run.stderr);
    assert!(!run.stderr.contains("chart"), "{}", run.stderr);
}

#[test]
fn git_shows_readable_lines_through_textconv() {
    let repository = repository();
    repository.git(&["config", "diff.bulla.textconv", "bulla diff --textconv"]);
    repository.0.write(".gitattributes", "*.yaml diff=bulla\n");
    repository.commit("attributes");
    repository.rekey(&["apps/db.yaml"]);
    let shown = repository.git(&["diff"]);
    let user = |sign: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{sign}    user: sealed(")));
        line.unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    let payload = |line: &str| line.split(';').nth(1).unwrap().to_owned();
    let (old, new) = (user("-"), user("+"));
    assert_eq!(payload(&old), payload(&new));
    assert!(old.contains("x25519 91efc95f9aa3a7fb") && new.contains("hybrid 04a434af7e9d885d"));
    repository.commit("rekey");
    repository.seal("apps/db.yaml", "db", "user: app, password: correct horse");
    repository.commit("change");
    let log = repository.git(&["log", "-p", "--format=%s"]);
    assert!(!log.contains("YWdl"), "{log}");
    assert_eq!(log.matches("\n+    user: sealed(strict, key user of prod/db; value ").count(), 3);
}

#[test]
fn textconv_leaves_unknown_content_unchanged() {
    let sandbox = Sandbox::new();
    for content in [&b""[..], b"kind: [\n", b"\xff\xfe\0\r\n", b"kind: Secret\nstringData: {a: b}"]
    {
        sandbox.write("file", content);
        let output = sandbox.command(&["diff", "--textconv", "file"]).output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), content));
    }
}

#[test]
fn markup_in_names_stays_text() {
    let sandbox = Sandbox::new();
    let name = "`x` | <img src=y> @team [a](b)";
    let object = |value: &str| {
        let key = serde_json::to_string(name).unwrap();
        format!(
            "apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: {key}, labels: {{a: {key}}}}}\nspec:\n  sealedData: {{{key}: {value}}}\n"
        )
    };
    sandbox.write("old.yaml", object("x"));
    sandbox.write("new.yaml", object("y").replace("labels: {a:", "labels: {b:"));
    let run = sandbox.run(&["diff", "--no-index", "--format", "markdown", "old.yaml", "new.yaml"]);
    let title = "#### ``  `x` | <img src=y> @team [a](b) `` changed".replace("``  ", "`` ");
    assert!(run.stdout.contains(&title), "{}", run.stdout);
    let row = r"| `` `x` \| <img src=y> @team [a](b) `` | unreadable |  |";
    assert!(run.stdout.contains(row), "{}", run.stdout);
    assert!(run.stdout.contains("\n```diff\n"), "{}", run.stdout);
}
