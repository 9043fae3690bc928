//! What the controller's account may do, and what it may not.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    api::Api,
    cluster::{Cluster, HOLDER},
    test_namespace::{TestNamespace, secret},
};

/// Verb, API group, resource with its subresource or a Lease's name, and namespace.
pub(crate) type Right = (&'static str, &'static str, &'static str, &'static str);

const ACCOUNT: &str = "system:serviceaccount:bulla-system:bulla-controller";

#[test]
fn the_account_may_do_what_it_needs() -> Result<()> {
    let needed: [Right; 27] = [
        ("list", "bulla.dev", "sealedsecrets", ""),
        ("watch", "bulla.dev", "sealedsecrets", ""),
        ("get", "bulla.dev", "sealedsecrets", "rights"),
        ("patch", "bulla.dev", "sealedsecrets/status", "rights"),
        ("list", "", "secrets", ""),
        ("watch", "", "secrets", ""),
        ("get", "", "secrets", "rights"),
        ("create", "", "secrets", "rights"),
        ("update", "", "secrets", "rights"),
        ("patch", "", "secrets", "rights"),
        ("delete", "", "secrets", "rights"),
        ("create", "events.k8s.io", "events", "rights"),
        ("create", "coordination.k8s.io", "leases/bulla-controller", "bulla-system"),
        ("create", "coordination.k8s.io", "leases/bulla-first-key", "bulla-system"),
        ("create", "coordination.k8s.io", "leases/bulla-clock", "bulla-system"),
        ("get", "coordination.k8s.io", "leases/bulla-controller", "bulla-system"),
        ("update", "coordination.k8s.io", "leases/bulla-controller", "bulla-system"),
        ("list", "bulla.dev", "sealingkeys", "bulla-system"),
        ("create", "bulla.dev", "sealingkeys", "bulla-system"),
        ("watch", "bulla.dev", "sealingkeys", "bulla-system"),
        ("patch", "bulla.dev", "sealingkeys", "bulla-system"),
        ("patch", "bulla.dev", "sealingkeys/status", "bulla-system"),
        ("update", "coordination.k8s.io", "leases/bulla-first-key", "bulla-system"),
        ("list", "bulla.dev", "rekeys", ""),
        ("watch", "bulla.dev", "rekeys", ""),
        ("patch", "bulla.dev", "rekeys/status", "rights"),
        ("delete", "bulla.dev", "rekeys", "rights"),
    ];
    for right in needed {
        ensure!(is_allowed(ACCOUNT, right)?, "{right:?} is denied");
    }
    Ok(())
}

#[test]
fn the_account_may_do_nothing_else() -> Result<()> {
    let dangerous: [Right; 35] = [
        ("trust", "bulla.dev", "sealingkeys", "bulla-system"),
        ("delete", "apiextensions.k8s.io", "customresourcedefinitions", ""),
        ("deletecollection", "", "secrets", "rights"),
        ("update", "coordination.k8s.io", "leases/another", "bulla-system"),
        ("create", "coordination.k8s.io", "leases/another", "bulla-system"),
        ("create", "coordination.k8s.io", "leases", "bulla-system"),
        ("get", "coordination.k8s.io", "leases/bulla-controller", "rights"),
        ("create", "coordination.k8s.io", "leases", "rights"),
        ("create", "bulla.dev", "sealedsecrets", "rights"),
        ("update", "bulla.dev", "sealedsecrets", "rights"),
        ("patch", "bulla.dev", "sealedsecrets", "rights"),
        ("delete", "bulla.dev", "sealedsecrets", "rights"),
        ("update", "bulla.dev", "sealedsecrets/status", "rights"),
        ("update", "bulla.dev", "sealedsecrets/finalizers", "rights"),
        ("list", "bulla.dev", "sealingkeys", "rights"),
        ("list", "bulla.dev", "sealingkeys", ""),
        ("create", "bulla.dev", "sealingkeys", "rights"),
        ("update", "bulla.dev", "sealingkeys", "bulla-system"),
        ("patch", "bulla.dev", "sealingkeys", "rights"),
        ("delete", "bulla.dev", "sealingkeys", "bulla-system"),
        ("create", "bulla.dev", "rekeys", "rights"),
        ("patch", "bulla.dev", "rekeys", "rights"),
        ("get", "", "configmaps", "rights"),
        ("get", "", "configmaps", "bulla-system"),
        ("get", "", "namespaces", ""),
        ("get", "", "pods", "bulla-system"),
        ("create", "", "pods", "bulla-system"),
        ("create", "", "pods/exec", "bulla-system"),
        ("create", "apps", "deployments", "bulla-system"),
        ("create", "", "serviceaccounts/token", "bulla-system"),
        ("impersonate", "", "users", ""),
        ("bind", "rbac.authorization.k8s.io", "clusterroles", ""),
        ("escalate", "rbac.authorization.k8s.io", "roles", "bulla-system"),
        ("patch", "apiextensions.k8s.io", "customresourcedefinitions", ""),
        ("list", "", "events", "rights"),
    ];
    for right in dangerous {
        ensure!(!is_allowed(ACCOUNT, right)?, "{right:?} is allowed");
    }
    Ok(())
}

#[test]
fn the_account_is_refused_when_it_tries() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = TestNamespace::shared("rights")?;
    namespace.unseal("db", &[("password", "1")])?;
    let before = namespace.sealed_secret("db")?;
    namespace.api.create(&namespace.secrets(), &secret("theirs", &[("password", "1")]))?;
    let account = cluster.plane.service_account("bulla-system", "bulla-controller")?;
    let spec = json!({"spec": {"target": {"policy": "Owner"}}}).to_string();
    for command in [
        &["delete", "--raw", "/api/v1/namespaces/rights/secrets"][..],
        // The roles allow it, and the policy refuses it.
        &["delete", "secret", "theirs"],
        &["patch", "secret", "theirs", "--patch={\"data\": {}}"],
        &["label", "secret", "theirs", "bulla.dev/target=owned"],
        &["create", "secret", "generic", "planted"],
        &["patch", "sealedsecret", "db", "--type=merge", "--patch", &spec],
        &["delete", "sealedsecret", "db"],
        &["create", "configmap", "planted"],
        &["get", "configmaps"],
        &["run", "planted", "--image=planted"],
        &["get", "sealingkeys"],
    ] {
        let command = [command, &["--namespace=rights"]].concat();
        let said = account.run(&command).err().with_context(|| command.join(" "))?;
        let said = format!("{said:#}");
        ensure!(said.contains("Forbidden") || said.contains("forbidden"), "{said}");
    }
    assert_eq!(namespace.sealed_secret("db")?, before);
    let identities =
        "/api/v1/namespaces/bulla-system/secrets?fieldSelector=type=bulla.dev/identity";
    let identities = namespace.api.get(identities)?;
    let identity = identities["items"][0]["metadata"]["name"].as_str().context("no identity")?;
    // Other users may delete it.
    let backup = json!({
        "metadata": {"name": "rights-backup", "annotations": {"bulla.dev/allow-delete": "true"}},
        "type": "bulla.dev/identity-backup",
    });
    let backups = "/api/v1/namespaces/bulla-system/secrets";
    namespace.api.create(backups, &backup)?;
    for command in [
        &["delete", "secret", "rights-backup"][..],
        &["label", "secret", identity, "bulla.dev/target=owned"],
        &["create", "secret", "generic", "planted"],
    ] {
        let command = [command, &["--namespace=bulla-system"]].concat();
        let said = account.run(&command).err().with_context(|| command.join(" "))?;
        ensure!(format!("{said:#}").contains("may only create identities and backups"), "{said:#}");
    }
    namespace.api.delete(&format!("{backups}/rights-backup"), &Value::Null)?;
    Ok(())
}

/// With an owner that does not exist the garbage collector would delete the object, if its deletion is allowed.
#[test]
fn the_accounts_token_cannot_destroy_a_key() -> Result<()> {
    let cluster = Cluster::shared()?;
    let account = cluster.plane.service_account("bulla-system", "bulla-controller")?;
    let account = Api::new(account.kubeconfig())?;
    let home = TestNamespace::existing("bulla-system")?;
    let keys = "/apis/bulla.dev/v1alpha1/namespaces/bulla-system/sealingkeys";
    let list = home.api.get(keys)?;
    let key = list["items"]
        .as_array()
        .context("no list")?
        .iter()
        .find(|key| key["spec"]["holder"] == HOLDER && key["spec"]["state"] == "Active");
    let key = key.and_then(|key| key["metadata"]["name"].as_str()).context("no Active key")?;
    let backup = json!({
        "metadata": {"name": "rights-pinned", "annotations": {"helm.sh/resource-policy": "keep"}},
        "type": "bulla.dev/identity-backup",
    });
    home.api.create(&home.secrets(), &backup)?;
    let objects =
        [home.secret_path(key), home.secret_path("rights-pinned"), format!("{keys}/{key}")];
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "none",
        "uid": "00000000-0000-4000-8000-000000000000",
    }]);
    let revoked = json!({"bulla.dev/revoked": "true"});
    let allowed = json!({"bulla.dev/revoked": "true", "bulla.dev/allow-delete": "true"});
    for path in &objects {
        let before = home.api.get(path)?;
        for metadata in [
            json!({"annotations": allowed}),
            json!({"annotations": {"bulla.dev/revoked": "true", "helm.sh/resource-policy": null}}),
            json!({"annotations": {"bulla.dev/revoked": "true", "example.com/any": "1"}}),
            json!({"annotations": revoked, "ownerReferences": owner}),
            json!({"annotations": allowed, "ownerReferences": owner}),
            json!({"annotations": revoked, "finalizers": ["example.com/any"]}),
            json!({"annotations": revoked, "labels": {"bulla.dev/target": "owned"}}),
        ] {
            let said = denied(account.merge(path, &json!({"metadata": metadata})));
            said.with_context(|| format!("{path} {metadata}"))?;
        }
        if path.ends_with("/rights-pinned") {
            denied(account.merge(path, &json!({"immutable": true})))?;
            // Of a backup the data may change, but not together with its mark.
            let marked = json!({"data": {"any": "MQ=="}, "metadata": {"annotations": revoked}});
            denied(account.merge(path, &marked))?;
        }
        ensure!(home.api.get(path)?["metadata"]["uid"] == before["metadata"]["uid"], "{path}");
        for field in ["ownerReferences", "finalizers", "labels", "annotations"] {
            let after = home.api.get(path)?;
            assert_eq!(after["metadata"][field], before["metadata"][field], "{path}: {field}");
        }
    }
    let planted = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bulla.dev/identity-backup",
        "metadata": {"name": "planted", "namespace": "bulla-system", "ownerReferences": owner},
    });
    denied(account.create(&home.secrets(), &planted))?;

    let allow = json!({"metadata": {"annotations": {"bulla.dev/allow-delete": "true"}}});
    home.api.merge(&home.secret_path("rights-pinned"), &allow)?;
    home.api.delete(&home.secret_path("rights-pinned"), &Value::Null)?;
    Ok(())
}

/// Whether RBAC allows the user to do this.
pub(crate) fn is_allowed(user: &str, (verb, group, resource, namespace): Right) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (name, subresource) = match resource {
        "leases" => (subresource, ""),
        _ => ("", subresource),
    };
    let groups: &[&str] = match user {
        ACCOUNT => &[
            "system:serviceaccounts",
            "system:serviceaccounts:bulla-system",
            "system:authenticated",
        ],
        _ => &["system:authenticated"],
    };
    let review = json!({
        "spec": {
            "user": user,
            "groups": groups,
            "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource,
                "subresource": subresource, "namespace": namespace, "name": name,
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = Cluster::shared()?.api.create(path, &review)?;
    answer["status"]["allowed"].as_bool().context("no answer")
}

/// Fails unless a policy refused the request.
fn denied<T>(outcome: Result<T>) -> Result<()> {
    let error = outcome.err().context("it was accepted")?;
    ensure!(format!("{error:#}").contains("denied request"), "not refused by a policy: {error:#}");
    Ok(())
}
