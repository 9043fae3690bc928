//! `bulla lint`.

mod finding;
mod judge;

use clap::Args;
use serde_json::json;

use crate::commands::lint::finding::{Finding, Level};
use crate::commands::lint::judge::Verdict;
use crate::failure::{Answer, Failure};
use crate::flags::{Format, Manifests as Files};
use crate::manifest::Manifests;
use crate::{input, output};

/// Check SealedSecrets with no key and no cluster
///
/// Judges every SealedSecret by the schema, by the rules of the API server and the controller, and by
/// what each value says it is for: a value that was moved to another namespace, name or key is found
/// here. A Secret in the clear is a finding; documents of other kinds are counted and not judged.
///
/// Findings are printed as FILE:LINE: LEVEL: MESSAGE [RULE]. The exit code is 1 when one is an error.
#[derive(Args)]
pub(crate) struct Lint {
    #[command(flatten)]
    files: Files,

    /// The form of what is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Lint {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let manifests = Manifests::read(input::paths(&self.files.files, [])?)?;
        let mut verdict = Verdict::default();
        for object in manifests.objects()? {
            verdict.judge(&object);
        }
        let text = match self.format {
            Format::Human => verdict.findings.iter().map(Finding::to_text).collect(),
            Format::Json => format!("{:#}\n", to_json(&verdict)),
        };
        output::stdout(text.as_bytes())?;
        output::summary(&summary(&verdict));
        match verdict.count(Level::Error) {
            0 => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }
}

fn to_json(verdict: &Verdict) -> serde_json::Value {
    json!({
        "findings": verdict.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "sealedSecrets": verdict.sealed_secrets,
        "values": verdict.values,
        "otherObjects": verdict.other_objects,
    })
}

fn summary(verdict: &Verdict) -> String {
    let count =
        |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let others = match verdict.other_objects {
        0 => String::new(),
        others => format!("; {} of other kinds not judged", count(others, "object")),
    };
    format!(
        "{}, {}: {}, {}{others}\n",
        count(verdict.sealed_secrets, "SealedSecret"),
        count(verdict.values, "value"),
        count(verdict.count(Level::Error), "error"),
        count(verdict.count(Level::Warning), "warning"),
    )
}
