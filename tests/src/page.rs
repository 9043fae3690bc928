//! The steps that a documentation page asks its reader to do.

/// A step of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Runs a command line, from a `console` block.
    Run(&'a str),
    /// Writes a file, from a `yaml` block whose first line is a comment with the file's name.
    Write(&'a str, &'a str),
}

/// The steps of a page, in order. Use [`outdented`] for the file of a block within a list.
#[must_use]
pub fn steps(page: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = page;
    while let Some(block) = next_block(&mut rest) {
        let Block { language, body } = block;
        match language {
            "console" => {
                let lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
                steps.extend(lines.map(Step::Run));
            }
            "yaml" => {
                let first = body.lines().next().unwrap_or_default().trim();
                if let Some(name) = first.strip_prefix("# ").filter(|name| name.ends_with(".yaml"))
                {
                    steps.push(Step::Write(name, body));
                }
            }
            _ => {}
        }
    }
    steps
}

struct Block<'a> {
    language: &'a str,
    body: &'a str,
}

fn next_block<'a>(rest: &mut &'a str) -> Option<Block<'a>> {
    let (_, from) = rest.split_once("```")?;
    let (language, from) = from.split_once('\n')?;
    let (body, after) = from.split_once("```")?;
    *rest = after;
    Some(Block { language: language.trim(), body })
}

/// The block without the indentation of its first line.
#[must_use]
pub fn outdented(block: &str) -> String {
    let indent = block.len() - block.trim_start_matches(' ').len();
    let lines = block.lines().map(|line| line.get(indent..).unwrap_or_default());
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_commands_and_named_files() {
        let page = "1. Do\n\n   ```console\n   a b\n   c\n   ```\n\n```sh\nnot this\n```\n\n   ```yaml\n   # x.yaml\n   a:\n     b: 1\n   ```\n";
        let [Step::Run("a b"), Step::Run("c"), Step::Write("x.yaml", body)] = steps(page)[..]
        else {
            panic!("{:?}", steps(page));
        };
        assert_eq!(outdented(body), "# x.yaml\na:\n  b: 1\n\n");
    }
}
