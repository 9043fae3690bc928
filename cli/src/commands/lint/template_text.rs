//! Plaintext in templates of Secrets that are not rendered, such as those of Helm charts.

/// The line of the first value of a Secret that is plain text rather than a placeholder, counted from 1.
pub(super) fn literal_line(text: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(text);
    let mut lines = (1..).zip(text.lines());
    let mut document: Vec<(usize, &str)> = Vec::new();
    loop {
        let next = lines.next();
        match next {
            Some((number, line)) if !line.starts_with("---") => document.push((number, line)),
            _ => {
                if let Some(line) = literal_in(&document) {
                    return Some(line);
                }
                document.clear();
            }
        }
        next?;
    }
}

/// The same in one document.
fn literal_in(lines: &[(usize, &str)]) -> Option<usize> {
    let is_secret = |(_, line): &(usize, &str)| {
        let value = line.trim_start_matches(['-', ' ']).strip_prefix("kind:");
        value.is_some_and(|value| value.trim().trim_matches(['"', '\'']) == "Secret")
    };
    lines.iter().find(|line| is_secret(line))?;
    let mut section: Option<usize> = None;
    for (number, line) in lines {
        let indent = line.len() - line.trim_start().len();
        let content = without_comment(line.trim());
        if content.is_empty() || content.starts_with("{{") {
            continue;
        }
        if section.is_some_and(|section| indent <= section) {
            section = None;
        }
        let value = content.split_once(':').map(|(_, value)| value.trim());
        if section.is_some() {
            if is_literal(value.unwrap_or(content)) {
                return Some(*number);
            }
        } else if content.starts_with("data:") || content.starts_with("stringData:") {
            if value.is_some_and(is_literal) {
                return Some(*number);
            }
            section = Some(indent);
        }
    }
    None
}

fn without_comment(content: &str) -> &str {
    if content.starts_with('#') {
        ""
    } else {
        content.split(" #").next().unwrap_or_default().trim()
    }
}

/// Whether a value is text without a placeholder.
fn is_literal(value: &str) -> bool {
    const EMPTY: [&str; 10] = ["", "\"\"", "''", "|", "|-", "|+", ">", ">-", "{}", "null"];
    !value.contains("{{") && !EMPTY.contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_placeholder_are_found() {
        for (text, line) in [
            ("kind: Secret\nstringData:\n  a: {{ .a }}\n  b: hunter2\n", Some(4)),
            (
                "{{- if .x }}\nkind: \"Secret\"\ndata:\n  # c\n  a: |\n    hunter2\n{{ end }}\n",
                Some(6),
            ),
            ("kind: Secret\nstringData: {a: hunter2}\n", Some(2)),
            ("stringData:\n  b: hunter2\nkind: Secret\n", Some(2)),
            ("kind: Secret\nstringData:\n  a: {{ .a }}\n  b: \"\"\ntype: Opaque\n", None),
            ("kind: ConfigMap\ndata:\n  a: x\n---\nkind: Secret\n", None),
        ] {
            assert_eq!(literal_line(text.as_bytes()), line, "{text}");
        }
    }
}
