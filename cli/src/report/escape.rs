//! Text from files and arguments, made fit for a terminal.

/// One line without anything that a terminal would act on or that would reorder the text around it.
pub(crate) fn line(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    if holds_identity(&escaped) { "(not shown: it contains an identity)".into() } else { escaped }
}

/// Several lines, each made fit.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(|text| line(text) + "\n").collect()
}

/// Whether `text` has an age identity in it, or the beginning of one.
pub(crate) fn holds_identity(text: &str) -> bool {
    const PREFIX: &str = "AGE-SECRET-KEY-";
    /// More than `PQ-1`, which Bulla's own messages use to describe an identity.
    const SOME_OF_IT: usize = 8;
    let text = text.to_ascii_uppercase();
    text.match_indices(PREFIX).any(|(start, _)| {
        let rest = text[start + PREFIX.len()..].bytes();
        rest.take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-').count() >= SOME_OF_IT
    })
}

/// Whether a terminal acts on it, or shows the text around it in another order.
pub(crate) fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        assert_eq!(line("plain ä €"), "plain ä €");
        assert_eq!(line("\x1b[31mred\r\n"), r"\u{1b}[31mred\u{d}\u{a}");
        assert_eq!(line("\u{202e}live"), r"\u{202e}live");
    }

    #[test]
    fn an_identity_is_never_shown() {
        assert!(!line("cannot open age-secret-key-1qqqqqqqqq").contains("qqq"));
        assert!(line("not an identity (AGE-SECRET-KEY-PQ-1…)").contains("PQ-1"));
    }
}
