//! The address that a sealed value is compared with: one data key of one Secret.
//!
//! Names are validated here, so that a binding has exactly one encoding.

use std::fmt;

use crate::names::{is_data_key, is_dns_label, is_dns_subdomain};

/// Says which part of an address is not a valid Kubernetes name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not a DNS label: at most 63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
    #[error("the namespace is not a DNS label")]
    Namespace,
    /// Not a DNS subdomain: labels joined by dots, at most 253 characters.
    #[error("the name is not a DNS subdomain")]
    Name,
    /// Not a Secret's data key: 1 to 253 of `a-z`, `A-Z`, `0-9`, `-`, `_`, `.`, not beginning with `..`.
    #[error("the key is not a valid data key of a Secret")]
    Key,
}

/// The place that a value is unsealed for: one data key of one Secret.
///
/// The caller takes it from the object that is being unsealed, never from the sealed value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValueAddress {
    namespace: String,
    name: String,
    key: String,
}

impl ValueAddress {
    /// An address with valid names; the error says which name is not valid.
    ///
    /// ```
    /// use bulla_sealing::{InvalidAddress, ValueAddress};
    /// assert!(ValueAddress::new("prod", "db.internal", "tls.crt").is_ok());
    /// assert_eq!(ValueAddress::new("Prod", "db", "password"), Err(InvalidAddress::Namespace));
    /// ```
    pub fn new(namespace: &str, name: &str, key: &str) -> Result<Self, InvalidAddress> {
        if !is_dns_label(namespace) {
            return Err(InvalidAddress::Namespace);
        }
        if !is_dns_subdomain(name) {
            return Err(InvalidAddress::Name);
        }
        if !is_data_key(key) {
            return Err(InvalidAddress::Key);
        }
        Ok(Self { namespace: namespace.into(), name: name.into(), key: key.into() })
    }

    /// The namespace of the Secret.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the Secret.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data key within the Secret.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ValueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of {}/{}", self.key, self.namespace, self.name)
    }
}
