//! The first key, and keys after a restart.

use anyhow::{Context, Result, ensure};
use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, Recipient, Recipients, Scope, SealedValue, ValueAddress,
};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    SOON,
    api::Api,
    cluster::{Cluster, Fragile, HOLDER, sealing_keys},
    test_namespace::{TestNamespace, data, seal_for, secret},
};

pub(crate) const IDENTITIES: &str = "/api/v1/namespaces/bulla-system/secrets";

#[test]
fn the_first_key_is_generated_and_published_under_its_fingerprint() -> Result<()> {
    let cluster = Cluster::shared()?;
    let keys = sealing_keys(&cluster.api)?;
    assert_eq!(keys.len(), 1, "{keys:?}");
    let spec = &keys[0]["spec"];
    assert_eq!(spec["holder"], HOLDER);
    assert_eq!(spec["state"], "Active");
    let recipient: Recipient = spec["recipient"].as_str().context("no recipient")?.parse()?;
    assert_eq!(recipient.key_type(), KeyType::Hybrid);
    let fingerprint = recipient.fingerprint().to_string();
    assert_eq!(keys[0]["metadata"]["name"], fingerprint);

    // The private half is where a restore from etcd expects it.
    let secret = cluster.api.get(&format!("{IDENTITIES}/{fingerprint}"))?;
    assert_eq!(secret["type"], "bulla.dev/identity");
    let text = data(&secret)?.remove("identity.txt").context("no identity.txt")?;
    let text = String::from_utf8(text)?;
    let line = text.lines().find(|line| !line.starts_with('#')).context("no identity")?;
    let target = ValueAddress::new("prod", "db", "password")?;
    let sealed = bulla_sealing::seal(
        b"break glass",
        &Binding::new(Scope::Strict, &target),
        &Recipients::new(vec![recipient])?,
    )?;
    let keyring = Keyring::from_iter([Identity::parse(line)?]);
    let plaintext = SealedValue::parse(&sealed)?.unseal(&target, &keyring)?;
    assert_eq!(plaintext.as_bytes(), b"break glass");
    Ok(())
}

#[test]
fn a_restart_generates_no_second_key_and_a_found_identity_is_retired() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let before = sealing_keys(&fragile.api)?;
    let identities = identities(&fragile.api)?.len();
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    assert_eq!(specs(sealing_keys(&fragile.api)?), specs(before.clone()));
    assert_eq!(self::identities(&fragile.api)?.len(), identities);

    // A crash, during which someone restores an older identity.
    fragile.controller.kill()?;
    let found = Identity::generate(KeyType::X25519)?;
    let fingerprint = found.recipient().fingerprint().to_string();
    let identity = json!({
        "metadata": {"name": fingerprint}, "type": "bulla.dev/identity",
        "stringData": {"identity.txt": &*found.to_secret_string()},
    });
    fragile.api.create(IDENTITIES, &identity)?;
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    let retired = eventually("the found key to be published", SOON, || {
        let keys = sealing_keys(&fragile.api)?;
        keys.into_iter().find(|key| key["metadata"]["name"] == *fingerprint).context("not yet")
    })?;
    assert_eq!(retired["spec"]["state"], "Retired");
    assert_eq!(retired["spec"]["recipient"], found.recipient().to_string());
    let active = |keys: Vec<Value>| {
        keys.into_iter().filter(|key| key["spec"]["state"] == "Active").collect::<Vec<_>>()
    };
    assert_eq!(specs(active(sealing_keys(&fragile.api)?)), specs(active(before)));
    ensure!(fragile.controller.metric("bulla_identities")? >= 2.0, "it is not held");

    // An identity deleted while the controller runs still opens values.
    fragile.api.delete_kept(&format!("{IDENTITIES}/{fingerprint}"))?;
    let namespace = TestNamespace::fragile(&fragile, "disappeared")?;
    let recipients = Recipients::new(vec![found.recipient()])?;
    namespace.apply(&seal_for(
        &namespace.name,
        secret("db", &[("password", "1")]),
        &recipients,
    )?)?;
    namespace.done("db")?;
    fragile.give_back()
}

fn specs(keys: Vec<Value>) -> Vec<Value> {
    keys.into_iter().map(|mut key| key["spec"].take()).collect()
}

fn identities(api: &Api) -> Result<Vec<Value>> {
    let secrets = api.get(&format!("{IDENTITIES}?fieldSelector=type%3Dbulla.dev/identity"))?;
    Ok(secrets["items"].as_array().context("no list")?.clone())
}
