//! Text rendered from sealed values, which reveals no value to others.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    marker::{self, MARKER, marked},
    test_namespace::{
        TestNamespace, annotations, clear, condition, data, message, refusal, with_policy,
    },
};

/// A part of templates.
const TEXT: &str = "TEXTbatterystaple";

#[test]
fn a_template_sets_type_labels_and_text_with_values_of_any_bytes() -> Result<()> {
    let namespace = TestNamespace::shared("templates")?;
    let (quotes, lines) = (marked(r#"say "hi" \ it's"#), format!("a\r\nb\tc-{MARKER}\n"));
    let braces = format!("{{{{ quotes }}}} {MARKER} }}}}");
    let bytes = [b"\xff\0x\xfe", MARKER.as_bytes()].concat();
    let values: [(&str, &[u8]); 5] = [
        ("quotes", quotes.as_bytes()),
        ("lines", lines.as_bytes()),
        ("bytes", &bytes),
        ("braces", braces.as_bytes()),
        ("empty", b""),
    ];
    let text = json!({
        "plain": "<{{ quotes }}|{{lines}}|{{ braces }}|{{ empty }}>",
        "bytes-plain": "{{ bytes }}",
        "in-base64": "b:{{ bytes | b64encode }} {{empty|b64encode}}",
        "json": r#"{"q":{{ quotes | json }},"l":{{ lines|json }},"b":{{ bytes | json }},"c":{{ braces | json }}}"#,
        "url": "https://shop:{{ quotes | urlencode }}@db/?b={{ bytes | urlencode }}&l={{ lines | urlencode }}",
        "braces-meant": r#"{{ "{{" }} quotes }}"#,
        "no-placeholder": "} }} { é\n",
        "nothing": "",
    });
    let marks = json!({
        "labels": {"team": "shop"},
        // More people can read labels and annotations than values, so they are never rendered.
        "annotations": {"example.com/text": "{{ quotes }}"},
    });
    let template =
        json!({"type": "example.com/app", "immutable": true, "metadata": marks, "data": text});
    namespace.apply(&templated(&namespace, "app", &values, template)?)?;
    let done = namespace.done("app")?;

    let secret = namespace.secret("app")?;
    let mut rendered = data(&secret)?;
    let parsed: Value = serde_json::from_slice(&rendered.remove("json").context("no json")?)?;
    let replaced = format!("\u{fffd}\0x\u{fffd}{MARKER}");
    assert_eq!(parsed, json!({"q": quotes, "l": lines, "b": replaced, "c": braces}));
    let plain = format!("<{quotes}|{lines}|{braces}|>");
    let encoded = format!("b:{} ", BASE64_STANDARD.encode(&bytes));
    let url = format!(
        "https://shop:say%20%22hi%22%20%5C%20it%27s-{MARKER}@db/\
         ?b=%FF%00x%FE{MARKER}&l=a%0D%0Ab%09c-{MARKER}%0A"
    );
    let rendered_texts: [(&str, &[u8]); 7] = [
        ("plain", plain.as_bytes()),
        ("bytes-plain", &bytes),
        ("in-base64", encoded.as_bytes()),
        ("url", url.as_bytes()),
        ("braces-meant", b"{{ quotes }}"),
        ("no-placeholder", "} }} { é\n".as_bytes()),
        ("nothing", b""),
    ];
    let expected: BTreeMap<String, Vec<u8>> = values
        .iter()
        .chain(&rendered_texts)
        .map(|(key, value)| ((*key).to_owned(), value.to_vec()))
        .collect();
    let differing: Vec<_> = expected
        .iter()
        .filter(|(key, value)| rendered.get(*key) != Some(*value))
        .map(|(key, _)| (key, rendered.get(key).map(|found| String::from_utf8_lossy(found))))
        .collect();
    ensure!(differing.is_empty() && rendered.len() == expected.len(), "{differing:?}");
    assert_eq!((&secret["type"], &secret["immutable"]), (&json!("example.com/app"), &json!(true)));
    assert_eq!(secret["metadata"]["labels"]["team"], "shop");
    assert_eq!(annotations(&secret)?, marks["annotations"]);
    assert_eq!(message(&done), "unsealed 13 keys");
    let keys = done["status"]["target"]["keys"].as_array().context("no keys")?;
    assert_eq!(keys.len(), 13, "{keys:?}");
    Ok(())
}

#[test]
fn a_changed_value_and_a_changed_text_are_rendered_and_edits_undone() -> Result<()> {
    let namespace = TestNamespace::shared("templates-change")?;
    let url = |text: &str| json!({"data": {"url": text}});
    let manifest = |password: &str, template: Value| {
        templated(&namespace, "db", &[("password", marked(password).as_bytes())], template)
    };
    let before_text = format!("{}:db", marked("2"));
    let steps = [
        (manifest("1", url("db:{{ password }}"))?, vec![("password", "1"), ("url", "db:1")]),
        (manifest("2", url("db:{{ password }}"))?, vec![("password", "2"), ("url", "db:2")]),
        (manifest("2", url("{{ password }}:db"))?, vec![("password", "2"), ("url", &*before_text)]),
        (
            manifest("2", json!({"data": {"renamed": "{{ password }}"}}))?,
            vec![("password", "2"), ("renamed", "2")],
        ),
        (manifest("3", json!({}))?, vec![("password", "3")]),
        (manifest("4", url("db:{{ password }}"))?, vec![("password", "4"), ("url", "db:4")]),
    ];
    for (manifest, expected) in &steps {
        namespace.apply(manifest)?;
        namespace.done("db")?;
        ensure!(namespace.data("db")? == clear(expected), "not {expected:?}");
    }
    let (_, expected) = steps.last().context("no step")?;
    let edit = json!({"stringData": {"url": marked("edited"), "renamed": marked("again")}});
    namespace.api.merge(&namespace.secret_path("db"), &edit)?;
    namespace.restored("db", expected)?;
    Ok(())
}

#[test]
fn an_invalid_template_is_refused_with_its_place_and_without_quoting_it() -> Result<()> {
    let namespace = TestNamespace::shared("templates-refused")?;
    let log_before = Cluster::shared()?.controller.log()?.len();
    let long = format!("{MARKER}{}", "v".repeat(200_000));
    let cases = [
        (
            "unknown-key",
            format!("{TEXT}\n {TEXT} {{{{ other }}}}"),
            format!(
                "line 2, column {}: there is no sealed value with the key other",
                TEXT.len() + 3
            ),
        ),
        (
            "unknown-filter",
            format!("é{{{{ password | {TEXT} }}}}"),
            "line 1, column 2: unknown filter; use b64encode, json or urlencode".to_owned(),
        ),
        (
            "unclosed",
            format!("{{{{ password }}}}\n\n{TEXT}{{{{ {TEXT}"),
            format!(
                "line 3, column {}: unclosed {{{{; to write a literal {{{{, use {{{{ \"{{{{\" }}}}",
                TEXT.len() + 1
            ),
        ),
        (
            "expression",
            format!("{{{{ if {TEXT} }}}}"),
            "line 1, column 1: expected {{ key }} or {{ key | filter }}".to_owned(),
        ),
        (
            "another-template",
            format!("{{{{ url }}}} {TEXT}"),
            "line 1, column 1: there is no sealed value with the key url".to_owned(),
        ),
    ];
    let good = json!({"data": {"url": "db:{{ password }}"}});
    let values = [("password", MARKER.as_bytes()), ("long", long.as_bytes())];
    for (name, ..) in &cases {
        namespace.apply(&templated(&namespace, name, &values[..1], good.clone())?)?;
    }
    let mut told = Vec::new();
    for (name, text, expected) in &cases {
        namespace.done(name)?;
        let before = namespace.secret(name)?;
        // The sealed values change too, but no part of this version takes effect.
        let template = json!({"data": {"url": text, "good": "{{ password }}"}});
        namespace.apply(&templated(&namespace, name, &values, template)?)?;
        let refused = namespace.refused(name, "TemplateFailed")?;
        assert_eq!(message(&refused), format!("the template of url, {expected}"));
        ensure!(namespace.secret(name)? == before, "{name} has changed its Secret");
        told.push(refused["status"].to_string());
        told.push(namespace.event(name, "TemplateFailed")?.to_string());
    }

    // The limit depends on lengths only: each byte could become six.
    let template = json!({"data": {"url": format!("{TEXT}{{{{ long | json }}}}")}});
    namespace.apply(&templated(&namespace, "long", &values, template)?)?;
    let refused = namespace.refused("long", "TemplateFailed")?;
    ensure!(message(&refused).contains("the Secret could exceed 1 MiB"), "{}", message(&refused));
    ensure!(!namespace.has_secret("long")?, "a Secret appeared");
    told.push(refused["status"].to_string());
    told.push(namespace.event("long", "TemplateFailed")?.to_string());

    let log = Cluster::shared()?.controller.log()?.split_off(log_before);
    told.extend(log.lines().filter(|line| line.contains("templates-refused/")).map(str::to_owned));
    ensure!(told.len() > 2 * cases.len() + 2, "the log does not report it");
    for text in told {
        is_discreet(&text)?;
    }
    for (name, ..) in &cases {
        namespace.apply(&templated(&namespace, name, &values[..1], good.clone())?)?;
        namespace.done(name)?;
    }
    Ok(())
}

#[test]
fn a_template_that_the_schema_refuses_is_not_quoted() -> Result<()> {
    let namespace = TestNamespace::shared("templates-schema")?;
    let text = |text: &str| json!({"data": {"url": text}});
    let many =
        |count| -> BTreeMap<_, _> { (0..count).map(|i| (format!("key-{i}"), TEXT)).collect() };
    let cases = [
        (json!({"data": {"password": TEXT}}), "both in sealedData and in template.data: password"),
        (json!({"data": {"a b": TEXT}}), "not a valid Secret key: a b"),
        (json!({"data": many(129)}), "spec.template.data: Too many: 129"),
        (json!({"data": many(128)}), "more than 256 values in one SealedSecret; split it"),
        (text(&TEXT.repeat(64 * 1024 / TEXT.len() + 1)), "spec.template.data.url: Too long"),
        (
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": TEXT}}),
            "type kubernetes.io/tls needs tls.crt and tls.key",
        ),
    ];
    let more: Vec<_> = (0..127).map(|i| format!("sealed-{i}")).collect();
    let values: Vec<(&str, &[u8])> = [("password", MARKER.as_bytes()), ("user", b"shop")]
        .into_iter()
        .chain(more.iter().map(|key| (key.as_str(), b"1".as_slice())))
        .collect();
    for (template, expected) in cases {
        let said = refusal(namespace.apply(&templated(&namespace, "db", &values, template)?))?;
        ensure!(said.contains(expected), "{said}");
        is_discreet(&said)?;
    }
    Ok(())
}

#[test]
fn a_rendered_registry_login_works_with_any_password() -> Result<()> {
    let namespace = TestNamespace::shared("templates-registry")?;
    let config = r#"{"auths": {"registry.example.com": {
        "username": {{ user | json }}, "password": {{ password | json }},
        "email": "{{ user | urlencode }}@example.com"
    }}}"#;
    for (kind, key) in [("dockerconfigjson", ".dockerconfigjson"), ("dockercfg", ".dockercfg")] {
        let template = json!({"type": format!("kubernetes.io/{kind}"), "data": {key: config}});
        for (password, read) in
            [(&br#"a"b\c{}"#[..], r#"a"b\c{}"#), (b"\"}}}", "\"}}}"), (b"\xff\n", "\u{fffd}\n")]
        {
            let (user, password) = (marked("shop"), [password, MARKER.as_bytes()].concat());
            let values = [("user", user.as_bytes()), ("password", &password)];
            namespace.apply(&templated(&namespace, kind, &values, template.clone())?)?;
            namespace.done(kind)?;
            let rendered: Value =
                serde_json::from_slice(namespace.data(kind)?.get(key).context("not rendered")?)?;
            let login = &rendered["auths"]["registry.example.com"];
            let (read, email) = (format!("{read}{MARKER}"), format!("{user}@example.com"));
            let expected = json!({"username": user, "password": read, "email": email});
            assert_eq!(*login, expected);
        }
        assert_eq!(namespace.secret(kind)?["type"], format!("kubernetes.io/{kind}"));
    }
    Ok(())
}

/// Otherwise anyone who may write a template could use it to find out about another's sealed value.
#[test]
fn nothing_observable_depends_on_a_value() -> Result<()> {
    let namespace = TestNamespace::shared("templates-oracle")?;
    let probes = [
        "{{ password }}",
        "{\"x\": {{ password }}}",
        "{\"x\": \"{{ password }}\"}",
        "{\"x\": {{ password | b64encode }}}",
        "{{ password | json }}",
    ];
    let of_registry = |text: &str| json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": text}});
    // All have the same length, because lengths are public. Some are JSON, some are not.
    let values: [Vec<u8>; 4] = [
        format!("{{\"a\":\"{MARKER}\"}}").into_bytes(),
        format!("\"{MARKER}\"      ").into_bytes(),
        vec![b'1'; MARKER.len() + 8],
        [b"\xff{}\"\"\"}}", MARKER.as_bytes()].concat(),
    ];
    ensure!(
        values.iter().all(|value| value.len() == MARKER.len() + 8),
        "the values differ in length"
    );
    for (number, probe) in probes.iter().enumerate() {
        for policy in ["Owner", "Merge"] {
            let template = match policy {
                "Merge" => json!({"data": {".dockerconfigjson": probe}}),
                _ => of_registry(probe),
            };
            let mut seen = Vec::new();
            for (which, value) in values.iter().enumerate() {
                let name = format!("{}-{number}-{which}", policy.to_lowercase());
                let values = [("password", value.as_slice())];
                let sealed_secret = templated(&namespace, &name, &values, template.clone())?;
                namespace.apply(&with_policy(sealed_secret, policy))?;
                let refused = namespace.refused(&name, "TemplateFailed")?;
                ensure!(!namespace.has_secret(&name)?, "{name} has a Secret");
                let event = namespace.event(&name, "TemplateFailed")?;
                let mut status = refused["status"].clone();
                for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                    condition["lastTransitionTime"] = Value::Null;
                }
                seen.push((status, event["note"].clone(), event["type"].clone()));
            }
            let (first, others) = seen.split_first().context("nothing")?;
            ensure!(others.iter().all(|other| other == first), "{probe}: {seen:#?}");
        }
    }
    // A value sealed under the key itself is checked, because only its author could put it there. Rendering it
    // elsewhere too makes no difference.
    let json = json!({"auths": {"registry.example.com": {"password": MARKER}}}).to_string();
    for (name, value, is_json) in [("json", json.as_str(), true), ("none", MARKER, false)] {
        let mut template = of_registry("");
        template["data"] = json!({"copy": "{{ .dockerconfigjson }}"});
        let values = [(".dockerconfigjson", value.as_bytes())];
        namespace.apply(&templated(&namespace, name, &values, template)?)?;
        if is_json {
            namespace.done(name)?;
        } else {
            let refused = namespace.refused(name, "InvalidForType")?;
            ensure!(condition(&refused, "Reconciling").is_null(), "{}", refused["status"]);
        }
    }
    Ok(())
}

/// Seals values of any bytes, with this template.
fn templated(
    namespace: &TestNamespace,
    name: &str,
    values: &[(&str, &[u8])],
    template: Value,
) -> Result<Value> {
    let in_base64: BTreeMap<_, _> =
        values.iter().map(|(key, value)| (*key, BASE64_STANDARD.encode(value))).collect();
    let secret = json!({"metadata": {"name": name}, "data": in_base64});
    let mut sealed_secret = namespace.seal_secret(secret)?;
    sealed_secret["spec"]["template"] = template;
    Ok(sealed_secret)
}

/// Fails if the text has a value or the text of a template.
fn is_discreet(text: &str) -> Result<()> {
    ensure!(!marker::is_in(text) && !text.contains(TEXT), "{text}");
    Ok(())
}
