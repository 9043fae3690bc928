//! Whole trees of files.

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::site::{DB, Site, keys, one, sealed, theirs};

const FILES: usize = 200;

/// 200 files in two environments of a repository. Each environment has its own recipient.
fn repository() -> Result<Site> {
    let site = Site::new()?;
    let [first, second, third] = keys()?;
    site.write("key.pem", [first, second, third].map(String::as_str).concat())?;
    let mut config = String::from("environments:\n");
    for name in ["dev", "prod"] {
        let file = format!("{name}.txt");
        let recipient = site.done(&["keys", "generate", "--type", "x25519", "-o", &file])?;
        config.push_str(&format!(
            "  {name}:\n    paths: [{name}/**]\n    recipients:\n      - recipient: {}\n        holder: {name}\n        state: Active\n        fetched: 2026-11-21\n",
            recipient.trim()
        ));
    }
    site.write("tree/.git/none", "")?;
    site.write("tree/bulla.yaml", config)?;
    site.write("tree/prod/other.yaml", "a: [values of a chart, bitnami.com]\n")?;
    site.write("tree/prod/chart.yaml", "{{ if bitnami.com }}\n")?;
    let all = [first, second, third];
    let labels: Vec<_> = (0..FILES).map(|number| format!("shop/s{number}")).collect();
    let requests: Vec<_> = (0..FILES)
        .flat_map(|number| [(number, "user"), (number, "password")])
        .map(|(number, value)| {
            (all[number % 3].as_str(), labels[number].as_str(), value.as_bytes())
        })
        .collect();
    for (number, values) in sealed(&requests)?.chunks(2).enumerate() {
        let metadata = format!("  name: s{number}\n  namespace: shop\n");
        let object = theirs(&metadata, &[("user", &values[0]), ("password", &values[1])], "");
        let environment = ["dev", "prod"][number % 2];
        site.write(&format!("tree/{environment}/{number:03}.yaml"), object)?;
    }
    Ok(site)
}

fn files(site: &Site) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for folder in ["tree/dev", "tree/prod"] {
        for entry in fs::read_dir(site.path(folder))? {
            let path = entry?.path();
            let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
            files.push((format!("{folder}/{name}"), fs::read(path)?));
        }
    }
    files.sort();
    Ok(files)
}

#[test]
fn a_tree_is_migrated_except_for_invalid_files() -> Result<()> {
    let site = repository()?;
    let two = format!(
        "{}---\n{}",
        site.read("tree/prod/007.yaml")?,
        theirs("  name: b\n  namespace: shop\n", &[("a", &one("shop/c", "x")?)], "")
    );
    site.write("tree/prod/007.yaml", &two)?;
    site.write("tree/prod/broken.yaml", "apiVersion: bitnami.com/v1alpha1\nkind: [\n")?;
    site.write("tree/elsewhere/db.yaml", theirs(DB, &[("a", &one("prod/db", "x")?)], ""))?;
    let before = files(&site)?;

    let dry = site.run(&["migrate", "--dry-run", "--from-key", "key.pem", "tree"])?;
    ensure!(dry.code == 1 && files(&site)? == before, "{}", dry.stderr);

    let started = Instant::now();
    let run = site.run(&["migrate", "--from-key", "key.pem", "tree"])?;
    println!("{FILES} files with two values each: {:?}", started.elapsed());
    ensure!(run.code == 1, "{}", run.stderr);
    ensure!(run.stdout == dry.stdout.replace("would be migrated", "migrated"));
    ensure!(run.stdout.lines().count() == 2 * (FILES - 1), "{}", run.stdout);
    for told in [
        "error: tree/prod/007.yaml: document 2, line 18: shop/b: key a: none of the keys opens it",
        "error: tree/prod/broken.yaml: document 1, line 3, column 1: not valid YAML",
        "hint: it mentions bitnami.com/v1alpha1, so it is not skipped",
        "error: tree/elsewhere/db.yaml: no environment of tree/bulla.yaml covers this file",
        "205 files, 202 objects from other tools: 199 migrated with 398 values; 3 files unchanged",
    ] {
        ensure!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    for (name, old) in before {
        let is_left = ["007", "broken", "other", "chart"].iter().any(|left| name.contains(left));
        let new = fs::read(site.path(&name))?;
        ensure!((new == old) == is_left, "{name}");
        if !is_left {
            let identity = if name.contains("/dev/") { "dev.txt" } else { "prod.txt" };
            site.done(&["unseal", "--check", "-i", identity, &name])?;
        }
    }
    ensure!(files(&site)?.len() == FILES + 3, "something was left behind");
    let run = site.run(&["migrate", "--from-key", "key.pem", "tree/dev"])?;
    ensure!(run.code == 0 && run.stderr.contains("nothing to migrate"), "{}", run.stderr);
    Ok(())
}

#[test]
fn the_report_is_also_json() -> Result<()> {
    let site = Site::new()?;
    site.write("key.pem", &keys()?[0])?;
    let template = "  template: {metadata: {name: x}}\n";
    site.write("good.yaml", theirs(DB, &[("a", &one("prod/db", "x")?)], template))?;
    site.write("bad.yaml", theirs(DB, &[("a", &one("prod/c", "x")?)], ""))?;
    let run =
        site.migrate(&["--from-key", "key.pem", "--format", "json", "good.yaml", "bad.yaml"])?;
    ensure!(run.code == 1, "{}", run.stderr);
    let report: Value = serde_json::from_str(&run.stdout)?;
    let changed = &report["changed"][0];
    ensure!(changed["file"] == "good.yaml" && changed["objects"][0]["keys"][0] == "a");
    ensure!(
        changed["objects"][0]["scope"] == "strict" && changed["objects"][0]["from"] == "bitnami"
    );
    ensure!(changed["notes"][0]["line"] == 1 && changed["notes"][0]["object"] == "prod/db");
    let refused = &report["refused"][0];
    ensure!(
        refused["file"] == "bad.yaml" && refused["key"] == "a" && refused["line"] == 8,
        "{refused}"
    );
    ensure!(report["migrated"] == 1 && report["values"] == 1 && report["objects"] == 2);
    Ok(())
}
