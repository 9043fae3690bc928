//! `bulla unset`.

use std::path::PathBuf;

use bulla_crds::sealed_value_path;
use bulla_crds::template::TextTemplate;
use clap::Args;
use serde_json::Value;

use crate::command_line::completion;
use crate::files::sealed_file::{PickFlags, Picked, SealedFile};
use crate::manifest::Patch;
use crate::report::failure::{Answer, Failure};
use crate::report::output;

/// Remove values from a SealedSecret
///
/// Other values, comments, order and quotes in the file stay unchanged. You need no identity.
#[derive(Args)]
pub(crate) struct Unset {
    /// The file with the SealedSecret
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The data keys to remove
    #[arg(value_name = "KEY", required = true, add = completion::sealed_keys())]
    keys: Vec<String>,

    #[command(flatten)]
    pick: PickFlags,
}

impl Unset {
    pub(crate) fn run(&self) -> Result<Answer, Failure> {
        let file = SealedFile::read(&self.file)?;
        let picked = self.pick.pick(&file)?;
        self.refuse_what_is_needed(&picked)?;
        let patches: Vec<_> = self
            .keys
            .iter()
            .map(|key| Patch::remove(&picked.object, &sealed_value_path(key)))
            .collect();
        file.replace(&file.patched(&patches)?)?;
        let (name, title) = (self.file.display(), picked.object.title());
        for key in &self.keys {
            output::summary(&format!("{name}: {title}: {key}: removed"));
        }
        Ok(Answer::Yes)
    }

    fn refuse_what_is_needed(&self, picked: &Picked<'_>) -> Result<(), Failure> {
        // A value that is not sealed can be removed too.
        let values = picked.object.value.pointer("/spec/sealedData").and_then(Value::as_object);
        let keys: Vec<&str> =
            values.into_iter().flat_map(|map| map.keys()).map(String::as_str).collect();
        if let Some(key) = self.keys.iter().find(|key| !keys.contains(&key.as_str())) {
            let failure = picked.refuse(format!("no key {key}"));
            return Err(if keys.is_empty() {
                failure
            } else {
                failure.hint(format!("it has: {}", keys.join(", ")))
            });
        }
        let is_left =
            |key: &str| keys.contains(&key) && !self.keys.iter().any(|removed| removed == key);
        if !keys.iter().any(|key| is_left(key)) {
            return Err(picked.refuse("this would remove the last value").hint(
                "a SealedSecret must keep at least one value: set another first, or delete the object",
            ));
        }
        let texts = picked.object.value.pointer("/spec/template/data").and_then(Value::as_object);
        for (name, text) in texts.into_iter().flatten() {
            // Lint reports a text that is not a template.
            let template = text.as_str().and_then(|text| TextTemplate::parse(text).ok());
            let used = template.and_then(|template| {
                template.keys().find(|key| self.keys.iter().any(|removed| removed == key))
            });
            if let Some(key) = used {
                let what = format!("the template of {name} uses the value of {key}");
                return Err(picked.refuse(what).hint("change spec.template.data first"));
            }
        }
        Ok(())
    }
}
