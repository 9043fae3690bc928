//! A namespace with keys, like a controller's, and a shell that works on it.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Context, Result, anyhow, ensure};
use bulla_crds::{
    State, WipedSecret,
    keys::{backup_secret, identity_secret, seal_identity, sealing_key},
};
use bulla_sealing::{Fingerprint, Identity, KeyType, Recipients};
use bulla_tests::{ControlPlane, Controller, Folder, Kubectl, Shell};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// The keys of one namespace, and a shell. No controller serves it, so tests write the statuses themselves.
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) shell: Shell,
    admin: Kubectl,
    _folder: Folder,
}

/// How a command ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A controller's report on a key.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    Nothing,
    Held,
    Missing,
    OfAnotherHolder,
}

/// A control plane with everything installed, but no controller.
pub(crate) fn plane() -> Result<&'static ControlPlane> {
    static INSTALLED: OnceLock<Result<()>> = OnceLock::new();
    let plane = ControlPlane::shared()?;
    let installed = INSTALLED.get_or_init(|| Controller::install(plane));
    installed.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    Ok(plane)
}

/// A second control plane, with other keys.
pub(crate) fn second_plane() -> Result<&'static ControlPlane> {
    static SECOND: OnceLock<Result<ControlPlane>> = OnceLock::new();
    let start = || {
        let plane = ControlPlane::start()?;
        Controller::install(&plane)?;
        Ok(plane)
    };
    SECOND.get_or_init(start).as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// One kubeconfig with a context for each cluster.
pub(crate) fn kubeconfig(clusters: &[(&str, &Kubectl)]) -> Result<String> {
    let mut lists = [("clusters", Vec::new()), ("users", Vec::new()), ("contexts", Vec::new())];
    for (name, kubectl) in clusters {
        let one: Value = serde_json::from_slice(&fs::read(kubectl.kubeconfig())?)?;
        for (list, entries) in &mut lists {
            let mut entry = one[*list][0].clone();
            entry["name"] = json!(name);
            if *list == "contexts" {
                entry["context"] = json!({"cluster": name, "user": name});
            }
            entries.push(entry);
        }
    }
    let [clusters, users, contexts] = lists.map(|(_, entries)| entries);
    let whole = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": contexts[0]["name"],
        "clusters": clusters, "users": users, "contexts": contexts,
    });
    Ok(whole.to_string())
}

pub(crate) fn identity() -> Result<Identity> {
    Ok(Identity::generate(KeyType::X25519)?)
}

pub(crate) fn fingerprint(identity: &Identity) -> Fingerprint {
    identity.recipient().fingerprint()
}

impl Place {
    pub(crate) fn new(namespace: &str) -> Result<Self> {
        plane()?.kubectl(&["create", "namespace", namespace])?;
        Self::beside(plane()?, namespace)
    }

    /// An existing namespace of a control plane.
    pub(crate) fn beside(plane: &ControlPlane, namespace: &str) -> Result<Self> {
        Self::of(namespace, plane.admin(), plane.admin())
    }

    fn of(namespace: &str, user: &Kubectl, admin: &Kubectl) -> Result<Self> {
        let folder = Folder::new("bulla-keys-")?;
        let shell = Shell::new(&folder, user.kubeconfig())?;
        Ok(Self { namespace: namespace.into(), shell, admin: admin.clone(), _folder: folder })
    }

    /// The same keys for a user with the rights of these rules.
    pub(crate) fn user(&self, name: &str, rules: &Value) -> Result<Self> {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": name, "namespace": self.namespace}, "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": self.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "User", "name": name}],
        });
        self.create(&role)?;
        self.create(&binding)?;
        Self::of(&self.namespace, &plane()?.user(name, &["system:authenticated"])?, &self.admin)
    }

    pub(crate) fn create(&self, object: &Value) -> Result<()> {
        let object = object.to_string();
        self.admin.run_with_input(&["create", "-f", "-"], &object).map(drop)
    }

    /// Declares a key created this many seconds after the epoch, with a controller's report on it.
    pub(crate) fn declare(
        &self,
        identity: &Identity,
        holder: &str,
        state: State,
        says: Says,
        second: i64,
    ) -> Result<Fingerprint> {
        let created = Timestamp::from_second(second)?;
        let key = sealing_key(&identity.recipient(), &self.namespace, holder, created, state);
        self.create(&serde_json::to_value(key)?)?;
        let (status, reason) = match says {
            Says::Nothing => return Ok(fingerprint(identity)),
            Says::Held => ("True", "Held"),
            Says::Missing => ("False", "IdentityMissing"),
            Says::OfAnotherHolder => ("False", "OfAnotherHolder"),
        };
        let mut conditions = vec![condition("Held", status, reason)];
        if matches!(says, Says::Held) {
            conditions.push(condition("BackedUp", "False", "NotTakenOut"));
        }
        let status = json!({"status": {
            "conditions": conditions,
            "sealedSecrets": {"count": 7, "at": "2026-11-01T00:00:00Z"},
        }});
        let name = fingerprint(identity).to_string();
        let patch = status.to_string();
        let command = ["patch", "sealingkey", &name, "--namespace", &self.namespace];
        let status = ["--subresource=status", "--type=merge", "--patch", &patch];
        self.admin.run(&[&command[..], &status].concat())?;
        Ok(fingerprint(identity))
    }

    /// Stores an identity as a controller does.
    pub(crate) fn store(&self, identity: &Identity) -> Result<()> {
        self.create_secret(&identity_secret(identity, &self.namespace))
    }

    /// Stores the backup of an identity as a controller does.
    pub(crate) fn store_backup(&self, identity: &Identity, recovery: &Identity) -> Result<()> {
        let recovery = Recipients::new(vec![recovery.recipient()])?;
        let file = seal_identity(identity, &self.namespace, &recovery)?;
        self.create_secret(&backup_secret(fingerprint(identity), file, &self.namespace))
    }

    fn create_secret(&self, secret: &WipedSecret) -> Result<()> {
        self.create(&serde_json::from_slice(&secret.to_json())?)
    }

    pub(crate) fn get(&self, kind: &str, name: &impl ToString) -> Result<Value> {
        let name = name.to_string();
        self.admin.json(&[
            "get",
            kind,
            &name,
            "--namespace",
            &self.namespace,
            "--show-managed-fields",
        ])
    }

    pub(crate) fn state(&self, key: Fingerprint) -> Result<String> {
        let key = self.get("sealingkey", &key)?;
        Ok(key["spec"]["state"].as_str().context("no state")?.to_owned())
    }

    /// A condition of a key, as `status reason`.
    pub(crate) fn condition(&self, key: Fingerprint, type_: &str) -> Result<String> {
        let key = self.get("sealingkey", &key)?;
        let conditions = key["status"]["conditions"].as_array().context("no conditions")?;
        let condition = conditions.iter().find(|condition| condition["type"] == type_);
        let condition = condition.with_context(|| format!("no condition {type_}"))?;
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        Ok(format!("{} {}", text("status"), text("reason")))
    }

    /// Runs `bulla …`, quoted as for a shell.
    pub(crate) fn bulla(&self, line: &str) -> Result<Run> {
        run(&mut self.shell.command(&format!("bulla {line}")))
    }

    /// All objects of a kind.
    pub(crate) fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let list = self.admin.json(&["get", kind, "--namespace", &self.namespace])?;
        Ok(list["items"].as_array().context("no items")?.clone())
    }

    /// Writes a status, as a controller would.
    pub(crate) fn patch_status(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        let patch = json!({"status": status}).to_string();
        let command = ["patch", kind, name, "--namespace", &self.namespace];
        let status = ["--subresource=status", "--type=merge", "--patch", &patch];
        self.admin.run(&[&command[..], &status].concat()).map(drop)
    }

    /// Sets the state of a key, as an administrator would.
    pub(crate) fn set_state(&self, key: Fingerprint, state: State) -> Result<()> {
        let patch = json!({"spec": {"state": state}}).to_string();
        let name = key.to_string();
        let command = ["patch", "sealingkey", &name, "--namespace", &self.namespace];
        self.admin.run(&[&command[..], &["--type=merge", "--patch", &patch]].concat()).map(drop)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.shell.path(name)
    }

    /// Runs `bulla keys …`, quoted as for a shell.
    pub(crate) fn keys(&self, line: &str) -> Result<Run> {
        run(&mut self.shell.command(&self.line(line)))
    }

    /// Runs it at a terminal where someone types this. Everything that it shows is in `stdout`.
    pub(crate) fn typed(&self, line: &str, typed: &str) -> Result<Run> {
        let line = self.line(line);
        let terminal = format!("script --quiet --return --command '{line}' /dev/null");
        run(&mut self.shell.command(&format!("printf '%s\\n' '{typed}' | {terminal}")))
    }

    fn line(&self, line: &str) -> String {
        format!("bulla keys {line} --controller-namespace {}", self.namespace)
    }

    /// Runs `bulla keys …`, which must succeed.
    pub(crate) fn done(&self, line: &str) -> Result<Run> {
        let run = self.keys(line)?;
        ensure!(run.code == 0, "keys {line}: {}{}", run.stdout, run.stderr);
        Ok(run)
    }

    /// Runs `bulla keys …`, which must fail with this exit code and message.
    pub(crate) fn refused(&self, line: &str, code: i32, message: &str) -> Result<Run> {
        let run = self.keys(line)?;
        ensure!(run.code == code, "keys {line}: {}: {}{}", run.code, run.stdout, run.stderr);
        ensure!(run.stderr.contains(message), "keys {line}: {}", run.stderr);
        Ok(run)
    }
}

fn run(command: &mut Command) -> Result<Run> {
    let output = command.output()?;
    Ok(Run {
        code: output.status.code().context("a signal")?,
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    })
}
