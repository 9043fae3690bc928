//! A change by somebody who wants plaintext to pass: many spellings of each trick, and none passes.

use std::collections::BTreeSet;
use std::fs;

use crate::git_repository::GitRepository;

const VARIANTS: usize = 200;

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A word in double quotes with at least one escape.
    fn escaped(&mut self, word: &str, is_json: bool) -> String {
        let at = self.below(word.len());
        let mut text = String::from("\"");
        for (index, letter) in word.chars().enumerate() {
            let code = u32::from(letter);
            let form = if index == at { 1 + self.below(3) } else { self.below(4) };
            text.push_str(&match (form, is_json) {
                (0, _) => letter.to_string(),
                (_, true) | (1, false) => format!("\\u{code:04x}"),
                (2, false) => format!("\\x{code:02X}"),
                (_, false) if index > 0 => format!("\\\n    {letter}"),
                (_, false) => format!("\\U{code:08x}"),
            });
        }
        text + "\""
    }

    /// The fields of a Secret besides its kind and version.
    fn rest(&mut self) -> String {
        let field = self.pick(&["stringData:\n  p: hunter2\n", "data: {p: aHVudGVyMg==}\n"]);
        let head = self.pick(&["metadata: {name: a}\n", "metadata:\n  name: a\n  namespace: d\n"]);
        if self.below(2) == 0 { format!("{head}{field}") } else { format!("{field}{head}") }
    }

    fn secret(&mut self) -> String {
        format!("apiVersion: v1\nkind: Secret\n{}", self.rest())
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// A name, and what makes a variant.
type Trick = (&'static str, fn(&mut Dice) -> Files);

fn one(name: &str, content: impl Into<Vec<u8>>) -> Files {
    vec![(name.to_owned(), content.into())]
}

fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}

fn escapes(dice: &mut Dice) -> Files {
    let (kind, rest) = (dice.escaped("Secret", false), dice.rest());
    let key = if dice.below(2) == 0 { "kind".to_owned() } else { "\"\\x6bind\"".to_owned() };
    let file = dice.pick(&["a.yaml", "a.yml", "b.json", "c.yaml.orig"]);
    one(file, format!("apiVersion: v1\n{key}: {kind}\n{rest}"))
}

fn json_escapes(dice: &mut Dice) -> Files {
    let (kind, key) = (dice.escaped("Secret", true), dice.escaped("kind", true));
    let text = format!(
        r#"{{"apiVersion":"v1",{key}:{kind},"metadata":{{"name":"a"}},"stringData":{{"p":"hunter2"}}}}"#
    );
    one(dice.pick(&["a.json", "a.yaml"]), text)
}

fn merge_keys(dice: &mut Dice) -> Files {
    let source = dice.pick(&[
        "kind: Secret, apiVersion: v1",
        "kind: Secret",
        "kind: Secret, stringData: {p: hunter2}",
    ]);
    let merge =
        dice.pick(&["<<: *k", "<<: [*k]", "<<: [{a: 1}, *k]", "<<: [*k, {kind: ConfigMap}]"]);
    let rest = dice.rest();
    let text = format!("apiVersion: v1\nx: &k {{{source}}}\n{merge}\n{rest}");
    let text = if dice.below(2) == 0 { text.replace("x: ", "metadata2: ") } else { text };
    one("a.yaml", text)
}

fn lists(dice: &mut Dice) -> Files {
    let mut text = dice.secret();
    for _ in 0..=dice.below(4) {
        let kind = dice.pick(&["List", "FooList", "ConfigMapList", "Bundle", "XList"]);
        let version = dice.pick(&["v1", "example.com/v1", "apps/v1"]);
        let item = indented(&text, "  ").replacen("  ", "- ", 1);
        text = format!("apiVersion: {version}\nkind: {kind}\nitems:\n{item}");
    }
    one("a.yaml", text)
}

fn items_without_kind(dice: &mut Dice) -> Files {
    let item = indented(&dice.rest(), "  ").replacen("  ", "- ", 1);
    one("a.yaml", format!("apiVersion: v1\nkind: SecretList\nitems:\n{item}"))
}

fn tags(dice: &mut Dice) -> Files {
    let tag = dice.pick(&["!!binary", "!<tag:yaml.org,2002:binary>"]);
    let quote = dice.pick(&["", "\"", "'"]);
    one("a.yaml", format!("apiVersion: v1\nkind: {tag} {quote}U2VjcmV0{quote}\n{}", dice.rest()))
}

fn spellings(dice: &mut Dice) -> Files {
    let text = dice.secret();
    let text = match dice.below(5) {
        0 => text.replace("v1", "/v1"),
        1 => text.replace("kind: Secret", "kind: >-\n  Secret"),
        2 => text.replace("kind: Secret", "? kind\n: Secret"),
        3 => format!("\u{feff}--- # c\n{text}"),
        _ => text.replace("kind: Secret", "kind: !!str Secret"),
    };
    one("a.yaml", text)
}

fn utf16(dice: &mut Dice) -> Files {
    let text = if dice.below(2) == 0 {
        dice.secret()
    } else {
        String::from_utf8(escapes(dice).remove(0).1).unwrap()
    };
    let to_bytes = if dice.below(2) == 0 { u16::to_le_bytes } else { u16::to_be_bytes };
    one("a.yaml", format!("\u{feff}{text}").encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>())
}

/// The name of a kustomization, and its first lines, of which it needs none.
fn kustomization(dice: &mut Dice, rest: &str) -> Files {
    let head = dice.pick(&[
        "",
        "kind: Kustomization\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n",
    ]);
    let name = dice.pick(&["kustomization.yaml", "kustomization.yml", "Kustomization"]);
    one(name, format!("{head}{rest}"))
}

fn generators(dice: &mut Dice) -> Files {
    let (values, file) = match dice.below(5) {
        0 => ("literals: [p=hunter2]", None),
        1 => ("envs: [p.env]", Some("p.env")),
        2 => ("env: p.env", Some("p.env")),
        3 => ("files: [p.txt]", Some("p.txt")),
        _ => ("files: ['q=p.txt']", Some("p.txt")),
    };
    let text = format!("secretGenerator:\n- name: db\n  {values}\n");
    let text = if dice.below(3) == 0 {
        text.replace("secretGenerator", "\"secret\\x47enerator\"")
    } else {
        text
    };
    let mut files = kustomization(dice, &text);
    files.extend(file.map(|file| (file.to_owned(), b"p=hunter2\n".to_vec())));
    files
}

fn inline_generators(dice: &mut Dice) -> Files {
    let field = dice.pick(&["generators", "transformers"]);
    let inner =
        "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: a}\nliterals: [p=hunter2]\n";
    if dice.below(2) == 0 {
        return kustomization(dice, &format!("{field}:\n- |-\n{}", indented(inner, "  ")));
    }
    let name = dice.pick(&["gen.yaml", "gen.txt", "gen"]);
    let mut files = kustomization(dice, &format!("{field}: [{name}]\n"));
    files.extend(one(name, inner));
    files
}

fn patches(dice: &mut Dice) -> Files {
    let target = dice.pick(&[
        "{kind: Secret}",
        "{kind: Sec.*}",
        "{name: a}",
        "{version: v1, kind: Secret, name: a}",
    ]);
    let patch = match dice.below(5) {
        0 => dice.secret(),
        1 => dice.secret().replace("apiVersion: v1\n", ""),
        2 => dice.secret().replace("kind: Secret", "kind: Whatever"),
        3 => {
            let op = dice.pick(&["add", "replace"]);
            let path = dice.pick(&["/stringData", "/data/p", "/stringData/p"]);
            format!("- op: {op}\n  path: {path}\n  value: hunter2\n")
        }
        _ => {
            r#"[{"op": "add", "path": "/data", "value": {"p": "aHVudGVyMg=="}}]"#.to_owned() + "\n"
        }
    };
    let field = dice.pick(&["patches", "patchesJson6902"]);
    if dice.below(2) == 0 {
        let patch = indented(&patch, "    ");
        return kustomization(dice, &format!("{field}:\n- target: {target}\n  patch: |-\n{patch}"));
    }
    let name = dice.pick(&["p.yaml", "p.txt", "p", "p.json"]);
    let mut files = kustomization(dice, &format!("{field}:\n- target: {target}\n  path: {name}\n"));
    files.extend(one(name, patch));
    files
}

fn strategic_patches(dice: &mut Dice) -> Files {
    let secret = dice.secret();
    kustomization(dice, &format!("patchesStrategicMerge:\n- |-\n{}", indented(&secret, "  ")))
}

fn other_names(dice: &mut Dice) -> Files {
    let field = dice.pick(&["resources", "components", "bases", "patchesStrategicMerge", "crds"]);
    let name = dice.pick(&["s.txt", "s", "s.conf", "README"]);
    let mut files = kustomization(dice, &format!("{field}: [{name}]\n"));
    let text =
        if dice.below(2) == 0 { dice.secret() } else { format!("{}a: b: c\n", dice.secret()) };
    files.extend(one(name, text));
    files
}

fn links(dice: &mut Dice) -> Files {
    let target = dice.pick(&["s.txt", "s", "s.conf"]);
    let text =
        if dice.below(2) == 0 { dice.secret() } else { format!("{}a: b: c\n", dice.secret()) };
    let mut files = one(target, text);
    files.push((
        format!("LINK {}", dice.pick(&["s.yaml", "s.json", "Kustomization.yml"])),
        target.into(),
    ));
    files
}

fn charts(dice: &mut Dice) -> Files {
    let condition =
        dice.pick(&["{{- if .Values.on }}\n", "{{ include \"x\" . }}\n", "{{/* c */}}\n"]);
    let end = if condition.contains("if") { "{{- end }}\n" } else { "" };
    let name =
        dice.pick(&["templates/a.yaml", "templates/a.tpl", "templates/a.txt", "templates/sub/a"]);
    one(name, format!("{condition}{}{end}", dice.secret()))
}

fn false_backups(dice: &mut Dice) -> Files {
    let value = dice.pick(&[
        "YWdlLWVuY3J5cHRpb24ub3JnL3YxCmh1bnRlcjI=",
        "LS0tLS1CRUdJTiBBR0UgRU5DUllQVEVEIEZJTEUtLS0tLQpodW50ZXIyCg==",
        "aHVudGVyMg==",
    ]);
    let more = dice.pick(&["", "stringData: {p: hunter2}\n"]);
    one(
        "a.yaml",
        format!(
            "apiVersion: v1\nkind: Secret\ntype: bulla.dev/identity-backup\nmetadata: {{name: a}}\ndata: {{p: {value}}}\n{more}"
        ),
    )
}

fn broken(dice: &mut Dice) -> Files {
    let wrong = dice.pick(&["a: b: c\n", "kind: Secret\n", "\t- x\n", "a: \"\\q\"\n"]);
    let kind = dice.escaped("Secret", false);
    one("a.yaml", format!("apiVersion: v1\nkind: {kind}\n{}---\n{wrong}x: *nowhere\n", dice.rest()))
}

#[cfg(unix)]
fn write(repository: &GitRepository, folder: &str, files: &Files) {
    for (name, content) in files {
        let (name, is_link) =
            name.strip_prefix("LINK ").map_or((&name[..], false), |name| (name, true));
        let path = repository.0.path(&format!("{folder}/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if is_link {
            std::os::unix::fs::symlink(str::from_utf8(content).unwrap(), path).unwrap();
        } else {
            fs::write(path, content).unwrap();
        }
    }
}

/// The folders of a repository in which a file is an error, or could not be read.
fn caught(repository: &GitRepository, args: &[&str]) -> BTreeSet<String> {
    let run = repository.0.run(&[&["lint", "--format", "concise", "."], args].concat());
    assert_ne!(run.code, 0, "{}", run.stderr);
    let lines = run.stdout.lines().filter(|line| line.contains(": error: "));
    lines.filter_map(|line| Some(line.split_once('/')?.0.to_owned())).collect()
}

#[cfg(unix)]
#[test]
fn no_spelling_of_a_secret_passes() {
    let tricks: [Trick; 17] = [
        ("escapes", escapes),
        ("json escapes", json_escapes),
        ("merge keys", merge_keys),
        ("lists", lists),
        ("items without a kind", items_without_kind),
        ("tags", tags),
        ("spellings", spellings),
        ("utf-16", utf16),
        ("generators", generators),
        ("inline generators", inline_generators),
        ("patches", patches),
        ("strategic patches", strategic_patches),
        ("other names", other_names),
        ("links", links),
        ("charts", charts),
        ("false backups", false_backups),
        ("broken", broken),
    ];
    let mut passed = String::new();
    for (trick, make) in tricks {
        let repository = GitRepository::new();
        repository.0.write(".git/info/exclude", "");
        for name in ["hybrid.txt", "hybrid.pub", "x25519.txt", "x25519.pub"] {
            fs::remove_file(repository.0.path(name)).unwrap();
        }
        repository.commit("base");
        let mut dice = Dice(u64::try_from(trick.len()).unwrap());
        for variant in 0..VARIANTS {
            write(&repository, &format!("v{variant}"), &make(&mut dice));
        }
        repository.git(&["add", "--all"]);
        let caught = caught(&repository, &["--base", "HEAD"]);
        for variant in 0..VARIANTS {
            let folder = format!("v{variant}");
            if !caught.contains(&folder) {
                let mut shown = String::new();
                for entry in fs::read_dir(repository.0.path(&folder)).unwrap() {
                    let path = entry.unwrap().path();
                    let text =
                        fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                    shown.push_str(&format!("{}:\n{}\n", path.display(), text.unwrap_or_default()));
                }
                passed.push_str(&format!("{trick} passes:\n{shown}\n"));
                break;
            }
        }
    }
    assert!(passed.is_empty(), "{passed}");
}

#[cfg(unix)]
#[test]
fn what_git_tracks_is_found_whatever_its_name_and_the_ignore_rules_are() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let repository = GitRepository::new();
    for pattern in ["*.yaml", "!*.yaml\n*", "**/", "/v*", "[!a]*", "\\*", "a.yaml\n", "*/a*"] {
        for name in
            [&b"a.yaml"[..], b"\xff\xfe.yaml", b"-a.yaml", b"a\n.yaml", b"*.yaml", b" .yaml"]
        {
            let folder = repository.0.path("v");
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join(OsStr::from_bytes(name));
            fs::write(&file, Dice(1).secret()).unwrap();
            repository.git(&["add", "--force", "v"]);
            repository.0.write(".gitignore", pattern);
            let run = repository.0.run(&["lint", "--format", "concise", "."]);
            assert_eq!(run.code, 1, "{pattern:?} {name:?}: {}", run.stderr);
            repository.git(&["rm", "-rq", "--cached", "v"]);
            fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[test]
fn a_file_above_the_limit_is_an_error() {
    let repository = GitRepository::new();
    let mut large = Dice(1).secret().into_bytes();
    large.extend(b"# c\n".repeat(17 * 1024 * 256));
    repository.0.write("large.yaml", large);
    let run = repository.0.run(&["lint", "--format", "concise", "."]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("large.yaml:1: error: larger than 16 MiB"), "{}", run.stdout);
}

fn pins(repository: &GitRepository, environment: &str, recipient: &str) -> String {
    let recipient = repository.0.read(recipient);
    let recipient = recipient.lines().last().unwrap();
    format!(
        "  {environment}:\n    paths: ['{environment}/**']\n    recipients:\n      - {{recipient: {recipient}, holder: eu, state: Active, fetched: '2026-01-01'}}\n"
    )
}

#[test]
fn an_allowance_that_the_change_adds_silences_nothing_that_matters() {
    let repository = GitRepository::new();
    let config = format!("environments:\n{}", pins(&repository, "prod", "x25519.pub"));
    let comment = "# bulla-lint: allow plaintext-secret: a test\n";
    fs::create_dir(repository.0.path("prod")).unwrap();
    repository.0.write("bulla.yaml", &config);
    repository.0.write("old.yaml", format!("{comment}{}", Dice(1).secret()));
    repository.commit("base");
    let run =
        |args: &[&str]| repository.0.run(&[&["lint", "--format", "concise", "."], args].concat());
    assert_eq!(run(&["--base", "HEAD"]).code, 0);
    // A reason that was there stays one when its file changes otherwise.
    repository.0.write("old.yaml", format!("{comment}{}# more\n", Dice(1).secret()));
    assert_eq!(run(&["--base", "HEAD"]).code, 0);
    // Another Secret in the same file is another one to allow.
    let second = format!("---\n{comment}{}", Dice(1).secret().replace("name: a", "name: b"));
    repository.0.write("old.yaml", format!("{comment}{}{second}", Dice(1).secret()));
    assert_eq!((run(&[]).code, run(&["--base", "HEAD"]).code), (0, 1));
    repository.git(&["checkout", "--quiet", "old.yaml"]);

    let annotated = Dice(1).secret().replace(
        "metadata:",
        "metadata: {name: a, annotations: {bulla.dev/lint-allow: 'plaintext-secret: x'}}\nx:",
    );
    for (name, text) in [
        ("new.yaml", format!("{comment}{}", Dice(1).secret())),
        ("old.yaml", format!("# bulla-lint: allow plaintext-secret: other\n{}", Dice(1).secret())),
        ("annotated.yaml", annotated),
    ] {
        repository.0.write(name, text);
        assert_eq!(run(&[]).code, 0, "{name}");
        let judged = run(&["--base", "HEAD"]);
        assert_eq!(judged.code, 1, "{name}: {}", judged.stdout);
        assert!(judged.stdout.contains("[allowance-added]"), "{}", judged.stdout);
        repository.git(&["checkout", "--quiet", "."]);
        drop(fs::remove_file(repository.0.path(name)));
        repository.git(&["checkout", "--quiet", "."]);
    }
    let allow = "lint:\n  allow:\n    - {rule: plaintext-secret, paths: ['**'], reason: x}\n";
    repository.0.write("bulla.yaml", format!("{allow}{config}"));
    repository.0.write("new.yaml", Dice(1).secret());
    assert_eq!((run(&[]).code, run(&["--base", "HEAD"]).code), (0, 1));
}

#[test]
fn a_new_environment_makes_no_new_key_trustworthy() {
    let repository = GitRepository::new();
    let config = format!("environments:\n{}", pins(&repository, "prod", "x25519.pub"));
    repository.0.write("bulla.yaml", &config);
    repository.commit("base");
    fs::create_dir(repository.0.path("evil")).unwrap();
    let run = || repository.0.run(&["lint", "--format", "concise", "--base", "HEAD", "."]);
    for (recipient, code) in [("hybrid.pub", 1), ("x25519.pub", 0)] {
        repository
            .0
            .write("bulla.yaml", format!("{config}{}", pins(&repository, "evil", recipient)));
        let sealed = repository.sealed("db", "a: one", recipient);
        repository.0.write("evil/db.yaml", sealed);
        let run = run();
        assert_eq!(run.code, code, "{recipient}: {}{}", run.stdout, run.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_configuration_that_is_a_link_is_refused() {
    let repository = GitRepository::new();
    let config = format!("environments:\n{}", pins(&repository, "prod", "x25519.pub"));
    repository.0.write("other.txt", &config);
    std::os::unix::fs::symlink("other.txt", repository.0.path("bulla.yaml")).unwrap();
    for args in [
        &["lint", "."][..],
        &["rekey", "--dry-run", "-i", "x25519.txt"],
        &["lint", "--base", "HEAD", "."],
    ] {
        let run = repository.0.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stdout);
        assert!(run.stderr.contains("bulla.yaml is a link"), "{}", run.stderr);
    }
}

#[test]
fn a_changed_template_that_cannot_be_judged_is_an_error_for_a_gate() {
    let repository = GitRepository::new();
    fs::create_dir_all(repository.0.path("templates")).unwrap();
    let template = "{{- if .x }}\napiVersion: v1\nkind: Secret\nstringData:\n  p: {{ .Values.p }}\n{{- end }}\n";
    repository.0.write("templates/a.yaml", template);
    repository.0.write("templates/b.yaml", template.replace("Secret", "{{ .Values.kind }}"));
    repository.commit("base");
    let run =
        |args: &[&str]| repository.0.run(&[&["lint", "--format", "concise", "."], args].concat());
    assert_eq!((run(&[]).code, run(&["--base", "HEAD"]).code), (0, 0));
    for name in ["templates/a.yaml", "templates/b.yaml"] {
        let text = repository.0.read(name).replace(".Values.p", "\"hunter2\"");
        repository.0.write(name, text);
        let judged = run(&["--base", "HEAD"]);
        assert_eq!((run(&[]).code, judged.code), (0, 1), "{}", judged.stdout);
        repository.git(&["checkout", "--quiet", "."]);
    }
}

#[test]
fn a_file_with_very_many_findings_is_cut_off_and_says_so() {
    let repository = GitRepository::new();
    let identity = format!("AGE-SECRET-KEY-1{} ", "Q".repeat(58));
    repository.0.write("keys.txt2", identity.repeat(10_000));
    let values: String = (0..100_000).map(|number| format!("    k{number}: x\n")).collect();
    repository.0.write(
        "many.yaml",
        format!("apiVersion: bulla.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: a}}\nspec:\n  sealedData:\n{values}"),
    );
    repository.0.write("line.yaml", "kind: !binarySecret{{".repeat(400_000));
    let started = std::time::Instant::now();
    let run = repository.0.run(&["lint", "--format", "concise", "."]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    for file in ["keys.txt2", "many.yaml"] {
        let cut = format!(
            "{file}:1: error: more than 1000 findings, so the rest of the file was not checked"
        );
        assert!(run.stdout.contains(&cut), "{}", &run.stdout[..2000]);
    }
    assert!(run.stdout.lines().count() < 3000);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
