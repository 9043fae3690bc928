//! Values as environment variables: their names, and which names are refused.

use std::collections::BTreeMap;

use anyhow::anyhow;
use bulla_crds::WipedSecret;
use clap::{Args, ValueEnum};

use crate::report::failure::{Failure, OrHint};

/// The names of the variables of `--exec` and `--format dotenv`.
#[derive(Args)]
pub(super) struct Names {
    /// Start the name of each variable with PREFIX
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true,
        help_heading = "Output"
    )]
    prefix: String,

    /// How to name the variable for a data key
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    names: NameRule,
}

/// How a data key becomes the name of a variable.
#[derive(Clone, Copy, Default, ValueEnum)]
enum NameRule {
    /// Like the key, as envFrom does in a pod; a key that is not a valid variable name is refused
    #[default]
    Key,
    /// Like the key, in capitals, with _ for - and .
    Upper,
}

/// Variables by name, their values borrowed.
pub(super) type Variables<'a> = BTreeMap<String, &'a [u8]>;

impl Names {
    /// Whether neither flag changes the names.
    pub(super) fn is_default(&self) -> bool {
        self.prefix.is_empty() && matches!(self.names, NameRule::Key)
    }

    /// The values of all `secrets` as variables.
    pub(super) fn of<'a>(&self, secrets: &'a [WipedSecret]) -> Result<Variables<'a>, Failure> {
        let mut variables = Variables::new();
        for (key, value) in secrets.iter().flat_map(|secret| secret.data.iter().flatten()) {
            let name = self.name_of(key)?;
            if variables.insert(name.clone(), &value.0).is_some() {
                return Err(anyhow!("key {key}: two values for the variable {name}"))
                    .or_hint("pass one file, or choose one key with --key");
            }
        }
        Ok(variables)
    }

    fn name_of(&self, key: &str) -> Result<String, Failure> {
        let name = match self.names {
            NameRule::Key => format!("{}{key}", self.prefix),
            NameRule::Upper => {
                format!("{}{}", self.prefix, key.to_ascii_uppercase().replace(['-', '.'], "_"))
            }
        };
        if !is_name(&name) {
            return Err(anyhow!("key {key}: {name} is not a valid environment variable name"))
                .or_hint(
                    "use --names upper to convert it (db.user → DB_USER), or put text before it with --prefix",
                );
        }
        if decides_on_code(&name) {
            return Err(anyhow!(
                "key {key}: the variable {name} decides which code runs, so it is not taken from a file"
            ))
            .or_hint("give the variables another name with --prefix");
        }
        Ok(name)
    }
}

/// A name that POSIX and every shell allow.
fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
}

/// Variables that decide where programs, libraries and shell start files are found. Anyone who can commit a
/// SealedSecret chooses its keys, and must not choose these. Interpreters have more, so this is not a full defence.
fn decides_on_code(name: &str) -> bool {
    const NAMES: [&str; 7] = ["PATH", "BASH_ENV", "ENV", "IFS", "SHELLOPTS", "PATHEXT", "COMSPEC"];
    let name = name.to_ascii_uppercase();
    NAMES.contains(&name.as_str()) || name.starts_with("LD_") || name.starts_with("DYLD_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(prefix: &str, names: NameRule, key: &str) -> Option<String> {
        Names { prefix: prefix.into(), names }.name_of(key).ok()
    }

    #[test]
    fn keys_become_names_by_the_rule_or_not_at_all() {
        for (prefix, rule, key, expected) in [
            ("", NameRule::Key, "password", Some("password")),
            ("DB_", NameRule::Key, "password", Some("DB_password")),
            ("", NameRule::Key, "ca.crt", None),
            ("", NameRule::Key, "1st", None),
            ("_", NameRule::Key, "1st", Some("_1st")),
            ("", NameRule::Upper, "ca.crt", Some("CA_CRT")),
            ("DB_", NameRule::Upper, "tls-key", Some("DB_TLS_KEY")),
            ("", NameRule::Upper, ".hidden", Some("_HIDDEN")),
            ("a b", NameRule::Key, "c", None),
            ("", NameRule::Key, "PATH", None),
            ("", NameRule::Upper, "ld-preload", None),
            ("", NameRule::Key, "DYLD_INSERT_LIBRARIES", None),
            ("APP_", NameRule::Key, "PATH", Some("APP_PATH")),
        ] {
            assert_eq!(name(prefix, rule, key).as_deref(), expected, "{prefix} {key}");
        }
    }
}
