//! Bitnami's values and keys: which ones open, which do not, and with which messages.

use anyhow::{Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::site::{DB, Site, key, keys, one, pkcs8, sealed, theirs};

const NAMESPACE_WIDE: &str =
    "  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: \"true\"\n";
const CLUSTER_WIDE: &str = "  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: \"true\"\n";

#[test]
fn every_scope_opens_to_the_same_bytes() -> Result<()> {
    let site = Site::new()?;
    let [key, ..] = keys()?;
    site.write("key.pem", key)?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = vec![b'x'; 100_000];
    let values: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("text", "hunter2 \u{e4}\n".as_bytes()),
        ("every.byte", &every_byte),
        ("large", &large),
        ("_zeros", &[0; 3]),
    ];
    for (scope, label, annotations) in [
        ("strict", "prod/db", ""),
        ("namespace", "prod", NAMESPACE_WIDE),
        ("cluster", "", CLUSTER_WIDE),
    ] {
        let requests: Vec<_> =
            values.iter().map(|(_, value)| (key.as_str(), label, *value)).collect();
        let texts = sealed(&requests)?;
        let texts: Vec<_> =
            values.iter().zip(&texts).map(|((name, _), text)| (*name, text.as_str())).collect();
        site.write("db.yaml", theirs(&format!("{DB}{annotations}"), &texts, ""))?;
        let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
        ensure!(run.code == 0, "{scope}: {}", run.stderr);
        ensure!(
            run.stdout
                == format!(
                    "db.yaml: 1 object migrated\n  prod/db: 5 values from bitnami, scope {scope}\n"
                )
        );
        ensure!(
            run.stderr == "1 file, 1 object from other tools: 1 migrated with 5 values\n",
            "{}",
            run.stderr
        );
        let opened = site.values("db.yaml")?;
        ensure!(opened.len() == values.len());
        for (name, value) in values {
            ensure!(opened[name] == value, "{scope}: {name}");
        }
        site.done(&["lint", "db.yaml"])?;
        ensure!(!site.read("db.yaml")?.contains("bitnami"), "{scope}");
        // The scope is unchanged, as shown by where else the value opens.
        let text = site.read("db.yaml")?;
        for (from, to, opens) in [
            ("name: db", "name: other", scope != "strict"),
            ("namespace: prod", "namespace: dev", scope == "cluster"),
        ] {
            site.write("moved.yaml", text.replacen(from, to, 1))?;
            let run = site.run(&["unseal", "-i", "identity.txt", "moved.yaml"])?;
            ensure!((run.code == 0) == opens, "{scope}, {to}: {}", run.stderr);
        }
    }
    Ok(())
}

#[test]
fn an_object_without_a_namespace_gets_the_given_one() -> Result<()> {
    let site = Site::new()?;
    site.write("key.pem", &keys()?[0])?;
    let strict = theirs("  name: db\n", &[("a", &one("prod/db", "hunter2")?)], "");
    site.write("db.yaml", &strict)?;
    let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
    ensure!(run.code == 1 && run.stderr.contains("the namespace is missing"), "{}", run.stderr);
    ensure!(run.stderr.contains("with -n"), "{}", run.stderr);
    let run = site.migrate(&["--from-key", "key.pem", "-n", "prod", "db.yaml"])?;
    ensure!(run.code == 0, "{}", run.stderr);
    let text = site.read("db.yaml")?;
    site.write("db.yaml", text.replace("  name: db\n", DB))?;
    ensure!(site.values("db.yaml")?["a"] == b"hunter2");

    site.write(
        "wide.yaml",
        theirs(&format!("  name: db\n{CLUSTER_WIDE}"), &[("a", &one("", "hunter2")?)], ""),
    )?;
    let run = site.migrate(&["--from-key", "key.pem", "wide.yaml"])?;
    ensure!(run.code == 0, "{}", run.stderr);
    Ok(())
}

/// The output of `kubectl get secret -l sealedsecrets.bitnami.com/sealed-secrets-key -o yaml`.
fn backup(keys: &[&str]) -> String {
    let mut list = String::from("apiVersion: v1\nitems:\n");
    for (number, key) in keys.iter().enumerate() {
        list.push_str(&format!(
            "- apiVersion: v1\n  data:\n    tls.crt: {}\n    tls.key: {}\n  kind: Secret\n  metadata:\n    creationTimestamp: \"2026-01-0{}T00:00:00Z\"\n    generateName: sealed-secrets-key\n    labels:\n      sealedsecrets.bitnami.com/sealed-secrets-key: active\n    name: sealed-secrets-key{number}\n    namespace: kube-system\n    resourceVersion: \"{number}\"\n    uid: 5e0d0c2a-0000-4000-8000-00000000000{number}\n  type: kubernetes.io/tls\n",
            BASE64_STANDARD.encode("ignored"),
            BASE64_STANDARD.encode(key),
            number + 1,
        ));
    }
    list + "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
}

#[test]
fn keys_are_read_as_pem_and_as_a_backup() -> Result<()> {
    let site = Site::new()?;
    let [first, second, third] = keys()?;
    let values = sealed(&[
        (first, "prod/db", b"one"),
        (second, "prod/db", b"two"),
        (third, "prod/db", b"three"),
    ])?;
    let object = theirs(DB, &[("a", &values[0]), ("b", &values[1]), ("c", &values[2])], "");
    site.write("1.pem", first)?;
    site.write("2.pem", pkcs8(second)?)?;
    site.write("3.pem", third)?;
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    site.write("all.pem", format!("a text before\n{first}{certificate}{}{third}", pkcs8(second)?))?;
    site.write(
        "windows.pem",
        [first, second, third].map(|key| key.replace('\n', "\r\n")).concat(),
    )?;
    site.write("backup.yaml", backup(&[first, "not a key", second, third, first]))?;
    site.write("2.json", format!(r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"k"}},"stringData":{{"tls.key":{:?}}}}}"#, pkcs8(second)?))?;
    for files in [
        &["1.pem", "2.pem", "3.pem"][..],
        &["3.pem", "2.json", "1.pem", "1.pem"],
        &["all.pem"],
        &["windows.pem"],
        &["backup.yaml"],
    ] {
        site.write("db.yaml", &object)?;
        let args: Vec<_> =
            files.iter().flat_map(|file| ["--from-key", *file]).chain(["db.yaml"]).collect();
        let run = site.migrate(&args)?;
        ensure!(run.code == 0, "{files:?}: {}", run.stderr);
        let opened = site.values("db.yaml")?;
        ensure!([&opened["a"], &opened["b"], &opened["c"]] == [&b"one"[..], b"two", b"three"]);
        let is_reported = run.stderr.contains("warning: backup.yaml: document 1, item 2, line ");
        ensure!(is_reported == (files == ["backup.yaml"]), "{}", run.stderr);
        ensure!(
            !is_reported
                || run.stderr.contains(
                    "sealed-secrets-key1: tls.key is not a private RSA key; the Secret is skipped"
                ),
            "{}",
            run.stderr
        );
    }
    site.write("db.yaml", &object)?;
    let run = site.run_with_input(
        &["migrate", "-R", "recipient.txt", "--from-key", "-", "db.yaml"],
        backup(&[first, second, third]).as_bytes(),
    )?;
    ensure!(run.code == 0, "{}", run.stderr);
    Ok(())
}

#[test]
fn a_file_without_a_key_is_refused() -> Result<()> {
    let site = Site::new()?;
    let [first, ..] = keys()?;
    let object = theirs(DB, &[("a", &one("prod/db", "hunter2")?)], "");
    site.write("db.yaml", &object)?;
    let half = &first[..first.len() / 2];
    for (content, told) in [
        ("", "no private RSA key found"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "no private RSA key found",
        ),
        (half, "a private key is damaged"),
        (&first.replacen("MII", "MIJ", 1), "a private key is damaged"),
        (&first.replace("RSA PRIVATE", "PRIVATE"), "a private key is damaged"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "protected by a passphrase",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "protected by a passphrase",
        ),
        (&backup(&["not a key"]), "no private RSA key found"),
        ("apiVersion: v1\nkind: List\nitems: [\n", "not valid YAML"),
    ] {
        site.write("key.pem", content)?;
        let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
        ensure!(run.code == 2 && run.stderr.contains(told), "{told}: {}", run.stderr);
        ensure!(!run.stderr.contains("MII"), "{}", run.stderr);
    }
    let run = site.migrate(&["db.yaml"])?;
    ensure!(run.code == 1 && run.stderr.contains("--from-key"), "{}", run.stderr);
    ensure!(site.read("db.yaml")? == object);
    Ok(())
}

#[test]
fn a_value_for_another_key_or_place_is_distinguished_from_a_damaged_one() -> Result<()> {
    let site = Site::new()?;
    let [first, second, _] = keys()?;
    site.write("key.pem", first)?;
    let larger = key(3072)?;
    let value = b"correct horse";
    let texts = sealed(&[
        (first, "prod/db", value),
        (second, "prod/db", value),
        (&larger, "prod/db", value),
        (first, "prod/other", value),
        (first, "", value),
        (first, "prod", value),
    ])?;
    let whole = BASE64_STANDARD.decode(&texts[0])?;
    let changed = |offset: usize| {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        BASE64_STANDARD.encode(bytes)
    };
    let cut = |length: usize| BASE64_STANDARD.encode(&whole[..length]);
    let rsa = 2 + 256;
    let no_key = "none of the keys opens it: it is sealed to another key or for another place, or it is damaged";
    let behind = "damaged: its session key opens, but the value does not";
    let short = "damaged: it ends too early";
    for (what, text, told) in [
        ("another key", texts[1].clone(), no_key),
        ("a longer key", texts[2].clone(), "sealed to a key of 3072 bits"),
        ("another name", texts[3].clone(), no_key),
        (
            "cluster-wide",
            texts[4].clone(),
            "it is sealed cluster-wide, but the annotations say strict",
        ),
        (
            "namespace-wide",
            texts[5].clone(),
            "it is sealed namespace-wide, but the annotations say strict",
        ),
        ("high length", changed(0), "sealed to a key of "),
        ("low length", changed(1), "sealed to a key of 2056 bits"),
        ("first of RSA", changed(2), no_key),
        ("last of RSA", changed(rsa - 1), no_key),
        ("first of the value", changed(rsa), behind),
        ("last of the value", changed(rsa + value.len() - 1), behind),
        ("first of the tag", changed(rsa + value.len()), behind),
        ("last of the tag", changed(whole.len() - 1), behind),
        ("nothing", String::new(), short),
        ("one byte", cut(1), short),
        ("the length", cut(2), short),
        ("half of RSA", cut(100), short),
        ("RSA alone", cut(rsa), short),
        ("half a tag", cut(rsa + 15), short),
        ("all but a byte", cut(whole.len() - 1), behind),
        ("no base64", texts[0].replacen('A', "?", 1), "not base64"),
        ("half of its base64", texts[0][..101].into(), "not base64"),
    ] {
        let object = theirs(DB, &[("good", &texts[0]), ("bad", &format!("{text:?}"))], "");
        site.write("db.yaml", &object)?;
        let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
        let place = "error: db.yaml: document 1, line 9: prod/db: key bad: ";
        let told_high = what == "high length" && run.stderr.contains(short);
        ensure!(run.code == 1 && run.stderr.contains(place), "{what}: {}", run.stderr);
        ensure!(run.stderr.contains(told) || told_high, "{what}: {}", run.stderr);
        ensure!(!run.stderr.contains("key good"), "{what}: {}", run.stderr);
        ensure!(
            run.stderr.ends_with(
                "1 file, 1 object from other tools: 0 migrated with 0 values; 1 file unchanged\n"
            ),
            "{what}: {}",
            run.stderr
        );
        ensure!(site.read("db.yaml")? == object, "{what}: the file was changed");
        ensure!(!format!("{}{}", run.stdout, run.stderr).contains("horse"), "{what}");
    }
    Ok(())
}

#[test]
fn a_scope_named_only_in_the_template_is_found() -> Result<()> {
    let site = Site::new()?;
    site.write("key.pem", &keys()?[0])?;
    let template = "  template:\n    metadata:\n      annotations:\n        sealedsecrets.bitnami.com/cluster-wide: \"true\"\n";
    for (label, which) in [("", "cluster-wide"), ("prod/db", "strict")] {
        site.write("db.yaml", theirs(DB, &[("a", &one(label, "hunter2")?)], template))?;
        let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
        let note = format!(
            "its annotations say strict, those of its template say cluster-wide; the values are {which}"
        );
        ensure!(run.code == 0 && run.stderr.contains(&note), "{}", run.stderr);
        ensure!(site.values("db.yaml")?["a"] == b"hunter2");
    }
    let mixed = [("a", &one("prod/db", "x")?[..]), ("b", &one("", "y")?[..])];
    site.write("db.yaml", theirs(DB, &mixed, template))?;
    let run = site.migrate(&["--from-key", "key.pem", "db.yaml"])?;
    ensure!(run.code == 1 && run.stderr.contains("for different scopes"), "{}", run.stderr);
    Ok(())
}
