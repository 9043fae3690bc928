//! Files of `KEY=VALUE` lines, read strictly: dialects differ in quotes, comments and variables, and a value that they
//! would read differently is refused. The crates for this expand variables, which breaks a password with a `$`.

use anyhow::anyhow;
use zeroize::Zeroizing;

use crate::report::failure::Failure;

type Pairs = Vec<(String, Zeroizing<Vec<u8>>)>;

const QUOTE_IT: &str = "put the value in single quotes";

/// The keys and values of a file in order; `name` is what messages call it. A value is the rest of its line, or text
/// in single or double quotes, also over several lines; in double quotes `\n`, `\r`, `\t`, `\"`, `\\` and
/// `\$` stand for one character each.
pub(super) fn parse(name: &str, text: &str) -> Result<Pairs, Failure> {
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = EnvReader { name, rest, line: 1 };
    let mut pairs = Pairs::new();
    while !reader.rest.is_empty() {
        let first = reader.rest.lines().next().unwrap_or_default().trim();
        if first.is_empty() || first.starts_with('#') {
            reader.skip_line();
            continue;
        }
        pairs.push(reader.pair()?);
    }
    Ok(pairs)
}

struct EnvReader<'a> {
    name: &'a str,
    rest: &'a str,
    line: usize,
}

impl<'a> EnvReader<'a> {
    fn failure(&self, what: &'static str, hint: impl Into<Option<&'static str>>) -> Failure {
        Failure::unable(anyhow!("{}: line {}: {what}", self.name, self.line))
            .maybe_hint(hint.into())
    }

    fn skip_line(&mut self) {
        self.advance(self.rest.find('\n').map_or(self.rest.len(), |newline| newline + 1));
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn pair(&mut self) -> Result<(String, Zeroizing<Vec<u8>>), Failure> {
        let line_len = self.rest.find('\n').unwrap_or(self.rest.len());
        let Some(equals) = self.rest[..line_len].find('=') else {
            let hint = "expected KEY=VALUE; --from-env takes a value from the environment";
            return Err(self.failure("a line without =", hint));
        };
        let key = self.rest[..equals].trim();
        let key = key.strip_prefix("export ").unwrap_or(key).trim_start();
        if !bulla_sealing::is_data_key(key) {
            return Err(self.failure("the text before = is not a valid data key", None));
        }
        let key = key.to_owned();
        self.advance(equals + 1);
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.advance(blanks);
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.plain()?,
        };
        Ok((key, value))
    }

    fn plain(&mut self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let line = self.rest.lines().next().unwrap_or_default();
        let value = line.trim_end();
        if value.contains(" #") || value.contains("\t#") || value.starts_with('#') {
            return Err(self.failure("a # that some parsers read as a comment", QUOTE_IT));
        }
        if value.match_indices('$').any(|(offset, _)| is_variable(&value[offset..])) {
            return Err(self.failure("a $ that some parsers read as a variable", QUOTE_IT));
        }
        if value.contains(['\'', '"', '\\', '`']) {
            let what = "a quote or backslash that some parsers interpret";
            return Err(self.failure(what, QUOTE_IT));
        }
        let value = Zeroizing::new(value.as_bytes().to_vec());
        self.skip_line();
        Ok(value)
    }

    fn quoted(&mut self, quote: char) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let body = &self.rest[1..];
        let mut value = Zeroizing::new(Vec::with_capacity(body.len()));
        let mut characters = body.char_indices();
        let end = loop {
            let Some((offset, character)) = characters.next() else {
                return Err(self.failure("an unclosed quote", None));
            };
            match character {
                _ if character == quote => break offset,
                '\\' if quote == '"' => value.push(match characters.next() {
                    Some((_, 'n')) => b'\n',
                    Some((_, 'r')) => b'\r',
                    Some((_, 't')) => b'\t',
                    Some((_, escaped @ ('"' | '\\' | '$'))) => escaped as u8,
                    _ => return Err(self.failure("an unknown escape after a backslash", QUOTE_IT)),
                }),
                '$' if quote == '"' && is_variable(&body[offset..]) => {
                    return Err(self.failure("a $ that some parsers read as a variable", QUOTE_IT));
                }
                _ => value.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        };
        let after = body[end + 1..].lines().next().unwrap_or_default();
        if !after.trim().is_empty() && !after.trim_start().starts_with('#') {
            return Err(self.failure("text after the closing quote", None));
        }
        self.advance(end + 2);
        self.skip_line();
        Ok(value)
    }
}

/// Whether the `$` at its beginning begins something that shells replace.
fn is_variable(text: &str) -> bool {
    text[1..].starts_with(|next: char| next.is_ascii_alphabetic() || "_{(".contains(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_dialects_read_alike_is_read() {
        let text = "\u{feff}# c\n\nA=1\nexport B = x y \r\nC=\nD='a # $b \\n\"'\nE=\"a\\n\\\"\\$b\\\\ 5$ $1\" # c\n  F=a=b\nG='one\ntwo'\nH=pa$$\nI=ä";
        let pairs = parse("f", text).unwrap();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), str::from_utf8(value).unwrap()))
            .collect();
        let expected = [
            ("A", "1"),
            ("B", "x y"),
            ("C", ""),
            ("D", "a # $b \\n\""),
            ("E", "a\n\"$b\\ 5$ $1"),
            ("F", "a=b"),
            ("G", "one\ntwo"),
            ("H", "pa$$"),
            ("I", "ä"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn what_dialects_read_differently_is_refused_with_its_line() {
        for (text, line) in [
            ("A=1\nB", 2),
            ("A=a #b", 1),
            ("\nA=#b", 2),
            ("A=a$b", 1),
            ("A=a'b", 1),
            ("A=a\\b", 1),
            ("A=\"a${b}\"", 1),
            ("A=\"a\\x\"", 1),
            ("A=1\nB='x\ny", 2),
            ("A='x\ny'\nB='a' b", 3),
            ("A B=1", 1),
            ("=1", 1),
        ] {
            let (message, _) = parse("f", text).unwrap_err().into_parts();
            assert!(message.starts_with(&format!("f: line {line}: ")), "{text}: {message}");
        }
    }
}
