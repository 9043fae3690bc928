//! Columns for people.

use anstyle::Style;

use crate::report::escape;
use crate::report::output::styled;

/// Titles and rows, each cell escaped and as wide as the widest of its column. A row may end early; its last cell may
/// then be as long as it likes.
pub(crate) fn table<const N: usize>(titles: [&str; N], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escape::line(cell)).collect()).collect();
    let mut widths = [0; N];
    for row in rows.iter().chain([&titles]) {
        let is_last = |index: usize| index + 1 == row.len() || index + 1 == N;
        for (index, (width, cell)) in widths.iter_mut().zip(row).enumerate() {
            if !is_last(index) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let bold = Style::new().bold();
    let first = styled(bold, &line(&titles)) + "\n";
    rows.iter().fold(first, |text, row| text + &line(row) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_cell_of_a_row_is_as_long_as_it_likes() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = [
            row(&["long-key", "1", "strict"]),
            row(&["k", "what is wrong with it"]),
            row(&["\u{1b}"]),
        ];
        let text = anstream::adapter::strip_str(&table(["KEY", "N", "SCOPE"], &rows)).to_string();
        let expected = "\
KEY       N  SCOPE
long-key  1  strict
k         what is wrong with it
\\u{1b}
";
        assert_eq!(text, expected);
    }
}
