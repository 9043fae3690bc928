//! Files, pipes and permissions.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, example};

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {a: b}\n";

fn sealed() -> (Sandbox, String) {
    let sandbox = Sandbox::with_keys();
    sandbox.write("secret.yaml", SECRET);
    let sealed = sandbox.done(&["seal", "-R", "hybrid.pub", "secret.yaml"]);
    sandbox.write("sealed.yaml", &sealed);
    (sandbox, sealed)
}

#[test]
fn an_identity_file_is_private_and_never_overwritten() {
    let sandbox = Sandbox::new();
    let recipient = sandbox.done(&["keys", "generate", "-o", "id.txt"]);
    let file = sandbox.read("id.txt");
    let lines: Vec<_> = file.lines().collect();
    assert!(lines[0].starts_with("# created: 20") && lines[0].ends_with('Z'), "{}", lines[0]);
    assert_eq!(lines[1], format!("# public key: {}", recipient.trim_end()));
    assert!(lines[2].starts_with("AGE-SECRET-KEY-PQ-1") && lines.len() == 3);
    for force in [&[][..], &["--force"]] {
        let run = sandbox.run(&[&["keys", "generate", "-o", "id.txt"], force].concat());
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    }
    assert_eq!(sandbox.read("id.txt"), file);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(sandbox.path("id.txt")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn without_a_file_the_identity_goes_to_stdout_and_the_recipient_to_stderr() {
    let sandbox = Sandbox::new();
    for (key_type, identity, recipient) in
        [("hybrid", "AGE-SECRET-KEY-PQ-1", "age1pq1"), ("x25519", "AGE-SECRET-KEY-1", "age1")]
    {
        let run = sandbox.run(&["keys", "generate", "--type", key_type]);
        assert!(run.stdout.lines().nth(2).unwrap().starts_with(identity));
        assert!(run.stderr.starts_with(&format!("public key: {recipient}")), "{}", run.stderr);
    }
}

#[test]
fn private_files_are_not_written_into_a_work_tree() {
    let (sandbox, _) = sealed();
    fs::create_dir_all(sandbox.path("tree/.git")).unwrap();
    fs::create_dir_all(sandbox.path("tree/sub")).unwrap();
    let unseal = ["unseal", "-i", "hybrid.txt", "sealed.yaml", "-o", "tree/sub/secret.yaml"];
    let generate = ["keys", "generate", "-o", "tree/sub/id.txt"];
    for args in [&unseal[..], &generate] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""));
        assert!(run.stderr.contains("is inside the Git work tree"), "{}", run.stderr);
        assert!(!sandbox.path(args.last().unwrap()).exists());
        sandbox.done(&[args, &["--force"]].concat());
        assert!(sandbox.path(args.last().unwrap()).exists());
    }
    // A sealed file belongs there.
    sandbox.done(&["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "tree/sealed.yaml"]);
}

#[test]
fn an_existing_file_stays_unless_forced() {
    let (sandbox, sealed) = sealed();
    for (args, refusal) in [
        (
            &["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "out.yaml"][..],
            "error: out.yaml: document 1, line 1: not a Kubernetes object\nhint: to replace the whole file, pass --force\n",
        ),
        (
            &["unseal", "-i", "hybrid.txt", "sealed.yaml", "-o", "out.yaml"],
            "error: out.yaml already exists\nhint: to overwrite it, pass --force\n",
        ),
    ] {
        sandbox.write("out.yaml", "old");
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stderr.as_str()), (2, refusal));
        assert_eq!(sandbox.read("out.yaml"), "old");
        sandbox.done(&[args, &["--force"]].concat());
        assert_ne!(sandbox.read("out.yaml"), "old");
    }
    // A failure leaves it as it was, forced or not.
    sandbox.write("out.yaml", &sealed);
    sandbox.write("secret.yaml", "cut: {");
    assert_eq!(
        sandbox.run(&["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "out.yaml", "--force"]).code,
        2
    );
    assert_eq!(sandbox.read("out.yaml"), sealed);
}

#[cfg(unix)]
#[test]
fn an_unsealed_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let (sandbox, _) = sealed();
    sandbox.done(&["unseal", "-i", "hybrid.txt", "sealed.yaml", "-o", "out.yaml"]);
    let mode = fs::metadata(sandbox.path("out.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn files_that_cannot_be_read_or_written_are_named() {
    let (sandbox, _) = sealed();
    fs::create_dir(sandbox.path("folder")).unwrap();
    for (args, message) in [
        (
            &["unseal", "-i", "hybrid.txt", "folder"][..],
            "error: cannot read folder\n  caused by: is a directory\n",
        ),
        (&["inspect", "nowhere.yaml"], "error: cannot read nowhere.yaml\n"),
        (&["lint", "nowhere.yaml"], "error: cannot read nowhere.yaml\n"),
        (&["seal", "-R", "nowhere.pub", "secret.yaml"], "error: cannot read nowhere.pub\n"),
        (&["unseal", "-i", "folder", "sealed.yaml"], "error: cannot read folder\n"),
        (
            &["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "folder", "--force"],
            "error: folder is not a regular file\n",
        ),
        (
            &["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "/dev/null", "--force"],
            "error: /dev/null is not a regular file\n",
        ),
        (
            &["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "no/where.yaml"],
            "error: cannot write no/where.yaml\n",
        ),
        (&["seal", "-R", "hybrid.pub", "-", "-"], "error: '-' (stdin) can be given only once\n"),
        (&["unseal", "-i", "-", "-"], "error: '-' (stdin) can be given only once\n"),
        (&["rekey", "-i", "-", "-R", "-", "x.yaml"], "error: '-' (stdin) can be given only once\n"),
        (&["edit", "-i", "-", "-R", "-", "x.yaml"], "error: '-' (stdin) can be given only once\n"),
        (
            &["migrate", "--from-key", "-", "-R", "-", "x.yaml"],
            "error: '-' (stdin) can be given only once\n",
        ),
    ] {
        let run = sandbox.run(args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}");
        assert!(run.stderr.starts_with(message), "{}", run.stderr);
    }
}

/// Root may do everything, so the command runs as nobody when the tests run as root.
#[cfg(unix)]
#[test]
fn unreadable_files_and_read_only_folders_are_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (sandbox, _) = sealed();
    let chmod = |name: &str, mode| {
        fs::set_permissions(sandbox.path(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    fs::create_dir(sandbox.path("folder")).unwrap();
    chmod("", 0o755);
    chmod("folder", 0o555);
    chmod("sealed.yaml", 0o000);
    let is_root = fs::metadata(sandbox.path("sealed.yaml")).unwrap().uid() == 0;
    let program = sandbox.own_program();
    for (args, message) in [
        (&["lint", "sealed.yaml"][..], "error: cannot read sealed.yaml: "),
        (
            &["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "folder/out.yaml"],
            "error: cannot write folder/out.yaml\n",
        ),
    ] {
        let mut command = std::process::Command::new(&program);
        command.args(args).current_dir(sandbox.path("")).stdin(Stdio::null());
        if is_root {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(message), "{stderr}");
    }
    assert_eq!(fs::read_dir(sandbox.path("folder")).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let (sandbox, _) = sealed();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = sandbox
        .command(&["seal", "-R", "hybrid.pub", "secret.yaml"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8(run.stderr).unwrap().starts_with("error: cannot write to stdout\n"));

    let items: String = (0..200)
        .map(|number| format!("---\n{}", SECRET.replace("db", &format!("db{number}"))))
        .collect();
    sandbox.write("many.yaml", items);
    let mut child = sandbox
        .command(&["seal", "-R", "hybrid.pub", "many.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// At every moment there is the old file or the new one, and a signal leaves no other file behind.
#[cfg(unix)]
#[test]
fn a_signal_leaves_the_old_file_or_the_new_one() {
    let sandbox = Sandbox::with_keys();
    let value = "x".repeat(600_000);
    sandbox.write("secret.yaml", format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: prod}}\nstringData: {{a: {value}}}\n"));
    fs::create_dir(sandbox.path("out")).unwrap();
    let seal = ["seal", "-R", "hybrid.pub", "secret.yaml", "-o", "out/sealed.yaml", "--force"];
    let start = Instant::now();
    sandbox.done(&seal);
    let whole = start.elapsed();
    let length = fs::metadata(sandbox.path("out/sealed.yaml")).unwrap().len();
    for round in 0..40_u32 {
        sandbox.write("out/sealed.yaml", "old");
        let mut child = sandbox.command(&seal).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(round) / 40.0) + Duration::from_millis(1));
        let signal = if round % 2 == 0 { "-INT" } else { "-TERM" };
        let pid = child.id().to_string();
        let _ =
            std::process::Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
        child.wait().unwrap();
        let now = fs::read(sandbox.path("out/sealed.yaml")).unwrap();
        assert!(now == b"old" || now.len() as u64 == length, "{} bytes", now.len());
        assert_eq!(fs::read_dir(sandbox.path("out")).unwrap().count(), 1);
    }
}

#[test]
fn every_shell_has_completions() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.done(&["completions", shell]);
        assert!(script.contains("unseal") && script.contains("recipients-file"), "{shell}");
    }
}

#[test]
fn a_dash_as_output_is_stdout() {
    let sandbox = Sandbox::with_keys();
    let secret = example("secret.yaml");
    let sealed = sandbox.done(&["seal", "-R", "hybrid.pub", "-o", "-", secret.to_str().unwrap()]);
    assert!(sealed.starts_with("apiVersion: bulla.dev/v1alpha1\n"));
    assert!(!sandbox.path("-").exists());
}
