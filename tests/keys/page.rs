//! The page on `bulla.yaml`: its commands do what the page claims, and its example is valid.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulla_crds::State;
use bulla_sealing::{Identity, KeyType};
use bulla_tests::{Controller, Step, steps};

use crate::place::{Place, Says, kubeconfig, plane, second_plane};

const PAGE: &str = include_str!("../../docs/bulla-yaml.md");

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: b}\n";

/// The page's example file, with keys filled in.
fn example() -> Result<String> {
    let (_, rest) = PAGE.split_once("```yaml\n").context("the page has lost its file")?;
    let (example, _) = rest.split_once("```").context("the page has lost its file")?;
    let mut text = String::new();
    for (number, part) in example.split("age1pq1…").enumerate() {
        if number > 0 {
            text.push_str(Identity::generate(KeyType::Hybrid)?.recipient().as_str());
        }
        text.push_str(part);
    }
    Ok(text)
}

#[test]
fn the_page_on_bulla_yaml_is_true() -> Result<()> {
    let namespace = Controller::NAMESPACE;
    let place = Place::beside(plane()?, namespace)?;
    let other = Place::beside(second_plane()?, namespace)?;
    for (place, holder) in [(&place, "prod-eu"), (&other, "prod-us")] {
        let identity = Identity::generate(KeyType::Hybrid)?;
        place.declare(&identity, holder, State::Active, Says::Held, 1)?;
    }
    let clusters = [("prod-eu", plane()?.admin()), ("prod-us", second_plane()?.admin())];
    let config = place.path("../kubeconfig");
    fs::write(&config, kubeconfig(&clusters)?)?;
    let run = |line: &str| {
        let output = place.shell.command(line).env("KUBECONFIG", &config).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{line}: {said}");
        Ok(said)
    };
    let mut last = String::new();
    let mut count = 0;
    for step in steps(PAGE) {
        let Step::Run(line) = step else { continue };
        if line.starts_with("bulla keys fetch --all") {
            ensure!(last.contains("holder prod-us in environment prod"), "{last}");
            fs::create_dir_all(place.path("clusters/prod"))?;
            fs::write(place.path("clusters/prod/secret.yaml"), SECRET)?;
            run("bulla seal clusters/prod/secret.yaml -o clusters/prod/db.yaml")?;
        }
        last = run(line)?;
        count += 1;
    }
    ensure!(count >= 6, "the page has lost its commands");
    // The page's example has the same shape as the written file.
    let shape = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let shape =
            |line: &str| match line.split_once("recipient: ").or(line.split_once("fetched: ")) {
                Some((before, _)) => before.to_owned(),
                None => line.to_owned(),
            };
        lines.map(shape).collect::<Vec<_>>()
    };
    let example = example()?;
    ensure!(shape(&fs::read_to_string(place.path("bulla.yaml"))?) == shape(&example), "{example}");
    // The example can be read.
    fs::write(place.path("example.yaml"), &example)?;
    fs::write(place.path("clusters/prod/secret.yaml"), SECRET)?;
    let sealed = place.shell.run(
        "bulla seal --config example.yaml clusters/prod/secret.yaml | bulla inspect --format json",
    )?;
    for recipient in example.lines().take(17).filter_map(|line| line.split_once("recipient: ")) {
        let recipient: bulla_sealing::Recipient = recipient.1.parse()?;
        ensure!(sealed.contains(&recipient.fingerprint().to_string()), "{sealed}");
    }
    ensure!(sealed.contains("\"shop\""), "{sealed}");
    Ok(())
}
