//! `bulla keys fetch --environment`.

use std::fs;

use anyhow::{Result, ensure};
use bulla_crds::State;

use crate::place::{Place, Says, fingerprint, identity};

const HEAD: &str = "# ours\nenvironments:\n  prod:\n    paths: [prod/**] # all\n";

#[test]
fn a_clusters_keys_are_pinned_and_renewed_by_who_agrees() -> Result<()> {
    let place = Place::new("keys-fetch")?;
    let [old, new, recovery] = [identity()?, identity()?, identity()?];
    let old_key = place.declare(&old, "eu", State::Active, Says::Held, 1)?;
    place.declare(&recovery, "recovery", State::Active, Says::OfAnotherHolder, 1)?;
    fs::create_dir_all(place.path(".git"))?;
    let config = place.path("bulla.yaml");
    let read = || fs::read_to_string(&config);
    fs::write(&config, HEAD)?;

    // Nobody is at a terminal, so nobody agrees.
    let run = place.refused("fetch --environment prod", 2, "agree with --yes\n")?;
    let long = old.recipient().long_fingerprint();
    ensure!(
        run.stderr.contains(&format!("holder eu\n  pinned  (none)\n  new     {long}\n")),
        "{}",
        run.stderr
    );
    ensure!(read()? == HEAD);

    // Its own key, and by name another holder's.
    place.done("fetch --environment prod --yes")?;
    let item = |identity: &bulla_sealing::Identity, holder: &str, state: &str| {
        format!(
            "    - recipient: {}\n      holder: {holder}\n      state: {state}\n",
            identity.recipient()
        )
    };
    ensure!(
        read()?.starts_with(&format!(
            "{HEAD}    recipients:\n{}      fetched: 20",
            item(&old, "eu", "Active")
        )),
        "{}",
        read()?
    );
    place.done("fetch --environment prod --holder recovery --holder eu --yes")?;
    ensure!(read()?.contains(&item(&recovery, "recovery", "Active")), "{}", read()?);
    let before = read()?;
    let run = place.done("fetch --environment prod")?;
    ensure!(
        run.stderr == "bulla.yaml: environment prod has these keys already\n",
        "{}",
        run.stderr
    );
    ensure!(read()? == before);

    // A renewal.
    place.set_state(old_key, State::Retired)?;
    place.refused(
        "fetch --environment prod --yes",
        2,
        "holder eu has no Active key in this cluster\n",
    )?;
    place.declare(&new, "eu", State::Active, Says::Held, 2)?;
    let run = place.done("fetch --environment prod --yes")?;
    ensure!(
        run.stderr.contains(&format!(
            "  pinned  {long}\n  new     {}\n",
            new.recipient().long_fingerprint()
        )),
        "{}",
        run.stderr
    );
    let after = read()?;
    ensure!(
        after.contains(&item(&old, "eu", "Retired")) && after.contains(&item(&new, "eu", "Active")),
        "{after}"
    );

    // Another cluster, whose keys these are not.
    let elsewhere = Place::new("keys-fetch-elsewhere")?;
    elsewhere.declare(&identity()?, "eu", State::Active, Says::Held, 1)?;
    fs::create_dir_all(elsewhere.path(".git"))?;
    fs::write(elsewhere.path("bulla.yaml"), &after)?;
    elsewhere.refused(
        "fetch --environment prod --yes",
        2,
        "the cluster shows none of the keys that are pinned for holder eu\nhint: is it the right context?",
    )?;
    ensure!(fs::read_to_string(elsewhere.path("bulla.yaml"))? == after);
    ensure!(fingerprint(&old) == old_key);
    Ok(())
}

#[test]
fn it_is_said_whose_key_is_meant_when_the_cluster_does_not() -> Result<()> {
    let place = Place::new("keys-fetch-holders")?;
    place.declare(&identity()?, "eu", State::Active, Says::Nothing, 1)?;
    place.declare(&identity()?, "us", State::Active, Says::Nothing, 1)?;
    fs::create_dir_all(place.path(".git"))?;
    fs::write(place.path("bulla.yaml"), HEAD)?;
    place.refused(
        "fetch --environment prod --yes",
        2,
        "the cluster has keys of several holders: eu, us\nhint: name the one that is meant with --holder",
    )?;
    place.refused(
        "fetch --environment prod --holder asia --yes",
        2,
        "holder asia has no Active key in this cluster\n",
    )?;
    place.done("fetch --environment prod --holder us --yes")?;
    Ok(())
}
