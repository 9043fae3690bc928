//! People with limited rights, who use the command line tool.

use std::fs;

use anyhow::{Context, Result, ensure};
use bulla_tests::{Folder, Shell, eventually};
use serde_json::json;

use crate::{
    SOON,
    cluster::Cluster,
    marker::{in_base64, marked},
    rights::{Right, is_allowed},
    test_namespace::{TestNamespace, clear, condition, message},
};

const VALUES: [(&str, &str); 2] = [("user", "shop"), ("password", "correct horse battery staple")];

#[test]
fn a_moved_value_is_refused_by_lint_by_unseal_and_by_the_controller() -> Result<()> {
    let namespace = TestNamespace::shared("people")?;
    let elsewhere = TestNamespace::shared("people-elsewhere")?;
    let folder = Folder::new("bulla-people-")?;
    let shell = developer(&folder, &[&namespace.name, &elsewhere.name])?;
    fs::write(shell.path("secret.yaml"), manifest())?;
    shell.run("bulla keys fetch -o recipients.txt")?;
    shell.run("bulla keys generate -o identity.txt > own.pub")?;
    shell.run("bulla seal -n people -R recipients.txt -R own.pub secret.yaml -o db.yaml")?;
    shell.run("bulla lint db.yaml")?;
    let opened = shell.run("bulla unseal -i identity.txt db.yaml")?;
    ensure!(opened.contains(&in_base64(VALUES[1].1)), "not the value: {opened}");

    // Its author may read the resulting Secret, which has the sealed values.
    shell.run("kubectl apply -f db.yaml")?;
    shell.run("kubectl wait -n people --for=condition=Ready sealedsecret/db --timeout=60s")?;
    let seen = shell.run("kubectl get secret db -n people -o 'jsonpath={.data.password}'")?;
    assert_eq!(seen, in_base64(VALUES[1].1));
    ensure!(namespace.data("db")? == clear(&VALUES), "not the values");

    let sealed = fs::read_to_string(shell.path("db.yaml"))?;
    let line = |key: &str| {
        let prefix = format!("    {key}: ");
        let line = sealed.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(str::to_owned).with_context(|| format!("no {key} in {sealed}"))
    };
    let (user, password) = (line("user")?, line("password")?);
    let swapped =
        sealed.replace(&user, "SWAPPED").replace(&password, &user).replace("SWAPPED", &password);
    let key = |key: &str| format!("key {key} of people/db");
    let cases = [
        (
            "namespace",
            sealed.replace("namespace: people", "namespace: people-elsewhere"),
            &elsewhere,
            "db",
            key("password"),
        ),
        ("name", sealed.replace("name: db", "name: other"), &namespace, "other", key("password")),
        ("key", swapped, &namespace, "db", key("user")),
    ];
    let before = namespace.secret("db")?;
    for (what, manifest, namespace, name, bound_to) in cases {
        ensure!(manifest != sealed, "the {what} is not changed");
        fs::write(shell.path("moved.yaml"), manifest)?;
        for command in ["bulla lint moved.yaml", "bulla unseal -i identity.txt moved.yaml"] {
            let output = shell.command(command).output()?;
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(1), "{what}: {command}: {said}");
            ensure!(said.contains(&bound_to), "{what}: {command}: {said}");
        }
        shell.run("kubectl apply -f moved.yaml")?;
        let refused = namespace.refused(name, "WrongBinding")?;
        ensure!(message(&refused).contains(&format!("sealed for {bound_to}, not for")), "{what}");
        assert_eq!(condition(&refused, "Stalled")["status"], "True");
    }
    ensure!(!elsewhere.has_secret("db")?, "a Secret appeared elsewhere");
    ensure!(!namespace.has_secret("other")?, "a Secret of another name appeared");
    ensure!(namespace.secret("db")? == before, "the good Secret was touched");
    Ok(())
}

#[test]
fn a_secret_sealed_to_the_contexts_cluster_is_unsealed_there() -> Result<()> {
    let namespace = TestNamespace::shared("context")?;
    let folder = Folder::new("bulla-people-")?;
    let shell = developer(&folder, &[&namespace.name])?;
    fs::write(shell.path("secret.yaml"), manifest())?;
    shell.run("bulla seal -n context secret.yaml | kubectl apply -f -")?;
    namespace.done("db")?;
    ensure!(namespace.data("db")? == clear(&VALUES), "not the values");
    Ok(())
}

#[test]
fn a_developer_may_not_create_keys_and_reads_no_identity() -> Result<()> {
    let namespace = TestNamespace::shared("developer")?;
    let folder = Folder::new("bulla-people-")?;
    let shell = developer(&folder, &[&namespace.name])?;
    for command in [
        "kubectl get secrets -n bulla-system",
        "kubectl delete sealingkeys --all -n bulla-system",
        "kubectl create rolebinding more --clusterrole=admin --user=developer -n bulla-system",
        "kubectl patch sealedsecret db -n developer --subresource=status --type=merge -p '{}'",
    ] {
        let said = shell.run(command).err().with_context(|| command.to_owned())?.to_string();
        ensure!(said.to_lowercase().contains("forbidden"), "{command}: {said}");
    }
    Ok(())
}

#[test]
fn a_key_admin_may_manage_keys_and_nothing_else() -> Result<()> {
    bind("keeper", "bulla-system", "Role", "bulla-keys")?;
    bind("keeper", "", "ClusterRole", "bulla-view")?;
    let needed: [Right; 13] = [
        ("list", "bulla.dev", "sealingkeys", "bulla-system"),
        ("watch", "bulla.dev", "sealingkeys", "bulla-system"),
        ("create", "bulla.dev", "sealingkeys", "bulla-system"),
        ("update", "bulla.dev", "sealingkeys", "bulla-system"),
        ("patch", "bulla.dev", "sealingkeys", "bulla-system"),
        ("delete", "bulla.dev", "sealingkeys", "bulla-system"),
        ("trust", "bulla.dev", "sealingkeys", "bulla-system"),
        ("patch", "bulla.dev", "sealingkeys/status", "bulla-system"),
        ("get", "", "secrets", "bulla-system"),
        ("list", "", "secrets", "bulla-system"),
        ("create", "", "secrets", "bulla-system"),
        ("get", "bulla.dev", "sealedsecrets", "people-roles"),
        ("list", "bulla.dev", "sealedsecrets", ""),
    ];
    let dangerous: [Right; 17] = [
        // This role cannot delete or replace an identity.
        ("delete", "", "secrets", "bulla-system"),
        ("deletecollection", "", "secrets", "bulla-system"),
        ("update", "", "secrets", "bulla-system"),
        ("patch", "", "secrets", "bulla-system"),
        ("deletecollection", "bulla.dev", "sealingkeys", "bulla-system"),
        ("trust", "bulla.dev", "sealingkeys", "people-roles"),
        ("create", "bulla.dev", "sealingkeys", "people-roles"),
        ("list", "", "secrets", ""),
        ("get", "", "secrets", "people-roles"),
        ("create", "", "secrets", "people-roles"),
        ("create", "bulla.dev", "sealedsecrets", "people-roles"),
        ("patch", "bulla.dev", "sealedsecrets/status", "people-roles"),
        ("create", "bulla.dev", "rekeys", "people-roles"),
        ("create", "", "pods", "bulla-system"),
        ("create", "", "serviceaccounts/token", "bulla-system"),
        ("update", "coordination.k8s.io", "leases/bulla-controller", "bulla-system"),
        ("patch", "", "namespaces", ""),
    ];
    may("keeper", &needed, &dangerous)
}

#[test]
fn a_user_who_may_rekey_gets_headers_and_reads_no_secret() -> Result<()> {
    let _space = TestNamespace::shared("people-roles")?;
    bind("rekeyer", "people-roles", "ClusterRole", "bulla-rekey")?;
    let needed: [Right; 5] = [
        ("create", "bulla.dev", "rekeys", "people-roles"),
        ("get", "bulla.dev", "rekeys", "people-roles"),
        ("list", "bulla.dev", "rekeys", "people-roles"),
        ("watch", "bulla.dev", "rekeys", "people-roles"),
        ("delete", "bulla.dev", "rekeys", "people-roles"),
    ];
    let dangerous: [Right; 9] = [
        // A user who could write the answer could forge it.
        ("patch", "bulla.dev", "rekeys/status", "people-roles"),
        ("update", "bulla.dev", "rekeys/status", "people-roles"),
        ("create", "bulla.dev", "rekeys", "people-elsewhere"),
        ("list", "bulla.dev", "rekeys", ""),
        ("get", "", "secrets", "people-roles"),
        ("list", "", "secrets", "people-roles"),
        ("create", "bulla.dev", "sealedsecrets", "people-roles"),
        ("update", "bulla.dev", "sealedsecrets", "people-roles"),
        ("create", "bulla.dev", "sealingkeys", "bulla-system"),
    ];
    may("rekeyer", &needed, &dangerous)?;
    // No other role grants it.
    bind("editor", "people-roles", "ClusterRole", "admin")?;
    may("editor", &[("create", "bulla.dev", "sealedsecrets", "people-roles")], &needed)
}

/// Checks that the user has these rights and lacks those.
fn may(user: &str, needed: &[Right], dangerous: &[Right]) -> Result<()> {
    for right in needed {
        eventually(&format!("{right:?} of {user}"), SOON, || {
            ensure!(is_allowed(user, *right)?, "it is denied");
            Ok(())
        })?;
    }
    for right in dangerous {
        ensure!(!is_allowed(user, *right)?, "{right:?} is allowed to {user}");
    }
    Ok(())
}

/// The Secret as a user writes it.
fn manifest() -> String {
    let [user, password] = VALUES.map(|(_, value)| marked(value));
    format!(
        "\
apiVersion: v1
kind: Secret
metadata:
  name: db
stringData:
  user: {user}
  password: {password}
"
    )
}

/// A shell for a user who may edit these namespaces and read public keys, through the roles of `deploy/base`.
fn developer(folder: &Folder, namespaces: &[&str]) -> Result<Shell> {
    let user = format!("developer-of-{}", namespaces[0]);
    bind(&user, "bulla-system", "Role", "bulla-seal")?;
    for namespace in namespaces {
        bind(&user, namespace, "ClusterRole", "edit")?;
    }
    Shell::new(folder, Cluster::shared()?.plane.user(&user, &["developers"])?.kubeconfig())
}

/// Binds the role in this namespace, or in all if it is empty.
fn bind(user: &str, namespace: &str, kind: &str, role: &str) -> Result<()> {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": format!("{user}.{role}")},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    });
    let path = match namespace {
        "" => format!("/apis/{group}/v1/clusterrolebindings"),
        namespace => format!("/apis/{group}/v1/namespaces/{namespace}/rolebindings"),
    };
    Cluster::shared()?.api.create(&path, &binding).map(drop)
}
