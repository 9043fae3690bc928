//! Merges three versions of a text line by line, and puts the unresolved changes between conflict markers.
//!
//! Sealed values are short tokens here, one per line where a person would edit them. This resolves many of Git's
//! conflicts: both sides added keys in one place, or one side added a key below a key that the other removed.

use similar::{MergeResolution, TextMerge};
use zeroize::Zeroizing;

/// How conflicts are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConflictStyle {
    pub(super) marker_size: usize,
    /// Whether the common ancestor is shown between the two sides, as with `merge.conflictStyle` diff3.
    pub(super) shows_base: bool,
}

/// A merged text, and how many conflicts it has.
#[derive(Default)]
pub(super) struct MergedText {
    pub(super) text: Zeroizing<String>,
    pub(super) conflicts: usize,
}

/// Merges three texts. `token_in` finds the token in a line, if there is exactly one.
pub(super) fn merge_lines(
    [base, ours, theirs]: [&str; 3],
    style: &ConflictStyle,
    token_in: impl Fn(&str) -> Option<&str>,
) -> MergedText {
    let merge = TextMerge::from_lines(base, ours, theirs);
    // Use the lines of the merge itself: it also accepts line ends other than \n.
    let base: Vec<_> = (0..merge.base_len()).filter_map(|line| merge.base_line(line)).collect();
    let ours: Vec<_> = (0..merge.ours_len()).filter_map(|line| merge.ours_line(line)).collect();
    let theirs: Vec<_> =
        (0..merge.theirs_len()).filter_map(|line| merge.theirs_line(line)).collect();
    let mut merged = MergedText::default();
    for region in merge.regions() {
        let (base, ours) = (&base[region.base_range()], &ours[region.ours_range()]);
        let theirs = &theirs[region.theirs_range()];
        match region.resolution() {
            MergeResolution::Theirs => merged.text.extend(theirs.iter().copied()),
            MergeResolution::Conflict => match entries_merged([base, ours, theirs], &token_in) {
                Some(lines) => merged.text.extend(lines),
                None => merged.push_conflict([base, ours, theirs], style),
            },
            _ => merged.text.extend(ours.iter().copied()),
        }
    }
    merged
}

/// Both whole sides as one conflict, without the lines that they share at the beginning and the end.
pub(super) fn whole_conflict(texts: [&str; 3], style: &ConflictStyle) -> MergedText {
    let lines = texts.map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let mut merged = MergedText::default();
    merged.push_conflict(lines.each_ref().map(Vec::as_slice), style);
    merged
}

impl MergedText {
    fn push_conflict(&mut self, [base, ours, theirs]: [&[&str]; 3], style: &ConflictStyle) {
        self.conflicts += 1;
        // With the ancestor between them, the two sides are shown in full.
        let (start, end) = if style.shows_base { (0, 0) } else { common_ends(ours, theirs) };
        let line_end = if ours.iter().chain(theirs).any(|line| line.ends_with("\r\n")) {
            "\r\n"
        } else {
            "\n"
        };
        let marker = |sign: &str, label: &str| {
            format!("{}{label}{line_end}", sign.repeat(style.marker_size))
        };
        self.text.extend(ours[..start].iter().copied());
        self.push_marker(&marker("<", " ours"), line_end);
        self.text.extend(ours[start..ours.len() - end].iter().copied());
        if style.shows_base {
            self.push_marker(&marker("|", " base"), line_end);
            self.text.extend(base.iter().copied());
        }
        self.push_marker(&marker("=", ""), line_end);
        self.text.extend(theirs[start..theirs.len() - end].iter().copied());
        self.push_marker(&marker(">", " theirs"), line_end);
        self.text.extend(ours[ours.len() - end..].iter().copied());
    }

    /// Writes a marker on its own line, also after a text without a line end.
    fn push_marker(&mut self, marker: &str, line_end: &str) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push_str(line_end);
        }
        self.text.push_str(marker);
    }
}

/// How many lines two texts share at the beginning, and how many of the rest they share at the end.
fn common_ends(one: &[&str], other: &[&str]) -> (usize, usize) {
    let start = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (one, other) = (&one[start..], &other[start..]);
    let end = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other);
    (start, end.count())
}

/// A line with a token and the comments above it.
struct Entry<'a> {
    token: &'a str,
    lines: Vec<&'a str>,
}

/// The lines of a conflict merged entry by entry, if it has only entries.
fn entries_merged<'a>(
    [base, ours, theirs]: [&[&'a str]; 3],
    token_in: &impl Fn(&str) -> Option<&str>,
) -> Option<Vec<&'a str>> {
    let (base, ours, theirs) =
        (entries(base, token_in)?, entries(ours, token_in)?, entries(theirs, token_in)?);
    let merged = |token| {
        let [base, ours, theirs] = [&base, &ours, &theirs].map(|entries| {
            let entry = entries.iter().find(|entry| entry.token == token)?;
            Some(entry.lines.clone())
        });
        if ours == theirs || theirs == base { Some(ours) } else { (ours == base).then_some(theirs) }
    };
    // Our entries in their order. Each entry of the other side follows its predecessor and what we added there.
    let is_theirs = |token: &str| theirs.iter().any(|entry| entry.token == token);
    let mut order: Vec<&str> = ours.iter().map(|entry| entry.token).collect();
    let mut before = None;
    for Entry { token, .. } in &theirs {
        if !order.contains(token) {
            let after = before.and_then(|before| order.iter().position(|token| *token == before));
            let after = after.map_or(0, |after| after + 1);
            let added = order[after..].iter().take_while(|token| !is_theirs(token)).count();
            order.insert(after + added, token);
        }
        before = Some(*token);
    }
    let mut lines = Vec::new();
    for token in order {
        lines.extend(merged(token)?.unwrap_or_default());
    }
    Some(lines)
}

fn entries<'a>(
    lines: &[&'a str],
    token_in: &impl Fn(&str) -> Option<&str>,
) -> Option<Vec<Entry<'a>>> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    let mut above = Vec::new();
    for line in lines {
        above.push(*line);
        if let Some(token) = token_in(line).filter(|_| line.ends_with('\n')) {
            if entries.iter().any(|entry| entry.token == token) {
                return None;
            }
            entries.push(Entry { token, lines: std::mem::take(&mut above) });
        } else if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            return None;
        }
    }
    above.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: ConflictStyle = ConflictStyle { marker_size: 7, shows_base: false };

    /// Each letter is a line; capitals are tokens, and a digit after a capital makes it a different line with that
    /// token.
    fn merged(base: &str, ours: &str, theirs: &str) -> (String, usize) {
        let text = |lines: &str| {
            lines.split_whitespace().map(|line| format!("{line}\n")).collect::<String>()
        };
        let (base, ours, theirs) = (text(base), text(ours), text(theirs));
        let token = |line: &str| line.starts_with(|letter: char| letter.is_ascii_uppercase());
        let merged =
            merge_lines([&base, &ours, &theirs], &STYLE, |line| token(line).then(|| &line[..1]));
        (merged.text.lines().collect::<Vec<_>>().join(" "), merged.conflicts)
    }

    #[test]
    fn keys_that_two_sides_added_in_one_place_are_both_kept() {
        for (base, ours, theirs, want) in [
            ("x A y", "x A B y", "x A C y", "x A B C y"),
            ("x A y", "x A #b B y", "x A #c C y", "x A #b B #c C y"),
            ("x A B y", "x A y", "x A B C y", "x A C y"),
            ("x A B y", "x A B C y", "x A y", "x A C y"),
            ("x A B y", "x B y", "x A y", "x y"),
            ("x A y", "x B A y", "x C A y", "x B C A y"),
        ] {
            assert_eq!(merged(base, ours, theirs), (want.to_owned(), 0), "{base}|{ours}|{theirs}");
        }
    }

    #[test]
    fn a_conflict_is_between_markers() {
        for (base, ours, theirs, want) in [
            ("x A y", "x A1 y", "x A2 y", "x <<<<<<< ours A1 ======= A2 >>>>>>> theirs y"),
            ("x a y", "x b y", "x c y", "x <<<<<<< ours b ======= c >>>>>>> theirs y"),
            ("x A y", "x y", "x A1 y", "x <<<<<<< ours ======= A1 >>>>>>> theirs y"),
            ("", "a b c", "a d c", "a <<<<<<< ours b ======= d >>>>>>> theirs c"),
        ] {
            assert_eq!(merged(base, ours, theirs), (want.to_owned(), 1), "{base}|{ours}|{theirs}");
        }
    }

    #[test]
    fn markers_have_their_own_lines() {
        let style = ConflictStyle { marker_size: 3, shows_base: true };
        let merged = merge_lines(["a", "b", "c\r\n"], &style, |_| None);
        assert_eq!(*merged.text, "<<< ours\r\nb\r\n||| base\r\na\r\n===\r\nc\r\n>>> theirs\r\n");
    }
}
