//! `bulla merge-driver`, tested with real merges.

use std::fs;

use crate::git_repository::GitRepository;

const ALL: &str = "a: one, b: two, c: three";

/// A repository that merges `db.yaml` with the driver.
fn repository() -> GitRepository {
    let repository = GitRepository::new();
    let driver = "bulla merge-driver --marker-size %L %O %A %B %P";
    repository.git(&["config", "merge.bulla.driver", driver]);
    repository.0.write(".gitattributes", "*.yaml merge=bulla\n");
    repository
}

/// How a merge of two branches ended: whether it is clean, the file, and Git's output.
struct Merge {
    is_clean: bool,
    file: String,
    said: String,
}

/// Commits three versions of `db.yaml` and merges the last into the second. `None` deletes it.
fn merge(
    repository: &GitRepository,
    base: &str,
    ours: Option<&str>,
    theirs: Option<&str>,
) -> Merge {
    let put = |content: Option<&str>, subject: &str| {
        match content {
            Some(content) => repository.0.write("db.yaml", content),
            None => fs::remove_file(repository.0.path("db.yaml")).unwrap(),
        }
        repository.commit(subject);
    };
    put(Some(base), "base");
    repository.git(&["checkout", "--quiet", "-B", "theirs"]);
    put(theirs, "theirs");
    repository.git(&["checkout", "--quiet", "-B", "ours", "HEAD~"]);
    put(ours, "ours");
    let output = repository.try_git(&["merge", "--no-edit", "theirs"]);
    let file = fs::read_to_string(repository.0.path("db.yaml")).unwrap_or_default();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let unmerged = repository.git(&["ls-files", "--unmerged"]);
    assert_eq!(unmerged.is_empty(), output.status.success(), "{said}");
    Merge { is_clean: output.status.success(), file, said }
}

/// A manifest with another value for one key.
fn with(repository: &GitRepository, manifest: &str, key: &str) -> String {
    let value = value(&repository.sealed("db", &format!("{key}: another"), "x25519.pub"), key);
    manifest.replace(&self::value(manifest, key), &value)
}

/// The sealed value of a key.
fn value(manifest: &str, key: &str) -> String {
    let (_, rest) = manifest.split_once(&format!("    {key}: ")).unwrap();
    rest.split(|it: char| it.is_whitespace()).next().unwrap().to_owned()
}

fn rekeyed(repository: &GitRepository, manifest: &str) -> String {
    repository.0.write("db.yaml", manifest);
    repository.rekey(&["db.yaml"]);
    repository.0.read("db.yaml")
}

#[test]
fn values_that_each_side_changed_are_merged() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let (ours, theirs) = (with(&repository, &base, "a"), with(&repository, &base, "b"));
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(merge.is_clean, "{}", merge.said);
    let expected = base
        .replace(&value(&base, "a"), &value(&ours, "a"))
        .replace(&value(&base, "b"), &value(&theirs, "b"));
    assert_eq!(merge.file, expected);
}

#[test]
fn keys_that_both_sides_added_in_one_place_are_merged() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let add = |key: &str| {
        let value = value(&repository.sealed("db", &format!("{key}: x"), "x25519.pub"), key);
        format!("{base}    # for {key}\n    {key}: {value}\n")
    };
    let (ours, theirs) = (add("d"), add("e"));
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(merge.is_clean, "{}", merge.said);
    assert_eq!(merge.file, format!("{ours}{}", theirs.strip_prefix(&base).unwrap()));
    // Git alone cannot merge them.
    repository.git(&["reset", "--quiet", "--hard", "HEAD~"]);
    fs::remove_file(repository.0.path(".gitattributes")).unwrap();
    repository.git(&["commit", "--quiet", "--all", "-m", "without"]);
    assert!(!repository.try_git(&["merge", "--no-edit", "theirs"]).status.success());
}

#[test]
fn a_changed_value_wins_over_a_rekey_of_everything() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let (ours, theirs) = (with(&repository, &base, "b"), rekeyed(&repository, &base));
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(merge.is_clean, "{}", merge.said);
    for (key, from) in [("a", &theirs), ("b", &ours), ("c", &theirs)] {
        assert_eq!(value(&merge.file, key), value(from, key), "{key}");
    }
    let note = "note: db.yaml: prod/db: key b: one side changed it and the other rekeyed it";
    assert!(merge.said.contains(note), "{}", merge.said);
}

#[test]
fn a_value_that_both_sides_changed_is_a_conflict_and_the_others_are_merged() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let ours = with(&repository, &with(&repository, &base, "b"), "a");
    let theirs = with(&repository, &with(&repository, &base, "b"), "c");
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(!merge.is_clean);
    let (our_value, their_value) = (value(&ours, "b"), value(&theirs, "b"));
    let conflict = format!(
        "<<<<<<< ours\n    b: {our_value}\n=======\n    b: {their_value}\n>>>>>>> theirs\n"
    );
    let expected = base
        .replace(&value(&base, "a"), &value(&ours, "a"))
        .replace(&format!("    b: {}\n", value(&base, "b")), &conflict)
        .replace(&value(&base, "c"), &value(&theirs, "c"));
    assert_eq!(merge.file, expected);
    assert!(merge.said.contains("error: db.yaml: prod/db: key b: both sides changed it"));
    assert!(merge.said.contains("hint: keep one of the two"), "{}", merge.said);
}

#[test]
fn text_is_merged_beside_values() {
    let repository = repository();
    let base = format!("# head\n{}", repository.sealed("db", ALL, "x25519.pub"));
    let ours = with(&repository, &base, "a").replace("# head", "# our head");
    let theirs = with(&repository, &base, "b") + "  template:\n    type: Opaque\n";
    let merged = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(merged.is_clean, "{}", merged.said);
    assert!(merged.file.starts_with("# our head\n"), "{}", merged.file);
    assert!(merged.file.ends_with("  template:\n    type: Opaque\n"), "{}", merged.file);
    let both = theirs.replace("# head", "# their head");
    let conflict = merge(&repository, &base, Some(&ours), Some(&both));
    assert!(!conflict.is_clean);
    let text = "<<<<<<< ours\n# our head\n=======\n# their head\n>>>>>>> theirs\n";
    assert!(conflict.file.starts_with(text), "{}", conflict.file);
    assert_eq!(value(&conflict.file, "b"), value(&theirs, "b"));
    assert!(conflict.said.contains("db.yaml: both sides changed it in one place"));
}

#[test]
fn line_ends_flow_style_and_several_documents_are_kept() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let (ours, theirs) = (with(&repository, &base, "a"), with(&repository, &base, "b"));
    let other = repository.sealed("cache", "a: x", "x25519.pub");
    let styles: [&dyn Fn(&str) -> String; 4] = [
        &|text| text.replace('\n', "\r\n"),
        &|text| format!("\u{feff}{text}---\n{other}"),
        &|text| {
            serde_json::to_string(&yaml_serde::from_str::<serde_json::Value>(text).unwrap())
                .unwrap()
        },
        &|text| {
            let values = ["a", "b", "c"].map(|key| format!("{key}: {}", value(text, key)));
            let (head, _) = text.split_once("  sealedData:").unwrap();
            format!("{head}  sealedData: {{{}}} # flow\n", values.join(", "))
        },
    ];
    for style in styles {
        let merge = merge(&repository, &style(&base), Some(&style(&ours)), Some(&style(&theirs)));
        assert!(merge.is_clean, "{}", merge.said);
        let expected = ours.replace(&value(&base, "b"), &value(&theirs, "b"));
        assert_eq!(merge.file, style(&expected));
    }
}

#[test]
fn git_reports_a_conflict_if_one_side_deleted_the_file_and_keeps_it() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let changed = with(&repository, &base, "a");
    let merge = merge(&repository, &base, Some(&changed), None);
    assert!(!merge.is_clean);
    assert_eq!(merge.file, changed);
}

#[test]
fn a_document_that_one_side_deleted_is_removed_if_the_other_only_rekeyed_it() {
    let repository = repository();
    let (db, cache) = (
        repository.sealed("db", ALL, "x25519.pub"),
        repository.sealed("cache", "a: x", "x25519.pub"),
    );
    let base = format!("{db}---\n{cache}");
    let all_rekeyed = rekeyed(&repository, &base);
    let clean = merge(&repository, &base, Some(&db), Some(&all_rekeyed));
    assert!(clean.is_clean, "{}", clean.said);
    assert_eq!(clean.file, all_rekeyed.split_once("---\n").unwrap().0);
    assert!(clean.said.contains("prod/cache: key a: one side removed it"), "{}", clean.said);
    let changed = repository.sealed("cache", "a: y", "x25519.pub");
    let conflict = merge(&repository, &base, Some(&db), Some(&format!("{db}---\n{changed}")));
    assert!(!conflict.is_clean);
    assert!(conflict.file.contains(&value(&changed, "a")), "{}", conflict.file);
}

#[test]
fn a_malformed_side_is_merged_as_text() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let ours = with(&repository, &base, "a");
    let broken = format!("{base}  template: [\n");
    let clean = merge(&repository, &base, Some(&ours), Some(&broken));
    assert!(clean.is_clean, "{}", clean.said);
    assert_eq!(clean.file, format!("{ours}  template: [\n"));
    assert!(clean.said.contains("so all were merged as text"), "{}", clean.said);
    let broken = broken.replace(&value(&base, "a"), "x");
    let conflict = merge(&repository, &base, Some(&ours), Some(&broken));
    assert!(!conflict.is_clean);
    assert!(conflict.file.contains(&value(&ours, "a")) && conflict.file.contains("    a: x\n"));
}

#[test]
fn a_result_that_would_be_invalid_becomes_one_conflict_of_the_whole_file() {
    let repository = repository();
    let base = repository.sealed("db", ALL, "x25519.pub");
    let value = |text: &str| value(&repository.sealed("db", text, "x25519.pub"), "z");
    // The same key twice, at both ends of one mapping: a merge as text would not report a conflict.
    let ours = base.replace("    a: ", &format!("    z: {}\n    a: ", value("z: ours")));
    let theirs = format!("{base}    z: {}\n", value("z: theirs"));
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    assert!(!merge.is_clean);
    assert_eq!(merge.file.matches("<<<<<<<").count(), 1, "{}", merge.file);
    assert!(merge.said.contains("prod/db: key z: both sides changed it"), "{}", merge.said);
    let without = |start: &str, end: &str| {
        let mut is_out = false;
        let keep = |line: &&str| {
            is_out = (is_out || line.starts_with(start)) && !line.starts_with(end);
            !is_out && !["<<<<<<<", "=======", ">>>>>>>"].iter().any(|it| line.starts_with(it))
        };
        merge.file.lines().filter(keep).map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(without("=======", ">>>>>>>"), ours);
    assert_eq!(without("<<<<<<<", "======="), theirs);
}

#[test]
fn both_sides_may_add_the_file() {
    let repository = repository();
    repository.commit("nothing");
    let ours = repository.sealed("db", "a: one", "x25519.pub");
    let theirs = repository.sealed("db", "a: two", "x25519.pub");
    repository.git(&["checkout", "--quiet", "-b", "theirs"]);
    repository.0.write("db.yaml", &theirs);
    repository.commit("theirs");
    repository.git(&["checkout", "--quiet", "-b", "ours", "HEAD~"]);
    repository.0.write("db.yaml", &ours);
    repository.commit("ours");
    assert!(!repository.try_git(&["merge", "theirs"]).status.success());
    let file = repository.0.read("db.yaml");
    assert!(file.contains(&value(&ours, "a")) && file.contains(&value(&theirs, "a")), "{file}");
}

#[test]
fn the_ancestor_and_the_length_of_markers_follow_gits_configuration() {
    let repository = repository();
    repository.git(&["config", "merge.conflictStyle", "diff3"]);
    repository.0.write(".gitattributes", "*.yaml merge=bulla conflict-marker-size=12\n");
    let base = repository.sealed("db", ALL, "x25519.pub");
    let (ours, theirs) = (with(&repository, &base, "b"), with(&repository, &base, "b"));
    let merge = merge(&repository, &base, Some(&ours), Some(&theirs));
    let [one, two, three] = [&ours, &base, &theirs].map(|text| value(text, "b"));
    let conflict = format!(
        "<<<<<<<<<<<< ours\n    b: {one}\n|||||||||||| base\n    b: {two}\n============\n    b: {three}\n>>>>>>>>>>>> theirs\n"
    );
    assert!(merge.file.contains(&conflict), "{}", merge.file);
}

#[test]
fn binary_bytes_leave_the_file_unchanged() {
    let repository = repository();
    let sandbox = &repository.0;
    sandbox.write("base", "a\n");
    sandbox.write("ours", "b\n");
    sandbox.write("theirs", b"\xff\n");
    let run = sandbox.run(&["merge-driver", "base", "ours", "theirs", "x.yaml"]);
    assert_eq!(run.code, 1);
    assert_eq!(sandbox.read("ours"), "b\n");
    assert!(run.stderr.contains("x.yaml: one of the versions is not text"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: keep one side"), "{}", run.stderr);
    let run = sandbox.run(&["merge-driver", "base", "ours", "nowhere", "x.yaml"]);
    assert_eq!((run.code, sandbox.read("ours").as_str()), (2, "b\n"));
}

#[test]
fn documents_that_two_branches_appended_are_both_kept() {
    let repository = repository();
    let sealed = |name: &str| repository.sealed(name, "a: one", "x25519.pub");
    let (db, web, cache) = (sealed("db"), sealed("web"), sealed("cache"));
    let changed = with(&repository, &db, "a");
    for (ours, theirs) in [
        (format!("{db}---\n{web}"), format!("{db}---\n{cache}")),
        (format!("{db}---\n{web}"), format!("{db}---\n# c\n{cache}")),
        (format!("{db}---\n{web}"), format!("{changed}---\n{cache}")),
        (format!("{db}---\n{web}"), format!("{db}---\n{}---\n{cache}", sealed("more"))),
        (format!("{db}---\n{web}").trim_end().to_owned(), format!("{db}---\n{cache}")),
    ] {
        let merged = merge(&repository, &db, Some(&ours), Some(&theirs));
        assert!(merged.is_clean, "{}", merged.said);
        let names = ["db", "web", "cache"].map(|name| format!("  name: {name}\n"));
        for name in &names {
            assert_eq!(merged.file.matches(name).count(), 1, "{}", merged.file);
        }
        assert!(theirs.starts_with(&db) || merged.file.starts_with(&changed), "{}", merged.file);
        repository.0.done(&["lint", "db.yaml"]);
    }
    // Both sides added the same object.
    let (one, other) = (format!("{db}---\n{web}"), format!("{db}---\n{}", sealed("web")));
    assert!(!merge(&repository, &db, Some(&one), Some(&other)).is_clean);
}
