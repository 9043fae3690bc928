//! What the documentation names exists: every command and flag of `bulla`, and every reason of a condition.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Made from the definitions of the command line.
const REFERENCE: &str = include_str!("../docs/reference.md");

const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");

const CONDITIONS: &str = include_str!("../crds/src/conditions.rs");

/// Flags of every command.
const GLOBAL: [&str; 6] = ["--color", "--help", "--quiet", "--version", "-h", "-q"];

#[test]
fn every_reason_has_a_row_in_troubleshooting() -> Result<()> {
    let words = CONDITIONS.lines().filter_map(|line| {
        let (_, word) = line.trim().strip_prefix("Self::")?.split_once(" => \"")?;
        word.strip_suffix("\",")
    });
    let reasons: BTreeSet<_> = words.collect();
    ensure!(reasons.len() >= 28, "crds/src/conditions.rs has only {reasons:?}");
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !TROUBLESHOOTING.contains(&format!("`{reason}`"))).collect();
    ensure!(missing.is_empty(), "docs/troubleshooting.md does not explain {missing:?}");
    Ok(())
}

#[test]
fn every_command_and_flag_in_the_docs_exists() -> Result<()> {
    let reference = reference();
    ensure!(reference.len() > 20, "docs/reference.md has lost its commands");
    let mut findings = Vec::new();
    let mut count = 0;
    for path in pages()? {
        let text = fs::read_to_string(&path)?;
        let name = path.strip_prefix(ROOT)?.display();
        for words in code(&text).iter().flat_map(|code| command_lines(code)) {
            count += 1;
            let found = unknown(&words, &reference);
            findings.extend(found.map(|unknown| format!("{name}: {unknown}: {}", words.join(" "))));
        }
    }
    ensure!(count > 200, "only {count} commands were found");
    ensure!(findings.is_empty(), "docs/reference.md does not have:\n  {}", findings.join("\n  "));
    Ok(())
}

/// Bitnami's kind has the same short name. Where both are installed, `kubectl` would take either.
#[test]
fn commands_name_the_kind_in_full() -> Result<()> {
    let alerts = Path::new(ROOT).join("deploy/monitoring/alerts.yaml");
    let mut findings = Vec::new();
    let mut count = 0;
    for path in pages()?.into_iter().chain([alerts]) {
        let text = fs::read_to_string(&path)?;
        for line in text.lines() {
            let Some((_, command)) = line.split_once("kubectl ") else { continue };
            let words = command.split([' ', '/', ',', '`']);
            count += words.clone().filter(|word| *word == "sealedsecrets.bulla.dev").count();
            let short = words.clone().any(|word| ["sealedsecret", "sealedsecrets"].contains(&word));
            let finding = || anyhow::Ok(format!("{}: {line}", path.strip_prefix(ROOT)?.display()));
            findings.extend(short.then(finding).transpose()?);
        }
    }
    ensure!(count > 10, "only {count} commands were found");
    ensure!(findings.is_empty(), "write sealedsecrets.bulla.dev:\n  {}", findings.join("\n  "));
    Ok(())
}

/// The flags of each command, by its words: `keys fetch`.
fn reference() -> BTreeMap<String, BTreeSet<&'static str>> {
    let sections = REFERENCE.split("\n## `bulla").skip(1);
    let sections = sections.filter_map(|section| section.split_once('`'));
    sections
        .map(|(command, text)| {
            let options = text.lines().filter(|line| line.starts_with("* `-"));
            let flags =
                options.flat_map(|line| line.split('`').filter(|part| part.starts_with('-')));
            let flags = flags.filter_map(|flag| flag.split(' ').next());
            (command.trim().to_owned(), flags.collect())
        })
        .collect()
}

/// What is wrong with the words behind `bulla`.
fn unknown(words: &[&str], reference: &BTreeMap<String, BTreeSet<&'static str>>) -> Option<String> {
    let verbs: Vec<_> = words.iter().take_while(|word| !word.starts_with('-')).take(2).collect();
    let command = match verbs[..] {
        [] => return None,
        [keys, verb] if *keys == "keys" => format!("keys {verb}"),
        [verb, ..] => (*verb).to_owned(),
    };
    let Some(flags) = reference.get(&command) else { return Some(format!("command {command}")) };
    let given = words.iter().take_while(|word| **word != "--").filter(|word| word.starts_with('-'));
    let given = given.filter_map(|word| word.split('=').next()).filter(|word| *word != "-");
    let unknown = given.filter(|flag| !flags.contains(flag) && !GLOBAL.contains(flag));
    unknown.map(|flag| format!("flag {flag}")).next()
}

/// Blocks of commands, and spans of code in prose, whose lines may be wrapped.
fn code(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut prose = String::new();
    let mut language = None;
    for line in text.lines().map(str::trim) {
        match (line.strip_prefix("```"), language) {
            (Some(start), None) => language = Some(start),
            (Some(_), Some(_)) => language = None,
            (None, Some("console" | "sh")) => code.push(line.to_owned()),
            (None, Some(_)) => {}
            (None, None) => prose.extend([line, " "]),
        }
    }
    code.extend(prose.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
    code
}

/// The words behind each `bulla`, up to where its command ends.
fn command_lines(code: &str) -> Vec<Vec<&str>> {
    const ENDS: [&str; 7] = ["&&", ">", ">>", "|", "||", "…", "2>"];
    let words: Vec<_> = code.split_whitespace().collect();
    let starts = words.iter().enumerate().filter(|(_, word)| **word == "bulla");
    // `kubectl bulla`, and the name of a crate, an image or a folder.
    let is_named = |at: usize| at > 0 && ["-p", "command", "--bin"].contains(&words[at - 1]);
    starts
        .filter(|(at, _)| !is_named(*at))
        .map(|(at, _)| {
            let rest = words[at + 1..].iter().copied();
            let mut line: Vec<&str> = Vec::new();
            for word in rest.take_while(|word| !ENDS.contains(word)) {
                let ends = word.ends_with([';', ')', '\'', '"', '.']);
                line.push(word.trim_end_matches([';', ')', '\'', '"', '.', ',']));
                if ends && !word.starts_with(['"', '\'', '$']) {
                    break;
                }
            }
            line
        })
        .filter(|line| line.first().is_some_and(|verb| is_verb(verb)))
        .collect()
}

fn is_verb(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-')
}

/// Pages for users: the generated one is what they are compared with.
fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/runbooks"] {
        for entry in fs::read_dir(Path::new(ROOT).join(folder))? {
            let path = entry?.path();
            let is_page = path.extension().is_some_and(|extension| extension == "md");
            if is_page && !path.ends_with("reference.md") {
                pages.push(path);
            }
        }
    }
    ensure!(pages.len() > 20, "the pages are elsewhere");
    pages.sort();
    Ok(pages)
}
