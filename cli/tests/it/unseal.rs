//! `bulla unseal` for scripts: one value, a dotenv file, JSON, and a command with the values in its environment.

use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, documents, plaintext};

const FLAGS: [&str; 3] = ["unseal", "-i", "x25519.txt"];

/// A sandbox with `sealed.yaml`, which holds these values as base64.
fn sealed(data: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::with_keys();
    seal(&sandbox, "sealed.yaml", "db", data);
    sandbox
}

fn seal(sandbox: &Sandbox, file: &str, name: &str, data: &[(&str, &str)]) {
    let data: String = data.iter().map(|(key, value)| format!("  {key}: {value}\n")).collect();
    sandbox.write(
        "secret.yaml",
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: prod\ndata:\n{data}"
        ),
    );
    sandbox.done(&["seal", "-R", "x25519.pub", "secret.yaml", "-o", file]);
    fs::remove_file(sandbox.path("secret.yaml")).unwrap();
}

/// How a command ended, with its output as bytes.
fn raw(sandbox: &Sandbox, args: &[&str]) -> (i32, Vec<u8>, String) {
    let output = sandbox.command(&[&FLAGS[..], args].concat()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

#[test]
fn one_value_is_written_byte_for_byte() {
    // "\xff\x00\r\n\n", and "hunter2" without a newline.
    let sandbox = sealed(&[("binary", "/wANCgo="), ("password", "aHVudGVyMg==")]);
    let (code, stdout, stderr) = raw(&sandbox, &["--key", "binary", "sealed.yaml"]);
    assert_eq!((code, &stdout[..], stderr.as_str()), (0, &b"\xff\0\r\n\n"[..], ""));
    let (code, stdout, _) = raw(&sandbox, &["--key", "password", "sealed.yaml", "-o", "value"]);
    assert_eq!((code, stdout), (0, Vec::new()));
    assert_eq!(fs::read(sandbox.path("value")).unwrap(), b"hunter2");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(sandbox.path("value")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn one_value_opens_beside_a_damaged_one_unless_it_is_rendered_from_it() {
    let sandbox = sealed(&[("password", "aHVudGVyMg=="), ("user", "YXBw")]);
    let manifest = sandbox.read("sealed.yaml");
    let damaged: String = manifest
        .lines()
        .map(|line| match line.trim().strip_prefix("user: ") {
            // Letters of the payload's last bytes.
            Some(value) => format!("    user: {}AAAA{}\n", &value[..300], &value[304..]),
            None => format!("{line}\n"),
        })
        .collect();
    let template = "  template:\n    data:\n      url: db://{{ user }}\n      fixed: text\n";
    sandbox.write("damaged.yaml", damaged + template);
    let (code, stdout, stderr) = raw(&sandbox, &["--key", "password", "damaged.yaml"]);
    assert_eq!((code, &stdout[..]), (0, &b"hunter2"[..]), "{stderr}");
    for key in ["user", "url"] {
        let (code, stdout, stderr) = raw(&sandbox, &["--key", key, "damaged.yaml"]);
        assert_eq!((code, stdout), (1, Vec::new()), "{key}: {stderr}");
        assert!(stderr.contains("key user: damaged"), "{stderr}");
    }
    let (code, _, stderr) = raw(&sandbox, &["--key", "pass", "damaged.yaml"]);
    assert_eq!(code, 2);
    assert!(
        stderr.ends_with("prod/db: no key pass\nhint: it has: password, user, fixed, url\n"),
        "{stderr}"
    );
}

#[test]
fn json_is_one_secret_or_a_list_of_them() {
    let sandbox = sealed(&[("password", "aHVudGVyMg==")]);
    seal(&sandbox, "other.yaml", "cache", &[("token", "YWJj")]);
    let (_, one, _) = raw(&sandbox, &["--format", "json", "sealed.yaml"]);
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(
        (one["kind"].as_str(), one["metadata"]["name"].as_str()),
        (Some("Secret"), Some("db"))
    );
    assert_eq!(plaintext(&one, "password"), b"hunter2");
    let (_, both, _) = raw(&sandbox, &["--format", "json", "sealed.yaml", "other.yaml"]);
    let both: Value = serde_json::from_slice(&both).unwrap();
    assert_eq!((both["kind"].as_str(), both["items"].as_array().unwrap().len()), (Some("List"), 2));
    assert_eq!(plaintext(&both["items"][1], "token"), b"abc");
    // The same as in YAML.
    let (_, yaml, _) = raw(&sandbox, &["sealed.yaml"]);
    assert_eq!(documents(&String::from_utf8(yaml).unwrap()), [one]);
}

#[cfg(unix)]
#[test]
fn a_shell_sources_what_is_written_as_dotenv() {
    // "it's a \"test\"" is refused, because parsers would read it differently.
    let sandbox = sealed(&[("cert", "LS0KYSBiCi0tCg=="), ("empty", "\"\""), ("quote", "aXQncw==")]);
    sandbox.done(
        &[
            &FLAGS[..],
            &["--format=dotenv", "--prefix=DB_", "--names=upper", "sealed.yaml", "-o", ".env"],
        ]
        .concat(),
    );
    assert_eq!(sandbox.read(".env"), "DB_CERT='--\na b\n--\n'\nDB_EMPTY=''\nDB_QUOTE=\"it's\"\n");
    let script = "set -eu; . ./.env; printf '%s|' \"$DB_CERT\" \"$DB_EMPTY\" \"$DB_QUOTE\"";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(sandbox.path("."))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "--\na b\n--\n||it's|");
    seal(&sandbox, "mixed.yaml", "db", &[("both", "aXQncyBhICJ0ZXN0Ig==")]);
    let (code, stdout, stderr) = raw(&sandbox, &["--format=dotenv", "mixed.yaml"]);
    assert_eq!((code, stdout), (2, Vec::new()));
    assert!(
        stderr.starts_with("error: both: dotenv parsers would read this value differently"),
        "{stderr}"
    );
}

#[test]
fn variables_with_invalid_names_or_two_values_or_that_decide_on_code_are_refused() {
    let sandbox = sealed(&[("password", "aHVudGVyMg==")]);
    seal(&sandbox, "other.yaml", "cache", &[("password", "YWJj")]);
    seal(&sandbox, "dotted.yaml", "db", &[("ca.crt", "YWJj")]);
    seal(&sandbox, "path.yaml", "db", &[("LD_PRELOAD", "YWJj")]);
    seal(&sandbox, "nul.yaml", "db", &[("nul", "AGFiYw==")]);
    for (args, message) in [
        (
            &["--exec", "sealed.yaml", "other.yaml", "--", "true"][..],
            "error: key password: two values for the variable password\n",
        ),
        (
            &["--format=dotenv", "dotted.yaml"],
            "error: key ca.crt: ca.crt is not a valid environment variable name\n",
        ),
        (
            &["--exec", "path.yaml", "--", "true"],
            "error: key LD_PRELOAD: the variable LD_PRELOAD decides which code runs or where it connects, so it is not taken from a file\n",
        ),
        (
            &["--exec", "nul.yaml", "--", "true"],
            "error: nul: an environment variable cannot hold this value\n",
        ),
        (
            &["--prefix", "A_", "sealed.yaml"],
            "error: --prefix, --names and --allow-variable only apply to variables\n",
        ),
        (&["--exec", "sealed.yaml", "--", "./absent"], "error: no such command: ./absent\n"),
    ] {
        let (code, stdout, stderr) = raw(&sandbox, args);
        assert_eq!((code, stdout), (2, Vec::new()), "{stderr}");
        assert!(stderr.starts_with(message), "{stderr}");
        assert!(!stderr.contains("abc") && !stderr.contains("hunter2"), "{stderr}");
    }
    // Neither flag works without the other.
    assert_eq!(raw(&sandbox, &["--exec", "sealed.yaml"]).0, 2);
    assert_eq!(raw(&sandbox, &["sealed.yaml", "--", "true"]).0, 2);
}

#[cfg(unix)]
mod exec {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_command_has_the_values_in_its_environment_and_nowhere_else() {
        let sandbox = sealed(&[("PASSWORD", "bWFya2Vk"), ("bytes", "/mE=")]);
        let before = fs::read_dir(sandbox.path(".")).unwrap().count();
        // Its arguments, and those of the process that waits for it.
        let script = "printf '%s,' \"$PASSWORD\" \"$1\"; printf '%s' \"$bytes\" | od -An -tx1 | tr -d ' \\n'; \
                      ! tr '\\0' ' ' < /proc/$$/cmdline | grep -q marke''d; echo \",$?\"";
        let (code, stdout, stderr) = raw(
            &sandbox,
            &["--exec", "sealed.yaml", "--", "sh", "-c", script, "sh", "--an-argument"],
        );
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(String::from_utf8(stdout).unwrap(), "marked,--an-argument,fe61,0\n");
        assert_eq!(fs::read_dir(sandbox.path(".")).unwrap().count(), before);
    }

    #[test]
    fn the_process_becomes_the_command_and_ends_with_its_exit_code_or_signal() {
        let sandbox = sealed(&[("PASSWORD", "bWFya2Vk")]);
        let start = |script: &str| {
            let args = ["--exec", "sealed.yaml", "--", "sh", "-c", script];
            let mut command = sandbox.command(&[&FLAGS[..], &args].concat());
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut child = start("echo $$; exit 7");
        let mut pid = String::new();
        child.stdout.take().unwrap().read_to_string(&mut pid).unwrap();
        assert_eq!(pid.trim(), child.id().to_string());
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(start("kill -TERM $$").wait().unwrap().signal(), Some(15));
    }
}
