//! Colours, and how much is printed.

use crate::sandbox::{Run, Sandbox, example};

const RED: &str = "\u{1b}[1m\u{1b}[31merror\u{1b}[0m: ";

fn run(args: &[&str], env: &[(&str, &str)]) -> Run {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(args);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    let output = command.env("TERM", "xterm").envs(env.iter().copied()).output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn colours_appear_only_where_they_are_enabled() {
    for (args, env, is_colored) in [
        (&["unseal", "-"][..], &[][..], false),
        (&["unseal", "-"], &[("CLICOLOR_FORCE", "1")], true),
        (&["unseal", "-"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&["unseal", "-", "--color", "always"], &[("NO_COLOR", "1")], true),
        (&["--color=never", "unseal", "-"], &[("CLICOLOR_FORCE", "1")], false),
        // The error about an invalid command line has colours too.
        (&["unseal", "--color", "always", "--unknown"], &[], true),
        (&["unseal", "--color=never", "--unknown"], &[("CLICOLOR_FORCE", "1")], false),
        (&["unseal", "--unknown", "--", "--color=always"], &[], false),
    ] {
        let run = run(args, env);
        assert_eq!(run.code, 2, "{args:?}");
        let start = if is_colored { RED } else { "error: " };
        assert!(run.stderr.starts_with(start), "{args:?} {env:?}: {:?}", run.stderr);
        assert_eq!(run.stderr.contains('\u{1b}'), is_colored, "{args:?}: {:?}", run.stderr);
    }
    for (args, is_colored) in
        [(["--help", "--color=always"], true), (["--help", "--color=never"], false)]
    {
        let run = run(&args, &[]);
        assert_eq!((run.code, run.stdout.contains('\u{1b}')), (0, is_colored));
    }
}

#[test]
fn a_mistake_in_the_command_line_is_also_escaped_in_colour() {
    let run = run(&["--color=always", "unseal", "--un\u{1b}[2Jknown"], &[]);
    assert_eq!(run.code, 2);
    assert!(!run.stderr.contains("\u{1b}[2J"), "{:?}", run.stderr);
    let run = self::run(&["--color=always", "unseal", "--AGE-SECRET-KEY-1QQQQQQQQQQQQ"], &[]);
    assert_eq!(run.code, 2);
    assert!(!run.stderr.contains("QQQ"), "{:?}", run.stderr);
}

#[test]
fn quiet_keeps_the_data_the_errors_and_the_exit_code() {
    let (identity, sealed) = (example("x25519-identity.txt"), "tests/files/merge.yaml");
    let sealed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(sealed);
    let [identity, sealed] = [&identity, &sealed].map(|path| path.to_str().unwrap());
    let unseal = ["unseal", "-i", identity, sealed];
    let loud = run(&unseal, &[]);
    let quiet = run(&[&unseal[..], &["--quiet"]].concat(), &[]);
    assert!(loud.stderr.starts_with("note: "), "{}", loud.stderr);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    assert_eq!(quiet.stdout, loud.stdout);
    // A summary.
    let check = ["-q", "unseal", "--check", "-i", identity, sealed];
    assert!(run(&check[1..], &[]).stderr.ends_with("everything opens\n"));
    assert_eq!(run(&check, &[]).stderr, "");
    // A check of nothing proves nothing.
    let lost = run(&["unseal", "--check", "-i", identity, "--", sealed], &[]);
    assert_eq!(lost.code, 2);
    assert!(lost.stderr.contains("without --exec none is run"), "{}", lost.stderr);
    let nothing = run(&["unseal", "--check", "-i", identity, "/dev/null"], &[]);
    assert_ne!(nothing.code, 0, "{}", nothing.stderr);
    // An error, with its hint.
    let run = run(&["-q", "unseal", sealed], &[]);
    assert_eq!(run.code, 2);
    assert_eq!(run.stderr, "error: no identity given\nhint: pass its file with -i\n");
}

#[test]
fn an_extra_argument_is_not_repeated() {
    let sandbox = Sandbox::with_keys();
    for args in [
        &["create", "db", "password=Hunter2-secret"][..],
        &["unset", "f.yaml", "a", "--Hunter2-secret"],
        &["set", "f.yaml", "a", "--Hunter2-secret=1"],
        &["edit", "f.yaml", "Hunter2-secret"],
    ] {
        let run = sandbox.run(args);
        assert_eq!(run.code, 2);
        assert!(!(run.stdout + &run.stderr).contains("Hunter2"), "{}", run.stderr);
    }
    let run = sandbox.run(&["lint", "--fromat", "json"]);
    assert!(run.stderr.contains("'--fromat'"), "{}", run.stderr);
}
