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
        let remove = |key: &String| Patch::remove(&picked.object, &sealed_value_path(key));
        file.replace(&file.patched(&self.keys.iter().map(remove).collect::<Vec<_>>())?)?;
        let (name, title) = (self.file.display(), picked.object.title());
        for key in &self.keys {
            output::summary(&format!("{name}: {title}: {key}: removed"));
        }
        Ok(Answer::Yes)
    }

    fn refuse_what_is_needed(&self, picked: &Picked<'_>) -> Result<(), Failure> {
        // A value that is not sealed can be removed too.
        let values = picked.object.value.pointer("/spec/sealedData").and_then(Value::as_object);
        let keys: Vec<_> = values.into_iter().flatten().map(|(key, _)| key).collect();
        if let Some(key) = self.keys.iter().find(|key| !keys.contains(key)) {
            let hint = (!keys.is_empty()).then(|| format!("it has: {}", output::list(&keys)));
            return Err(picked.refuse(format!("no key {key}")).maybe_hint(hint));
        }
        if keys.iter().all(|key| self.keys.contains(key)) {
            return Err(picked.refuse("this would remove the last value").hint(
                "a SealedSecret must keep at least one value: set another first, or delete the object",
            ));
        }
        let texts = picked.object.value.pointer("/spec/template/data").and_then(Value::as_object);
        for (name, text) in texts.into_iter().flatten() {
            // Lint reports a text that is not a template.
            let template = text.as_str().and_then(|text| TextTemplate::parse(text).ok());
            let mut used = template.iter().flat_map(TextTemplate::keys);
            if let Some(key) = used.find(|key| self.keys.iter().any(|removed| removed == key)) {
                let what = format!("the template of {name} uses the value of {key}");
                return Err(picked.refuse(what).hint("change spec.template.data first"));
            }
        }
        Ok(())
    }
}
