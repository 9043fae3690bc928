//! The repository's rules as ordinary tests: dependencies, places, names and words. A broken rule lists each place and
//! what to do.

mod circles;
mod function_length;
mod phrases;
mod source_crate;
mod type_names;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The folders of the members that each member may depend on, in dependencies of every kind.
const MAY_NAME: [(&str, &[&str]); 5] = [
    ("sealing", &[]),
    ("crds", &["sealing"]),
    ("manifests", &[]),
    ("cli", &["crds", "manifests", "sealing"]),
    ("controller", &["crds", "sealing"]),
];

/// Members that may depend on every other member.
const SEE_ALL: [&str; 2] = ["benches", "tests"];

#[test]
fn dependencies_point_inwards() -> Result<()> {
    let mut findings = Vec::new();
    for member in members()? {
        if SEE_ALL.contains(&member.folder.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(folder, _)| *folder == member.folder)
        else {
            findings.push(format!("{}: add it to MAY_NAME in tests/tidy/main.rs", member.folder));
            continue;
        };
        let named = member.dependencies.iter().filter_map(|dependency| dependency.folder.as_ref());
        findings.extend(
            named
                .filter(|folder| !allowed.contains(&folder.as_str()))
                .map(|folder| format!("{} names {folder}", member.folder)),
        );
    }
    none(
        "the direction is sealing <- crds <- {cli, controller} and manifests <- cli; tests and benches see all",
        findings,
    )
}

#[test]
fn sealing_has_no_async_no_serde_and_no_kubernetes() -> Result<()> {
    // Of each family of crates, the one that all its crates need.
    const ABSENT: [&str; 9] = [
        "chrono",
        "clap",
        "futures-core",
        "jiff",
        "k8s-openapi",
        "kube-core",
        "serde_core",
        "time",
        "tokio",
    ];
    let tree = normal_tree("bulla-sealing")?;
    none(
        "sealing takes bytes and returns bytes; leave this to its callers",
        present(&tree, &ABSENT),
    )
}

#[test]
fn manifests_has_no_client_and_no_kubernetes() -> Result<()> {
    const ABSENT: [&str; 6] = ["clap", "futures-core", "jiff", "k8s-openapi", "kube-core", "tokio"];
    let tree = normal_tree("bulla-manifests")?;
    none("manifests takes bytes and returns bytes; leave this to the CLI", present(&tree, &ABSENT))
}

#[test]
fn sealing_reads_no_file_no_clock_and_no_network() -> Result<()> {
    none("sealing takes bytes and returns bytes; leave this to its callers", outside_of("sealing")?)
}

#[test]
fn manifests_reads_no_file_no_clock_and_no_network() -> Result<()> {
    none("manifests takes bytes and returns bytes; leave this to the CLI", outside_of("manifests")?)
}

/// Where a crate's production code names a part of the standard library that reaches outside of the process.
fn outside_of(folder: &str) -> Result<Vec<String>> {
    const ABSENT: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "thread", "time"];
    let crate_root = read(&format!("{folder}/src/lib.rs"))?;
    let sources = format!("{folder}/src/");
    let mut findings = Vec::new();
    for file in files()?.iter().filter(|file| file.path.starts_with(&sources)) {
        if crate_root.contains(&format!("#[cfg(test)]\nmod {};", file.module())) {
            continue;
        }
        let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let modules = standard_modules(product);
        let named = ABSENT.iter().filter(|module| modules.contains(*module));
        findings.extend(named.map(|module| format!("{}: std::{module}", file.path)));
    }
    Ok(findings)
}

#[test]
fn controller_decides_nothing_by_the_wall_clock() -> Result<()> {
    // These write times for people.
    const FOR_PEOPLE: [&str; 4] =
        ["keys/status.rs", "lease.rs", "rekey/status.rs", "sealed_secret/status.rs"];
    let mut findings = Vec::new();
    for file in files()?.iter().filter(|file| file.path.starts_with("controller/src/")) {
        let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let is_for_people = FOR_PEOPLE.iter().any(|name| file.path.ends_with(name));
        if product.contains("SystemTime") || product.contains("Timestamp::now") && !is_for_people {
            findings.push(file.path.clone());
        }
    }
    none("wall clocks jump; use an Instant for decisions", findings)
}

#[test]
fn only_sealing_calls_cryptography() -> Result<()> {
    // Dependencies of sealing other than cryptography.
    const PLAIN: [&str; 3] = ["base64", "thiserror", "zeroize"];
    let members = members()?;
    let sealing = members.iter().find(|member| member.folder == "sealing").context("no sealing")?;
    let cryptography: BTreeSet<_> = sealing
        .dependencies
        .iter()
        .filter(|dependency| dependency.is_normal && !PLAIN.contains(&dependency.name.as_str()))
        .map(|dependency| &dependency.name)
        .collect();
    let mut findings = Vec::new();
    for member in members.iter().filter(|member| member.folder != "sealing") {
        let normal = member.dependencies.iter().filter(|dependency| dependency.is_normal);
        findings.extend(
            normal
                .filter(|dependency| cryptography.contains(&dependency.name))
                .map(|dependency| format!("{} names {}", member.folder, dependency.name)),
        );
    }
    none("only sealing calls cryptography; add a function there", findings)
}

/// Cryptography for the formats of other tools: the crate, the only member that may depend on it, and where in it.
const FOREIGN: [(&str, &str, &str); 3] = [
    ("age", "cli", "cli/src/"),
    ("aes-gcm", "cli", "cli/src/commands/migrate/bitnami/"),
    ("rsa", "cli", "cli/src/commands/migrate/bitnami/"),
];

#[test]
fn cryptography_of_other_tools_is_used_only_by_its_reader() -> Result<()> {
    let mut findings = Vec::new();
    for member in members()?.iter().filter(|member| !SEE_ALL.contains(&member.folder.as_str())) {
        let normal = member.dependencies.iter().filter(|dependency| dependency.is_normal);
        let is_elsewhere = |name: &str| {
            FOREIGN.iter().any(|(foreign, folder, _)| *foreign == name && *folder != member.folder)
        };
        findings.extend(
            normal
                .filter(|dependency| is_elsewhere(&dependency.name))
                .map(|dependency| format!("{} names {}", member.folder, dependency.name)),
        );
    }
    for file in files()?.iter().filter(|file| file.path.starts_with("cli/src/")) {
        let names = |name: &str| {
            let name = name.replace('-', "_");
            let begins = [format!("use {name}::"), format!(" {name}::"), format!("({name}::")];
            file.text.lines().any(|line| begins.iter().any(|begin| line.contains(begin)))
        };
        let is_elsewhere =
            |(name, _, place): &&(&str, &str, &str)| !file.path.starts_with(place) && names(name);
        findings.extend(
            FOREIGN.iter().filter(is_elsewhere).map(|(name, ..)| format!("{}: {name}", file.path)),
        );
    }
    none("use it only as docs/decisions/0012 and 0015 allow", findings)
}

#[test]
fn crds_has_no_client_and_no_runtime() -> Result<()> {
    const ABSENT: [&str; 8] =
        ["clap", "futures", "hyper", "kube-client", "kube-runtime", "rustls", "tokio", "tower"];
    let mut findings = present(&normal_tree("bulla-crds")?, &ABSENT);
    for member in members()?.iter().filter(|member| member.folder == "crds") {
        let kube = member.dependencies.iter().filter(|dependency| dependency.name == "kube");
        findings.extend(
            kube.filter(|kube| kube.features != ["derive"])
                .map(|kube| format!("features of kube: {}", kube.features.join(", "))),
        );
    }
    none("crds is plain data; of kube's features it uses only derive", findings)
}

#[test]
fn one_module_of_the_cli_talks_to_a_cluster() -> Result<()> {
    const CLUSTER: [&str; 2] = ["cli/src/cluster.rs", "cli/src/cluster/"];
    const OUTSIDE: [&str; 6] =
        ["async fn", "async move", "async {", "kube::Client", "std::net", "tokio::"];
    let files = files()?;
    // kube's client needs a runtime, so code without one stays offline.
    let findings = files.iter().filter(|file| {
        let is_elsewhere = file.path.starts_with("cli/src/")
            && !CLUSTER.iter().any(|module| file.path.starts_with(module));
        is_elsewhere && OUTSIDE.iter().any(|word| file.text.contains(word))
    });
    none("only cluster.rs and its children may use the network", findings.map(SourceFile::place))
}

#[test]
fn one_file_starts_git() -> Result<()> {
    // Git obeys the configuration of the repository that it finds.
    const HELPER: &str = "cli/src/files/git/program.rs";
    let files = files()?;
    let findings = files.iter().filter(|file| {
        let product = file.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        file.path.contains("src/")
            && !SEE_ALL.iter().any(|folder| file.path.starts_with(folder))
            && file.path != HELPER
            && file.path.ends_with(".rs")
            && product.contains("new(\"git\")")
    });
    none("ask git through Repository in cli/src/files/git.rs", findings.map(SourceFile::place))
}

#[test]
fn example_keys_are_only_for_docs_and_tests() -> Result<()> {
    const PRODUCT: [&str; 5] = ["cli/src/", "controller/", "crds/src/", "deploy/", "sealing/src/"];
    let files = files()?;
    let findings = files.iter().filter(|file| {
        PRODUCT.iter().any(|folder| file.path.starts_with(folder))
            && file.text.contains("keys-example")
    });
    none(
        "the example keys are public, so no product code may use them",
        findings.map(SourceFile::place),
    )
}

#[test]
fn versions_are_only_in_the_root() -> Result<()> {
    let mut findings = Vec::new();
    for manifest in member_manifests()? {
        for (section, line) in entries(&manifest.text) {
            if section.ends_with("dependencies") && !line.contains("workspace = true") {
                findings.push(format!("{}: {line}", manifest.path));
            }
        }
    }
    none("a member takes its dependencies from [workspace.dependencies]", findings)
}

#[test]
fn no_dependency_accepts_any_version() -> Result<()> {
    let manifest = read("Cargo.toml")?;
    let wild = entries(&manifest)
        .filter(|(section, line)| *section == "workspace.dependencies" && line.contains("\"*\""));
    none("name a version", wild.map(|(_, line)| line.to_owned()))
}

#[test]
fn every_dependency_has_a_reason_or_is_in_a_named_group() -> Result<()> {
    let manifest = read("Cargo.toml")?;
    let section = manifest
        .split("\n[")
        .find_map(|section| section.strip_prefix("workspace.dependencies]\n"))
        .context("no [workspace.dependencies]")?;
    let mut findings = Vec::new();
    for group in section.split("\n\n") {
        let has_title = group.trim_start().starts_with('#');
        let unexplained = group
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains('=') && !line.contains(" # "));
        findings.extend(unexplained.filter(|_| !has_title).map(ToOwned::to_owned));
    }
    none("give the reason in Cargo.toml, beside the dependency or above its group", findings)
}

#[test]
fn every_member_inherits_the_lints() -> Result<()> {
    let mut findings = Vec::new();
    for manifest in member_manifests()? {
        if !entries(&manifest.text).any(|entry| entry == ("lints", "workspace = true")) {
            findings.push(manifest.path);
        }
    }
    if !entries(&read("Cargo.toml")?)
        .any(|entry| entry == ("workspace.lints.rust", "unsafe_code = \"forbid\""))
    {
        findings.push("Cargo.toml does not forbid unsafe code".into());
    }
    none("each manifest has [lints] workspace = true, and the root forbids unsafe code", findings)
}

#[test]
fn no_module_is_a_mod_rs() -> Result<()> {
    let files = files()?;
    let findings = files.iter().filter(|file| file.name() == "mod.rs");
    none("a module `x` with children is x.rs beside x/", findings.map(SourceFile::place))
}

#[test]
fn no_module_is_named_common_or_utils() -> Result<()> {
    const DRAWERS: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];
    let files = files()?;
    let findings = files
        .iter()
        .filter(|file| file.name().ends_with(".rs"))
        .filter(|file| file.path.split(['/', '.']).any(|word| DRAWERS.contains(&word)));
    none("name a module for what it does", findings.map(SourceFile::place))
}

#[test]
fn every_rust_file_begins_with_its_purpose() -> Result<()> {
    let files = files()?;
    let findings =
        files.iter().filter(|file| file.name().ends_with(".rs") && !file.text.starts_with("//! "));
    none("begin with a module doc that says what the file is for", findings.map(SourceFile::place))
}

#[test]
fn main_files_only_call_their_library() -> Result<()> {
    const BESIDE: [&str; 2] = ["//", "use "];
    let files = files()?;
    let findings = files.iter().filter(|file| file.path.ends_with("/src/main.rs")).filter(|file| {
        let lines = file.text.lines().map(str::trim);
        let code: Vec<_> = lines
            .filter(|line| !line.is_empty() && !BESIDE.iter().any(|start| line.starts_with(start)))
            .collect();
        let [main, call, "}"] = code[..] else { return true };
        !main.starts_with("fn main()") || !call.starts_with("bulla_")
    });
    none("main only calls the crate's library", findings.map(SourceFile::place))
}

#[test]
fn no_file_has_windows_line_endings() -> Result<()> {
    // Test vectors, some of which are about line ends.
    const VECTORS: &str = "sealing/testdata/";
    let files = files()?;
    let findings =
        files.iter().filter(|file| !file.path.starts_with(VECTORS) && file.text.contains("\r\n"));
    none("end lines with \\n", findings.map(SourceFile::place))
}

/// Common words for a thing, and the one word to use. Only words that have no other meaning here.
const WORDS: [(&str, &str); 5] = [
    ("privkey", "identity"),
    ("private_key", "identity"),
    ("pubkey", "recipient"),
    ("re_encrypt", "rekey"),
    ("reencrypt", "rekey"),
];

#[test]
fn one_word_per_thing() -> Result<()> {
    let mut findings = Vec::new();
    for file in files()?.iter().filter(|file| file.name().ends_with(".rs")) {
        if file.path == "tests/tidy/main.rs" {
            continue; // the list itself
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            let line = line.to_lowercase();
            findings.extend(
                WORDS
                    .iter()
                    .filter(|(word, _)| line.contains(word))
                    .map(|(word, ours)| format!("{}:{number}: {word}: {ours}", file.path)),
            );
        }
    }
    none("one word per thing, in types, flags and messages", findings)
}

#[test]
fn every_right_has_its_reason() -> Result<()> {
    let mut findings = Vec::new();
    let files = files()?;
    for file in files.iter().filter(|file| is_manifest_of_rights(file)) {
        let mut has_reason = false;
        for (number, line) in (1..).zip(file.text.lines()) {
            match line.trim_start() {
                "---" => has_reason = false,
                line if line.starts_with('#') => has_reason = true,
                line if line.starts_with("- apiGroups:") || line.starts_with("- nonResource") => {
                    let is_explained = std::mem::take(&mut has_reason);
                    findings.extend((!is_explained).then(|| format!("{}:{number}", file.path)));
                }
                _ => {}
            }
        }
    }
    none("give each rule of a role a comment with its reason", findings)
}

fn is_manifest_of_rights(file: &SourceFile) -> bool {
    file.path.starts_with("deploy/")
        && (file.text.contains("kind: Role\n") || file.text.contains("kind: ClusterRole\n"))
}

#[test]
fn every_folder_is_on_the_map() -> Result<()> {
    let map = read("ARCHITECTURE.md")?;
    let files = files()?;
    let folders: BTreeSet<_> = files
        .iter()
        .filter_map(|file| file.path.split_once('/'))
        .map(|(folder, _)| folder)
        .filter(|folder| !map.contains(&format!("`{folder}/`")))
        .collect();
    none("name it in ARCHITECTURE.md", folders.into_iter().map(ToOwned::to_owned))
}

#[test]
fn every_document_is_linked() -> Result<()> {
    let documents = documents()?;
    let mut found: BTreeSet<String> = ["README.md", "ARCHITECTURE.md"].map(Into::into).into();
    let mut unread: Vec<_> = found.iter().cloned().collect();
    while let Some(path) = unread.pop() {
        let Some(document) = documents.get(&path) else { continue };
        for link in document.links() {
            let target = resolve(&path, link.split('#').next().unwrap_or_default());
            if found.insert(target.clone()) {
                unread.push(target);
            }
        }
    }
    let files = files()?;
    let lost = files.iter().filter(|file| file.path.starts_with("docs/"));
    let lost = lost.filter(|file| !found.contains(&file.path));
    none(
        "link it from README.md, ARCHITECTURE.md or a page that they link",
        lost.map(SourceFile::place),
    )
}

#[test]
fn links_between_documents_resolve() -> Result<()> {
    let documents = documents()?;
    let mut findings = Vec::new();
    for (path, document) in &documents {
        for link in document.links() {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { path.clone() } else { resolve(path, target) };
            let exists = Path::new(ROOT).join(&target).exists();
            let has_anchor = anchor.is_empty()
                || documents.get(&target).is_none_or(|document| document.has_anchor(anchor));
            if !exists || !has_anchor {
                findings.push(format!("{path}: {link}"));
            }
        }
    }
    none("let the link lead to an existing file and heading", findings)
}

#[test]
fn architecture_is_short() -> Result<()> {
    const MAX_LINES: usize = 200;
    let lines = read("ARCHITECTURE.md")?.lines().count();
    ensure!(
        lines < MAX_LINES,
        "ARCHITECTURE.md has {lines} lines; keep it below {MAX_LINES}, so that people read it"
    );
    Ok(())
}

fn none(rule: &str, findings: impl IntoIterator<Item = String>) -> Result<()> {
    let findings: Vec<_> = findings.into_iter().collect();
    ensure!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
    Ok(())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(Path::new(ROOT).join(path)).with_context(|| format!("cannot read {path}"))
}

/// A text file of the repository.
struct SourceFile {
    /// The path from the root, with `/`.
    path: String,
    text: String,
}

impl SourceFile {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn module(&self) -> &str {
        self.name().trim_end_matches(".rs")
    }

    fn place(&self) -> String {
        self.path.clone()
    }
}

/// Every text file, except for those that tools make.
fn files() -> Result<Vec<SourceFile>> {
    const MADE: [&str; 5] = [".git", "artifacts", "corpus", "node_modules", "target"];
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(Path::new(ROOT).join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().context("a name is not Unicode")?;
            let path = format!("{folder}{name}");
            if MADE.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(format!("{path}/"));
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// A member of the workspace.
struct Member {
    folder: String,
    dependencies: Vec<Dependency>,
}

/// A dependency as a member's manifest names it.
struct Dependency {
    name: String,
    /// Whether it is for neither tests nor build scripts.
    is_normal: bool,
    features: Vec<String>,
    /// Its folder, if it is a member of this workspace.
    folder: Option<String>,
}

fn members() -> Result<Vec<Member>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let root = metadata["workspace_root"].as_str().context("no workspace root")?;
    let folder =
        |path: &Value| Some(path.as_str()?.strip_prefix(root)?.trim_start_matches('/').to_owned());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut members = Vec::new();
    for package in list(&metadata["packages"]) {
        let manifest = folder(&package["manifest_path"]).context("a member without a folder")?;
        let dependencies = list(&package["dependencies"]);
        members.push(Member {
            folder: manifest.trim_end_matches("/Cargo.toml").to_owned(),
            dependencies: dependencies
                .iter()
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    is_normal: dependency["kind"].is_null(),
                    features: list(&dependency["features"]).iter().map(text).collect(),
                    folder: folder(&dependency["path"]),
                })
                .collect(),
        });
    }
    Ok(members)
}

/// The root file of every crate that the members build.
fn crate_roots() -> Result<Vec<String>> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version=1"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let root = metadata["workspace_root"].as_str().context("no workspace root")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.flat_map(|package| package["targets"].as_array().into_iter().flatten());
    let paths = targets.filter_map(|target| target["src_path"].as_str()?.strip_prefix(root));
    Ok(paths.map(|path| path.trim_start_matches('/').to_owned()).collect())
}

fn member_manifests() -> Result<Vec<SourceFile>> {
    let paths = members()?.into_iter().map(|member| format!("{}/Cargo.toml", member.folder));
    paths.map(|path| Ok(SourceFile { text: read(&path)?, path })).collect()
}

/// The first line of each entry of a manifest, with its section.
fn entries(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    manifest.lines().filter_map(move |line| {
        if let Some(title) = line.strip_prefix('[') {
            section = title.trim_end_matches(']');
            return None;
        }
        let is_entry = line.starts_with(|first: char| first.is_ascii_alphanumeric());
        is_entry.then_some((section, line))
    })
}

/// The names of all crates that `package` is built with when it is built alone.
fn normal_tree(package: &str) -> Result<BTreeSet<String>> {
    let tree = cargo(&["tree", "--package", package, "--edges=normal", "--prefix=none"])?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned).collect())
}

fn present(tree: &BTreeSet<String>, absent: &[&str]) -> Vec<String> {
    absent.iter().filter(|name| tree.contains(**name)).map(|name| (*name).to_owned()).collect()
}

fn cargo(args: &[&str]) -> Result<String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .args(["--locked", "--offline"])
        .current_dir(ROOT)
        .output()
        .context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {}: {}", args.join(" "), said.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// The modules of the standard library that a source file names.
fn standard_modules(text: &str) -> BTreeSet<&str> {
    let is_end_of_name = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let mut modules = BTreeSet::new();
    for path in text.split("std::").skip(1) {
        let names = match path.strip_prefix('{') {
            Some(group) => group.split(';').next().unwrap_or_default(),
            None => path.split(is_end_of_name).next().unwrap_or_default(),
        };
        let firsts = names.split([',', '{']).map(str::trim);
        modules.extend(firsts.filter_map(|name| name.split(is_end_of_name).next()));
    }
    modules
}

/// A markdown file without its code.
struct Document {
    prose: String,
}

fn documents() -> Result<BTreeMap<String, Document>> {
    let files = files()?;
    let markdown = files.iter().filter(|file| file.name().ends_with(".md"));
    Ok(markdown.map(|file| (file.path.clone(), Document::new(&file.text))).collect())
}

impl Document {
    fn new(text: &str) -> Self {
        let mut is_code = false;
        let mut prose = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        Self { prose }
    }

    /// The targets of links to other files and headings. Targets with a scheme are left out.
    fn links(&self) -> impl Iterator<Item = &str> {
        let inline = self.prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let listed = self.prose.lines().filter(|line| line.starts_with('['));
        let listed = listed.filter_map(|line| line.split_once("]: ").map(|(_, target)| target));
        inline.chain(listed).filter(|target| !target.contains(':'))
    }

    fn has_anchor(&self, anchor: &str) -> bool {
        let headings = self.prose.lines().filter_map(|line| line.strip_prefix('#'));
        headings
            .map(|heading| slug(heading.trim_start_matches('#').trim()))
            .any(|slug| slug == anchor)
    }
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The target of a link in the file `from`, as a path from the root.
fn resolve(from: &str, link: &str) -> String {
    let mut folders: Vec<_> = from.split('/').collect();
    folders.pop();
    for step in link.trim_end_matches('/').split('/') {
        match step {
            "." => {}
            ".." => drop(folders.pop()),
            step => folders.push(step),
        }
    }
    folders.join("/")
}
