//! `bulla keys backup`.

use std::{fs, io::Read, os::unix::fs::PermissionsExt};

use age::armor::ArmoredReader;
use anyhow::{Context, Result, ensure};
use bulla_crds::State;
use bulla_sealing::Identity;
use serde_json::json;

use crate::place::{Place, Says, fingerprint, identity};

/// The contents of an armored file, as another age implementation reads it.
fn opened(place: &Place, file: &str, with: &dyn age::Identity) -> Result<String> {
    let file = fs::read(place.path(file))?;
    ensure!(file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----\n"), "not armored");
    let decryptor = age::Decryptor::new(ArmoredReader::new(&file[..]))?;
    let mut text = String::new();
    decryptor.decrypt([with].into_iter())?.read_to_string(&mut text)?;
    Ok(text)
}

fn for_age(identity: &Identity) -> Result<age::x25519::Identity> {
    let parsed = identity.to_secret_string().parse::<age::x25519::Identity>();
    parsed.map_err(anyhow::Error::msg)
}

fn mode(place: &Place, name: &str) -> Result<u32> {
    Ok(fs::metadata(place.path(name))?.permissions().mode() & 0o777)
}

#[test]
fn backups_are_copied_out_read_back_and_reported() -> Result<()> {
    let place = Place::new("keys-backup")?;
    let [recovery, active, retired, elsewhere] =
        [identity()?, identity()?, identity()?, identity()?];
    place.declare(&active, "eu", State::Active, Says::Held, 2)?;
    place.declare(&retired, "eu", State::Retired, Says::Held, 1)?;
    place.declare(&elsewhere, "us", State::Active, Says::OfAnotherHolder, 1)?;
    place.store_backup(&active, &recovery)?;
    let (a, r) = (fingerprint(&active), fingerprint(&retired));
    fs::write(place.path("recovery.txt"), recovery.to_secret_string().as_bytes())?;

    // One key has no backup. The other backups are written, and the exit code is 1.
    let missing =
        format!("error: cannot back up {r}: the controller has made no encrypted copy\nhint: ");
    let run = place.refused("backup -o out -i recovery.txt", 1, &missing)?;
    let sealed_to = fingerprint(&recovery);
    assert_eq!(run.stdout, format!("out/{a}.age: sealed to {sealed_to}\n"));
    assert_eq!((mode(&place, "out")?, mode(&place, &format!("out/{a}.age"))?), (0o700, 0o600));
    assert_eq!(place.condition(a, "BackedUp")?, "True TakenOut");
    assert_eq!(place.condition(a, "Held")?, "True Held");
    assert_eq!(place.condition(r, "BackedUp")?, "False NotTakenOut");
    let text = opened(&place, &format!("out/{a}.age"), &for_age(&recovery)?)?;
    assert!(text.contains(&*active.to_secret_string()));

    // Now all keys have backups. An equal file is not written again.
    place.store_backup(&retired, &recovery)?;
    let written = |name: &str| fs::metadata(place.path(name))?.modified();
    let before = written(&format!("out/{a}.age"))?;
    place.done("backup -o out")?;
    assert_eq!(written(&format!("out/{a}.age"))?, before);
    assert_eq!(place.condition(r, "BackedUp")?, "True TakenOut");
    assert_eq!(fs::read_dir(place.path("out"))?.count(), 2);

    // A different file stays, because it may be the only backup of another cluster's key.
    fs::write(place.path(&format!("out/{r}.age")), "another")?;
    place.refused("backup -o out", 2, &format!("error: out/{r}.age already exists\n"))?;
    assert_eq!(fs::read_to_string(place.path(&format!("out/{r}.age")))?, "another");
    place.done("backup -o out --force")?;
    opened(&place, &format!("out/{r}.age"), &for_age(&recovery)?)?;
    Ok(())
}

#[test]
fn an_invalid_backup_does_not_count() -> Result<()> {
    let place = Place::new("keys-damaged-backup")?;
    let [recovery, stranger, held] = [identity()?, identity()?, identity()?];
    let key = place.declare(&held, "eu", State::Active, Says::Held, 1)?;
    place.store_backup(&held, &recovery)?;
    fs::write(place.path("stranger.txt"), stranger.to_secret_string().as_bytes())?;
    fs::write(place.path("recovery.txt"), recovery.to_secret_string().as_bytes())?;
    place.refused(
        "backup -o out -i stranger.txt",
        1,
        &format!("the backup of {key} does not open: no identity is held for "),
    )?;
    assert!(!place.path("out").exists());

    // Change its last byte.
    let name = format!("{key}-backup");
    let secret = place.get("secret", &name)?;
    let file = secret["data"]["identity.age"].as_str().context("no file")?;
    let mut bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, file)?;
    *bytes.last_mut().context("empty")? ^= 1;
    let damaged = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &bytes);
    let replace = |data: serde_json::Value| {
        let patch = json!({"data": data}).to_string();
        let command = ["patch", "secret", &name, "--namespace", &place.namespace];
        crate::place::plane()?.kubectl(&[&command[..], &["--type=merge", "-p", &patch]].concat())
    };
    replace(json!({"identity.age": damaged}))?;
    place.refused(
        "backup -o out -i recovery.txt",
        1,
        &format!("the backup of {key} does not open: damaged"),
    )?;
    assert!(!place.path("out").exists());
    assert_eq!(place.condition(key, "BackedUp")?, "False NotTakenOut");

    // An object that is not a backup is reported, and its key counts as having none.
    replace(json!({"identity.age": "bm90aGluZw=="}))?;
    let run = place.refused(
        "backup -o out",
        1,
        &format!("cannot back up {key}: the controller has made no encrypted copy\n"),
    )?;
    let warning = format!("warning: Secret {name} is skipped: not an age file");
    assert!(run.stderr.contains(&warning), "{}", run.stderr);
    Ok(())
}

#[test]
fn a_user_who_may_not_write_status_still_gets_the_files() -> Result<()> {
    let place = Place::new("keys-backup-reader")?;
    let (held, recovery) = (identity()?, identity()?);
    let key = place.declare(&held, "eu", State::Active, Says::Held, 1)?;
    place.store_backup(&held, &recovery)?;
    let rules = json!([
        {"apiGroups": ["bulla.dev"], "resources": ["sealingkeys"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]},
    ]);
    let reader = place.user("backup-reader", &rules)?;
    let run = reader.done("backup -o out")?;
    assert_eq!(
        run.stderr,
        format!(
            "warning: {key} is backed up, but its SealingKey does not show it: you may not change its status\n"
        )
    );
    assert!(reader.path(&format!("out/{key}.age")).exists());
    Ok(())
}

#[test]
fn any_age_opens_a_file_that_a_passphrase_protects() -> Result<()> {
    let place = Place::new("keys-passphrase")?;
    let [stored, mounted] = [identity()?, identity()?];
    let key = place.declare(&stored, "eu", State::Active, Says::Held, 2)?;
    let from_file = place.declare(&mounted, "eu", State::Retired, Says::Held, 1)?;
    place.store(&stored)?;
    fs::write(place.path("passphrase"), "correct horse\n")?;
    fs::write(place.path("other"), "battery staple\n")?;

    place.refused(
        "backup -o out --passphrase",
        2,
        "cannot ask for the passphrase without a terminal\n",
    )?;
    let missing = format!("cannot back up {from_file}: no identity Secret\n");
    let command = "backup -o out --passphrase --passphrase-file passphrase";
    place.refused(command, 1, &missing)?;
    let file = format!("out/{key}.age");
    assert_eq!(mode(&place, &file)?, 0o600);
    let with = age::scrypt::Identity::new("correct horse".to_owned().into());
    assert!(opened(&place, &file, &with)?.contains(&*stored.to_secret_string()));
    assert_eq!(place.condition(key, "BackedUp")?, "True TakenOut");

    // Encrypting it again would give other bytes, but it is recognized as equal.
    let before = fs::read(place.path(&file))?;
    place.refused(command, 1, &missing)?;
    assert_eq!(fs::read(place.path(&file))?, before);
    place.refused(
        "backup -o out --passphrase --passphrase-file other",
        2,
        &format!("error: {file} already exists\n"),
    )?;
    assert_eq!(fs::read(place.path(&file))?, before);
    Ok(())
}
