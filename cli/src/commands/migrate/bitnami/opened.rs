//! The opened values of one of Bitnami's SealedSecrets.

use bulla_crds::WipedSecret;
use bulla_sealing::Scope;
use k8s_openapi::ByteString;
use serde_json::{Map, Value};

use super::object::BitnamiObject;
use super::scope::{LabelledScopes, bitnamis_word};
use super::value::{BitnamiKeys, OpenError};
use crate::commands::migrate::conversion::MigrationNote;
use crate::manifest::Step;
use crate::report::diagnostic::Diagnostic;
use crate::report::output;

/// The values, and for each the declared scope that it was sealed for.
#[derive(Default)]
pub(super) struct OpenedValues {
    pub(super) values: WipedSecret,
    scopes: Vec<Scope>,
}

impl OpenedValues {
    /// Opens all values, or returns the reason for each value that does not open.
    pub(super) fn open(
        object: &BitnamiObject<'_>,
        spec: &Map<String, Value>,
        scopes: &LabelledScopes,
        keys: &BitnamiKeys,
    ) -> Result<Self, Vec<Diagnostic>> {
        let field = [Step::Key("spec"), Step::Key("encryptedData")];
        let one = |refused| vec![refused];
        if scopes.declared.is_empty() {
            let hint =
                "pass the namespace that it is deployed to with -n, or set it in the manifest";
            let what = "the namespace is missing, and the scope binds values to it";
            return Err(one(object.refuse(&[], what).hint(hint)));
        }
        let values =
            object.map(spec.get("encryptedData").unwrap_or(&Value::Null), &field).map_err(one)?;
        let mut opened = Self::default();
        let mut refused = Vec::new();
        for (key, text) in values.into_iter().flatten() {
            let place = || object.place(&[field[0], field[1], Step::Key(key)], Some(key));
            let Some(text) = text.as_str() else {
                refused.push(place().diagnose("not text, so not a sealed value", None));
                continue;
            };
            match keys.open(text, &scopes.declared) {
                Ok((mut value, scope)) => {
                    let value = ByteString(std::mem::take(&mut *value));
                    opened.values = opened.values.with(|secret| {
                        secret.data.get_or_insert_default().insert(key.clone(), value);
                    });
                    opened.scopes.push(scope);
                }
                Err(error) => {
                    refused.push(place().diagnose(error, hint_for(error, text, scopes, keys)));
                }
            }
        }
        if refused.is_empty() { Ok(opened) } else { Err(refused) }
    }

    /// The scope of the values, which must be the same for all of them.
    pub(super) fn scope(
        &self,
        object: &BitnamiObject<'_>,
        scopes: &LabelledScopes,
        notes: &mut Vec<MigrationNote>,
    ) -> Result<Scope, Diagnostic> {
        let scope = self.scopes.first().copied().unwrap_or(scopes.declared[0].0);
        if self.scopes.iter().any(|other| *other != scope) {
            return Err(object.refuse(&[], "its values are sealed for different scopes"));
        }
        if let [(first, _), (second, _)] = &scopes.declared[..] {
            let [said, also, which] = [*first, *second, scope].map(bitnamis_word);
            notes.push(object.note(&format!(
                "its annotations say {said}, those of its template say {also}; the values are {which}"
            )));
        }
        Ok(scope)
    }
}

/// A hint at what may be wrong with a value that does not open.
fn hint_for(
    error: OpenError,
    text: &str,
    scopes: &LabelledScopes,
    keys: &BitnamiKeys,
) -> Option<String> {
    match error {
        OpenError::NoKey => Some(match keys.open(text, &scopes.others) {
            Ok((_, scope)) => format!(
                "it is sealed {}, but the annotations say {}: correct the annotations",
                bitnamis_word(scope),
                bitnamis_word(scopes.declared[0].0),
            ),
            Err(_) => format!(
                "--from-key has {}; Bitnami's format does not say which key a value is sealed to",
                output::count(keys.len(), "key")
            ),
        }),
        OpenError::Damaged | OpenError::Truncated | OpenError::NotBase64 => {
            Some("restore the value from an earlier commit, or seal it again".into())
        }
        OpenError::NoKeyOfLength(_) => None,
    }
}
