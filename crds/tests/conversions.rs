//! Secret to SealedSecret and back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bulla_crds::conditions::Reason;
use bulla_crds::{
    ParsedValues, Policy, SEALED_PREFIX, SealError, SealedSecret, TargetSpec, Template,
    TemplateMetadata, UnsealSecretError, WipedSecret, rules, seal, unseal,
};
use bulla_sealing::{Identity, KeyType, Keyring, Recipients, Scope};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

struct Fixture {
    keyring: Keyring,
    recipients: Recipients,
}

impl Fixture {
    fn new() -> Self {
        let identity = Identity::generate(KeyType::X25519).unwrap();
        let recipients = Recipients::new(vec![identity.recipient()]).unwrap();
        Self { keyring: Keyring::from_iter([identity]), recipients }
    }

    fn seal(&self, manifest: Value) -> Result<SealedSecret, SealError> {
        seal(&secret(manifest), "prod", Scope::Strict, &self.recipients)
    }

    fn unseal(&self, sealed_secret: &SealedSecret) -> Result<WipedSecret, UnsealSecretError> {
        unseal(sealed_secret, &ParsedValues::of(sealed_secret), &self.keyring)
    }
}

fn secret(manifest: Value) -> WipedSecret {
    WipedSecret::new(serde_json::from_value::<Secret>(manifest).unwrap())
}

fn db() -> Value {
    json!({"metadata": {"name": "db"}, "data": {"user": "YXBw", "password": "Y29ycmVjdCBob3JzZQ=="}})
}

#[test]
fn a_secret_is_unchanged_after_sealing_and_unsealing() {
    let fixture = Fixture::new();
    let mut manifest = db();
    manifest["type"] = json!("example.com/db");
    manifest["immutable"] = json!(true);
    manifest["metadata"]["labels"] = json!({"team": "storage"});
    manifest["metadata"]["annotations"] = json!({"example.com/owner": "me"});
    let sealed_secret = fixture.seal(manifest.clone()).unwrap();
    manifest["metadata"]["namespace"] = json!("prod");
    assert_eq!(*fixture.unseal(&sealed_secret).unwrap(), *secret(manifest));
}

#[test]
fn the_manifest_is_minimal() {
    let sealed_secret = Fixture::new().seal(db()).unwrap();
    let manifest = serde_json::to_value(&sealed_secret).unwrap();
    assert_eq!(manifest["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["sealedData"]);
    assert_eq!(manifest["metadata"], json!({"name": "db", "namespace": "prod"}));
    assert_eq!(manifest.get("status"), None);
    assert!(sealed_secret.spec.sealed_data.values().all(|value| value.starts_with(SEALED_PREFIX)));
}

#[test]
fn tracking_marks_are_left_out_both_ways() {
    let fixture = Fixture::new();
    let mut manifest = db();
    manifest["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let mut sealed_secret = fixture.seal(manifest).unwrap();
    assert_eq!(sealed_secret.spec.template, None);

    let labels = [("app.kubernetes.io/instance".to_owned(), "x".to_owned())].into();
    let metadata = TemplateMetadata { labels, ..Default::default() };
    sealed_secret.spec.template = Some(Template { metadata: Some(metadata), ..Default::default() });
    assert_eq!(fixture.unseal(&sealed_secret).unwrap().metadata.labels, None);
}

#[test]
fn a_value_in_a_label_or_annotation_is_refused() {
    for text in
        ["correct horse", "is correct horse.", "Y29ycmVjdCBob3JzZQ==", "x Y29ycmVjdCBob3JzZQo="]
    {
        let mut manifest = db();
        manifest["metadata"]["annotations"] = json!({"note": text});
        let error = Fixture::new().seal(manifest).unwrap_err();
        assert!(
            matches!(&error, SealError::InTheClear { key, .. } if key == "password"),
            "{text}: {error}"
        );
        assert!(!error.to_string().contains("horse"));
    }
}

#[test]
fn a_value_moved_to_another_address_is_refused() {
    let fixture = Fixture::new();
    let sealed_secret = fixture.seal(db()).unwrap();

    let mut elsewhere = sealed_secret.clone();
    elsewhere.metadata.namespace = Some("dev".into());
    let mut renamed = sealed_secret.clone();
    renamed.metadata.name = Some("cache".into());
    let mut swapped = sealed_secret.clone();
    let password = swapped.spec.sealed_data["password"].clone();
    swapped.spec.sealed_data.insert("user".into(), password);

    for (moved, message) in [
        (
            elsewhere,
            "key password: sealed for key password of prod/db, not for key password of dev/db",
        ),
        (
            renamed,
            "key password: sealed for key password of prod/db, not for key password of prod/cache",
        ),
        (swapped, "key user: sealed for key password of prod/db, not for key user of prod/db"),
    ] {
        let error = fixture.unseal(&moved).unwrap_err();
        assert_eq!(error.reason(), Reason::WrongBinding);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn each_cause_has_its_own_reason() {
    let fixture = Fixture::new();
    let sealed_secret = fixture.seal(db()).unwrap();
    let with = |value: &str| {
        let mut changed = sealed_secret.clone();
        changed.spec.sealed_data.insert("password".into(), value.into());
        fixture.unseal(&changed).unwrap_err().reason()
    };
    assert_eq!(with("hunter2!"), Reason::NotSealed);
    assert_eq!(with("aHVudGVyMg=="), Reason::NotSealed);
    let password = &sealed_secret.spec.sealed_data["password"];
    assert_eq!(with(&password[..200]), Reason::Malformed);
    let damaged = format!("{}{}", &password[..password.len() - 8], "AAAAAAA=");
    assert_eq!(with(&damaged), Reason::Damaged);
    assert_eq!(Fixture::new().unseal(&sealed_secret).unwrap_err().reason(), Reason::UnknownKey);

    let mut refused = sealed_secret.clone();
    let type_ = Some("kubernetes.io/service-account-token".into());
    refused.spec.template = Some(Template { type_, ..Default::default() });
    assert_eq!(fixture.unseal(&refused).unwrap_err().reason(), Reason::TypeRefused);
}

/// The keys of labels are names that manifests share, so they never count.
#[test]
fn a_label_that_contains_a_value_is_refused_without_quoting_it() {
    let mut manifest = db();
    manifest["data"]["password"] = json!("aHVudGVyMi1sb25n");
    manifest["metadata"]["labels"] = json!({"hunter2-long": "x"});
    Fixture::new().seal(manifest.clone()).unwrap();
    manifest["metadata"]["labels"] = json!({"team": "hunter2-long"});
    let error = Fixture::new().seal(manifest).unwrap_err();
    assert_eq!(error.to_string(), "label team contains the plaintext of key password");
}

#[test]
fn only_scope_cluster_needs_no_namespace() {
    let fixture = Fixture::new();
    let sealed = |scope| seal(&secret(db()), None, scope, &fixture.recipients);
    assert_eq!(sealed(Scope::Strict).unwrap_err(), SealError::NoNamespace(Scope::Strict));
    assert_eq!(sealed(Scope::Namespace).unwrap_err(), SealError::NoNamespace(Scope::Namespace));
    let sealed_secret = sealed(Scope::Cluster).unwrap();
    assert_eq!(sealed_secret.metadata.namespace, None);
    let opened = fixture.unseal(&sealed_secret).unwrap();
    assert_eq!((&opened.metadata.namespace, &opened.data), (&None, &secret(db()).data));

    let mut nowhere = fixture.seal(db()).unwrap();
    nowhere.metadata.namespace = None;
    let error = fixture.unseal(&nowhere).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key password: sealed for key password of prod/db, but the object has no namespace"
    );
}

#[test]
fn labels_that_the_api_server_would_refuse_are_not_sealed() {
    for (labels, message) in [
        (json!({"team/": "x"}), "team/ is not a valid label key"),
        (json!({"team": "a b"}), "the value of label team is not a valid label value"),
    ] {
        let mut manifest = db();
        manifest["metadata"]["labels"] = labels;
        assert_eq!(Fixture::new().seal(manifest).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_secret_that_breaks_a_rule_is_not_sealed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.seal(json!({"metadata": {"name": "db"}})).unwrap_err(), SealError::Empty);
    let mut manifest = db();
    manifest["type"] = json!("kubernetes.io/tls");
    assert!(matches!(fixture.seal(manifest).unwrap_err(), SealError::Violation(_)));
    let manifest = json!({"metadata": {"name": "DB"}, "data": {"user": "YXBw"}});
    assert!(matches!(fixture.seal(manifest).unwrap_err(), SealError::Address { .. }));
    let large = "A".repeat(1_400_000);
    let manifest = json!({"metadata": {"name": "db"}, "data": {"blob": large}});
    assert!(matches!(fixture.seal(manifest).unwrap_err(), SealError::Violation(_)));
}

#[test]
fn templates_are_rendered_beside_the_values() {
    let fixture = Fixture::new();
    let mut sealed_secret = fixture.seal(db()).unwrap();
    let data = [("url".to_owned(), "{{ user }}:{{ password | urlencode }}@db".to_owned())].into();
    sealed_secret.spec.template = Some(Template { data, ..Template::default() });
    let secret = fixture.unseal(&sealed_secret).unwrap();
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["password", "url", "user"]);
    assert_eq!(data["url"].0, b"app:correct%20horse@db");
}

#[test]
fn a_bad_template_is_refused_before_any_value_is_opened() {
    let fixture = Fixture::new();
    let mut sealed_secret = fixture.seal(db()).unwrap();
    let data = [("url".to_owned(), "{{ user }}\n{{ pass }}".to_owned())].into();
    sealed_secret.spec.template = Some(Template { data, ..Template::default() });
    let error =
        unseal(&sealed_secret, &ParsedValues::of(&sealed_secret), &Keyring::default()).unwrap_err();
    assert_eq!(error.reason(), Reason::TemplateFailed);
    assert_eq!(
        error.to_string(),
        "the template of url, line 2, column 1: there is no sealed value with the key pass"
    );
}

#[test]
fn a_rendered_docker_config_is_valid_with_any_values() {
    let fixture = Fixture::new();
    let mut sealed_secret = fixture.seal(db()).unwrap();
    let text = "{\"auths\": {\"r\": {\"password\": {{ password | json }}}}}";
    sealed_secret.spec.template = Some(Template {
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: [(".dockerconfigjson".to_owned(), text.to_owned())].into(),
        ..Template::default()
    });
    let secret = fixture.unseal(&sealed_secret).unwrap();
    assert_eq!(rules::unfit_value(&secret), None);
}

#[test]
fn a_secret_to_merge_has_no_type() {
    let fixture = Fixture::new();
    let mut sealed_secret = fixture.seal(db()).unwrap();
    sealed_secret.spec.target = Some(TargetSpec { policy: Policy::Merge });
    assert_eq!(fixture.unseal(&sealed_secret).unwrap().type_, None);
    sealed_secret.spec.target = Some(TargetSpec { policy: Policy::Orphan });
    assert_eq!(fixture.unseal(&sealed_secret).unwrap().type_.as_deref(), Some("Opaque"));
}
