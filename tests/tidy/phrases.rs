//! Phrases that a native speaker would not write, and better ones. They hold for everything that people read: help,
//! messages, docs, comments, manifests, transcripts and test names.

use anyhow::Result;

use crate::{SourceFile, files, none};

/// Files that are not ours to word, or that have to spell the phrases.
const EXEMPT: [&str; 4] = ["Cargo.lock", "LICENSE", "sealing/testdata/", "tests/tidy/phrases.rs"];

/// A phrase to avoid.
struct Phrase {
    text: &'static str,
    better: &'static str,
    /// Longer phrases around it that are fine.
    unless: &'static [&'static str],
}

const fn phrase(text: &'static str, better: &'static str) -> Phrase {
    Phrase { text, better, unless: &[] }
}

impl Phrase {
    const fn unless(mut self, unless: &'static [&'static str]) -> Self {
        self.unless = unless;
        self
    }
}

/// Lower case; one space stands for any white space, and an underscore in Rust counts as a space.
const PHRASES: &[Phrase] = &[
    phrase("agree with --", "pass --…"),
    phrase("all the same", "still, anyway"),
    phrase("anew", "again"),
    phrase("are judged", "are checked"),
    phrase("are looked at", "are read, are checked"),
    phrase("are no", "are not").unless(&[
        "there are no",
        "are no longer",
        "are no more than",
        "are no less",
    ]),
    phrase("are not there", "are missing, do not exist"),
    phrase("are there already", "already exist"),
    phrase("are told", "say who tells them, or: are reported")
        .unless(&["are told to", "are told apart"]),
    phrase("are wanted", "are required, are expected"),
    phrase("as it stands", "unchanged, as written"),
    phrase("as they stand", "unchanged, as written"),
    phrase("at hand", "available"),
    phrase("be had", "could not fetch …, is unavailable"),
    phrase("be told", "be reported, be distinguished").unless(&["be told to", "be told apart"]),
    phrase("in the clear", "plaintext"),
    phrase("insist with", "pass --…"),
    phrase("is judged", "is checked"),
    phrase("is looked at", "is read, is checked"),
    phrase("is no", "is not").unless(&[
        "there is no",
        "is no longer",
        "is no more than",
        "is no less",
    ]),
    phrase("is not said", "name what is missing: no recipients, no environment"),
    phrase("is not there", "is missing, does not exist"),
    phrase("is said", "is printed, is reported"),
    phrase("is there already", "already exists"),
    phrase("is told", "say who tells it, or: is reported").unless(&["is told to", "is told apart"]),
    phrase("is wanted", "is required, is expected"),
    phrase("lies in", "is in"),
    phrase("looked through", "scanned, searched"),
    phrase("meanwhile", "in the meantime, or nothing"),
    phrase("needs a person", "is stalled"),
    phrase("nothing but", "only"),
    phrase("of ours", "name the thing: Bulla's …"),
    phrase("of theirs", "name the thing: Bitnami's …"),
    phrase("see to", "manage, make sure"),
    phrase("sees to", "manages, makes sure"),
    phrase("stand in", "be in").unless(&["stand in for", "stand-in"]),
    phrase("stands at", "is at"),
    phrase("stands behind", "follows"),
    phrase("stands here", "is here"),
    phrase("stands in", "is in").unless(&["stands in for"]),
    phrase("stands on", "is on"),
    phrase("stands there", "is there"),
    phrase("stay as they", "stay unchanged"),
    phrase("stays as it", "stays unchanged"),
    phrase("tells of", "reports"),
    phrase("that are there", "existing"),
    phrase("that is there", "existing"),
    phrase("told of", "reported"),
    phrase("what is not", "say what it is, or name the thing"),
    phrase("what is there", "the existing …"),
    phrase("whoever", "anyone who, or: if you …"),
    phrase("wholly", "entirely"),
    phrase("whom", "say it with who, or name the thing"),
    phrase("whomever", "anyone"),
];

#[test]
fn no_phrase_needs_a_second_reading() -> Result<()> {
    none("say it in plain words", files()?.iter().flat_map(findings))
}

/// Each place in the file that has one of the phrases.
fn findings(file: &SourceFile) -> Vec<String> {
    if EXEMPT.iter().any(|exempt| file.path.starts_with(exempt)) {
        return Vec::new();
    }
    let prose = Prose::new(file);
    let mut found = Vec::new();
    for phrase in PHRASES {
        found.extend(prose.places(phrase).into_iter().map(|place| (prose.line(place), phrase)));
    }
    found.sort_by_key(|(line, _)| *line);
    let shown = |(line, phrase): (usize, &Phrase)| {
        format!("{}:{line}: {:?}: {}", file.path, phrase.text, phrase.better)
    };
    found.into_iter().map(shown).collect()
}

/// A text in lower case and on one line, so that a phrase may go over the end of a line.
struct Prose {
    text: String,
    /// Where in the text each line begins.
    lines: Vec<usize>,
}

impl Prose {
    fn new(file: &SourceFile) -> Self {
        let is_rust = file.path.ends_with(".rs");
        let (mut text, mut lines) = (String::new(), Vec::new());
        for line in file.text.lines() {
            lines.push(text.len());
            let line = if is_rust { line.replace('_', " ") } else { line.to_owned() };
            let line = line.trim_start().trim_start_matches(['/', '!', '#', '>', '*']);
            for word in line.trim_end_matches('\\').split_whitespace() {
                text.push_str(&word.to_lowercase());
                text.push(' ');
            }
        }
        Self { text, lines }
    }

    /// Where the phrase begins, as whole words and not within a longer phrase that is fine.
    fn places(&self, phrase: &Phrase) -> Vec<usize> {
        let is_fine = |place: usize| {
            phrase.unless.iter().any(|longer| {
                let offset = longer.find(phrase.text).unwrap_or_default();
                let start = place.checked_sub(offset).and_then(|start| self.text.get(start..));
                start.is_some_and(|rest| rest.starts_with(longer))
            })
        };
        let is_word = |place: usize| {
            let end = place + phrase.text.len();
            let is_joined = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
            let ends_in_letter = phrase.text.ends_with(char::is_alphanumeric);
            let before = self.text[..place].chars().next_back();
            let after = self.text[end..].chars().next().filter(|_| ends_in_letter);
            !is_joined(before) && !is_joined(after)
        };
        let places = self.text.match_indices(phrase.text).map(|(place, _)| place);
        places.filter(|place| is_word(*place) && !is_fine(*place)).collect()
    }

    /// The number of the line that a place is in.
    fn line(&self, place: usize) -> usize {
        self.lines.partition_point(|start| *start <= place)
    }
}

#[test]
fn phrases_are_found_over_line_ends_in_comments_and_names() {
    let found = |path: &str, text: &str| {
        findings(&SourceFile { path: path.to_owned(), text: text.to_owned() }).len()
    };
    assert_eq!(found("a.rs", "/// A value in\n/// the clear.\nfn a() {}"), 1);
    assert_eq!(found("a.rs", "let text = \"a value in the \\\n    clear\";"), 1);
    assert_eq!(found("a.rs", "fn a_file_that_is_there_stays() {}"), 1);
    assert_eq!(found("a.md", "Whoever reads `it`, Whomever"), 2);
    assert_eq!(found("a.md", "agree with --force"), 1);
    assert_eq!(found("a.md", "There is no file. It is no longer needed."), 0);
    assert_eq!(found("a.md", "This is no file."), 1);
    assert_eq!(found("a.md", "a stand-in; they stand in for it"), 0);
    assert_eq!(found("a.md", "renewed, wholeheartedly"), 0);
    let line = &findings(&SourceFile { path: "a.md".into(), text: "one\ntwo\nof ours".into() })[0];
    assert_eq!(line, "a.md:3: \"of ours\": name the thing: Bulla's …");
}
