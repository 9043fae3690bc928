//! The address of a SealedSecret: its values are sealed and opened for it.

use bulla_sealing::{Binding, Keyring, Plaintext, Recipients, Scope, ValueAddress};

use crate::error::SealError;
use crate::parsed_value::{ParsedValue, ValueError, encode_value};
use crate::sealed_secret::SealedSecret;

/// Fills the namespace of a [`ValueAddress`] when there is none, or its name when it is a placeholder of a template
/// language; a binding whose scope does not bind the field ignores it.
const UNBOUND: &str = "any";

/// Whether a name is a placeholder of a chart, which the tool fills in later.
fn is_placeholder(name: &str) -> bool {
    name.contains("{{")
}

/// The namespace and name of a SealedSecret, and so of the Secret that it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The namespace, if the object names one. Only values of scope `cluster` need none.
    pub namespace: Option<&'a str>,
    /// The name.
    pub name: &'a str,
}

impl<'a> Address<'a> {
    /// The address in the metadata of `sealed_secret`.
    pub fn of(sealed_secret: &'a SealedSecret) -> Self {
        let metadata = &sealed_secret.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        Self { namespace: metadata.namespace.as_deref(), name }
    }

    /// Seals the value of one data key and returns its text in `sealedData`. Only scope `cluster` needs no
    /// namespace.
    pub fn seal(
        self,
        key: &str,
        value: &[u8],
        scope: Scope,
        recipients: &Recipients,
    ) -> Result<String, SealError> {
        let namespace = match (self.namespace, scope) {
            (Some(namespace), Scope::Cluster) if is_placeholder(namespace) => UNBOUND,
            (Some(namespace), _) => namespace,
            (None, Scope::Cluster) => UNBOUND,
            (None, _) => return Err(SealError::NoNamespace(scope)),
        };
        let is_bound = scope == Scope::Strict;
        let name = if !is_bound && is_placeholder(self.name) { UNBOUND } else { self.name };
        let address = ValueAddress::new(namespace, name, key)
            .map_err(|error| SealError::Address { key: key.to_owned(), error })?;
        let file = bulla_sealing::seal(value, &Binding::new(scope, &address), recipients)?;
        Ok(encode_value(&file))
    }

    /// Opens the value of one data key for this address.
    pub fn unseal(
        self,
        key: &str,
        value: &ParsedValue,
        keyring: &Keyring,
    ) -> Result<Plaintext, ValueError> {
        let address = self.value_address(key, value.binding())?;
        Ok(value.unseal(&address, keyring)?)
    }

    /// The address to open the value of `key` for. In an object without a namespace, only a value that any
    /// namespace may use has one.
    pub fn value_address(self, key: &str, binding: &Binding) -> Result<ValueAddress, ValueError> {
        if self.namespace.is_none() && binding.namespace().is_some() {
            return Err(ValueError::NoNamespace(binding.clone().into()));
        }
        let namespace = self.namespace.unwrap_or(UNBOUND);
        let is_open = |is_bound: bool, name: &str| !is_bound && is_placeholder(name);
        let namespace =
            if is_open(binding.namespace().is_some(), namespace) { UNBOUND } else { namespace };
        let name = if is_open(binding.name().is_some(), self.name) { UNBOUND } else { self.name };
        Ok(ValueAddress::new(namespace, name, key)?)
    }
}
