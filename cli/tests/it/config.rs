//! `bulla.yaml`: where it is, what it may hold, and the recipients that it pins.

use std::fs;

use crate::sandbox::Sandbox;

const HEAD: &str = "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n";

/// A work tree with `prod/db.yaml`, which is sealed for `old.txt`, and `new.txt` with the recipients of both.
fn repository() -> (Sandbox, [String; 2]) {
    let sandbox = Sandbox::new();
    let recipients = ["old", "new"].map(|name| {
        let file = format!("{name}.txt");
        sandbox.done(&["keys", "generate", "--type", "x25519", "-o", &file]).trim().to_owned()
    });
    fs::create_dir_all(sandbox.path("tree/.git")).unwrap();
    fs::create_dir_all(sandbox.path("tree/prod")).unwrap();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: b}\n";
    let run = sandbox.run_with_input(&["seal", "-r", &recipients[0]], secret.as_bytes());
    sandbox.write("tree/prod/db.yaml", run.stdout);
    (sandbox, recipients)
}

fn pin(recipient: &str, holder: &str, state: &str) -> String {
    format!(
        "    - recipient: {recipient}\n      holder: {holder}\n      state: {state}\n      fetched: 2026-11-21\n"
    )
}

#[test]
fn values_are_rekeyed_to_the_pins_of_their_environment() {
    let (sandbox, [old, new]) = repository();
    let pins = pin(&old, "eu", "Retired") + &pin(&new, "eu", "Active");
    sandbox.write("tree/bulla.yaml", format!("{HEAD}{pins}"));
    fs::create_dir(sandbox.path("tree/dev")).unwrap();
    let sealed = sandbox.read("tree/prod/db.yaml");
    sandbox.write("tree/dev/db.yaml", &sealed);
    let run = sandbox.run(&["rekey", "-i", "old.txt", "--dry-run", "tree/prod"]);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0], "tree/prod/db.yaml: 1 value would be rekeyed");
    assert!(
        lines[1].starts_with("  1 value: ") && lines[1].matches(" (eu)").count() == 2,
        "{}",
        lines[1]
    );
    let run = sandbox.run(&["rekey", "-i", "old.txt", "tree"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, "tree/prod/db.yaml: 1 value rekeyed\n"));
    let error = "error: tree/dev/db.yaml: document 1, line 1: prod/db: no environment of tree/bulla.yaml covers this file\nhint: add its path to an environment, or pass -r or -R\n";
    assert!(run.stderr.starts_with(error), "{}", run.stderr);
    assert_eq!(sandbox.read("tree/dev/db.yaml"), sealed);
    sandbox.done(&["unseal", "-i", "new.txt", "tree/prod/db.yaml"]);
    // Recipients named on the command line win.
    sandbox.done(&["rekey", "-i", "new.txt", "-r", &old, "tree/prod"]);
    sandbox.done(&["unseal", "-i", "old.txt", "tree/prod/db.yaml"]);
}

#[test]
fn an_environment_without_an_active_pin_seals_nothing() {
    let (sandbox, [old, _]) = repository();
    sandbox.write("tree/bulla.yaml", format!("{HEAD}{}", pin(&old, "eu", "Retired")));
    let run = sandbox.run(&["rekey", "-i", "old.txt", "tree"]);
    assert_eq!(run.code, 1);
    let error = "error: tree/prod/db.yaml: document 1, line 1: prod/db: tree/bulla.yaml: environment prod has no Active recipient\nhint: to pin one, run: bulla keys fetch --environment prod\n";
    assert!(run.stderr.starts_with(error), "{}", run.stderr);
}

#[test]
fn there_is_one_at_the_root_of_the_work_tree() {
    let (sandbox, [_, new]) = repository();
    let config = format!("{HEAD}{}", pin(&new, "eu", "Active"));
    let rekey = ["rekey", "-i", "old.txt", "--dry-run", "tree/prod"];
    let place = "tree/prod/bulla.yaml";
    for has_root in [true, false] {
        sandbox.write("tree/bulla.yaml", &config);
        sandbox.write(place, &config);
        if !has_root {
            fs::remove_file(sandbox.path("tree/bulla.yaml")).unwrap();
        }
        let run = sandbox.run(&rekey);
        assert_eq!(run.code, 2, "{}", run.stderr);
        let error = format!(
            "{place} is not at the root of the work tree\nhint: a work tree has one bulla.yaml, in "
        );
        assert!(run.stderr.contains(&error), "{}", run.stderr);
        fs::remove_file(sandbox.path(place)).unwrap();
    }
    // A folder above is not this repository's business.
    sandbox.write("tree/bulla.yaml", &config);
    sandbox.write("bulla.yaml", "environments: 1\n");
    sandbox.done(&rekey);
    // Outside a work tree the file must be named. Its paths begin in its own folder.
    fs::remove_dir(sandbox.path("tree/.git")).unwrap();
    let run = sandbox.run(&rekey);
    assert_eq!(run.code, 2);
    assert!(run.stderr.starts_with("error: no recipients given"), "{}", run.stderr);
    let run = sandbox.run(&[&rekey[..], &["--config", "tree/bulla.yaml"]].concat());
    assert_eq!(
        (run.code, run.stdout.lines().next()),
        (0, Some("tree/prod/db.yaml: 1 value would be rekeyed"))
    );
    let run = sandbox.run(&[&rekey[..], &["--config", "nowhere.yaml"]].concat());
    assert_eq!((run.code, run.stderr.starts_with("error: cannot read nowhere.yaml")), (2, true));
}

#[test]
fn paths_of_two_work_trees_are_refused_together() {
    let (sandbox, [_, new]) = repository();
    sandbox.write("tree/bulla.yaml", format!("{HEAD}{}", pin(&new, "eu", "Active")));
    fs::create_dir_all(sandbox.path("other/.git")).unwrap();
    let rekey = ["rekey", "-i", "old.txt", "--dry-run", "tree/prod", "other"];
    let run = sandbox.run(&rekey);
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stderr,
        "error: the paths are in different Git work trees, and each may have its own bulla.yaml\nhint: run the command for each of them, or decide with --config or -r\n"
    );
    sandbox.done(&[&rekey[..], &["-r", &new]].concat());
}

#[test]
fn a_file_belongs_to_one_environment() {
    let (sandbox, [_, new]) = repository();
    // Neither glob matches the other, and both match the file.
    sandbox.write(
        "tree/bulla.yaml",
        format!("{HEAD}{}  other: {{paths: ['*/db.yaml']}}\n", pin(&new, "eu", "Active")),
    );
    let run = sandbox.run(&["rekey", "-i", "old.txt", "tree"]);
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stderr,
        "error: tree/prod/db.yaml: two environments of tree/bulla.yaml cover this file, other (line 9) and prod (line 3)\nhint: a file belongs to one environment: make their paths disjoint\n"
    );
}

#[test]
fn each_mistake_is_refused_with_its_line() {
    let (sandbox, [old, new]) = repository();
    let hybrid = sandbox.done(&["keys", "generate", "-o", "hybrid.txt"]).trim().to_owned();
    let good = format!("{HEAD}{}", pin(&new, "eu", "Active"));
    let wrong = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let with = |pin: &str| format!("{good}{pin}");
    for (config, message) in [
        ("".to_owned(), "tree/bulla.yaml: the file is empty"),
        (format!("{good}---\n{good}"), "tree/bulla.yaml: the file contains more than one document"),
        (
            "environments: []\n".into(),
            "tree/bulla.yaml: document 1, line 1: environments: expected a mapping of names to environments",
        ),
        (
            format!("commands: [rm]\n{good}"),
            "tree/bulla.yaml: document 1, line 1: commands: unknown field\nhint: known fields: environments, lint\n",
        ),
        (
            wrong("    paths", "    run: x\n    paths"),
            "line 3: environments.prod.run: unknown field\nhint: known fields: paths, namespace, recipients\n",
        ),
        (
            wrong("      state", "      url: x\n      state"),
            "line 7: environments.prod.recipients[0].url: unknown field\nhint: known fields: recipient, holder, state, fetched\n",
        ),
        (
            wrong("prod:", "Prod:"),
            "line 2: environments.Prod: the name of an environment has only lower-case letters, digits and -",
        ),
        (wrong("[prod/**]", "[]"), "line 3: environments.prod.paths: expected a list of paths"),
        (
            wrong("prod/**", "../prod/**"),
            "line 3: environments.prod.paths[0]: this path leads out of the repository",
        ),
        (
            wrong("prod/**", "/prod/**"),
            "line 3: environments.prod.paths[0]: expected a path relative to this file, found an absolute path",
        ),
        (
            wrong("prod/**", "'C:/prod'"),
            "line 3: environments.prod.paths[0]: expected a path relative to this file",
        ),
        (
            wrong("prod/**", "'https://a.example/prod'"),
            "line 3: environments.prod.paths[0]: expected a path within the repository, found a URL",
        ),
        (
            wrong("prod/**", "prod\\x"),
            "line 3: environments.prod.paths[0]: separate folders with /",
        ),
        (
            wrong("prod/**", "prod/"),
            "line 3: environments.prod.paths[0]: expected a path without . and empty parts",
        ),
        (
            wrong("prod/**", "'prod/[!a]'"),
            "line 3: environments.prod.paths[0]: a negated class would also match /",
        ),
        (wrong("prod/**", "'prod/[a'"), "line 3: environments.prod.paths[0]: not a valid glob"),
        (wrong("prod/**", "5"), "line 3: environments.prod.paths[0]: not text; quote it"),
        (wrong(&new, "age1nonsense"), "line 5: environments.prod.recipients[0].recipient: "),
        (
            wrong("holder: eu", "holder: EU"),
            "line 6: environments.prod.recipients[0].holder: the name of a holder has",
        ),
        (
            wrong("Active", "Pending"),
            "line 7: environments.prod.recipients[0].state: expected Active or Retired",
        ),
        (
            wrong("2026-11-21", "yesterday"),
            "line 8: environments.prod.recipients[0].fetched: expected a date, such as 2026-11-21",
        ),
        (
            wrong("      fetched: 2026-11-21\n", ""),
            "line 5: environments.prod.recipients[0]: fetched is missing",
        ),
        (
            with(&pin(&new, "us", "Retired")),
            "line 9: environments.prod.recipients[1]: this recipient is listed twice\nhint: a recipient has one holder",
        ),
        (
            with(&pin(&old, "eu", "Active")),
            "line 9: environments.prod.recipients[1]: a second Active recipient of holder eu\nhint: a holder has one Active key",
        ),
        (with(&pin(&hybrid, "us", "Active")), "line 4: environments.prod.recipients: "),
        (
            with(&pin(&hybrid, "us", "Active")),
            " the recipients of one value must be of one type\nhint: age allows one type per file: the Active recipients of an environment must share it\n",
        ),
        (with("  prod: {paths: [other/**]}\n"), "line 9, column 3: duplicate key"),
        (with("    paths: [other/**]\n"), "line 9, column 5: duplicate key"),
        (
            with("    namespace: Prod\n"),
            "line 9: environments.prod.namespace: not a valid namespace name",
        ),
        (
            with("    namespace: [a]\n"),
            "line 9: environments.prod.namespace: not a valid namespace name",
        ),
        ("a: 1\n".into(), "line 1: a: unknown field\nhint: known fields: environments, lint\n"),
        (
            "{}\n".into(),
            "line 1: environments is missing\nhint: to write a first file, run bulla init\n",
        ),
        (
            "environments: {a: 5}\n".into(),
            "line 1: environments.a: expected a mapping with paths, namespace, recipients",
        ),
        (
            with("  other: {paths: [prod/db.yaml]}\n"),
            "environments.other.paths[0]: prod/** of environment prod covers the same paths\nhint: a file belongs to one environment",
        ),
    ] {
        sandbox.write("tree/bulla.yaml", &config);
        let run = sandbox.run(&["rekey", "-i", "old.txt", "tree"]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{config}");
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
        assert!(run.stderr.starts_with("error: tree/bulla.yaml: "), "{}", run.stderr);
    }
    sandbox.write("tree/bulla.yaml", with(&pin(&hybrid, "us", "Retired")));
    sandbox.done(&["rekey", "-i", "old.txt", "tree"]);
}

/// A Secret with or without a namespace.
fn secret(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n{namespace}stringData: {{a: b}}\n"
    )
}

#[test]
fn every_namespace_that_is_named_must_be_the_same() {
    let (sandbox, [old, new]) = repository();
    let config = |pin: &str| {
        format!("{HEAD}{pin}  dev: {{paths: ['dev/**']}}\n").replacen(
            "    rec",
            "    namespace: shop\n    rec",
            1,
        )
    };
    sandbox.write("tree/bulla.yaml", config(&pin(&new, "eu", "Active")));
    let seal = |namespace: &str, flags: &[&str]| {
        sandbox.write("tree/prod/secret.yaml", secret(namespace));
        sandbox.run(&[&["seal", "tree/prod/secret.yaml"], flags].concat())
    };
    for (namespace, flags) in [
        ("", &[][..]),
        ("", &["-n", "shop"]),
        ("  namespace: shop\n", &[]),
        ("  namespace: shop\n", &["-n", "shop"]),
        ("  namespace: \"\"\n", &[]),
    ] {
        let run = seal(namespace, flags);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains("  namespace: shop\n"), "{}", run.stdout);
        let inspected = sandbox.run_with_input(&["inspect"], run.stdout.as_bytes()).stdout;
        assert!(inspected.contains("shop"), "{inspected}");
    }
    for (namespace, flags, message) in [
        (
            "  namespace: prod\n",
            &[][..],
            "error: tree/prod/secret.yaml: document 1, line 5: metadata.namespace: the manifest names prod, but environment prod of tree/bulla.yaml names shop\nhint: correct bulla.yaml, or correct the manifest\n",
        ),
        (
            "",
            &["-n", "prod"],
            "error: -n names namespace prod, but environment prod of tree/bulla.yaml names shop\nhint: leave -n out, or correct bulla.yaml\n",
        ),
        (
            "  namespace: prod\n",
            &["-n", "prod"],
            "error: -n names namespace prod, but environment prod of tree/bulla.yaml names shop\nhint: leave -n out, or correct bulla.yaml\n",
        ),
        (
            "  namespace: shop\n",
            &["-n", "prod", "-r", &new],
            "error: tree/prod/secret.yaml: document 1, line 5: metadata.namespace: the manifest names shop, but -n names prod\nhint: leave -n out, or correct the manifest\n",
        ),
    ] {
        let run = seal(namespace, flags);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        assert_eq!(run.stderr, message);
    }
    // bulla.yaml names the namespace of an environment, not of a recipient.
    let run = seal("", &["-r", &new]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains("scope strict needs a namespace, and none is named"),
        "{}",
        run.stderr
    );

    // The same is true when a file is rekeyed whose manifest names none.
    sandbox.write("tree/bulla.yaml", config(&pin(&old, "eu", "Active")));
    let sealed = seal("", &[]).stdout.replacen("  namespace: shop\n", "", 1);
    sandbox.write("tree/prod/secret.yaml", &sealed);
    fs::remove_file(sandbox.path("tree/prod/db.yaml")).unwrap();
    sandbox.write("tree/bulla.yaml", config(&pin(&new, "eu", "Active")));
    let rekey = ["rekey", "-i", "old.txt", "tree"];
    let run = sandbox.run(&[&rekey[..], &["-n", "prod"]].concat());
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.starts_with("error: -n names namespace prod, but environment prod"),
        "{}",
        run.stderr
    );
    let rekeyed = "tree/prod/secret.yaml: 1 value rekeyed\n";
    assert_eq!(sandbox.done(&rekey), rekeyed);
    let elsewhere = config(&pin(&old, "eu", "Active")).replace("shop", "prod");
    sandbox.write("tree/bulla.yaml", elsewhere);
    let run = sandbox.run(&["rekey", "-i", "new.txt", "tree"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("tree/prod/secret.yaml"), "{}", run.stderr);
}

#[test]
fn pinning_needs_a_file_an_environment_and_a_cluster() {
    let (sandbox, [_, new]) = repository();
    let fetch = |args: &[&str], folder: &str| {
        let mut command = sandbox.command(&[&["keys", "fetch", "--environment"], args].concat());
        let output = command.current_dir(sandbox.path(folder)).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = "error: no bulla.yaml at the root of a Git work tree here\nhint: to write one, run bulla init; for another file, pass --config\n";
    assert_eq!(fetch(&["prod"], "tree/prod"), error);
    let config = format!("{HEAD}{}", pin(&new, "eu", "Active"));
    sandbox.write("tree/bulla.yaml", &config);
    assert!(
        fetch(&["dev"], "tree/prod")
            .ends_with("/bulla.yaml has no environment dev\nhint: it has: prod\n")
    );
    assert!(
        fetch(&["prod", "--yes", "--kubeconfig", "nowhere"], "tree")
            .starts_with("error: kubeconfig nowhere does not exist")
    );
    assert!(fetch(&["prod", "-o", "x"], "tree").starts_with("error: the argument"));
    assert_eq!(sandbox.read("tree/bulla.yaml"), config);
}

#[test]
fn a_file_from_elsewhere_is_sealed_only_to_the_pins_of_the_repository() {
    let (sandbox, elsewhere) = (Sandbox::with_keys(), Sandbox::new());
    fs::create_dir(sandbox.path(".git")).unwrap();
    let recipient = sandbox.read("x25519.pub");
    let recipient = recipient.lines().find(|line| line.starts_with("age1")).unwrap();
    sandbox.write(
        "bulla.yaml",
        format!(
            "environments:\n  prod:\n    paths: [prod/**]\n    recipients:\n    - recipient: {recipient}\n      holder: eu\n      state: Active\n      fetched: 2026-11-21\n"
        ),
    );
    elsewhere.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: one}\n",
    );
    let file = elsewhere.path("secret.yaml").display().to_string();
    let run = sandbox.run(&["seal", &file]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("or pass --environment"), "{}", run.stderr);
    assert!(sandbox.done(&["seal", &file, "-e", "prod"]).contains("kind: SealedSecret"));
}
