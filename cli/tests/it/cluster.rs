//! What can be tested about clusters without one. `tests/` tests against a real API server.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::sandbox::Sandbox;

fn kubeconfig(server: &str, cluster: serde_json::Value) -> String {
    let mut cluster = cluster;
    cluster["server"] = json!(server);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": "marked-token"}}],
    })
    .to_string()
}

#[test]
fn an_unusable_kubeconfig_is_reported_but_not_quoted() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "insecure",
        kubeconfig("https://127.0.0.1:1", json!({"insecure-skip-tls-verify": true})),
    );
    sandbox.write("plain", kubeconfig("http://127.0.0.1:1", json!({})));
    sandbox.write("closed", kubeconfig("https://127.0.0.1:1", json!({})));
    sandbox.write(
        "no-context",
        kubeconfig("https://127.0.0.1:1", json!({}))
            .replace("\"current-context\":\"here\"", "\"x\":\"\""),
    );
    sandbox.write("broken", "users: [{name: me, user: {token: [marked-token");
    sandbox.write(
        "no-ca",
        kubeconfig("https://127.0.0.1:1", json!({"certificate-authority-data": "marked-token"})),
    );
    for (args, message) in [
        (&["--kubeconfig", "nowhere"][..], "error: kubeconfig nowhere does not exist\n"),
        (&["--kubeconfig", "broken"], "error: broken is not a valid kubeconfig\n"),
        (
            &["--kubeconfig", "no-context"],
            "error: the kubeconfig has no current context\nhint: choose one with --context\n",
        ),
        (
            &["--kubeconfig", "closed", "--context", "there"],
            "error: the kubeconfig has no context there\nhint: it has: here\n",
        ),
        (
            &["--kubeconfig", "insecure"],
            "error: context here does not verify the API server's TLS certificate\n",
        ),
        (
            &["--kubeconfig", "plain"],
            "error: context here does not verify the API server's TLS certificate\n",
        ),
        (
            &["--kubeconfig", "no-ca"],
            "error: cannot use the kubeconfig: its certificate authority cannot be loaded\n",
        ),
        (&["--kubeconfig", "closed"], "error: cannot reach 127.0.0.1:1: "),
        (&[], "error: kubeconfig "),
    ] {
        let run = sandbox.run(&[&["keys", "fetch"], args].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
        assert!(run.stderr.starts_with(message), "{}", run.stderr);
        assert!(!run.stderr.contains("marked"), "{}", run.stderr);
    }
}

#[test]
fn seal_asks_a_cluster_only_when_no_recipient_is_named() {
    let sandbox = Sandbox::with_keys();
    sandbox.write(
        "secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: b}\n",
    );
    sandbox.done(&["seal", "-R", "hybrid.pub", "--kubeconfig", "nowhere", "secret.yaml"]);
    let run = sandbox.run(&["seal", "--kubeconfig", "nowhere", "secret.yaml"]);
    assert_eq!(run.code, 2);
    let expected = "error: no recipient given with -r or -R, and could not fetch the cluster's key\n  caused by: kubeconfig nowhere does not exist\nhint: pass another one with --kubeconfig\n";
    assert_eq!(run.stderr, expected);
}

#[test]
fn a_command_gives_up_on_a_cluster_that_never_answers() {
    let sandbox = Sandbox::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("https://{}", silent.local_addr().unwrap());
    sandbox.write("silent", kubeconfig(&server, json!({})));
    let start = Instant::now();
    let run = sandbox.run(&["keys", "fetch", "--kubeconfig", "silent"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains("hint: "), "{}", run.stderr);
}

#[test]
fn several_kubeconfigs_are_merged_and_missing_ones_skipped() {
    let sandbox = Sandbox::new();
    sandbox.write("one", kubeconfig("http://127.0.0.1:1", json!({})));
    let output =
        sandbox.command(&["keys", "fetch"]).env("KUBECONFIG", "nowhere:one").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: context here does not verify"), "{stderr}");
}
