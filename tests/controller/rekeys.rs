//! Rekeys: which ones are answered, which are refused and why, and what a user cannot obtain through them.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, ensure};
use bulla_crds::{ParsedValue, State, decode_value, encode_value, limits::MAX_OBJECT_BYTES};
use bulla_sealing::{
    Binding, Identity, KeyType, Keyring, Recipient, Recipients, Scope, SealedValue, ValueAddress,
    seal,
};
use bulla_tests::{Controller, Fault, Proxy, Rule, Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON,
    api::{self, Api},
    cluster::{Fragile, HOLDER, SEALING_KEYS, sealing_keys},
    marker::{MARKER, is_in, marked},
    searched::{Searched, search_objects},
    test_namespace::{TestNamespace, clear, condition, message, refusal},
};

const IDENTITIES: &str = "/api/v1/namespaces/bulla-system/secrets";

const VALUES: [(&str, &str); 2] = [("password", "horse"), ("user", "shop")];

#[test]
fn every_named_holder_gets_its_active_key_and_no_other_holder_does() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-holders")?;
    let mut keys = Keys::new(&fragile)?;
    let old = keys.found()?;
    let [dr_old, dr_new, recovery] = [
        keys.declare("dr", State::Retired)?,
        keys.declare("dr", State::Active)?,
        keys.declare("recovery", State::Active)?,
    ];
    let active = &keys.active;
    let cases = [
        (
            "all",
            [&old, &dr_old.recipient(), &recovery.recipient()],
            [active, &dr_new.recipient(), &recovery.recipient()],
        ),
        (
            "order",
            [&recovery.recipient(), &old, &dr_new.recipient()],
            [&recovery.recipient(), active, &dr_new.recipient()],
        ),
    ]
    .map(|(name, from, to)| (name, from.map(Clone::clone), to.map(Clone::clone)));
    for (name, from, to) in cases {
        let (from, to) = (Recipients::new(from.into())?, Recipients::new(to.into())?);
        let files = VALUES.map(|(key, value)| {
            let file = sealed(Scope::Strict, [&namespace.name, name, key], value, &from);
            (key, file)
        });
        let files: Vec<_> =
            files.into_iter().map(|(key, file)| Ok((key, file?))).collect::<Result<_>>()?;
        let manifest = manifest(name, files.iter().map(|(key, file)| (*key, encode_value(file))));
        namespace.apply(&manifest)?;
        let before = namespace.done(name)?;
        ask(
            &namespace.api,
            &namespace.name,
            name,
            name,
            files.iter().map(|(key, file)| (*key, header(file))),
        )?;
        let answer = answered(&namespace, name)?;
        let ready = condition(&answer, "Ready");
        ensure!(ready["status"] == "True" && ready["reason"] == "Rekeyed", "{ready}");
        ensure!(condition(&answer, "Stalled").is_null(), "{answer}");
        assert_eq!(Verdict::of(&answer)?.status, Status::Current);
        // The object in Git is unchanged.
        assert_eq!(
            namespace.sealed_secret(name)?["metadata"]["resourceVersion"],
            before["metadata"]["resourceVersion"]
        );

        let headers = headers(&answer)?;
        assert_eq!(headers.keys().collect::<Vec<_>>(), VALUES.map(|(key, _)| key));
        let mut rekeyed = Vec::new();
        for ((key, file), (_, value)) in files.iter().zip(VALUES) {
            let old = ParsedValue::parse(&encode_value(file))?;
            let new = old.with_header(&decode_value(&headers[*key])?, &to)?;
            let target = ValueAddress::new(&namespace.name, name, key)?;
            for (what, identity, opens) in [
                ("the new key", &dr_new, true),
                ("the recovery key", &recovery, true),
                ("the old key", &dr_old, false),
            ] {
                let keyring = Keyring::from_iter([copy(identity)?]);
                let file = decode_value(&new)?;
                let opened = SealedValue::parse(&file)?.unseal(&target, &keyring);
                let is_value =
                    opened.is_ok_and(|opened| opened.as_bytes() == marked(value).as_bytes());
                ensure!(is_value == opens, "{what} of {key}");
            }
            rekeyed.push((*key, new));
        }
        // This cluster opens it, and it has the same values.
        namespace.apply(&self::manifest(name, rekeyed.into_iter()))?;
        namespace.done(name)?;
        ensure!(namespace.data(name)? == clear(&VALUES), "not the values");
    }
    keys.withdraw()?;
    fragile.give_back()
}

#[test]
fn a_rekey_that_cannot_be_answered_is_refused_as_a_whole_with_its_reason() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-refused")?;
    let mut keys = Keys::new(&fragile)?;
    keys.declare("cold-1", State::Pending)?;
    let cold = keys.declare("cold-1", State::Retired)?.recipient();
    let twin = keys.declare("twin", State::Active)?.recipient();
    keys.declare("twin", State::Active)?;
    let elsewhere = keys.declare("elsewhere", State::Active)?.recipient();
    let classical = keys.declare("post-quantum", State::Retired)?.recipient();
    let quantum = keys.declare_of(KeyType::Hybrid, "post-quantum", State::Active)?.recipient();
    let revoked = keys.declare("elsewhere", State::Revoked)?.recipient();
    let stranger = Identity::generate(KeyType::X25519)?.recipient();
    let active = keys.active.clone();

    let here = [namespace.name.as_str(), "db", "password"];
    let to = |recipients: &[&Recipient]| {
        let recipients =
            Recipients::new(recipients.iter().map(|recipient| (*recipient).clone()).collect())?;
        anyhow::Ok(header(&sealed(Scope::Strict, here, "horse", &recipients)?))
    };
    let of = |scope, place: [&str; 3]| {
        let recipients = Recipients::new(vec![active.clone()])?;
        anyhow::Ok(header(&sealed(scope, place, "horse", &recipients)?))
    };
    let whole = sealed(Scope::Strict, here, "horse", &Recipients::new(vec![active.clone()])?)?;
    let good = of(Scope::Strict, here)?;
    let mut damaged = good.clone();
    let mac = damaged.len() - 10;
    damaged[mac] = if damaged[mac] == b'A' { b'B' } else { b'A' };
    let renamed = {
        let header = of(Scope::Strict, ["kube-system", "db", "password"])?;
        let text = String::from_utf8(header)?;
        text.replace(" kube-system ", &format!(" {} ", namespace.name)).into_bytes()
    };
    let mut cut = good.clone();
    cut.truncate(good.len() - 20);
    let name = |recipient: &Recipient| recipient.fingerprint().to_string();
    let cases = [
        ("stranger", to(&[&active, &stranger])?, "UnknownKey", name(&stranger)),
        ("no-active-key", to(&[&active, &cold])?, "NoActiveKey", "holder cold-1".into()),
        ("two-active-keys", to(&[&twin, &active])?, "SeveralActiveKeys", "holder twin".into()),
        ("mixed", to(&[&active, &classical])?, "MixedTypes", name(&quantum)),
        ("not-held", to(&[&elsewhere])?, "UnknownKey", name(&elsewhere)),
        ("revoked", to(&[&revoked])?, "RevokedKey", name(&revoked)),
        (
            "namespace",
            of(Scope::Strict, ["kube-system", "db", "password"])?,
            "WrongBinding",
            "kube-system/db".into(),
        ),
        (
            "wide-namespace",
            of(Scope::Namespace, ["kube-system", "db", "password"])?,
            "WrongBinding",
            "kube-system".into(),
        ),
        ("name", of(Scope::Strict, [here[0], "other", here[2]])?, "WrongBinding", "/other".into()),
        ("key", of(Scope::Cluster, [here[0], here[1], "user"])?, "WrongBinding", "user".into()),
        ("damaged", damaged, "Damaged", "damaged".into()),
        ("readdressed", renamed, "Damaged", "damaged".into()),
        ("cut", cut, "Malformed", "malformed".into()),
        ("whole", whole, "Invalid", "the header alone".into()),
        (
            "trailing",
            [&good, marked("pasted").as_bytes()].concat(),
            "Invalid",
            "the header alone".into(),
        ),
    ];
    for (case, header, ..) in &cases {
        let beside = of(Scope::Strict, [&namespace.name, "db", "beside"])?;
        let asked = [("beside", beside), ("password", header.clone())];
        ask(&namespace.api, &namespace.name, case, "db", asked)?;
    }
    for (case, _, reason, helps) in &cases {
        let answer = answered(&namespace, case)?;
        let (ready, stalled) = (condition(&answer, "Ready"), condition(&answer, "Stalled"));
        ensure!(ready["status"] == "False" && ready["reason"] == **reason, "{case}: {ready}");
        ensure!(stalled["status"] == "True" && stalled["reason"] == **reason, "{case}: {stalled}");
        ensure!(message(&answer).contains(helps.as_str()), "{case}: {}", message(&answer));
        ensure!(answer["status"]["refusedKey"] == "password", "{case}: {answer}");
        ensure!(answer["status"].get("headers").is_none(), "{case}: it got headers");
        ensure!(Verdict::of(&answer)?.status == Status::Failed, "{case}: {answer}");
    }
    // A Rekey in a namespace where the controller handles no SealedSecrets either.
    ask(&namespace.api, Controller::NAMESPACE, "own", "db", [("password", good)])?;
    let path = rekey_path(Controller::NAMESPACE, "own");
    eventually("a refusal", SOON, || {
        let ready = condition(&namespace.api.get(&path)?, "Ready").clone();
        ensure!(ready["reason"] == "NamespaceRefused", "{ready}");
        Ok(())
    })?;
    namespace.api.delete(&path, &Value::Null)?;

    let refused = fragile.controller.metric("bulla_rekeys_total{outcome=\"stalled\"")?;
    ensure!(refused >= 16.0, "only {refused} are counted");
    search_objects(&namespace.api, Some(&namespace.name))?;
    keys.withdraw()?;
    fragile.give_back()
}

#[test]
fn pasted_plaintext_is_refused_by_the_schema_without_quoting_it() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-schema")?;
    let place = [namespace.name.as_str(), "db", "password"];
    let header = header(&sealed(Scope::Strict, place, "horse", &namespace.recipients)?);
    // The header as another age implementation writes it.
    let foreign = {
        let stanza =
            header.windows(9).position(|bytes| bytes == b"-> X25519").context("no stanza")?;
        encode_value(&[b"age-encryption.org/v1\n", &header[stanza..]].concat())
    };
    let header = encode_value(&header);
    let asked = |headers: Value| rekey("db", "db", &headers);
    let pasted =
        [MARKER.to_owned(), encode_value(MARKER.as_bytes()), format!("{MARKER}{header}"), foreign];
    for pasted in pasted {
        let said = refusal(namespace.api.create(
            &rekeys(&namespace.name),
            &asked(json!({"password": pasted, "user": header})),
        ))?;
        ensure!(said.contains("not the header of a sealed value: password"), "{said}");
        ensure!(!is_in(&said), "the message has the value");
    }
    let long = format!("{header}{}", MARKER.repeat(3000));
    let said =
        refusal(namespace.api.create(&rekeys(&namespace.name), &asked(json!({"password": long}))))?;
    ensure!(!is_in(&said), "the message has the value");
    refusal(namespace.api.create(&rekeys(&namespace.name), &asked(json!({}))))?;
    refusal(namespace.api.create(&rekeys(&namespace.name), &asked(json!({"..": header}))))?;

    namespace.api.create(&rekeys(&namespace.name), &asked(json!({"password": header})))?;
    let changed = json!({"spec": {"sealedSecret": "other"}});
    let said = refusal(namespace.api.merge(&rekey_path(&namespace.name, "db"), &changed))?;
    ensure!(said.contains("immutable"), "{said}");
    fragile.give_back()
}

#[test]
fn a_user_who_may_create_rekeys_gets_headers_and_nothing_else() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-person")?;
    let elsewhere = TestNamespace::fragile(&fragile, "rekey-person-elsewhere")?;
    namespace.unseal("db", &VALUES)?;
    elsewhere.unseal("db", &VALUES)?;
    bind(&namespace.api, &namespace.name, "bulla-rekey", "rekeyer")?;
    let person = Api::new(fragile.plane.user("rekeyer", &[])?.kubeconfig())?;

    ask(&person, &namespace.name, "own", "db", live(&namespace, "db")?)?;
    let path = rekey_path(&namespace.name, "own");
    let answer = eventually("an answer", SOON, || {
        let answer = person.get(&path)?;
        ensure!(answer["status"]["observedGeneration"] == 1, "{}", answer["status"]);
        Ok(answer)
    })?;
    assert_eq!(headers(&answer)?.len(), VALUES.len());

    // Values of another namespace, in a Rekey that this user may create.
    let foreign = live(&elsewhere, "db")?;
    ask(&person, &namespace.name, "foreign", "db", foreign.clone())?;
    let answer = answered(&namespace, "foreign")?;
    assert_eq!(condition(&answer, "Ready")["reason"], "WrongBinding");
    ensure!(answer["status"].get("headers").is_none(), "it got headers");

    let forged = json!({"status": {"headers": {"password": "YWdlLWVuY3J5cHRpb24u"}}});
    let denied = [
        ("a Rekey elsewhere", ask(&person, &elsewhere.name, "foreign", "db", foreign)),
        ("a status", person.merge(&format!("{path}/status"), &forged).map(drop)),
        ("a spec", person.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).map(drop)),
        ("a Secret", person.get(&namespace.secret_path("db")).map(drop)),
        ("all Secrets", person.get(&namespace.secrets()).map(drop)),
        ("identities", person.get(IDENTITIES).map(drop)),
        ("a SealedSecret", person.merge(&namespace.sealed_secret_path("db"), &json!({})).map(drop)),
        (
            "a SealingKey",
            person.create(SEALING_KEYS, &json!({"metadata": {"name": "a"}})).map(drop),
        ),
    ];
    for (what, outcome) in denied {
        let error = outcome.err().with_context(|| format!("{what} is allowed"))?;
        ensure!(api::code(&error) == Some(403), "{what}: {error:#}");
    }
    person.get(&rekeys(&namespace.name))?;
    person.delete(&path, &Value::Null)?;
    ensure!(namespace.data("db")? == clear(&VALUES), "not the values");
    fragile.give_back()
}

#[test]
fn a_rekey_gets_one_answer_from_any_number_of_replicas() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-once")?;
    let good = || {
        let place = [namespace.name.as_str(), "db", "password"];
        anyhow::Ok([(
            "password",
            header(&sealed(Scope::Strict, place, "1", &namespace.recipients)?),
        )])
    };
    let other = || {
        let place = ["kube-system", "db", "password"];
        anyhow::Ok([(
            "password",
            header(&sealed(Scope::Strict, place, "1", &namespace.recipients)?),
        )])
    };
    ask(&namespace.api, &namespace.name, "done", "db", good()?)?;
    ask(&namespace.api, &namespace.name, "refused", "db", other()?)?;
    let before = [answered(&namespace, "done")?, answered(&namespace, "refused")?];
    let as_before = || {
        for before in &before {
            let name = before["metadata"]["name"].as_str().context("no name")?;
            assert_eq!(namespace.api.get(&rekey_path(&namespace.name, name))?, *before);
        }
        anyhow::Ok(())
    };
    fragile.controller.restart()?;
    fragile.controller.wait_until_ready()?;
    ask(&namespace.api, &namespace.name, "after-restart", "db", good()?)?;
    answered(&namespace, "after-restart")?;
    as_before()?;
    assert_eq!(fragile.controller.metric("bulla_rekeys_total")?, 1.0);

    // A Rekey created while no controller runs, for a SealedSecret that does not exist.
    fragile.controller.stop(SOON)?;
    ask(&namespace.api, &namespace.name, "while-away", "db", good()?)?;
    let replicas = [short_lease(&fragile)?, short_lease(&fragile)?];
    answered(&namespace, "while-away")?;
    let counted = || -> Result<Vec<f64>> {
        replicas.iter().map(|replica| replica.metric("bulla_rekeys_total")).collect()
    };
    assert_eq!(counted()?.iter().sum::<f64>(), 1.0, "both have answered");
    let leader = counted()?.iter().position(|count| *count == 1.0).context("nobody")?;
    let [first, second] = replicas;
    let (mut leader, other) = if leader == 0 { (first, second) } else { (second, first) };
    leader.kill()?;
    ask(&namespace.api, &namespace.name, "after-crash", "db", good()?)?;
    answered(&namespace, "after-crash")?;
    assert_eq!(other.metric("bulla_rekeys_total")?, 1.0);
    as_before()?;
    drop((leader, other));
    fragile.restart_and_give_back()
}

#[test]
fn rekeys_are_deleted_after_their_lifetime_answered_or_not() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-lifetime")?;
    let place = [namespace.name.as_str(), "db", "password"];
    let good = header(&sealed(Scope::Strict, place, "1", &namespace.recipients)?);
    fragile.controller.stop(SOON)?;
    // Another writer's finalizer keeps it, and it was deleted before a controller could answer.
    let mut held = rekey("deleted", "db", &json!({"password": encode_value(&good)}));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    namespace.api.create(&rekeys(&namespace.name), &held)?;
    let deleted = rekey_path(&namespace.name, "deleted");
    namespace.api.delete(&deleted, &Value::Null)?;
    ask(&namespace.api, &namespace.name, "before", "db", [("password", good.clone())])?;

    let mut command = command(&fragile)?;
    command.args(["--rekey-lifetime", "4s"]);
    let mut controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    answered(&namespace, "before")?;
    ask(&namespace.api, &namespace.name, "after", "db", [("password", good.clone())])?;
    ask(&namespace.api, &namespace.name, "refused", "other", [("password", good)])?;
    for name in ["after", "refused"] {
        answered(&namespace, name)?;
    }
    for name in ["before", "after", "refused"] {
        namespace.gone(&rekey_path(&namespace.name, name))?;
    }
    assert_eq!(namespace.api.get(&deleted)?["status"], json!({"observedGeneration": -1}));
    namespace.api.merge(&deleted, &json!({"metadata": {"finalizers": null}}))?;
    namespace.gone(&deleted)?;
    controller.stop(SOON)?;
    drop(controller);
    fragile.restart_and_give_back()
}

#[test]
fn an_answer_too_large_to_store_is_refused_and_a_smaller_one_is_given() -> Result<()> {
    let fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-large")?;
    let mut keys = Keys::new(&fragile)?;
    let mut recipients = vec![keys.active.clone()];
    for number in 0..20 {
        recipients.push(keys.declare(&format!("holder-{number}"), State::Active)?.recipient());
    }
    let recipients = Recipients::new(recipients)?;
    let values = (0..240).map(|number| {
        let key = format!("key-{number}");
        let file = sealed(Scope::Strict, [&namespace.name, "db", &key], "1", &recipients)?;
        Ok((key, header(&file)))
    });
    let values: Vec<_> = values.collect::<Result<_>>()?;
    let of =
        |count: usize| values[..count].iter().map(|(key, header)| (key.as_str(), header.clone()));
    ask(&namespace.api, &namespace.name, "all", "db", of(240))?;
    let answer = answered(&namespace, "all")?;
    assert_eq!(condition(&answer, "Ready")["reason"], "TooLarge");
    ensure!(message(&answer).contains("ask for fewer values at once"), "{}", message(&answer));
    ensure!(answer["status"].get("refusedKey").is_none(), "{answer}");
    ensure!(answer["status"].get("headers").is_none(), "it got headers");
    // As many as fit, with room for the API server's record of each.
    let (key, header) = &values[100];
    let length = encode_value(header).len() + key.len();
    let fit = (MAX_OBJECT_BYTES - 10_000) / (2 * (length + 30));
    ensure!((100..240).contains(&fit), "{fit} of {length} bytes");
    ask(&namespace.api, &namespace.name, "some", "db", of(fit))?;
    assert_eq!(headers(&answered(&namespace, "some")?)?.len(), fit);
    keys.withdraw()?;
    fragile.give_back()
}

#[test]
fn a_lost_answer_is_given_again_and_a_key_just_declared_is_waited_for() -> Result<()> {
    let mut fragile = Fragile::lock()?;
    let namespace = TestNamespace::fragile(&fragile, "rekey-faults")?;
    fragile.controller.stop(SOON)?;
    let proxy = Proxy::start(&fragile.plane)?;
    let mut command = Controller::command_through(&fragile.plane, &proxy)?;
    command.args(["--holder", HOLDER, "--type", "x25519"]);
    let mut controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    let place = [namespace.name.as_str(), "db", "password"];
    let good = header(&sealed(Scope::Strict, place, "1", &namespace.recipients)?);
    let path = format!("/namespaces/{}/rekeys", namespace.name);
    let faults = [format!("GET *{path}*"), format!("PATCH *{path}/*/status*")].map(|pattern| {
        let faults =
            [Fault::Status(500), Fault::TooMany(1), Fault::Garbage(200), Fault::LoseAnswer];
        proxy.inject(Rule::one_of(&pattern, &faults).times(3))
    });
    for number in 0..3 {
        let name = format!("number-{number}");
        ask(&namespace.api, &namespace.name, &name, "db", [("password", good.clone())])?;
    }
    for number in 0..3 {
        let answer = answered(&namespace, &format!("number-{number}"))?;
        assert_eq!(condition(&answer, "Ready")["reason"], "Rekeyed");
    }
    for fault in &faults {
        ensure!(fault.hits() == 3, "{} faults", fault.hits());
    }

    // Its holder is declared only after the Rekey is created.
    let mut keys = Keys::new(&fragile)?;
    let late = Identity::generate(KeyType::X25519)?;
    let recipients = Recipients::new(vec![keys.active.clone(), late.recipient()])?;
    let place = [namespace.name.as_str(), "late", "password"];
    let header = header(&sealed(Scope::Strict, place, "1", &recipients)?);
    ask(&namespace.api, &namespace.name, "late", "late", [("password", header)])?;
    keys.publish(&late.recipient(), "late", State::Active)?;
    let answer = answered(&namespace, "late")?;
    assert_eq!(condition(&answer, "Ready")["reason"], "Rekeyed");
    keys.withdraw()?;
    controller.stop(SOON)?;
    drop(controller);
    fragile.restart_and_give_back()
}

/// The keys that a test declares as an administrator. They are removed at its end.
struct Keys<'a> {
    fragile: &'a Fragile,
    /// This cluster's Active key.
    active: Recipient,
    declared: Vec<String>,
}

impl<'a> Keys<'a> {
    fn new(fragile: &'a Fragile) -> Result<Self> {
        let keys = sealing_keys(&fragile.api)?;
        let active = keys
            .iter()
            .map(|key| &key["spec"])
            .find(|spec| spec["holder"] == HOLDER && spec["state"] == "Active");
        let active = active.and_then(|spec| spec["recipient"].as_str()).context("no Active key")?;
        Ok(Self { fragile, active: active.parse()?, declared: Vec::new() })
    }

    /// An identity that someone has restored to this cluster. It opens values, but is not used for sealing.
    fn found(&mut self) -> Result<Recipient> {
        let identity = Identity::generate(KeyType::X25519)?;
        let recipient = identity.recipient();
        let name = recipient.fingerprint().to_string();
        let secret = json!({
            "metadata": {"name": name}, "type": "bulla.dev/identity",
            "stringData": {"identity.txt": &*identity.to_secret_string()},
        });
        self.fragile.api.create(IDENTITIES, &secret)?;
        eventually("the found key to be declared", SOON, || {
            let key = self.fragile.api.get(&format!("{SEALING_KEYS}/{name}"))?;
            ensure!(key["spec"]["state"] == "Retired", "{key}");
            Ok(())
        })?;
        self.declared.push(name);
        Ok(recipient)
    }

    fn declare(&mut self, holder: &str, state: State) -> Result<Identity> {
        self.declare_of(KeyType::X25519, holder, state)
    }

    fn declare_of(&mut self, type_: KeyType, holder: &str, state: State) -> Result<Identity> {
        let identity = Identity::generate(type_)?;
        self.publish(&identity.recipient(), holder, state)?;
        Ok(identity)
    }

    fn publish(&mut self, recipient: &Recipient, holder: &str, state: State) -> Result<()> {
        let manifest = json!({
            "apiVersion": bulla_crds::API_VERSION, "kind": "SealingKey",
            "metadata": {"name": recipient.fingerprint().to_string()},
            "spec": {
                "recipient": recipient.as_str(), "holder": holder, "state": state,
                "created": "2026-11-01T00:00:00Z",
            },
        });
        self.fragile.api.create(SEALING_KEYS, &manifest)?;
        self.declared.push(recipient.fingerprint().to_string());
        Ok(())
    }

    /// Removes the declared keys before the next test.
    fn withdraw(self) -> Result<()> {
        let api = &self.fragile.api;
        let allow = json!({"metadata": {"annotations": {"bulla.dev/allow-delete": "true"}}});
        for name in &self.declared {
            for path in [format!("{IDENTITIES}/{name}"), format!("{SEALING_KEYS}/{name}")] {
                if api.get_opt(&path)?.is_some() {
                    api.merge(&path, &allow)?;
                    api.delete(&path, &Value::Null)?;
                }
            }
        }
        Ok(())
    }
}

/// Creates a Rekey for these headers.
fn ask<K: AsRef<str>>(
    api: &Api,
    namespace: &str,
    name: &str,
    sealed_secret: &str,
    headers: impl IntoIterator<Item = (K, Vec<u8>)>,
) -> Result<()> {
    let headers: BTreeMap<_, _> = headers
        .into_iter()
        .map(|(key, header)| (key.as_ref().to_owned(), encode_value(&header)))
        .collect();
    let rekey = rekey(name, sealed_secret, &json!(headers));
    api.create(&rekeys(namespace), &rekey).map(drop)
}

/// A Rekey as a user writes it.
fn rekey(name: &str, sealed_secret: &str, headers: &Value) -> Value {
    json!({
        "apiVersion": bulla_crds::API_VERSION, "kind": "Rekey", "metadata": {"name": name},
        "spec": {"sealedSecret": sealed_secret, "headers": headers},
    })
}

/// Creates a Rekey for the values of an existing SealedSecret.
pub(crate) fn ask_for(namespace: &TestNamespace, name: &str) -> Result<()> {
    ask(&namespace.api, &namespace.name, name, name, live(namespace, name)?)
}

/// The headers of an existing SealedSecret.
fn live(namespace: &TestNamespace, name: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let live = namespace.sealed_secret(name)?;
    let values = live["spec"]["sealedData"].as_object().context("no values")?;
    let headers = values.iter().map(|(key, value)| {
        let file = decode_value(value.as_str().context("no text")?)?;
        Ok((key.clone(), header(&file)))
    });
    headers.collect()
}

/// The status of a Rekey.
pub(crate) fn status(namespace: &TestNamespace, name: &str) -> Result<Value> {
    Ok(namespace.api.get(&rekey_path(&namespace.name, name))?["status"].clone())
}

/// Waits until a Rekey is answered or refused, and returns it.
pub(crate) fn answered(namespace: &TestNamespace, name: &str) -> Result<Value> {
    eventually(&format!("an answer to {}/{name}", namespace.name), SOON, || {
        let rekey = namespace.api.get(&rekey_path(&namespace.name, name))?;
        let (generation, status) = (&rekey["metadata"]["generation"], &rekey["status"]);
        ensure!(status["observedGeneration"] == *generation, "generation {generation}: {status}");
        Ok(rekey)
    })
}

/// The new headers.
fn headers(rekey: &Value) -> Result<BTreeMap<String, String>> {
    let headers = rekey["status"].get("headers");
    let headers = headers.with_context(|| format!("no headers: {}", message(rekey)))?;
    Ok(serde_json::from_value(headers.clone())?)
}

fn rekeys(namespace: &str) -> String {
    format!("/apis/bulla.dev/v1alpha1/namespaces/{namespace}/rekeys")
}

fn rekey_path(namespace: &str, name: &str) -> String {
    format!("{}/{name}", rekeys(namespace))
}

/// An age file with a marked value, for this namespace, name and key.
fn sealed(scope: Scope, place: [&str; 3], value: &str, to: &Recipients) -> Result<Vec<u8>> {
    let [namespace, name, key] = place;
    let binding = Binding::new(scope, &ValueAddress::new(namespace, name, key)?);
    Ok(seal(marked(value).as_bytes(), &binding, to)?)
}

/// The header of an age file, without its payload.
fn header(file: &[u8]) -> Vec<u8> {
    let payload = SealedValue::parse(file).map_or(0, |value| value.payload().len());
    file[..file.len() - payload].to_vec()
}

/// A SealedSecret with these values.
fn manifest<'a>(name: &str, values: impl Iterator<Item = (&'a str, String)>) -> Value {
    json!({
        "apiVersion": bulla_crds::API_VERSION, "kind": "SealedSecret",
        "metadata": {"name": name},
        "spec": {"sealedData": values.collect::<BTreeMap<_, _>>()},
    })
}

/// An identity that another keyring can hold.
fn copy(identity: &Identity) -> Result<Identity> {
    Ok(Identity::parse(&identity.to_secret_string())?)
}

/// Binds the user to this role in a namespace.
fn bind(api: &Api, namespace: &str, role: &str, user: &str) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    api.create(&format!("/apis/{group}/v1/namespaces/{namespace}/rolebindings"), &binding).map(drop)
}

fn command(fragile: &Fragile) -> Result<Command> {
    let mut command = Controller::command(&fragile.plane)?;
    command.args(["--holder", HOLDER, "--type", "x25519"]);
    Ok(command)
}

/// A replica with a short Lease, so that tests do not wait long.
fn short_lease(fragile: &Fragile) -> Result<Searched> {
    let mut command = command(fragile)?;
    command.args(["--lease-duration", "4s"]);
    let controller = Searched::start(command)?;
    controller.wait_until_ready()?;
    Ok(controller)
}
