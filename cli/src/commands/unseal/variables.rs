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

    /// Set this variable although it is set already, or decides which code runs; repeatable
    #[arg(long = "allow-variable", value_name = "NAME", help_heading = "Output")]
    allowed: Vec<String>,
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
        self.prefix.is_empty() && matches!(self.names, NameRule::Key) && self.allowed.is_empty()
    }

    /// Refuses a variable that this process has, because the command may rely on it.
    pub(super) fn refuse_set(&self, variables: &Variables<'_>) -> Result<(), Failure> {
        let is_set =
            |name: &&String| std::env::var_os(name).is_some() && !self.allowed.contains(name);
        match variables.keys().find(is_set) {
            Some(name) => Err(anyhow!("the variable {name} is set already")).or_hint(format!(
                "unset it, give the variables another name with --prefix, or pass --allow-variable {name}"
            )),
            None => Ok(()),
        }
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
        if decides_on_code(&name) && !self.allowed.contains(&name) {
            return Err(anyhow!(
                "key {key}: the variable {name} decides which code runs or where it connects, so it is not taken from a file"
            ))
            .or_hint(format!(
                "give the variables another name with --prefix, or pass --allow-variable {name}"
            ));
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

/// Variables by which programs find and load code, or change what they talk to.
const STEERING: &str = "ALL_PROXY APPDATA BASHOPTS BASH_ENV BROWSER CDPATH CLASSPATH COMSPEC CURL_CA_BUNDLE CURL_HOME \
    DOCKER_CONFIG DOCKER_HOST EDITOR ENV EXINIT GCONV_PATH GLOBIGNORE GOENV GOFLAGS GOPROXY GRADLE_OPTS \
    HOME HOSTALIASES HTTPS_PROXY HTTP_PROXY IFS JAVA_OPTS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS KUBECONFIG \
    KUBECTL_EXTERNAL_DIFF KUBE_EDITOR LESSCLOSE LESSOPEN LOCALDOMAIN LOCPATH LUA_CPATH LUA_INIT LUA_PATH \
    MAKEFLAGS MANPAGER MAVEN_OPTS NLSPATH NODE_EXTRA_CA_CERTS NODE_OPTIONS NODE_PATH \
    NODE_TLS_REJECT_UNAUTHORIZED NO_PROXY OPENSSL_CONF OPENSSL_ENGINES OPENSSL_MODULES PAGER PATH \
    PATHEXT PHPRC PHP_INI_SCAN_DIR PROMPT_COMMAND PS4 REQUESTS_CA_BUNDLE RES_OPTIONS RUBYLIB RUBYOPT \
    RUSTC_WRAPPER RUSTFLAGS SHELL SHELLOPTS SSH_ASKPASS SSH_AUTH_SOCK SSL_CERT_DIR SSL_CERT_FILE \
    SUDO_ASKPASS TEMP TMP TMPDIR USERPROFILE VIMINIT VISUAL _JAVA_OPTIONS";

/// The beginnings of more such variables.
const STEERING_PREFIXES: &str = "BASH_FUNC_ BUNDLE_ CARGO_ CORECLR_ COR_ DOTNET_ DYLD_ ERL_ GEM_ GIT_ HELM_ LD_ NPM_CONFIG_ PERL5 \
    PERLLIB PIP_ PYTHON TERMINFO TF_CLI XDG_";

/// Whether a variable steers programs. Anyone who can commit a SealedSecret chooses its keys, and must not choose
/// these. Other programs have more, so this is not a full defence.
fn decides_on_code(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    STEERING.split_whitespace().any(|known| known == name)
        || STEERING_PREFIXES.split_whitespace().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(prefix: &str, names: NameRule, key: &str) -> Option<String> {
        Names { prefix: prefix.into(), names, allowed: Vec::new() }.name_of(key).ok()
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
            ("", NameRule::Key, "NODE_OPTIONS", None),
            ("", NameRule::Key, "PYTHONSTARTUP", None),
            ("", NameRule::Upper, "git.ssh-command", None),
            ("", NameRule::Key, "https_proxy", None),
            ("", NameRule::Key, "KUBECONFIG", None),
            ("", NameRule::Key, "PGPASSWORD", Some("PGPASSWORD")),
        ] {
            assert_eq!(name(prefix, rule, key).as_deref(), expected, "{prefix} {key}");
        }
    }
}
