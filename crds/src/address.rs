//! The address of a SealedSecret: its values are sealed and opened for it.

use bulla_sealing::{Binding, Keyring, Plaintext, Recipients, Scope, ValueAddress};

use crate::error::SealError;
use crate::parsed_value::{ParsedValue, ValueError, encode_value};
use crate::sealed_secret::SealedSecret;

/// Fills the namespace of a [`ValueAddress`] when there is none; a binding of scope `cluster` ignores it.
const UNBOUND_NAMESPACE: &str = "any";

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
            (Some(namespace), _) => namespace,
            (None, Scope::Cluster) => UNBOUND_NAMESPACE,
            (None, _) => return Err(SealError::NoNamespace(scope)),
        };
        let address = ValueAddress::new(namespace, self.name, key)
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
        Ok(ValueAddress::new(self.namespace.unwrap_or(UNBOUND_NAMESPACE), self.name, key)?)
    }
}
