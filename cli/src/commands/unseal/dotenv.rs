//! Values as a dotenv file that shells and the usual parsers read the same.
//!
//! There is no specification, so only forms that all of them agree on are written: text without quotes where none are
//! needed, text in single quotes, also over several lines, and text in double quotes if it has a single quote. Escapes
//! are never written. A value that fits none of these is refused.

use anyhow::anyhow;
use zeroize::Zeroizing;

use super::variables::Variables;
use crate::report::failure::{Failure, OrHint};

/// One line, or several, for each variable.
pub(super) fn write(variables: &Variables<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // All at once, so that the buffer does not grow and leave copies behind.
    let capacity = variables.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    for (name, value) in variables {
        let quote = quote_of(value)
            .ok_or_else(|| anyhow!("{name}: dotenv parsers would read this value differently"))
            .or_hint("use --key, --exec or --format json")?;
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend(quote);
        text.extend_from_slice(value);
        text.extend(quote);
        text.push(b'\n');
    }
    Ok(text)
}

/// The quotes around a value, if it needs any; `None` if no form is read the same by all.
fn quote_of(value: &[u8]) -> Option<Option<u8>> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,".contains(byte);
    if !value.is_empty() && value.iter().all(is_plain) {
        return Some(None);
    }
    let text = str::from_utf8(value).ok()?;
    // Some parsers turn \r\n into \n, and not all keep other control characters.
    if text.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t') {
        return None;
    }
    // python-dotenv replaces it inside any quotes.
    if text.contains("${") {
        return None;
    }
    // Some parsers read \\ and \' in single quotes as escapes.
    let is_single = !text.contains('\'') && !text.contains(r"\\") && !text.ends_with('\\');
    let is_double = !text.contains(['"', '\\', '$', '`', '!']);
    if is_single { Some(Some(b'\'')) } else { is_double.then_some(Some(b'"')) }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const VALUES: [&str; 16] = [
        "",
        "plain-1.2/3:4@5%6+7,8",
        "two words",
        " space around ",
        "a=b#c",
        "# no comment",
        "$HOME `id` $(id) \"quoted\" !!",
        r"C:\new\table",
        "it's",
        "it's #1",
        "ends in a quote'",
        "-----BEGIN-----\nabc\n\n  indented\n-----END-----\n",
        "it's\nover lines",
        "tab\tbed",
        "ä € 漢",
        "~/home *",
    ];

    fn written(values: &[&str]) -> (Vec<String>, String) {
        let names: Vec<_> = (0..values.len()).map(|number| format!("V{number:02}")).collect();
        let variables = names.iter().cloned().zip(values.iter().map(|value| value.as_bytes()));
        let text = write(&variables.collect()).unwrap_or_else(|_| panic!("refused"));
        (names, String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn a_parser_reads_what_was_written() {
        let (names, text) = written(&VALUES);
        let read = dotenvy::Iter::new(text.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let expected = names.into_iter().zip(VALUES.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(read, expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_what_was_written() {
        let (names, text) = written(&VALUES);
        let script = format!(
            "set -eu\n{text}\n{}",
            names.iter().map(|name| format!("printf '%s\\0' \"${name}\"\n")).collect::<String>()
        );
        let output =
            Command::new("sh").arg("-c").arg(script).stderr(Stdio::inherit()).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), VALUES);
    }

    #[test]
    fn values_that_parsers_read_differently_are_refused() {
        for value in [
            "it's \"both\"",
            "it's $HOME",
            "${HOME}",
            "it's\\",
            "ends\\",
            r"a\\b c",
            "a\rb",
            "\0",
            "\u{1b}",
        ] {
            assert!(quote_of(value.as_bytes()).is_none(), "{value:?}");
        }
        assert!(quote_of(b"\xff").is_none());
    }
}
