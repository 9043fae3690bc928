//! `bulla rekey` through a cluster. The test answers instead of the controller, so that it can also give wrong answers.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bulla_crds::{State, decode_value, encode_value};
use bulla_sealing::{Identity, Keyring, Recipients, SealedHeader, ValueAddress};
use serde_json::{Value, json};

use crate::place::{Place, Run, Says, identity};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: NAMESPACE}\nstringData: {a: secret a, b: secret b}\n";

/// Makes a Rekey's status from its spec.
type Answer<'a> = dyn Fn(&Value) -> Result<Value> + Sync + 'a;

/// A namespace and a file `db.yaml`, whose values are sealed to a key that its holder has renewed since.
fn place(namespace: &str) -> Result<(Place, Identity, Identity)> {
    let place = Place::new(namespace)?;
    let (old, new) = (identity()?, identity()?);
    place.declare(&old, "eu", State::Retired, Says::Held, 1)?;
    place.declare(&new, "eu", State::Active, Says::Held, 2)?;
    fs::write(place.path("secret.yaml"), SECRET.replace("NAMESPACE", namespace))?;
    place.shell.run(&format!("bulla seal -r {} secret.yaml > db.yaml", old.recipient()))?;
    for (name, identity) in [("old.txt", &old), ("new.txt", &new)] {
        fs::write(place.path(name), &**identity.to_secret_string())?;
    }
    Ok((place, old, new))
}

fn rekey(place: &Place, flags: &str) -> Result<Run> {
    place.bulla(&format!("rekey {flags} --controller-namespace {} db.yaml", place.namespace))
}

/// Runs the command, and answers its Rekey with this status.
fn answered(place: &Place, status: impl Fn(&Value) -> Result<Value> + Sync) -> Result<Run> {
    thread::scope(|scope| {
        let run = scope.spawn(|| rekey(place, ""));
        let start = Instant::now();
        loop {
            let rekeys = place.list("rekeys")?;
            if let Some(rekey) = rekeys.first() {
                let name = rekey["metadata"]["name"].as_str().context("no name")?;
                place.patch_status("rekey", name, &status(&rekey["spec"])?)?;
                break;
            }
            if run.is_finished() || start.elapsed() > Duration::from_secs(60) {
                bail!("no Rekey came");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let run = run.join().ok().context("panicked")??;
        ensure!(place.list("rekeys")?.is_empty(), "the Rekey is still there");
        Ok(run)
    })
}

fn conditions(status: &str, reason: &str, message: &str) -> Value {
    json!([{
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }])
}

/// The answer of a controller that holds `keyring`.
fn headers(spec: &Value, namespace: &str, keyring: &Keyring, to: &Recipients) -> Result<Value> {
    let name = spec["sealedSecret"].as_str().context("no name")?;
    let headers = spec["headers"].as_object().context("no headers")?;
    let headers = headers.iter().map(|(key, header)| {
        let file = decode_value(header.as_str().context("no text")?)?;
        let (header, rest) = SealedHeader::parse(&file)?;
        ensure!(rest.is_empty(), "a payload came along");
        let new = header.rekey(&ValueAddress::new(namespace, name, key)?, keyring, to)?;
        Ok((key.clone(), Value::from(encode_value(&new))))
    });
    Ok(Value::Object(headers.collect::<Result<_>>()?))
}

#[test]
fn new_headers_come_from_the_cluster_and_open_only_with_the_new_key() -> Result<()> {
    let (place, old, new) = place("rekey-done")?;
    let to_new = Recipients::new(vec![new.recipient()])?;
    let keyring = Keyring::from_iter([old]);
    let run = answered(&place, |spec| {
        let headers = headers(spec, &place.namespace, &keyring, &to_new)?;
        Ok(json!({"conditions": conditions("True", "Rekeyed", ""), "headers": headers}))
    })?;
    ensure!(run.code == 0 && run.stdout == "db.yaml: 2 values rekeyed\n", "{}", run.stderr);
    place.shell.run("bulla unseal --check -i new.txt db.yaml")?;
    ensure!(place.shell.run("bulla unseal -i old.txt db.yaml").is_err());
    let run = rekey(&place, "")?;
    ensure!(run.code == 0 && run.stderr.starts_with("nothing needs a rekey"), "{}", run.stderr);
    Ok(())
}

#[test]
fn a_refusal_or_a_wrong_answer_leaves_the_file_unchanged() -> Result<()> {
    let (place, old, _) = place("rekey-refused")?;
    let before = fs::read(place.path("db.yaml"))?;
    let to_old = Recipients::new(vec![old.recipient()])?;
    let keyring = Keyring::from_iter([old]);
    let refused = |_: &Value| {
        let message = "damaged: it was changed after it was sealed";
        Ok(json!({"conditions": conditions("False", "Damaged", message), "refusedKey": "b"}))
    };
    let for_others = |spec: &Value| {
        let headers = headers(spec, &place.namespace, &keyring, &to_old)?;
        Ok(json!({"conditions": conditions("True", "Rekeyed", ""), "headers": headers}))
    };
    let none = |_: &Value| Ok(json!({"conditions": conditions("True", "Rekeyed", "")}));
    let cases: [(&Answer, &str); 3] = [
        (
            &refused,
            "line 9: rekey-refused/db: key b: damaged: it was changed after it was sealed\n",
        ),
        (
            &for_others,
            "line 8: rekey-refused/db: key a: the new header is not for the expected recipients\n",
        ),
        (&none, "line 8: rekey-refused/db: key a: the cluster returned no new header for it\n"),
    ];
    for (status, message) in cases {
        let run = answered(&place, status)?;
        ensure!(run.code == 1 && run.stdout.is_empty(), "{message}: {}", run.stderr);
        let message = format!("error: db.yaml: document 1, {message}");
        ensure!(run.stderr.starts_with(&message), "{message}: {}", run.stderr);
        ensure!(fs::read(place.path("db.yaml"))? == before);
    }
    Ok(())
}

#[test]
fn an_interrupted_rekey_leaves_nothing_behind() -> Result<()> {
    let (place, ..) = place("rekey-interrupted")?;
    let before = fs::read(place.path("db.yaml"))?;
    for signal in ["-INT", "-TERM"] {
        let line = "exec bulla rekey --controller-namespace rekey-interrupted db.yaml";
        let mut child = place.shell.command(line).spawn()?;
        let start = Instant::now();
        while place.list("rekeys")?.is_empty() {
            ensure!(child.try_wait()?.is_none(), "it ended before it was interrupted");
            ensure!(start.elapsed() < Duration::from_secs(60), "no Rekey came");
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status()?;
        ensure!(child.wait()?.code().is_none(), "it did not end by the signal");
        ensure!(place.list("rekeys")?.is_empty(), "the Rekey is still there");
        ensure!(fs::read(place.path("db.yaml"))? == before);
    }
    Ok(())
}

#[test]
fn a_user_without_the_right_learns_who_can_grant_it() -> Result<()> {
    let (place, ..) = place("rekey-forbidden")?;
    let reader = place.user(
        "reader",
        &json!([{"apiGroups": ["bulla.dev"], "resources": ["sealingkeys"], "verbs": ["list"]}]),
    )?;
    fs::copy(place.path("db.yaml"), reader.path("db.yaml"))?;
    let run = rekey(&reader, "")?;
    let message = "error: db.yaml: document 1, line 8: rekey-forbidden/db: you may not create Rekeys in namespace rekey-forbidden\nhint: ask an administrator to bind the ClusterRole bulla-rekey to you there";
    ensure!(run.code == 1 && run.stderr.starts_with(message), "{}", run.stderr);
    Ok(())
}

#[test]
fn pins_that_differ_from_the_cluster_are_reported_before_any_request() -> Result<()> {
    let (place, old, new) = place("rekey-pins")?;
    fs::create_dir_all(place.path(".git"))?;
    let pin = |identity: &Identity| {
        format!(
            "environments:\n  prod:\n    paths: ['*.yaml']\n    recipients:\n    - recipient: {}\n      holder: eu\n      state: Active\n      fetched: 2026-11-01\n",
            identity.recipient()
        )
    };
    fs::write(place.path("bulla.yaml"), pin(&old))?;
    let run = rekey(&place, "")?;
    let message = format!(
        "error: db.yaml: document 1, line 8: rekey-pins/db: key a: environment prod does not have the cluster's Active key of holder eu, {}\n",
        new.recipient().fingerprint()
    );
    ensure!(run.code == 1 && run.stderr.starts_with(&message), "{}", run.stderr);
    ensure!(
        run.stderr.contains(
            "hint: check the fingerprint, then run: bulla keys fetch --environment prod --holder eu\n"
        ),
        "{}",
        run.stderr
    );
    place.done("fetch --environment prod --yes")?;
    let run = rekey(&place, "--dry-run -i old.txt")?;
    ensure!(run.code == 0 && run.stdout.contains(" (eu) -> "), "{}{}", run.stdout, run.stderr);
    Ok(())
}
