//! Input that is damaged, too large or just changing. Each is reported with its own reason, and no other object
//! suffers.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::WipedSecret;
use bulla_sealing::{Binding, Scope, ValueAddress};
use bulla_tests::{Status, Verdict, eventually};
use serde_json::{Value, json};

use crate::{
    SOON, api,
    cluster::Cluster,
    marker::{self, MARKER},
    test_namespace::{TestNamespace, clear, data, message, refusal, secret, with_policy},
};

const MEBIBYTE: usize = 1024 * 1024;

/// More than one chunk of a payload.
const LONG: usize = 100_000;

#[test]
fn a_damaged_value_is_refused_with_its_cause_and_harms_no_other_object() -> Result<()> {
    let namespace = TestNamespace::shared("bad-input")?;
    namespace.unseal("neighbour", &[("password", "old")])?;
    let cases = damaged(&namespace)?;
    for (name, value, ..) in &cases {
        namespace.apply(&manifest(name, [("password", value.as_str())]))?;
    }
    // Other objects are unsealed at once, in spite of all these.
    namespace.unseal("neighbour", &[("password", "new")])?;
    ensure!(namespace.data("neighbour")? == clear(&[("password", "new")]), "not the new value");
    namespace.unseal("newcomer", &[("password", "new")])?;

    for (name, _, reason, expected) in &cases {
        let refused = namespace.refused(name, reason)?;
        let told = message(&refused);
        ensure!(
            told.starts_with("key password: ") && told.ends_with(expected),
            "{name}: {told}, not {expected}"
        );
        assert_eq!(namespace.event(name, reason)?["note"], told);
        ensure!(!namespace.has_secret(name)?, "{name} has a Secret");
    }
    are_left_alone(&namespace, &["NotSealed", "Malformed", "Damaged", "NoBinding"])
}

/// A damaged value: a name for the damage, the value, the reason, and the end of the message.
type Damaged = (&'static str, String, &'static str, &'static str);

const NOT_BASE64: &str = "not base64, so not a sealed value";
const HEADER: &str = "the header is cut short";
const LONG_HEADER: &str = "the header is longer than 64 KiB";
const PAYLOAD: &str = "the payload is cut short";
const CHANGED: &str = "damaged: it was changed after it was sealed";

/// Damage to every layer of a sealed value.
fn damaged(namespace: &TestNamespace) -> Result<Vec<Damaged>> {
    let mut cases = misspelt(namespace)?;
    cases.extend(cut_short(namespace)?);
    cases.extend(too_long(namespace)?);
    Ok(cases)
}

/// A sealed value of several chunks, for the object of this name.
fn long(namespace: &TestNamespace, name: &str) -> Result<Vec<u8>> {
    sealed(namespace, name, "password", &filled(LONG))
}

/// Where `text` begins.
fn at(file: &[u8], text: &str) -> Result<usize> {
    let found = file.windows(text.len()).position(|bytes| bytes == text.as_bytes());
    found.context("not found")
}

/// Values that are not base64, or whose header is not text.
fn misspelt(namespace: &TestNamespace) -> Result<Vec<Damaged>> {
    // A file whose length needs padding.
    let mut file = sealed(namespace, "unpadded", "password", MARKER.as_bytes())?;
    for more in 1..3 {
        if file.len() % 3 == 0 {
            file = sealed(namespace, "unpadded", "password", &filled(MARKER.len() + more))?;
        }
    }
    let unpadded = BASE64_STANDARD.encode(file).trim_end_matches('=').to_owned();
    let whole = BASE64_STANDARD.encode(long(namespace, "url-safe")?);
    // After the prefix, which the schema checks.
    let (prefix, rest) = whole.split_at(bulla_crds::SEALED_PREFIX.len());
    let url_safe = format!("{prefix}{}", rest.replace('+', "-").replace('/', "_"));
    let two_lines = format!("{}\n{}", &whole[..76], &whole[76..]);
    let prefix = bulla_crds::SEALED_PREFIX.to_owned() + "==";
    let begun = b"age-encryption.org/v1\n-> bulla.dev/v1 ".as_slice();
    let no_text = BASE64_STANDARD.encode([begun, b"\xff\xfe\0\n"].concat());
    let no_line = BASE64_STANDARD.encode([begun, &[0; 100]].concat());
    Ok(vec![
        ("unpadded", unpadded, "NotSealed", NOT_BASE64),
        ("url-safe", url_safe, "NotSealed", NOT_BASE64),
        ("two-lines", two_lines, "NotSealed", NOT_BASE64),
        ("prefix", prefix, "NotSealed", NOT_BASE64),
        ("no-text", no_text, "Malformed", "an argument is not ASCII"),
        ("no-line", no_line, "Malformed", HEADER),
    ])
}

/// Values cut at each layer, and one with extra bytes at the end.
fn cut_short(namespace: &TestNamespace) -> Result<Vec<Damaged>> {
    /// Where to cut a file, given the offsets of its MAC line and its payload.
    type Cut = fn(&[u8], usize, usize) -> Result<usize>;
    const CHUNK: usize = 64 * 1024 + 16;
    let cuts: [(&str, Cut, &str, &str); 11] = [
        ("in-binding", |file, _, _| Ok(at(file, " strict ")? + 4), "Malformed", HEADER),
        ("in-stanza", |_, mac, _| Ok(mac - 100), "Malformed", HEADER),
        ("no-mac", |_, mac, _| Ok(mac + 1), "Malformed", HEADER),
        ("in-mac", |_, mac, _| Ok(mac + 20), "Malformed", HEADER),
        ("no-nonce", |_, _, payload| Ok(payload), "Malformed", PAYLOAD),
        ("in-nonce", |_, _, payload| Ok(payload + 9), "Malformed", PAYLOAD),
        ("no-chunk", |_, _, payload| Ok(payload + 16), "Malformed", PAYLOAD),
        ("in-tag", |_, _, payload| Ok(payload + 31), "Malformed", PAYLOAD),
        ("in-chunk", |_, _, payload| Ok(payload + 500), "Damaged", CHANGED),
        ("one-chunk", |_, _, payload| Ok(payload + 16 + CHUNK), "Damaged", CHANGED),
        ("last-byte", |file, _, _| Ok(file.len() - 1), "Damaged", CHANGED),
    ];
    let mut cases = Vec::new();
    for (name, cut, reason, message) in cuts {
        let file = long(namespace, name)?;
        let mac = at(&file, "\n--- ")?;
        let length = cut(&file, mac, mac + 5 + 43 + 1)?;
        cases.push((name, BASE64_STANDARD.encode(&file[..length]), reason, message));
    }
    let extended = [long(namespace, "extended")?, vec![0; 20]].concat();
    cases.push(("extended", BASE64_STANDARD.encode(extended), "Damaged", CHANGED));
    Ok(cases)
}

/// Endless headers, of the largest size that can be stored. The next test has larger ones.
fn too_long(namespace: &TestNamespace) -> Result<Vec<Damaged>> {
    let header = |name: &str, rest: &[u8]| {
        let file = long(namespace, name)?;
        let begun = &file[..at(&file, "\n-> mlkem768x25519 ")? + 1];
        anyhow::Ok([begun, rest].concat())
    };
    let line = |name: &str, end: &[u8]| {
        let mut file = header(name, b"-> X25519 ")?;
        file.resize(MEBIBYTE - 4 - end.len(), b'x');
        file.extend_from_slice(end);
        anyhow::Ok(BASE64_STANDARD.encode(file))
    };
    let stanzas = "-> X25519\n\n".repeat(10_000) + "--- x\n";
    let many = BASE64_STANDARD.encode(header("many-stanzas", stanzas.as_bytes())?);
    Ok(vec![
        ("many-stanzas", many, "Malformed", "more than 64 stanzas"),
        ("long-line", line("long-line", b"")?, "Malformed", LONG_HEADER),
        ("long-header", line("long-header", b"\n\n--- AAAA\n")?, "Malformed", LONG_HEADER),
    ])
}

#[test]
fn an_object_too_large_to_store_is_refused_without_quoting_it() -> Result<()> {
    let namespace = TestNamespace::shared("too-large")?;
    let prefix = bulla_crds::SEALED_PREFIX;
    let plaintext = BASE64_STANDARD.encode(format!("{MARKER}\n"));
    let repeated = |length: usize| plaintext.repeat(length / plaintext.len());
    // The API server reads no request above 3 MiB.
    for (mebibytes, code) in [(2, 422), (10, 413)] {
        let value = format!("{prefix}{}", repeated(mebibytes * MEBIBYTE));
        let Err(error) = namespace.apply(&manifest("db", [("password", value.as_str())])) else {
            anyhow::bail!("{mebibytes} MiB are stored");
        };
        assert_eq!(api::code(&error), Some(code), "{error:#}");
        let said = format!("{error:#}");
        ensure!(said.len() < 1000 && !marker::is_in(&said), "{said}");
    }
    // The largest value that the schema allows is stored, and the controller refuses it.
    let length = MEBIBYTE.div_ceil(3) * 4;
    let largest = format!("{prefix}{}", repeated(length - prefix.len()));
    let padded = format!("{largest}{}", "A".repeat(length - largest.len()));
    namespace.apply(&manifest("largest", [("password", padded.as_str())]))?;
    let refused = namespace.refused("largest", "Invalid")?;
    assert_eq!(message(&refused), "more than 1 MiB of sealed data in one SealedSecret; split it");

    let value = sealed(&namespace, "db", "password", MARKER.as_bytes())?;
    let value = BASE64_STANDARD.encode(value);
    let many: BTreeMap<_, _> = (0..600).map(|i| (format!("key-{i}"), value.as_str())).collect();
    let said = refusal(namespace.apply(&manifest("db", &many)))?;
    ensure!(said.contains("spec.sealedData: Too many: 600: must have at most 256 items"), "{said}");
    ensure!(!said.contains(&value[60..100]), "{said}");
    are_left_alone(&namespace, &["Invalid"])
}

#[test]
fn the_largest_secret_is_unsealed_and_a_larger_one_is_refused() -> Result<()> {
    let namespace = TestNamespace::shared("as-much")?;
    let many: Vec<_> = (0..256).map(|i| format!("key-{i}")).collect();
    let many: Vec<_> = many.iter().map(|key| (key.as_str(), key.as_str())).collect();
    namespace.unseal("many", &many)?;
    ensure!(namespace.data("many")? == clear(&many), "not the values");

    // A value has less room than a Secret by its header and a tag for each chunk of 64 KiB, and no more.
    let overhead = sealed(&namespace, "one", "password", b"")?.len() + 16 * 16;
    let largest = filled(MEBIBYTE - overhead);
    let value = |name: &str, plaintext: &[u8]| {
        anyhow::Ok(BASE64_STANDARD.encode(sealed(&namespace, name, "password", plaintext)?))
    };
    namespace.apply(&manifest("one", [("password", value("one", &largest)?.as_str())]))?;
    namespace.done("one")?;
    ensure!(
        namespace.data("one")? == BTreeMap::from([("password".into(), largest.clone())]),
        "other data"
    );
    let before = namespace.secret("one")?;

    let said = refusal(
        namespace
            .apply(&manifest("one", [("password", value("one", &filled(MEBIBYTE))?.as_str())])),
    )?;
    ensure!(said.contains("spec.sealedData.password: Too long"), "{said}");
    // The API server still stores this, because its limit is a little higher. The controller refuses it.
    let little = BASE64_STANDARD.encode(sealed(&namespace, "one", "user", &filled(4096))?);
    namespace.apply(&manifest(
        "one",
        [("password", value("one", &largest)?.as_str()), ("user", little.as_str())],
    ))?;
    let refused = namespace.refused("one", "Invalid")?;
    assert_eq!(message(&refused), "more than 1 MiB of sealed data in one SealedSecret; split it");
    ensure!(namespace.secret("one")? == before, "it has changed its Secret");

    // Too much only together with the keys that the Secret already has.
    let half = "x".repeat(600 * 1024);
    let mut theirs = secret("merged", &[("theirs", &half)]);
    theirs["metadata"]["labels"] = json!({"bulla.dev/target": "merge"});
    let theirs = namespace.api.create(&namespace.secrets(), &theirs)?;
    namespace.apply(&with_policy(namespace.seal("merged", &[("ours", &half)])?, "Merge"))?;
    let refused = namespace.refused("merged", "TargetInvalid")?;
    assert_eq!(message(&refused), "the API server rejects the Secret at data");
    ensure!(namespace.secret("merged")? == theirs, "it was touched");
    are_left_alone(&namespace, &["Invalid", "TargetInvalid"])
}

#[test]
fn all_invalid_registry_logins_get_the_same_message() -> Result<()> {
    let namespace = TestNamespace::shared("registry-logins")?;
    let values = [
        String::new(),
        MARKER.to_owned(),
        format!("\"{MARKER}\""),
        format!("[\"{MARKER}\"]"),
        "null".to_owned(),
        format!("{{\"{MARKER}\""),
        format!("{{}} {{\"{MARKER}\": 1}}"),
        format!("{{\"{MARKER}\": {{]}}"),
        format!("\u{feff}{{\"{MARKER}\": 1}}"),
    ];
    for (kind, key) in [("dockerconfigjson", ".dockerconfigjson"), ("dockercfg", ".dockercfg")] {
        let apply = |name: &str, value: &str| {
            let value = BASE64_STANDARD.encode(sealed(&namespace, name, key, value.as_bytes())?);
            let mut sealed_secret = manifest(name, [(key, value)]);
            sealed_secret["spec"]["template"] = json!({"type": format!("kubernetes.io/{kind}")});
            namespace.apply(&sealed_secret)
        };
        for (number, value) in values.iter().enumerate() {
            apply(&format!("{kind}-{number}"), value)?;
        }
        for number in 0..values.len() {
            let name = format!("{kind}-{number}");
            let told = format!("key {key}: not valid for type kubernetes.io/{kind}");
            assert_eq!(message(&namespace.refused(&name, "InvalidForType")?), told);
            assert_eq!(namespace.event(&name, "InvalidForType")?["note"], told);
            ensure!(!namespace.has_secret(&name)?, "{name} has a Secret");
        }
        let good = json!({"auths": {"registry.example.com": {"password": MARKER}}});
        apply(&format!("{kind}-good"), &format!(" {good}\n"))?;
        namespace.done(&format!("{kind}-good"))?;
    }
    are_left_alone(&namespace, &["InvalidForType"])
}

#[test]
fn wider_scopes_open_only_where_they_allow() -> Result<()> {
    let namespace = TestNamespace::shared("scopes")?;
    let elsewhere = TestNamespace::shared("scopes-elsewhere")?;
    let plaintext = [("password", "1"), ("user", "2")];
    let values = |scope: Scope| {
        let secret = WipedSecret::new(serde_json::from_value(secret("origin", &plaintext))?);
        let sealed_secret =
            bulla_crds::seal(&secret, namespace.name.as_str(), scope, &namespace.recipients)?;
        anyhow::Ok(sealed_secret.spec.sealed_data)
    };
    let (in_namespace, in_cluster) = (values(Scope::Namespace)?, values(Scope::Cluster)?);
    let swapped = |values: &BTreeMap<String, String>| {
        BTreeMap::from([
            ("password".to_owned(), values["user"].clone()),
            ("user".to_owned(), values["password"].clone()),
        ])
    };
    namespace.apply(&manifest("another", &in_namespace))?;
    elsewhere.apply(&manifest("any", &in_cluster))?;
    let strict = namespace.seal("mixed", &plaintext)?;
    let strict = strict["spec"]["sealedData"]["user"].as_str().context("no value")?.to_owned();
    let mixed = [("password", in_cluster["password"].as_str()), ("user", strict.as_str())];
    namespace.apply(&manifest("mixed", mixed))?;
    for (namespace, name) in [(&namespace, "another"), (&elsewhere, "any"), (&namespace, "mixed")] {
        namespace.done(name)?;
        ensure!(namespace.data(name)? == clear(&plaintext), "{name}: not the values");
    }

    elsewhere.apply(&manifest("moved", &in_namespace))?;
    namespace.apply(&manifest("swapped-namespace", &swapped(&in_namespace)))?;
    elsewhere.apply(&manifest("swapped-cluster", &swapped(&in_cluster)))?;
    for (namespace, name, sealed_for) in [
        (&elsewhere, "moved", "key password of any Secret in namespace scopes"),
        (&namespace, "swapped-namespace", "key user of any Secret in namespace scopes"),
        (&elsewhere, "swapped-cluster", "key user of any Secret in the cluster"),
    ] {
        let refused = namespace.refused(name, "WrongBinding")?;
        let here = format!("key password of {}/{name}", namespace.name);
        let expected = format!("key password: sealed for {sealed_for}, not for {here}");
        assert_eq!(message(&refused), expected);
        ensure!(!namespace.has_secret(name)?, "{name} has a Secret");
    }
    are_left_alone(&namespace, &["WrongBinding"])
}

#[test]
fn sealed_secrets_replaced_during_a_reconcile_end_as_their_last_version_declares() -> Result<()> {
    const ROUNDS: usize = 50;
    let namespace = TestNamespace::shared("replaced")?;
    let mut last = BTreeMap::new();
    for round in 0..ROUNDS {
        for (name, is_good) in [("good", round % 2 == 1), ("bad", round % 2 == 0)] {
            let (key, value) = (format!("key-{round}"), round.to_string());
            let values = [(key.as_str(), value.as_str())];
            let mut next = namespace.seal(name, &values)?;
            if !is_good {
                next["spec"] = namespace.seal("other", &values)?["spec"].clone();
            }
            if round > 0 {
                namespace.api.delete(&namespace.sealed_secret_path(name), &Value::Null)?;
            }
            last.insert(name, namespace.apply(&next)?["metadata"]["uid"].clone());
        }
    }
    let key = format!("key-{}", ROUNDS - 1);
    let value = (ROUNDS - 1).to_string();
    // This still holds after the garbage collector has handled the Secrets of earlier versions.
    for _ in 0..2 {
        eventually("the last good version", SOON, || {
            let done = namespace.done("good")?;
            let secret = namespace.secret("good")?;
            ensure!(data(&secret)? == clear(&[(&key, &value)]), "other data");
            let owner = &secret["metadata"]["ownerReferences"][0]["uid"];
            ensure!(*owner == last["good"] && done["metadata"]["uid"] == last["good"], "{owner}");
            ensure!(secret["metadata"]["deletionTimestamp"].is_null(), "under deletion");
            let target = &done["status"]["target"];
            assert_eq!(target["keys"], json!([key]));
            for field in ["uid", "resourceVersion"] {
                ensure!(target[field] == secret["metadata"][field], "the status is behind");
            }
            assert_eq!(done["status"]["observedGeneration"], 1);
            Ok(())
        })?;
        let refused = namespace.refused("bad", "WrongBinding")?;
        ensure!(message(&refused).starts_with(&format!("key {key}: ")), "{}", message(&refused));
        assert_eq!(refused["metadata"]["uid"], last["bad"]);
        assert_eq!(refused["status"]["target"], Value::Null, "of an earlier one");
        namespace.let_collect()?;
    }
    namespace.gone(&namespace.secret_path("bad"))?;
    Ok(())
}

#[test]
fn a_namespace_that_stays_terminating_is_retried_and_delays_no_other_object() -> Result<()> {
    const RETRIES: &str =
        "bulla_reconciles_total{outcome=\"retrying\",reason=\"NamespaceTerminating\"";
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("not-ending")?;
    let beside = TestNamespace::shared("not-ending-beside")?;
    let values = [("password", "1")];
    let sealed_secret = namespace.seal("db", &values)?;
    namespace.apply(&sealed_secret)?;
    namespace.done("db")?;
    let hold = Hold::new(&namespace)?;
    let before = cluster.controller.metric(RETRIES)?;
    let started = Instant::now();
    let namespace_path = format!("/api/v1/namespaces/{}", namespace.name);
    namespace.api.delete(&namespace_path, &Value::Null)?;
    let waiting = namespace.retried("db", "NamespaceTerminating")?;
    assert_eq!(message(&waiting), "the namespace is being deleted");
    assert_eq!(Verdict::of(&waiting)?.status, Status::InProgress);
    ensure!(!namespace.has_secret("db")?, "its Secret exists");
    for value in ["1", "2", "3"] {
        beside.unseal("db", &[("password", value)])?;
    }
    // Other tests may end namespaces too; a loop without a delay would count thousands.
    let retries = cluster.controller.metric(RETRIES)? - before;
    ensure!(retries < 60.0, "{retries} in {:?}", started.elapsed());

    hold.release(&namespace)?;
    namespace.gone(&namespace_path)?;
    namespace.api.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace.name}}))?;
    namespace.apply(&sealed_secret)?;
    // Far shorter than the delay that the earlier object of this name may have had.
    eventually("the Secret in the new namespace", Duration::from_secs(20), || {
        ensure!(namespace.data("db")? == clear(&values), "not its values");
        Ok(())
    })?;
    namespace.done("db")?;
    Ok(())
}

/// A policy that forbids the deletion of one namespace's SealedSecrets, so that the namespace stays half deleted.
struct Hold(&'static str);

impl Hold {
    const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    const BINDINGS: &str =
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

    /// Waits until it is in force.
    fn new(namespace: &TestNamespace) -> Result<Self> {
        let name = "test-hold";
        let policy = json!({"metadata": {"name": name}, "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name}},
                "resourceRules": [{
                    "apiGroups": ["bulla.dev"], "apiVersions": ["*"], "operations": ["DELETE"],
                    "resources": ["sealedsecrets"],
                }],
            },
            "validations": [{"expression": "false", "message": "held for a test"}],
        }});
        namespace.api.create(Self::POLICIES, &policy)?;
        let spec = json!({"policyName": name, "validationActions": ["Deny"]});
        namespace.api.create(Self::BINDINGS, &json!({"metadata": {"name": name}, "spec": spec}))?;
        let path = format!("{}?dryRun=All", namespace.sealed_secret_path("db"));
        eventually("the policy to be in force", SOON, || {
            let outcome = namespace.api.delete(&path, &Value::Null);
            ensure!(refusal(outcome)?.contains("held for a test"), "refused for another reason");
            Ok(())
        })?;
        Ok(Self(name))
    }

    fn release(self, namespace: &TestNamespace) -> Result<()> {
        for path in [Self::BINDINGS, Self::POLICIES] {
            namespace.api.delete(&format!("{path}/{}", self.0), &Value::Null)?;
        }
        Ok(())
    }
}

/// Waits for a while in which no object becomes stalled for any of these reasons. Other tests cause such reconciles
/// too, so there are several tries. Objects that are retried all the time would show in every try.
fn are_left_alone(namespace: &TestNamespace, reasons: &[&str]) -> Result<()> {
    let controller = &Cluster::shared()?.controller;
    let count = || -> Result<f64> {
        let each = reasons.iter().map(|reason| {
            let labels = format!("{{outcome=\"stalled\",reason=\"{reason}\"");
            controller.metric(&format!("bulla_reconciles_total{labels}"))
        });
        each.sum()
    };
    eventually("a while without a reconcile", SOON, || {
        let before = count()?;
        namespace.let_pass()?;
        let after = count()?;
        ensure!(before == after, "{} more", after - before);
        Ok(())
    })
}

/// One value, sealed for this namespace and to the cluster's key.
fn sealed(namespace: &TestNamespace, name: &str, key: &str, plaintext: &[u8]) -> Result<Vec<u8>> {
    let binding = Binding::new(Scope::Strict, &ValueAddress::new(&namespace.name, name, key)?);
    Ok(bulla_sealing::seal(plaintext, &binding, &namespace.recipients)?)
}

/// A plaintext of this length, with the marker.
fn filled(length: usize) -> Vec<u8> {
    let mut plaintext = MARKER.as_bytes().to_vec();
    plaintext.resize(length, b'x');
    plaintext
}

/// A SealedSecret with these texts as values.
fn manifest<K: AsRef<str>, V: AsRef<str>>(
    name: &str,
    sealed_data: impl IntoIterator<Item = (K, V)>,
) -> Value {
    let sealed_data: BTreeMap<_, _> = sealed_data
        .into_iter()
        .map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()))
        .collect();
    json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": name}, "spec": {"sealedData": sealed_data},
    })
}
