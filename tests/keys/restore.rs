//! `bulla keys restore`.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};
use bulla_crds::State;
use bulla_sealing::Fingerprint;
use serde_json::json;

use crate::place::{Place, Says, fingerprint, identity, plane};

#[test]
fn identities_are_restored_from_files_of_every_kind() -> Result<()> {
    let lost = Place::new("keys-lost")?;
    let [recovery, backed_up, protected, plain, more] =
        [identity()?, identity()?, identity()?, identity()?, identity()?];
    lost.declare(&backed_up, "eu", State::Active, Says::Held, 1)?;
    lost.store_backup(&backed_up, &recovery)?;
    lost.done("backup -o backups")?;
    let sealed = fs::read(lost.path(&format!("backups/{}.age", fingerprint(&backed_up))))?;

    let place = Place::new("keys-restore")?;
    let write = |name: &str, content: &[u8]| fs::write(place.path(name), content);
    fs::create_dir(place.path("backups"))?;
    write("backups/one.age", &sealed)?;
    write("backups/README", b"not a backup")?;
    write("recovery.txt", recovery.to_secret_string().as_bytes())?;
    let both =
        [plain.to_secret_string(), more.to_secret_string()].map(|identity| (*identity).clone());
    write("plain.txt", format!("# two\n{}\n{}\n", both[0], both[1]).as_bytes())?;
    write("passphrase", b"correct horse")?;
    // As age writes it.
    let mut recipient = age::scrypt::Recipient::new("correct horse".to_owned().into());
    recipient.set_work_factor(10);
    write("protected.age", &age::encrypt(&recipient, protected.to_secret_string().as_bytes())?)?;

    place.refused(
        "restore --no-wait backups",
        2,
        &format!(
            "backups/one.age: sealed to {}, but none of these identities was passed\n",
            fingerprint(&recovery)
        ),
    )?;
    let command = "restore --no-wait backups protected.age plain.txt -i recovery.txt --passphrase-file passphrase";
    let run = place.done(command)?;
    let all = [&backed_up, &protected, &plain, &more];
    let mut lines: Vec<_> =
        all.map(|identity| format!("{}: restored", fingerprint(identity))).into();
    lines.sort();
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), lines);
    assert!(run.stderr.contains("warning: while two clusters share a key"), "{}", run.stderr);
    for identity in all {
        let secret = place.get("secret", &fingerprint(identity))?;
        assert_eq!(secret["type"], "bulla.dev/identity");
        let annotations = &secret["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        assert_eq!(annotations["kubectl.kubernetes.io/last-applied-configuration"], json!(null));
        assert_eq!(secret["metadata"]["managedFields"][0]["manager"], "bulla");
        let text = plane()?.kubectl(&[
            "get",
            "secret",
            &fingerprint(identity).to_string(),
            "--namespace",
            &place.namespace,
            "--output=jsonpath={.data.identity\\.txt}",
        ])?;
        let text = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, text)?;
        assert!(String::from_utf8(text)?.contains(&*identity.to_secret_string()));
    }
    let again = place.done(command)?.stdout;
    assert_eq!(again, run.stdout.replace("restored", "already exists"));
    Ok(())
}

#[test]
fn nothing_is_overwritten_and_a_revoked_key_is_refused() -> Result<()> {
    let place = Place::new("keys-restore-refused")?;
    let [taken, free, revoked, marked] = [identity()?, identity()?, identity()?, identity()?];
    for (name, identity) in
        [("taken", &taken), ("free", &free), ("revoked", &revoked), ("marked", &marked)]
    {
        fs::write(place.path(name), identity.to_secret_string().as_bytes())?;
    }
    place.declare(&revoked, "eu", State::Revoked, Says::Nothing, 1)?;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bulla.dev/identity",
        "metadata": {"name": fingerprint(&taken).to_string(), "namespace": place.namespace},
        "stringData": {"identity.txt": &*free.to_secret_string()},
    });
    place.create(&foreign)?;
    let before = place.get("secret", &fingerprint(&taken))?;
    let run = place.refused(
        "restore --no-wait taken free",
        2,
        &format!(
            "error: not restored, because another Secret has its name: {}\n",
            fingerprint(&taken)
        ),
    )?;
    assert!(run.stdout.contains(&format!("{}: restored\n", fingerprint(&free))), "{}", run.stdout);
    assert_eq!(place.get("secret", &fingerprint(&taken))?, before);

    // A revoked key is skipped, and the others are restored.
    let key = fingerprint(&revoked);
    let skipped = format!("{key}: skipped, because it is revoked in this cluster\n");
    let nothing = "error: nothing is restored, because all these keys are revoked\nhint: ";
    let run = place.refused("restore --no-wait revoked", 1, nothing)?;
    assert_eq!(run.stdout, skipped);
    let run = place.done("restore --no-wait revoked free")?;
    assert_eq!(run.stdout, format!("{skipped}{}: already exists\n", fingerprint(&free)));
    assert!(place.get("secret", &key).is_err());
    // No controller will hold it, so the command does not wait.
    let run = place.done("restore revoked --force")?;
    assert_eq!(run.stdout, format!("{key}: restored, and is revoked\n"));
    let annotations = place.get("secret", &key)?["metadata"]["annotations"].clone();
    assert_eq!(annotations["bulla.dev/revoked"], "true");

    // The annotation of a revocation outlives the SealingKey.
    place.done("restore --no-wait marked")?;
    let name = fingerprint(&marked).to_string();
    plane()?.kubectl(&[
        "annotate",
        "secret",
        &name,
        "--namespace",
        &place.namespace,
        "bulla.dev/revoked=true",
    ])?;
    let run = place.refused("restore marked", 1, nothing)?;
    assert_eq!(run.stdout, format!("{name}: skipped, because it is revoked in this cluster\n"));
    let run = place.done("restore marked --force")?;
    assert_eq!(run.stdout, format!("{name}: already exists, and is revoked\n"));
    Ok(())
}

#[test]
fn a_backup_records_a_revocation_and_a_restore_honours_it() -> Result<()> {
    let lost = Place::new("keys-revoked-lost")?;
    let [recovery, good, leaked, marked, others] =
        [identity()?, identity()?, identity()?, identity()?, identity()?];
    lost.declare(&good, "eu", State::Active, Says::Held, 3)?;
    lost.declare(&leaked, "eu", State::Retired, Says::Held, 2)?;
    lost.declare(&others, "us", State::Revoked, Says::Nothing, 1)?;
    for identity in [&good, &leaked, &marked] {
        lost.store(identity)?;
        lost.store_backup(identity, &recovery)?;
    }
    fs::write(lost.path("recovery.txt"), recovery.to_secret_string().as_bytes())?;
    fs::write(lost.path("passphrase"), "correct horse\n")?;
    lost.done("backup -o backups")?;
    lost.set_state(fingerprint(&leaked), State::Revoked)?;
    let name = format!("{}-backup", fingerprint(&marked));
    let mark = ["annotate", "secret", &name, "--namespace", &lost.namespace];
    plane()?.kubectl(&[&mark[..], &["bulla.dev/revoked=true"]].concat())?;

    // Both ways leave them out. Another holder's key is left to its holder.
    let revoked = BTreeSet::from([&leaked, &marked].map(fingerprint));
    let protect = "--passphrase --passphrase-file passphrase";
    for (folder, flags) in [("backups", ""), ("sealed", ""), ("protected", protect)] {
        let run = lost.done(&format!("backup -o {folder} {flags}"))?;
        let records = revoked
            .iter()
            .map(|of| format!("{folder}/{of}.revoked: records that the key is revoked\n"));
        ensure!(run.stdout.ends_with(&records.collect::<String>()), "{}", run.stdout);
        ensure!(run.stdout.lines().count() == 3, "{}", run.stdout);
        let files = fs::read_dir(lost.path(folder))?.count();
        assert_eq!(files, if folder == "backups" { 5 } else { 3 }, "{folder}");
    }

    // The folder has backups from before. A restore skips them, also if they are named one by one.
    let rebuilt = Place::new("keys-revoked-rebuilt")?;
    let restore = |files: &str| {
        let files = files.replace("backups", &lost.path("backups").display().to_string());
        format!("restore --no-wait {files} -i {}", lost.path("recovery.txt").display())
    };
    let run = rebuilt.done(&restore("backups"))?;
    let folder = lost.path("backups");
    let skipped = |of: &Fingerprint| {
        format!(
            "{of}: skipped, because it is revoked according to {}/{of}.revoked\n",
            folder.display()
        )
    };
    let skipped_both: String = revoked.iter().map(skipped).collect();
    assert_eq!(run.stdout, format!("{skipped_both}{}: restored\n", fingerprint(&good)));
    let key = fingerprint(&leaked);
    let nothing = "error: nothing is restored, because all these keys are revoked\nhint: ";
    let run = rebuilt.refused(&restore(&format!("backups/{key}.age")), 1, nothing)?;
    assert_eq!(run.stdout, skipped(&key));
    assert_eq!(rebuilt.list("secrets")?.len(), 1);
    let run = rebuilt.done(&restore(&format!("backups/{key}.age --force")))?;
    assert_eq!(run.stdout, format!("{key}: restored, and is revoked\n"));
    Ok(())
}

#[test]
fn waiting_for_a_controller_ends_at_the_timeout() -> Result<()> {
    let place = Place::new("keys-restore-alone")?;
    let [one, active] = [identity()?, identity()?];
    fs::write(place.path("one"), one.to_secret_string().as_bytes())?;
    let message = format!(
        "error: stored, but the controller did not load it within 1 seconds: {}\nhint: ",
        fingerprint(&one)
    );
    place.refused("restore one --timeout 1", 2, &message)?;
    let key = place.declare(&active, "eu", State::Active, Says::Held, 1)?;
    let message = "error: the controller has not renewed the key within 1 seconds\nhint: ";
    place.refused("renew --timeout 1", 2, message)?;
    let annotations = place.get("sealingkey", &key)?["metadata"]["annotations"].clone();
    assert!(annotations["bulla.dev/renew"].is_string());
    Ok(())
}
