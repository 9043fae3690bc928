//! `bulla lint` without a cluster and the API server agree.

use anyhow::{Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use bulla_crds::{ParsedValues, SealedSecret, rules::violations};
use serde_json::{Map, Value, json};

use crate::{
    marker::MARKER,
    test_namespace::{TestNamespace, refusal},
};

#[test]
fn lint_and_the_api_server_refuse_the_same_objects() -> Result<()> {
    let namespace = TestNamespace::shared("rules")?;
    let value =
        namespace.seal("db", &[("password", MARKER)])?["spec"]["sealedData"]["password"].clone();
    let with_keys = |keys: &[&str]| {
        let data: Map<_, _> = keys.iter().map(|key| ((*key).to_owned(), value.clone())).collect();
        json!({"sealedData": data})
    };
    let with_template = |template: Value| {
        let mut spec = with_keys(&["password"]);
        spec["template"] = template;
        spec
    };
    let with_labels = |labels: Value| with_template(json!({"metadata": {"labels": labels}}));
    let with_annotations =
        |annotations: Value| with_template(json!({"metadata": {"annotations": annotations}}));
    let many: Vec<String> = (0..257).map(|i| format!("key-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let invalid = [
        ("no values", json!({"sealedData": {}})),
        ("too many values", with_keys(&many)),
        ("a key with a slash", with_keys(&["a/b"])),
        ("a key with a space", with_keys(&["a b"])),
        ("an empty key", with_keys(&[""])),
        ("a key of one dot", with_keys(&["."])),
        ("a key of two dots", with_keys(&[".."])),
        ("a key that begins with two dots", with_keys(&["..data"])),
        ("a key that is too long", with_keys(&[&"k".repeat(254)])),
        ("a key that is not ASCII", with_keys(&["ключ"])),
        ("a token", with_template(json!({"type": "kubernetes.io/service-account-token"}))),
        ("a bootstrap token", with_template(json!({"type": "bootstrap.kubernetes.io/token"}))),
        ("an identity", with_template(json!({"type": "bulla.dev/identity"}))),
        ("tls without certificate", with_template(json!({"type": "kubernetes.io/tls"}))),
        (
            "a registry without its key",
            with_template(json!({"type": "kubernetes.io/dockerconfigjson"})),
        ),
        (
            "an old registry without its key",
            with_template(json!({"type": "kubernetes.io/dockercfg"})),
        ),
        ("ssh without its key", with_template(json!({"type": "kubernetes.io/ssh-auth"}))),
        ("a label key with a space", with_labels(json!({"a b": "1"}))),
        ("a label key with two slashes", with_labels(json!({"a/b/c": "1"}))),
        ("a label prefix in capitals", with_labels(json!({"Example.com/a": "1"}))),
        ("a label value with a space", with_labels(json!({"a": "1 2"}))),
        ("a label value that is too long", with_labels(json!({"a": "v".repeat(64)}))),
        ("an annotation key with a space", with_annotations(json!({"a b": "1"}))),
        ("an annotation key with a long name", with_annotations(json!({"a".repeat(64): "1"}))),
    ];
    let mut disagreements = Vec::new();
    for (name, spec) in invalid {
        let manifest = manifest(&spec);
        let said = refusal(namespace.apply(&manifest));
        let sealed_secret = serde_json::from_value::<SealedSecret>(manifest)?;
        let found = violations(&sealed_secret, &ParsedValues::of(&sealed_secret));
        for text in found.iter().map(ToString::to_string).chain(said.as_ref().ok().cloned()) {
            ensure!(!text.contains(value.as_str().unwrap_or_default()), "{name}: {text}");
        }
        if said.is_err() || found.is_empty() {
            disagreements.push((name, said.is_ok(), found));
        }
    }
    ensure!(disagreements.is_empty(), "refused by the API server, and by lint: {disagreements:#?}");

    let valid = [
        with_keys(&["a", "A_b.c-1", ".hidden", "k...", &"k".repeat(253)]),
        with_keys(&many[..256]),
        with_template(json!({"type": "example.com/anything", "immutable": false})),
        with_labels(json!({"a": "", "example.com/A_b.c-1": "A_b.c-1"})),
        with_annotations(json!({"example.com/a": "any text, also \u{1f600}"})),
    ];
    for spec in valid {
        let manifest = manifest(&spec);
        namespace.apply(&manifest)?;
        let sealed_secret = serde_json::from_value::<SealedSecret>(manifest)?;
        let found = violations(&sealed_secret, &ParsedValues::of(&sealed_secret));
        ensure!(found.is_empty(), "{found:?}");
    }
    Ok(())
}

#[test]
fn a_refusal_repeats_none_of_the_objects_values() -> Result<()> {
    let namespace = TestNamespace::shared("rules-quote-nothing")?;
    let in_base64 = BASE64_STANDARD.encode(MARKER);
    for value in
        [MARKER.to_owned(), in_base64.clone(), format!("{MARKER}\n"), MARKER.repeat(40_000)]
    {
        for template in [json!({}), json!({"type": "kubernetes.io/tls"})] {
            let spec =
                json!({"sealedData": {"a b": value, "password": value}, "template": template});
            let said = refusal(namespace.apply(&manifest(&spec)))?;
            ensure!(said.contains("a b") || said.contains("password"), "{said}");
            ensure!(!said.contains(MARKER) && !said.contains(&in_base64[..20]), "{said}");
        }
    }
    Ok(())
}

fn manifest(spec: &Value) -> Value {
    json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealedSecret",
        "metadata": {"name": "invalid"}, "spec": spec,
    })
}
