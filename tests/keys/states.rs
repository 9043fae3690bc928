//! `bulla keys activate` and `retire`, for keys that no controller manages.

use anyhow::Result;
use bulla_crds::State;
use serde_json::json;

use crate::place::{Place, Says, fingerprint, identity};

#[test]
fn another_holders_key_is_declared_and_follows_its_predecessor() -> Result<()> {
    let place = Place::new("keys-declare")?;
    let [own, first, second] = [identity()?, identity()?, identity()?];
    place.declare(&own, "eu", State::Active, Says::Held, 1)?;
    let recipient = first.recipient();
    let activate = format!("activate -r {recipient} --holder recovery");
    // A user has to compare the fingerprint, or confirm with --yes.
    let run = place.refused(&activate, 2, "without a terminal, pass --yes\n")?;
    let shown = format!("new key      {}\n", recipient.long_fingerprint());
    assert!(run.stderr.contains(&shown), "{}", run.stderr);
    assert!(place.get("sealingkey", &fingerprint(&first)).is_err());

    let run = place.done(&format!("{activate} --yes"))?;
    assert_eq!(run.stdout, format!("recovery: {} is Active\n", fingerprint(&first)));
    let key = place.get("sealingkey", &fingerprint(&first))?;
    assert_eq!(key["spec"]["recipient"], recipient.as_str());
    assert_eq!(
        (&key["spec"]["holder"], &key["spec"]["state"]),
        (&json!("recovery"), &json!("Active"))
    );
    assert_eq!(key["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    // The same command changes nothing.
    let before = key["metadata"]["resourceVersion"].clone();
    place.done(&format!("{activate} --yes"))?;
    assert_eq!(
        place.get("sealingkey", &fingerprint(&first))?["metadata"]["resourceVersion"],
        before
    );

    let activate = format!("activate -r {} --holder recovery --yes", second.recipient());
    let run = place.done(&activate)?;
    assert!(run.stderr.contains(&recipient.long_fingerprint()), "{}", run.stderr);
    assert_eq!(place.state(fingerprint(&first))?, "Retired");
    assert_eq!(place.state(fingerprint(&second))?, "Active");
    // Back to the first key, which is already declared.
    place.done(&format!("activate {}", fingerprint(&first)))?;
    assert_eq!(place.state(fingerprint(&first))?, "Active");
    assert_eq!(place.state(fingerprint(&second))?, "Retired");
    assert_eq!(place.state(fingerprint(&own))?, "Active");

    for (line, message) in [
        (
            format!("activate -r {} --holder us --yes", second.recipient()),
            "is already declared, for holder recovery",
        ),
        (
            format!("activate -r {} --holder eu --yes", identity()?.recipient()),
            "eu is the cluster's own holder",
        ),
    ] {
        place.refused(&line, 2, message)?;
    }
    Ok(())
}

#[test]
fn a_key_that_could_not_open_values_is_not_activated() -> Result<()> {
    let place = Place::new("keys-activate")?;
    let [active, missing, unjudged, revoked] = [identity()?, identity()?, identity()?, identity()?];
    let active = place.declare(&active, "eu", State::Active, Says::Held, 4)?;
    let missing = place.declare(&missing, "eu", State::Retired, Says::Missing, 3)?;
    let unjudged = place.declare(&unjudged, "eu", State::Pending, Says::Nothing, 2)?;
    let revoked = place.declare(&revoked, "eu", State::Revoked, Says::Nothing, 1)?;
    for (key, message) in [
        (missing, format!("the cluster does not hold the identity of {missing}\nhint: ")),
        (unjudged, format!("the controller has not reported whether it holds {unjudged}\nhint: ")),
        (revoked, format!("key {revoked} is already revoked; revocation is permanent\nhint: ")),
    ] {
        place.refused(&format!("activate {key}"), 2, &message)?;
    }
    assert_eq!(place.state(active)?, "Active");
    let run = place.done(&format!("activate {active}"))?;
    assert_eq!(run.stdout, format!("eu: {active} is Active\n"));

    // No controller completes the handover here, so the command does after a while.
    place.done(&format!("activate {missing} --force"))?;
    assert_eq!((place.state(missing)?, place.state(active)?), ("Active".into(), "Retired".into()));
    let retired = place.get("sealingkey", &active)?;
    assert_eq!(retired["metadata"]["annotations"]["bulla.dev/successor"], missing.to_string());
    Ok(())
}

#[test]
fn an_active_key_is_not_retired_without_a_successor() -> Result<()> {
    let place = Place::new("keys-retire")?;
    let [own, other, pending, revoked] = [identity()?, identity()?, identity()?, identity()?];
    let own = place.declare(&own, "eu", State::Active, Says::Held, 1)?;
    let other = place.declare(&other, "us", State::Active, Says::OfAnotherHolder, 1)?;
    let pending = place.declare(&pending, "eu", State::Pending, Says::Held, 2)?;
    let revoked = place.declare(&revoked, "eu", State::Revoked, Says::Nothing, 2)?;
    place.refused(
        &format!("retire {own} --force"),
        2,
        &format!("key {own} is the Active key of eu\nhint: "),
    )?;
    place.refused(
        &format!("retire {other}"),
        2,
        &format!("key {other} is the Active key of us\nhint: "),
    )?;
    place.refused(
        &format!("retire {revoked}"),
        2,
        &format!("key {revoked} is already revoked; revocation is permanent\n"),
    )?;
    for line in [format!("retire {other} --force"), format!("retire {pending}")] {
        place.done(&line)?;
        let run = place.done(&line)?;
        assert!(
            run.stdout.ends_with("is Retired and still opens existing values\n"),
            "{}",
            run.stdout
        );
    }
    assert_eq!(place.state(own)?, "Active");
    assert_eq!((place.state(other)?, place.state(pending)?), ("Retired".into(), "Retired".into()));
    Ok(())
}
