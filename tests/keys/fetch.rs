//! `bulla keys fetch` and `bulla init --context`.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulla_crds::State;
use bulla_sealing::Identity;

use crate::place::{Place, Says, fingerprint, identity, kubeconfig, plane, second_plane};

const HEAD: &str = "# ours\nenvironments:\n  prod:\n    paths: [prod/**] # all\n";

fn item(identity: &Identity, holder: &str, state: &str) -> String {
    let recipient = identity.recipient();
    format!(
        "      - recipient: {recipient}\n        holder: {holder}\n        state: {state}\n        fetched: \"20"
    )
}

fn comparison(old: &str, new: &Identity) -> String {
    format!("  pinned  {old}\n  new     {}\n", new.recipient().long_fingerprint())
}

#[test]
fn a_clusters_keys_are_pinned_and_renewed_after_a_confirmation() -> Result<()> {
    let place = Place::new("keys-fetch")?;
    let [old, new, recovery] = [identity()?, identity()?, identity()?];
    let old_key = place.declare(&old, "eu", State::Active, Says::Held, 1)?;
    place.declare(&recovery, "recovery", State::Active, Says::OfAnotherHolder, 1)?;
    fs::create_dir_all(place.path(".git"))?;
    let config = place.path("bulla.yaml");
    let read = || fs::read_to_string(&config);
    fs::write(&config, HEAD)?;

    // There is no terminal, so nobody can confirm.
    let run = place.refused("fetch --environment prod", 2, "pass --yes\n")?;
    ensure!(
        run.stderr.starts_with("holder eu in environment prod, shown by context "),
        "{}",
        run.stderr
    );
    ensure!(run.stderr.contains(&comparison("(none)", &old)), "{}", run.stderr);
    ensure!(read()? == HEAD);
    for (typed, code) in [("n", 1), ("", 1), ("yes?", 1), ("y", 0)] {
        ensure!(read()? == HEAD, "{typed}");
        let run = place.typed("fetch --environment prod", typed)?;
        ensure!(run.code == code, "{typed}: {}", run.stdout);
        let (_, shown) = run.stdout.split_once(" [y/N] ").context(run.stdout.clone())?;
        let is_refused = shown.contains("not confirmed, so nothing was done");
        ensure!(is_refused == (code == 1), "{}", run.stdout);
    }

    // The cluster's own key, and another holder's by name.
    let pinned = format!("{HEAD}    recipients:\n{}", item(&old, "eu", "Active"));
    ensure!(read()?.starts_with(&pinned), "{}", read()?);
    place.done("fetch --environment prod --holder recovery --holder eu --yes")?;
    ensure!(read()?.contains(&item(&recovery, "recovery", "Active")), "{}", read()?);
    let before = read()?;
    let run = place.done("fetch --environment prod")?;
    ensure!(run.stderr == "bulla.yaml: these keys are pinned already\n", "{}", run.stderr);
    ensure!(read()? == before);

    // A renewal is pinned wherever the holder is pinned.
    place.set_state(old_key, State::Retired)?;
    place.refused(
        "fetch --environment prod --yes",
        2,
        "holder eu has no Active key in context ",
    )?;
    place.declare(&new, "eu", State::Active, Says::Held, 2)?;
    fs::write(&config, format!("{before}  dev: {{paths: ['dev/**']}}\n"))?;
    let run = place.done("fetch --all --yes")?;
    let long = old.recipient().long_fingerprint();
    ensure!(run.stderr.contains(&comparison(&long, &new)), "{}", run.stderr);
    let after = read()?;
    ensure!(
        after.contains(&item(&old, "eu", "Retired")) && after.contains(&item(&new, "eu", "Active")),
        "{after}"
    );
    ensure!(after.ends_with("  dev: {paths: ['dev/**']}\n"), "{after}");

    // Another cluster, which has other keys.
    let elsewhere = Place::new("keys-fetch-elsewhere")?;
    elsewhere.declare(&identity()?, "eu", State::Active, Says::Held, 1)?;
    fs::create_dir_all(elsewhere.path(".git"))?;
    fs::write(elsewhere.path("bulla.yaml"), &after)?;
    elsewhere.refused(
        "fetch --environment prod --yes",
        2,
        "shows none of the keys pinned for holder eu\nhint: check that this is the right context",
    )?;
    ensure!(fs::read_to_string(elsewhere.path("bulla.yaml"))? == after);
    ensure!(fingerprint(&old) == old_key);
    Ok(())
}

#[test]
fn a_holder_is_required_when_the_cluster_has_several() -> Result<()> {
    let place = Place::new("keys-fetch-holders")?;
    place.declare(&identity()?, "eu", State::Active, Says::Nothing, 1)?;
    place.declare(&identity()?, "us", State::Active, Says::Nothing, 1)?;
    fs::create_dir_all(place.path(".git"))?;
    fs::write(place.path("bulla.yaml"), HEAD)?;
    place.refused(
        "fetch --environment prod --yes",
        2,
        "has keys of several holders: eu, us\nhint: choose one with --holder",
    )?;
    place.refused(
        "fetch --environment prod --holder asia --yes",
        2,
        "holder asia has no Active key in context ",
    )?;
    place.done("fetch --environment prod --holder us --yes")?;
    place.refused(
        "fetch --all --holder eu --yes",
        2,
        "no environment of bulla.yaml pins a key of holder eu\nhint: check that this is the right context",
    )?;
    Ok(())
}

#[test]
fn each_context_shows_the_key_of_its_cluster() -> Result<()> {
    let second = second_plane()?;
    let namespace = "keys-fetch-contexts";
    let place = Place::new(namespace)?;
    second.kubectl(&["create", "namespace", namespace])?;
    let other = Place::beside(second, namespace)?;
    let [eu, us, recovery] = [identity()?, identity()?, identity()?];
    place.declare(&eu, "eu", State::Active, Says::Held, 1)?;
    other.declare(&us, "us", State::Active, Says::Held, 1)?;
    for cluster in [&place, &other] {
        cluster.declare(&recovery, "recovery", State::Active, Says::OfAnotherHolder, 1)?;
    }
    let clusters = [("eu", plane()?.admin()), ("us", second.admin())];
    fs::write(place.path("clusters.kubeconfig"), kubeconfig(&clusters)?)?;
    fs::create_dir_all(place.path(".git"))?;
    let config = place.path("bulla.yaml");
    let text = format!("{HEAD}  dev:\n    paths: [dev/**]\n");
    fs::write(&config, &text)?;
    let read = || fs::read_to_string(&config);
    let both = "--kubeconfig clusters.kubeconfig --context eu --context us";

    let run = place.done(&format!("fetch {both} --environment prod --environment dev --yes"))?;
    for (environment, server, holder, key) in [
        ("prod", plane()?.url(), "eu", &eu),
        ("prod", second.url(), "us", &us),
        ("dev", plane()?.url(), "eu", &eu),
        ("dev", second.url(), "us", &us),
    ] {
        let server = server.trim_start_matches("https://");
        let shown = format!(
            "holder {holder} in environment {environment}, shown by context {holder} at {server}\n{}",
            comparison("(none)", key)
        );
        ensure!(run.stderr.contains(&shown), "{shown}: {}", run.stderr);
    }
    let pinned = read()?;
    for (holder, key) in [("eu", &eu), ("us", &us)] {
        ensure!(pinned.matches(&item(key, holder, "Active")).count() == 2, "{pinned}");
    }
    // A recipients file lists the keys of both clusters once.
    let recipients = place.done(&format!("fetch {both}"))?.stdout;
    for key in [&eu, &us, &recovery] {
        ensure!(recipients.matches(key.recipient().as_str()).count() == 1, "{recipients}");
    }

    // A cluster whose key is not pinned, whatever its own holder is called.
    fs::write(&config, &text)?;
    place.done("fetch --kubeconfig clusters.kubeconfig --context eu --environment prod --holder eu --holder recovery --yes")?;
    let before = read()?;
    for (line, message) in [
        (
            "fetch --kubeconfig clusters.kubeconfig --context us --environment prod --yes",
            "shows none of the keys pinned in environment prod\nhint: check that this is the right context; to seal to one more cluster, pass --holder us\n",
        ),
        (
            "fetch --kubeconfig clusters.kubeconfig --context us --all --yes",
            "no environment of bulla.yaml pins a key of holder us\nhint: check that this is the right context",
        ),
        (
            "fetch --kubeconfig clusters.kubeconfig --context asia --environment prod --yes",
            "the kubeconfig has no context asia\nhint: it has: ",
        ),
    ] {
        place.refused(line, 2, message)?;
        ensure!(read()? == before);
    }
    // A new file starts with the keys of both clusters, once someone has compared them.
    let init = format!(
        "init --config new.yaml {both} --recovery-recipient {} --controller-namespace {namespace}",
        recovery.recipient()
    );
    let run = place.bulla(&init)?;
    ensure!(run.code == 2 && run.stderr.ends_with("pass --yes\n"), "{}", run.stderr);
    for (holder, key) in [("eu", &eu), ("us", &us)] {
        ensure!(run.stderr.contains(&comparison("(none)", key)), "{holder}: {}", run.stderr);
    }
    ensure!(!place.path("new.yaml").exists());
    let run = place.bulla(&format!("{init} --yes"))?;
    ensure!(run.code == 0 && !run.stderr.contains("note: "), "{}", run.stderr);
    let new = fs::read_to_string(place.path("new.yaml"))?;
    for (holder, key) in [("recovery", &recovery), ("eu", &eu), ("us", &us)] {
        ensure!(new.contains(&item(key, holder, "Active")), "{new}");
    }

    // Naming the holder confirms it.
    place.done(
        "fetch --kubeconfig clusters.kubeconfig --context us --environment prod --holder us --yes",
    )?;
    ensure!(read()?.contains(&item(&us, "us", "Active")), "{}", read()?);
    Ok(())
}
