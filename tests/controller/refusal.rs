//! Values that cannot be unsealed are refused, each with its own reason, and nothing is lost.

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_sealing::{Binding, Identity, KeyType, Recipients, Scope, ValueAddress};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    marker::MARKER,
    test_namespace::{TestNamespace, large_annotations, message, refusal, seal_for, secret},
};

/// Valid values, which the invalid ones replace.
const GOOD: [(&str, &str); 2] = [("password", "good"), ("user", "good")];

/// A defect of an object.
struct Case {
    name: &'static str,
    sealed_data: Value,
    reason: &'static str,
    message: String,
}

#[test]
fn an_object_that_does_not_open_is_refused_and_changes_nothing() -> Result<()> {
    let namespace = TestNamespace::shared("refusal")?;
    let good = |name: &str| format!("good-{name}");
    let mut last_good = Vec::new();
    for case in cases(&namespace, "unused")? {
        let name = good(case.name);
        namespace.unseal(&name, &GOOD)?;
        last_good.push(namespace.secret(&name)?);
    }
    // Each case once as the first version of an object, and once after a valid version.
    let new: Vec<_> = names().into_iter().map(|name| ("", name)).collect();
    let old: Vec<_> = names().into_iter().map(|name| ("good-", name)).collect();
    for (prefix, case_name) in new.iter().chain(&old) {
        let name = format!("{prefix}{case_name}");
        let case = case(&namespace, &name, case_name)?;
        let manifest = json!({
            "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": name}, "spec": {"sealedData": case.sealed_data},
        });
        namespace.apply(&manifest)?;
    }
    for (prefix, case_name) in new.iter().chain(&old) {
        let name = format!("{prefix}{case_name}");
        let case = case(&namespace, &name, case_name)?;
        let refused = namespace.refused(&name, case.reason)?;
        assert_eq!(message(&refused), case.message, "{name}");
        let event = namespace.event(&name, case.reason)?;
        assert_eq!((&event["type"], &event["note"]), (&json!("Warning"), &json!(case.message)));
    }
    namespace.let_pass()?;
    for (_, name) in &new {
        ensure!(!namespace.has_secret(name)?, "{name} has a Secret");
    }
    for (name, before) in names().into_iter().zip(last_good) {
        ensure!(namespace.secret(&good(name))? == before, "{name} has changed its Secret");
    }
    Ok(())
}

fn names() -> Vec<&'static str> {
    vec![
        "other-namespace",
        "other-name",
        "swapped",
        "unknown-key",
        "payload-changed",
        "mac-changed",
        "binding-changed",
        "cut-short",
        "no-base64",
        "other-format",
    ]
}

fn case(namespace: &TestNamespace, name: &str, case: &str) -> Result<Case> {
    let found = cases(namespace, name)?.into_iter().find(|found| found.name == case);
    found.with_context(|| format!("no case {case}"))
}

/// Every defect of an object of this name that the API server stores.
fn cases(namespace: &TestNamespace, name: &str) -> Result<Vec<Case>> {
    let namespace_name = &namespace.name;
    let values = |manifest: Value| manifest["spec"]["sealedData"].clone();
    let good = values(namespace.seal(name, &GOOD)?);
    let with_password = |file: Vec<u8>| {
        let mut sealed_data = good.clone();
        sealed_data["password"] = json!(BASE64_STANDARD.encode(file));
        sealed_data
    };
    let password = BASE64_STANDARD.decode(good["password"].as_str().context("no value")?)?;
    let header_len = header_len(&password)?;

    let mut swapped = good.clone();
    swapped["password"] = good["user"].clone();
    swapped["user"] = good["password"].clone();

    let mut payload_changed = password.clone();
    *payload_changed.last_mut().context("empty")? ^= 1;
    let mut mac_changed = password.clone();
    let mac = &mut mac_changed[header_len - 44];
    *mac = if *mac == b'A' { b'B' } else { b'A' };
    // Moved by a change of its binding.
    let elsewhere = values(seal_for("elsewhere", secret(name, &GOOD), &namespace.recipients)?);
    let moved = BASE64_STANDARD.decode(elsewhere["password"].as_str().context("no value")?)?;
    let moved = replaced(&moved, b" elsewhere ", format!(" {namespace_name} ").as_bytes())?;
    let other_format = replaced(&password, b"-> bulla.dev/v1 ", b"-> bulla.dev/v1.5 ")?;

    let here = format!("not for key password of {namespace_name}/{name}");
    let (stranger, fingerprint) = stranger()?;
    let damaged = "key password: damaged: it was changed after it was sealed";
    let with = |name, sealed_data, reason, message: &str| Case {
        name,
        sealed_data,
        reason,
        message: message.to_owned(),
    };
    Ok(vec![
        with(
            "other-namespace",
            elsewhere,
            "WrongBinding",
            &format!("key password: sealed for key password of elsewhere/{name}, {here}"),
        ),
        with(
            "other-name",
            values(namespace.seal("other", &GOOD)?),
            "WrongBinding",
            &format!("key password: sealed for key password of {namespace_name}/other, {here}"),
        ),
        with(
            "swapped",
            swapped,
            "WrongBinding",
            &format!("key password: sealed for key user of {namespace_name}/{name}, {here}"),
        ),
        with(
            "unknown-key",
            values(seal_for(namespace_name, secret(name, &GOOD), &stranger)?),
            "UnknownKey",
            &no_identity(&fingerprint),
        ),
        with("payload-changed", with_password(payload_changed), "Damaged", damaged),
        with("mac-changed", with_password(mac_changed), "Damaged", damaged),
        with("binding-changed", with_password(moved), "Damaged", damaged),
        with(
            "cut-short",
            with_password(password[..header_len + 10].to_vec()),
            "Malformed",
            &format!(
                "key password: malformed at byte {}: the payload is cut short",
                header_len + 10
            ),
        ),
        with(
            "no-base64",
            {
                let mut sealed_data = good.clone();
                sealed_data["password"] = json!(format!("{}###", bulla_crds::SEALED_PREFIX));
                sealed_data
            },
            "NotSealed",
            "key password: not base64, so not a sealed value",
        ),
        with(
            "other-format",
            with_password(other_format),
            "NotSealed",
            "key password: an age file without a binding, so not a sealed value",
        ),
    ])
}

/// A recipient whose identity no controller holds. It is the same in the whole process.
fn stranger() -> Result<(Recipients, String)> {
    static STRANGER: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let recipient = match STRANGER.get() {
        Some(recipient) => recipient.clone(),
        None => {
            let recipient = Identity::generate(KeyType::X25519)?.recipient().to_string();
            STRANGER.get_or_init(|| recipient).clone()
        }
    };
    let recipient: bulla_sealing::Recipient = recipient.parse()?;
    let fingerprint = recipient.fingerprint().to_string();
    Ok((Recipients::new(vec![recipient])?, fingerprint))
}

/// The message for a value that is sealed only to a key that this cluster does not have.
fn no_identity(fingerprint: &str) -> String {
    format!(
        "key password: this cluster has no identity for {fingerprint}; seal the value for this cluster, or run bulla keys restore"
    )
}

/// The header, including the line break after the MAC.
fn header_len(file: &[u8]) -> Result<usize> {
    let mac = file.windows(5).position(|bytes| bytes == b"\n--- ").context("no MAC")?;
    Ok(mac + 5 + 43 + 1)
}

fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>> {
    let at = file.windows(from.len()).position(|bytes| bytes == from).context("not found")?;
    Ok([&file[..at], to, &file[at + from.len()..]].concat())
}

#[test]
fn a_value_that_waits_for_a_key_is_unsealed_when_the_key_is_added() -> Result<()> {
    let namespace = TestNamespace::shared("late-key")?;
    for key_type in [KeyType::X25519, KeyType::Hybrid] {
        let identity = Identity::generate(key_type)?;
        let recipient = identity.recipient();
        let fingerprint = recipient.fingerprint().to_string();
        let recipients = Recipients::new(vec![recipient])?;
        let name = format!("{key_type}");
        namespace.apply(&seal_for(&namespace.name, secret(&name, &GOOD), &recipients)?)?;
        let refused = namespace.refused(&name, "UnknownKey")?;
        assert_eq!(message(&refused), no_identity(&fingerprint));
        assert_eq!(refused["status"]["fingerprints"], json!([fingerprint]));

        let text = format!("# made for a test\n{}\n", &*identity.to_secret_string());
        let secret = json!({
            "metadata": {"name": fingerprint}, "type": "bulla.dev/identity",
            "stringData": {"identity.txt": text},
        });
        namespace.api.create("/api/v1/namespaces/bulla-system/secrets", &secret)?;
        namespace.done(&name)?;
        ensure!(namespace.data(&name)? == crate::test_namespace::clear(&GOOD), "not the values");
    }
    Ok(())
}

#[test]
fn a_value_that_is_not_sealed_is_not_stored_and_not_quoted() -> Result<()> {
    let namespace = TestNamespace::shared("not-sealed")?;
    let identity = Identity::generate(KeyType::X25519)?;
    let target = ValueAddress::new(&namespace.name, "db", "password")?;
    let recipients = Recipients::new(vec![identity.recipient()])?;
    let sealed =
        bulla_sealing::seal(MARKER.as_bytes(), &Binding::new(Scope::Strict, &target), &recipients)?;
    // A plain age file has no binding.
    let text = sealed.as_slice();
    let binding = text.windows(4).position(|bytes| bytes == b"\n-> ").context("no stanza")?;
    let recipient =
        text.windows(10).position(|bytes| bytes == b"\n-> X25519").context("no recipient")?;
    let unbound = [&text[..binding], &text[recipient..]].concat();
    for value in [
        MARKER.to_owned(),
        BASE64_STANDARD.encode(MARKER),
        BASE64_STANDARD.encode(unbound),
        BASE64_STANDARD.encode(format!("age-encryption.org/v1\n{MARKER}")),
        String::new(),
    ] {
        let manifest = json!({
            "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "db"}, "spec": {"sealedData": {"password": value}},
        });
        let said = refusal(namespace.apply(&manifest))?;
        ensure!(said.contains("not a sealed value (run bulla seal): password"), "{said}");
        ensure!(!said.contains(MARKER), "{said}");
        ensure!(value.is_empty() || !said.contains(&value[..20]), "{said}");
    }
    // The same with kubectl, as a user sees it.
    let manifest = json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "db", "namespace": namespace.name},
        "spec": {"sealedData": {"password": MARKER}},
    });
    let admin = Cluster::shared()?.plane.admin();
    let Err(said) = admin.run_with_input(&["apply", "--filename=-"], &manifest.to_string()) else {
        bail!("it was stored");
    };
    let said = format!("{said:#}");
    ensure!(said.contains("run bulla seal): password") && !said.contains(MARKER), "{said}");
    ensure!(namespace.api.get_opt(&namespace.sealed_secret_path("db"))?.is_none(), "it is stored");
    Ok(())
}

#[test]
fn secret_types_that_the_cluster_trusts_are_not_stored() -> Result<()> {
    let namespace = TestNamespace::shared("types")?;
    let mut sealed_secret = namespace.seal("db", &GOOD)?;
    for type_ in bulla_crds::REFUSED_TYPES {
        sealed_secret["spec"]["template"] = json!({"type": type_});
        let said = refusal(namespace.apply(&sealed_secret))?;
        ensure!(said.contains("a credential that the cluster itself trusts"), "{said}");
    }
    Ok(())
}

#[test]
fn a_value_invalid_for_its_type_is_refused_without_quoting_it() -> Result<()> {
    let namespace = TestNamespace::shared("unfit")?;
    let log_before = Cluster::shared()?.controller.log()?.len();
    // The API server would report "invalid character 'S' looking for beginning of value".
    let plaintext = "SWORDFISH is not JSON";
    let mut sealed_secret = namespace.seal("registry", &[(".dockerconfigjson", plaintext)])?;
    sealed_secret["spec"]["template"] = json!({"type": "kubernetes.io/dockerconfigjson"});
    namespace.apply(&sealed_secret)?;
    let refused = namespace.refused("registry", "InvalidForType")?;
    assert_eq!(
        message(&refused),
        "key .dockerconfigjson: not valid for type kubernetes.io/dockerconfigjson"
    );
    let event = namespace.event("registry", "InvalidForType")?;
    let log = Cluster::shared()?.controller.log()?.split_off(log_before);
    let ours = log.lines().filter(|line| line.contains("unfit/")).collect::<Vec<_>>().join("\n");
    ensure!(ours.contains("InvalidForType"), "the log does not report it: {ours}");
    for text in [refused["status"].to_string(), event.to_string(), ours] {
        ensure!(!text.contains("SWORDFISH") && !text.contains("'S'"), "{text}");
        ensure!(!text.contains("invalid character"), "{text}");
    }
    namespace.let_pass()?;
    ensure!(!namespace.has_secret("registry")?, "a Secret appeared");

    let config =
        json!({"auths": {"registry.example.com": {"username": "shop", "password": MARKER}}});
    let mut sealed_secret =
        namespace.seal("registry", &[(".dockerconfigjson", &config.to_string())])?;
    sealed_secret["spec"]["template"] = json!({"type": "kubernetes.io/dockerconfigjson"});
    namespace.apply(&sealed_secret)?;
    namespace.done("registry")?;
    Ok(())
}

#[test]
fn a_refusal_by_the_api_server_is_reported_with_its_field() -> Result<()> {
    let namespace = TestNamespace::shared("refused-by-field")?;
    let mut sealed_secret = namespace.seal("login", &[("password", "1")])?;
    sealed_secret["spec"]["template"] = json!({"metadata": {"annotations": large_annotations()}});
    namespace.apply(&sealed_secret)?;
    let refused = namespace.refused("login", "TargetInvalid")?;
    let told = message(&refused);
    ensure!(
        told.starts_with("the API server rejects the Secret at metadata.annotations"),
        "{told}"
    );
    ensure!(!namespace.has_secret("login")?, "a Secret appeared");
    Ok(())
}

#[test]
fn no_secret_is_created_in_the_namespace_of_the_identities() -> Result<()> {
    let namespace = TestNamespace::existing("bulla-system")?;
    namespace.apply(&namespace.seal("planted", &GOOD)?)?;
    let refused = namespace.refused("planted", "NamespaceRefused")?;
    assert_eq!(
        message(&refused),
        "the controller makes no Secrets in its own namespace; use another namespace"
    );
    ensure!(!namespace.has_secret("planted")?, "a Secret appeared");
    namespace.api.delete(&namespace.sealed_secret_path("planted"), &Value::Null)?;
    Ok(())
}
