//! `bulla lint --cluster`: checks values by the state of their keys in a cluster.

use anyhow::Result;
use bulla_crds::State;
use bulla_sealing::Identity;

use crate::place::{Place, Says, identity};

#[test]
fn values_are_checked_by_the_keys_of_the_cluster() -> Result<()> {
    let place = Place::new("keys-lint")?;
    let [held, retired, revoked, missing, unknown] =
        [identity()?, identity()?, identity()?, identity()?, identity()?];
    place.declare(&held, "eu", State::Active, Says::Held, 4)?;
    place.declare(&retired, "eu", State::Retired, Says::Held, 3)?;
    place.declare(&revoked, "eu", State::Revoked, Says::Held, 2)?;
    place.declare(&missing, "eu", State::Retired, Says::Missing, 1)?;
    let seal = |name: &str, to: &Identity| -> Result<()> {
        let recipient = to.recipient();
        let line = format!(
            "printf x | bulla create {name} -n shop -r {recipient} --from-file a=- -o {name}.yaml"
        );
        place.shell.run(&line).map(drop)
    };
    for (name, to) in [
        ("held", &held),
        ("retired", &retired),
        ("revoked", &revoked),
        ("missing", &missing),
        ("unknown", &unknown),
    ] {
        seal(name, to)?;
    }
    let cluster = format!("--cluster --controller-namespace {}", place.namespace);
    let run = place.bulla(&format!("lint {cluster} --format concise"))?;
    assert_eq!(run.code, 1, "{}", run.stderr);
    let found: Vec<_> = run
        .stdout
        .lines()
        .filter_map(|line| Some((line.split_once(".yaml:")?.0, line.rsplit_once(" [")?.1)))
        .collect();
    assert_eq!(
        found,
        [
            ("missing", "retired-key]"),
            ("missing", "key-not-held]"),
            ("retired", "retired-key]"),
            ("revoked", "revoked-key]"),
            ("unknown", "unknown-key]"),
        ],
        "{}",
        run.stdout
    );
    // Without --cluster, no cluster is asked.
    let run = place.bulla("lint")?;
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    Ok(())
}
