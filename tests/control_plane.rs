//! Tests of the harness: it starts a real control plane, and leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bulla_tests::{Component, ControlPlane, Folder, Leashed, Signal, Status, Verdict, eventually};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn the_version_is_the_one_in_the_go_module() -> Result<()> {
    let versions = ControlPlane::shared()?.admin().json(&["version"])?;
    assert_eq!(versions["serverVersion"]["gitVersion"], "v1.36.3");
    assert_eq!(versions["clientVersion"]["gitVersion"], "v1.36.3");
    Ok(())
}

#[test]
fn a_namespace_is_created_and_deleted() -> Result<()> {
    let plane = ControlPlane::shared()?;
    plane.kubectl(&["create", "namespace", "short-lived"])?;
    plane.kubectl(&["create", "configmap", "content", "--namespace", "short-lived"])?;
    // Waits until the controller manager has emptied and finalized it.
    plane.kubectl(&["delete", "namespace", "short-lived", "--timeout", "30s"])?;
    let left = plane.kubectl(&["get", "namespace", "short-lived", "--ignore-not-found"])?;
    assert_eq!(left, "");
    Ok(())
}

#[test]
fn an_owned_secret_is_deleted_with_its_owner() -> Result<()> {
    let plane = ControlPlane::shared()?;
    plane.kubectl(&["create", "configmap", "owner"])?;
    let owner = plane.admin().json(&["get", "configmap", "owner"])?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "owned",
            "ownerReferences": [{
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": "owner",
                "uid": owner["metadata"]["uid"],
            }],
        },
    });
    plane.admin().run_with_input(&["apply", "--filename", "-"], &secret.to_string())?;
    plane.kubectl(&["delete", "configmap", "owner"])?;
    eventually("the deletion of the Secret", SOON, || {
        let left = plane.kubectl(&["get", "secret", "owned", "--ignore-not-found"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

#[test]
fn a_service_account_has_only_its_rights() -> Result<()> {
    let plane = ControlPlane::shared()?;
    plane.kubectl(&["create", "namespace", "rbac"])?;
    plane.kubectl(&["create", "serviceaccount", "reader", "--namespace", "rbac"])?;
    let reader = plane.service_account("rbac", "reader")?;

    let refusal = reader.run(&["get", "secrets", "--namespace", "rbac"]).err();
    let refusal = format!("{:#}", refusal.context("not refused")?);
    assert!(refusal.contains("Forbidden") && refusal.contains("rbac:reader"), "{refusal}");
    assert_eq!(mode(reader.kubeconfig())?, 0o600);

    let role = ["create", "role", "read", "--verb=list", "--resource=secrets", "--namespace=rbac"];
    plane.kubectl(&role)?;
    let binding = ["--role=read", "--serviceaccount=rbac:reader", "--namespace=rbac"];
    plane.kubectl(&[&["create", "rolebinding", "read"][..], &binding].concat())?;
    eventually("the right to list Secrets", SOON, || {
        reader.run(&["get", "secrets", "--namespace", "rbac"]).map(drop)
    })
}

#[test]
fn a_user_is_impersonated() -> Result<()> {
    let user = ControlPlane::shared()?.user("ada", &["authors"])?;
    let whoami = user.json(&["auth", "whoami"])?;
    assert_eq!(whoami["status"]["userInfo"]["username"], "ada");
    assert_eq!(whoami["status"]["userInfo"]["groups"], json!(["authors", "system:authenticated"]));
    Ok(())
}

#[test]
fn killed_and_paused_parts_run_again_with_their_data() -> Result<()> {
    let mut plane = ControlPlane::start()?;
    plane.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"])?;
    let before = plane.admin().json(&["get", "configmap", "kept"])?;
    let read = ["get", "--raw", "/api/v1/namespaces/default/configmaps/kept"];

    plane.kill(Component::ApiServer)?;
    assert!(plane.pid(Component::ApiServer).is_none());
    assert!(plane.kubectl(&read).is_err());
    plane.restart(Component::ApiServer)?;
    assert_eq!(plane.admin().json(&["get", "configmap", "kept"])?, before);

    plane.restart(Component::Etcd)?;
    eventually("the API server to find etcd again", SOON, || plane.kubectl(&read))?;
    assert_eq!(plane.admin().json(&["get", "configmap", "kept"])?, before);

    plane.pause(Component::ApiServer)?;
    let impatient = plane.kubectl(&["get", "configmaps", "--request-timeout=300ms"]);
    assert!(impatient.is_err(), "{impatient:?}");
    plane.resume(Component::ApiServer)?;
    plane.kubectl(&["get", "configmaps"])?;

    plane.restart(Component::ControllerManager)?;
    plane.kubectl(&["create", "namespace", "after"])?;
    plane.kubectl(&["delete", "namespace", "after", "--timeout", "30s"])?;

    let folder = plane.folder().path().to_owned();
    drop(plane);
    assert_eq!(processes_that_mention(&folder)?, Vec::<String>::new());
    assert!(!folder.exists());
    Ok(())
}

#[test]
fn a_killed_owner_leaves_nothing_behind() -> Result<()> {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut kubeconfig = String::new();
    BufReader::new(owner.stdout.take().context("no output")?).read_line(&mut kubeconfig)?;
    let folder = Path::new(kubeconfig.trim()).parent().context("it did not start")?;
    // Three programs and the leash of each.
    assert_eq!(processes_that_mention(folder)?.len(), 6);

    owner.kill()?;
    owner.wait()?;
    eventually("the end of all", SOON, || {
        let left = processes_that_mention(folder)?;
        ensure!(left.is_empty(), "{left:?}");
        ensure!(!folder.exists(), "the folder still exists");
        Ok(())
    })
}

#[test]
fn a_leashed_program_reports_its_end() -> Result<()> {
    let folder = Folder::new("bulla-leash-")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "echo $GREETING; exit 3"]).env("GREETING", "hello");
    let mut leashed = Leashed::spawn(&shell, &folder, "greeter")?;
    assert_eq!(leashed.wait(SOON)?.code(), Some(3));
    assert_eq!(fs::read_to_string(leashed.log())?, "hello\n");

    let mut sleep = Command::new("sleep");
    let mut leashed = Leashed::spawn(sleep.arg("600"), &folder, "sleeper")?;
    assert!(leashed.try_wait()?.is_none());
    leashed.signal(Signal::Terminate)?;
    assert_eq!(leashed.wait(SOON)?.code(), Some(128 + 15));
    assert!(folder.path().exists());
    Ok(())
}

#[test]
fn a_program_that_ignores_sigterm_is_killed() -> Result<()> {
    let folder = Folder::new("bulla-leash-")?;
    let path = folder.path().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' TERM; echo ready; while true; do sleep 1; done"]);
    let leashed = Leashed::spawn(&shell, &folder, "stubborn")?;
    eventually("its trap", SOON, || {
        ensure!(leashed.log_tail() == "ready", "{}", leashed.log_tail());
        Ok(())
    })?;
    let pid = PathBuf::from(format!("/proc/{}", leashed.pid()));
    assert!(pid.exists());
    drop(leashed);
    assert!(!pid.exists());
    drop(folder);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_program_that_cannot_start_is_an_error() -> Result<()> {
    let folder = Folder::new("bulla-leash-")?;
    let failure = Leashed::spawn(&Command::new("/no/such/program"), &folder, "nothing").err();
    let failure = failure.context("it started")?.to_string();
    assert!(failure.contains("cannot start /no/such/program"), "{failure}");
    Ok(())
}

#[test]
fn kstatus_evaluates_samples() -> Result<()> {
    let sealed_secret = |observed: i64, conditions| {
        json!({
            "apiVersion": "bulla.dev/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": "sample", "namespace": "default", "generation": 2},
            "status": {"observedGeneration": observed, "conditions": conditions},
        })
    };
    let condition = |kind, status| json!({"type": kind, "status": status, "message": "because"});
    let ready = condition("Ready", "True");
    let samples = [
        (sealed_secret(2, json!([ready])), Status::Current),
        (sealed_secret(1, json!([ready])), Status::InProgress),
        (sealed_secret(-1, json!([])), Status::InProgress),
        (
            sealed_secret(
                2,
                json!([condition("Ready", "Unknown"), condition("Reconciling", "True")]),
            ),
            Status::InProgress,
        ),
        (
            sealed_secret(2, json!([condition("Ready", "False"), condition("Stalled", "True")])),
            Status::Failed,
        ),
    ];
    let (objects, expected): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
    let verdicts = Verdict::of_each(&objects)?;
    assert_eq!(verdicts.iter().map(|verdict| verdict.status).collect::<Vec<_>>(), expected);
    assert_eq!(verdicts[4].message, "because");

    let failure = Verdict::of(&json!([])).err().context("judged")?.to_string();
    assert!(failure.starts_with("kstatus: line 1:"), "{failure}");
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

/// The command lines of all processes that contain the folder's path.
fn processes_that_mention(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("not Unicode")?;
    let command_lines = fs::read_dir("/proc")?.filter_map(|process| {
        let command_line = fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command_line).replace('\0', " "))
    });
    Ok(command_lines.filter(|command_line| command_line.contains(folder)).collect())
}
