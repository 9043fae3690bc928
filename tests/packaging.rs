//! The image, and the packaging for kubectl, krew, pre-commit and GitHub Actions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bulla_tests::{Folder, Shell};
use serde_json::Value;

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: prod}\nstringData: {password: hunter2}\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml(path: &str) -> Result<Value> {
    let text = fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?;
    Ok(yaml_serde::from_str(&text)?)
}

/// A shell without a cluster, with `secret.yaml` and `sealed.yaml` in its folder.
fn shell(folder: &Folder) -> Result<Shell> {
    let shell = Shell::new(folder, Path::new("/nonexistent"))?;
    for name in ["x25519-recipient.txt", "x25519-identity.txt"] {
        fs::copy(root().join("keys-example").join(name), shell.path(name))?;
    }
    fs::write(shell.path("secret.yaml"), SECRET)?;
    shell.run("bulla seal -R x25519-recipient.txt secret.yaml -o sealed.yaml")?;
    Ok(shell)
}

#[test]
fn kubectl_runs_bulla_as_a_plugin_and_completes_its_arguments() -> Result<()> {
    let folder = Folder::new("bulla-plugin-")?;
    let shell = shell(&folder)?;
    shell.run("mkdir plugin && cd plugin && bulla=$(command -v bulla) && ln -s \"$bulla\" kubectl-bulla && ln -s \"$bulla\" kubectl_complete-bulla")?;
    let kubectl = |line: &str| shell.run(&format!("PATH=\"$PWD/plugin:$PATH\"; {line}"));
    let help = kubectl("kubectl bulla seal -h")?;
    ensure!(help.contains("Usage: kubectl bulla seal "), "{help}");
    let value = kubectl("kubectl bulla unseal -i x25519-identity.txt --key password sealed.yaml")?;
    ensure!(value == "hunter2", "{value}");
    // The exit code is passed on.
    let code = kubectl("kubectl bulla unseal -i absent.txt sealed.yaml 2> /dev/null || echo $?")?;
    ensure!(code == "2\n", "{code}");
    let listed = kubectl("kubectl plugin list")?;
    ensure!(listed.contains("kubectl-bulla"), "{listed}");
    let candidates = kubectl("kubectl __complete bulla unseal sealed.yaml --key '' 2> /dev/null")?;
    ensure!(candidates.lines().next() == Some("password"), "{candidates}");
    ensure!(candidates.trim_end().ends_with(":4"), "{candidates}");
    Ok(())
}

/// By krew's documentation of its manifests: <https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest/>.
#[test]
fn a_release_makes_a_valid_krew_manifest() -> Result<()> {
    let folder = Folder::new("bulla-krew-")?;
    let template = fs::read_to_string(root().join("deploy/krew/manifest.yaml"))?;
    let archives: BTreeSet<_> =
        template.split("SHA256(").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    for archive in &archives {
        fs::write(folder.path().join(archive), archive)?;
    }
    let render = |version: &str| {
        let args = [version, "https://example.com", "https://example.com/download"];
        let mut command = Command::new("bash");
        command.arg(root().join("deploy/krew/render")).args(args).arg(folder.path()).output()
    };
    let output = render("1.2.3")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let manifest: Value = yaml_serde::from_str(&text)?;
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(
        (&manifest["kind"], &manifest["metadata"]["name"]),
        (&"Plugin".into(), &"bulla".into())
    );
    let spec = &manifest["spec"];
    assert_eq!(
        (&spec["version"], &spec["homepage"]),
        (&"v1.2.3".into(), &"https://example.com".into())
    );
    for field in ["shortDescription", "description", "caveats"] {
        ensure!(spec[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    ensure!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50));
    let platforms = spec["platforms"].as_array().context("no platforms")?;
    let mut seen = BTreeSet::new();
    for platform in platforms {
        let labels = &platform["selector"]["matchLabels"];
        let (os, arch) = (labels["os"].as_str(), labels["arch"].as_str());
        let (os, arch) = os.zip(arch).context("no os or arch")?;
        ensure!(["linux", "darwin", "windows"].contains(&os) && ["amd64", "arm64"].contains(&arch));
        ensure!(seen.insert((os, arch)), "{os} {arch} twice");
        let archive = format!("bulla-{os}-{arch}.tar.gz");
        assert_eq!(platform["uri"], format!("https://example.com/download/{archive}"));
        let expected = Command::new("sha256sum").arg(folder.path().join(&archive)).output()?;
        let expected = String::from_utf8(expected.stdout)?;
        assert_eq!(platform["sha256"].as_str(), expected.split(' ').next());
        // The program is one of the files that are taken out of the archive.
        let files = platform["files"].as_array().context("no files")?;
        ensure!(files.iter().any(|file| file["from"] == platform["bin"] && file["to"] == "."));
    }
    assert_eq!(seen.len(), archives.len());
    // No placeholder is left, and an incomplete release fails.
    ensure!(
        !text.contains("SHA256(") && !text.contains("VERSION") && !text.contains("BASE"),
        "{text}"
    );
    ensure!(!render("1.2")?.status.success());
    fs::remove_file(folder.path().join("bulla-linux-arm64.tar.gz"))?;
    ensure!(!render("1.2.3")?.status.success());
    Ok(())
}

/// By pre-commit's documentation of hooks: <https://pre-commit.com/#creating-new-hooks>.
#[test]
fn the_pre_commit_hook_finds_a_plaintext_secret() -> Result<()> {
    let hooks = yaml(".pre-commit-hooks.yaml")?;
    let hook = &hooks.as_array().context("no list")?[0];
    let fields = hook.as_object().context("no hook")?;
    let known =
        ["id", "name", "description", "entry", "args", "language", "types_or", "pass_filenames"];
    ensure!(fields.keys().all(|field| known.contains(&field.as_str())), "{fields:?}");
    assert_eq!((&hook["id"], &hook["language"]), (&"bulla-lint".into(), &"system".into()));
    let args = hook["args"].as_array().context("no args")?;
    let args: Vec<_> = args.iter().filter_map(Value::as_str).collect();
    let line = format!("{} {}", hook["entry"].as_str().context("no entry")?, args.join(" "));
    let folder = Folder::new("bulla-hook-")?;
    let shell = shell(&folder)?;
    let code = shell.run(&format!("{line} > found 2>&1 || echo $?"))?;
    assert_eq!(code, "1\n", "{}", fs::read_to_string(shell.path("found"))?);
    for name in ["secret.yaml", "x25519-identity.txt"] {
        fs::remove_file(shell.path(name))?;
    }
    shell.run(&line).map(drop)
}

/// The script of a step of the action.
fn script(action: &Value, step: usize) -> Result<String> {
    let script = action["runs"]["steps"][step]["run"].as_str().context("no script")?;
    // A script contains no `${{ … }}`, because the text of an input would become code.
    ensure!(!script.contains("${{"), "{script}");
    Ok(format!("set -eo pipefail\n{script}"))
}

#[test]
fn the_action_passes_on_lints_findings_and_exit_code() -> Result<()> {
    let action = yaml("action.yml")?;
    assert_eq!(action["runs"]["using"], "composite");
    let inputs = action["inputs"].as_object().context("no inputs")?;
    for (name, input) in inputs {
        ensure!(input["description"].is_string() && input["default"].is_string(), "{name}");
    }
    let folder = Folder::new("bulla-action-")?;
    let shell = shell(&folder)?;
    let step = |step: usize, variables: &[(&str, &str)]| -> Result<(Option<i32>, String)> {
        let output = shell.path("output");
        fs::write(&output, "")?;
        let mut command = shell.command("bash -c \"$SCRIPT\"");
        command.env("SCRIPT", script(&action, step)?).env("GITHUB_OUTPUT", &output);
        for name in ["PATHS", "BASE", "FORMAT", "OUTPUT", "DENY"] {
            command.env(format!("BULLA_{name}"), "");
        }
        let status = command.envs(variables.iter().copied()).output()?.status;
        Ok((status.code(), fs::read_to_string(&output)?))
    };
    // The program exists, so nothing is built.
    assert_eq!(step(0, &[])?.0, Some(0));
    for (paths, code) in [("sealed.yaml", 0), ("sealed.yaml secret.yaml", 1), ("absent.yaml", 2)] {
        let found = step(
            1,
            &[("BULLA_PATHS", paths), ("BULLA_FORMAT", "json"), ("BULLA_OUTPUT", "found.json")],
        )?;
        assert_eq!(found, (Some(code), format!("code={code}\n")), "{paths}");
    }
    // A program in place of bulla shows the arguments made from the inputs.
    shell.run("mkdir -p stand-in && printf '#!/bin/sh\\nprintf \"[%%s]\" \"$@\" > args\\n' > stand-in/bulla && chmod +x stand-in/bulla")?;
    let path = std::env::var("PATH")?;
    let substitute = format!("{}:{path}", shell.path("stand-in").display());
    for (base, expected) in [
        ("abc", "[lint][--format][github][--base=abc][--deny=warnings][--][a][b;$(id)]"),
        ("none", "[lint][--format][github][--deny=warnings][--][a][b;$(id)]"),
    ] {
        let variables = [
            ("PATH", substitute.as_str()),
            ("BULLA_PATHS", "a b;$(id)"),
            ("BULLA_FORMAT", "github"),
            ("BULLA_BASE", base),
            ("BULLA_DENY", "warnings"),
        ];
        assert_eq!(step(1, &variables)?, (Some(0), "code=0\n".to_owned()));
        let args = fs::read_to_string(shell.path("args"))?;
        assert_eq!(args, expected);
    }
    Ok(())
}

/// Stubs for the programs that the Dockerfile runs.
const CARGO: &str = "#!/bin/sh\necho \"$*\" > cargo-args\nwhile [ \"$1\" != --target ]; do shift; done\nmkdir -p \"target/$2/release\" && echo \"$2\" > \"target/$2/release/bulla-controller\"\n";
const CP: &str = "#!/bin/sh\nexec /bin/cp \"$1\" \".$2\"\n";

/// Builds no image, because that needs an engine: runs the script of the Dockerfile for each architecture.
#[test]
fn the_image_is_built_for_amd64_and_arm64_from_a_pinned_base() -> Result<()> {
    let dockerfile = fs::read_to_string(root().join("deploy/Dockerfile"))?;
    let line = |word: &str| {
        let mut lines = dockerfile.lines().filter_map(|line| line.strip_prefix(word));
        lines.next().with_context(|| format!("no {word}"))
    };
    let toolchain = fs::read_to_string(root().join("rust-toolchain.toml"))?;
    let version = toolchain.split('"').nth(1).context("no channel")?;
    ensure!(line("FROM ")?.starts_with(&format!("rust:{version}-")), "{}", line("FROM ")?);
    assert_eq!(line("ENV ")?, format!("RUSTUP_TOOLCHAIN={version}"));
    // runAsNonRoot accepts only a number.
    let user = line("USER ")?;
    ensure!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");

    let (_, script) = dockerfile.split_once("RUN ").context("no RUN")?;
    let script = script.split("\n\n").next().unwrap_or_default();
    let folder = Folder::new("bulla-image-")?;
    let shell = Shell::new(&folder, Path::new("/nonexistent"))?;
    fs::create_dir(shell.path("stand-in"))?;
    for (name, text) in [("cargo", CARGO), ("cp", CP), ("dpkg", "#!/bin/sh\necho arm64\n")] {
        fs::write(shell.path("stand-in").join(name), text)?;
    }
    shell.run("chmod +x stand-in/*")?;
    let path = format!("{}:{}", shell.path("stand-in").display(), std::env::var("PATH")?);
    let build = |architecture: &str| {
        let mut command = shell.command(script);
        command.env("PATH", &path).env("TARGETARCH", architecture).output()
    };
    for (architecture, target) in [
        ("amd64", "x86_64-unknown-linux-gnu"),
        ("arm64", "aarch64-unknown-linux-gnu"),
        // An engine without BuildKit does not say.
        ("", "aarch64-unknown-linux-gnu"),
    ] {
        let output = build(architecture)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let args = fs::read_to_string(shell.path("cargo-args"))?;
        let expected = format!("static --locked --target {target} --package bulla-controller\n");
        assert_eq!(args, expected);
        let copied = fs::read_to_string(shell.path("bulla-controller"))?;
        assert_eq!(copied.trim(), target);
    }
    ensure!(!build("riscv64")?.status.success());
    let aliases = fs::read_to_string(root().join(".cargo/config.toml"))?;
    for target in ["x86_64", "aarch64"] {
        let linked = format!(
            "--config target.{target}-unknown-linux-gnu.rustflags=[\\\"-Ctarget-feature=+crt-static\\\"]"
        );
        ensure!(aliases.contains(&linked), "{linked}");
    }
    Ok(())
}
