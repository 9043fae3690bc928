//! The policies of `deploy/kept`: which objects cannot be deleted by accident, and who may declare keys.

use anyhow::{Context, Result, bail, ensure};
use bulla_sealing::{Identity, KeyType};
use bulla_tests::eventually;
use serde_json::{Value, json};

use crate::{
    SOON,
    api::{Api, Refusal},
    cluster::{Cluster, HOLDER},
    test_namespace::TestNamespace,
};

const UNTRUSTED: &str = "you need the verb trust on sealingkeys.bulla.dev in namespace ";

#[test]
fn only_a_user_trusted_in_a_namespace_declares_keys_there() -> Result<()> {
    let namespace = TestNamespace::shared("guards-trust")?;
    let elsewhere = TestNamespace::shared("guards-trust-elsewhere")?;
    let controller_of = |namespace: &TestNamespace| {
        format!("system:serviceaccount:{}:bulla-controller", namespace.name)
    };
    let (ours, theirs) = (controller_of(&namespace), controller_of(&elsewhere));
    for user in ["writer", &ours, &theirs] {
        may_write_keys(&namespace, user, &[])?;
    }
    may_write_keys(&namespace, "trusted", &["trust"])?;
    // Trust in one namespace does not count in another.
    may_write_keys(&elsewhere, "writer", &["trust"])?;
    let user = |name: &str| Api::new(Cluster::shared()?.plane.user(name, &[])?.kubeconfig());
    let (writer, ours, theirs, trusted) =
        (user("writer")?, user(&ours)?, user(&theirs)?, user("trusted")?);

    for untrusted in [&writer, &theirs] {
        eventually("the policy to refuse", SOON, || {
            let said = forbidden(untrusted.create(&dry_run(&keys(&namespace)), &key()?))?;
            ensure!(said.contains(UNTRUSTED), "{said}");
            Ok(())
        })?;
    }
    for trusted in [&trusted, &ours] {
        eventually("the rights to be known", SOON, || {
            let created = trusted.create(&keys(&namespace), &key()?)?;
            trusted.merge(&path(&keys(&namespace), &created)?, &state("Retired"))
        })?;
    }
    writer.create(&keys(&elsewhere), &key()?)?;

    // The other policy would refuse owners and finalizers before, without this annotation.
    let mut deletable = key()?;
    deletable["metadata"]["annotations"] = json!({"bulla.dev/allow-delete": "true"});
    let key = namespace.api.create(&keys(&namespace), &deletable)?;
    let path = path(&keys(&namespace), &key)?;
    for change in [
        state("Revoked"),
        json!({"metadata": {"annotations": {"bulla.dev/renew": "now"}}}),
        json!({"metadata": {"annotations": {"bulla.dev/allow-delete": null}}}),
        json!({"metadata": {"labels": {"any": "1"}}}),
        json!({"metadata": {"finalizers": ["example.com/any"]}}),
        json!({"metadata": {"ownerReferences": [dangling()]}}),
        json!({"metadata": {"finalizers": ["example.com/any"]}, "spec": {"state": "Retired"}}),
    ] {
        for untrusted in [&writer, &theirs] {
            let said = forbidden(untrusted.merge(&path, &change))?;
            ensure!(said.contains(UNTRUSTED), "{change}: {said}");
        }
    }
    // People seal only to keys whose status says that their identity is held.
    let held = json!({"status": {"conditions": [{
        "type": "Held", "status": "True", "reason": "Held", "message": "",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }]}});
    for untrusted in [&writer, &theirs] {
        let said = forbidden(untrusted.merge(&format!("{path}/status"), &held))?;
        ensure!(said.contains(UNTRUSTED), "{said}");
    }
    ensure!(namespace.api.get(&path)? == key, "it was changed");

    // The garbage collector removes finalizers from what is being deleted, and it has no trust.
    let finalizers = |names: Value| json!({"metadata": {"finalizers": names}});
    let mut guarded = self::key()?;
    guarded["metadata"]["finalizers"] = json!(["example.com/any"]);
    guarded["metadata"]["annotations"] = json!({"bulla.dev/allow-delete": "true"});
    let guarded = self::path(&keys(&namespace), &trusted.create(&keys(&namespace), &guarded)?)?;
    forbidden(writer.merge(&guarded, &finalizers(Value::Null)))?;
    trusted.delete(&guarded, &Value::Null)?;
    writer.merge(&guarded, &finalizers(Value::Null))?;
    namespace.gone(&guarded)
}

/// An owner that does not exist: the garbage collector deletes what it owns.
fn dangling() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "none",
        "uid": "00000000-0000-4000-8000-000000000000",
    })
}

#[test]
fn nobody_ties_a_key_or_an_identity_to_another_object() -> Result<()> {
    let namespace = guarded("guards-pinned")?;
    for path in [
        keep_key(&namespace)?,
        keep_identity(&namespace, "identity")?,
        keep_identity(&namespace, "identity-backup")?,
    ] {
        let before = namespace.api.get(&path)?;
        for metadata in [
            json!({"ownerReferences": [dangling()]}),
            json!({"finalizers": ["example.com/any"]}),
            json!({"ownerReferences": [dangling()], "annotations": {"bulla.dev/allow-delete": "true"}}),
        ] {
            let said = forbidden(namespace.api.merge(&path, &json!({"metadata": metadata})))?;
            ensure!(said.contains("could be deleted or blocked by another one"), "{path}: {said}");
        }
        if path.contains("/secrets/") {
            forbidden(namespace.api.merge(&path, &json!({"immutable": true})))?;
        }
        ensure!(namespace.api.get(&path)? == before, "{path} was changed");
        namespace.api.merge(&path, &json!({"metadata": {"labels": {"any": "1"}}}))?;
    }
    Ok(())
}

#[test]
fn keys_and_identities_stay_until_their_deletion_is_allowed() -> Result<()> {
    let namespace = guarded("guards-kept")?;
    let kept = [
        keep_key(&namespace)?,
        keep_identity(&namespace, "identity")?,
        keep_identity(&namespace, "identity-backup")?,
    ];
    for path in
        [&*keys(&namespace), &*namespace.secrets()].into_iter().chain(kept.each_ref().map(|p| &**p))
    {
        for options in [Value::Null, json!({"propagationPolicy": "Foreground"})] {
            let said = forbidden(namespace.api.delete(path, &options))?;
            ensure!(said.contains(" -n guards-kept bulla.dev/allow-delete=true"), "{said}");
        }
    }
    for (path, why) in kept.iter().zip([
        "without this key nothing can be sealed to its holder",
        "cannot be opened without it",
        "cannot be opened without it",
    ]) {
        let before = namespace.api.get(path)?;
        ensure!(before["metadata"]["deletionTimestamp"].is_null(), "{path} is being deleted");
        for other in ["false", "yes", ""] {
            namespace.api.merge(path, &allow(other))?;
            let said = forbidden(namespace.api.delete(path, &Value::Null))?;
            ensure!(said.contains(why), "{said}");
        }
        obey(&forbidden(namespace.api.delete(path, &Value::Null))?)?;
        namespace.api.delete(path, &Value::Null)?;
        namespace.gone(path)?;
    }

    // The annotation on the namespace allows the deletion of everything in it, as long as it is set.
    let namespace_path = format!("/api/v1/namespaces/{}", namespace.name);
    let kept = [keep_key(&namespace)?, keep_identity(&namespace, "identity")?];
    namespace.api.merge(&namespace_path, &allow("true"))?;
    for (path, collection) in kept.iter().zip([keys(&namespace), namespace.secrets()]) {
        eventually("the annotation to be seen", SOON, || {
            namespace.api.delete(&collection, &Value::Null)
        })?;
        namespace.gone(path)?;
    }
    namespace.api.merge(&namespace_path, &json!({"metadata": {"annotations": null}}))?;
    let identity = keep_identity(&namespace, "identity")?;
    eventually("the end of the permission", SOON, || {
        forbidden(namespace.api.delete(&dry_run(&identity), &Value::Null))
    })?;
    Ok(())
}

#[test]
fn all_other_secrets_can_be_deleted() -> Result<()> {
    let namespace = guarded("guards-others")?;
    let system = TestNamespace::existing("bulla-system")?;
    let dockerconfig = json!({".dockerconfigjson": "{\"auths\": {}}"});
    let tls = json!({"tls.crt": "", "tls.key": ""});
    let account = json!({"kubernetes.io/service-account.name": "default"});
    let annotated = |annotations: &Value| json!({"annotations": annotations});
    for (type_, string_data, metadata) in [
        (Value::Null, Value::Null, json!({})),
        (json!("Opaque"), json!({"identity.txt": "no identity"}), json!({})),
        (json!("kubernetes.io/tls"), tls, json!({})),
        (json!("kubernetes.io/dockerconfigjson"), dockerconfig, json!({})),
        (json!("kubernetes.io/dockercfg"), json!({".dockercfg": "{}"}), json!({})),
        (json!("kubernetes.io/basic-auth"), json!({"username": "any"}), json!({})),
        (json!("kubernetes.io/ssh-auth"), json!({"ssh-privatekey": "any"}), json!({})),
        (json!("kubernetes.io/service-account-token"), Value::Null, annotated(&account)),
        (json!("bootstrap.kubernetes.io/token"), json!({"token-id": "abcdef"}), json!({})),
        (json!("helm.sh/release.v1"), json!({"release": "any"}), json!({})),
        (json!("bulla.dev/other"), Value::Null, annotated(&json!({}))),
        (Value::Null, Value::Null, json!({"labels": {"bulla.dev/target": "adopt"}})),
        (Value::Null, Value::Null, annotated(&json!({"bulla.dev/allow-delete": "false"}))),
    ] {
        for namespace in [&namespace, &system] {
            for immutable in [false, true] {
                let mut secret = opaque("guards-any");
                secret["type"] = type_.clone();
                secret["stringData"] = string_data.clone();
                secret["immutable"] = json!(immutable);
                let marks = metadata.as_object().context("no map")?.clone();
                secret["metadata"].as_object_mut().context("no map")?.extend(marks);
                namespace.api.create(&namespace.secrets(), &secret)?;
                namespace
                    .api
                    .delete(&namespace.secret_path("guards-any"), &Value::Null)
                    .with_context(|| format!("{type_} in {}", namespace.name))?;
                namespace.gone(&namespace.secret_path("guards-any"))?;
            }
        }
    }

    // Deleted by the garbage collector, in the foreground.
    let maps = format!("/api/v1/namespaces/{}/configmaps", namespace.name);
    let owner = namespace.api.create(&maps, &json!({"metadata": {"name": "owner"}}))?;
    let mut owned = opaque("owned");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true,
    }]);
    namespace.api.create(&namespace.secrets(), &owned)?;
    let foreground = json!({"propagationPolicy": "Foreground"});
    namespace.api.delete(&format!("{maps}/owner"), &foreground)?;
    namespace.gone(&namespace.secret_path("owned"))?;
    namespace.gone(&format!("{maps}/owner"))
}

#[test]
fn labelled_namespaces_stay_and_none_is_left_half_deleted() -> Result<()> {
    let open = guarded("guards-open")?;
    let closed = TestNamespace::shared("guards-closed")?;
    let path = |namespace: &TestNamespace| format!("/api/v1/namespaces/{}", namespace.name);
    let label = |value: Value| json!({"metadata": {"labels": {"bulla.dev/keep": value}}});
    for namespace in [&open, &closed] {
        keep_key(namespace)?;
        keep_identity(namespace, "identity")?;
        keep_identity(namespace, "identity-backup")?;
        namespace.api.create(&namespace.secrets(), &opaque("theirs"))?;
    }
    closed.api.merge(&path(&closed), &label(json!("true")))?;

    // An unguarded namespace is deleted with everything in it.
    open.api.delete(&path(&open), &Value::Null)?;
    open.gone(&path(&open))?;

    let said = forbidden(closed.api.delete(&path(&closed), &Value::Null))?;
    ensure!(said.contains("this namespace holds the identities"), "{said}");
    for value in [Value::Null, json!("false")] {
        let said = forbidden(closed.api.merge(&path(&closed), &label(value)))?;
        ensure!(said.contains("without the label bulla.dev/keep nothing guards"), "{said}");
    }
    closed.api.merge(&path(&closed), &json!({"metadata": {"labels": {"any": "1"}}}))?;
    let found = closed.api.get(&path(&closed))?;
    assert_eq!(found["status"]["phase"], "Active");
    ensure!(closed.has_secret("theirs")?, "half of it is gone");
    obey(&said)?;
    closed.api.delete(&path(&closed), &Value::Null)?;
    closed.gone(&path(&closed))
}

#[test]
fn the_controllers_namespace_and_the_definitions_are_kept() -> Result<()> {
    let namespace = guarded("guards-definitions")?;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let kept = ["sealedsecrets", "sealingkeys", "rekeys"].map(|plural| {
        (format!("{definitions}/{plural}.bulla.dev"), "deletes all objects of its kind")
    });
    let all = (definitions.to_owned(), "deletes all objects of its kind");
    let own_namespace =
        ("/api/v1/namespaces/bulla-system".to_owned(), "this namespace holds the identities");
    for (path, why) in kept.into_iter().chain([all, own_namespace]) {
        let said = forbidden(namespace.api.delete(&dry_run(&path), &Value::Null))?;
        ensure!(said.contains(why), "{path}: {said}");
    }
    Ok(())
}

/// A namespace on a cluster whose policies are in force.
fn guarded(name: &str) -> Result<TestNamespace> {
    let namespace = TestNamespace::shared(name)?;
    let system = dry_run("/api/v1/namespaces/bulla-system");
    eventually("the policy to be in force", SOON, || {
        forbidden(namespace.api.delete(&system, &Value::Null))
    })?;
    Ok(namespace)
}

/// Grants the right to write SealingKeys, and these further rights.
fn may_write_keys(namespace: &TestNamespace, user: &str, more: &[&str]) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let name = user.replace(':', ".");
    let rbac = format!("/apis/{group}/v1/namespaces/{}", namespace.name);
    let verbs = [&["get", "create", "update", "patch", "delete"], more].concat();
    let resources = ["sealingkeys", "sealingkeys/status"];
    let rule = json!({"apiGroups": ["bulla.dev"], "resources": resources, "verbs": verbs});
    let role = json!({"metadata": {"name": name}, "rules": [rule]});
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    namespace.api.create(&format!("{rbac}/roles"), &role)?;
    namespace.api.create(&format!("{rbac}/rolebindings"), &binding)?;
    Ok(())
}

fn keys(namespace: &TestNamespace) -> String {
    format!("/apis/bulla.dev/v1alpha1/namespaces/{}/sealingkeys", namespace.name)
}

/// A declared key that no holder has.
fn key() -> Result<Value> {
    let recipient = Identity::generate(KeyType::X25519)?.recipient();
    Ok(json!({
        "apiVersion": "bulla.dev/v1alpha1", "kind": "SealingKey",
        "metadata": {"name": recipient.fingerprint().to_string()},
        "spec": {
            "recipient": recipient.to_string(), "holder": HOLDER, "state": "Active",
            "created": "2026-11-01T00:00:00Z",
        },
    }))
}

fn state(state: &str) -> Value {
    json!({"spec": {"state": state}})
}

fn keep_key(namespace: &TestNamespace) -> Result<String> {
    path(&keys(namespace), &namespace.api.create(&keys(namespace), &key()?)?)
}

/// A Secret of this Bulla type. Its data does not matter, because no policy reads it.
fn keep_identity(namespace: &TestNamespace, type_: &str) -> Result<String> {
    let mut secret = opaque(type_);
    secret["type"] = json!(format!("bulla.dev/{type_}"));
    path(&namespace.secrets(), &namespace.api.create(&namespace.secrets(), &secret)?)
}

fn opaque(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}})
}

fn path(collection: &str, object: &Value) -> Result<String> {
    let name = object["metadata"]["name"].as_str().context("no name")?;
    Ok(format!("{collection}/{name}"))
}

fn dry_run(path: &str) -> String {
    format!("{path}?dryRun=All")
}

fn allow(value: &str) -> Value {
    json!({"metadata": {"annotations": {"bulla.dev/allow-delete": value}}})
}

/// The message of the policy that refused.
fn forbidden<T>(outcome: Result<T>) -> Result<String> {
    let error = outcome.err().context("it was not refused")?;
    match error.downcast_ref::<Refusal>() {
        Some(Refusal { code: 403, message }) if message.contains("denied request: ") => {
            Ok(message.clone())
        }
        _ => bail!("not refused by a policy: {error:#}"),
    }
}

/// Runs the command in the message.
fn obey(said: &str) -> Result<()> {
    let (_, command) = said.split_once("kubectl ").context("the message has no command")?;
    let words: Vec<_> = command.split_whitespace().chain(["--overwrite"]).collect();
    Cluster::shared()?.plane.kubectl(&words).map(drop)
}
